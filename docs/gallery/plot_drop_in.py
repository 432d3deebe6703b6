"""
A new CGFF changes nothing, until it learns
===========================================

CGFF's output layer starts at zero, so CGFF is the identity when it is put into a model that is already trained. Its
predictions stay as they were. Whether it helps after some more training is another question, and we look at both.
"""

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from trained import GROUPS, new_model, tensors, train_briefly, trained

from mtattn import CGFF, DWSLoss

faces = trained().faces
images, targets = tensors(faces, "train", size=32)
test_images, test_targets = tensors(faces, "test", size=32)

model = new_model()
model.cgff = nn.Identity()
train_briefly(model, DWSLoss(GROUPS), images, targets, epochs=8)

# %%
# Now put a new CGFF in. Not one logit changes: this is a law, so it is asserted.


@torch.no_grad()
def logits_of(model: nn.Module) -> Tensor:
    return model(test_images)


before = logits_of(model)
model.cgff = CGFF(model.heads.channels)
assert torch.equal(logits_of(model), before)

# %%
# Train on, with it and without it: the same start, the same faces in the same order.

bce = nn.functional.binary_cross_entropy_with_logits
start = {name: value.clone() for name, value in model.state_dict().items()}
losses = {}
for name in ("with CGFF", "without"):
    model.load_state_dict(start)
    model.cgff.requires_grad_(name == "with CGFF")
    losses[name] = [float(bce(before, test_targets))]
    for _ in range(6):
        train_briefly(model, DWSLoss(GROUPS), images, targets, epochs=1, learning_rate=5e-4)
        losses[name].append(float(bce(logits_of(model), test_targets)))
    accuracy = float(((logits_of(model) > 0) == (test_targets > 0.5)).float().mean())
    print(f"{name:10} test loss {losses[name][-1]:.4f}, accuracy {100 * accuracy:.2f} %")

# %%

figure, axes = plt.subplots()
figure.set_label(
    "Test loss over six more epochs, from one common start: a line for the model into which CGFF was put, and one for "
    "the same model trained on without it."
)
for (name, values), style, marker in zip(losses.items(), ("-", "--"), "os", strict=True):
    axes.plot(values, style, marker=marker, label=name)
axes.set(xlabel="epochs after CGFF was put in", ylabel="test loss, nats a label")
axes.grid(axis="y")
axes.legend()
plt.show()
