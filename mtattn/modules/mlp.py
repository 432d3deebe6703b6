"""GroupMLP and EmbeddingHead: layers after the groups' features, and beside them."""

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtattn import functional
from mtattn._checks import check_features, check_positive, check_probability


class GroupLinear(nn.Module):
    """One linear layer a group, their weights stacked over the groups."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        num_groups: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_groups, out_channels, channels, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(num_groups, out_channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start each group's layer as torch's Linear does."""
        bound = 1 / sqrt(self.weight.shape[-1])
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Float[Tensor, "batch group channel"]) -> Float[Tensor, "batch group out"]:
        """Apply each group's layer to its own features."""
        return functional.group_linear(x, self.weight, self.bias)


class GroupMLP(nn.Module):
    """Give each group linear layers of its own, each followed by ReLU and dropout; all groups in one product.

    The groups do not see each other. What follows is no longer linear in the features: there are no exact attribute
    maps behind it.

    Args:
        channels: Channels of each group.
        num_groups: Number of attribute groups.
        hidden: Units of each layer; the last is the output.
        dropout: Probability of dropping a unit while training, in [0, 1).
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: A size is not positive, there is no layer, or ``dropout`` is out of range.

    Example:
        >>> GroupMLP(64, 3, (32, 16))(torch.randn(2, 3, 64)).shape
        torch.Size([2, 3, 16])

    Source:
        the subnets of SwinFace (arXiv 2308.11509).
    """

    def __init__(
        self,
        channels: int,
        num_groups: int,
        hidden: Sequence[int],
        *,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.num_groups = check_positive("GroupMLP", channels=channels, num_groups=num_groups)
        self.hidden = check_positive("GroupMLP", **{f"hidden[{i}]": size for i, size in enumerate(hidden)})
        if not self.hidden:
            raise ValueError("GroupMLP: needs at least one layer, got hidden=().")
        check_probability("GroupMLP", dropout=dropout)
        layers: list[nn.Module] = []
        for before, after in pairwise((self.channels, *self.hidden)):
            linear = GroupLinear(before, after, self.num_groups, device=device, dtype=dtype)
            layers += [linear, nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "batch group channel"]) -> Float[Tensor, "batch group out"]:
        """Compute the features of each group from its own features only."""
        check_features("GroupMLP", x, "batch", "group", "channel", group=self.num_groups, channel=self.channels)
        if x.ndim != 3:
            raise ValueError(f"GroupMLP: expects pooled features (batch, group, channel), got {tuple(x.shape)}.")
        features: Tensor = self.layers(x)
        return features

    def extra_repr(self) -> str:  # noqa: D102
        return f"{self.channels}, {self.num_groups}, hidden={self.hidden}"


class EmbeddingHead(nn.Module):
    """Turn the features of an image into an embedding, whose direction says who it is.

    Two linear layers without bias, each followed by batch norm. The margin losses of pytorch-metric-learning normalise
    it; compare two embeddings by their cosine.

    Args:
        channels: Channels of the features.
        size: Length of the embedding.
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: A size is not positive.

    Example:
        >>> EmbeddingHead(64, 32)(torch.randn(4, 64)).shape
        torch.Size([4, 32])

    Source:
        SwinFace (arXiv 2308.11509).
    """

    def __init__(
        self,
        channels: int,
        size: int = 512,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.size = check_positive("EmbeddingHead", channels=channels, size=size)

        def layers(width: int) -> list[nn.Module]:
            linear = nn.Linear(self.channels, width, bias=False, device=device, dtype=dtype)
            return [linear, nn.BatchNorm1d(width, device=device, dtype=dtype)]

        self.layers = nn.Sequential(*layers(self.channels), *layers(self.size))

    def forward(self, x: Float[Tensor, "batch channel"]) -> Float[Tensor, "batch embedding"]:
        """Compute the embedding of each image."""
        check_features("EmbeddingHead", x, "batch", "channel", channel=self.channels)
        if x.ndim != 2:
            raise ValueError(f"EmbeddingHead: expects pooled features (batch, channel), got {tuple(x.shape)}.")
        if self.training and len(x) == 1:
            raise ValueError(
                "EmbeddingHead: its batch norms need two images while training, got one; "
                "drop the last batch (drop_last=True), or call eval()."
            )
        embedding: Tensor = self.layers(x)
        return embedding

    def extra_repr(self) -> str:  # noqa: D102
        return f"{self.channels}, {self.size}"
