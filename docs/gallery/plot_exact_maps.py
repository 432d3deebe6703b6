"""
Only exact maps add up to the prediction
========================================

A map that explains a prediction should be able to account for it. FAR-AMTN is linear
after its shared module, while gates and affinities are held, so each logit is the mean
of a map: evidence for an attribute where the map is positive, against it where it is
negative. Grad-CAM has no such sum.
"""

import matplotlib.pyplot as plt
import torch
from trained import tensors, trained

from mtattn.functional import draw_maps
from mtattn.models import map_centres

model, _, faces = trained()
images, _ = tensors(faces, "test")
smiling = model.groups.attributes.index("Smiling")

with torch.no_grad():
    logits = model(images)[:, smiling]
    maps = model.attribute_maps(images)[:, smiling]

# %%
# Grad-CAM (Selvaraju et al. 2017) for the same logit, on the same features: those that
# leave the shared module. Its weights are the mean gradients, here times the number of
# positions, which puts its map on the scale of the logit.

kept = []
hook = model.wsgsa.shared.register_forward_hook(lambda *call: kept.append(call[-1]))
total = model(images)[:, smiling].sum()
hook.remove()
features = kept[0]
gradient = torch.autograd.grad(total, features)[0]
weights = gradient.sum((2, 3), keepdim=True)
grad_cam = (weights * features).sum(1).relu().detach()

# %%
# Every exact map averages to its logit, up to rounding. This is a law, so it is
# asserted.

error = (maps.mean((1, 2)) - logits).abs().max()
grad_cam_error = (grad_cam.mean((1, 2)) - logits).abs()
print(f"logits of {len(images)} faces: from {logits.min():.1f} to {logits.max():.1f}")
print(f"means of exact maps: off by {error:.1e} at most")
print(f"means of Grad-CAM maps: off by {grad_cam_error.mean():.2f} in the mean")
assert error < 1e-4

# %%
# Two faces, the surest that smiles and the surest that does not, and below them all
# test faces. A cell of a map is drawn where it looks, not in its share of the square.

figure = plt.figure(figsize=(5.4, 6.4))
figure.set_label(
    "Above: the faces with the highest and the lowest logit for Smiling, each with "
    "its exact map and its Grad-CAM map. Below: the mean of each map against the "
    "logit; exact maps lie on the diagonal, Grad-CAM maps do not."
)
rows = figure.subplot_mosaic(
    [["face 0", "exact 0", "cam 0"], ["face 1", "exact 1", "cam 1"], ["all"] * 3],
    height_ratios=[1, 1, 1.7],
)
limit = maps.abs().max()
centres = map_centres(model, (64, 64))
for row, index in enumerate([int(logits.argmax()), int(logits.argmin())]):
    rows[f"face {row}"].imshow(images[index].permute(1, 2, 0) / 2 + 0.5)
    rows[f"face {row}"].set_ylabel(f"logit {logits[index]:.1f}")
    for name, values, title in (
        ("exact", maps, "exact map"),
        ("cam", grad_cam, "Grad-CAM"),
    ):
        axes = rows[f"{name} {row}"]
        drawn = draw_maps(values[index], (64, 64), centres)
        axes.imshow(drawn, cmap="PuOr_r", vmin=-limit, vmax=limit)
        axes.set_xlabel(f"mean {values[index].mean():.1f}")
        axes.set_title(title if row == 0 else "")
for name, axes in rows.items():
    if name != "all":
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
axes = rows["all"]
axes.axline((0, 0), slope=1, color="#7a828c", linewidth=1)
axes.scatter(
    logits, grad_cam.mean((1, 2)), s=12, color="C1", marker="s", label="Grad-CAM"
)
axes.scatter(logits, maps.mean((1, 2)), s=12, color="C0", label="exact map")
axes.set(xlabel="logit of Smiling", ylabel="mean of the map, logits")
axes.legend(loc="upper left")
plt.show()

# %%
# Grad-CAM's last step, a ReLU, drops all evidence against an attribute, and biases are
# not in its sum. So it can show where a smile was found, but not why there is none, and
# not how much each place counts. It does not claim more. What exact maps do not tell is
# why the shared module answers as it does at a place: that part is not linear.
