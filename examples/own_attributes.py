"""Train on your own attributes: a csv with a column of image names, then one column an attribute (1, 0 or empty).

python examples/own_attributes.py labels.csv --images folder --output runs/own
"""

import csv
from argparse import ArgumentParser
from pathlib import Path

import torch

from mtattn import FARAMTN, AttributeGroups, DWSLoss
from mtattn.data import AttributeImages, image_transform
from mtattn.metrics import AttributeMetrics, train_rates
from mtattn.training import fit

parser = ArgumentParser(description=__doc__)
parser.add_argument("labels", type=Path)
parser.add_argument("--images", type=Path, required=True)
parser.add_argument("--output", type=Path, default=Path("runs/own"))
parser.add_argument("--epochs", type=int, default=5)

if __name__ == "__main__":
    options = parser.parse_args()
    with options.labels.open(newline="") as file:
        rows = list(csv.DictReader(file))
    image_column, *attributes = rows[0]
    names = [row[image_column] for row in rows]
    labels = [[{"1": 1, "0": -1, "": 0}[row[attribute]] for attribute in attributes] for row in rows]

    # your own grouping, of attributes that show in the same place; here every attribute is its own group
    groups = AttributeGroups({attribute: [attribute] for attribute in attributes})
    model = FARAMTN.from_timm("resnet18", groups, drop_stages=1)

    size = (64, 64)
    plain, augmented = (image_transform(size, **model.config["image"], augment=augment) for augment in (False, True))
    train = AttributeImages(options.images, names, labels, attributes, transform=augmented).subset(
        [index for index in range(len(names)) if index % 5]
    )
    valid = AttributeImages(options.images, names, labels, attributes, transform=plain).subset(range(0, len(names), 5))

    optimizer = torch.optim.AdamW(model.parameter_groups(2e-3, trunk_factor=1, weight_decay=0.05))
    metrics = AttributeMetrics(groups, train_rates(train.targets))
    fit(
        model,
        DWSLoss(groups),
        optimizer,
        metrics,
        train,
        valid,
        output=options.output,
        epochs=options.epochs,
        batch_size=32,
    )
    model.save_pretrained(options.output / "model")
