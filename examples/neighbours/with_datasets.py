"""Train on rows of Hugging Face datasets: pip install datasets.

python examples/neighbours/with_datasets.py
"""

import torch
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage
from torch.utils.data import DataLoader, default_collate

from mtattn import FARAMTN, DWSLoss
from mtattn.data import CELEBA_GROUPS, AttributeRows, image_transform, read_row

groups = CELEBA_GROUPS
model, loss = FARAMTN.from_timm("resnet18", groups, drop_stages=2), DWSLoss(groups)
model.config["image"]["size"] = [64, 64]
transform = image_transform(**model.config["image"], augment=True)

# Yours: rows = datasets.load_dataset("flwrlabs/celeba", split="train"). These have its columns, and noise for faces.
drawn = torch.rand(32, 40, generator=torch.Generator().manual_seed(0)) < 0.3
columns = {name: drawn[:, index].tolist() for index, name in enumerate(groups.attributes)}
faces = [PILImage.effect_noise((178, 218), 50).convert("RGB") for _ in range(32)]
kinds = Features({"image": Image(), "celeb_id": Value("int64")} | {name: Value("bool") for name in columns})
rows = Dataset.from_dict({"image": faces, "celeb_id": [*range(32)]} | columns, features=kinds)

# A data set that lies on your disk: a data set of torch, for mtattn.training.fit or any loader.
data = AttributeRows(rows, groups.attributes, transform=transform)
loader = DataLoader(data, batch_size=8, shuffle=True)
print("share of positives:", round(data.targets.nanmean().item(), 2))

# A stream, as load_dataset(..., streaming=True) gives it: read the rows where batches are made.
stream = rows.to_iterable_dataset().shuffle(seed=0, buffer_size=16)


def batch_of(rows: list[dict]) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(default_collate([read_row(row, groups.attributes, transform=transform) for row in rows]))


streamed = DataLoader(stream, batch_size=8, collate_fn=batch_of)

optimizer = torch.optim.AdamW(model.parameter_groups(1e-3, trunk_factor=1.0))
for epoch, batches in enumerate([loader, streamed]):
    for images, targets in batches:
        loss(model(images), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    loss.step()
    print(f"epoch {epoch}: mean loss of each group", loss.history.latest.tolist())
