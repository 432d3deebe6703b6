"""
Who listens to whom, and what comes of it?
==========================================

:class:`~mtattn.CGFF` lets the groups of attributes exchange information. Its affinity
says whom each group listens to, but a share of attention is no proof of influence. So
we take one link after the other, let its listener hear the same for all images, and
measure what that costs: on a relation that we planted, and on drawn faces.
"""

from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
from torch import nn
from trained import tensors, trained

from mtattn import CGFF, AttributeGroups, DWSLoss, GroupHeads
from mtattn.ablation import Link, measure_ablations

# %%
# The planted relation: each group has a label that stands in its own features, and one
# that stands in the features of the group before it, and nowhere else.

names = ["eyes", "nose", "mouth", "hair", "ears"]
planted = AttributeGroups({name: [f"{name} own", f"{name} told"] for name in names})
torch.manual_seed(0)
said, of_group = torch.randn(2, 32), torch.randn(5, 32)


def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.randint(2, (count, 5, 2)).float()
    features = (2 * labels - 1) @ said + of_group + 0.5 * torch.randn(count, 5, 32)
    told = labels[..., 1].roll(1, 1)
    return features, torch.stack([labels[..., 0], told], -1).flatten(1)


toy = nn.Sequential(
    CGFF(32, num_heads=4, key_channels=8, norm=False), GroupHeads(32, planted)
)
loss, optimizer = DWSLoss(planted), torch.optim.AdamW(toy.parameters(), lr=1e-2)
for _ in range(250):
    features, targets = draw(128)
    loss(toy(features), targets).backward()
    optimizer.step()
    optimizer.zero_grad()

# %%
# The faces: the model that all pages show.

model, _, faces = trained()
images, truth = tensors(faces, "test")
batches = list(zip(images.split(100), truth.split(100), strict=True))
found = {
    "planted": (planted, measure_ablations(toy, [draw(2000)], planted)),
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
figure, panels = plt.subplots(2, 2, figsize=(5.6, 5.8), width_ratios=[5, 8])
figure.set_label(
    "Four squares of groups by groups. For a planted relation one link in each row has "
    "most of the weight, and its listener loses 25 points or more without it; no other "
    "link costs anything. For drawn faces all rows have nearly the same weights. What "
    "a link costs there is less and depends on the listener."
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
panels[0, 0].set(title="planted relation", ylabel="weight, %")
panels[0, 1].set(title="drawn faces")
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

needed = {(name, names[index - 1]) for index, name in enumerate(names)}
costly = {
    (link.listener, link.speaker)
    for link in found["planted"][1].links
    if link.mean.value < -0.02
}
assert costly == needed  # the links that matter are those that we planted
