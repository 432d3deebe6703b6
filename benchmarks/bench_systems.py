"""The parts of other systems against what their code, or a user, writes: loops and dense products."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from common import Bench, count, training_step
from timm.layers.cbam import ChannelAttn
from torch import Tensor, nn

from mtattn import WSGSA, AttributeGroups, functional
from mtattn.modules import AttributeCenterLoss

BRANCHES = [(32, 512, 7, 11)]  # batch, channels, side, groups; SwinFace's
MASKS = [(32, 256, 14, 8, 56), (32, 1024, 14, 8, 224)]  # and side of the masks
CENTERS = [(32, 512, 36), (128, 1024, 36)]  # batch, channels, attributes; PETA's number of them
POSITIVE = 0.2  # share of the labels
REDUCTION = 16


class MaxLoop(nn.Module):
    """A branch for each group: CBAM's channel gate from timm, ReLU, the maximum; same numbers as WSGSA's."""

    def __init__(self, channels: int, num_groups: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            ChannelAttn(channels, rd_ratio=1 / REDUCTION, rd_divisor=1, mlp_bias=True) for _ in range(num_groups)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([branch(x).relu().amax((-2, -1)) for branch in self.branches], 1)


def copy_parameters(wsgsa: WSGSA, loop: MaxLoop) -> None:
    """Give the loop the parameters of WSGSA."""
    with torch.no_grad():
        for group, branch in enumerate(loop.branches):
            branch.fc1.weight[..., 0, 0], branch.fc1.bias[:] = wsgsa.down_weight[group], wsgsa.down_bias[group]
            branch.fc2.weight[..., 0, 0], branch.fc2.bias[:] = wsgsa.up_weight[group], wsgsa.up_bias[group]


def dense_means(x: Tensor, masks: Tensor) -> Tensor:
    """Multiply each mask with the whole map, then average under it."""
    masks = F.adaptive_avg_pool2d(masks, x.shape[-2:]) + 1e-6
    return (masks[:, :, None] * x[:, None]).sum((-2, -1)) / masks.sum((-2, -1))[:, :, None]


def pooled_means(x: Tensor, masks: Tensor) -> Tensor:
    """Compute the same by our functions."""
    positions = functional.mask_positions(masks, x.shape[-2:])
    return functional.gate_mean(x, x.new_ones(1, 1, 1).expand(len(x), masks.shape[1], x.shape[1]), positions)


def looped_centers(features: Tensor, centers: Tensor, targets: Tensor) -> Tensor:
    """Ask each label on its own, as PARFormer's code does, with its wait for the device."""
    total = features.new_zeros(())
    for feature, labels in zip(features, targets, strict=True):
        for center, label in zip(centers, labels, strict=True):
            if label.item() == 1:
                total = total + (feature - center).square().sum()
    return total / (2 * targets.numel())


def dense_centers(features: Tensor, centers: Tensor, targets: Tensor) -> Tensor:
    """Build all differences, images times attributes times channels."""
    distances = (features[:, None] - centers).square().sum(-1)
    return (targets * distances).sum() / (2 * targets.numel())


def run(bench: Bench) -> None:
    for case in BRANCHES:
        compare_maximum(bench, *case)
    for case in MASKS:
        compare_masks(bench, *case)
    for case in CENTERS:
        compare_centers(bench, *case)


def compare_maximum(bench: Bench, batch: int, channels: int, side: int, num_groups: int) -> None:
    """Time the maximum behind a gate for each group."""
    wsgsa = bench.put(WSGSA(channels, num_groups, reduction=REDUCTION, shared=nn.ReLU(), squeeze="mean+max"))
    loop = bench.put(MaxLoop(channels, num_groups))
    copy_parameters(wsgsa, loop)
    x = bench.tensor(batch, channels, side, side, grad=True)
    _compare(
        bench,
        "A gate and a maximum for each group, forward and backward",
        {
            'WSGSA, pool="max"': (wsgsa, lambda x: wsgsa.pooled(x, pool="max")),
            "a loop of timm's ChannelAttn, ReLU and maximum": (loop, loop),
            "WSGSA, whole maps, then the maximum": (wsgsa, lambda x: wsgsa(x).amax((-2, -1))),
        },
        [x],
        {"batch": batch, "channels": channels, "side": side, "groups": num_groups},
        bytes_moved=2 * x.nbytes + 3 * 4 * count(wsgsa),
        operations=12 * batch * count(wsgsa),  # the two layers see the mean and the maximum
    )


def compare_masks(bench: Bench, batch: int, channels: int, side: int, num_groups: int, mask: int) -> None:
    """Time the mean of each group under a given mask."""
    x = bench.tensor(batch, channels, side, side, grad=True)
    masks = torch.rand(batch, num_groups, mask, mask, device=bench.device)
    nothing = nn.Identity()
    _compare(
        bench,
        "The mean under a given mask for each group, forward and backward",
        {
            "mask_positions and gate_mean": (nothing, lambda x: pooled_means(x, masks)),
            "masks times maps, then the mean": (nothing, lambda x: dense_means(x, masks)),
        },
        [x],
        {"batch": batch, "channels": channels, "side": side, "groups": num_groups, "masks": f"{mask} x {mask}"},
        bytes_moved=2 * x.nbytes + masks.nbytes,
        operations=4 * batch * num_groups * channels * side * side,
    )


def compare_centers(bench: Bench, batch: int, channels: int, num_attributes: int) -> None:
    """Time the loss that draws images to the centres of their attributes."""
    groups = AttributeGroups({"all": [f"attribute {number}" for number in range(num_attributes)]})
    loss = bench.put(AttributeCenterLoss(groups, channels))
    features = torch.randn(batch, channels, device=bench.device, requires_grad=True)
    targets = (torch.rand(batch, num_attributes, device=bench.device) < POSITIVE).float()
    _compare(
        bench,
        "Centres of attributes, forward and backward",
        {
            "AttributeCenterLoss": (loss, lambda f: loss(f, targets)),
            "a double loop over images and attributes": (loss, lambda f: looped_centers(f, loss.centers, targets)),
            "all differences at once": (loss, lambda f: dense_centers(f, loss.centers, targets)),
        },
        [features],
        {"batch": batch, "channels": channels, "attributes": num_attributes},
        bytes_moved=2 * features.nbytes + 3 * 4 * count(loss),
        operations=6 * batch * num_attributes * channels,
        graphs=False,  # the loop waits for the device
    )


def _compare(
    bench: Bench,
    what: str,
    forms: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]],
    inputs: list[Tensor],
    sizes: dict[str, object],
    *,
    bytes_moved: float,
    operations: float,
    graphs: bool = True,
) -> None:
    (x,) = inputs
    with torch.no_grad():
        results = [form(x) for _, form in forms.values()]
    facts = {"largest_difference": max((other - results[0]).abs().max().item() for other in results[1:])}
    for variant in bench.few_variants:
        if variant.graph and not graphs:
            continue
        bench.compare(
            what,
            {
                name: training_step(form, inputs, list(module.parameters()), variant=variant)
                for name, (module, form) in forms.items()
            },
            sizes=sizes,
            variant=variant,
            bytes_moved=bytes_moved,
            operations=operations,
            facts=lambda _: facts,
        )
