"""FARAMTN's training step with attributes of several kinds against one with as many columns that are all binary."""

import torch
from common import Bench, Call, Spread, Variant, training_step

from mtattn import FARAMTN, AttributeGroups, Categorical, DWSLoss, Number, Ordinal

NUM_GROUPS = 8
MIXED = AttributeGroups(
    {
        f"group {g}": [
            f"binary {g}",
            Categorical(f"class {g}", ("a", "b", "c")),
            Ordinal(f"level {g}", ("low", "middle", "high")),
            Number(f"number {g}", mean=0, std=1),
        ]
        for g in range(NUM_GROUPS)
    }
)
BINARY = MIXED.columns  # as many columns, each an attribute


def run(bench: Bench) -> None:
    batch, side, name = (128, 224, "resnet50") if bench.on_gpu else (16, 96, "resnet18")
    images = bench.tensor(batch, 3, side, side)
    targets = {
        groups: torch.randint(0, 2, (batch, len(groups.attributes)), device=bench.device).float()
        for groups in (MIXED, BINARY)
    }

    def step(groups: AttributeGroups, variant: Variant) -> Call:
        model, loss = bench.put(FARAMTN.from_timm(name, groups)), bench.put(DWSLoss(groups))
        labels = targets[groups]
        return training_step(
            lambda images: loss(model(images), labels), [images], list(model.parameters()), variant=variant
        )

    for variant in bench.variants_of_a_network:
        bench.compare(
            f"Training step of a {name} with {len(BINARY.attributes)} columns in {NUM_GROUPS} groups",
            {"attributes of four kinds": step(MIXED, variant), "all binary": step(BINARY, variant)},
            sizes={"batch": batch, "image": side},
            variant=variant,
            facts=_added,
            blocks=min(bench.blocks, 9),
        )


def _added(seconds: dict[str, list[float]]) -> dict[str, float]:
    """How much longer the step takes, in percent, block by block."""
    pairs = zip(seconds["attributes of four kinds"], seconds["all binary"], strict=True)
    added = Spread.of([100 * (mixed / binary - 1) for mixed, binary in pairs])
    return {"added_percent": added.median, "low": added.low, "high": added.high}
