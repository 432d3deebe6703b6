"""
Who listens to whom, and what comes of it?
==========================================

:class:`~mtattn.CGFF` lets the groups of attributes exchange information. Its affinity
says whom each group listens to, but a share of attention is no proof of influence. So
we take one link after the other, let its listener hear the same for all images, and
measure what that costs: where we planted who has to listen to whom, and on drawn faces.
"""

from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
from torch import nn
from torchvision.transforms.functional import to_tensor
from trained import tensors, trained

from mtattn import CGFF, AttributeGroups, DWSLoss, GroupHeads, functional
from mtattn.ablation import Link, measure_ablations
from mtattn.data import PlantedRelations

# %%
# The planted relations: where a group has to listen, its region of a drawn face is
# covered, and a mark in the region of another group tells its label, blue for yes,
# orange for no. The first row of the figure has two faces with one relation and two
# with all five, in a cycle.

related = [
    *PlantedRelations(2, relations={"Mouth": "Hair"}, size=128),
    *PlantedRelations(2, size=128),
]

# %%
# Each group of this model sees the mean of its own region, by its mask, and no more. So
# it has to be told its label, by the group in whose region the mark stands.


class InRegions(nn.Module):
    """CGFF between groups of which each sees its own region."""

    def __init__(self, allowed: list[list[bool]] | None = None) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 32, 1), nn.BatchNorm2d(32), nn.ReLU())
        listening = {"num_groups": len(groups), "allowed": allowed}
        self.cgff = CGFF(32, num_heads=4, key_channels=0, **listening)
        self.heads = GroupHeads(32, groups)
        regions = PlantedRelations(1, size=16).masks[None]
        self.positions = functional.mask_positions(regions, (16, 16))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = torch.einsum("bchw,xghw->bgc", self.trunk(images), self.positions) / 256
        return self.heads(self.cgff(seen))


def draw(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = PlantedRelations(count, size=16, seed=seed)
    return torch.stack([to_tensor(drawn[i][0]) for i in range(count)]), drawn.targets


def taught(model: InRegions) -> InRegions:
    optimizer, loss = torch.optim.AdamW(model.parameters(), lr=1e-2), DWSLoss(groups)
    images, targets = draw(400, seed=0)
    for _ in range(25):
        for rows in torch.randperm(400).split(50):
            loss(model(images[rows]), targets[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.eval()


groups = PlantedRelations.groups
torch.manual_seed(0)
told = taught(InRegions())

# %%
# ``allowed=`` says who may listen to whom. Here everybody may hear itself and Hair, no
# other, as in MGMTN a part of the face hears itself and the whole face.

heard = [[speaker in (listener, "Hair") for speaker in groups] for listener in groups]
restricted = taught(InRegions(heard))

# %%
# The faces: the model that all pages show.

model, _, faces = trained()
images, truth = tensors(faces, "test")
batches = list(zip(images.split(100), truth.split(100), strict=True))
new = [draw(300, seed=1)]
found = {
    "planted": (groups, measure_ablations(told, new, groups)),
    "restricted": (groups, measure_ablations(restricted, new, groups)),
    "faces": (model.groups, measure_ablations(model, batches, model.groups)),
}


def matrix(
    groups: AttributeGroups, links: list[Link], value: Callable[[Link], float]
) -> torch.Tensor:
    order, cells = list(groups), torch.full((len(groups), len(groups)), torch.nan)
    for link in links:
        cells[order.index(link.listener), order.index(link.speaker)] = value(link)
    return cells


TEXT = {"ha": "center", "va": "center", "fontsize": 7.5}
figure = plt.figure(figsize=(5.6, 7.2), layout="constrained")
top, below = figure.subfigures(2, 1, height_ratios=[1, 4])
panels = below.subplots(2, 3, width_ratios=[5, 5, 8])
for axes, (image, _) in zip(top.subplots(1, 4), related, strict=True):
    axes.imshow(image)
    axes.axis("off")
figure.set_label(
    "Two drawn faces with a grey mouth and a blue or orange square in the hair, and "
    "two all grey ones with five squares. Below them groups by groups: for planted "
    "relations one link in each row has most of the weight, and its listener knows "
    "nothing without it; no other costs anything. Where only Hair may be heard, all "
    "other links are empty and Neck alone, whose mark is there, loses all. For "
    "drawn faces all rows have nearly the same weights, and what a link costs is less "
    "and depends on the listener."
)
for column, (groups, result) in zip(panels.T, found.values(), strict=True):
    shares = matrix(groups, result.links, lambda link: 100 * link.weight)
    costs = matrix(groups, result.links, lambda link: -100 * link.mean.value)
    for axes, cells in zip(column, (shares, costs), strict=True):
        axes.imshow(cells, cmap="Blues", aspect="auto", vmin=0, vmax=50)
        for row, line in enumerate(cells.tolist()):
            for place, cell in enumerate(line):
                if row != place:
                    color = "white" if cell > 25 else "black"
                    axes.text(place, row, f"{abs(cell):.0f}", color=color, **TEXT)
        axes.set_xticks(range(len(groups)), groups, rotation=90, fontsize=7.5)
        axes.set_yticks(range(len(groups)), groups, fontsize=7.5)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
for axes in panels[:, 1]:
    axes.set_yticks([])  # those beside it
panels[0, 0].set(title="planted", ylabel="weight, %")
panels[0, 1].set(title="only Hair allowed")
panels[0, 2].set(title="drawn faces")
panels[1, 0].set(ylabel="cost without it, points")
plt.show()

# %%
# The exchange as a whole: what every group hears, replaced by its mean over images.

for name, (_, result) in found.items():
    (exchange,) = [
        effect
        for effect in result.effects
        if (effect.part, effect.by) == ("exchange", "its mean over images")
    ]
    print(
        f"{name}: {100 * exchange.mean.value:+.1f} points "
        f"({100 * exchange.mean.low:+.1f} to {100 * exchange.mean.high:+.1f}); "
        f"{100 * result.differing:.1f} % of what is heard differs between groups"
    )

costly = {
    name: {(k.listener, k.speaker) for k in result.links if k.mean.value < -0.2}
    for name, (_, result) in found.items()
}
# The links that matter are those that we planted, as far as they are allowed.
assert costly["planted"] == PlantedRelations(1).links
assert costly["restricted"] == {("Neck", "Hair")}
