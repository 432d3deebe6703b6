"""
What do missing labels cost?
============================

A label that nobody gave is NaN and counts nowhere. Here labels of the training faces are dropped at random, and a small
network learns from what is left: once with the labels dropped one by one, once with whole faces left out, the same
number of labels either way.
"""

import matplotlib.pyplot as plt
import torch
from torch import Tensor
from trained import GROUPS, new_model, tensors, train_briefly, trained

from mtattn import DWSLoss
from mtattn.metrics import AttributeMetrics, train_rates

faces = trained().faces
images, targets = tensors(faces, "train", size=32)
test_images, test_targets = tensors(faces, "test", size=32)
STEPS = 200


def average_precision(images: Tensor, targets: Tensor) -> float:
    model = new_model()
    epochs = STEPS // (len(images) // 64)  # as many steps, however few the faces
    train_briefly(model, DWSLoss(GROUPS), images, targets, epochs=epochs)
    metrics = AttributeMetrics(GROUPS, train_rates(targets))
    with torch.no_grad():
        metrics.update(model(test_images), test_targets)
    return 100 * metrics.compute()["mean_average_precision"]


# %%
# A label is kept with probability ``share``; in the other runs a face is.

torch.manual_seed(0)
chance, face_chance = torch.rand(targets.shape), torch.rand(len(targets))
shares = [1.0, 0.5, 0.25, 0.1]
by_label = [average_precision(images, targets.where(chance < share, torch.nan)) for share in shares]
by_face = by_label[:1] + [average_precision(images[face_chance < s], targets[face_chance < s]) for s in shares[1:]]
for share, one, other in zip(shares, by_label, by_face, strict=True):
    print(f"{100 * share:3.0f} % of the labels: average precision {one:.1f} %, in whole faces {other:.1f} %")

# %%
# A NaN target changes nothing: the loss over the labels that are there is the same as without the others.

logits, loss = torch.randn(8, len(GROUPS.attributes)), DWSLoss(GROUPS, rule="equal")
some = targets[:8].where(chance[:8] < 0.5, torch.nan)
labelled = ~some.isnan()
plain = torch.nn.functional.binary_cross_entropy_with_logits(logits[labelled], some[labelled])
assert torch.allclose(loss(logits, some), plain)

# %%

figure, axes = plt.subplots()
figure.set_label(
    "Average precision on test faces against the share of training labels that are kept, from 100 to 10 percent: one "
    "line for labels dropped one by one, one for whole faces left out."
)
axes.plot([100 * share for share in shares], by_label, marker="o", label="labels dropped one by one")
axes.plot([100 * share for share in shares], by_face, marker="s", linestyle="--", label="whole faces left out")
axes.set(xlabel="labels kept, %", ylabel="average precision, %", xscale="log")
axes.set_xticks([100 * share for share in shares], [f"{100 * share:.0f}" for share in shares])
axes.minorticks_off()
axes.invert_xaxis()
axes.grid(axis="y")
axes.legend()
plt.show()

# %%
# Labels that are missing at random only make learning harder. Labels that are missing for a reason, say because nobody
# could decide, are another matter: what is left is then another, easier population.
