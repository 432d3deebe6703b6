"""Train on your own attributes: a csv with a column of image names, then one column an attribute (1, 0 or empty).

python examples/own_attributes.py labels.csv --images folder --output runs/own
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch

from mtattn import FARAMTN, AttributeGroups, DWSLoss
from mtattn.data import AttributeImages, image_transform, read_csv_labels
from mtattn.metrics import AttributeMetrics, train_rates
from mtattn.recipes import HelpFormatter, at_least, run_recipe
from mtattn.training import evaluate, fit, processes

parser = ArgumentParser(description=__doc__.partition("\n")[0], formatter_class=HelpFormatter)
parser.add_argument("labels", type=Path, help="the csv file, with a header")
parser.add_argument("--images", type=Path, required=True, help="the folder that the image names are relative to")
parser.add_argument("--output", type=Path, default=Path("runs/own"), help="the folder for checkpoints and model")
parser.add_argument("--epochs", type=at_least(1), default=10, help="how often to go through the training images")
parser.add_argument("--batch-size", type=at_least(1), default=32, help="images a step")
parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the output folder")


def main(options: Namespace) -> None:
    names, labels, attributes = read_csv_labels(options.labels)
    # Attributes that show in the same place go into one group. This example knows nothing of yours: one group each.
    groups = AttributeGroups({attribute: [attribute] for attribute in attributes})
    model = FARAMTN.from_timm("resnet18", groups, drop_stages=1)
    model.config["image"]["size"] = [64, 64]  # saved with the model, so that whoever predicts knows it

    def images(indices: list[int], *, augment: bool) -> AttributeImages:
        transform = image_transform(**model.config["image"], augment=augment)
        return AttributeImages(options.images, names, labels, attributes, transform=transform).subset(indices)

    everything = range(len(names))  # every fifth image is kept back; cut by person if yours appear more than once
    train = images([index for index in everything if index % 5], augment=True)
    valid = images([*everything[::5]], augment=False)
    metrics = AttributeMetrics(groups, train_rates(train.targets))
    optimizer = torch.optim.AdamW(model.parameter_groups(2e-3, trunk_factor=1.0, weight_decay=0.05))
    training = {"epochs": options.epochs, "batch_size": options.batch_size, "resume": options.resume}
    fit(model, DWSLoss(groups), optimizer, metrics, train, valid, output=options.output, **training)
    measured = evaluate(model, valid, metrics)
    if processes().is_main_process:  # of several processes, one writes
        model.save_pretrained(options.output / "model")
        for name, scores in measured["attributes"].items():
            print(f"{name}: accuracy {scores['accuracy']:.3f}, majority {scores['majority_accuracy']:.3f}")


if __name__ == "__main__":
    run_recipe(main, parser.parse_args())
