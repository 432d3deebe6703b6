"""
Where does each group look?
===========================

FAR-AMTN gives each group of attributes eight queries, each with a weight for every
position, by what is there and by the place (``spatial=True`` in WSGSA, an extension of
ours). The weights average to 1, and a new module weighs all positions alike.
"""

import matplotlib.pyplot as plt
import torch
from trained import new_model, tensors, trained

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
# The mean over the queries and the test faces, laid over the mean face.

where = positions.mean(0)
mean_face = test_images.mean(0).permute(1, 2, 0) / 2 + 0.5
figure, grid = plt.subplots(2, 4, figsize=(5.6, 3.6))
figure.set_label(
    "The mean face eight times, once a group of attributes, with the mean weight of "
    "each of 8 by 8 positions over it."
)
for axes, name, weight in zip(grid.flat, model.groups, where, strict=True):
    axes.imshow(mean_face, extent=(0, 8, 8, 0))
    picture = axes.imshow(
        weight, cmap="PuOr_r", vmin=0, vmax=2, alpha=0.7, extent=(0, 8, 8, 0)
    )
    axes.set(title=name, xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
figure.colorbar(
    picture, ax=grid, shrink=0.8, extend="max", label="weight of the position"
)
plt.show()

# %%
# Nobody told a group where to look: it learnt that from its labels. The weights say
# where a group looks on the whole, not where one prediction comes from; for that there
# are :doc:`exact maps </auto_gallery/plot_exact_maps>`, which stay exact with
# ``spatial=True``. That is asserted here too.

with torch.no_grad():
    maps, logits = model.attribute_maps(test_images), model(test_images)
assert torch.allclose(maps.mean((-2, -1)), logits, atol=1e-4)
