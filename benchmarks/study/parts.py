"""Each part of FARAMTN against simpler and other forms of it, on frozen maps of faces, pedestrians and drawn faces.

python benchmarks/study/parts.py lfwa --root path/to/lfwa --weights efficientnet-lite0-57934424.pth
python benchmarks/study/parts.py lfwa --root path/to/lfwa --weights efficientnet-lite0-57934424.pth --final
"""

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from features import SPLITS, Features, Source, load, study_options
from finished import Runs
from rows import OURS, Row
from run import HERE, Job, describe
from torch import Tensor, nn
from training import Settings, run

from mtattn.data import PlantedRelations

RESULTS = HERE / "results" / "parts.jsonl"
RATE, DECAY, EPOCHS, SIZE, BATCHES = 0.012, 0.01, 4, 96, 8  # the same for all: forms are compared, not rates
SEEDS, FINAL_SEEDS = 3, 10
CROPS = {"lfwa": 0.6, "celeba": 0.65, "peta": 1.0, "drawn-easy": 1.0, "drawn-hard": 1.0}
PLANTED, NUM_PLANTED = "planted", {"train": 1000, "valid": 300, "test": 500}
PLANTED_SETTINGS = Settings(0.005, DECAY, 15, trunk_factor=1.0)
EXCHANGE, GATES, PLACES, BOTH = "Exchange", "Gates", "Positions", "Gates and exchange"
FORMS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    OURS: ("", "**FARAMTN** as it comes", {}),
    "no-exchange": (EXCHANGE, "no CGFF", {"fuse": False}),
    "uniform": (EXCHANGE, "every group listens to all alike", {"exchange": "uniform"}),
    "mean": (EXCHANGE, "the mean over the groups added, with a factor for each channel", {"exchange": "mean"}),
    "centred": (EXCHANGE, "descriptors centred over the groups", {"exchange": "centred"}),
    "pairs": (EXCHANGE, 'a learned number for each pair, `affinity="pairs"`', {"affinity": "pairs"}),
    "both": (EXCHANGE, 'queries, keys and pairs, `affinity="both"`', {"affinity": "both"}),
    "centred-both": (EXCHANGE, "centred, and pairs", {"exchange": "centred both"}),
    "normalized": (EXCHANGE, "queries and keys of length one", {"exchange": "normalized"}),
    "others": (EXCHANGE, "no group listens to itself", {"exchange": "others"}),
    "one-head": (EXCHANGE, "one head in place of eight", {"listening": {"num_heads": 1, "key_channels": 64}}),
    "two-heads": (EXCHANGE, "two heads", {"listening": {"num_heads": 2, "key_channels": 32}}),
    "low-rank": (EXCHANGE, "a map of rank 4 for each pair of groups, no affinity", {"exchange": "low rank"}),
    "fixed-gates": (GATES, "gates that are learned constants, `reduction=None`", {"reduction": None}),
    "no-gates": (GATES, "no gates: one half", {"wsgsa": "ungated"}),
    "by-place": (PLACES, "positions that do not see the image", {"wsgsa": "by place"}),
    "everywhere": (PLACES, "everywhere alike", {"spatial": False}),
    "simplest": (BOTH, "fixed gates and learned pairs", {"reduction": None, "affinity": "pairs"}),
    "fixed-alone": (BOTH, "fixed gates, no CGFF", {"reduction": None, "fuse": False}),
}
CONTROLS = (OURS, "no-exchange", "uniform", "mean", "centred", "fixed-gates", "by-place", "pairs", "simplest")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", choices=[*CROPS, PLANTED])
    parser.add_argument("--root", type=Path, help="the folder of the data set; drawn faces need none")
    study_options(parser, RESULTS)
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), metavar="FORM", help="only these")
    parser.add_argument("--final", action="store_true", help="train the forms that count, and score on the test part")
    parser.add_argument("--seeds", type=int, help=f"default: {SEEDS}, and {FINAL_SEEDS} with --final")
    parser.add_argument("--maps-only", action="store_true", help="compute the trunk's maps and stop")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.data == PLANTED:
        features = planted()
    else:
        features = load(source_of(options.data, options.root, options.cache, options.weights))
    if options.maps_only:
        return
    runs, split = Runs(options.results), "test" if options.final else "valid"
    forms = options.forms or (CONTROLS if options.final else tuple(FORMS))
    if options.data == PLANTED:
        forms = [form for form in forms if FORMS[form][0] in {"", EXCHANGE}]
    for seed in range(options.seeds or (FINAL_SEEDS if options.final else SEEDS)):  # seed by seed: a cut leaves all
        for form in forms:
            do(options.data, form, features, seed, split, runs)


def do(data: str, form: str, features: Features, seed: int, split: str, runs: Runs) -> None:
    """Do a run, if it is still to do."""
    row, settings = row_of(data, form), PLANTED_SETTINGS if data == PLANTED else Settings(RATE, DECAY, EPOCHS)
    if runs.lacks(Job(None, row.name, seed, settings, split)):
        trunk = small_trunk(seed) if data == PLANTED else None
        also = partial(differing, features)
        runs.add(record := run(row, features, seed, settings, split=split, trunk=trunk, also=also))
        print(describe(record), f"differing {record['differing']}", flush=True)


def row_of(data: str, form: str) -> Row:
    """Give the row of a form on a data set."""
    section, title, options = FORMS[form]
    options = {**options, "wsgsa": "regions", "reduction": None} if data == PLANTED else options
    return Row(f"{data}, {form}", title, section, head_options=options, loss_options={"rule": "dws"})


def source_of(data: str, root: Path | None, cache: Path, weights: Path | None) -> Source:
    """Say where the maps come from: one view of each image, two stages before the trunk's end."""
    return Source(data, root, cache, weights=weights, size=SIZE, crop=CROPS[data], drop_stages=2, mixed=True, views=1)


def planted() -> Features:
    """Draw faces with planted relations, all regions covered."""
    drawn = {split: PlantedRelations(count, seed=SPLITS.index(split)) for split, count in NUM_PLANTED.items()}
    inputs = {
        split: np.stack([np.asarray(faces[i][0]).transpose(2, 0, 1)[None] for i in range(len(faces))])
        for split, faces in drawn.items()
    }
    labels = {split: faces.targets.numpy() for split, faces in drawn.items()}
    return Features(PlantedRelations.groups.attributes, inputs, labels)


def small_trunk(seed: int) -> nn.Module:
    """Build a trunk in which no position sees another, so that groups know no more than their region."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.BatchNorm2d(3), nn.Conv2d(3, 64, 4, stride=4), nn.BatchNorm2d(64), nn.ReLU()]
    return nn.Sequential(*layers)


@torch.no_grad()
def differing(features: Features, model: nn.Module) -> dict[str, float | None]:
    """Give the share of what the groups are told, by its squares, that differs between groups; None: nothing is."""
    told: list[Tensor] = []
    head = model[1] if isinstance(model, nn.Sequential) else model
    hook = head.cgff.register_forward_hook(lambda _, inputs, output: told.append(output - inputs[0]))
    images = torch.arange(min(512, len(features.labels["valid"])))
    model.eval()(features.batch("valid", images))
    hook.remove()
    whole = told[0].square().sum()
    of_groups = (told[0] - told[0].mean(1, keepdim=True)).square().sum()
    return {"differing": round(float(of_groups / whole), 4) if whole > 0 else None}


if __name__ == "__main__":
    main()
