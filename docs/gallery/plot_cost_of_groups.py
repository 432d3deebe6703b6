"""
What does one more group cost?
==============================

A branch of convolutions for each group of attributes makes a network grow with the
number of groups. :class:`~mtattn.WSGSA` shares the convolutions and gives each
group a gate only.
"""

from time import perf_counter

import matplotlib.pyplot as plt
import torch
from timm.models.resnet import Bottleneck
from torch import Tensor, nn

from mtattn import WSGSA

# %%
# Parameters first, at the size of a ResNet-50: its last residual block, shared by all
# groups, or one for each. They are counted without any memory for them, on the device
# "meta".


class Branches(nn.Module):
    """A block for each group."""

    def __init__(self, block: type[nn.Module], num_groups: int, **options: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(block(**options) for _ in range(num_groups))

    def pooled(self, x: Tensor) -> Tensor:
        return torch.stack([block(x).mean((2, 3)) for block in self.blocks], 1)


def millions(module: nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


numbers = [1, 2, 4, 8, 16]
with torch.device("meta"):
    shared = [millions(WSGSA(2048, n, shared=Bottleneck(2048, 512))) for n in numbers]
    branches = [
        millions(Branches(Bottleneck, n, inplanes=2048, planes=512)) for n in numbers
    ]
for n, ours, theirs in zip(numbers, shared, branches, strict=True):
    print(f"{n:2} groups: {ours:5.1f} M parameters with a shared block, ", end="")
    print(f"{theirs:5.1f} M with one for each")

# %%
# Then time: a forward and a backward step of the same two at a quarter of the channels,
# so that it takes seconds here. Each is timed in turn, the best of several rounds
# counts, and we look at ratios to one group only: they depend less on the machine than
# milliseconds do.


def step(module: nn.Module, features: Tensor) -> float:
    started = perf_counter()
    module.pooled(features).sum().backward()
    return perf_counter() - started


features = torch.randn(16, 512, 7, 7)
small = [WSGSA(512, n, shared=Bottleneck(512, 128)) for n in numbers]
small += [Branches(Bottleneck, n, inplanes=512, planes=128) for n in numbers]
rounds = [[step(module, features) for module in small] for _ in range(8)]
best = torch.tensor(rounds).amin(0).reshape(2, -1)
ratios = best / best[:, :1]
print(f"time of a step with {numbers[-1]} groups, as a multiple of that with one:")
print(f"{ratios[0, -1]:.1f} with a shared block, {ratios[1, -1]:.1f} with one for each")

# %%

figure, (memory, time) = plt.subplots(2, 1, figsize=(5.4, 5.6), sharex=True)
figure.set_label(
    "Two charts against the number of groups from 1 to 16: parameters in millions, "
    "and the time of a step as a multiple of that with one group. A block for each "
    "group rises steeply in both; WSGSA's shared block stays low."
)
for axes, (ours, theirs) in ((memory, (shared, branches)), (time, ratios)):
    axes.plot(numbers, theirs, marker="s", color="C1", label="a block for each group")
    axes.plot(
        numbers,
        ours,
        marker="o",
        color="C0",
        label="WSGSA: a shared block, a gate for each group",
    )
    axes.set(ylim=(0, None))
    axes.grid(axis="y")
memory.set(ylabel="parameters, millions")
time.set(
    ylabel="time of a step, times\nthat of one group", xlabel="groups", xticks=numbers
)
figure.legend(*memory.get_legend_handles_labels(), loc="outside lower center")
plt.show()

# %%
# A further group costs WSGSA two small matrices, 0.53 million parameters at this size,
# and two small products. What the branches buy for their cost is freedom; whether a
# gate is enough is a question for your data.
