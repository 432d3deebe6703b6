"""What several processes have to share, so that a run on two of them is the run on one with twice the batch."""

import os
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn
from torch.utils.data import Dataset, Subset

from mtattn._extras import needed_by
from mtattn.losses import DWSLoss

with needed_by("mtattn.training", extra="recipes"):
    from accelerate import Accelerator, PartialState
    from accelerate.state import AcceleratorState, is_initialized
    from accelerate.utils import GradientAccumulationPlugin, parse_flag_from_env
    from timm.layers.norm_act import convert_sync_batchnorm

Item = TypeVar("Item")
Batch = Sequence[Any]  # images and targets: a tuple in a data set, a list from a loader


def processes() -> PartialState:
    """Join the other processes of this run, if there are any, and return what Accelerate knows of them.

    Example:
        >>> processes().num_processes, processes().is_main_process
        (1, True)
    """
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=on_cpu)  # unless told so, without a GPU it takes each process for the only one


def new_accelerator(mixed_precision: str, **options: Any) -> Accelerator:
    """Make an accelerator that does what our arguments say, whatever the environment says to Accelerate's programs.

    Accelerate itself holds every process to the precision of its first one.

    Raises:
        ValueError: The environment asks for a way to distribute the model that the loop does not know.
    """
    processes()
    if is_initialized() and AcceleratorState().mixed_precision != mixed_precision:
        AcceleratorState._reset_state()
    with _arguments_decide(mixed_precision):
        return Accelerator(
            mixed_precision=mixed_precision,
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            **options,
        )


@contextmanager
def _arguments_decide(mixed_precision: str) -> Generator[None]:
    """Hide from Accelerate the environment variables of options that are arguments here, with a word about it."""
    for name in ("DEEPSPEED", "FSDP", "MEGATRON_LM", "PARALLELISM_CONFIG"):
        if parse_flag_from_env(f"ACCELERATE_USE_{name}"):
            raise ValueError(
                f"mtattn.training: each process holds the whole model, got ACCELERATE_USE_{name} in the environment; "
                f"unset it, or write a loop of your own, as the page about FSDP shows."
            )
    ours = {
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1",
        "ACCELERATE_MIXED_PRECISION": mixed_precision,
        "ACCELERATE_DYNAMO_BACKEND": "no",
    }
    theirs = [f"{name}={os.environ[name]}" for name in ours if os.environ.get(name, ours[name]).lower() != ours[name]]
    if theirs:
        warnings.warn(f"mtattn.training: arguments decide, not the environment's {', '.join(theirs)}.", stacklevel=4)
    known = [name for name in os.environ if name in ours or name.startswith("ACCELERATE_DYNAMO_")]
    hidden = {name: os.environ.pop(name) for name in known}
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextmanager
def given_back(accelerator: Accelerator, model: nn.Module) -> Generator[None]:
    """Take away what ``prepare`` puts around a model's forward, however what happens meanwhile ends."""
    before = vars(model).get("forward")
    try:
        yield
    finally:
        accelerator.unwrap_model(model, keep_fp32_wrapper=False)
        if before is None:
            vars(model).pop("forward", None)


def own_share(accelerator: Accelerator, data: Dataset[Any]) -> Dataset[Any]:
    """Take the images that this process measures: all processes together take each one once, in its order."""
    if accelerator.num_processes == 1:
        return data
    places = torch.arange(len(cast("Sized", data)))  # torch's Dataset does not say that it has a length
    return Subset(data, places.tensor_split(accelerator.num_processes)[accelerator.process_index].tolist())


def in_steps(batches: Iterable[Item], accumulate: int) -> Iterator[list[Item]]:
    """Collect the batches of each step; as many as do not make a whole one at the end are left out."""
    step: list[Item] = []
    for batch in batches:
        step.append(batch)
        if len(step) == accumulate:
            yield step
            step = []


def label_shares(accelerator: Accelerator, batches: Sequence[Batch]) -> Float[Tensor, " batch"]:
    """Compute what the mean loss of each batch of a step weighs: its labels over the mean of all processes' batches.

    The mean over batches and processes is then the mean over all labels, wherever labels are missing. Exactly 1 for
    one batch in one process.
    """
    counts = torch.stack([(~targets.isnan()).sum() for _, targets in batches]).float()
    mean: Tensor = accelerator.reduce(counts.mean(), "mean")
    return counts / mean.clamp_min(torch.finfo(mean.dtype).tiny)


def step_counts(
    accelerator: Accelerator, loss: DWSLoss, batches: Sequence[Batch]
) -> Float[Tensor, "2 attribute"] | None:
    """Count the labels of a step over its batches and all processes; None where no attribute's loss needs it."""
    if loss.groups.columns is loss.groups:
        return None
    own = torch.stack([loss.label_counts(targets) for _, targets in batches]).sum(0)
    counts: Tensor = accelerator.reduce(own, "sum")
    return counts


@torch.no_grad()
def share_buffers(accelerator: Accelerator, *modules: nn.Module) -> None:
    """Give all processes the buffers of the first one: its batch norm statistics are the ones that are kept."""
    if accelerator.num_processes > 1:
        for module in modules:
            for buffer in module.buffers():
                distributed.broadcast(buffer, 0)


def with_synchronized_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Exchange a model's batch norms, in place, for ones that look at the images of all processes.

    Raises:
        ValueError: torch has none for this device.
    """
    if device.type == "cpu":
        raise ValueError("fit: sync_batch_norm needs GPUs, got processes on the CPU; leave it out.")
    exchanged: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]  # torch's drops activations
    return exchanged
