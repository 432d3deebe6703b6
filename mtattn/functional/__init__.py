"""The maths of mtattn as pure functions: no parameters, no state."""

from mtattn.functional.attention import (
    channel_gates,
    channel_linear,
    coordinates,
    gate,
    gate_mean,
    group_affinity,
    group_logits,
    mix_groups,
    on_channels,
    position_weights,
)
from mtattn.functional.kinds import level_exceedance
from mtattn.functional.weighting import (
    LossHistory,
    dwa_weights,
    dws_weights,
    equal_weights,
    group_bce,
    group_bce_sums,
    random_weights,
    trend_weights,
)

__all__ = [
    "LossHistory",
    "channel_gates",
    "channel_linear",
    "coordinates",
    "dwa_weights",
    "dws_weights",
    "equal_weights",
    "gate",
    "gate_mean",
    "group_affinity",
    "group_bce",
    "group_bce_sums",
    "group_logits",
    "level_exceedance",
    "mix_groups",
    "on_channels",
    "position_weights",
    "random_weights",
    "trend_weights",
]
