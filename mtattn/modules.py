"""The modules that drop into anybody's attribute model: WSGSA, CGFF and GroupHeads."""

from math import sqrt

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from mtattn import functional
from mtattn._checks import check_divides, check_positive, check_size
from mtattn.groups import AttributeGroups


class WSGSA(nn.Module):
    """Give each attribute group its own view of shared features: one shared module, one channel gate a group.

    ``X'_g = gates_g(X) * f(X)``, channel by channel, where f is ``shared`` and the gates look at the spatial mean of X.
    With ``spatial=True`` each group also learns where to look: ``X'_g = gates_g(X) * positions_g(X) * f(X)``.

    Args:
        channels: Channels of the input.
        num_groups: Number of attribute groups.
        reduction: The gates' hidden layer has ``channels / reduction`` units.
        shared: The module f of all groups: ``(b, channels, *s)`` to ``(b, out_channels, *s2)``; None is the identity.
        out_channels: Channels that ``shared`` returns; None means as many as it gets.
        spatial: Whether each group also weighs the positions. A new module weighs them all alike.
        num_heads: How many queries a group has; each weighs the positions for its own part of the output channels.
        key_channels: Width of the keys and queries that weigh the positions.
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: A size is not positive, or ``reduction`` or ``num_heads`` does not divide its channels.

    Example:
        >>> wsgsa = WSGSA(64, num_groups=8)
        >>> features = torch.randn(2, 64, 7, 7)
        >>> wsgsa(features).shape
        torch.Size([2, 8, 64, 7, 7])
        >>> wsgsa.pooled(features).shape  # the same, averaged over space, but never built
        torch.Size([2, 8, 64])

    Source:
        weight-shared group-specific attention in FAR-AMTN (arXiv 2601.01537). ``spatial`` is mtattn's own.
    """

    def __init__(
        self,
        channels: int,
        num_groups: int,
        *,
        reduction: int = 16,
        shared: nn.Module | None = None,
        out_channels: int | None = None,
        spatial: bool = False,
        num_heads: int = 1,
        key_channels: int = 64,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        out_channels = channels if out_channels is None else out_channels
        sizes = {"channels": channels, "num_groups": num_groups, "reduction": reduction, "out_channels": out_channels}
        check_positive("WSGSA", **sizes, num_heads=num_heads, key_channels=key_channels)
        check_divides("WSGSA", divisor="reduction", value=reduction, channels=channels)
        check_divides("WSGSA", divisor="num_heads", value=num_heads, out_channels=out_channels)
        if shared is None and out_channels != channels:
            raise ValueError(
                f"WSGSA: without a shared module out_channels equals channels, "
                f"got channels={channels} and out_channels={out_channels}; pass shared=."
            )
        self.channels, self.num_groups, self.out_channels = channels, num_groups, out_channels
        self.reduction, self.spatial, self.num_heads, self.key_channels = reduction, spatial, num_heads, key_channels
        self.shared = nn.Identity() if shared is None else shared

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        reduced = channels // reduction
        self.down_weight = parameter(num_groups, reduced, channels)
        self.down_bias = parameter(num_groups, reduced)
        self.up_weight = parameter(num_groups, out_channels, reduced)
        self.up_bias = parameter(num_groups, out_channels)
        self.queries = parameter(num_groups, num_heads * key_channels) if spatial else None
        self.key_weight = parameter(key_channels, out_channels) if spatial else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start the gates near one half, each group a little different, and the positions all alike.

        The weights start like torch's Linear. Zero biases and the sigmoid keep the gates close to one half, so twice
        the output has the scale of f(X). ``shared`` keeps its parameters.
        """
        for weight in (self.down_weight, self.up_weight, self.key_weight):
            if weight is not None:
                nn.init.uniform_(weight, -1 / sqrt(weight.shape[-1]), 1 / sqrt(weight.shape[-1]))
        for start_at_zero in (self.down_bias, self.up_bias, self.queries):
            if start_at_zero is not None:
                nn.init.zeros_(start_at_zero)

    def gates(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch group out"]:
        """Compute the gate of each group and output channel, in (0, 1)."""
        return self._gates(self._mean(x))

    def positions(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch group *new_space"]:
        """Compute how much each group looks at each position of f(x); averages to 1, all ones without ``spatial``."""
        shared = self._share(x)
        positions = self._positions(shared)
        if positions is None:
            return shared.new_ones(shared.shape[0], self.num_groups, *shared.shape[2:])
        return reduce(positions, "batch (group head) ... -> batch group ...", "mean", group=self.num_groups)

    def forward(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch group out *new_space"]:
        """Compute the features of each group at every position of f(x)."""
        gates = self.gates(x)  # first: a shared module may work in place
        shared = self._share(x)
        return functional.gate(shared, gates, self._positions(shared))

    def pooled(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch group out"]:
        """Compute ``self(x)`` averaged over space, exactly, without building it."""
        mean = self._mean(x)
        gates = self._gates(mean)
        if isinstance(self.shared, nn.Identity) and not self.spatial:
            return gates * mean.unsqueeze(1)  # the same mean twice, so x is read once
        shared = self._share(x)
        return functional.gate_mean(shared, gates, self._positions(shared))

    def extra_repr(self) -> str:  # noqa: D102
        sizes = f"{self.channels}, {self.num_groups}, reduction={self.reduction}, out_channels={self.out_channels}"
        return sizes + f", spatial=True, num_heads={self.num_heads}, key_channels={self.key_channels}" * self.spatial

    def _mean(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel"]:
        check_size("WSGSA", "channels", expected=self.channels, got=x.shape[1])
        return reduce(x, "batch channel ... -> batch channel", "mean")

    def _gates(self, mean: Float[Tensor, "batch channel"]) -> Float[Tensor, "batch group out"]:
        return functional.channel_gates(mean, self.down_weight, self.down_bias, self.up_weight, self.up_bias)

    def _share(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch out *new_space"]:
        check_size("WSGSA", "channels", expected=self.channels, got=x.shape[1])
        shared: Tensor = self.shared(x)
        check_size("WSGSA", "out_channels from its shared module", expected=self.out_channels, got=shared.shape[1])
        return shared

    def _positions(self, shared: Float[Tensor, "batch out *space"]) -> Float[Tensor, "batch query *space"] | None:
        if self.queries is None or self.key_weight is None:
            return None
        return functional.position_weights(shared, self.queries.reshape(-1, self.key_channels), self.key_weight)


class CGFF(nn.Module):
    """Let the groups exchange information: multi-head attention across the group axis, added to the input.

    ``Y = X' + O(A V(X')) / sqrt(channels)`` with ``A = softmax(Q(norm m) K(norm m)^T / sqrt(key_channels))`` and m the
    spatial mean of X'. The path that carries the values is linear, so averaging over space before or after CGFF is the
    same. The fixed factor keeps it from growing much faster than the modules around it.

    Args:
        channels: Channels of each group.
        num_heads: Number of attention heads.
        key_channels: Width of the queries and keys of each head; None means ``channels / num_heads``.
        norm: Whether a layer norm stands before queries and keys.
        dropout: Probability of dropping an entry of the affinity while training, in [0, 1).
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: A size is not positive, ``num_heads`` does not divide ``channels``, or ``dropout`` is out of range.

    Example:
        >>> cgff = CGFF(64, num_heads=4)
        >>> grouped = torch.randn(2, 8, 64, 7, 7)
        >>> torch.equal(cgff(grouped), grouped)  # a new CGFF changes nothing
        True
        >>> cgff.affinity(grouped).shape
        torch.Size([2, 8, 8])

    Source:
        cross-group feature fusion in FAR-AMTN (arXiv 2601.01537). That it is this attention is mtattn's reading.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_heads: int = 8,
        key_channels: int | None = None,
        norm: bool = True,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive("CGFF", channels=channels, num_heads=num_heads)
        check_divides("CGFF", divisor="num_heads", value=num_heads, channels=channels)
        key_channels = channels // num_heads if key_channels is None else key_channels
        check_positive("CGFF", key_channels=key_channels)
        if not 0 <= dropout < 1:
            raise ValueError(f"CGFF: dropout is a probability in [0, 1), got {dropout}.")
        self.channels, self.num_heads, self.key_channels = channels, num_heads, key_channels
        self.norm = nn.LayerNorm(channels, device=device, dtype=dtype) if norm else nn.Identity()

        def linear(out_channels: int) -> nn.Linear:
            return nn.Linear(channels, out_channels, bias=False, device=device, dtype=dtype)

        self.query, self.key = linear(num_heads * key_channels), linear(num_heads * key_channels)
        self.value, self.output = linear(channels), linear(channels)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the identity: the output projection is zero, so that a trained model keeps its predictions."""
        for module in (self.norm, self.query, self.key, self.value):
            if not isinstance(module, nn.Identity):
                module.reset_parameters()
        nn.init.zeros_(self.output.weight)

    def affinity(self, x: Float[Tensor, "batch group channel *space"]) -> Float[Tensor, "batch group group"]:
        """Compute how much each group (row) listens to each group (column), averaged over heads; rows sum to 1."""
        return reduce(self._affinity(x), "batch head listener speaker -> batch listener speaker", "mean")

    def forward(self, x: Float[Tensor, "batch group channel *space"]) -> Float[Tensor, "batch group channel *space"]:
        """Add to each group's features what it hears from the groups, at every position."""
        heard = functional.mix_groups(self.dropout(self._affinity(x)), functional.channel_linear(x, self.value.weight))
        return x + functional.channel_linear(heard, self.output.weight / sqrt(self.channels))

    def extra_repr(self) -> str:  # noqa: D102
        narrow = self.num_heads * self.key_channels != self.channels
        return f"{self.channels}, num_heads={self.num_heads}" + f", key_channels={self.key_channels}" * narrow

    def _affinity(self, x: Float[Tensor, "batch group channel *space"]) -> Float[Tensor, "batch head group group"]:
        check_size("CGFF", "channels", expected=self.channels, got=x.shape[2])
        descriptors = self.norm(reduce(x, "batch group channel ... -> batch group channel", "mean"))
        return functional.group_affinity(self.query(descriptors), self.key(descriptors), self.num_heads)


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
        check_size("GroupHeads", "groups", expected=len(self.groups), got=x.shape[1])
        check_size("GroupHeads", "channels", expected=self.channels, got=x.shape[2])
        return functional.group_logits(x, self.weight, self.bias, self.group_of)

    def extra_repr(self) -> str:  # noqa: D102
        return f"{self.channels}, sizes={dict(zip(self.groups, self.groups.sizes, strict=True))}"
