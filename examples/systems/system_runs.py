"""What the programs of this folder share: options, faces from disk or drawn, and training by ``fit``."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate.utils import set_seed
from torch import nn

from mtattn import AttributeGroups, DWSLoss
from mtattn.data import LFWA, AttributeImages, CelebA, JointDataset, SyntheticFaces, image_transform
from mtattn.metrics import AttributeMetrics, Baselines
from mtattn.recipes import HelpFormatter, at_least, positive
from mtattn.training import evaluate, fit

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # ImageNet's, which pretrained backbones expect


def system_parser(description: str, data: str = "LFWA", *, drawn: bool = True) -> ArgumentParser:
    """The options of all systems; ``drawn`` says whether drawn faces can take the place of the data."""
    parser = ArgumentParser(description=description, formatter_class=HelpFormatter, allow_abbrev=False)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--root", type=Path, help=f"the folder of {data}")
    if drawn:
        source.add_argument("--synthetic", type=at_least(10), metavar="N", help="draw N labelled faces and use these")
    parser.add_argument("--output", type=Path, required=True, help="a new folder for checkpoints and scores")
    parser.add_argument("--backbone", default="resnet18", help="a timm model name")
    parser.add_argument("--pretrained", action="store_true", help="fetch timm's pretrained weights of the backbone")
    parser.add_argument("--image-size", type=at_least(32), default=64, metavar="PIXELS", help="side of the images")
    parser.add_argument("--epochs", type=at_least(1), default=10, help="how often to go through the training images")
    parser.add_argument("--batch-size", type=at_least(2), default=64, help="images a step")
    parser.add_argument("--learning-rate", type=positive, default=2e-3, help="peak learning rate")
    parser.add_argument("--workers", type=at_least(0), default=1, help="processes that read images")
    parser.add_argument("--seed", type=at_least(0), default=0, help="decides all chance")
    return parser


def new_folder(options: Namespace) -> Path:
    """Refuse a folder with something in it, before any time is spent."""
    if options.output.exists() and any(options.output.iterdir()):
        raise SystemExit(f"{options.output} is not empty; give a new folder with --output.")
    set_seed(options.seed)
    return options.output


def faces(options: Namespace, groups: AttributeGroups) -> tuple[AttributeGroups, dict[str, AttributeImages]]:
    """The groups with the attributes that the data have, and its three parts."""
    data, root = LFWA, options.root
    if options.synthetic is not None:  # drawn faces lie in CelebA's layout
        data, root = CelebA, options.output / "faces"
        SyntheticFaces(options.synthetic, seed=options.seed).write(root)
        groups = groups.only([name for name in groups.attributes if name in SyntheticFaces.attributes])
    size = (options.image_size, options.image_size)
    parts = {
        part: data(
            root,
            part,
            attributes=groups.attributes,
            transform=image_transform(size, mean=MEAN, std=STD, augment="light" if part == "train" else "none"),
        )
        for part in ("train", "valid", "test")
    }
    return groups, parts


def train(
    model: nn.Module,
    loss: DWSLoss,
    parts: Mapping[str, AttributeImages | JointDataset],
    options: Namespace,
    output: Path,
) -> dict[str, float]:
    """Train, measure on the test part, and write the scores to ``scores.json``."""
    groups = loss.groups
    metrics = AttributeMetrics(groups, Baselines(groups, parts["train"].targets))
    fit(
        model,
        loss,
        torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=0.05),
        metrics,
        parts["train"],
        parts["valid"],
        output=output,
        epochs=options.epochs,
        batch_size=options.batch_size,
        workers=options.workers,
        seed=options.seed,
    )
    test = evaluate(model, parts["test"], metrics, workers=options.workers)
    scores = {name: value for name, value in test.items() if isinstance(value, float)}
    scores["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    write_scores(scores, output)
    print(
        f"test: accuracy {scores['mean_accuracy']:.4f} (majority {scores['majority_accuracy']:.4f}), "
        f"balanced {scores['mean_balanced_accuracy']:.4f}; {scores['parameters'] / 1e6:.2f} M parameters"
    )
    return scores


def write_scores(scores: Mapping[str, float], output: Path) -> None:
    """Write ``scores.json``, and say what was measured on pairs of pictures."""
    (output / "scores.json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    if "verification_pairs" in scores:
        print(
            f"same person or not, {scores['verification_pairs']} pairs of people not trained on: accuracy "
            f"{scores['verification_accuracy']:.4f} +- {scores['verification_standard_error']:.4f}, "
            f"equal error rate {scores['verification_eer']:.4f}"
        )
