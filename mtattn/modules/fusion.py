"""MultiLevelFusion and AttentionalFusion: several features become one."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from mtattn import functional
from mtattn._checks import check_divides, check_features, check_positive


class MultiLevelFusion(nn.Module):
    """Join the levels of a backbone in one map, of the size of the last and coarsest.

    Each level is averaged down to that size and convolved to its share of the output channels, in proportion to its own
    (:func:`mtattn.functional.channel_shares`).

    Args:
        channels: Channels of each level, fine to coarse, as ``feature_info.channels()`` of a timm backbone with
            ``features_only=True`` has them.
        out_channels: Channels of the output.
        kernel_size: Side of the convolutions, odd.
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: A size is not positive, ``kernel_size`` is even, or a level gets no channel.

    Example:
        >>> fusion = MultiLevelFusion((16, 32), 24)
        >>> fusion([torch.randn(2, 16, 14, 14), torch.randn(2, 32, 7, 7)]).shape
        torch.Size([2, 24, 7, 7])

    Source:
        multi-level feature fusion in SwinFace (arXiv 2308.11509).
    """

    def __init__(
        self,
        channels: Sequence[int],
        out_channels: int,
        *,
        kernel_size: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = check_positive("MultiLevelFusion", **{f"channels[{i}]": width for i, width in enumerate(channels)})
        self.out_channels, kernel_size = check_positive(
            "MultiLevelFusion", out_channels=out_channels, kernel_size=kernel_size
        )
        if not sizes:
            raise ValueError("MultiLevelFusion: needs at least one level, got none.")
        if kernel_size % 2 == 0:
            raise ValueError(f"MultiLevelFusion: kernel_size is odd, so that the size is kept, got {kernel_size}.")
        self.channels, shares = sizes, functional.channel_shares(sizes, self.out_channels)
        if 0 in shares:
            raise ValueError(f"MultiLevelFusion: each level needs a share, got {shares}; raise out_channels.")
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, share, kernel_size, padding=kernel_size // 2, bias=False, device=device, dtype=dtype)
            for width, share in zip(sizes, shares, strict=True)
        )

    def forward(self, levels: Sequence[Float[Tensor, "batch _ _ _"]]) -> Float[Tensor, "batch out height width"]:
        """Join the levels, fine to coarse."""
        if isinstance(levels, Tensor) or len(levels) != len(self.channels):
            got = f"one tensor {tuple(levels.shape)}" if isinstance(levels, Tensor) else f"{len(levels)} of them"
            raise ValueError(f"MultiLevelFusion: expects a list of {len(self.channels)} levels, got {got}.")
        for position, (level, width) in enumerate(zip(levels, self.channels, strict=True)):
            owner = f"MultiLevelFusion, level {position}"
            check_features(owner, level, "batch", "channel", channel=width)
            if level.shape[2] < levels[-1].shape[2] or level.shape[3] < levels[-1].shape[3]:
                raise ValueError(
                    f"{owner}: levels go from fine to coarse, got {tuple(level.shape[2:])} "
                    f"before {tuple(levels[-1].shape[2:])}; reverse the list."
                )
        height, width = levels[-1].shape[2:]
        return torch.cat(
            [
                convolution(F.adaptive_avg_pool2d(level, (height, width)))
                for convolution, level in zip(self.convolutions, levels, strict=True)
            ],
            dim=1,
        )

    def extra_repr(self) -> str:  # noqa: D102
        return f"{self.channels}, {self.out_channels}"


class AttentionalFusion(nn.Module):
    """Mix two features, channel by channel and position by position, in shares that depend on both.

    ``Z = M x + (1 - M) y`` with ``M = sigmoid(local(x + y) + context(mean_s (x + y)))``, two pairs of linear layers.

    Args:
        channels: Channels of both.
        reduction: The hidden layers have ``channels / reduction`` units.
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: A size is not positive, or ``reduction`` does not divide ``channels``.

    Example:
        >>> fusion, x, y = AttentionalFusion(16), torch.randn(2, 16, 7, 7), torch.randn(2, 16, 7, 7)
        >>> torch.allclose(fusion(x, y) + fusion(y, x), x + y, atol=1e-5)
        True

    Source:
        attentional feature fusion (arXiv 2009.14082), here without batch norms and without its factor of two. That
        the integration in AAFACE (arXiv 2308.07243) is this is our reading: its formulas are not public.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 4,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels, reduction = check_positive("AttentionalFusion", channels=channels, reduction=reduction)
        check_divides("AttentionalFusion", divisor="reduction", value=reduction, channels=self.channels)

        def layers() -> nn.Sequential:
            hidden = self.channels // reduction
            down = nn.Linear(self.channels, hidden, device=device, dtype=dtype)
            return nn.Sequential(down, nn.ReLU(), nn.Linear(hidden, self.channels, device=device, dtype=dtype))

        self.local, self.context = layers(), layers()

    def forward(
        self, x: Float[Tensor, "batch channel *space"], y: Float[Tensor, "batch channel *space"]
    ) -> Float[Tensor, "batch channel *space"]:
        """Mix the two: each number lies between the two that it comes from."""
        for features in (x, y):
            check_features("AttentionalFusion", features, "batch", "channel", channel=self.channels)
        if x.shape != y.shape:
            raise ValueError(f"AttentionalFusion: both have one shape, got {tuple(x.shape)} and {tuple(y.shape)}.")
        both = x + y
        mean = self.context(reduce(both, "batch channel ... -> batch channel", "mean"))
        local = functional.on_channels(self.local, both.unsqueeze(1)).squeeze(1)
        shares = (local + mean.reshape(*mean.shape, *[1] * (x.ndim - 2))).sigmoid()
        return torch.lerp(y, x, shares.to(x.dtype))

    def extra_repr(self) -> str:  # noqa: D102
        return f"{self.channels}"
