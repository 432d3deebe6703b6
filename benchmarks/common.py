"""How every benchmark here measures: in turns, with the device synchronised, against a floor. README.md says why."""

import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]
PACKAGES = ("mtattn", "torch", "timm", "torchvision", "torchjd", "gradnorm-pytorch", "libmtl")


@dataclass(frozen=True)
class Spread:
    """The median of some numbers and their quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> "Spread":
        low, median, high = statistics.quantiles(numbers, n=4) if len(numbers) > 1 else [numbers[0]] * 3
        return cls(median, low, high)


@dataclass(frozen=True)
class Variant:
    """One way to run the same code: arithmetic, compiled or not, replayed as a CUDA graph or not."""

    dtype: str = "float32"
    compiled: bool = False
    graph: bool = False

    def __str__(self) -> str:
        return ", ".join([self.dtype, *["compiled"] * self.compiled, *["CUDA graph"] * self.graph])


@dataclass
class Row:
    """One comparison, as it stands in the results."""

    what: str
    sizes: dict[str, Any]
    variant: str
    contenders: dict[str, dict[str, Any]]  # ours first
    floor: dict[str, float]
    facts: dict[str, Any] = field(default_factory=dict)


class Bench:
    """A device, what it can do at best, and the rows measured on it.

    Args:
        device: "cpu" or "cuda".
        threads: Threads of the CPU.
        blocks: How many times each contender is timed.
        seed: Decides inputs, parameters and the order of contenders.
        celeba: CelebA's folder; None: faces are drawn where images are needed.
    """

    def __init__(self, device: str, *, threads: int, blocks: int, seed: int, celeba: Path | None = None) -> None:
        self.device, self.blocks, self.seed, self.celeba = torch.device(device), blocks, seed, celeba
        self.on_gpu = self.device.type == "cuda"
        torch.set_num_threads(threads)
        torch.manual_seed(seed)
        self._order = random.Random(seed)
        self.rows: list[Row] = []
        self.after_row: Callable[[], object] = lambda: None
        self.bytes_per_second = self._copy_rate()
        self.operations_per_second = {"float32": self._product_rate(torch.float32)}
        if self.on_gpu:
            self.operations_per_second["bf16"] = self._product_rate(torch.bfloat16)

    @property
    def variants(self) -> list[Variant]:
        """The ways to run small modules; a CPU has fewer."""
        if not self.on_gpu:
            return [Variant()]
        return [
            Variant(d, compiled=c, graph=g) for d in ("float32", "bf16") for c in (False, True) for g in (False, True)
        ]

    @property
    def few_variants(self) -> list[Variant]:
        """The ways to run what comes in several sizes, after the first: without the compiler, which takes minutes."""
        return [variant for variant in self.variants if not variant.compiled]

    @property
    def variants_of_a_network(self) -> list[Variant]:
        """The ways to run a whole network: compiling takes minutes, so once, in the arithmetic that people use."""
        compiled = Variant("bf16", compiled=True)
        return [variant for variant in self.variants if not variant.compiled or variant == compiled]

    def machine(self) -> dict[str, Any]:
        """Say where and with what the rows were measured."""
        properties = torch.cuda.get_device_properties(self.device) if self.on_gpu else None
        return {
            "device": properties.name if properties else "CPU",
            "kind": self.device.type,
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "blocks": self.blocks,
            "seed": self.seed,
            "bytes_per_second": self.bytes_per_second,
            "operations_per_second": self.operations_per_second,
            "python": platform.python_version(),
            **{package: _version(package) for package in PACKAGES},
        }

    def tensor(self, *shape: int, grad: bool = False) -> Tensor:
        """Draw an input from the standard normal; maps lie channels last, as the recipes have them."""
        drawn = torch.randn(shape, device=self.device)
        if len(shape) == 4:
            drawn = drawn.to(memory_format=torch.channels_last)
        return drawn.requires_grad_(grad)

    def put(self, module: nn.Module) -> nn.Module:
        """Move a module to the device, channels last."""
        return module.to(self.device, memory_format=torch.channels_last)

    def compare(
        self,
        what: str,
        contenders: Mapping[str, Call],
        *,
        sizes: Mapping[str, Any],
        variant: Variant | None = None,
        bytes_moved: float = 0,
        operations: float = 0,
        parameters: Mapping[str, int] | None = None,
        blocks: int | None = None,
        facts: Callable[[dict[str, list[float]]], dict[str, Any]] = lambda _: {},
    ) -> Row:
        """Time contenders in turns, block by block, and keep the row; the first is ours.

        Args:
            what: What is compared.
            contenders: One step each; called many times.
            sizes: What the row depends on.
            variant: How they run.
            bytes_moved: What our step has to read and write at least.
            operations: What our step has to compute at least: multiplications and additions.
            parameters: Numbers of parameters.
            blocks: How many times each is timed; None: as the bench says.
            facts: From the seconds of all blocks to what else the row should say.
        """
        variant = variant or Variant()
        seconds = self._in_turns(contenders, blocks or self.blocks)
        ours = next(iter(contenders))
        rate = self.operations_per_second[variant.dtype]
        floor = max(bytes_moved / self.bytes_per_second, operations / rate)
        measured: dict[str, dict[str, Any]] = {}
        for name, call in contenders.items():
            ratios = [theirs / own for theirs, own in zip(seconds[name], seconds[ours], strict=True)]
            measured[name] = {
                "ms": asdict(Spread.of([1e3 * s for s in seconds[name]])),
                "ratio": asdict(Spread.of(ratios)),
                "peak_bytes": self.peak_bytes(call),
                **({"kernels": self._kernels(call)} if self.on_gpu else {}),
                **({"parameters": parameters[name]} if parameters and name in parameters else {}),
            }
        distance = {"distance": statistics.median(seconds[ours]) / floor} if floor else {}
        row = Row(
            what,
            dict(sizes),
            str(variant),
            measured,
            {"ms": 1e3 * floor, "bytes": bytes_moved, "operations": operations, **distance},
            facts(seconds),
        )
        self.rows.append(row)
        self.after_row()
        print(describe(row), flush=True)
        return row

    def _in_turns(self, contenders: Mapping[str, Call], blocks: int) -> dict[str, list[float]]:
        repeats = {}
        for name, call in contenders.items():
            for _ in range(3):  # the first calls allocate, choose algorithms and compile
                once = self._block(call, 1)
            repeats[name] = max(1, min(1000, int(0.02 / once)))
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(blocks):
            names = list(contenders)
            self._order.shuffle(names)
            for name in names:
                seconds[name].append(self._block(contenders[name], repeats[name]))
        return seconds

    def _block(self, call: Call, repeats: int) -> float:
        if self.on_gpu:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
            for _ in range(repeats):
                call()
            end.record()
            torch.cuda.synchronize()
            return start.elapsed_time(end) / 1e3 / repeats
        began = time.perf_counter()
        for _ in range(repeats):
            call()
        return (time.perf_counter() - began) / repeats

    def peak_bytes(self, call: Call) -> int:
        """Measure the peak of what one call allocates, in bytes, above what was there before."""
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            call()
            return torch.cuda.max_memory_allocated() - before
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiled:
            call()
        held = peak = 0
        events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
        for event in sorted(events, key=lambda event: event.start_ns()):
            held += event.nbytes()
            peak = max(peak, held)
        return peak

    def _kernels(self, call: Call) -> int:
        with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiled:
            call()
            torch.cuda.synchronize()
        return sum(event.count for event in profiled.key_averages() if event.self_device_time_total > 0)

    def _copy_rate(self) -> float:
        source = torch.ones(2**26 // 4, device=self.device)
        target = torch.empty_like(source)
        best = min(self._block(lambda: target.copy_(source), 1) for _ in range(20))
        return 2 * source.nbytes / best

    def _product_rate(self, dtype: torch.dtype) -> float:
        size = 8192 if self.on_gpu else 1024
        matrix = torch.randn(size, size, device=self.device, dtype=dtype)
        best = min(self._block(lambda: matrix @ matrix, 1) for _ in range(20))
        return 2 * size**3 / best


def training_step(
    forward: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    parameters: Sequence[Tensor],
    *,
    variant: Variant | None = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> Call:
    """Make one step: forward, backward from the mean, and the optimizer if there is one."""
    forward, variant = _prepared(forward, variant), variant or Variant()
    leaves = [*parameters, *(tensor for tensor in inputs if tensor.requires_grad)]

    def step() -> None:
        with _arithmetic(variant, inputs[0].device):
            value = forward(*inputs)
        value.float().mean().backward()
        if optimizer is not None:
            optimizer.step()
        if not variant.graph:
            for leaf in leaves:
                leaf.grad = None

    return _graphed(step) if variant.graph else step


def inference(forward: Callable[..., Tensor], inputs: Sequence[Tensor], *, variant: Variant | None = None) -> Call:
    """Make one forward pass without gradients."""
    forward, variant = _prepared(forward, variant), variant or Variant()

    def call() -> None:
        with torch.no_grad(), _arithmetic(variant, inputs[0].device):
            forward(*inputs)

    return _graphed(call) if variant.graph else call


def describe(row: Row) -> str:
    """Say a row in a few lines, for people who watch."""
    sizes = ", ".join(f"{name} {size}" for name, size in row.sizes.items())
    lines = [f"{row.what} ({sizes}; {row.variant})"]
    for name, contender in row.contenders.items():
        ratio, parameters = contender["ratio"], contender.get("parameters")
        lines.append(
            f"  {name:44} {ratio['median']:8.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}] times ours,"
            f" {contender['ms']['median']:.3f} ms, peak {contender['peak_bytes'] / 2**20:.1f} MiB"
            + (f", {parameters / 1e6:.2f} M parameters" if parameters else "")
        )
    if "distance" in row.floor:
        lines.append(f"  {'floor':44} {1 / row.floor['distance']:8.3f}")
    return "\n".join(lines + [f"  {name}: {value}" for name, value in row.facts.items()])


def count(module: nn.Module) -> int:
    """Count the parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def _prepared(forward: Callable[..., Tensor], variant: Variant | None) -> Callable[..., Tensor]:
    return torch.compile(forward, fullgraph=True) if variant and variant.compiled else forward


def _arithmetic(variant: Variant, device: torch.device) -> Any:
    return torch.autocast(device.type, torch.bfloat16) if variant.dtype == "bf16" else nullcontext()


def _graphed(call: Call) -> Call:
    """Capture a call; what it works on, an optimizer's state say, lives as long as the graph does."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()

    def replay(_: Call = call) -> None:
        graph.replay()

    return replay


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
