"""What an installed wheel must do without any extra: import lightly, run every module, and predict a folder."""

import subprocess
import sys
import tempfile
from pathlib import Path

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

from PIL import Image  # noqa: E402


def command(*arguments: str | Path) -> str:
    """Run the command that the wheel installed, beside this Python."""
    return subprocess.run(
        [Path(sys.executable).with_name("mtattn"), *arguments], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


assert "serve" in command("--help")
assert mtattn.__version__ in command("--version")
with tempfile.TemporaryDirectory() as place:
    photos, file = Path(place, "photos"), Path(place, "attributes.csv")
    photos.mkdir()
    Image.new("RGB", (80, 100)).save(photos / "ann.png")
    model.config["image"] |= {"size": [64, 64]}
    model.save_pretrained(Path(place, "model"))
    assert "1 of 1 pictures" in command("predict", Path(place, "model"), photos, "--csv", file)
    assert file.read_text().startswith("image,Eyeglasses,Smiling,Big_Lips")
print(f"mtattn {mtattn.__file__} works on torch {torch.__version__}")
