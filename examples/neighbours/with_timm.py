"""timm's transforms and optimizers with FARAMTN; timm comes with mtattn.

python examples/neighbours/with_timm.py
"""

import torch
from PIL import Image
from timm.data import create_transform
from timm.optim import create_optimizer_v2

from mtattn import FARAMTN, DWSLoss
from mtattn.data import CELEBA_GROUPS

groups = CELEBA_GROUPS
model, loss = FARAMTN.from_timm("resnet18", groups, drop_stages=2), DWSLoss(groups)
colors = {key: model.config["image"][key] for key in ("mean", "std")}

# Faces fill the picture: timm's usual crop (scale from 0.08) would cut off hair and chin, so it is kept near the whole.
augment = create_transform((3, 64, 64), is_training=True, scale=(0.8, 1.0), ratio=(0.9, 1.1), **colors)
plain = create_transform((3, 64, 64), crop_pct=1.0, crop_mode="squash", **colors)  # squash: the whole picture

# parameter_groups brings rates and decay for trunk and new modules; a weight_decay given here would not reach them.
optimizer = create_optimizer_v2(model.parameter_groups(2e-3, trunk_factor=0.1, weight_decay=0.05), opt="lamb")

face = Image.effect_noise((178, 218), 50).convert("RGB")  # yours: CelebA(root, "train", transform=augment)
images = torch.stack([augment(face) for _ in range(8)])
targets = torch.randint(2, (8, 40), generator=torch.Generator().manual_seed(0)).float()
for _ in range(3):
    total = loss(model(images), targets)
    total.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(f"loss {total.item():.3f}")
print([(group["name"], group["lr"], group["weight_decay"]) for group in optimizer.param_groups])
print("measured on", tuple(plain(face)[None].shape))
