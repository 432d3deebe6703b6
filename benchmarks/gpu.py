"""Run all that a GPU can tell, stage after stage, each within its own time: about ten minutes in all.

python benchmarks/gpu.py --output results-of-today          on a GPU
python benchmarks/gpu.py --output dry-run --device cpu      the same stages with little work, to see that they run
python benchmarks/gpu.py --output rest --stages tests bench            only stages whose names begin so

A stage that fails or runs out of time ends alone; of a benchmark, the rows measured until then are kept. The output
folder gets a log for each, and the results of the benchmarks, of which benchmarks/page.py makes the page.
"""

import os
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from mtattn import FARAMTN, AttributeGroups, DWSLoss

HERE = Path(__file__).parent
MEASURE = (sys.executable, str(HERE / "run.py"))
GROUPS = AttributeGroups({f"group {g}": [f"attribute {g}.{a}" for a in range(5)] for g in range(8)})
TESTS = ("functional", "modules", "fusion", "losses", "kind_losses", "metrics", "contract", "memory")
BENCHES = ("wsgsa", "faramtn", "dws_loss", "cgff", "heads", "compile", "systems", "kinds")


class Stage(NamedTuple):
    """One program and the most seconds that it may take."""

    name: str
    command: list[str]
    seconds: float


def stages(options: Namespace) -> list[Stage]:
    """List what runs, what matters most first."""
    python, device = sys.executable, options.device
    checks = [Stage(n, [python, __file__, "--check", n, "--device", device], CHECK_SECONDS.get(n, 60)) for n in CHECKS]
    blocks = "11" if device == "cuda" else "1"
    measure = [*MEASURE, "--device", device, "--blocks", blocks, "--output", str(options.output / "results.json")]
    benches = [Stage(f"bench {name}", [*measure, name], 120) for name in (BENCHES if device == "cuda" else ("heads",))]
    files = [str(HERE.parent / "tests" / f"test_{name}.py") for name in TESTS if device == "cuda"]
    tests = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not recipe", *files]
    every = [*checks, *benches, Stage("tests", tests if files else [*tests, "--version"], 180)]
    return [stage for stage in every if stage.name.startswith(tuple(options.stages))]


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="a folder for logs and results")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--stages", nargs="+", default=[""], metavar="NAME", help="only those whose names begin so")
    parser.add_argument("--check", choices=CHECKS, help="run one check only, in this process")
    options = parser.parse_args()
    if options.check:
        CHECKS[options.check](torch.device(options.device))
        return
    if options.output is None:
        parser.error("--output needs a folder")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU; --device cpu is the dry run")
    options.output = options.output.resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    failed = [stage.name for stage in stages(options) if not passed(stage, options)]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def passed(stage: Stage, options: Namespace) -> bool:
    """Run a stage, keep what it says, and tell in one line how it went."""
    environment = {**os.environ, "MTATTN_TEST_DEVICE": options.device, "HF_HUB_OFFLINE": "1"}
    seconds = stage.seconds if options.device == "cuda" else 20 * stage.seconds  # a dry run may wait for its turn
    log, began = options.output / f"{stage.name.replace(' ', '-')}.txt", time.monotonic()
    with log.open("w", encoding="utf-8") as said:
        try:
            done = subprocess.run(
                stage.command, check=False, stdout=said, stderr=subprocess.STDOUT, env=environment, timeout=seconds
            )
            how = "passed" if done.returncode == 0 else f"failed with {done.returncode}, see {log.name}"
        except subprocess.TimeoutExpired:
            how = f"ended after {seconds} s, see {log.name}"
    last = log.read_text(encoding="utf-8").strip().splitlines()[-1:] or [""]
    print(f"{stage.name:22} {how} ({time.monotonic() - began:.0f} s): {last[0]}", flush=True)
    return how == "passed"


def small(device: torch.device) -> tuple[FARAMTN, torch.Tensor, torch.Tensor]:
    """Make a model with what it trains on."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 128, 8, stride=8), nn.BatchNorm2d(128), nn.ReLU())
    model = FARAMTN(trunk, 128, GROUPS).to(device, memory_format=torch.channels_last)
    batch = 64 if device.type == "cuda" else 8
    images = torch.randn(batch, 3, 64, 64).to(device, memory_format=torch.channels_last)
    return model, images, (torch.rand(batch, 40) < 0.3).float().to(device)


def check_synchronisation(device: torch.device) -> None:
    """Train with torch's error for every wait for the device switched on."""
    model, images, targets = small(device)
    loss = DWSLoss(GROUPS).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), fused=device.type == "cuda")
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    for _ in range(3):
        loss(model(images), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.step()
    print("three steps and periods without waiting for the device")


def check_precision(device: torch.device) -> None:
    """Train in each arithmetic, and compare the first outputs with float64 on the CPU."""
    for name, dtype in {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}.items():
        model, images, targets = small(device)
        loss, optimizer = DWSLoss(GROUPS).to(device), torch.optim.AdamW(model.parameters(), lr=1e-3)
        scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        exact = small(torch.device("cpu"))[0].double()(images.double().cpu())
        losses = []
        for _ in range(20 if device.type == "cuda" else 5):
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                outputs = model(images).float()
                value = loss(outputs, targets)
            if not losses:
                error = ((outputs.detach().double().cpu() - exact).norm() / exact.norm()).item()
            scaler.scale(value).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            losses.append(value.item())
        assert losses[-1] < losses[0], f"{name}: the loss does not fall, {losses[0]:.4f} to {losses[-1]:.4f}"
        assert error < {"float32": 1e-3, "bf16": 3e-2, "fp16": 5e-3}[name], f"{name}: relative error {error:.2e}"
        print(f"{name}: relative error {error:.1e}, loss {losses[0]:.4f} to {losses[-1]:.4f}")


def check_graph(device: torch.device) -> None:
    """Replay inference, eager and compiled, from a CUDA graph: the same outputs."""
    if device.type != "cuda":
        print("CUDA graphs need a GPU")
        return
    model, images, _ = small(device)
    model.eval()
    with torch.no_grad():
        expected = model(images)
        for name, run in (("eager", model), ("compiled", torch.compile(model, fullgraph=True))):
            for _ in range(3):
                run(images)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                outputs = run(images)
            outputs.zero_()
            graph.replay()
            torch.testing.assert_close(outputs, expected, rtol=1e-3, atol=1e-4)
            print(f"{name}: a graph's replay gives the same outputs")


def check_compilation(device: torch.device) -> None:
    """Fill the compiler's cache, all benchmarks at once: what they measure later then starts in seconds."""
    if device.type != "cuda":
        print("only a GPU's benchmarks compile so much that it is worth doing ahead")
        return
    running = [subprocess.Popen([*MEASURE, "--blocks", "1", "--output", os.devnull, name]) for name in BENCHES]
    ended = [one.wait() for one in running]
    print(f"{ended.count(0)} of {len(ended)} benchmarks ran to their end")


CHECKS = {
    "synchronisation": check_synchronisation,
    "precision": check_precision,
    "graph": check_graph,
    "compilation": check_compilation,
}
CHECK_SECONDS = {"compilation": 180}  # of the others: 60


if __name__ == "__main__":
    main()
