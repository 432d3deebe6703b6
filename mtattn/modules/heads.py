"""GroupHeads: the features of the groups become logits."""

from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtattn import functional
from mtattn._checks import check_features, check_positive
from mtattn._state import StateOfGroups
from mtattn.groups import AttributeGroups, check_fitted, check_groups


class GroupHeads(StateOfGroups):
    """Turn the features of the groups into outputs, one a column: each group has its own linear layer.

    Args:
        channels: Channels of each group.
        groups: The attributes of each group; outputs have the columns of ``groups.columns``, one logit an attribute
            where all are binary.
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: ``channels`` is not positive, or a number has no mean and standard deviation yet.

    Example:
        >>> groups = AttributeGroups({"eyes": ["Eyeglasses"], "mouth": ["Smiling", "Big_Lips"]})
        >>> heads = GroupHeads(64, groups)
        >>> heads(torch.randn(4, 2, 64)).shape
        torch.Size([4, 3])
    """

    group_of: Tensor

    def __init__(
        self,
        channels: int,
        groups: AttributeGroups,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_groups("GroupHeads", groups)
        check_fitted("GroupHeads", groups)
        (self.channels,) = check_positive("GroupHeads", channels=channels)
        self.groups = groups
        num_columns = len(groups.columns.attributes)
        self.weight = nn.Parameter(torch.empty(num_columns, self.channels, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(num_columns, device=device, dtype=dtype))
        self.register_constant("group_of", groups.columns.group_of, dtype=torch.long, device=device)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start like torch's Linear: uniform in +-1/sqrt(channels)."""
        bound = 1 / sqrt(self.channels)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Float[Tensor, "batch group channel *space"]) -> Float[Tensor, "batch column *space"]:
        """Compute the outputs in column order; for features with spatial axes, the map whose mean is the output."""
        check_features("GroupHeads", x, "batch", "group", "channel", group=len(self.groups), channel=self.channels)
        return functional.group_logits(x, self.weight, self.bias, self.group_of)

    def extra_repr(self) -> str:  # noqa: D102
        return f"{self.channels}, sizes={dict(zip(self.groups, self.groups.columns.sizes, strict=True))}"
