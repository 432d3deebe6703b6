"""WSGSA's pooled form against what people write today: a loop of gates, stacked, then pooled."""

from functools import partial

import torch
from common import Bench, count, training_step
from timm.layers import SqueezeExcite
from torch import Tensor, nn

from mtattn import WSGSA

CASES = [
    # batch, channels, side, groups
    (32, 2048, 7, 8),
    (32, 1024, 14, 8),
    (8, 2048, 7, 40),
]
REDUCTION = 16


class SqueezeExciteLoop(nn.Module):
    """One of timm's gates for each group; gives the same numbers as WSGSA with the same parameters."""

    def __init__(self, channels: int, num_groups: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            SqueezeExcite(channels, rd_channels=channels // REDUCTION) for _ in range(num_groups)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([branch(x) for branch in self.branches], 1).mean((-2, -1))


class BranchLoop(nn.Module):
    """A branch for each group as SwinFace has them: a convolution of its own, then channel attention, then pooling."""

    def __init__(self, channels: int, num_groups: int, width: int = 512) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for _ in range(num_groups)
        )
        self.attend = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width // REDUCTION), nn.ReLU(), nn.Linear(width // REDUCTION, width))
            for _ in range(num_groups)
        )

    def forward(self, x: Tensor) -> Tensor:
        pooled = []
        for reduce, attend in zip(self.reduce, self.attend, strict=True):
            own = reduce(x)
            gates = (attend(own.mean((-2, -1))) + attend(own.amax((-2, -1)))).sigmoid()
            pooled.append((own * gates[..., None, None]).mean((-2, -1)))
        return torch.stack(pooled, 1)


def copy_parameters(wsgsa: WSGSA, loop: SqueezeExciteLoop) -> None:
    """Give WSGSA the parameters of the loop."""
    with torch.no_grad():
        for group, branch in enumerate(loop.branches):
            wsgsa.down_weight[group], wsgsa.down_bias[group] = branch.fc1.weight[..., 0, 0], branch.fc1.bias
            wsgsa.up_weight[group], wsgsa.up_bias[group] = branch.fc2.weight[..., 0, 0], branch.fc2.bias


def run(bench: Bench) -> None:
    for case in CASES:
        compare(bench, *case)


def compare(bench: Bench, batch: int, channels: int, side: int, num_groups: int) -> None:
    """Time one case."""
    wsgsa, one_query, as_in_faramtn = (
        bench.put(WSGSA(channels, num_groups, **options))
        for options in ({}, {"spatial": True}, {"spatial": True, "num_heads": 8, "coordinates": 2})
    )
    loop, branches = (bench.put(kind(channels, num_groups)) for kind in (SqueezeExciteLoop, BranchLoop))
    copy_parameters(wsgsa, loop)
    x = bench.tensor(batch, channels, side, side, grad=True)
    forms = {
        "WSGSA, pooled": (wsgsa, wsgsa.pooled),
        "a loop of timm's SqueezeExcite, stacked and pooled": (loop, loop),
        "WSGSA, whole maps, then pooled": (wsgsa, lambda x: wsgsa(x).mean((-2, -1))),
        "WSGSA with spatial=True, one query a group, pooled": (one_query, one_query.pooled),
        "WSGSA as in FARAMTN, eight queries and places, pooled": (as_in_faramtn, as_in_faramtn.pooled),
        "a loop of branches, as in SwinFace": (branches, branches),
    }
    facts = {
        "activations_mib": {name: bench.peak_bytes(partial(form, x)) / 2**20 for name, (_, form) in forms.items()},
        "largest_difference_from_the_loop": (wsgsa.pooled(x) - loop(x)).abs().max().item(),
    }
    for variant in bench.variants if (batch, channels, side, num_groups) == CASES[0] else bench.few_variants:
        bench.compare(
            "WSGSA, forward and backward",
            {
                name: training_step(form, [x], list(module.parameters()), variant=variant)
                for name, (module, form) in forms.items()
            },
            sizes={"batch": batch, "channels": channels, "side": side, "groups": num_groups},
            variant=variant,
            bytes_moved=2 * x.nbytes + 3 * 4 * count(wsgsa),  # read x, write its gradient; weights twice, gradients
            operations=6 * batch * count(wsgsa),
            parameters={name: count(module) for name, (module, _) in forms.items()},
            facts=lambda _: facts,
        )
