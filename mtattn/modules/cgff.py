"""CGFF: the groups exchange information."""

from collections.abc import Sequence
from math import sqrt

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from mtattn import functional
from mtattn._checks import check_divides, check_features, check_positive, check_probability


class CGFF(nn.Module):
    """Let the groups exchange information: multi-head attention across the group axis, added to the input.

    ``Y = X' + O(A V(X')) / sqrt(channels)`` with ``A = softmax(Q(norm m) K(norm m)^T / sqrt(key_channels))`` and m the
    spatial mean of X'. The path that carries the values is linear, so averaging over space before or after CGFF is the
    same. The fixed factor keeps it from growing much faster than the modules around it.

    Args:
        channels: Channels of each group.
        num_heads: Number of attention heads.
        key_channels: Width of the queries and keys of each head; None means ``channels / num_heads``, and 0 that there
            are none: who listens to whom is then the same for all images.
        norm: Whether a layer norm stands before queries and keys.
        num_groups: With it, each head also learns a number for each pair of groups, which is added to the scores before
            the softmax and starts at zero. Without it, CGFF does not know which group is which.
        dropout: Probability of dropping an entry of the affinity while training, in [0, 1).
        allowed: Which group (row) may listen to which (column), a square of yes and no in the order of the groups; None
            lets every group listen to every group. It is part of the state dict.
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: A size is not positive, ``num_heads`` does not divide ``channels``, ``dropout`` is out of range, or
            ``allowed`` is no square, of another size than ``num_groups``, or leaves a group without anybody to listen
            to.

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

    allowed: Tensor | None
    prior: nn.Parameter | None
    query: nn.Linear | None
    key: nn.Linear | None

    def __init__(
        self,
        channels: int,
        *,
        num_heads: int = 8,
        key_channels: int | None = None,
        norm: bool = True,
        num_groups: int | None = None,
        dropout: float = 0.0,
        allowed: Sequence[Sequence[bool]] | Tensor | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        channels, num_heads = check_positive("CGFF", channels=channels, num_heads=num_heads)
        check_divides("CGFF", divisor="num_heads", value=num_heads, channels=channels)
        key_channels = channels // num_heads if key_channels is None else key_channels
        if key_channels != 0:
            (key_channels,) = check_positive("CGFF", key_channels=key_channels)
        if num_groups is not None:
            (num_groups,) = check_positive("CGFF", num_groups=num_groups)
        check_probability("CGFF", dropout=dropout)
        self.channels, self.num_heads, self.key_channels = channels, num_heads, key_channels
        self.num_groups = num_groups
        self.norm = nn.LayerNorm(channels, device=device, dtype=dtype) if norm and key_channels else nn.Identity()

        def linear(out_channels: int) -> nn.Linear:
            return nn.Linear(channels, out_channels, bias=False, device=device, dtype=dtype)

        self.query = linear(num_heads * key_channels) if key_channels else None
        self.key = linear(num_heads * key_channels) if key_channels else None
        self.value, self.output = linear(channels), linear(channels)
        self.dropout = nn.Dropout(dropout)
        pairs = (num_heads, num_groups or 0, num_groups or 0)
        prior = None if num_groups is None else nn.Parameter(torch.empty(pairs, device=device, dtype=dtype))
        self.register_parameter("prior", prior)
        self._allowed_rows = None if allowed is None else _checked_square(allowed, num_groups)
        square = None if allowed is None else torch.tensor(self._allowed_rows, device=device)
        self.register_buffer("allowed", square)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the identity: the output projection is zero, so that a trained model keeps its predictions."""
        for module in (self.norm, self.query, self.key, self.value):
            if module is not None and not isinstance(module, nn.Identity):
                module.reset_parameters()
        nn.init.zeros_(self.output.weight)
        if self.prior is not None:
            nn.init.zeros_(self.prior)
        if self.allowed is not None:
            self.allowed.copy_(torch.tensor(self._allowed_rows, device="cpu"))

    def affinity(self, x: Float[Tensor, "batch group channel *space"]) -> Float[Tensor, "batch group group"]:
        """Compute how much each group (row) listens to each group (column), averaged over heads; rows sum to 1."""
        return reduce(self._affinity(x), "batch head listener speaker -> batch listener speaker", "mean")

    def forward(self, x: Float[Tensor, "batch group channel *space"]) -> Float[Tensor, "batch group channel *space"]:
        """Add to each group's features what it hears from the groups, at every position."""
        return x + self._heard(x)

    def extra_repr(self) -> str:  # noqa: D102
        narrow = self.num_heads * self.key_channels != self.channels
        return (
            f"{self.channels}, num_heads={self.num_heads}"
            + f", key_channels={self.key_channels}" * narrow
            + f", num_groups={self.num_groups}" * (self.num_groups is not None)
            + ("" if self._allowed_rows is None else f", allowed={sum(map(sum, self._allowed_rows))} pairs")
        )

    def _heard(self, x: Float[Tensor, "batch group channel *space"]) -> Float[Tensor, "batch group channel *space"]:
        affinity = self.dropout(self._affinity(x)) / sqrt(self.channels)  # the factor, where it costs least
        return functional.on_channels(
            self.output, functional.mix_groups(affinity, functional.on_channels(self.value, x))
        )

    def _affinity(self, x: Float[Tensor, "batch group channel *space"]) -> Float[Tensor, "batch head group group"]:
        known = [len(pairs[0]) for pairs in (self.allowed, self.prior) if pairs is not None]
        sizes = {"group": known[0]} if known else {}
        check_features("CGFF", x, "batch", "group", "channel", **sizes, channel=self.channels)
        if self.query is None or self.key is None:
            scores = x.new_zeros(self.num_heads, x.shape[1], x.shape[1]) if self.prior is None else self.prior
            return functional.scores_affinity(scores, self.allowed).expand(x.shape[0], -1, -1, -1)
        descriptors = self.norm(reduce(x, "batch group channel ... -> batch group channel", "mean"))
        queries, keys = self.query(descriptors), self.key(descriptors)
        return functional.group_affinity(queries, keys, self.num_heads, self.allowed, self.prior)


def _checked_square(allowed: Sequence[Sequence[bool]] | Tensor, num_groups: int | None) -> list[list[bool]]:
    rows = [list(row) for row in (allowed.tolist() if isinstance(allowed, Tensor) else allowed)]
    if not rows or any(len(row) != len(rows) for row in rows):
        raise ValueError(
            f"CGFF: allowed is a square, a row and a column for each group, got rows of {[*map(len, rows)]}."
        )
    if num_groups not in {None, len(rows)}:
        raise ValueError(f"CGFF: allowed has a row for each group, got {len(rows)} rows and num_groups={num_groups}.")
    strange = [value for row in rows for value in row if value not in (0, 1)]
    if strange:
        raise ValueError(f"CGFF: allowed says True or False of each pair, got {strange[0]!r}.")
    alone = [listener for listener, row in enumerate(rows) if not any(row)]
    if alone:
        raise ValueError(
            f"CGFF: every group needs somebody to listen to, got none for group {alone[0]}; "
            f"let it listen to itself: allowed[{alone[0]}][{alone[0]}] = True."
        )
    return [[bool(value) for value in row] for row in rows]
