"""
Where does each group look?
===========================

FAR-AMTN gives each group of attributes eight queries, each with a weight for every
position, by what is there and by the place (``spatial=True`` in WSGSA, an extension of
ours). The weights average to 1, and a new module weighs all positions alike. MGMTN, a
similar system, tells each group by a mask instead. Do both say the same?
"""

import matplotlib.pyplot as plt
import torch
from trained import new_model, tensors, trained

from mtattn.functional import draw_maps
from mtattn.models import map_centres

model, _, faces = trained()
test_images, _ = tensors(faces, "test")

# %%
# Before training every group looks everywhere alike; afterwards not.

with torch.no_grad():
    before = new_model().eval()
    before = before.wsgsa.positions(before.trunk(test_images))
    positions = model.wsgsa.positions(model.trunk(test_images))
assert torch.equal(before, torch.ones_like(before))
assert not torch.allclose(positions, before, atol=0.1)
assert torch.allclose(
    positions.mean((-2, -1)), torch.ones(positions.shape[:2]), atol=1e-4
)

# %%
# What a mask would tell: discs where the parts of an aligned face lie, like those of
# ``examples/systems/mgmtn.py``, each with its height, width and radius in shares of the
# picture. They are scaled as positions are, to a mean of 1.

DISCS = {
    "Hair": [(0.15, 0.50, 0.22), (0.32, 0.21, 0.14), (0.32, 0.79, 0.14)],
    "Eyes": [(0.40, 0.37, 0.12), (0.40, 0.63, 0.12)],
    "Nose": [(0.52, 0.50, 0.11)],
    "Cheek": [(0.55, 0.34, 0.10), (0.55, 0.66, 0.10)],
    "Mouth": [(0.65, 0.50, 0.11)],
    "Chin": [(0.76, 0.50, 0.11)],
    "Neck": [(0.90, 0.50, 0.12)],
}
place = (torch.arange(64) + 0.5) / 64
y, x = place[:, None], place[None, :]
masks = torch.stack(
    [
        sum((y - v) ** 2 + (x - u) ** 2 < r**2 for v, u, r in discs).clamp(max=1)
        for discs in DISCS.values()
    ]
).float()
told = masks / masks.mean((-2, -1), keepdim=True)

# %%
# Both laid over the mean face; what was learnt is the mean over the queries and the
# test faces, drawn where the 8 by 8 positions look. The group for the whole face has no
# mask.

drawn = draw_maps(positions.mean(0), (64, 64), map_centres(model, (64, 64)))
where = dict(zip(model.groups, drawn, strict=True))
mean_face = test_images.mean(0).permute(1, 2, 0) / 2 + 0.5
figure, grid = plt.subplots(4, 4, figsize=(5.6, 6.8))
figure.set_label(
    "The mean face, twice for each of seven groups of attributes: with the places "
    "that its mask tells, and with the mean weight that it learnt for each of 8 by 8 "
    "positions; once more with what the group of the whole face learnt."
)
panels = [("told", name, weight) for name, weight in zip(DISCS, told, strict=True)]
panels += [("learnt", name, where[name]) for name in DISCS]
panels = [panel for pair in zip(panels[:7], panels[7:], strict=True) for panel in pair]
panels += [("learnt", "Holistic", where["Holistic"])]
for axes in grid.flat:
    axes.set_axis_off()
for axes, (how, name, weight) in zip(grid.flat, panels, strict=False):
    axes.imshow(mean_face)
    picture = axes.imshow(weight, cmap="PuOr_r", vmin=0, vmax=2, alpha=0.7)
    axes.set_title(f"{name}, {how}")
figure.colorbar(
    picture, ax=grid, shrink=0.6, extend="max", label="weight of the position"
)
plt.show()

# %%
# How much of what a group learnt lies under its mask, against a group that looks
# everywhere alike: the mean of the learnt weights over the mask.

under = {n: (look * where[n]).mean() for n, look in zip(DISCS, told, strict=True)}
for name, times in under.items():
    print(f"{name:6} {times:.2f} times as much")
assert sum(under.values()) / len(under) > 1.5

# %%
# So groups find their parts without masks. They look elsewhere, too: attributes go
# together, and a label can be told from places that no mask would give its group. Where
# it is known that nothing else must count, a mask is the way to say so.

# %%
# Nobody told a group where to look: it learnt that from its labels. The weights say
# where a group looks on the whole, not where one prediction comes from; for that there
# are :doc:`exact maps </auto_gallery/plot_exact_maps>`, which stay exact with
# ``spatial=True``. That is asserted here too.

with torch.no_grad():
    maps, logits = model.attribute_maps(test_images), model(test_images)
assert torch.allclose(maps.mean((-2, -1)), logits, atol=1e-4)
