"""
A new CGFF changes nothing, until it learns
===========================================

CGFF's output layer starts at zero, so CGFF is the identity when it is put into a model
that is already trained. Its predictions stay as they were. Whether it helps after some
more training is another question, and we look at both.
"""

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from trained import GROUPS, new_model, tensors, train_briefly, trained

from mtattn import CGFF, DWSLoss

faces = trained().faces
images, targets = tensors(faces, "train", size=32)
images, targets = images[:1200], targets[:1200]  # half of them, to save time
test_images, test_targets = tensors(faces, "test", size=32)

model = new_model()
model.cgff = nn.Identity()
train_briefly(model, DWSLoss(GROUPS), images, targets, epochs=5)

# %%
# Now put a new CGFF in. Not one logit changes: this is a law, so it is asserted.


@torch.no_grad()
def logits_of(images: Tensor) -> Tensor:
    return model(images)


before = logits_of(test_images)
model.cgff = CGFF(model.heads.channels)
assert torch.equal(logits_of(test_images), before)

# %%
# Train on, with it and without it: the same start, the same faces in the same order.


def losses() -> tuple[float, float]:
    parts = ((images, targets), (test_images, test_targets))
    return tuple(
        float(binary_cross_entropy_with_logits(logits_of(x), y)) for x, y in parts
    )


start = {name: value.clone() for name, value in model.state_dict().items()}
measured = {}
for name in ("with CGFF", "without"):
    model.load_state_dict(start)
    model.cgff.requires_grad_(name == "with CGFF")
    history = [{"measured": losses()}]
    history += train_briefly(
        model,
        DWSLoss(GROUPS),
        images,
        targets,
        epochs=3,
        learning_rate=1e-3,
        measure=losses,
    )
    measured[name] = torch.tensor([epoch["measured"] for epoch in history])
    train, test = measured[name][-1]
    right = (logits_of(test_images) > 0) == (test_targets > 0.5)
    print(
        f"{name:9} loss {train:.4f} on training and {test:.4f} on test faces, ", end=""
    )
    print(f"accuracy {100 * right.float().mean():.2f} %")

# %%

figure, axes = plt.subplots()
figure.set_label(
    "Loss on training faces and on test faces over three more epochs, from one "
    "common start: a line for the model into which CGFF was put, and one for the "
    "same model trained on without it."
)
for name, color, marker in (("with CGFF", "C0", "o"), ("without", "C1", "s")):
    for part, style, values in zip(
        ("training", "test"), ("--", "-"), measured[name].T, strict=True
    ):
        axes.plot(
            values, style, color=color, marker=marker, label=f"{name}, {part} faces"
        )
axes.set(
    xlabel="epochs after CGFF was put in", ylabel="loss, nats a label", xticks=range(4)
)
axes.grid(axis="y")
figure.legend(loc="outside lower center", ncols=2)
plt.show()

# %%
# Both pairs of lines leave from the same points: that is what the start at zero gives.
# Where they end is one run on one small set of drawn faces, so it decides nothing about
# yours. Compare the test losses, not the training losses: a model with one more module
# can fit the training faces more closely.
