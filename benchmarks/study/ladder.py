"""What each step from the study's setting to a good one buys: the pictures, the map, the width and the epochs.

python benchmarks/study/ladder.py --root path/to/lfwa --weights efficientnet-lite0-57934424.pth
python benchmarks/study/ladder.py --root path/to/lfwa --weights efficientnet-lite0-57934424.pth --device cuda
"""

import time
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from features import Features, Source, load, study_options
from finished import Runs
from rows import BY_NAME, OURS, SEARCH_SEEDS, Row
from run import HERE, Job, describe
from training import Settings, run

RESULTS = HERE / "results" / "lfwa-ladder.jsonl"
HEADS = ("linear", OURS)
SEEDS = 5
LEARNING_RATES = (0.006, 0.018, 0.054)  # and further three by three, while the best is the first or the last
FACTOR, WEIGHT_DECAY = 3, 0.01
SHORT, LONGER = (4,), (4, 8, 16)  # epochs to choose from


@dataclass(frozen=True)
class Step:
    """One setting, in which both heads are trained, each at its own best rate and number of epochs."""

    name: str
    title: str
    images: Mapping[str, Any] = field(default_factory=dict)  # how they come to the trunk, and where it is cut
    width: int = 256  # of the shared convolution
    epochs: tuple[int, ...] = SHORT

    def source(self, root: Path, cache: Path, weights: Path | None) -> Source:
        """Say where the maps come from."""
        return Source("lfwa", root, cache, weights=weights, mixed=True, mirrored=True, **self.images)

    def row(self, head: str) -> Row:
        """Give a head as wide as the step has it."""
        row = BY_NAME[head]
        name, options = f"{self.name}, {head}", {**row.head_options, "width": self.width}
        return replace(row, name=name, head_options=options)


CUT, FINE = {"crop": 0.6}, {"drop_stages": 2}
STEPS = (
    Step("study", "as in the study: all of the picture, 4 x 4 positions"),
    Step("crop", "the middle 0.6 of the picture", CUT),
    Step("crop-075", "the middle 0.75 of it", {"crop": 0.75}),
    Step("fine", "all of the picture, the map two stages earlier: 8 x 8 positions", FINE),
    Step("crop-fine", "the middle 0.6 and the finer map", CUT | FINE),
    Step("long", "these two, and 4, 8 or 16 epochs, as each head does best", CUT | FINE, epochs=LONGER),
    Step("wide", "these two, and 512 channels in place of 256", CUT | FINE, width=512),
    Step("wide-long", "these two, 512 channels, and 4, 8 or 16 epochs", CUT | FINE, width=512, epochs=LONGER),
    Step("size-192", "all of this at 192 pixels in place of 128", CUT | FINE | {"size": 192}, width=512, epochs=LONGER),
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="LFWA's folder")
    study_options(parser, RESULTS)
    parser.add_argument("--steps", nargs="+", choices=[step.name for step in STEPS], metavar="STEP", help="only these")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--device", default="cpu", help="where the heads are trained; maps are computed on the CPU")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    runs = Runs(options.results)
    for step in STEPS:
        if options.steps is None or step.name in options.steps:
            climb(step, load(step.source(options.root, options.cache, options.weights)), runs, options)


def climb(step: Step, features: Features, runs: Runs, options: Any) -> None:
    """Do the runs of a step that are still to do: the search on the validation part, then the seeds that count."""

    def do(head: str, seed: int, settings: Settings, split: str) -> None:
        row = step.row(head)
        job = Job(None, row.name, seed, settings, split)
        if not runs.lacks(job):
            return
        if record := run_before(step, head, job, runs):
            runs.add(record | {"row": row.name})
            return
        started = time.perf_counter()
        record = run(row, features, seed, settings, split=split, device=options.device)
        runs.add(record | {"seconds": round(time.perf_counter() - started, 1)})
        print(f"{describe(record)}, {settings.epochs} epochs", flush=True)

    for head in HEADS:
        while (settings := untried(step, head, runs)) is not None:
            do(head, SEARCH_SEEDS[0], settings, "valid")
    for seed in range(options.seeds):
        for head in HEADS:
            do(head, seed, best(step.row(head).name, runs), "test")


def untried(step: Step, head: str, runs: Runs) -> Settings | None:
    """Give what to try next, by a rule that is the same for both heads; None when the search is over.

    The rates first, for the fewest epochs, and on beyond the first and the last as long as these are best; then more
    epochs at the rate that was best and at a third of it.
    """
    row, few = step.row(head).name, step.epochs[0]
    tried = {(record["learning_rate"], record["epochs"]) for record in searched(row, runs)}

    def lacking(rates: Sequence[float], epochs: int) -> Settings | None:
        waiting = [rate for rate in rates if (rate, epochs) not in tried]
        return Settings(waiting[0], WEIGHT_DECAY, epochs) if waiting else None

    if settings := lacking(LEARNING_RATES, few):
        return settings
    rate = best(row, runs, few).learning_rate
    if settings := lacking([_rounded(rate / FACTOR), rate, _rounded(rate * FACTOR)], few):
        return settings
    for epochs in step.epochs[1:]:
        if settings := lacking([rate, _rounded(rate / FACTOR)], epochs):
            return settings
    return None


def run_before(step: Step, head: str, job: Job, runs: Runs) -> dict[str, Any] | None:
    """Find the same run under another step, one of the same images and width."""
    rows = {other.row(head).name for other in STEPS if (other.images, other.width) == (step.images, step.width)}
    return next((record for record in runs.done if record["row"] in rows and runs.key(record)[1:] == job.key[1:]), None)


def searched(row: str, runs: Runs) -> list[dict[str, Any]]:
    """List the runs of a row on the validation part."""
    return [record for record in runs.done if record["row"] == row and record["split"] == "valid"]


def best(row: str, runs: Runs, epochs: int | None = None) -> Settings:
    """Give what was best for a row on the validation part, in accuracy and balanced accuracy together."""
    found = [record for record in searched(row, runs) if epochs in {None, record["epochs"]}]
    chosen = max(found, key=lambda record: record["accuracy"] + record["balanced_accuracy"])
    return Settings(chosen["learning_rate"], chosen["weight_decay"], chosen["epochs"])


def _rounded(rate: float) -> float:
    return float(f"{rate:.4g}")  # 0.006 three times over is 0.018


if __name__ == "__main__":
    main()
