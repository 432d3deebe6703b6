"""
Who listens to whom, and what comes of it?
==========================================

:class:`~mtattn.CGFF` lets the groups of attributes exchange information. Its affinity
says whom each group listens to, but a share of attention is no proof of influence. So
we cut one link after the other and measure what each group loses: on a relation that
we planted, and on drawn faces.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn
from trained import tensors, trained

from mtattn import CGFF, AttributeGroups, DWSLoss, GroupHeads
from mtattn.ablation import measure_ablations

# %%
# The planted relation: each group has a label that stands in its own features, and one
# that stands in the features of the group before it, and nowhere else.

names = ["eyes", "nose", "mouth", "hair", "ears"]
planted = AttributeGroups({name: [f"{name} own", f"{name} told"] for name in names})
torch.manual_seed(0)
said, of_group = torch.randn(2, 32), torch.randn(5, 32)


def draw(count):
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


def matrix(groups, links, value):
    order, cells = list(groups), torch.full((len(groups), len(groups)), torch.nan)
    for link in links:
        cells[order.index(link.listener), order.index(link.speaker)] = value(link)
    return cells


figure, panels = plt.subplots(2, 2, figsize=(5.6, 5.8), width_ratios=[5, 8])
figure.set_label(
    "Four squares of groups by groups. For a planted relation one link in each row has "
    "most of the weight, and cutting it costs its listener 25 points or more; no other "
    "link costs anything. For drawn faces all rows have the same weights, and no link "
    "costs much."
)
for column, (groups, result) in zip(panels.T, found.values(), strict=True):
    shares = matrix(groups, result.links, lambda link: 100 * link.weight)
    costs = matrix(groups, result.links, lambda link: -100 * link.mean.value)
    limits = {"vmin": 0, "vmax": 40}
    for axes, cells in zip(column, (shares, costs), strict=True):
        axes.imshow(cells, cmap="Blues", aspect="auto", **limits)
        for row, line in enumerate(cells.tolist()):
            for place, cell in enumerate(line):
                text = "" if cell != cell else f"{cell:.0f}"
                axes.text(place, row, text, ha="center", va="center", fontsize=7.5)
        axes.set_xticks(range(len(groups)), groups, rotation=90, fontsize=7.5)
        axes.set_yticks(range(len(groups)), groups, fontsize=7.5)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
panels[0, 0].set(title="planted relation", ylabel="weight, %")
panels[0, 1].set(title="drawn faces")
panels[1, 0].set(ylabel="cost of cutting it, points")
plt.show()

# %%
# Both of them in words. On faces, what little the groups hear is the same for all.

for name, (_, result) in found.items():
    largest = min(result.links, key=lambda link: link.mean.value)
    without = next(effect for effect in result.effects if effect.by == "nothing")
    print(
        f"{name}: without exchange {100 * without.mean.value:+.1f} points; of what is "
        f"heard {100 * result.differing:.1f} % differs between groups; cutting the link "
        f"{largest.listener} - {largest.speaker}: {100 * largest.mean.value:+.1f} points"
    )

toy_links = found["planted"][1].links
needed = {(name, names[index - 1]) for index, name in enumerate(names)}
costly = {(link.listener, link.speaker) for link in toy_links if link.mean.value < -0.02}
assert costly == needed  # the links that matter are those that we planted
