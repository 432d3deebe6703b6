"""From a table to predictions, with attributes of several kinds: pip install pandas.

python examples/kinds.py labels.csv photos photo.jpg
"""

import sys

import pandas as pd
import torch

from mtattn import FARAMTN, AttributeGroups, Categorical, DWSLoss, Number, Ordinal
from mtattn.data import AttributeImages, image_transform, read_image
from mtattn.metrics import AttributeMetrics, Baselines
from mtattn.training import fit

labels, photos, photo = sys.argv[1:]
groups = AttributeGroups(
    {
        "mouth": ["Smiling", "Beard", Categorical("expression", ("happy", "sad", "neutral"))],
        "head": ["Glasses", "Hat", Ordinal("hair", ("short", "middle", "long")), Number("age", unit="years")],
    }
)
transform = image_transform((64, 64), mean=[0.5] * 3, std=[0.5] * 3)
table = pd.read_csv(labels).sample(frac=1, random_state=0)  # columns: image, and one an attribute
options = {"transform": transform, "zero": "no"}  # a 0 in the table says no, not that nobody knows
train, valid = (
    AttributeImages(photos, list(rows["image"]), rows[[*groups.attributes]].values.tolist(), groups.kinds, **options)
    for rows in (table[len(table) // 5 :], table[: len(table) // 5])
)
groups = groups.fitted(train.targets)  # mean and standard deviation of the ages
model = FARAMTN.from_timm("resnet18", groups, drop_stages=1)
optimizer = torch.optim.AdamW(model.parameter_groups(1e-3, trunk_factor=1))
metrics = AttributeMetrics(groups, Baselines(groups, train), within={"age": 5})
fit(model, DWSLoss(groups), optimizer, metrics, train, valid, output="runs/kinds", epochs=5, batch_size=16)
with torch.no_grad():
    for name, (text,) in groups.texts(model.eval()(transform(read_image(photo))[None])).items():
        print(f"{name}: {text}")
