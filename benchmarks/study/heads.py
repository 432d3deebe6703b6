"""What reads the trunk's map: FAR-AMTN with and without its parts, and what people use in its place.

Each is built as ``build(shape, groups, **options)`` and gives logits in the order of ``groups.attributes``. All share
one kind of convolution, :func:`convolution`, so that a row differs from another by what its name says.
"""

import sys
import warnings
from collections.abc import Mapping
from math import sqrt
from types import ModuleType
from typing import Any

import torch
from einops import rearrange, reduce
from exchange import EXCHANGES, ByPlace, Regions
from timm.layers.ml_decoder import MLDecoder, TransformerDecoderLayerOptimal
from torch import Tensor, nn

from mtattn import CGFF, FARAMTN, WSGSA, AttributeGroups, GroupHeads

WIDTH = 256
Shape = tuple[int, int]  # channels, and positions a side


def convolution(channels: int, branches: int = 1, width: int = WIDTH) -> nn.Module:
    """Build f, or a convolution of its own for each of several branches, side by side in the channels."""
    return nn.Sequential(
        nn.Conv2d(channels, width * branches, 1, bias=False), nn.BatchNorm2d(width * branches), nn.ReLU()
    )


class Linear(nn.Module):
    """One linear layer for all attributes on pooled features: the baseline that is hardest to beat."""

    def __init__(self, shape: Shape, groups: AttributeGroups, *, width: int = WIDTH) -> None:
        super().__init__()
        channels, _ = shape
        self.shared, self.linear = convolution(channels, width=width), nn.Linear(width, len(groups.attributes))

    def forward(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.shared(maps).mean((2, 3)))
        return logits


class LinearPerGroup(nn.Module):
    """A hidden layer of its own for each group, on shared pooled features."""

    def __init__(self, shape: Shape, groups: AttributeGroups) -> None:
        super().__init__()
        channels, _ = shape
        self.num_groups = len(groups)
        self.shared, self.hidden = convolution(channels), nn.Linear(WIDTH, WIDTH * len(groups))
        self.heads = GroupHeads(WIDTH, groups)

    def forward(self, maps: Tensor) -> Tensor:
        hidden = self.hidden(self.shared(maps).mean((2, 3))).relu()
        logits: Tensor = self.heads(rearrange(hidden, "b (g c) -> b g c", g=self.num_groups))
        return logits


class ConvPerGroup(nn.Module):
    """The classic multi-task network: a convolution of its own for each group."""

    def __init__(self, shape: Shape, groups: AttributeGroups) -> None:
        super().__init__()
        channels, _ = shape
        self.num_groups = len(groups)
        self.branches, self.heads = convolution(channels, len(groups)), GroupHeads(WIDTH, groups)

    def forward(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.heads(reduce(self.branches(maps), "b (g c) h w -> b g c", "mean", g=self.num_groups))
        return logits


class OneStageMTAN(nn.Module):
    """MTAN's attention (Liu 2019) at the one stage that there is: a mask for each group over channels and positions."""

    def __init__(self, shape: Shape, groups: AttributeGroups) -> None:
        super().__init__()
        channels, _ = shape
        self.shared, self.heads = convolution(channels), GroupHeads(WIDTH, groups)
        self.masks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, WIDTH // 4, 1),
                nn.BatchNorm2d(WIDTH // 4),
                nn.ReLU(),
                nn.Conv2d(WIDTH // 4, WIDTH, 1),
                nn.BatchNorm2d(WIDTH),
                nn.Sigmoid(),
            )
            for _ in groups
        )

    def forward(self, maps: Tensor) -> Tensor:
        shared = self.shared(maps)
        logits: Tensor = self.heads(torch.stack([(mask(maps) * shared).mean((2, 3)) for mask in self.masks], 1))
        return logits


class FromTimm(nn.Module):
    """timm's ML-Decoder (Ridnik 2021), a query an attribute, on the same convolution and as wide as that.

    Its feed-forward layer keeps its ratio to the width, 2048 to 768.
    """

    def __init__(self, shape: Shape, groups: AttributeGroups) -> None:
        super().__init__()
        channels, _ = shape
        self.shared = convolution(channels)
        self.decoder = MLDecoder(len(groups.attributes), decoder_embedding=WIDTH, initial_num_features=WIDTH)
        # the layer itself, because torch's wrapper does not take timm's
        self.decoder.decoder = TransformerDecoderLayerOptimal(WIDTH, dim_feedforward=WIDTH * 2048 // 768)

    def forward(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self.shared(maps))
        return logits


class FromLibMTL(nn.Module):
    """LibMTL's MMoE (Ma 2018), as many experts as groups; each expert pools, which is equal and much faster."""

    def __init__(self, shape: Shape, groups: AttributeGroups) -> None:
        super().__init__()
        channels, side = shape
        # LibMTL 1.1.5 imports this from where torchvision had it before 0.12
        stand_in = ModuleType("torchvision.models.utils")
        stand_in.load_state_dict_from_url = torch.hub.load_state_dict_from_url  # type: ignore[attr-defined]
        sys.modules.setdefault("torchvision.models.utils", stand_in)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from LibMTL.architecture import MMoE  # noqa: PLC0415
        self.groups = tuple(groups)
        self.model = MMoE(
            list(groups),
            lambda: nn.Sequential(convolution(channels), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            nn.ModuleDict({name: nn.Linear(WIDTH, size) for name, size in zip(groups, groups.sizes, strict=True)}),
            rep_grad=False,
            multi_input=False,
            device=torch.device("cpu"),
            img_size=[channels, side, side],
            num_experts=[len(groups)],
        )

    def forward(self, maps: Tensor) -> Tensor:
        by_group = self.model(maps)
        return torch.cat([by_group[group] for group in self.groups], 1)


class Ungated(WSGSA):
    """WSGSA whose gates stand at one half, so that only the positions tell the groups apart."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        del self.down_weight, self.down_bias, self.up_weight, self.up_bias

    def _gates(self, mean: Tensor, maximum: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return mean.new_full((len(mean), self.num_groups, self.out_channels), 0.5)


class Unshared(WSGSA):
    """WSGSA's gates on a convolution of its own for each group."""

    def __init__(self, channels: int, num_groups: int, **options: Any) -> None:
        super().__init__(channels, num_groups, **options | {"shared": convolution(channels, num_groups)})

    def pooled(self, x: Tensor) -> Tensor:
        return self.gates(x) * reduce(self.shared(x), "b (g c) h w -> b g c", "mean", g=self.num_groups)


class Unscaled(CGFF):
    """CGFF without its fixed factor."""

    def forward(self, x: Tensor) -> Tensor:
        return x + sqrt(self.channels) * (super().forward(x) - x)


def faramtn(
    shape: Shape,
    groups: AttributeGroups,
    *,
    fuse: bool = True,
    norm: bool = False,
    scaled: bool = True,
    spatial: bool = True,
    wsgsa: str = "",
    queries: int = 8,
    coordinates: bool = True,
    width: int = WIDTH,
    exchange: str = "",
    listening: Mapping[str, Any] | None = None,
    **options: Any,
) -> nn.Module:
    """Build FARAMTN on the map, with parts left out or replaced; ``listening`` are options of CGFF."""
    channels, _ = shape
    shared = convolution(channels, width=width)
    common: dict[str, Any] = {"shared": shared, "out_channels": width, "spatial": spatial}
    model = FARAMTN(nn.Identity(), channels, groups, coordinates=coordinates, **common, **options)
    if wsgsa or (spatial and queries != model.wsgsa.num_heads):
        kind = {"": WSGSA, "ungated": Ungated, "unshared": Unshared, "by place": ByPlace, "regions": Regions}[wsgsa]
        places = model.wsgsa.coordinates
        gates = {"reduction": options["reduction"]} if "reduction" in options else {}
        model.wsgsa = kind(channels, len(groups), num_heads=queries, coordinates=places, **common, **gates)
    if not fuse:
        model.cgff = nn.Identity()
    elif exchange or listening:
        keys = {"num_heads": 8, "key_channels": model.cgff.key_channels, "norm": False} | dict(listening or {})
        model.cgff = EXCHANGES[exchange or "content"](width, len(groups), **keys)
    elif norm:
        model.cgff.norm = nn.LayerNorm(WIDTH)
    elif not scaled:
        model.cgff = Unscaled(WIDTH, key_channels=model.cgff.key_channels, norm=False)
    return model


HEADS = {
    "linear": Linear,
    "linear per group": LinearPerGroup,
    "conv per group": ConvPerGroup,
    "mtan": OneStageMTAN,
    "ml-decoder": FromTimm,
    "mmoe": FromLibMTL,
    "faramtn": faramtn,
}
