"""The baseline that is hardest to beat: the recipes' backbone and training, with one linear layer in place of FAR-AMTN.

python benchmarks/linear_head.py celeba path/to/celeba --epochs 12 --seed 0 --output runs/linear
"""

import json
from argparse import ArgumentParser
from pathlib import Path

import timm
import torch
from accelerate.utils import set_seed

from mtattn import DWSLoss
from mtattn.data import CELEBA_GROUPS, LFWA, CelebA, image_transform
from mtattn.metrics import AttributeMetrics, train_rates
from mtattn.models.checkpoints import load_backbone_weights
from mtattn.training import evaluate, fit

parser = ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("data", choices=["celeba", "lfwa"])
parser.add_argument("root", type=Path)
parser.add_argument("--output", type=Path, required=True, help="a new folder; metrics.json is written there")
parser.add_argument("--backbone", default="resnet18.layer3", help="resnet18.layer3: cut as the recipes cut it")
parser.add_argument("--backbone-weights", type=Path)
parser.add_argument("--pretrained", action="store_true", help="fetch timm's pretrained weights of the backbone")
parser.add_argument("--image-size", type=int, default=64)
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--learning-rate", type=float, default=2e-3)
parser.add_argument("--trunk-factor", type=float, default=1.0)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--workers", type=int, default=1)
parser.add_argument("--mixed-precision", default="no", choices=["no", "bf16", "fp16"])


def build(name: str, num_attributes: int, weights: Path | None, *, pretrained: bool = False) -> torch.nn.Module:
    model = timm.create_model(name.partition(".")[0], pretrained=pretrained, num_classes=0)
    if weights is not None:
        load_backbone_weights(model, weights)
    if name.endswith(".layer3"):
        model.layer4, model.num_features = torch.nn.Identity(), 256
    model.reset_classifier(num_attributes)
    return model.to(memory_format=torch.channels_last)


if __name__ == "__main__":
    options = parser.parse_args()
    options.output.mkdir(parents=True)
    set_seed(options.seed)
    groups, size = CELEBA_GROUPS, options.image_size
    model = build(options.backbone, len(groups.attributes), options.backbone_weights, pretrained=options.pretrained)
    image = {key: model.pretrained_cfg[key] for key in ("mean", "std")}
    train, valid, test = (
        {"celeba": CelebA, "lfwa": LFWA}[options.data](
            options.root,
            split,
            attributes=groups.attributes,
            transform=image_transform(size, **image, augment=split == "train"),
        )
        for split in ("train", "valid", "test")
    )
    head, backbone = [], []
    for name, parameter in model.named_parameters():
        (head if name.startswith(("fc.", "classifier.")) else backbone).append(parameter)
    parts = ((backbone, options.trunk_factor), (head, 1.0))
    optimizer = torch.optim.AdamW(
        [
            {
                "params": [p for p in part if (p.ndim > 1) == decays],
                "lr": factor * options.learning_rate,
                "weight_decay": decay,
            }
            for part, factor in parts
            for decays, decay in ((True, 0.05), (False, 0.0))
        ]
    )
    metrics = AttributeMetrics(groups, train_rates(train.targets))
    loss = DWSLoss(groups, rule="equal")  # the plain mean binary cross-entropy
    run = {"epochs": options.epochs, "batch_size": 64, "workers": options.workers, "seed": options.seed}
    run["mixed_precision"] = options.mixed_precision
    fit(model, loss, optimizer, metrics, train, valid, output=options.output, **run)
    scores = evaluate(model, test, metrics, workers=options.workers)
    (options.output / "metrics.json").write_text(json.dumps({"test": scores}, indent=2))
    print({name: round(score, 4) for name, score in scores.items() if isinstance(score, float)})
