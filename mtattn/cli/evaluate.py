"""mtattn evaluate."""

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np

from mtattn import FARAMTN
from mtattn._arguments import HelpFormatter, at_least, mirror_option
from mtattn.cli.table import in_lines, open_images, planned, recorded_split, slice_option, slices_of, table_options
from mtattn.data import TableImages, image_transform
from mtattn.data.table.values import PARTS
from mtattn.decisions import decisions_of
from mtattn.metrics import AttributeMetrics, Baselines
from mtattn.models import find_model
from mtattn.recipes.measuring import measure_test, told
from mtattn.recipes.results import versions, write_pages

WRITTEN = ("metrics.json", "metrics.csv", "report.html")


def parser(prog: str) -> ArgumentParser:
    """Make the parser of the subcommand."""
    parser = ArgumentParser(
        prog,
        description="Score a trained model on a table, with intervals and with the thresholds that it has. Attributes "
        "are those of the model, found by name.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="a run, the folder of a saved model, or its name on the hub")
    table_options(parser, attributes=False)
    parser.add_argument(
        "--split",
        choices=list(PARTS),
        help="the part to score, which the split column names, or split.csv of the run; test where there is one, else "
        "all",
    )
    slice_option(parser)
    mirror_option(parser)
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write metrics.json, metrics.csv and report.html")
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out pictures that cannot be read")
    parser.add_argument("--batch-size", type=at_least(1), default=256, help="pictures computed at once")
    parser.add_argument("--workers", type=at_least(0), default=0, help="processes that read pictures")
    return parser


def main(options: Namespace) -> None:
    """Score, and tell."""
    for name in WRITTEN if options.output else ():
        if (options.output / name).exists():
            raise FileExistsError(f"{options.output / name} exists already; move it away, or give another --output.")
    model = FARAMTN.from_pretrained(find_model(options.model))
    if "image" not in model.config:
        raise ValueError(f"{options.model} says nothing about its images (model.config['image']); save it with them.")
    if options.config is None:
        options.attributes = list(model.groups.attributes)
    table, plan = planned(options)
    plan = replace(plan, groups=model.groups)
    columns = slices_of(options.slices, table)
    if table.notes:
        print(in_lines(*table.notes))
    data = open_images(options, table, plan)
    parts = _parts(options, data)
    split = options.split or ("test" if parts is not None and "test" in parts else None)
    if split is not None and (parts is None or split not in parts):
        raise ValueError(f"--split {split}: neither a column nor split.csv of the run names such images; leave it out.")
    chosen = data if split is None or parts is None else data.subset(np.flatnonzero(parts == split))
    train = None if parts is None or "train" not in parts else data.subset(np.flatnonzero(parts == "train"))
    own = train is None or split == "train"
    views = ", each with its mirror image" if options.mirror else ""
    print(f"{len(chosen)} images{views}, {f'part {split}' if split else 'all of the table'}; ", end="")
    print("baselines know their own labels" if own else "baselines know the labels of the training part")
    chosen.transform = image_transform(**model.config["image"])
    metrics = AttributeMetrics(model.groups, Baselines(model.groups, chosen if train is None else train))
    results = measure_test(
        model,
        chosen,
        metrics,
        decisions=decisions_of(model.config),
        slices={name: [cells[row] for row in chosen.rows] for name, cells in columns.items()},
        batch_size=options.batch_size,
        workers=options.workers,
        mirror=options.mirror,
    )
    print(*told(results), sep="\n")
    if options.output is not None:
        asked = {"model": str(options.model), "table": str(options.labels), "split": split or "all"} | (
            {"mirror": True} if options.mirror else {}
        )
        results |= {"settings": asked | {"images": len(chosen)}, "versions": versions()}
        title = f"{Path(options.model).name} on {options.labels.name}"
        options.output.mkdir(parents=True, exist_ok=True)
        write_pages(options.output, model, [], results, title, chosen, predictions=metrics.predictions())
        print(f"report: {options.output / 'report.html'}")


def _parts(options: Namespace, data: TableImages) -> np.ndarray | None:
    """Give the part of each image that the table names, or else the split.csv of the run; "" where neither does."""
    part_of = None if data.parts is not None else recorded_split("mtattn evaluate", options.model)
    if part_of is None:
        return data.parts
    found = np.array([part_of.get(name, "") for name in data.files])
    return found if found.any() else None
