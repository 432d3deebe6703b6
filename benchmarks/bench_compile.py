"""Eager against compiled: every module and the whole model with its loss, and how often each is compiled."""

from collections.abc import Callable

import torch
from common import Bench, Variant, inference, training_step
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from mtattn import CGFF, FARAMTN, WSGSA, DWSLoss, GroupHeads
from mtattn.data import CELEBA_GROUPS

BATCHES = (32, 48, 64)
COMPILED = Variant(compiled=True)


def run(bench: Bench) -> None:
    groups = CELEBA_GROUPS
    num_attributes = len(groups.attributes)
    wsgsa, cgff, heads = (bench.put(m) for m in (WSGSA(512, 8), CGFF(512, key_channels=8), GroupHeads(512, groups)))
    model, loss = bench.put(FARAMTN.from_timm("resnet18", groups)), bench.put(DWSLoss(groups))

    def whole(images: Tensor, targets: Tensor) -> Tensor:
        return loss(model(images), targets)

    cases: dict[str, tuple[Callable[..., Tensor], list[nn.Module], tuple[int, ...]]] = {  # the shapes without batch
        "WSGSA, pooled": (wsgsa.pooled, [wsgsa], (512, 14, 14)),
        "CGFF": (cgff, [cgff], (8, 512)),
        "GroupHeads": (heads, [heads], (8, 512)),
        "DWSLoss": (loss, [loss], (num_attributes,)),
        "FARAMTN on a resnet18 at 64 pixels, with its loss": (whole, [model, loss], (3, 64, 64)),
    }
    for name, (forward, modules, shape) in cases.items():
        parameters = [p for module in modules for p in module.parameters()]
        inputs = [bench.tensor(BATCHES[-1], *shape, grad=model not in modules)]
        inputs += [torch.rand(BATCHES[-1], num_attributes, device=bench.device).round()] * (loss in modules)
        row = {"sizes": {"batch": BATCHES[-1]}, "blocks": min(bench.blocks, 15)}
        graphs = num_graphs(bench, forward, modules, shape, loss)
        for what, make in (("forward and backward", training_step), ("inference", inference)):
            extra = {"parameters": parameters} if make is training_step else {}
            for module in modules:
                module.train(make is training_step)
            bench.compare(
                f"{name}, {what}",
                {
                    "compiled": make(forward, inputs, variant=COMPILED, **extra),
                    "eager": make(forward, inputs, **extra),
                },
                variant=COMPILED,
                facts=lambda _, graphs=graphs: {"graphs": graphs},
                **row,
            )


def num_graphs(
    bench: Bench, forward: Callable[..., Tensor], modules: list[nn.Module], shape: tuple[int, ...], loss: DWSLoss
) -> dict[str, int]:
    """Count the graphs after training with three batch sizes and stepping weights, and then after evaluation."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(forward, fullgraph=True, backend=counter)
    graphs = {}
    for mode in (True, False):
        for module in modules:
            module.train(mode)
        for batch in BATCHES:
            targets = [torch.rand(batch, len(loss.groups.attributes), device=bench.device).round()]
            compiled(bench.tensor(batch, *shape), *targets * (loss in modules))
            loss.step()
        graphs["after training" if mode else "after evaluation too"] = counter.frame_count
    torch._dynamo.reset()
    return graphs
