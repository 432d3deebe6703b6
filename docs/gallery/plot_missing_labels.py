"""
A missing label is not a no
===========================

A label that nobody gave is NaN in ``mtattn`` and counts nowhere. It is tempting to
write a zero instead. Here labels of the training faces are dropped at random, and the
same network learns twice: with NaN in their place, and with "no".
"""

import matplotlib.pyplot as plt
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from trained import GROUPS, new_model, tensors, train_briefly, trained

from mtattn import DWSLoss
from mtattn.metrics import AttributeMetrics, train_rates

faces = trained().faces
images, targets = tensors(faces, "train", size=32)
test_images, test_targets = tensors(faces, "test", size=32)

# %%
# What a NaN does is a law, so it is asserted: the loss is that over the labels that are
# there.

torch.manual_seed(0)
chance = torch.rand(targets.shape)  # a label is kept if this is below the share to keep
half = targets.where(chance < 0.5, torch.nan)[:64]
logits, there = torch.randn(half.shape), ~half.isnan()
loss = DWSLoss(GROUPS)(logits, half)
assert torch.allclose(
    loss, binary_cross_entropy_with_logits(logits[there], half[there])
)

# %%
# Now learn from 100, 50 and 20 % of the labels.


def scores(targets: Tensor) -> tuple[float, float]:
    model = new_model()
    train_briefly(model, DWSLoss(GROUPS), images, targets, epochs=3)
    metrics = AttributeMetrics(GROUPS, train_rates(targets))
    with torch.no_grad():
        metrics.update(model(test_images), test_targets)
    found = metrics.compute()
    return 100 * found["mean_average_precision"], 100 * found["mean_balanced_accuracy"]


shares = [1.0, 0.5, 0.2]
whole = scores(targets)
results = {
    name: torch.tensor(
        [whole] + [scores(targets.where(chance < share, value)) for share in shares[1:]]
    )
    for name, value in (("NaN", torch.nan), ('"no"', 0.0))
}
for name, values in results.items():
    for share, (precision, balanced) in zip(shares, values, strict=True):
        print(f"{100 * share:3.0f} % of labels, else {name:4} ", end="")
        print(f"average precision {precision:.1f}, balanced accuracy {balanced:.1f}")

# %%

figure, panels = plt.subplots(2, 1, figsize=(5.4, 5.4), sharex=True)
figure.set_label(
    "Average precision and balanced accuracy on test faces when 100, 50 and 20 "
    "percent of training labels are kept: one line with NaN for a missing label, one "
    "with no for a missing label."
)
for axes, column, title in zip(
    panels, (0, 1), ("average precision, %", "balanced accuracy, %"), strict=True
):
    for (name, values), style, marker in zip(
        results.items(), ("-", "--"), "os", strict=True
    ):
        axes.plot(
            range(len(shares)),
            values[:, column],
            style,
            marker=marker,
            label=f"{name} for a missing label",
        )
    axes.set(ylabel=title)
    axes.grid(axis="y")
panels[0].legend()
panels[1].set_xlabel("labels kept, %")
panels[1].set_xticks(range(len(shares)), [f"{100 * share:.0f}" for share in shares])
plt.show()

# %%
# Written as "no", missing labels make every attribute look rarer than it is, so the
# model says yes too seldom: balanced accuracy, which is one half for a model that never
# says yes, shows that most. With NaN there is less to learn from, but nothing wrong to
# learn.
#
# All this is for labels that are missing at random. Labels that are missing for a
# reason, say because nobody could decide, leave another, easier population behind, and
# NaN does not correct that.
