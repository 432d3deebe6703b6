"""DWSLoss against the plain loss, torchjd's rules and gradnorm-pytorch: alone, and within a training step."""

import statistics
from collections.abc import Callable

import timm
import torch
import torch.nn.functional as F
from common import Bench, Call, Spread, training_step
from gradnorm_pytorch import GradNormLossWeighter
from torch import Tensor, nn
from torchjd.aggregation import UPGrad
from torchjd.autojac import backward, jac_to_grad
from torchjd.scalarization import DWA, FAMO, UW

from mtattn import AttributeGroups, DWSLoss
from mtattn.data import CELEBA_GROUPS

BATCH, SIDE = 64, 64
ATTRIBUTES = CELEBA_GROUPS.attributes
GROUPINGS = {8: CELEBA_GROUPS, 40: AttributeGroups({name: [name] for name in ATTRIBUTES})}


class TaskLosses:
    """The mean loss of each group, as its user writes it: one value a task for those who take a vector."""

    def __init__(self, bench: Bench, groups: AttributeGroups) -> None:
        self.members = F.one_hot(torch.tensor(groups.group_of)).float().to(bench.device)
        self.shares = self.members / self.members.sum(0)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(0) @ self.shares


def run(bench: Bench) -> None:
    targets = torch.randint(0, 2, (BATCH, len(ATTRIBUTES)), device=bench.device).float()
    images = bench.tensor(BATCH, 3, SIDE, SIDE)
    for num_tasks, groups in GROUPINGS.items():
        task_losses = TaskLosses(bench, groups)
        rules = scalar_rules(bench, num_tasks, groups, task_losses)
        alone(bench, num_tasks, rules, images, targets)
        within_a_step(bench, num_tasks, rules, task_losses, images, targets)


def scalar_rules(
    bench: Bench, num_tasks: int, groups: AttributeGroups, task_losses: TaskLosses
) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """List the rules that turn logits and targets into one number, warm: two periods are behind each."""
    ours, dwa, uw = (bench.put(module) for module in (DWSLoss(groups), DWA(), UW(num_tasks)))
    masked_dwa, famo = bench.put(DWA()), bench.put(FAMO(num_tasks))

    def with_update(logits: Tensor, targets: Tensor) -> Tensor:
        value = famo(task_losses(logits, targets))
        with torch.no_grad():  # FAMO looks at the same batch again; a real step needs a second forward pass for it
            famo.update(task_losses(logits.detach(), targets))
        return value

    def with_missing_labels(logits: Tensor, targets: Tensor) -> Tensor:
        labelled = ~targets.isnan()
        zeros = torch.zeros_like(logits)
        losses = F.binary_cross_entropy_with_logits(
            logits.where(labelled, zeros), targets.where(labelled, zeros), reduction="none"
        )
        sums, counts = (losses * labelled).sum(0) @ task_losses.members, labelled.float().sum(0) @ task_losses.members
        return masked_dwa(sums / counts.clamp_min(1))

    rules = {
        "DWSLoss": ours,
        "plain binary cross-entropy": F.binary_cross_entropy_with_logits,
        "torchjd's DWA": lambda logits, targets: dwa(task_losses(logits, targets)),
        "torchjd's DWA, missing labels taken care of": with_missing_labels,
        "torchjd's UW": lambda logits, targets: uw(task_losses(logits, targets)),
        "torchjd's FAMO, without its second pass": with_update,
    }
    for _ in range(2):
        for rule in rules.values():
            rule(bench.tensor(BATCH, len(ATTRIBUTES)), torch.ones(BATCH, len(ATTRIBUTES), device=bench.device))
        for stepping in (ours, dwa, masked_dwa):
            stepping.step()
    return rules


def alone(
    bench: Bench, num_tasks: int, rules: dict[str, Callable[..., Tensor]], images: Tensor, targets: Tensor
) -> None:
    """Time the losses alone, with a step of a resnet18 beside them for scale."""
    network = bench.put(timm.create_model("resnet18", num_classes=len(ATTRIBUTES)))
    scale = f"for scale: a step of resnet18 at {SIDE} pixels"
    logits = torch.randn_like(targets, requires_grad=True)
    calls = {name: training_step(rule, [logits, targets], []) for name, rule in rules.items()}
    calls[scale] = training_step(
        lambda images: F.binary_cross_entropy_with_logits(network(images), targets),
        [images],
        list(network.parameters()),
    )

    def share(seconds: dict[str, list[float]]) -> dict[str, float]:
        step = statistics.median(seconds[scale])
        pairs = zip(seconds["DWSLoss"], seconds["plain binary cross-entropy"], strict=True)
        added = Spread.of([100 * (ours - plain) / step for ours, plain in pairs])
        return {"added_percent_of_a_step": added.median, "low": added.low, "high": added.high}

    bench.compare(
        f"The loss of {len(ATTRIBUTES)} attributes in {num_tasks} tasks, forward and backward",
        calls,
        sizes={"batch": BATCH, "tasks": num_tasks},
        bytes_moved=3 * logits.nbytes,  # read logits and targets, write the gradient
        facts=share,
    )


def within_a_step(
    bench: Bench,
    num_tasks: int,
    rules: dict[str, Callable[..., Tensor]],
    task_losses: TaskLosses,
    images: Tensor,
    targets: Tensor,
) -> None:
    """Time whole training steps, which is what the rules that look at gradients change."""
    network = bench.put(timm.create_model("resnet18", num_classes=len(ATTRIBUTES)))
    parameters = list(network.parameters())

    def step(rule: Callable[..., Tensor]) -> Call:
        return training_step(lambda images: rule(network(images), targets), [images], parameters)

    names = ("DWSLoss", "plain binary cross-entropy", "torchjd's DWA")
    bench.compare(
        f"A training step of resnet18 with the loss of {num_tasks} tasks",
        {name: step(rules[name]) for name in names}
        | {
            "gradnorm-pytorch": gradnorm_step(bench, num_tasks, network, task_losses, images, targets),
            "torchjd's UPGrad": upgrad_step(network, task_losses, images, targets),
        },
        sizes={"batch": BATCH, "tasks": num_tasks, "image": SIDE},
        blocks=min(bench.blocks, 5),  # a step of UPGrad takes seconds
    )


def gradnorm_step(
    bench: Bench, num_tasks: int, network: nn.Module, task_losses: TaskLosses, images: Tensor, targets: Tensor
) -> Call:
    """Make a step of GradNorm: it compares the gradients of the tasks in the last shared convolution."""
    weighter = GradNormLossWeighter(
        num_losses=num_tasks, restoring_force_alpha=1.0, grad_norm_parameters=network.layer4[-1].conv2.weight
    ).to(bench.device)

    def step() -> None:
        weighter.backward(task_losses(network(images), targets))
        network.zero_grad()

    return step


def upgrad_step(network: nn.Module, task_losses: TaskLosses, images: Tensor, targets: Tensor) -> Call:
    """Make a step of UPGrad: a gradient of the whole network for each task, one backward pass each."""
    aggregator, parameters = UPGrad(), list(network.parameters())

    def step() -> None:
        backward(task_losses(network(images), targets), inputs=parameters, parallel_chunk_size=1)
        jac_to_grad(parameters, aggregator)
        network.zero_grad()

    return step
