"""The maths of mtattn as pure functions: no parameters, no state."""

from mtattn.functional.attention import (
    channel_gates,
    channel_linear,
    coordinates,
    gate,
    gate_max,
    gate_mean,
    group_affinity,
    group_logits,
    mix_groups,
    on_channels,
    position_weights,
    scores_affinity,
)
from mtattn.functional.drawing import Centres, draw_maps, square_centres
from mtattn.functional.fusion import attribute_center_loss, channel_shares, group_linear
from mtattn.functional.kinds import (
    binary_losses,
    categorical_losses,
    level_exceedance,
    number_losses,
    threshold_targets,
)
from mtattn.functional.masks import mask_bce, mask_positions
from mtattn.functional.weighting import (
    LossHistory,
    dwa_weights,
    dws_weights,
    equal_weights,
    loss_left,
    random_weights,
    sums_of,
    trend_weights,
)

__all__ = [
    "Centres",
    "LossHistory",
    "attribute_center_loss",
    "binary_losses",
    "categorical_losses",
    "channel_gates",
    "channel_linear",
    "channel_shares",
    "coordinates",
    "draw_maps",
    "dwa_weights",
    "dws_weights",
    "equal_weights",
    "gate",
    "gate_max",
    "gate_mean",
    "group_affinity",
    "group_linear",
    "group_logits",
    "level_exceedance",
    "loss_left",
    "mask_bce",
    "mask_positions",
    "mix_groups",
    "number_losses",
    "on_channels",
    "position_weights",
    "random_weights",
    "scores_affinity",
    "square_centres",
    "sums_of",
    "threshold_targets",
    "trend_weights",
]
