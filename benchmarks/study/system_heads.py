"""The heads of the systems of the field on the map of a frozen trunk, each with its loss.

What a head has to know of an image beside its map (masks, the viewpoint) lies in further channels of the map.
"""

from typing import Any

import torch
import torch.nn.functional as F
from heads import HEADS, WIDTH, Shape, convolution
from losses import LOSSES, Loss
from torch import Tensor, nn

from mtattn import CGFF, WSGSA, AttributeGroups, GroupHeads, functional
from mtattn.modules import AttributeCenterLoss, BatchRandomMask, GroupMLP, MaskHead

WHOLE = "object"  # the group that all parts of a face hear


class MGMTN(nn.Module):
    """Groups that look where their masks are, and hear themselves and the whole face.

    Args:
        shape: Channels and side of the map, masks included where they lie in it.
        groups: MGMTN's.
        masks: One for all images, (group, height, width); None learns them.
        given: Whether the last channels of the map are the masks of each image.
    """

    def __init__(
        self, shape: Shape, groups: AttributeGroups, *, masks: Tensor | None = None, given: bool = False
    ) -> None:
        super().__init__()
        channels, number = shape[0] - given * len(groups), len(groups)
        self.channels, self.given = channels, given
        self.register_buffer("fixed", masks)
        self.masks = MaskHead(channels, number) if masks is None and not given else None
        self.wsgsa = WSGSA(channels, number, shared=convolution(channels), out_channels=WIDTH)
        allowed = [[speaker in (listener, WHOLE) for speaker in groups] for listener in groups]
        self.g2ff, self.heads = CGFF(WIDTH, allowed=allowed), GroupHeads(WIDTH, groups)

    def forward(self, maps: Tensor) -> Tensor:
        x, masks = maps[:, : self.channels], maps[:, self.channels :]
        if not self.given:
            masks = self.fixed.expand(len(x), -1, -1, -1) if self.masks is None else self.masks(x).sigmoid()
        positions = functional.mask_positions(masks, (x.shape[2], x.shape[3]))
        logits: Tensor = self.heads(self.g2ff(2 * self.wsgsa.pooled(x, positions)))  # gates start near one half
        return logits


class SwinFace(nn.Module):
    """SwinFace's branches: gates that see mean and maximum, the maximum, and a small network for each group."""

    def __init__(self, shape: Shape, groups: AttributeGroups) -> None:
        super().__init__()
        channels, number = shape[0], len(groups)
        self.wsgsa = WSGSA(channels, number, shared=convolution(channels), squeeze="mean+max", out_channels=WIDTH)
        self.norm = nn.BatchNorm1d(number * WIDTH)
        self.subnets = GroupMLP(WIDTH, number, (WIDTH, WIDTH), dropout=0.5)
        self.heads = GroupHeads(WIDTH, groups)

    def forward(self, maps: Tensor) -> Tensor:
        grouped = self.wsgsa.pooled(maps, pool="max")
        logits: Tensor = self.heads(self.subnets(self.norm(grouped.flatten(1)).view_as(grouped)))
        return logits


class PARFormer(nn.Module):
    """One linear layer, with what PARFormer adds to it while it trains; the last channel of the map is the viewpoint.

    Args:
        shape: Channels and side of the map, the viewpoint included.
        groups: The attributes of each group.
        mask: The share of positions that are hidden while training.
        center: The weight of the centre loss.
        view: The weight of the viewpoint loss.
        gated: Whether each group has its gate, and its centres in its own features.
    """

    def __init__(
        self,
        shape: Shape,
        groups: AttributeGroups,
        *,
        mask: float = 0,
        center: float = 0,
        view: float = 0,
        gated: bool = False,
    ) -> None:
        super().__init__()
        channels = shape[0] - 1
        self.center, self.view = center, view
        self.shared, self.mask = convolution(channels), BatchRandomMask(mask)
        self.wsgsa = WSGSA(WIDTH, len(groups)) if gated else None
        self.heads = GroupHeads(WIDTH, groups) if gated else nn.Linear(WIDTH, len(groups.attributes))
        self.centers = AttributeCenterLoss(groups, WIDTH) if center else None
        self.views = nn.Linear(WIDTH, 3, bias=False) if view else None

    def forward(self, maps: Tensor) -> Tensor:
        x = self.mask(self.shared(maps[:, :-1]))
        mean = x.mean((2, 3))
        self.features = mean if self.wsgsa is None else 2 * self.wsgsa.pooled(x)  # the loss reads these three, too
        self.seen, self.scores = maps[:, -1, 0, 0], None if self.views is None else self.views(mean)
        logits: Tensor = self.heads(self.features)
        return logits


class PARFormerLoss(Loss):
    """The loss of the attributes, of their centres, and of the viewpoint."""

    def __init__(self, attributes: Loss, head: PARFormer) -> None:
        super().__init__()
        self.attributes, self.head = attributes, (head,)  # in a tuple: its parameters are not the loss's

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        (head,) = self.head
        total = self.attributes(logits, targets)
        if head.centers is not None:
            total = total + head.center * head.centers(head.features, targets)
        if head.scores is not None:
            known = ~head.seen.isnan()
            total = total + head.view * view_loss(head.scores[known], head.seen[known])
        return total


def view_loss(scores: Tensor, seen: Tensor, temperature: float = 0.1) -> Tensor:
    """Compute NTXentLoss of pytorch-metric-learning, without its tensor of pairs by pairs: 50 times faster here.

    Args:
        scores: (image, any).
        seen: The viewpoint of each image: (image,).
        temperature: Divides the cosines.
    """
    cosines = F.normalize(scores, dim=1)
    cosines = cosines @ cosines.T / temperature
    same = seen[:, None] == seen
    others = torch.where(same, -1e9, cosines).logsumexp(1, keepdim=True)  # finite: the gradient has no NaN
    pairs = same & ~torch.eye(len(seen), dtype=torch.bool)
    return F.softplus(others - cosines)[pairs].sum() / pairs.sum().clamp(min=1)


SYSTEM_HEADS = {**HEADS, "mgmtn": MGMTN, "swinface": SwinFace, "parformer": PARFormer}


def loss_of(name: str, head: nn.Module, groups: AttributeGroups, **options: Any) -> Loss:
    """Build the loss of a head."""
    loss = LOSSES[name](groups, **options)
    return PARFormerLoss(loss, head) if isinstance(head, PARFormer) else loss
