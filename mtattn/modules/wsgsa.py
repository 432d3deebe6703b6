"""WSGSA: one shared module, one channel gate a group."""

from math import sqrt
from typing import Literal

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from mtattn import functional
from mtattn._checks import check_divides, check_features, check_positive
from mtattn.groups import check_known

PLACE_FACTOR = 20.0  # Adam moves all weights alike; those of the place are few and have further to go


class WSGSA(nn.Module):
    """Give each attribute group its own view of shared features: one shared module, one channel gate a group.

    ``X'_g = gates_g(X) * f(X)``, channel by channel, where f is ``shared`` and the gates look at the spatial mean of X.
    With ``spatial=True`` each group also learns where to look: ``X'_g = gates_g(X) * positions_g(X) * f(X)``, by what
    is there and, with ``coordinates``, by the place. Positions that are known, such as masks, are given:
    ``wsgsa(x, positions)``.

    Args:
        channels: Channels of the input.
        num_groups: Number of attribute groups.
        reduction: The gates' hidden layer has ``channels / reduction`` units. None: no hidden layer; each gate is a
            learned constant, the same for all images.
        shared: The module f of all groups: ``(b, channels, *s)`` to ``(b, out_channels, *s2)``; None is the identity.
        out_channels: Channels that ``shared`` returns; None means as many as it gets.
        spatial: Whether each group also weighs the positions. A new module weighs them all alike.
        num_heads: How many queries a group has; each weighs the positions for its own part of the output channels.
        key_channels: Width of the keys and queries that weigh the positions.
        squeeze: What the gates see of X: its "mean" over space, or "mean+max", both through the same layers.
        coordinates: Number of spatial axes along which the place counts beside what is there: 2 for images, 0 for none.
            For images that are aligned, as cropped faces are.
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: A size is not positive, ``reduction`` or ``num_heads`` does not divide its channels, or there are
            ``coordinates`` without ``spatial``.

    Example:
        >>> wsgsa = WSGSA(64, num_groups=8)
        >>> features = torch.randn(2, 64, 7, 7)
        >>> wsgsa(features).shape
        torch.Size([2, 8, 64, 7, 7])
        >>> wsgsa.pooled(features).shape  # the same, averaged over space, but never built
        torch.Size([2, 8, 64])

    Source:
        weight-shared group-specific attention in FAR-AMTN (arXiv 2601.01537). ``spatial`` and
        ``coordinates`` are mtattn's own.
    """

    def __init__(
        self,
        channels: int,
        num_groups: int,
        *,
        reduction: int | None = 16,
        shared: nn.Module | None = None,
        out_channels: int | None = None,
        spatial: bool = False,
        num_heads: int = 1,
        key_channels: int = 64,
        coordinates: int = 0,
        squeeze: Literal["mean", "mean+max"] = "mean",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        out_channels = channels if out_channels is None else out_channels
        channels, num_groups, out_channels, num_heads, key_channels = check_positive(
            "WSGSA",
            channels=channels,
            num_groups=num_groups,
            out_channels=out_channels,
            num_heads=num_heads,
            key_channels=key_channels,
        )
        if reduction is not None:
            (reduction,) = check_positive("WSGSA", reduction=reduction)
            check_divides("WSGSA", divisor="reduction", value=reduction, channels=channels)
        check_divides("WSGSA", divisor="num_heads", value=num_heads, out_channels=out_channels)
        if not (shared is None or isinstance(shared, nn.Module)):
            raise TypeError(f"WSGSA: shared is an nn.Module, got {shared!r}; a class has to be called: shared=Class().")
        if shared is None and out_channels != channels:
            raise ValueError(
                f"WSGSA: without a shared module out_channels equals channels, "
                f"got channels={channels} and out_channels={out_channels}; pass shared=."
            )
        check_known("WSGSA", "squeeze", [squeeze], ("mean", "mean+max"))
        if reduction is None and squeeze != "mean":
            raise ValueError(
                f"WSGSA: squeeze says what the gates see, and with reduction=None they see nothing, "
                f"got squeeze={squeeze!r}; leave it out, or give reduction=16."
            )
        if coordinates is True or not 0 <= coordinates <= 3 * spatial:
            raise ValueError(
                f"WSGSA: coordinates is a number of spatial axes, 0 to 3, and needs spatial=True, "
                f"got coordinates={coordinates} and spatial={spatial}."
            )
        self.channels, self.num_groups, self.out_channels = channels, num_groups, out_channels
        self.reduction, self.spatial, self.num_heads, self.key_channels = reduction, spatial, num_heads, key_channels
        self.coordinates, self.squeeze = coordinates, squeeze
        self.shared = nn.Identity() if shared is None else shared

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        reduced = None if reduction is None else channels // reduction
        self.down_weight = parameter(num_groups, reduced, channels) if reduced else None
        self.down_bias = parameter(num_groups, reduced) if reduced else None
        self.up_weight = parameter(num_groups, out_channels, reduced) if reduced else None
        self.up_bias = parameter(num_groups, out_channels)
        self.queries = parameter(num_groups, num_heads * key_channels) if spatial else None
        self.key_weight = parameter(key_channels, out_channels) if spatial else None
        terms = coordinates * (coordinates + 3) // 2  # the axes, and the products of any two of them
        self.place_weight = parameter(num_groups, num_heads * terms) if coordinates else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start the gates near one half, each group a little different, and the positions all alike.

        The weights start like torch's Linear. Zero biases and the sigmoid keep the gates close to one half, so twice
        the output has the scale of f(X). ``shared`` keeps its parameters.
        """
        for weight in (self.down_weight, self.up_weight, self.key_weight):
            if weight is not None:
                nn.init.uniform_(weight, -1 / sqrt(weight.shape[-1]), 1 / sqrt(weight.shape[-1]))
        for start_at_zero in (self.down_bias, self.up_bias, self.queries, self.place_weight):
            if start_at_zero is not None:
                nn.init.zeros_(start_at_zero)

    def gates(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch group out"]:
        """Compute the gate of each group and output channel, in (0, 1); one for all images with ``reduction=None``."""
        return self._gates(self._mean(x), self._maximum(x))

    def positions(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch group *new_space"]:
        """Compute how much each group looks at each position of f(x); averages to 1, all ones without ``spatial``.

        ``shared`` runs for it once more, on a copy of ``x`` and of its own statistics: nothing changes by looking.
        """
        check_features("WSGSA", x, "batch", "channel", channel=self.channels)
        statistics = {name: buffer.clone() for name, buffer in self.shared.named_buffers()}
        shared = self._checked(torch.func.functional_call(self.shared, statistics, (x.clone(),)))
        positions = self._positions(shared)
        if positions is None:
            return shared.new_ones(shared.shape[0], self.num_groups, *shared.shape[2:])
        return reduce(positions, "batch (group head) ... -> batch group ...", "mean", group=self.num_groups)

    def forward(
        self,
        x: Float[Tensor, "batch channel *space"],
        positions: Float[Tensor, "batch group *new_space"] | None = None,
        *,
        pool: Literal["mean", "max"] | None = None,
    ) -> Float[Tensor, "batch group out *pooled_space"]:
        """Compute the features of each group at every position of f(x); with ``pool``, pooled over them.

        Args:
            x: The features that the groups share.
            positions: How much each group looks at each position of f(x), averaging to 1, in place of what the module
                learned: :func:`mtattn.functional.mask_positions` makes them from masks.
            pool: What :meth:`pooled` asks for.
        """
        mean = self._mean(x)
        gates = self._gates(mean, self._maximum(x))  # first: a shared module may work in place
        shared = self._checked(self.shared(x))
        if pool == "max":
            return self._max(shared, gates, positions)
        if (
            pool == "mean"
            and type(self.shared) is nn.Identity
            and shared is x
            and positions is None
            and not self.spatial
        ):
            return gates * mean.unsqueeze(1)  # the same mean twice, so x is read once
        where = self._positions(shared) if positions is None else self._given(positions, shared)
        return (functional.gate if pool is None else functional.gate_mean)(shared, gates, where)

    def pooled(
        self,
        x: Float[Tensor, "batch channel *space"],
        positions: Float[Tensor, "batch group *new_space"] | None = None,
        *,
        pool: Literal["mean", "max"] = "mean",
    ) -> Float[Tensor, "batch group out"]:
        """Compute ``self(x, positions)`` averaged over space, or its maximum, exactly, without building it."""
        check_known("WSGSA", "pool", [pool], ("mean", "max"))
        pooled: Tensor = self(x, positions, pool=pool)  # through __call__, where hooks, pruning and wrappers act
        return pooled

    def extra_repr(self) -> str:  # noqa: D102
        sizes = f"{self.channels}, {self.num_groups}, reduction={self.reduction}, out_channels={self.out_channels}"
        where = f", spatial=True, num_heads={self.num_heads}, key_channels={self.key_channels}" * self.spatial
        return (
            sizes
            + where
            + f", coordinates={self.coordinates}" * bool(self.coordinates)
            + (f", squeeze={self.squeeze!r}" * (self.squeeze != "mean"))
        )

    def _mean(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel"]:
        check_features("WSGSA", x, "batch", "channel", channel=self.channels)
        return reduce(x, "batch channel ... -> batch channel", "mean")

    def _maximum(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel"] | None:
        return None if self.squeeze == "mean" else reduce(x, "batch channel ... -> batch channel", "max")

    def _gates(
        self, mean: Float[Tensor, "batch channel"], maximum: Float[Tensor, "batch channel"] | None
    ) -> Float[Tensor, "batch group out"]:
        if self.down_weight is None or self.down_bias is None or self.up_weight is None:
            return self.up_bias.to(mean.dtype).sigmoid().expand(mean.shape[0], -1, -1)
        return functional.channel_gates(mean, self.down_weight, self.down_bias, self.up_weight, self.up_bias, maximum)

    def _checked(self, shared: Tensor) -> Float[Tensor, "batch out *new_space"]:
        check_features("WSGSA, its shared module", shared, "batch", "channel", channel=self.out_channels)
        return shared

    def _given(
        self, positions: Float[Tensor, "batch group *space"], shared: Float[Tensor, "batch out *space"]
    ) -> Float[Tensor, "batch group *space"]:
        check_features("WSGSA, its positions", positions, "batch", "group", group=self.num_groups)
        if positions.shape[2:] != shared.shape[2:]:
            raise ValueError(
                f"WSGSA: positions weigh those of f(x), {tuple(shared.shape[2:])}, got {tuple(positions.shape[2:])}; "
                f"functional.mask_positions brings masks to this size."
            )
        return positions

    def _max(
        self,
        shared: Float[Tensor, "batch out *space"],
        gates: Float[Tensor, "batch group out"],
        positions: Float[Tensor, "batch group *space"] | None,
    ) -> Float[Tensor, "batch group out"]:
        if self.spatial or positions is not None:
            raise ValueError(
                "WSGSA: the maximum over space is one for all groups only where all look everywhere alike, "
                "got positions; take pool='mean', or the maximum of wsgsa(x, positions) itself."
            )
        return functional.gate_max(shared, gates)

    def _positions(self, shared: Float[Tensor, "batch out *space"]) -> Float[Tensor, "batch query *space"] | None:
        if self.queries is None or self.key_weight is None:
            return None
        queries, place_weight = self.queries.reshape(-1, self.key_channels), None
        if self.place_weight is not None:
            if shared.ndim - 2 != self.coordinates:
                raise ValueError(
                    f"WSGSA: coordinates={self.coordinates} expects {self.coordinates} spatial axes, "
                    f"got {shared.ndim - 2}; pass that number, or 0 (FARAMTN: coordinates=False)."
                )
            place_weight = PLACE_FACTOR * self.place_weight.reshape(len(queries), -1)
        return functional.position_weights(shared, queries, self.key_weight, place_weight)
