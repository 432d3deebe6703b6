"""The baseline that is hardest to beat: the recipes' backbone and training, with one linear layer in place of FAR-AMTN.

python benchmarks/linear_head.py celeba path/to/celeba --epochs 12 --seed 0 --output runs/linear
python benchmarks/linear_head.py lfwa path/to/lfwa --epochs 10 --seed 0 --output runs/linear-lfwa
"""

import json
from argparse import ArgumentParser
from pathlib import Path

import torch
from accelerate.utils import set_seed

from mtattn import DWSLoss
from mtattn.data import CELEBA_CROP, CELEBA_GROUPS, LFWA, LFWA_CROP, CelebA, image_transform, read_image
from mtattn.data.transforms import AUGMENTATIONS
from mtattn.metrics import AttributeMetrics, train_rates
from mtattn.models.backbones import build_backbone
from mtattn.recipes import taught_by
from mtattn.recipes.options import HeightAndWidth, at_least, share
from mtattn.training import evaluate, fit

parser = ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("data", choices=["celeba", "lfwa"])
parser.add_argument("root", type=Path)
parser.add_argument("--output", type=Path, required=True, help="a new folder; metrics.json is written there")
parser.add_argument("--backbone", default="resnet18", help="a timm model name")
parser.add_argument("--drop-stages", type=at_least(0), default=1, help="cut it as the recipes do")
parser.add_argument("--backbone-weights", type=Path)
parser.add_argument("--pretrained", action="store_true", help="fetch timm's pretrained weights of the backbone")
parser.add_argument("--image-size", type=at_least(1), nargs="+", action=HeightAndWidth, default=[64, 64])
parser.add_argument("--crop", type=share, nargs="+", action=HeightAndWidth, help="default: as the recipe")
parser.add_argument("--augment", default="light", choices=AUGMENTATIONS)
parser.add_argument("--teachers", nargs="+", help="trained models, as in the recipes")
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--batch-size", type=at_least(1), default=64)
parser.add_argument("--learning-rate", type=float, default=2e-3)
parser.add_argument("--trunk-factor", type=float, default=1.0)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--workers", type=int, default=1)
parser.add_argument("--mixed-precision", default="no", choices=["no", "bf16", "fp16"])


def recipes_crop(train: CelebA | LFWA) -> float:
    """Keep what examples/celeba.py and examples/lfwa.py keep."""
    if isinstance(train, CelebA):
        return CELEBA_CROP
    return LFWA_CROP if read_image(train.path(0)).width == 250 else LFWA_CROP * 250 / 180


if __name__ == "__main__":
    options = parser.parse_args()
    set_seed(options.seed)
    groups = CELEBA_GROUPS
    backbone = build_backbone(
        options.backbone,
        pretrained=options.pretrained,
        weights=options.backbone_weights,
        drop_stages=options.drop_stages,
    )
    linear = torch.nn.Linear(backbone.out_channels, len(groups.attributes))
    trunk = torch.nn.Sequential(backbone.trunk, backbone.shared)
    pool = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    model = torch.nn.Sequential(trunk, pool, linear).to(memory_format=torch.channels_last)
    data = {"celeba": CelebA, "lfwa": LFWA}[options.data]
    train, valid, test = (data(options.root, s, attributes=groups.attributes) for s in ("train", "valid", "test"))
    crop = options.crop or recipes_crop(train)
    image = {"size": options.image_size, "crop": crop, "mean": backbone.mean, "std": backbone.std}
    train.transform = image_transform(**image, augment=options.augment)
    valid.transform = test.transform = image_transform(**image)
    parts = ((trunk, options.trunk_factor), (linear, 1.0))
    optimizer = torch.optim.AdamW(
        [
            {
                "params": [p for p in part.parameters() if (p.ndim > 1) == decays],
                "lr": factor * options.learning_rate,
                "weight_decay": decay,
            }
            for part, factor in parts
            for decays, decay in ((True, 0.05), (False, 0.0))
        ]
    )
    metrics = AttributeMetrics(groups, train_rates(train.targets))
    loss = DWSLoss(groups, rule="equal")  # the plain mean binary cross-entropy
    run = {"epochs": options.epochs, "batch_size": options.batch_size, "workers": options.workers, "seed": options.seed}
    run["mixed_precision"] = options.mixed_precision
    taught = taught_by(options.teachers, train)
    options.output.mkdir(parents=True)  # only now, when everything else is known to be right
    fit(model, loss, optimizer, metrics, taught, valid, output=options.output, **run)
    valid_scores, scores = (evaluate(model, data, metrics, workers=options.workers) for data in (valid, test))
    (options.output / "metrics.json").write_text(json.dumps({"test": scores, "valid": valid_scores}, indent=2))
    print({name: round(score, 4) for name, score in scores.items() if isinstance(score, float)})
