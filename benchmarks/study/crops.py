"""Which share of the pictures to keep, for each data set; decided on its validation part, the test part is not read.

python benchmarks/study/crops.py lfwa --root path/to/lfwa --weights efficientnet-lite0-57934424.pth
python benchmarks/study/crops.py celeba --root path/to/celeba --weights efficientnet-lite0-57934424.pth
"""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from features import Source, load, study_options
from finished import Runs
from rows import BY_NAME, OURS
from run import HERE, Job, describe
from training import Settings, run

RESULTS = HERE / "results" / "crops.jsonl"
HEADS = ("linear", OURS)
CROPS = {"lfwa": (1.0, 0.6, 0.75, 0.5), "celeba": (1.0, 0.85, 0.75, 0.65)}
RATE, EPOCHS, SEEDS, SIZE = 0.012, 4, 3, 96  # the same for all: shares are compared, not heads


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", choices=list(CROPS))
    parser.add_argument("--root", type=Path, required=True, help="the folder of the data set")
    study_options(parser, RESULTS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    runs = Runs(options.results)
    for seed in range(SEEDS):  # seed by seed, so that a search cut short has all shares
        for crop in CROPS[options.data]:
            features = load(source_of(options.data, crop, options.root, options.cache, options.weights))
            for head in HEADS:
                row = replace(BY_NAME[head], name=row_name(options.data, crop, head))
                settings = Settings(RATE, 0.01, EPOCHS)
                if runs.lacks(Job(None, row.name, seed, settings, "valid")):
                    runs.add(record := run(row, features, seed, settings, split="valid"))
                    print(describe(record), flush=True)


def source_of(data: str, crop: float, root: Path, cache: Path, weights: Path | None) -> Source:
    """Say where the maps come from: one view of each image, two stages before the trunk's end."""
    return Source(
        data,
        root,
        cache,
        weights=weights,
        size=SIZE,
        crop=crop,
        drop_stages=2,
        mixed=True,
        views=1,
        splits=("train", "valid"),
    )


def row_name(data: str, crop: float, head: str) -> str:
    """Name the runs of a head on a data set cut to a share."""
    return f"{data}, {crop:g}, {head}"


if __name__ == "__main__":
    main()
