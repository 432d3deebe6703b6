"""
Gates tell groups apart, hardly faces
=====================================

:class:`~mtattn.WSGSA` gives every group of attributes a gate in (0, 1) for each
channel of the shared features. The gates are computed from the face, so they may differ
from face to face. Do those of a trained model?
"""

import matplotlib.pyplot as plt
import torch
from trained import tensors, trained

model, _, faces = trained()
groups = list(model.groups)
images, targets = tensors(faces, "test")
with torch.no_grad():
    gates = model.wsgsa.gates(model.trunk(images))  # (face, group, channel)

# %%
# A channel's gate has a mean, and deviates from it for three reasons: the group, the
# face, and both together. Their variances add up.

whole = gates.mean((0, 1))
by_group, by_face = gates.mean(0) - whole, gates.mean(1) - whole
both = gates - whole - by_group[None] - by_face[:, None]
parts = torch.stack(
    [by_group.square().mean(), by_face.square().mean(), both.square().mean()]
)
total = (gates - whole).square().mean()
assert torch.allclose(parts.sum(), total, rtol=1e-3)
for name, part in zip(("group", "face", "group and face together"), parts, strict=True):
    print(f"{100 * part / total:3.0f} % of the variance is due to {name}")
assert parts[0] > total / 2  # as the title says

# %%
# Then the same gates for every face should do as well. A gate multiplies, so it can be
# taken out again: we put each group's mean gates in place of its own. Where the group
# looks stays as it is.

with torch.no_grad():
    features = model.wsgsa.pooled(model.trunk(images)) / gates
    fixed = features * gates.mean(0)
    for name, logits in (
        ("its own gates", model(images)),
        ("mean gates", model.heads(model.cgff(2 * fixed))),
    ):
        right = (logits > 0) == (targets > 0.5)
        print(
            f"accuracy {100 * right.float().mean():.2f} % with {name:13} for each face"
        )

# %%
# The gates of twelve faces, group by group. Channels are sorted by the group that opens
# them furthest above their mean.

first = by_group.argmax(0) - by_group.amax(0) / 2
shown = gates[:12, :, first.argsort()].transpose(0, 1).flatten(0, 1)
figure, axes = plt.subplots(figsize=(5.4, 4.4))
figure.set_label(
    "A picture of all gates: a column a channel, and for each of eight groups twelve "
    "rows, one a face. Within a group the rows look alike, so they form eight bands "
    "of vertical stripes; from group to group the stripes change."
)
picture = axes.imshow(
    shown, aspect="auto", cmap="cividis", vmin=0, vmax=1, interpolation="none"
)
for group in range(1, len(groups)):
    axes.axhline(12 * group - 0.5, color="white", linewidth=2)
axes.set_yticks([12 * group + 5.5 for group in range(len(groups))], groups)
axes.set(xlabel="channel, sorted", ylabel="group, and in it twelve faces")
axes.spines[:].set_visible(False)
axes.tick_params(axis="y", length=0)
figure.colorbar(picture, ax=axes, label="gate")
plt.show()

# %%
# The shares of the variance and the two accuracies are the finding, on one small model
# and easy faces. The blocks that the sorting makes are not: sorted in this way, random
# gates form blocks as well.
