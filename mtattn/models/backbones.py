"""Cut a timm backbone into the trunk and the module that WSGSA's groups share."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtattn._extras import needed_by
from mtattn.groups import check_known
from mtattn.models.checkpoints import CutBackbone, is_our_own, load_backbone_weights
from mtattn.models.config import check_backbone_options

if TYPE_CHECKING:
    from os import PathLike


@dataclass(frozen=True)
class Backbone:
    """A backbone in two parts: ``shared(trunk(images))`` is its last feature map.

    Attributes:
        trunk: From images to a feature map (b, channels, h, w).
        shared: From that map to one with ``out_channels``, shared by all groups.
        channels: Channels that the trunk returns.
        out_channels: Channels that the shared module returns.
        size: Height and width of the images that the backbone was made for.
        mean: What the backbone expects to be subtracted from each colour in [0, 1]; where it takes another number of
            colours than its checkpoint did, the mean of these.
        std: What it expects each colour to be divided by.
    """

    trunk: nn.Module
    shared: nn.Module
    channels: int
    out_channels: int
    size: list[int]
    mean: list[float]
    std: list[float]


class FreshBottleneck(nn.Module):
    """A residual 1x1 bottleneck that starts as the identity: the shared module where a backbone has no block to give.

    Args:
        channels: Channels in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        reduced = max(channels // 4, 1)
        self.down = nn.Conv2d(channels, reduced, 1, bias=False)
        self.norm = nn.BatchNorm2d(reduced)
        self.up = nn.Conv2d(reduced, channels, 1, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
        """Add to each position a function of its channels."""
        added: Tensor = self.up(self.norm(self.down(x)).relu())
        return x + added


class FeatureMap(nn.Module):
    """A timm model that returns its last feature map, channels first, also where it computes with tokens.

    Args:
        model: A timm model whose last block, if it was taken out, is replaced by nothing.
        whole: Whether ``model`` is as timm built it, so that timm's own way to a feature map is open.
    """

    model: Any

    def __init__(self, model: Any, *, whole: bool) -> None:
        super().__init__()
        self.model, self.whole = model, whole
        if whole:
            model.prune_intermediate_layers(1, prune_head=True)

    def forward(self, images: Float[Tensor, "batch color height width"]) -> Float[Tensor, "batch channel h w"]:
        """Compute the last feature map."""
        if not self.whole:
            features: Tensor = self.model.forward_features(images)
            return features
        last: Tensor
        (last,) = self.model.forward_intermediates(
            images, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return last


def build_backbone(
    name: str,
    *,
    pretrained: bool = False,
    weights: "str | PathLike[str] | None" = None,
    options: Mapping[str, Any] | None = None,
    drop_stages: int = 0,
    whole: bool = False,
) -> Backbone:
    """Build a timm model and cut off its last block as the module that all groups share.

    =============================== ==================================================================
    ResNet and its relatives        conv5's last block (its convolutions, shortcut and activation)
    EfficientNet, MobileNet         the last block, and the head convolution that follows it before pooling
    ConvNeXt                        the last block, and the norm that timm applies after pooling
    all others (ViT, Swin, ...)     a fresh :class:`FreshBottleneck`; the trunk is the whole model
    =============================== ==================================================================

    Args:
        name: A timm model name.
        pretrained: Whether timm fetches its pretrained weights.
        weights: A local checkpoint of the same timm model, or ``model.safetensors`` of a FARAMTN on it, read instead of
            fetching one.
        options: Further arguments for ``timm.create_model`` that decide the form of the model.
        drop_stages: How many of the last stages to leave out, which keeps the map large for small images.
        whole: Whether to keep the model whole, with a fresh bottleneck after it, whatever its family.

    Raises:
        ValueError: timm has no such model, it gives no feature map, a checkpoint does not fit, or there are no stages
            to drop.
        OSError: The pretrained weights could not be fetched.

    Example:
        >>> backbone = build_backbone("resnet18", drop_stages=1)
        >>> features = backbone.trunk(torch.rand(2, 3, 64, 64))
        >>> features.shape, backbone.shared(features).shape
        (torch.Size([2, 256, 4, 4]), torch.Size([2, 256, 4, 4]))
    """
    options = options or {}
    try:
        check_backbone_options("from_timm", json.loads(json.dumps(options)))
    except TypeError as error:
        raise ValueError(f"from_timm: backbone_options are saved as JSON, got {options}: {error}") from error
    model: Any = _create(name, pretrained, options)
    ours = weights is not None and is_our_own(Path(weights))
    if weights is not None and not ours:
        load_backbone_weights(model, Path(weights))
    cut = None if whole else _FAMILIES.get(type(model).__name__)
    if whole and drop_stages:
        raise ValueError(f"from_timm: shared= comes after the whole backbone, got drop_stages={drop_stages}; use 0.")
    if cut is None and drop_stages:
        raise ValueError(
            f"from_timm: drop_stages is for the families that can be cut, got {name!r}; use drop_stages=0."
        )
    if cut is not None:
        _check_stages(name, drop_stages, _num_stages(model))
    (height, width), num_colors = _image_size(model, options), options.get("in_chans", 3)
    sides = (height, width) if model.pretrained_cfg.get("fixed_input_size") else (128, 128)  # what is fast enough
    try:
        shared = cut(model, drop_stages) if cut else None
        trunk = FeatureMap(model, whole=cut is None)
        features = _run(trunk, torch.zeros(1, num_colors, *sides))
    except Exception as error:  # some models have no such map, and say so in many ways
        raise ValueError(f"from_timm: {name!r} gives no feature map ({type(error).__name__}: {error}).") from error
    shared = FreshBottleneck(features.shape[1]) if shared is None else shared
    if weights is not None and ours:
        load_backbone_weights(CutBackbone(trunk, None if whole else shared), Path(weights))
    out_channels = _run(shared, features).shape[1]
    mean, std = (_for_each(num_colors, model.pretrained_cfg[key]) for key in ("mean", "std"))
    return Backbone(trunk, shared, features.shape[1], out_channels, [height, width], mean, std)


def _for_each(num_colors: int, numbers: Sequence[float]) -> list[float]:
    return list(numbers) if len(numbers) == num_colors else [fmean(numbers)] * num_colors


def _create(name: str, pretrained: bool, options: Mapping[str, Any]) -> nn.Module:
    with needed_by("FARAMTN.from_timm", extra="recipes"):
        import timm  # noqa: PLC0415
    if ":" in name:
        raise ValueError(
            f"FARAMTN.from_timm: {name!r} names a place to fetch a model from, but a saved model is built again "
            f"without network; give the name of a timm model and backbone_weights=, or build the trunk yourself."
        )
    if not timm.is_model(name.partition(".")[0]):
        check_known("FARAMTN.from_timm", "timm model", [name], timm.list_models())
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0, **options)
    except TypeError as error:
        raise ValueError(f"FARAMTN.from_timm: {name!r} does not take these backbone_options: {error}") from error
    except Exception as error:
        if "pretrained tag" in str(error):
            raise ValueError(f"FARAMTN.from_timm: {error}") from error
        if not pretrained:
            told = f"{name!r} with backbone_options={dict(options)}"
            raise ValueError(
                f"FARAMTN.from_timm: timm cannot build {told} ({type(error).__name__}: {error})."
            ) from error
        raise OSError(
            f"FARAMTN.from_timm: the pretrained weights of {name!r} could not be fetched ({error}). "
            f"Without network give a local checkpoint with backbone_weights=."
        ) from error


def _image_size(model: Any, options: Mapping[str, Any]) -> tuple[int, int]:
    size = options.get("img_size", model.pretrained_cfg["input_size"][1:])
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


@torch.no_grad()
def _run(module: nn.Module, example: Tensor) -> Tensor:
    module.eval()
    result: Tensor = module(example)
    module.train()
    return result


def _cut_last(blocks: nn.Sequential) -> tuple[nn.Sequential, nn.Module]:
    return blocks[:-1], blocks[-1]


def _num_stages(model: Any) -> int:
    stages = getattr(model, "blocks", None) or getattr(model, "stages", None)
    return len(stages) if stages else 4  # a ResNet's layer1 to layer4


def _check_stages(name: str, drop_stages: int, num_stages: int) -> None:
    if not 0 <= drop_stages < num_stages:
        raise ValueError(f"from_timm: drop_stages is from 0 to {num_stages - 1} for {name!r}, got {drop_stages}.")


def _cut_resnet(model: Any, drop_stages: int) -> nn.Module:
    kept, *dropped = ["layer1", "layer2", "layer3", "layer4"][3 - drop_stages :]
    for name in dropped:
        setattr(model, name, nn.Identity())
    rest, last = _cut_last(getattr(model, kept))
    setattr(model, kept, rest)
    return last


def _cut_efficientnet(model: Any, drop_stages: int) -> nn.Module:
    model.blocks = model.blocks[: len(model.blocks) - drop_stages]
    model.blocks[-1], last = _cut_last(model.blocks[-1])
    after = [model.conv_head, model.bn2] if hasattr(model, "bn2") and not drop_stages else []
    model.conv_head = model.bn2 = model.norm_head = nn.Identity()
    return nn.Sequential(last, *after)


def _cut_convnext(model: Any, drop_stages: int) -> nn.Module:
    model.stages = model.stages[: len(model.stages) - drop_stages]
    model.stages[-1].blocks, last = _cut_last(model.stages[-1].blocks)
    after = [] if drop_stages else [model.norm_pre, getattr(model.head, "norm", nn.Identity())]
    model.norm_pre = model.head = nn.Identity()
    return nn.Sequential(last, *after)


_FAMILIES: dict[str, Callable[[Any, int], nn.Module]] = {
    "ResNet": _cut_resnet,
    "EfficientNet": _cut_efficientnet,
    "MobileNetV3": _cut_efficientnet,
    "ConvNeXt": _cut_convnext,
}
