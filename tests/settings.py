"""The models that several test files build, and what they do to them."""

import json

import torch
from torch import nn

from mtattn import FARAMTN, AttributeGroups

GROUPS = AttributeGroups({"nose": ["Big_Nose"], "eyes": ["Narrow_Eyes", "Eyeglasses", "Bags"], "chin": ["Goatee"]})
EIGHT = AttributeGroups({f"group {g}": [f"attribute {g}.{a}" for a in range(5)] for g in range(8)})
VIT = "vit_tiny_patch16_224"
OPTIONS = {VIT: {"img_size": 64}}
TINY = {"layers": [1, 1, 1, 2], "channels": [8, 16, 16, 32]}
CUT = ["resnet18", "resnet50", "convnext_atto", "mobilenetv3_small_100", "tf_efficientnet_lite0"]
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def perturbed(module):
    """Every number away from its start: timm starts last norms at zero, which would hide a whole block."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var"):
                tensor.add_(torch.rand_like(tensor))
            elif tensor.is_floating_point():
                fan_in = tensor[0].numel() if tensor.ndim > 1 else 100
                tensor.add_(0.5 * torch.randn_like(tensor) / max(fan_in, 10) ** 0.5)
    return module


def small(groups=GROUPS, **options):
    trunk = nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.BatchNorm2d(16), nn.ReLU())
    return FARAMTN(trunk, 16, groups, **options)


def tiny(groups=GROUPS, **options):
    """On a timm backbone that is made in no time."""
    return FARAMTN.from_timm("resnet18", groups, backbone_options=TINY, **options)


def built(name, groups=GROUPS, **options):
    return FARAMTN.from_timm(name, groups, backbone_options=OPTIONS.get(name), **options)


def edit(path, change):
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
