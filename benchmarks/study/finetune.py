"""The smaller study in which the trunk is trained too, at one rate for all; each row's own rate is searched.

python benchmarks/study/finetune.py --root path/to/lfwa --weights efficientnet-lite0-57934424.pth
"""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import torch
from features import Source, load
from finished import Runs
from rows import BY_NAME, OURS, SEARCH_SEEDS
from run import HERE, Job, describe
from torch import Tensor, nn
from training import Settings, run

from mtattn.models.backbones import build_backbone

ROWS = ("linear", OURS, "no-place")
LEARNING_RATES = (0.001, 0.006, 0.036, 0.216)  # of the head
TRUNK_RATE = 5e-4
SEARCH_EPOCHS, EPOCHS, SEEDS = 2, 3, 5


class Trunk(nn.Module):
    """A backbone up to the block that FARAMTN shares, for bytes as they are kept."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        backbone = build_backbone(source.backbone, weights=source.weights)
        self.trunk = backbone.trunk
        self.register_buffer("mean", 255 * torch.tensor(backbone.mean)[:, None, None])
        self.register_buffer("std", 255 * torch.tensor(backbone.std)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        scaled = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        maps: Tensor = self.trunk(scaled)
        return maps


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="LFWA's folder")
    parser.add_argument("--weights", type=Path, help="the backbone's checkpoint; without one it starts at random")
    parser.add_argument("--backbone", default=Source.backbone, help="a timm model name")
    parser.add_argument("--size", type=int, default=96, help="height and width of the images, in pixels")
    parser.add_argument("--cache", type=Path, default=Path("runs/study"), help="the folder for the small images")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "lfwa-finetuned.jsonl")
    parser.add_argument("--rows", nargs="+", choices=list(BY_NAME), default=ROWS, metavar="ROW")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    source = Source("lfwa", options.root, options.cache, options.backbone, options.weights, options.size, images=True)
    features, runs = load(source), Runs(options.results)

    def do(name: str, seed: int, settings: Settings, split: str) -> None:
        if runs.lacks(Job(source, name, seed, settings, split)):
            record = run(BY_NAME[name], features, seed, settings, split=split, trunk=Trunk(source))
            runs.add(record)
            print(describe(record), flush=True)

    for name in options.rows:
        for rate in LEARNING_RATES:
            do(name, SEARCH_SEEDS[0], at_rate(rate, SEARCH_EPOCHS), "valid")
    for seed in range(options.seeds):
        for name in options.rows:
            do(name, seed, at_rate(runs.best(name)[0], EPOCHS), "test")


def at_rate(rate: float, epochs: int) -> Settings:
    return Settings(rate, weight_decay=0.05, epochs=epochs, trunk_factor=TRUNK_RATE / rate)


if __name__ == "__main__":
    main()
