"""mtattn train."""

import csv
import io
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import set_seed

from mtattn import FARAMTN, DWSLoss
from mtattn._arguments import HelpFormatter
from mtattn._files import write_whole
from mtattn.cli.table import in_lines, open_images, planned, recorded_split, slice_option, slices_of, table_options
from mtattn.data import TableImages, image_transform
from mtattn.data.table import balanced_parts
from mtattn.decisions import check_goal
from mtattn.groups import AttributeGroups
from mtattn.metrics import AttributeMetrics, Baselines
from mtattn.models import set_grad_checkpointing
from mtattn.recipes import (
    check_output,
    finish_run,
    model_options,
    open_output,
    run_options,
    run_recipe,
    size_options,
    taught_by,
    training_options,
)
from mtattn.training import fit, processes


def parser(prog: str) -> ArgumentParser:
    """Make the parser of the subcommand."""
    parser = ArgumentParser(
        prog,
        description="Train FAR-AMTN on a table of your own, and leave a model, metrics and a report. "
        "mtattn check tells before what the table is like.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    table_options(parser)
    run_options(parser)
    model_options(parser)
    training_options(parser)
    parser.add_argument(
        "--thresholds",
        type=goal,
        metavar="GOAL",
        help="choose on the validation part above which probability each attribute is there, and save it with the "
        "model: f1 or balanced_accuracy, for the best of that score; precision=0.9, for as many as can be found while "
        "90 %% of those said to be there are; cost=5, for least cost where a miss costs 5 false alarms; one half if "
        "left out",
    )
    parser.add_argument(
        "--uncertain",
        action="store_true",
        help="with --thresholds precision=...: say no only where as large a share of the noes is right, and "
        "'uncertain' between the two",
    )
    slice_option(parser)
    parser.set_defaults(
        output=Path("runs/own"),
        backbone="resnet18",  # two cores train it; with a GPU take resnet50 at 224 pixels
        drop_stages=1,  # at 64 pixels layer3 still has 4 x 4 positions, layer4 only 2 x 2; and it halves the time
        image_size=[64, 64],
        crop=[1.0, 1.0],
        epochs=10,
        batch_size=32,  # tables of one's own are small
        learning_rate=2e-3,  # from scratch; use 1e-3 with pretrained weights
        trunk_factor=1.0,  # from scratch everything is new; use 0.1 to 0.5 with pretrained weights
    )
    return parser


def main(options: Namespace) -> None:
    """Train, and say in one line what went wrong if it did."""
    run_recipe(train, options, prog="mtattn train")


def goal(text: str) -> str:
    """Read the option that says what thresholds are for."""
    try:
        check_goal("mtattn train", text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    return text


def train(options: Namespace) -> None:
    """Train on a table, from its first line to the report."""
    output = check_output(options)
    table, plan = planned(options)
    say = processes().print
    say(in_lines(*table.notes, *plan.describe()))
    if options.uncertain and not (options.thresholds or "").startswith("precision="):
        raise ValueError("--uncertain needs a stated precision; give --thresholds precision=0.9 too.")
    columns = slices_of(options.slices, table)
    data = open_images(options, table, plan)
    parts, how = split(data, seed=options.seed)
    say(how)
    check_teachers(options.teachers or (), data, parts)
    if options.thresholds and not any(isinstance(kind, str) for kind in plan.groups.kinds):
        raise ValueError("--thresholds decides yes or no, got a table without such an attribute; leave the option out.")
    groups = plan.groups.fitted(data.targets[torch.from_numpy(parts == "train")])

    set_seed(options.seed)
    model = new_model(options, groups)
    train_data, valid_data, test_data = (data.subset(np.flatnonzero(parts == name)) for name in SPLIT)
    for name, part in zip(SPLIT, (train_data, valid_data, test_data), strict=True):
        part.transform = image_transform(**model.config["image"], augment=name == "train" and options.augment)
    metrics = AttributeMetrics(groups, Baselines(groups, train_data))
    optimizer = torch.optim.AdamW(
        model.parameter_groups(
            options.learning_rate, trunk_factor=options.trunk_factor, weight_decay=options.weight_decay
        )
    )
    loss = DWSLoss(groups, rule=options.rule, alpha=options.alpha)
    taught = taught_by(options.teachers, train_data)
    open_output(options)  # only now, when everything else is known to be right
    if processes().is_main_process:
        write_split(output / "split.csv", data, parts)
    history = fit(
        model,
        loss,
        optimizer,
        metrics,
        taught,
        valid_data,
        output=output,
        epochs=options.epochs,
        batch_size=options.batch_size,
        accumulate=options.accumulate,
        averaging=options.averaging,
        mixed_precision=options.mixed_precision,
        compile=options.compile,
        sync_batch_norm=options.sync_batch_norm,
        select_by=options.select_by,
        workers=options.workers,
        seed=options.seed,
        resume=options.resume,
    )
    finish_run(
        output,
        model,
        metrics,
        history,
        title=f"FAR-AMTN on {options.labels.name}",
        train_data=train_data,
        valid_data=valid_data,
        test_data=test_data,
        workers=options.workers,
        mirror=options.mirror,
        thresholds=options.thresholds,
        uncertain=options.uncertain,
        slices={name: [cells[row] for row in test_data.rows] for name, cells in columns.items()},
    )


SPLIT = ("train", "valid", "test")


def split(data: TableImages, *, seed: int) -> tuple[np.ndarray, str]:
    """Take the parts that the table names, and part from its training images those that it does not; say which."""
    named = np.full(len(data), "train") if data.parts is None else data.parts.copy()
    absent = [name for name in SPLIT if name not in named]
    if "train" in absent:
        raise ValueError("mtattn train: the split column names images to train on, got none.")
    if absent:
        rows = np.flatnonzero(named == "train")
        persons = None if data.persons is None else data.persons[rows]
        shares = {"train": 1 - 0.1 * len(absent), **dict.fromkeys(absent, 0.1)}
        kinds = data.plan.groups
        named[rows] = balanced_parts(data.targets[rows].numpy(), kinds, persons=persons, shares=shares, seed=seed)
    counts = ", ".join(f"{(named == name).sum()} {name}" for name in SPLIT)
    by = "" if data.persons is None else f" by column {data.plan.person!r}"
    ours = f"; {' and '.join(absent)} parted from it{by}, balanced over the labels, seed {seed}" if absent else ""
    return named, f"images: {counts}{ours}"


def check_teachers(teachers: Sequence[str], data: TableImages, parts: np.ndarray) -> None:
    """Refuse a teacher that was trained on images that the student is to be validated or tested on.

    Raises:
        ValueError: The split.csv of its run says so.
    """
    held_out = [name for name, part in zip(data.files, parts, strict=True) if part in ("valid", "test")]
    for teacher in teachers:
        run = Path(teacher).parent if Path(teacher).name == "model" else Path(teacher)
        part_of = recorded_split("mtattn train", run) or {}
        if seen := [name for name in held_out if part_of.get(name) == "train"]:
            raise ValueError(
                f"mtattn train: teachers have not seen the images that a student is measured on, got {teacher}, "
                f"trained on {len(seen)} of them, {seen[0]} for one; give the table a split column and train all "
                f"models on it."
            )


def new_model(options: Namespace, groups: AttributeGroups) -> FARAMTN:
    """Build the model that the options ask for."""
    model = FARAMTN.from_timm(
        options.backbone,
        groups,
        pretrained=options.pretrained,
        backbone_weights=options.backbone_weights,
        backbone_options=size_options(options),
        drop_stages=options.drop_stages,
        reduction=options.reduction,
        spatial=options.spatial,
    ).to(memory_format=torch.channels_last)  # the faster layout for convolutions
    model.config["image"] |= {"size": options.image_size, "crop": options.crop}
    set_grad_checkpointing(model.trunk, options.grad_checkpointing)
    return model


def write_split(file: Path, data: TableImages, parts: np.ndarray) -> None:
    """Write which image is in which part."""
    text = io.StringIO()
    csv.writer(text).writerows([["image", "split"], *zip(data.files, parts.tolist(), strict=True)])
    write_whole(file, text.getvalue())
