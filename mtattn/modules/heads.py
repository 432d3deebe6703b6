"""GroupHeads: the features of the groups become logits."""

from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtattn import functional
from mtattn._checks import check_axes, check_positive, check_size
from mtattn.groups import AttributeGroups, check_groups


class GroupHeads(nn.Module):
    """Turn the features of the groups into one logit an attribute: each group has its own linear layer.

    Args:
        channels: Channels of each group.
        groups: The attributes of each group; logits come in the order of ``groups.attributes``.
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: ``channels`` is not positive.

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
        check_positive("GroupHeads", channels=channels)
        self.channels, self.groups = channels, groups
        num_attributes = len(groups.attributes)
        self.weight = nn.Parameter(torch.empty(num_attributes, channels, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(num_attributes, device=device, dtype=dtype))
        self.register_buffer("group_of", torch.empty(num_attributes, device=device, dtype=torch.long), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start like torch's Linear: uniform in +-1/sqrt(channels)."""
        bound = 1 / sqrt(self.channels)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)
        self.group_of.copy_(torch.tensor(self.groups.group_of))

    def forward(self, x: Float[Tensor, "batch group channel *space"]) -> Float[Tensor, "batch attribute *space"]:
        """Compute the logits in attribute order; for features with spatial axes, the map whose mean is the logit."""
        check_axes("GroupHeads", x, "batch", "group", "channel")
        check_size("GroupHeads", "groups", expected=len(self.groups), got=x.shape[1])
        check_size("GroupHeads", "channels", expected=self.channels, got=x.shape[2])
        return functional.group_logits(x, self.weight, self.bias, self.group_of)

    def extra_repr(self) -> str:  # noqa: D102
        return f"{self.channels}, sizes={dict(zip(self.groups, self.groups.sizes, strict=True))}"
