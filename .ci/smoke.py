"""What an installed wheel must do without any extra: import lightly, and run every module."""

import sys

import mtattn

heavy = [name for name in ("timm", "torchvision", "torchmetrics", "PIL") if name in sys.modules]
assert heavy == [], heavy
assert "site-packages" in mtattn.__file__, mtattn.__file__

import torch  # noqa: E402

from mtattn import FARAMTN, AttributeGroups, DWSLoss  # noqa: E402
from mtattn.data import CELEBA_GROUPS  # noqa: E402

groups = AttributeGroups({"eyes": ["Eyeglasses"], "mouth": ["Smiling", "Big_Lips"]})
for model in (
    FARAMTN(torch.nn.Conv2d(3, 32, 8, stride=8), 32, groups, spatial=True),
    FARAMTN.from_timm("resnet18", groups),
):
    images, loss = torch.rand(4, 3, 64, 64), DWSLoss(groups)
    value = loss(model(images), torch.ones(4, 3))
    value.backward()
    loss.step()
    maps = model.eval().attribute_maps(images)
    torch.testing.assert_close(maps.mean((-2, -1)), model(images), rtol=1e-4, atol=1e-5)
assert len(CELEBA_GROUPS.attributes) == 40
print(f"mtattn {mtattn.__file__} works on torch {torch.__version__}")
