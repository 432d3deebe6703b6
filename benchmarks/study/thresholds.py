"""What thresholds and temperatures chosen on the validation part buy on the test part, seed by seed.

python benchmarks/study/thresholds.py peta --root path/to/peta --weights efficientnet-lite0-57934424.pth
"""

import math
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from features import Features, Source, load, study_options
from finished import Runs
from grouping import default_groups
from heads import HEADS
from losses import LOSSES
from rows import BY_NAME, OURS
from run import HERE, Job
from torch import Tensor
from training import Settings, calibration_error, fit, predict

from mtattn import AttributeGroups
from mtattn.decisions import Decisions, choose_decisions
from mtattn.metrics import AttributeMetrics, Baselines, train_rates
from mtattn.metrics.decided import decided_metrics, decided_scores

RESULTS = HERE / "results" / "thresholds.jsonl"
CROPS = {"peta": 1.0, "lfwa": 0.6, "celeba": 0.65}
GOALS = ("f1", "balanced_accuracy", "precision=0.9")
SETTINGS = Settings(0.012, 0.01, 4)  # the same for all: thresholds are compared, not rates
SEEDS, SIZE = 10, 96


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", choices=list(CROPS))
    parser.add_argument("--root", type=Path, required=True, help="the folder of the data set")
    study_options(parser, RESULTS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    runs, features = Runs(options.results), None
    for seed in range(options.seeds):
        if runs.lacks(Job(None, options.data, seed, SETTINGS, "test")):
            features = features or load(source_of(options.data, options.root, options.cache, options.weights))
            runs.add(record := measure(options.data, features, seed))
            print({name: found for name, found in record.items() if name != "goals"}, flush=True)


def source_of(data: str, root: Path, cache: Path, weights: Path | None) -> Source:
    """Say where the maps come from: one view of each image, two stages before the trunk's end."""
    return Source(data, root, cache, weights=weights, size=SIZE, crop=CROPS[data], drop_stages=2, mixed=True, views=1)


def measure(data: str, features: Features, seed: int) -> dict[str, Any]:
    """Train FARAMTN's head, choose on the validation part, and score on the test part with and without."""
    torch.manual_seed(seed)
    row, groups = BY_NAME[OURS], default_groups(features.attributes)
    model = HEADS[row.head]((features.channels, features.side), groups, **row.head_options)
    loss = LOSSES[row.loss](groups, **row.loss_options)
    fit(model, loss, features, features.targets("train", groups.attributes), SETTINGS, groups, periods=row.periods)
    valid, test = (
        (predict(model, features, split), features.targets(split, groups.attributes)) for split in ("valid", "test")
    )
    baselines = AttributeMetrics(groups, train_rates(features.targets("train", groups.attributes))).baselines
    settings = {key: getattr(SETTINGS, key) for key in ("learning_rate", "weight_decay", "epochs")}
    goals = {goal: with_goal(goal, groups, baselines, valid, test) for goal in GOALS}
    return {"row": data, "seed": seed, "split": "test", **settings, "goals": goals}


def with_goal(
    goal: str, groups: AttributeGroups, baselines: Baselines, valid: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> dict[str, Any]:
    """Score the test part at one half and with thresholds, over the attributes that have one, and over all."""
    chosen = choose_decisions(groups, *valid, goal=goal)
    logits, targets = test
    calibrated = chosen.calibrated(groups, logits)
    metrics = AttributeMetrics(groups, baselines)
    metrics.update(logits, targets)
    after, before = (decided_scores(decided_metrics(metrics, how), targets) for how in (chosen, Decisions("one half")))
    own = {
        name: [scores["attributes"][attribute][score] for scores in (before, after) for attribute in chosen.thresholds]
        for name, score in (("precision", "precision"), ("recall", "recall"))
    }
    num = len(chosen.thresholds)
    return {
        "before": _means(before) | {"calibration_error": calibration_error(logits, targets)},
        "after": _means(after) | {"calibration_error": calibration_error(calibrated, targets)},
        "chosen": num,
        "kept": len(chosen.kept),
        "of_chosen": {name: [_mean(found[:num]), _mean(found[num:])] for name, found in own.items()},
    }


def _means(scores: dict[str, Any]) -> dict[str, float]:
    return {name.removeprefix("mean_"): value for name, value in scores.items() if name.startswith("mean_")}


def _mean(values: list[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]  # nothing was said to be there
    return sum(known) / len(known) if known else None


if __name__ == "__main__":
    main()
