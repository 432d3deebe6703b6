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
from mtattn.training import evaluate, fit

parser = ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("labels", type=Path, help="the csv file, with a header")
parser.add_argument("--images", type=Path, required=True, help="the folder that the image names are relative to")
parser.add_argument("--output", type=Path, default=Path("runs/own"), help="a new folder for checkpoints and model")
parser.add_argument("--epochs", type=int, default=10, help="how often to go through the training images")
LABELS = {"1": 1, "0": -1, "": 0}  # empty: nobody knows, and it counts nowhere

if __name__ == "__main__":
    options = parser.parse_args()
    if options.output.exists():
        parser.error(f"{options.output} exists already; give another --output")
    with options.labels.open(newline="") as file:
        (_, *attributes), *rows = csv.reader(file)
    if wrong := {value for _, *values in rows for value in values} - LABELS.keys():
        parser.error(f"a value in {options.labels} is 1, 0 or empty, got {wrong}")
    names = [name for name, *_ in rows]
    labels = [[LABELS[value] for value in values] for _, *values in rows]

    # Attributes that show in the same place go into one group. This example knows nothing of yours: one group each.
    groups = AttributeGroups({attribute: [attribute] for attribute in attributes})
    model = FARAMTN.from_timm("resnet18", groups, drop_stages=1)
    model.config["image"]["size"] = [64, 64]  # saved with the model, so that predict.py knows it

    def images(indices: range | list[int], *, augment: bool) -> AttributeImages:
        transform = image_transform(**model.config["image"], augment=augment)
        return AttributeImages(options.images, names, labels, attributes, transform=transform).subset(indices)

    train = images([index for index in range(len(names)) if index % 5], augment=True)
    valid = images(range(0, len(names), 5), augment=False)  # every fifth; cut by person if yours appear more than once
    metrics = AttributeMetrics(groups, train_rates(train.targets))
    optimizer = torch.optim.AdamW(model.parameter_groups(2e-3, trunk_factor=1.0, weight_decay=0.05))
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
    for name, scores in evaluate(model, valid, metrics)["attributes"].items():
        print(f"{name}: accuracy {scores['accuracy']:.3f}, majority {scores['majority_accuracy']:.3f}")
