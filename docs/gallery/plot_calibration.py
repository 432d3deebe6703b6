"""
Can the probabilities be trusted?
=================================

A model is calibrated if, of all predictions of 80 %, about 80 % come true. A
reliability diagram shows it: predictions in bins, and for each bin the share that is
true. The expected calibration error is the mean distance from the diagonal, weighted by
how many predictions a bin has.
"""

import matplotlib.pyplot as plt
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from trained import tensors, trained

model, _, faces = trained()
(valid_images, valid_targets), (images, targets) = (
    tensors(faces, name) for name in ("valid", "test")
)
with torch.no_grad():
    valid_logits, logits = model(valid_images), model(images)


def reliability(
    probabilities: Tensor, truth: Tensor, num_bins: int = 10
) -> tuple[Tensor, Tensor, Tensor]:
    bins = (probabilities * num_bins).long().clamp(max=num_bins - 1).flatten()
    count = torch.bincount(bins, minlength=num_bins)
    predicted = torch.bincount(bins, probabilities.flatten(), num_bins) / count
    true = torch.bincount(bins, truth.flatten(), num_bins) / count
    return predicted, true, count


def calibration_error(probabilities: Tensor, truth: Tensor) -> float:
    predicted, true, count = reliability(probabilities, truth)
    return float(((predicted - true).abs() * count).nansum() / count.sum())


# %%
# The usual repair divides all logits by one number, the temperature, chosen on
# validation faces (Guo et al. 2017). The order of the predictions stays as it is, and
# so does every decision at one half.

candidates = torch.linspace(0.5, 3, 251)
losses = torch.stack(
    [
        binary_cross_entropy_with_logits(valid_logits / t, valid_targets)
        for t in candidates
    ]
)
temperature = float(candidates[losses.argmin()])
before, after = logits.sigmoid(), (logits / temperature).sigmoid()
errors = [
    100 * calibration_error(probabilities, targets) for probabilities in (before, after)
]
print(f"temperature {temperature:.2f}")
print(f"expected calibration error as trained: {errors[0]:.1f} points")
print(f"expected calibration error with the temperature: {errors[1]:.1f} points")
assert torch.equal(before > 0.5, after > 0.5)

# %%

figure, (curve, amount) = plt.subplots(
    2, 1, figsize=(5.4, 5.4), sharex=True, height_ratios=[3, 1]
)
figure.set_label(
    "Reliability diagram: the share of predictions that are true against the "
    "predicted probability, as trained and with a temperature, beside the diagonal "
    "of perfect calibration; below, how many predictions each bin holds."
)
curve.axline(
    (0, 0), slope=1, color="#7a828c", linewidth=1, label="perfectly calibrated"
)
for values, marker, name in (
    (before, "o", "as trained"),
    (after, "s", f"temperature {temperature:.2f}"),
):
    predicted, true, _ = reliability(values, targets)
    curve.plot(100 * predicted, 100 * true, marker=marker, markersize=4, label=name)
amount.bar(
    range(5, 105, 10), 100 * reliability(before, targets)[2] / targets.numel(), width=9
)
curve.set(ylabel="is true, %")
curve.legend(loc="upper left")
amount.set(
    xlabel="predicted probability, %", ylabel="share of\npredictions, %", xlim=(0, 100)
)
plt.show()

# %%
# The bins in the middle hold few predictions, so their points wander. This is the mean
# over all attributes: a rare attribute can be miscalibrated without being seen here,
# and a model for new pictures has to be checked on such pictures.
