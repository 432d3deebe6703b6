"""The ladder with the trunk trained too: examples/lfwa.py and one linear layer, with the same options and seeds.

python benchmarks/study/trained.py --root path/to/lfwa --weights efficientnet-lite0-57934424.pth
python benchmarks/study/trained.py --root path/to/lfwa --weights efficientnet-lite0-57934424.pth --workers 14 \
    --mixed-precision bf16 --steps crop fine strong

Each run is the command that anybody can run, in a process of its own; a GPU is used where there is one.
"""

import json
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from finished import Runs
from rows import OURS
from run import HERE, Job
from training import Settings

PROJECT = HERE.parent.parent
RESULTS = HERE / "results" / "lfwa-trained.jsonl"
PROGRAMS = {"linear": ["benchmarks/linear_head.py", "lfwa"], OURS: ["examples/lfwa.py", "--root"]}
SEEDS = 3
SCORES = {"accuracy": "mean_accuracy", "balanced_accuracy": "mean_balanced_accuracy"}
SCORES |= {"average_precision": "mean_average_precision"}


@dataclass(frozen=True)
class Step:
    """One setting of the recipe; what it does not say is as in the others."""

    name: str
    title: str
    options: Sequence[str]
    epochs: int = 12
    rate: float = 1e-3
    from_scratch: bool = False  # the recipe's own trunk, in place of the one with weights
    teachers: str = ""  # the step whose runs of FARAMTN, of all seeds, teach


OWN_96 = ("--image-size", "96")
WHOLE = ("--image-size", "128", "--trunk-factor", "0.5", "--drop-stages", "0", "--crop", "1")
CROP = (*WHOLE, "--crop", "0.6")  # the last one counts
FINE = (*CROP, "--drop-stages", "2")
STRONG = (*FINE, "--augment", "strong")
FINE_160 = ("--image-size", "160", "--trunk-factor", "1", "--drop-stages", "2", "--augment", "strong")
STEPS = (
    Step(
        "own-whole", "the recipe's trunk from scratch, all of the picture at 64 pixels", ("--crop", "1"), 10, 2e-3, True
    ),
    Step("own", "the face and its hair, as the recipe has it", (), 10, 2e-3, True),
    Step("own-96", "the recipe at 96 pixels, 30 epochs", OWN_96, 30, 2e-3, True),
    Step(
        "own-96-taught",
        "and stronger augmentation, half of the targets from the three FARAMTN before",
        (*OWN_96, "--augment", "strong"),
        30,
        2e-3,
        True,
        "own-96",
    ),
    Step("whole", "from ImageNet weights, all of the picture at 128 pixels", WHOLE),
    Step("crop", "the middle 0.6 of the picture", CROP),
    Step("fine", "and the map two stages earlier", FINE),
    Step("strong", "and stronger augmentation", STRONG),
    Step("long", "and 30 epochs", STRONG, 30),
    Step("size-192", "and 192 pixels", (*STRONG, "--image-size", "192"), 30),
    Step(
        "fine-160",
        "from ImageNet weights at 160 pixels, the map two stages earlier, stronger augmentation",
        FINE_160,
        20,
    ),
    Step("fine-160-taught", "this, half of the targets from these three FARAMTN", FINE_160, 20, teachers="fine-160"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", required=True, help="LFWA's folder")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="a timm model name")
    parser.add_argument("--weights", help="its checkpoint; without one it starts at random")
    parser.add_argument("--output", type=Path, default=Path("runs/trained"), help="the folder for the runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file of finished runs")
    parser.add_argument("--steps", nargs="+", choices=[step.name for step in STEPS], metavar="STEP", help="only these")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--workers", default="1", help="processes that read images")
    parser.add_argument("--mixed-precision", default="no", choices=["no", "bf16", "fp16"])
    options = parser.parse_args(arguments)
    runs = Runs(options.results)
    steps = [step for step in STEPS if options.steps is None or step.name in options.steps]
    # seed by seed, so that a ladder cut short has all steps; but teachers of all seeds come before those they teach
    order = sorted(product(range(options.seeds), steps), key=lambda pair: bool(pair[1].teachers))
    for (seed, step), head in product(order, PROGRAMS):
        if runs.lacks(job := job_of(step, head, seed)):
            runs.add(record := train(step, head, job, options))
            print({key: value for key, value in record.items() if key != "valid"}, flush=True)


def job_of(step: Step, head: str, seed: int) -> Job:
    """Name a run by what decides it; the weight decay is the recipes'."""
    return Job(None, f"{step.name}, {head}", seed, Settings(step.rate, 0.05, step.epochs), "test")


def train(step: Step, head: str, job: Job, options: Any) -> dict[str, Any]:
    """Run the program of a head and read what it measured."""
    output, started = options.output / f"{step.name}-{head}-{job.seed}", time.perf_counter()
    subprocess.run([*command(step, head, job.seed, options), "--output", output], check=True, cwd=PROJECT)
    measured = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    test, valid = ({name: measured[part][key] for name, key in SCORES.items()} for part in ("test", "valid"))
    row, seed, split, learning_rate, weight_decay, epochs = job.key
    settings = {"learning_rate": learning_rate, "weight_decay": weight_decay, "epochs": epochs}
    seconds = round(time.perf_counter() - started)
    return {"row": row, "seed": seed, "split": split, **settings, **test, "valid": valid, "seconds": seconds}


def command(step: Step, head: str, seed: int, options: Any) -> list[str]:
    """Write the command of a run, without its output folder."""
    weights = [] if options.weights is None else ["--backbone-weights", options.weights]
    runs = [options.output / f"{step.teachers}-{OURS}-{seed}" for seed in range(options.seeds) if step.teachers]
    trunk = [] if step.from_scratch else ["--backbone", options.backbone, *weights]
    return [
        sys.executable,
        *PROGRAMS[head],
        options.root,
        *trunk,
        *step.options,
        *(("--teachers", *map(str, runs)) if runs else ()),
        *("--epochs", str(step.epochs), "--learning-rate", str(step.rate), "--seed", str(seed)),
        *("--workers", options.workers, "--mixed-precision", options.mixed_precision),
    ]


if __name__ == "__main__":
    main()
