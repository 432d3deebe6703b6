"""Small models, saved by each release, that all later versions must load with equal outputs.

python tests/compatibility.py writes those of the version at hand into tests/saved; it changes none that are there.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from settings import perturbed
from torch import nn

from mtattn import FARAMTN, AttributeGroups, Categorical, Number, Ordinal
from mtattn._version import installed_version

SAVED = Path(__file__).parent / "saved"
GROUPS = AttributeGroups({"eyes": ["Eyeglasses"], "mouth": ["Smiling", "Big_Lips"]})
KINDS = AttributeGroups(
    {
        "mouth": ["Smiling", Categorical("expression", ("angry", "happy", "sad"))],
        "age": [Number("age", unit="years", mean=33, std=20), Ordinal("stage", ("child", "young", "old"))],
    }
)
BACKBONE = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8], "stem_type": "deep", "stem_width": 4}
SIZES = {"reduction": 2, "num_heads": 2, "key_channels": 4}


def own_parts():
    """The modules that are not in a folder, as they were when the model was saved."""
    return {"trunk": nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU()), "shared": nn.Conv2d(8, 16, 1)}


def timm_model(groups, **options):
    return FARAMTN.from_timm("resnet18", groups, backbone_options=BACKBONE, **SIZES, **options)


MODELS = {
    "timm": lambda: timm_model(GROUPS),
    "plain": lambda: timm_model(GROUPS, drop_stages=1, spatial=False),
    "kinds": lambda: timm_model(KINDS, coordinates=False),
    "own": lambda: FARAMTN(channels=8, groups=GROUPS, out_channels=16, fused_channels=8, **SIZES, **own_parts()),
    "bfloat16": lambda: timm_model(GROUPS).bfloat16(),
}


@torch.no_grad()
def write(folder: Path) -> None:
    """Save each model with images and what it computes from them."""
    for seed, (name, build) in enumerate(MODELS.items()):
        torch.manual_seed(seed)
        model = perturbed(build())
        model.save_pretrained(folder / name)
        (folder / name / "README.md").unlink()
        model, images = model.float().eval(), torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8)
        expected = {"images": images, "outputs": model(images / 255), "maps": model.attribute_maps(images / 255)}
        save_file(expected, folder / name / "expected.safetensors")


if __name__ == "__main__":
    place = SAVED / installed_version()
    if place.exists():
        raise SystemExit(f"{place} is there: what a release saved stays as it is.")
    write(place)
