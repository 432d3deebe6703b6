"""AttributeCenterLoss: images that share an attribute come close to each other."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtattn import functional
from mtattn._checks import check_features, check_positive
from mtattn._state import StateOfGroups
from mtattn.groups import AttributeGroups, check_groups


class AttributeCenterLoss(StateOfGroups):
    """Draw the features of an image to the centres of the attributes that it has.

    ``1 / (2 n) sum_ia y_ia |f_i - c_a|^2`` over the n known labels. Centres are parameters: they belong into the
    optimizer, and the best ones are the means of the features with the attribute. Features of groups, (batch, group,
    channel), are compared with the centres of their own attributes; (batch, channel) with all.

    Args:
        groups: The attributes of each group, all of them binary.
        channels: Channels of the features.
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: ``channels`` is not positive, or an attribute is not binary.

    Example:
        >>> groups = AttributeGroups({"head": ["Hat"], "body": ["Vest", "Bag"]})
        >>> loss = AttributeCenterLoss(groups, 16)
        >>> loss(torch.randn(4, 2, 16), torch.ones(4, 3)).shape
        torch.Size([])

    Source:
        multi-attribute centre loss in PARFormer (arXiv 2304.07230). Centres in the features of groups are our reading.
    """

    group_of: Tensor

    def __init__(
        self,
        groups: AttributeGroups,
        channels: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_groups("AttributeCenterLoss", groups)
        if groups.columns.attributes != groups.attributes:
            other = next(name for name in groups.attributes if name not in groups.columns.attributes)
            raise ValueError(
                f"AttributeCenterLoss: centres belong to binary attributes, got {other!r} of another kind."
            )
        (self.channels,) = check_positive("AttributeCenterLoss", channels=channels)
        self.groups = groups
        self.centers = nn.Parameter(torch.empty(len(groups.attributes), self.channels, device=device, dtype=dtype))
        self.register_constant("group_of", groups.group_of, dtype=torch.long, device=device)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start the centres at random, normally distributed."""
        nn.init.normal_(self.centers)

    def forward(
        self,
        features: Float[Tensor, "batch group channel"] | Float[Tensor, "batch channel"],
        targets: Float[Tensor, "batch attribute"],
    ) -> Float[Tensor, ""]:
        """Compute the loss; NaN in the targets is an unknown label and counts nowhere."""
        size = {"channel": self.channels}
        if isinstance(features, Tensor) and features.ndim == 2:
            check_features("AttributeCenterLoss", features, "batch", "channel", **size)
            features, group_of = features.unsqueeze(1), torch.zeros_like(self.group_of)
        else:
            size["group"] = len(self.groups)
            check_features("AttributeCenterLoss", features, "batch", "group", "channel", **size)
            group_of = self.group_of
        if targets.shape != (len(features), len(self.centers)):
            raise ValueError(
                f"AttributeCenterLoss: targets are (batch, {len(self.centers)}), one column an attribute, "
                f"got {tuple(targets.shape)} for {len(features)} images."
            )
        return functional.attribute_center_loss(features, self.centers, targets, group_of)

    def extra_repr(self) -> str:  # noqa: D102
        return f"{self.channels}, {len(self.centers)} attributes"
