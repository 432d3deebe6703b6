"""The smaller studies in which the trunk is trained too; each row's own learning rate is searched.

python benchmarks/study/finetune.py --root path/to/lfwa --weights efficientnet-lite0-57934424.pth
python benchmarks/study/finetune.py --root path/to/lfwa --from-scratch
"""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import torch
from features import Source, load
from finished import Runs
from rows import BY_NAME, FROM_SCRATCH, SEARCH_SEEDS, TUNED, TUNED_SEEDS, Plan
from run import HERE, Job, describe
from torch import Tensor, nn
from training import Settings, run

from mtattn.models.backbones import build_backbone


class Trunk(nn.Module):
    """A backbone up to the block that FARAMTN shares, for bytes as they are kept."""

    def __init__(self, source: Source, *, mixed: bool) -> None:
        super().__init__()
        backbone = build_backbone(source.backbone, weights=source.weights)
        self.trunk, self.mixed = backbone.trunk, mixed
        self.register_buffer("mean", 255 * torch.tensor(backbone.mean)[:, None, None])
        self.register_buffer("std", 255 * torch.tensor(backbone.std)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        scaled = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.mixed):
            maps: Tensor = self.trunk(scaled)
        return maps.float()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="LFWA's folder")
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--weights", type=Path, help=f"a checkpoint of {TUNED.backbone}, to tune")
    start.add_argument("--from-scratch", action="store_true", help=f"train a {FROM_SCRATCH.backbone} from the start")
    parser.add_argument("--cache", type=Path, default=Path("runs/study"), help="the folder for the small images")
    parser.add_argument("--results", type=Path, help="the file of finished runs; default: in results/ beside me")
    parser.add_argument("--rows", nargs="+", choices=list(BY_NAME), metavar="ROW", help="only these rows")
    parser.add_argument("--seeds", type=int, default=TUNED_SEEDS)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    plan = FROM_SCRATCH if options.from_scratch else TUNED
    source = Source("lfwa", options.root, options.cache, plan.backbone, options.weights, plan.size, images=True)
    features, runs = load(source), Runs(options.results or HERE / "results" / f"{plan.results}.jsonl")
    rows = options.rows or plan.rows

    def do(name: str, seed: int, settings: Settings, split: str) -> None:
        if runs.lacks(Job(source, name, seed, settings, split)):
            trunk = Trunk(source, mixed=plan.mixed)
            runs.add(record := run(BY_NAME[name], features, seed, settings, split=split, trunk=trunk))
            print(describe(record), flush=True)

    for name in rows:
        for rate in plan.learning_rates:
            do(name, SEARCH_SEEDS[0], settings_of(plan, rate, plan.search_epochs), "valid")
    for seed in range(options.seeds):
        for name in rows:
            do(name, seed, settings_of(plan, runs.best(name)[0], plan.epochs), "test")


def settings_of(plan: Plan, rate: float, epochs: int) -> Settings:
    factor = plan.trunk_rate / rate if plan.trunk_rate else 1.0
    return Settings(rate, weight_decay=plan.weight_decay, epochs=epochs, trunk_factor=factor)


if __name__ == "__main__":
    main()
