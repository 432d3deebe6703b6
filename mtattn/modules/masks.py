"""MaskHead and BatchRandomMask: masks that a model predicts, and one that hides positions while it trains."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtattn import functional
from mtattn._checks import check_features, check_positive, check_probability


class MaskHead(nn.Module):
    """Predict a mask for each group: where in the image its part is.

    One linear layer at every position. It starts at zero: all positions alike, which is the plain mean, so that a new
    model with masks is the model without. Train it with :func:`mtattn.functional.mask_bce`; its sigmoid goes through
    :func:`mtattn.functional.mask_positions` into ``wsgsa(x, positions=...)``.

    Args:
        channels: Channels of the features.
        num_groups: Number of attribute groups.
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: A size is not positive.

    Example:
        >>> features, head, wsgsa = torch.randn(2, 64, 7, 7), MaskHead(64, 3), WSGSA(64, 3)
        >>> logits = head(features)
        >>> positions = functional.mask_positions(logits.sigmoid(), (7, 7))
        >>> logits.shape, wsgsa.pooled(features, positions).shape
        (torch.Size([2, 3, 7, 7]), torch.Size([2, 3, 64]))

    Source:
        adaptive mask learning in MGMTN (arXiv 2601.01408), there a UNet. One layer on the features is our reading.
    """

    def __init__(
        self,
        channels: int,
        num_groups: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.num_groups = check_positive("MaskHead", channels=channels, num_groups=num_groups)
        self.linear = nn.Linear(self.channels, self.num_groups, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with logits of zero."""
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch group *space"]:
        """Compute the logits of the masks at every position."""
        check_features("MaskHead", x, "batch", "channel", channel=self.channels)
        return functional.on_channels(self.linear, x.unsqueeze(1)).squeeze(1)


class BatchRandomMask(nn.Module):
    """Set random positions to zero while training, the same ones for all images of the batch.

    Nothing is rescaled: on average ``1 - probability`` of the features are left. In evaluation nothing happens.

    Args:
        probability: Of each position, in [0, 1).

    Raises:
        ValueError: It is no such probability.

    Example:
        >>> hidden = BatchRandomMask(0.5)(torch.ones(2, 8, 7, 7)) == 0
        >>> torch.equal(hidden[0], hidden[1]), hidden.any().item()
        (True, True)

    Source:
        PARFormer (arXiv 2304.07230).
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        check_probability("BatchRandomMask", probability=probability)
        self.probability = probability

    def forward(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """Hide positions in training."""
        check_features("BatchRandomMask", x, "batch", "channel", "space")
        if not self.training or self.probability == 0:
            return x
        return x * (torch.rand(x.shape[2:], device=x.device) >= self.probability)

    def extra_repr(self) -> str:  # noqa: D102
        return f"{self.probability}"
