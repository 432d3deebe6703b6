"""
Accuracy flatters a model on rare attributes
============================================

An attribute that one face in fifty has is predicted rightly for 98 % of the faces by
always saying no. So accuracy has to stand beside the majority baseline, and beside a
score that this baseline cannot win.
"""

import matplotlib.pyplot as plt
import torch
from trained import GROUPS, split, tensors, trained

from mtattn.metrics import AttributeMetrics, train_rates

model, _, faces = trained()
images, targets = tensors(faces, "test")
metrics = AttributeMetrics(GROUPS, train_rates(split(faces, "train").targets))
with torch.no_grad():
    metrics.update(model(images), targets)
scores = metrics.compute()

# %%
# The ten rarest attributes, with the accuracy of saying no to every face, that of the
# model, and its balanced accuracy: the mean of the shares of positives and of negatives
# that it finds, one half for any constant answer.

share = targets.mean(0)
rare = share.argsort()[:10].tolist()
print("in %                   faces  always no  accuracy  balanced")
for index in rare:
    name = GROUPS.attributes[index]
    row = scores["attributes"][name]
    have, right, balanced = share[index], row["accuracy"], row["balanced_accuracy"]
    print(f"{name:22}{100 * have:6.1f}{100 - 100 * have:11.1f}", end="")
    print(f"{100 * right:10.1f}{100 * balanced:10.1f}")
keys = ("majority_accuracy", "mean_accuracy", "mean_balanced_accuracy")
majority, *mean = (100 * scores[key] for key in keys)
print(f"mean of all {len(share)}: majority class {majority:.1f}, ", end="")
print("accuracy {:.1f}, balanced {:.1f}".format(*mean))

# %%

rates = 100 * share
accuracy, balanced = (
    torch.tensor([100 * scores["attributes"][name][key] for name in GROUPS.attributes])
    for key in ("accuracy", "balanced_accuracy")
)
figure, axes = plt.subplots(figsize=(5.4, 4.2))
figure.set_label(
    "A pair of points an attribute: accuracy and balanced accuracy against the share "
    "of faces that have it. The accuracy of rare attributes is close to the line of "
    "always saying no; their balanced accuracy is far lower."
)
line = torch.linspace(0, 100, 101)
axes.plot(
    line,
    torch.maximum(line, 100 - line),
    color="#7a828c",
    linewidth=1,
    label="majority class, accuracy",
)
axes.vlines(rates, balanced, accuracy, color="#d8dee4", linewidth=1, zorder=0)
axes.scatter(rates, accuracy, s=18, color="C0", label="accuracy")
axes.scatter(rates, balanced, s=18, color="C1", marker="s", label="balanced accuracy")
axes.axhline(
    50, color="#7a828c", linewidth=1, linestyle=":", label="constant answer, balanced"
)
axes.set(
    xlabel="faces that have the attribute, %",
    ylabel="score on test faces, %",
    xlim=(0, 100),
    ylim=(40, 101),
)
figure.legend(loc="outside lower center", ncols=2)
plt.show()

# %%
# Balanced accuracy is low for rare attributes because the model answers at one half: it
# says yes only when it is more likely than not. For a rare attribute choose the
# threshold on validation data, or weigh positives with the ``pos_weight`` of
# :class:`~mtattn.DWSLoss`.
