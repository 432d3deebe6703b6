"""
Where does each group look?
===========================

With ``spatial=True`` WSGSA gives each group of attributes a weight for every position
as well. This is an extension of ours, off by default. The weights average to 1, and a
new module weighs all positions alike.
"""

import matplotlib.pyplot as plt
import torch
from trained import new_model, tensors, train_briefly, trained

from mtattn import DWSLoss

plain, _, faces = trained()
images, targets = tensors(faces, "train")
test_images, test_targets = tensors(faces, "test")

# %%
# Take the trained model over into one with ``spatial=True``. The queries start at zero,
# so it predicts the same.

model = new_model(spatial=True).eval()
missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
print("new parameters:", ", ".join(missing))
with torch.no_grad():
    assert torch.allclose(model(test_images), plain(test_images), atol=1e-4)

# %%
# Then train all but the trunk. Its features do not change any more, so they are
# computed once.

with torch.no_grad():
    features, test_features = plain.trunk(images), plain.trunk(test_images)
model.trunk = torch.nn.Identity()
train_briefly(
    model, DWSLoss(model.groups), features, targets, epochs=3, learning_rate=1e-3
)
with torch.no_grad():
    positions = model.wsgsa.positions(test_features)
assert torch.allclose(
    positions.mean((-2, -1)), torch.ones(positions.shape[:2]), atol=1e-4
)

# %%
# The mean over the test faces, laid over their mean face.

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
    model.trunk = plain.trunk
    maps, logits = model.attribute_maps(test_images), model(test_images)
assert torch.allclose(maps.mean((-2, -1)), logits, atol=1e-4)
