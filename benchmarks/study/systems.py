"""The systems of the field side by side, as heads on the map of one frozen trunk, each with the same search.

python benchmarks/study/systems.py lfwa --root path/to/lfwa --weights efficientnet-lite0-57934424.pth
python benchmarks/study/systems.py peta --root path/to/peta --weights efficientnet-lite0-57934424.pth
"""

import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import cos, radians, sin
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from cost import multiply_adds
from features import NUM_DRAWN, SPLITS, Features, Source, load, study_options
from finished import Runs
from grouping import default_groups
from losses import Loss
from rows import BATCH, OURS
from run import HERE, Job, describe
from system_heads import SYSTEM_HEADS, loss_of
from torch import Tensor, nn
from training import Settings, fit, score

from mtattn import AttributeGroups
from mtattn.data import PETA, SyntheticFaces
from mtattn.data.synthetic.drawing import HEAD, MIDDLE, View
from mtattn.metrics import train_rates

sys.path += [str(HERE.parent), str(HERE.parent.parent / "examples" / "systems")]
from common import Bench, training_step
from mgmtn import GROUPS, discs_at

RESULTS = HERE / "results" / "systems.jsonl"
RATES, EPOCHS, DECAY, SIZE = (0.004, 0.012, 0.036), (3, 9), 0.01, 96
SEARCH_SEED, SEEDS = 1000, 5
BLOCKS = 21  # how often a step is timed
CROPS = {"lfwa": 0.6, "drawn-easy": 1.0, "peta": 1.0, "peta-official": 1.0}
FACES, PEOPLE = ("lfwa", "drawn-easy"), ("peta", "peta-official")
EQUAL, DWS = {"rule": "equal"}, {"rule": "dws"}
ASYMMETRIC = {"gamma_neg": 1, "gamma_pos": 0, "clip": 0.05}  # PARFormer's
TERMS = {"center": 0.5, "view": 1.0, "mask": 0.1}


@dataclass(frozen=True)
class System:
    """A row: a head, its loss, and the data that it is for."""

    title: str
    data: tuple[str, ...]
    head: str
    options: Mapping[str, Any] = field(default_factory=dict)
    loss: str = "weighted"
    loss_options: Mapping[str, Any] = field(default_factory=lambda: EQUAL)


def _parformer(title: str, loss: str = "weighted", **options: Any) -> System:
    return System(title, PEOPLE, "parformer", options, loss, ASYMMETRIC if loss == "asymmetric" else EQUAL)


SYSTEMS: Mapping[str, System] = {
    OURS: System("**FAR-AMTN**: FARAMTN as it comes", (*FACES, *PEOPLE), "faramtn", {}, "weighted", DWS),
    "linear": System("one linear layer", (*FACES, *PEOPLE), "linear"),
    "no-exchange": System("FARAMTN without CGFF", (*FACES, *PEOPLE), "faramtn", {"fuse": False}, "weighted", DWS),
    "mgmtn-fixed": System("MGMTN, fixed masks", FACES, "mgmtn", {"masks": "fixed"}),
    "mgmtn-learned": System("MGMTN, learned masks", FACES, "mgmtn"),
    "mgmtn-true": System("MGMTN, true masks", ("drawn-easy",), "mgmtn", {"given": True}),
    "swinface": System("SwinFace's branches on one convolution", ("lfwa",), "swinface"),
    "conv-per-group": System("a convolution for each group", FACES, "conv per group"),
    "asymmetric": _parformer("linear, PARFormer's asymmetric loss", "asymmetric"),
    "center": _parformer("linear, centre loss", center=TERMS["center"]),
    "view": _parformer("linear, viewpoint loss", view=TERMS["view"]),
    "random-mask": _parformer("linear, batch random mask", mask=TERMS["mask"]),
    "parformer": _parformer("linear, all four: PARFormer", "asymmetric", **TERMS),
    "parformer-gated": _parformer("all four, a gate and centres for each group", "asymmetric", **TERMS, gated=True),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", choices=list(CROPS))
    parser.add_argument("--root", type=Path, help="the folder of the data set; drawn faces need none")
    study_options(parser, RESULTS)
    parser.add_argument("--rows", nargs="+", choices=list(SYSTEMS), metavar="ROW", help="only these")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--maps-only", action="store_true", help="compute the trunk's maps and stop")
    parser.add_argument("--cost", action="store_true", help="time a training step of each row, in turns, and stop")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    features = load(source_of(options.data, options.root, options.cache, options.weights))
    if options.maps_only:
        return
    study = Study(options.data, features, options.root, Runs(options.results))
    rows = options.rows or [name for name, row in SYSTEMS.items() if options.data in row.data]
    if options.cost:
        write_costs(options.data, time_steps(study, rows, options.threads), options.results)
        return
    for name in rows:
        study.search(name)
    for seed in range(options.seeds):  # seed by seed: a cut leaves all rows
        for name in rows:
            study.do(name, seed, study.best(name), "test")


def time_steps(study: "Study", rows: Sequence[str], threads: int) -> dict[str, dict[str, float]]:
    """Time a training step of each row on real maps: times the first row's, with quartiles."""
    bench, calls = Bench("cpu", threads=threads, blocks=BLOCKS, seed=0), {}
    for name in rows:
        features = study.features(name)
        head, loss, groups = build(study.data, name, features)
        maps = features.batch("train", torch.arange(BATCH))
        targets = features.targets("train", groups.attributes)[:BATCH]
        parameters = [*head.parameters(), *loss.parameters()]

        def compute(x: Tensor, head: nn.Module = head, loss: Loss = loss, targets: Tensor = targets) -> Tensor:
            total: Tensor = loss(head(x), targets)
            return total

        optimizer = torch.optim.AdamW(parameters, lr=1e-6)
        calls[name] = training_step(compute, [maps], parameters, optimizer=optimizer)
    measured = bench.compare("Training step of a head", calls, sizes={"batch": BATCH})
    return {name: measured.contenders[name]["ratio"] for name in rows}


def write_costs(data: str, ratios: Mapping[str, Mapping[str, float]], results: Path) -> None:
    """Put the step times of a data set beside the results, in place of earlier ones."""
    file = costs_beside(results)
    costs = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.write_text(json.dumps(costs | {data: ratios}, indent=1) + "\n", encoding="utf-8")


def costs_beside(results: Path) -> Path:
    """Name the file of step times that belongs to a file of results."""
    return results.with_name(f"{results.stem}-steps.json")


class Study:
    """The runs on a data set, none done twice."""

    def __init__(self, data: str, features: Features, root: Path | None, runs: Runs) -> None:
        self.data, self.root, self.runs = data, root, runs
        self.maps = {"": features}  # with what a row has to know beside them, too

    def search(self, name: str) -> None:
        """Try the rates for a few epochs, then the best of them for more."""
        for rate in RATES:
            self.do(name, SEARCH_SEED, Settings(rate, DECAY, EPOCHS[0]), "valid")
        for epochs in EPOCHS[1:]:
            rate = self.best(name, EPOCHS[0]).learning_rate
            self.do(name, SEARCH_SEED, Settings(rate, DECAY, epochs), "valid")

    def best(self, name: str, epochs: int | None = None) -> Settings:
        """Give the settings of a row that were best in its search."""
        tried = [r for r in self.runs.done if r["row"] == f"{self.data}, {name}" and r["split"] == "valid"]
        tried = [r for r in tried if epochs in {None, r["epochs"]}]
        found = max(tried, key=lambda record: record["accuracy"] + record["balanced_accuracy"])
        return Settings(found["learning_rate"], found["weight_decay"], found["epochs"])

    def do(self, name: str, seed: int, settings: Settings, split: str) -> None:
        """Do a run, if it is still to do."""
        if self.runs.lacks(Job(None, f"{self.data}, {name}", seed, settings, split)):
            record = measure(self.data, name, self.features(name), seed, settings, split)
            self.runs.add(record)
            print(describe(record), f"epochs {settings.epochs}, {record['seconds']:.1f} s", flush=True)

    def features(self, name: str) -> Features:
        """Give the maps, for some rows with masks or viewpoints in further channels."""
        row = SYSTEMS[name]
        what = "masks" if row.options.get("given") else "viewpoint" if row.head == "parformer" else ""
        if what not in self.maps:
            plain = self.maps[""]
            self.maps[what] = joined(plain, true_masks(plain) if what == "masks" else self._viewpoints(plain))
        return self.maps[what]

    def _viewpoints(self, features: Features) -> dict[str, np.ndarray]:
        """Read from which side each pedestrian is seen; NaN where nobody knows, or nothing is trained."""
        found = {}
        for split, maps in features.inputs.items():
            seen = np.full(len(maps), np.nan)
            if split == "train" and self.root is not None:
                people = PETA(self.root, split, attributes=["viewpoint"], by_person=self.data == "peta")
                seen = people.targets[:, 0].numpy()
            seen = seen.astype(np.float16)[:, None, None, None]
            found[split] = np.broadcast_to(seen, (len(maps), 1, *maps.shape[3:]))
        return found


def measure(data: str, name: str, features: Features, seed: int, settings: Settings, split: str) -> dict[str, Any]:
    """Train a row once and score it on a split."""
    torch.manual_seed(seed)
    start = time.perf_counter()
    head, loss, groups = build(data, name, features)
    targets = features.targets("train", groups.attributes)
    fit(head, loss, features, targets, settings, groups, periods=1)
    return {
        "row": f"{data}, {name}",
        "seed": seed,
        **{key: value for key, value in asdict(settings).items() if key != "trunk_factor"},
        "split": split,
        **score(head, features, split, groups, train_rates(targets)),
        "parameters": sum(parameter.numel() for parameter in head.parameters()),
        "multiply_adds": multiply_adds(head, features.batch(split, torch.arange(1))),
        "seconds": round(time.perf_counter() - start, 1),
    }


def build(data: str, name: str, features: Features) -> tuple[nn.Module, Loss, AttributeGroups]:
    """Build the head of a row, its loss and its groups."""
    row = SYSTEMS[name]
    groups, options = groups_of(row, features.attributes), dict(row.options)
    if "masks" in options:
        options["masks"] = discs_at(groups, *_grid(CROPS[data]))
    head = SYSTEM_HEADS[row.head]((features.channels, features.side), groups, **options)
    return head, loss_of(row.loss, head, groups, **row.loss_options), groups


def source_of(data: str, root: Path | None, cache: Path, weights: Path | None) -> Source:
    """Say where the maps come from: one view of each image, two stages before the trunk's end."""
    own = {"crop": CROPS[data], "drop_stages": 2, "mixed": True, "views": 1, "by_person": data != "peta-official"}
    return Source(data.partition("-official")[0], root, cache, weights=weights, size=SIZE, **own)


def groups_of(row: System, attributes: Sequence[str]) -> AttributeGroups:
    """Give MGMTN its own groups, with one of the whole face, and all others the default ones."""
    return GROUPS.only(attributes) if row.head == "mgmtn" else default_groups(attributes)


def joined(features: Features, further: Mapping[str, np.ndarray]) -> Features:
    """Put further channels, (image, channel, height, width), behind those of the maps."""
    inputs = {
        split: np.concatenate([maps, further[split][:, None].repeat(maps.shape[1], 1)], 2)
        for split, maps in features.inputs.items()
    }
    return replace(features, inputs=inputs)


def true_masks(features: Features) -> dict[str, np.ndarray]:
    """Move the masks of a drawn face as the face was moved, turned and scaled: where its parts are is known."""
    faces, groups = SyntheticFaces(NUM_DRAWN, seed=0), GROUPS.only(features.attributes)
    found = {}
    for part, split in enumerate(SPLITS):
        maps = features.inputs[split]
        indices = np.flatnonzero(faces.partition == part)[: len(maps)]
        views = [faces._view(int(index), faces._face(int(index))) for index in indices]
        masks = torch.stack([discs_at(groups, *seen_by(view, *_grid(1.0))) for view in views])
        found[split] = F.adaptive_avg_pool2d(masks, (maps.shape[3], maps.shape[4])).numpy().astype(np.float16)
    return found


def seen_by(view: View, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Find what lay at each place of the picture before the face was moved, in shares of the picture."""
    left, top, width, height = HEAD
    right = left + width * x - MIDDLE - view.shift[0] * width
    down = top + height * y - (top + height / 2) - view.shift[1] * width
    turn = radians(view.angle)
    across, along = cos(turn) * right + sin(turn) * down, cos(turn) * down - sin(turn) * right
    across, along = across / view.scale, along / view.scale  # a mirror changes nothing: masks are symmetric
    return (along + height / 2) / height, (across + MIDDLE - left) / width


def _grid(crop: float, side: int = 48) -> tuple[Tensor, Tensor]:
    """Give the places of the middle of an image, in shares of the whole."""
    place = 0.5 + crop * ((torch.arange(side) + 0.5) / side - 0.5)
    return place[:, None], place[None, :]


if __name__ == "__main__":
    main()
