"""
Each group opens its own channels
=================================

WSGSA gives every group of attributes a gate in (0, 1) for each channel of the shared features. If all groups opened the
same channels, one gate would do. We ask where the gates of a trained model vary: between groups, or between faces?
"""

import matplotlib.pyplot as plt
import torch
from trained import tensors, trained

model, _, faces = trained()
groups = list(model.groups)
images, _ = tensors(faces, "test")
with torch.no_grad():
    gates = model.wsgsa.gates(model.trunk(images))  # (face, group, channel)

# %%
# A channel's gate has a mean, and deviates from it for three reasons: the group, the face, and both together. Their
# variances add up.

whole = gates.mean((0, 1))
by_group, by_face = gates.mean(0) - whole, gates.mean(1) - whole
both = gates - whole - by_group[None] - by_face[:, None]
parts = torch.stack([by_group.square().mean(), by_face.square().mean(), both.square().mean()])
total = (gates - whole).square().mean()
assert torch.allclose(parts.sum(), total, rtol=1e-3)
for name, part in zip(("group", "face", "group and face together"), parts, strict=True):
    print(f"{100 * part / total:3.0f} % of the variance is due to {name}")

# %%
# How alike are two groups? The correlation of their mean gates over the channels, each channel's mean taken away.

alike = torch.corrcoef(by_group)
order = [int(alike.mean(1).argmin())]
while len(order) < len(groups):  # each beside the one that is most like it
    order.append(max(set(range(len(groups))) - set(order), key=lambda group: float(alike[order[-1], group])))
opened_by = by_group[order].argmax(0)
channels = torch.argsort(opened_by * 10 - by_group[order].amax(0))
for name, count in zip([groups[g] for g in order], torch.bincount(opened_by, minlength=len(groups)), strict=True):
    print(f"{name:9}opens {int(count):3} of {len(channels)} channels more than any other group")

# %%

limit = by_group.abs().quantile(0.98)
figure, (above, below) = plt.subplots(2, 1, figsize=(5.4, 6.6), height_ratios=[1, 1.3])
figure.set_label(
    "Above: the gate of each group and channel, minus the channel's mean; sorted by the group that opens a channel "
    "most, the channels form eight blocks. Below: how the gates of each two groups correlate over the channels."
)
picture = above.imshow(by_group[order][:, channels], aspect="auto", cmap="PuOr_r", vmin=-limit, vmax=limit)
above.set(xlabel="channel, sorted by the group that opens it most")
figure.colorbar(picture, ax=above, label="gate minus mean")
picture = below.imshow(alike[order][:, order], cmap="PuOr_r", vmin=-1, vmax=1)
figure.colorbar(picture, ax=below, label="correlation of gates")
below.set_xticks(range(len(groups)), [groups[g] for g in order], rotation=60, ha="right", rotation_mode="anchor")
for axes in (above, below):
    axes.set_yticks(range(len(groups)), [groups[g] for g in order])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
plt.show()

# %%
# The blocks above are no proof: sorted by their largest value, random gates form blocks as well. The shares of the
# variance are the finding. They depend on the model: a new one starts with all gates near one half.
