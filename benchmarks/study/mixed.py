"""Attributes of every kind: what do weighting rules do where the losses of groups differ in scale and speed?

PETA's pedestrians by person, and FairFace and LFWA joined, each of which labels what the other does not.

python benchmarks/study/mixed.py peta --peta path/to/peta --weights efficientnet-lite0-57934424.pth
python benchmarks/study/mixed.py joined --fairface path/to/fairface --lfwa path/to/lfwa --weights ...
"""

import math
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from features import SPLITS, Source, study_options, trunk_of
from finished import Runs
from heads import faramtn
from mixed_losses import RULES, loss_of
from run import HERE
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mtattn import AttributeGroups
from mtattn.data import (
    CELEBA_GROUPS,
    FAIRFACE_GROUPS,
    FAIRFACE_GROUPS_YEARS,
    LFWA,
    PETA,
    PETA_GROUPS,
    FairFace,
    JointDataset,
    image_transform,
)
from mtattn.metrics import AttributeMetrics, Baselines
from mtattn.training.epochs import warmup_then_cosine

RESULTS = HERE / "results" / "mixed.jsonl"
SIDE = 3  # positions a side that the trunk's map is averaged to
WIDTH, QUERIES = 64, 2  # of the head: small, so that many runs are possible
BATCH, STEPS, PERIOD = 128, 225, 25  # three epochs of PETA; the weights step every 25 steps
RATES, DECAY = (0.003, 0.01, 0.03, 0.1), 0.01
SEARCH_SEED, SEEDS = 1000, 5
UNITS = ("common", "own")  # of the losses; see mixed_losses.py
SIZES = {"peta": (96, 48), "fairface": (96, 96), "lfwa": (96, 96)}
CROPS = {"peta": 1.0, "fairface": 1.0, "lfwa": 0.6}  # what crops.py chose for LFWA


@dataclass(frozen=True)
class Maps:
    """Maps and targets of the splits, with the groups that name the targets."""

    groups: AttributeGroups
    inputs: dict[str, Tensor]
    targets: dict[str, Tensor]
    parts: tuple[Tensor, ...]  # the training images of each data set; a batch takes as many of each


def load(data: str, options: Namespace) -> Maps:
    """Read the maps of one data set, or of two joined, and compute them first where they are not there yet."""
    sets = ("peta",) if data == "peta" else ("fairface", "lfwa")
    inputs = {
        split: torch.cat([_inputs(name, split, options) for name in sets]).flatten(1).unflatten(1, (-1, SIDE, SIDE))
        for split in SPLITS
    }
    if data == "peta":
        groups = PETA_GROUPS
        targets = {split: _set("peta", split, options).targets for split in SPLITS}
    else:
        groups = AttributeGroups(
            CELEBA_GROUPS.to_plain()
            | {"age band": FAIRFACE_GROUPS.kinds[:1], "years": FAIRFACE_GROUPS_YEARS.kinds[:1]}
            | {"gender": FAIRFACE_GROUPS.kinds[1:]}
        )
        joint = {split: JointDataset(*(_set(name, split, options) for name in sets)) for split in SPLITS}
        targets = {
            split: data.targets[:, [data.attributes.index(name) for name in groups.attributes]]
            for split, data in joint.items()
        }
    sizes = [len(_set(name, "train", options)) for name in sets]
    parts = torch.arange(sum(sizes)).split(sizes)
    return Maps(groups.fitted(targets["train"]), inputs, targets, parts)


def _set(name: str, split: str, options: Namespace, transform: Any = None) -> Any:
    if name == "peta":
        return PETA(options.peta, split, attributes=PETA_GROUPS.attributes, by_person=True, transform=transform)
    if name == "lfwa":
        return LFWA(options.lfwa, split, transform=transform)
    return FairFace(options.fairface, split, attributes=("age", "years", "gender"), transform=transform)


@torch.no_grad()
def _inputs(name: str, split: str, options: Namespace) -> Tensor:
    weights = options.weights.stem if options.weights else "random"
    file = options.cache / f"mixed-{name}-{split}-{weights}-{SIDE}.npy"
    if not file.exists():
        source = Source(name, None, options.cache, weights=options.weights, drop_stages=2, mixed=True)
        trunk, image = trunk_of(source)
        data = _set(name, split, options, image_transform(SIZES[name], **image, crop=CROPS[name]))
        pool = nn.AdaptiveAvgPool2d(SIDE)
        with torch.autocast("cpu", torch.bfloat16):
            maps = [
                pool(trunk(images.to(memory_format=torch.channels_last)).float()).half()
                for images, _ in DataLoader(data, batch_size=128)
            ]
        options.cache.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part.npy")
        np.save(unfinished, torch.cat(maps).contiguous().numpy())
        unfinished.rename(file)
    return torch.from_numpy(np.load(file)).float()


def learn(maps: Maps, rule: str, unit: str, seed: int, rate: float, split: str) -> dict[str, Any]:
    """Train once under a rule and score on a split: the mean skill, and the skill of each kind."""
    torch.manual_seed(seed)
    channels = maps.inputs["train"].shape[1]
    model = faramtn((channels, SIDE), maps.groups, width=WIDTH, queries=QUERIES, key_channels=32)
    loss = loss_of(maps.groups, rule, unit, seed=seed)
    optimizer = torch.optim.AdamW([*model.parameters(), *loss.parameters()], rate, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_then_cosine(0.1, STEPS))
    for step, images in zip(range(1, STEPS + 1), _batches(maps.parts), strict=False):
        inputs, targets = maps.inputs["train"][images], maps.targets["train"][images]
        optimizer.zero_grad()
        loss(model(inputs), targets).backward()
        optimizer.step()
        schedule.step()
        loss.after(lambda inputs=inputs: model(inputs), targets)
        if step % PERIOD == 0:
            loss.step()
    return score(model, maps, split)


def _batches(parts: Sequence[Tensor]) -> Iterator[Tensor]:
    """Draw batches without end that hold as many images of each part; each part is gone through again and again."""
    share = BATCH // len(parts)
    waiting = [part[:0] for part in parts]
    while True:
        for place, part in enumerate(parts):
            if len(waiting[place]) < share:
                waiting[place] = part[torch.randperm(len(part))]
        yield torch.cat([own[:share] for own in waiting])
        waiting = [own[share:] for own in waiting]


@torch.no_grad()
def score(model: nn.Module, maps: Maps, split: str) -> dict[str, Any]:
    """Score the model: the mean skill over attributes, and over those of each kind."""
    model.eval()
    metrics = AttributeMetrics(maps.groups, Baselines(maps.groups, maps.targets["train"]))
    for inputs, targets in zip(maps.inputs[split].split(1024), maps.targets[split].split(1024), strict=True):
        metrics.update(model(inputs), targets)
    scores = metrics.compute()
    skills: dict[str, list[float]] = {}
    for name, kind in zip(maps.groups.attributes, maps.groups.kinds, strict=True):
        title = "binary" if isinstance(kind, str) else type(kind).__name__.lower()
        if not math.isnan(skill := scores["attributes"][name]["skill"]):
            skills.setdefault(title, []).append(skill)
    return {"skill": scores["mean_skill"], **{kind: sum(own) / len(own) for kind, own in skills.items()}}


def row_of(data: str, rule: str, unit: str) -> str:
    """Name a row of the results."""
    return f"{data}, {rule}, {unit}"


def best_rate(runs: Runs, row: str) -> float:
    """Choose the learning rate with the highest mean skill on validation."""
    tried = {r["learning_rate"]: r["skill"] for r in runs.done if r["row"] == row and r["split"] == "valid"}
    return max(tried, key=lambda rate: -math.inf if math.isnan(tried[rate]) else tried[rate])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", choices=["peta", "joined"])
    for name in SIZES:
        parser.add_argument(f"--{name}", type=Path, help="the folder of the data set")
    study_options(parser, RESULTS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    runs = Runs(options.results)
    maps = load(options.data, options)
    rows = [(rule, unit) for rule in RULES for unit in UNITS]
    for row in rows:
        for rate in RATES:
            _once(runs, maps, options.data, row, SEARCH_SEED, rate=rate, split="valid")
    for seed in range(SEEDS):  # seed by seed, so that a study cut short has all rows
        for row in rows:
            rate = best_rate(runs, row_of(options.data, *row))
            _once(runs, maps, options.data, row, seed, rate=rate, split="test")


def _once(runs: Runs, maps: Maps, data: str, row: tuple[str, str], seed: int, *, rate: float, split: str) -> None:
    key = {"row": row_of(data, *row), "seed": seed, "learning_rate": rate, "split": split}
    if not any(key.items() <= record.items() for record in runs.done):
        scores = learn(maps, *row, seed, rate, split)
        runs.add(key | {"weight_decay": DECAY} | scores)
        print(*key.values(), *(f"{name} {value:.4f}" for name, value in scores.items()), flush=True)


if __name__ == "__main__":
    main()
