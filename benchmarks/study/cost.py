"""Measure what each head costs beside one linear layer, and write results/cost.json.

python benchmarks/study/cost.py
"""

import json
import sys
from pathlib import Path

import torch
from grouping import grouping
from heads import HEADS
from rows import OURS, ROWS, Row
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mtattn import DWSLoss
from mtattn.data import CELEBA_ATTRIBUTES

sys.path.append(str(Path(__file__).parent.parent))
from common import Bench, Call, count, training_step

SHAPE, BATCH = (192, 4), 64
NAMES = (
    "linear",
    OURS,
    "wsgsa",
    "wsgsa-cgff",
    "spatial",
    "linear-per-group",
    "conv-per-group",
    "queries",
    "ml-decoder",
    "mmoe",
    "mtan",
    "groups-40",
)


def build(row: Row) -> tuple[nn.Module, DWSLoss]:
    """Build a row's head and the plain loss."""
    groups = grouping(row.grouping, CELEBA_ATTRIBUTES, torch.zeros(2, len(CELEBA_ATTRIBUTES)).numpy(), seed=0)
    return HEADS[row.head](SHAPE, groups, **row.head_options), DWSLoss(groups)


def step(row: Row, bench: Bench) -> Call:
    """Make a training step of a row."""
    head, loss = build(row)
    maps = bench.tensor(BATCH, SHAPE[0], SHAPE[1], SHAPE[1])
    targets = torch.ones(BATCH, len(CELEBA_ATTRIBUTES))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-6)
    return training_step(lambda x: loss(head(x), targets), [maps], list(head.parameters()), optimizer=optimizer)


def multiply_adds(head: nn.Module, maps: torch.Tensor) -> int:
    """Count the multiplications of one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        head.eval()(maps)
    return counter.get_total_flops() // 2


def main() -> None:
    bench = Bench("cpu", threads=2, blocks=21, seed=0)
    rows = {row.name: row for row in ROWS if row.name in NAMES}
    measured = bench.compare(
        "Training step of a head", {name: step(rows[name], bench) for name in NAMES}, sizes={"batch": BATCH}
    )
    costs = {
        name: {
            "parameters": count(head := build(rows[name])[0]),
            "multiply_adds": multiply_adds(head, torch.zeros(1, SHAPE[0], SHAPE[1], SHAPE[1])),
            "step": measured.contenders[name]["ratio"],
        }
        for name in NAMES
    }
    path = Path(__file__).parent / "results" / "cost.json"
    path.write_text(json.dumps(costs, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
