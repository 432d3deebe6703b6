"""FARAMTN against LibMTL's multi-task architectures on the same backbone."""

import sys
import warnings
from types import ModuleType

import timm
import torch
from common import Bench, Call, Spread, count, inference, training_step
from torch import Tensor, nn

from mtattn import FARAMTN, DWSLoss
from mtattn.data import CELEBA_GROUPS

BATCH, SIDE = 64, 64
ARCHITECTURES = ("HPS", "MTAN", "MMoE", "Cross_stitch")  # HPS is its hard sharing
HARD_SHARING = "hard sharing: timm's resnet18 with 40 logits"


class FromLibMTL(nn.Module):
    """One of LibMTL's architectures, its tasks our groups, its logits in attribute order."""

    def __init__(self, name: str, device: torch.device) -> None:
        super().__init__()
        # LibMTL 1.1.5 imports this from where torchvision had it before 0.12
        stand_in = ModuleType("torchvision.models.utils")
        stand_in.load_state_dict_from_url = torch.hub.load_state_dict_from_url  # type: ignore[attr-defined]
        sys.modules.setdefault("torchvision.models.utils", stand_in)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import LibMTL.architecture as architectures  # noqa: PLC0415
            from LibMTL.model import resnet18  # noqa: PLC0415

        def decoder(num_logits: int) -> nn.Module:
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_logits))

        sizes = dict(zip(CELEBA_GROUPS, CELEBA_GROUPS.sizes, strict=True))
        self.model = getattr(architectures, name)(
            list(CELEBA_GROUPS),
            lambda: resnet18(pretrained=False),
            nn.ModuleDict({group: decoder(size) for group, size in sizes.items()}),
            rep_grad=False,
            multi_input=False,
            device=device,
            img_size=[3, SIDE, SIDE],
            num_experts=[len(CELEBA_GROUPS)],
        )

    def forward(self, images: Tensor) -> Tensor:
        by_group = self.model(images)
        return torch.cat([by_group[group] for group in CELEBA_GROUPS], 1)


def run(bench: Bench) -> None:
    images = bench.tensor(BATCH, 3, SIDE, SIDE)
    targets = torch.randint(0, 2, (BATCH, len(CELEBA_GROUPS.attributes)), device=bench.device).float()
    plain = nn.BCEWithLogitsLoss()
    models: dict[str, tuple[nn.Module, nn.Module]] = {
        "FARAMTN": (FARAMTN.from_timm("resnet18", CELEBA_GROUPS), DWSLoss(CELEBA_GROUPS)),
        HARD_SHARING: (timm.create_model("resnet18", num_classes=len(CELEBA_GROUPS.attributes)), plain),
    } | {f"LibMTL's {name}": (FromLibMTL(name, bench.device), plain) for name in ARCHITECTURES}
    models = {name: (bench.put(model), bench.put(loss)) for name, (model, loss) in models.items()}
    shared = {
        "sizes": {"batch": BATCH, "image": SIDE, "groups": len(CELEBA_GROUPS)},
        "parameters": {name: count(model) for name, (model, _) in models.items()},
        "facts": _against_hard_sharing,
    }

    def step(model: nn.Module, loss: nn.Module) -> Call:
        parameters = list(model.parameters())
        optimizer = torch.optim.SGD(parameters, lr=1e-6, momentum=0.9)
        return training_step(lambda images: loss(model(images), targets), [images], parameters, optimizer=optimizer)

    bench.compare("Training step of a resnet18", {name: step(*pair) for name, pair in models.items()}, **shared)
    for model, _ in models.values():
        model.eval()
    bench.compare(
        "Inference of a resnet18", {name: inference(model, [images]) for name, (model, _) in models.items()}, **shared
    )


def _against_hard_sharing(seconds: dict[str, list[float]]) -> dict[str, float]:
    pairs = zip(seconds["FARAMTN"], seconds[HARD_SHARING], strict=True)
    ratio = Spread.of([ours / plain for ours, plain in pairs])
    return {"times_hard_sharing": ratio.median, "low": ratio.low, "high": ratio.high}
