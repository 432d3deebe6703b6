"""
How do the rules weigh the groups?
==================================

Some groups of attributes learn fast, others slowly. A rule looks at the groups' losses
after each epoch and sets the weights of the next. Here the same small network is
trained once under each rule that :class:`~mtattn.DWSLoss` knows.
"""

import matplotlib.pyplot as plt
import torch
from trained import GROUPS, new_model, tensors, train_briefly, trained

from mtattn import DWSLoss

EPOCHS = 5
rules = ["equal", "dws", "dwa", "trend", "random"]
images, targets = tensors(trained().faces, "train", size=32)
images, targets = images[:1200], targets[:1200]  # half of them, to save time
weights, loss_left = {}, {}
for rule in rules:
    history = train_briefly(
        new_model(), DWSLoss(GROUPS, rule=rule), images, targets, epochs=EPOCHS
    )
    weights[rule] = torch.stack([epoch["weights"] for epoch in history])
    loss_left[rule] = torch.stack([epoch["loss_left"] for epoch in history])

# %%
# Whatever the rule, the weights average to 1. Under "dws", an epoch's weights are the
# fractions of the first loss that were left after the epoch before, scaled.

for rule in rules:
    assert torch.allclose(weights[rule].mean(1), torch.ones(EPOCHS))
left = loss_left["dws"][:-1]
assert torch.allclose(weights["dws"][1:], left / left.mean(1, keepdim=True), atol=1e-5)

for rule in rules:
    low, high, left = weights[rule].min(), weights[rule].max(), loss_left[rule][-1]
    print(f"{rule:7} weights {low:.2f} to {high:.2f}, ", end="")
    print(f"loss left in the end {left.min():.2f} to {left.max():.2f}")

# %%

figure, grid = plt.subplots(len(rules), 2, figsize=(5.6, 7.6), sharex=True)
figure.set_label(
    "Five rows, a rule each: equal, dws, dwa, trend, random. On the left the weight "
    "of each of the eight groups over the epochs, on the right the fraction of its "
    "first loss that is left."
)
for (left, right), rule in zip(grid, rules, strict=True):
    for group in range(len(GROUPS)):
        style = {"color": f"C{group}", "linestyle": "-" if group < 4 else "--"}
        left.plot(range(1, EPOCHS + 1), weights[rule][:, group], **style)
        right.plot(range(1, EPOCHS + 1), loss_left[rule][:, group], **style)
    left.set(ylabel=rule, ylim=(0, max(2.5, 1.05 * float(weights[rule].max()))))
    right.set_ylim(0, 1.05)
grid[0, 0].set_title("weight of the group's loss")
grid[0, 1].set_title("fraction of the first loss left")
grid[-1, 0].set(xlabel="epoch", xticks=range(1, EPOCHS + 1))
grid[-1, 1].set_xlabel("epoch")
figure.legend(grid[0, 0].get_lines(), list(GROUPS), loc="outside lower center", ncols=4)
plt.show()

# %%
# With "random", the weights that are drawn are the last of each epoch: that rule draws
# again at every step. It is the control: a rule that does not beat random weights has
# not helped. One run of a small network on easy drawings cannot tell which rule is
# best, only what each does.
