"""Other forms of what lets groups exchange information, of gates and of where a group looks, for comparison.

All are the identity when new and linear in their values, as CGFF is.
"""

from collections.abc import Callable
from math import log, sqrt
from typing import Any

import torch
import torch.nn.functional as F
from einops import einsum
from torch import Tensor, nn

from mtattn import CGFF, WSGSA, functional
from mtattn.data import PlantedRelations
from mtattn.modules.wsgsa import PLACE_FACTOR


class Centred(CGFF):
    """CGFF whose queries and keys see how a group differs from the mean over the groups."""

    def _affinity(self, x: Tensor) -> Tensor:
        return super()._affinity(x - x.mean(1, keepdim=True))


class Normalized(CGFF):
    """CGFF with queries and keys of length one, times a learned factor for each head."""

    def __init__(self, channels: int, num_groups: int, **options: Any) -> None:  # noqa: ARG002
        super().__init__(channels, **options)
        self.factor = nn.Parameter(torch.full((self.num_heads, 1, 1), log(10.0)))

    def _affinity(self, x: Tensor) -> Tensor:
        descriptors = x.flatten(3).mean(3) if x.ndim > 3 else x
        queries, keys = (
            F.normalize(layer(descriptors).unflatten(2, (self.num_heads, -1)).transpose(1, 2), dim=-1)
            for layer in (self.query, self.key)
        )
        return (self.factor.exp() * queries @ keys.mT).softmax(-1)


class Mean(nn.Module):
    """The mean over the groups added back, with a learned factor for each channel; zero when new."""

    def __init__(self, channels: int, num_groups: int, **_: Any) -> None:  # noqa: ARG002
        super().__init__()
        self.factor = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.einsum("bc...,c->bc...", x.mean(1), self.factor).unsqueeze(1)


class LowRank(nn.Module):
    """A linear map of low rank for each pair of groups, without any affinity."""

    rank = 4

    def __init__(self, channels: int, num_groups: int, **_: Any) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(num_groups, num_groups, self.rank, channels) / sqrt(channels))
        self.up = nn.Parameter(torch.zeros(num_groups, num_groups, channels, self.rank))

    def forward(self, x: Tensor) -> Tensor:
        low = einsum(x, self.down, "b speaker c ..., listener speaker r c -> b listener speaker r ...")
        heard = einsum(low, self.up, "b listener speaker r ..., listener speaker c r -> b listener c ...")
        return x + heard / sqrt(x.shape[2])


class OthersOnly(CGFF):
    """CGFF in which no group listens to itself."""

    def __init__(self, channels: int, num_groups: int, **options: Any) -> None:
        super().__init__(channels, allowed=~torch.eye(num_groups, dtype=torch.bool), **options)


EXCHANGES: dict[str, Callable[..., nn.Module]] = {
    "content": lambda channels, _, **options: CGFF(channels, **options),
    "uniform": lambda channels, _, **options: CGFF(channels, **options | {"key_channels": 0}),
    "pairs": lambda channels, groups, **options: CGFF(channels, num_groups=groups, **options | {"key_channels": 0}),
    "both": lambda channels, groups, **options: CGFF(channels, num_groups=groups, **options),
    "centred": lambda channels, _, **options: Centred(channels, **options),
    "centred both": lambda channels, groups, **options: Centred(channels, num_groups=groups, **options),
    "normalized": Normalized,
    "others": OthersOnly,
    "mean": Mean,
    "low rank": LowRank,
}


class ByPlace(WSGSA):
    """WSGSA whose positions do not see the image: where a group looks depends on the place only."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.queries = self.key_weight = None

    def _positions(self, shared: Tensor) -> Tensor | None:
        if self.place_weight is None:
            return None
        place = PLACE_FACTOR * self.place_weight.reshape(self.num_groups * self.num_heads, -1)
        blind, nothing = shared.new_zeros(len(place), 1), shared.new_zeros(1, self.out_channels)
        return functional.position_weights(shared, blind, nothing, place)


class Regions(WSGSA):
    """WSGSA whose groups look at their regions of planted relations and nowhere else."""

    def __init__(self, channels: int, num_groups: int, **options: Any) -> None:
        super().__init__(channels, num_groups, **options | {"spatial": False, "coordinates": 0})
        self.register_buffer("masks", PlantedRelations(1).masks[None])

    def _positions(self, shared: Tensor) -> Tensor:
        size = (shared.shape[2], shared.shape[3])
        return functional.mask_positions(self.masks, size).expand(len(shared), -1, -1, -1)
