"""mtattn's losses with torchjd, both ways: pip install "torchjd[quadprog-projector]".

python examples/neighbours/with_torchjd.py
"""

import torch
from torchjd.aggregation import UPGrad
from torchjd.autojac import backward, jac_to_grad
from torchjd.scalarization import UW

from mtattn import FARAMTN, AttributeGroups, DWSLoss, DynamicWeighting

groups = AttributeGroups({"eyes": ["Eyeglasses", "Narrow_Eyes"], "mouth": ["Smiling", "Big_Lips", "Mustache"]})
generator = torch.Generator().manual_seed(0)
images, targets = torch.rand(8, 3, 64, 64, generator=generator), torch.rand(8, 5, generator=generator).round()
model, loss = FARAMTN.from_timm("resnet18", groups, drop_stages=2), DWSLoss(groups)
optimizer = torch.optim.AdamW(model.parameter_groups(1e-3, trunk_factor=1.0))


def descend() -> None:
    optimizer.step()
    optimizer.zero_grad()


# [ours in theirs] DynamicWeighting where a loop of torchjd has a scalarizer: losses in one tensor, step() at the end.
scalarizer = DynamicWeighting(len(groups))
for _ in range(2):
    losses = loss.group_losses(model(images), targets)
    scalarizer(losses).backward()
    descend()
    scalarizer.step()
print("DynamicWeighting:", scalarizer.weights.tolist())
# [theirs in ours] A scalarizer of torchjd on the losses of the groups. UW learns, so an optimizer gets its parameters.
scalarizer = UW(len(groups))
optimizer.add_param_group({"params": scalarizer.parameters(), "lr": 0.025})
for _ in range(2):
    losses = loss.group_losses(model(images), targets)  # NaN for a group without a label in the batch
    scalarizer(losses).backward()
    descend()
print("UW:", scalarizer.log_var.exp().reciprocal().tolist())
# [aggregators] Jacobian descent: a gradient for each group, joined so that no group is set back.
aggregator = UPGrad()
parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
for _ in range(2):
    logits = model(images)
    loss(logits, targets)  # only remembers: the history goes on as in plain training
    backward(loss.group_losses(logits, targets))
    jac_to_grad(parameters, aggregator)
    descend()
    loss.step()
    aggregator.pref_vector = loss.weights / len(groups)  # DWS says which groups to prefer
print("UPGrad, preferring:", aggregator.pref_vector.tolist())
# [end]
