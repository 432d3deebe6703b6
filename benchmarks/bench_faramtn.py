"""FARAMTN's resnet50 at 224 pixels against timm's bare resnet50, and against a last stage for each group."""

import copy

import timm
import torch
from common import Bench, Call, Spread, Variant, count, inference, training_step
from torch import Tensor, nn

from mtattn import FARAMTN, AttributeGroups, DWSLoss
from mtattn.data import CELEBA_GROUPS

SIDE = 224
ATTRIBUTES = CELEBA_GROUPS.attributes
GROUPINGS = {
    "8 groups": CELEBA_GROUPS,
    "1 group": AttributeGroups({"all": ATTRIBUTES}),
    "40 groups": AttributeGroups({name: [name] for name in ATTRIBUTES}),
}
OURS = "FARAMTN, 8 groups"
BARE = "timm's resnet50 with 40 logits"
BRANCHES = "the same with a conv5 for each of 8 groups"


class StageForEachGroup(nn.Module):
    """The classic multi-task network: conv1 to conv4 shared, then a whole conv5 and a linear layer for each group."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        stage, network.layer4 = network.layer4, nn.Identity()
        self.trunk = network
        self.stages = nn.ModuleList(copy.deepcopy(stage) for _ in CELEBA_GROUPS)
        self.heads = nn.ModuleList(nn.Linear(network.num_features, size) for size in CELEBA_GROUPS.sizes)

    def forward(self, images: Tensor) -> Tensor:
        shared = self.trunk.forward_features(images)
        branches = zip(self.stages, self.heads, strict=True)
        return torch.cat([head(stage(shared).mean((-2, -1))) for stage, head in branches], 1)


def run(bench: Bench) -> None:
    batch = 64 if bench.on_gpu else 16  # five models, each with the memory of its CUDA graph
    images = bench.tensor(batch, 3, SIDE, SIDE)
    targets = torch.randint(0, 2, (batch, len(ATTRIBUTES)), device=bench.device).float()
    models: dict[str, tuple[nn.Module, nn.Module]] = {
        f"FARAMTN, {name}": (bench.put(FARAMTN.from_timm("resnet50", groups)), bench.put(DWSLoss(groups)))
        for name, groups in GROUPINGS.items()
    }
    plain = nn.BCEWithLogitsLoss()
    models[BARE] = (bench.put(timm.create_model("resnet50", num_classes=len(ATTRIBUTES))), plain)
    models[BRANCHES] = (bench.put(StageForEachGroup(timm.create_model("resnet50", num_classes=0))), plain)
    parameters = {name: count(model) for name, (model, _) in models.items()}
    shared = {"sizes": {"batch": batch, "image": SIDE}, "parameters": parameters, "blocks": min(bench.blocks, 9)}
    for variant in bench.variants_of_a_network:
        chosen = {name: models[name] for name in (OURS, BARE)} if variant.compiled else models
        bench.compare(
            "Training step of a resnet50",
            {name: _step(model, loss, images, targets, variant) for name, (model, loss) in chosen.items()},
            variant=variant,
            facts=_growth,
            **shared,
        )
        for model, _ in models.values():
            model.eval()
        bench.compare(
            "Inference of a resnet50",
            {name: inference(model, [images], variant=variant) for name, (model, _) in chosen.items()},
            variant=variant,
            **shared,
        )
        for model, _ in models.values():
            model.train()


def _step(model: nn.Module, loss: nn.Module, images: Tensor, targets: Tensor, variant: Variant) -> Call:
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=1e-6, momentum=0.9)
    return training_step(
        lambda images: loss(model(images), targets), [images], parameters, variant=variant, optimizer=optimizer
    )


def _growth(seconds: dict[str, list[float]]) -> dict[str, float]:
    """How much longer a step takes with 40 groups than with one, block by block."""
    if "FARAMTN, 40 groups" not in seconds:
        return {}
    pairs = zip(seconds["FARAMTN, 40 groups"], seconds["FARAMTN, 1 group"], strict=True)
    growth = Spread.of([many / one for many, one in pairs])
    return {"growth_from_1_to_40_groups": growth.median, "low": growth.low, "high": growth.high}
