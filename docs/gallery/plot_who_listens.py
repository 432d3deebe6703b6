"""
Who listens to whom?
====================

:class:`~mtattn.CGFF` lets the groups of attributes exchange information. Its
affinity says whom each group listens to: a row of shares that sum to 1. A share is no
proof of influence, so we also take away what was heard and see how far the logits move.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn
from trained import tensors, trained

model, _, faces = trained()
groups = model.groups
images, targets = tensors(faces, "test")

with torch.no_grad():
    affinity = model.affinity(images).mean(0)
    logits = model(images)
    model.cgff.output = nn.Linear(*model.cgff.output.weight.shape, bias=False)
    nn.init.zeros_(model.cgff.output.weight)  # now CGFF is the identity
    alone = model(images)

assert torch.allclose(affinity.sum(1), torch.ones(len(groups)))

# %%
# How far a group's logits move when it hears nothing, against how far they spread over
# the faces.

moved = (logits - alone).abs().mean(0) / logits.std(0)
group_of = torch.tensor(groups.group_of)
moved = torch.stack([moved[group_of == group].mean() for group in range(len(groups))])
right, right_alone = (
    ((values > 0) == (targets > 0.5)).float().mean() for values in (logits, alone)
)
print(f"accuracy {right:.3f}, and {right_alone:.3f} if nobody hears anybody")
for name, share in zip(groups, moved, strict=True):
    print(f"{name:9}{share:.2f} of the logits' standard deviation")

# %%

figure, (shares, bars) = plt.subplots(
    1, 2, figsize=(5.6, 4.2), sharey=True, width_ratios=[3, 1]
)
figure.set_label(
    "A square of groups by groups: for each group in a row, the percentage of its "
    "attention that goes to each group in a column. Beside it a bar a group: how far "
    "its logits move when it hears nothing."
)
shares.imshow(affinity, cmap="Blues", vmin=0, vmax=1.5 * affinity.max(), aspect="auto")
for row in range(len(groups)):
    for column in range(len(groups)):
        shares.text(
            column, row, f"{100 * affinity[row, column]:.0f}", ha="center", va="center"
        )
shares.set_xticks(
    range(len(groups)), groups, rotation=60, ha="right", rotation_mode="anchor"
)
shares.set_yticks(range(len(groups)), groups)
shares.set(title="listens to, % of attention", ylabel="this group")
bars.barh(range(len(groups)), moved)
bars.set(title="is moved by it", xlabel="logits' standard\ndeviations")
for axes in (shares, bars):
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
plt.show()

# %%
# If a group preferred nobody, its row would say 12 or 13 everywhere, one eighth. The
# model was trained with CGFF, so what it loses without is no proof that a model trained
# without CGFF would be worse.
