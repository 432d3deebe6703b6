"""GroupHeads: the features of the groups become logits."""

from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtattn import functional
from mtattn._checks import check_axes, check_positive, check_size
from mtattn.groups import AttributeGroups, check_fitted, check_groups


class GroupHeads(nn.Module):
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
        check_positive("GroupHeads", channels=channels)
        self.channels, self.groups = channels, groups
        num_columns = len(groups.columns.attributes)
        self.weight = nn.Parameter(torch.empty(num_columns, channels, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(num_columns, device=device, dtype=dtype))
        self.register_buffer("group_of", torch.empty(num_columns, device=device, dtype=torch.long), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start like torch's Linear: uniform in +-1/sqrt(channels)."""
        bound = 1 / sqrt(self.channels)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)
        self.group_of.copy_(torch.tensor(self.groups.columns.group_of))

    def forward(self, x: Float[Tensor, "batch group channel *space"]) -> Float[Tensor, "batch column *space"]:
        """Compute the outputs in column order; for features with spatial axes, the map whose mean is the output."""
        check_axes("GroupHeads", x, "batch", "group", "channel")
        check_size("GroupHeads", "groups", expected=len(self.groups), got=x.shape[1])
        check_size("GroupHeads", "channels", expected=self.channels, got=x.shape[2])
        return functional.group_logits(x, self.weight, self.bias, self.group_of)

    def extra_repr(self) -> str:  # noqa: D102
        return f"{self.channels}, sizes={dict(zip(self.groups, self.groups.columns.sizes, strict=True))}"
