"""Run the study, or go on with it: one line of JSON for each finished run, and none is done twice.

python benchmarks/study/run.py lfwa --root path/to/lfwa --weights efficientnet-lite0-57934424.pth
python benchmarks/study/run.py drawn-hard --weights efficientnet-lite0-57934424.pth
"""

import multiprocessing
import os
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from features import SETS, Features, Source, load
from finished import Runs
from rows import (
    BY_NAME,
    EPOCHS,
    FINALISTS,
    LEARNING_RATES,
    SEARCH_EPOCHS,
    SEARCH_SEEDS,
    SEEDS,
    WEIGHT_DECAYS,
    Row,
    rows_of,
)
from training import Settings, run

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Job:
    """One run."""

    source: Source
    row: str
    seed: int
    settings: Settings
    split: str

    @property
    def key(self) -> tuple[Any, ...]:
        chosen = self.settings
        return self.row, self.seed, self.split, chosen.learning_rate, chosen.weight_decay, chosen.epochs


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", choices=SETS)
    parser.add_argument("--root", type=Path, help="the folder of LFWA or CelebA; drawn faces need none")
    parser.add_argument("--backbone", default=Source.backbone, help="a timm model name")
    parser.add_argument("--weights", type=Path, help="its checkpoint; without one the trunk is random")
    parser.add_argument("--size", type=int, default=Source.size, help="height and width of the images, in pixels")
    parser.add_argument("--cache", type=Path, default=Path("runs/study"), help="the folder for the trunk's maps")
    parser.add_argument("--results", type=Path, help="the file of finished runs; default: results/DATA.jsonl beside me")
    parser.add_argument("--rows", nargs="+", choices=list(BY_NAME), metavar="ROW", help="only these rows")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="runs at a time, each on one thread")
    options = parser.parse_args(arguments)
    source = Source(options.data, options.root, options.cache, options.backbone, options.weights, options.size)
    runs = Runs(options.results or HERE / "results" / f"{options.data}.jsonl")
    rows = [BY_NAME[name] for name in options.rows] if options.rows else list(rows_of(options.data))
    done = len(runs.done)
    for stage in (
        lambda: search(source, rows),
        lambda: search_decay(source, rows, runs),
        lambda: search_again(source, rows, runs),
        lambda: final(source, rows, runs, options),
    ):
        waiting = [job for job in stage() if runs.lacks(job)]
        if waiting:
            do_all(waiting, runs, options.processes)
    if len(runs.done) == done:
        print(f"nothing to do: all {done} runs stand in {runs.path}; give another --results to run them again")


def do_all(waiting: Sequence[Job], runs: Runs, num_processes: int) -> None:
    """Do the runs that are not done yet, and write each down when it is."""
    print(f"{len(waiting)} runs to do, the trunk's maps first, if they are not there yet", flush=True)
    load(waiting[0].source)  # before the processes start, so that one computes the maps
    with multiprocessing.get_context("spawn").Pool(num_processes, _start) as pool:
        for number, record in enumerate(pool.imap_unordered(do, waiting), 1):
            runs.add(record)
            print(f"{number}/{len(waiting)} {describe(record)}", flush=True)


def search(source: Source, rows: Sequence[Row]) -> list[Job]:
    """List the runs that choose a learning rate, the same for each row."""
    return [_trial(source, row, rate, WEIGHT_DECAYS[0]) for row in rows for rate in LEARNING_RATES]


def search_decay(source: Source, rows: Sequence[Row], runs: Runs) -> list[Job]:
    """List the runs that try another weight decay at the best learning rate."""

    def best(row: Row) -> float:
        return next(rate for rate, decay in runs.leading(row.name) if decay == WEIGHT_DECAYS[0])

    return [_trial(source, row, best(row), decay) for row in rows for decay in WEIGHT_DECAYS[1:]]


def search_again(source: Source, rows: Sequence[Row], runs: Runs) -> list[Job]:
    """List the runs that decide between the best settings, from more seeds."""
    return [
        _trial(source, row, *setting, seed)
        for row in rows
        for setting in runs.leading(row.name)[:FINALISTS]
        for seed in SEARCH_SEEDS[1:]
    ]


def _trial(source: Source, row: Row, rate: float, decay: float, seed: int = SEARCH_SEEDS[0]) -> Job:
    return Job(source, row.name, seed, Settings(rate, decay, SEARCH_EPOCHS), "valid")


def final(source: Source, rows: Sequence[Row], runs: Runs, options: Any) -> list[Job]:
    """List the runs that count, seed by seed, so that a study cut short has all rows."""
    best = {row.name: runs.best(row.name) for row in rows}
    return [
        Job(source, name, seed, Settings(*chosen, options.epochs), "test")
        for seed in range(options.seeds)
        for name, chosen in best.items()
    ]


def do(job: Job) -> dict[str, Any]:
    """Do one run."""
    return run(BY_NAME[job.row], _features(job.source), job.seed, job.settings, split=job.split)


def describe(record: dict[str, Any]) -> str:
    """Say a run in a line, for people who watch."""
    numbers = " ".join(f"{100 * record[name]:.2f}" for name in ("accuracy", "balanced_accuracy", "average_precision"))
    return f"{record['row']} {record['split']} seed {record['seed']}, {record['learning_rate']:g}: {numbers}"


@cache
def _features(source: Source) -> Features:
    return load(source)


def _start() -> None:
    torch.set_num_threads(1)


if __name__ == "__main__":
    main()
