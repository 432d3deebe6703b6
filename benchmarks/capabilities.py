"""What loss weightings can do beside learning: each cell of the table is tried here, and says what happened.

pip install -e ".[bench]"
python benchmarks/capabilities.py --write        # benchmarks/results/capabilities.json and the table in docs/
"""

import copy
import io
import json
import platform
import tempfile
import warnings
from argparse import ArgumentParser
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from capability_subjects import SUBJECTS, Batch, Net, Subject
from torch import Tensor, distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

ROOT = Path(__file__).parents[1]
RESULTS, TABLE = ROOT / "benchmarks/results/capabilities.json", ROOT / "docs/explanation/capabilities-table.md"
Answer = tuple[bool, str]


def batch_of(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, 6, generator=generator), torch.rand(8, 2, generator=generator).round()


class Training:
    """A model, a weighting and an optimizer, in the loop that the weighting's documentation shows."""

    def __init__(self, kind: type[Subject], *, learning_rate: float = 0.1, ddp: bool = False) -> None:
        torch.manual_seed(0)
        self.net = Net()
        self.model = DistributedDataParallel(self.net) if ddp else self.net
        self.subject = kind(self.net)
        self.optimizer = torch.optim.SGD(
            [
                {"params": self.net.parameters(), "lr": learning_rate},
                {"params": self.subject.parameters(), "lr": 0.1},
            ]
        )

    def step(self, batch: Batch, *, average: bool = False, **how: object) -> None:
        images, targets = batch
        self.optimizer.zero_grad()
        self.subject.backward(self.model(images), targets, **how)
        if average:
            for parameter in (*self.net.parameters(), *self.subject.parameters()):
                distributed.all_reduce(parameter.grad)
                parameter.grad /= distributed.get_world_size()
        self.optimizer.step()
        self.subject.after_step(self.model(images), targets, **how)

    def epoch(self, batches: list[Batch], **how: object) -> None:
        for batch in batches:
            self.step(batch, **how)
        self.subject.end_epoch()

    def state(self) -> dict:
        return {name: getattr(self, name).state_dict() for name in ("net", "optimizer")} | {
            "weighting": self.subject.module.state_dict()
        }

    def load(self, state: dict) -> None:
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.subject.module.load_state_dict(state["weighting"])

    def outcome(self) -> dict[str, Tensor]:
        return {"model": torch.cat([p.detach().flatten() for p in self.net.parameters()]),
                "loss weights": self.subject.weights()}  # fmt: skip


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    return [name for name in one if not torch.equal(one[name], other[name])]


def resume_exact(kind: type[Subject]) -> Answer:
    """Stop at the end of an epoch and in the middle of one, load into fresh objects, go on."""
    batches = [batch_of(seed) for seed in range(12)]
    for where, stop in (("at the end of an epoch", 6), ("inside an epoch", 7)):
        ends = []
        for interrupted in (False, True):
            training = Training(kind)
            for index, batch in enumerate(batches):
                training.step(batch)
                if index % 3 == 2:
                    training.subject.end_epoch()
                if interrupted and index + 1 == stop:
                    file = io.BytesIO()
                    torch.save(training.state(), file)
                    training = Training(kind)
                    training.load(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
            ends.append(training.outcome())
        if wrong := differing(*ends):
            held = ", ".join(training.subject.module.state_dict()) or "nothing"
            return False, f"stopped {where}, {' and '.join(wrong)} end differently; its state_dict holds {held}"
    return True, "bit for bit, stopped at the end of an epoch or inside one"


def _rank(rank: int, kind: type[Subject], folder: str, ddp: bool) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    training = Training(kind, ddp=ddp)
    for epoch in range(4):
        training.epoch([batch_of(100 * rank + 10 * epoch + index) for index in range(3)], average=not ddp)
    torch.save(training.outcome() if kind.has_state else {"model": training.outcome()["model"]}, f"{folder}/{rank}")
    distributed.destroy_process_group()


def ranks_agree(kind: type[Subject]) -> Answer:
    """Two processes with different data; then with every gradient averaged by hand, in case DDP is not for it."""
    said = []
    for ddp, way in ((True, "model in DistributedDataParallel"), (False, "all gradients averaged by hand")):
        with tempfile.TemporaryDirectory() as folder:
            try:
                multiprocessing.spawn(_rank, (kind, folder, ddp), nprocs=2)
            except Exception as error:
                said.append(f"{way}: {_last_line(error)}")
                continue
            wrong = differing(*(torch.load(f"{folder}/{rank}") for rank in range(2)))
        if not wrong:
            return True, "; ".join([f"{way}: the same to the last bit", *said])
        said.append(f"{way}: {' and '.join(wrong)} differ")
    return False, "; ".join(said)


def labels_may_be_missing(kind: type[Subject]) -> Answer:
    """One batch without any label of the second task: it must move nothing of that task's, and not stop the first."""
    images, targets = batch_of(0)
    without = targets.clone()
    without[:, 1] = torch.nan
    said = []
    for way in kind.ways:
        full, missing = (Training(kind, learning_rate=0.0) for _ in range(2))
        for training in (full, missing):
            for _ in range(2):
                training.epoch([(images, targets)] * 3)
        full.step((images, targets))
        usual = full.net.shared.weight.grad.norm()
        full.epoch([(images, targets)] * 2)
        missing.step((images, targets))
        missing.step((images, without), **kind.ways[way])
        grown = missing.net.shared.weight.grad.norm()
        missing.epoch([(images, targets)] * 2)
        one, other = full.subject.weights()[1], missing.subject.weights()[1]
        if not grown.isfinite() or not other.isfinite():
            said.append(f"{way}: gradients or weights become NaN")
        elif grown < 0.01 * usual:
            said.append(f"{way}: the labelled task's gradient shrinks {usual / grown:.0g}-fold")
        elif (one - other).abs() > 1e-4:
            said.append(f"{way}: the weight of the absent task becomes {other:.3f} in place of {one:.3f}")
        else:
            return True, f"{way}: the absent task keeps its weight, the other learns"
    return False, "; ".join(said)


def compiles(kind: type[Subject]) -> Answer:
    """fullgraph=True, over the batches of three epochs."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    subject = Training(kind).subject
    module = torch.compile(subject.module, fullgraph=True, backend="aot_eager")
    for epoch in range(3):
        for index in range(3):
            module(*subject.inputs(batch_of(3 * epoch + index)))
        subject.end_epoch()
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    return graphs == 1, f"one graph, compiled {graphs} time{'s' * (graphs > 1)} in three epochs"


def exports(kind: type[Subject]) -> Answer:
    """torch.export, and the program gives what the module gives."""
    subject = Training(kind).subject
    inputs = subject.inputs(batch_of(0))
    expected = copy.deepcopy(subject.module)(*inputs)
    found = torch.export.export(subject.module, inputs).module()(*inputs)
    return torch.allclose(found, expected), "the exported program gives the same number"


def amp(kind: type[Subject]) -> Answer:
    """Losses in bfloat16 and float16: what is remembered must be what float32 makes of the same losses."""
    worst = 0.0
    for dtype in (torch.bfloat16, torch.float16):
        ends = []
        for rounded in (dtype, torch.float32):
            training = Training(kind, learning_rate=0.0)
            for epoch in range(3):
                how = {"lowered": (dtype, rounded), "scale": 1 + 0.2 * epoch}
                training.epoch([batch_of(index % 8) for index in range(400)], **how)
            ends.append(training.subject.weights())
            types = {t.dtype for t in training.subject.module.state_dict().values() if t.is_floating_point()}
            if types - {torch.float32}:
                return False, f"its state becomes {types}"
        worst = max(worst, ((ends[0] - ends[1]) / ends[1]).abs().max().item())
    return worst < 1e-3, f"after 1,200 batches the weights are off by {100 * worst:.2g} % at most"


TRIALS: dict[str, Callable[[type[Subject]], Answer]] = {
    "resume exact": resume_exact,
    "ranks agree": ranks_agree,
    "labels may be missing": labels_may_be_missing,
    "compile": compiles,
    "export": exports,
    "AMP": amp,
}


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith((" ", "\t"))]
    told = next((line for line in reversed(lines) if "Error" in line), lines[0] if lines else type(error).__name__)
    return " ".join(told.split())[:150]


def tried(trial: Callable[[type[Subject]], Answer], kind: type[Subject]) -> dict[str, str]:
    try:
        answer, reason = trial(kind)
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        answer, reason = False, f"{type(error).__name__}: {lines[0].strip()[:150].replace('|', '/')}"
    return {"answer": "yes" if answer else "no", "reason": reason}


def as_table(results: dict) -> str:
    cells = results["cells"]
    head = f"| | {' | '.join(SUBJECTS)} |\n| --- |{' --- |' * len(SUBJECTS)}"
    answers = [f"| {trial} | {' | '.join(cells[trial][name]['answer'] for name in SUBJECTS)} |" for trial in TRIALS]
    told = "\nWhat happened, cell by cell:\n\n| tried | with | answer | what happened |\n| --- | --- | --- | --- |"
    reasons = [
        f"| {trial} | {name} | {cells[trial][name]['answer']} | {cells[trial][name]['reason']} |"
        for trial in TRIALS
        for name in SUBJECTS
    ]
    versions = ", ".join(f"{package} {number}" for package, number in results["versions"].items())
    return "\n".join([head, *answers, told, *reasons, f"\nMeasured with {versions}.\n"])


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="keep the results and the table of the documentation")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    cells = {name: {who: tried(trial, kind) for who, kind in SUBJECTS.items()} for name, trial in TRIALS.items()}
    packages = ("mtattn", "torch", "torchjd", "gradnorm-pytorch")
    versions = {"Python": platform.python_version()} | {package: version(package) for package in packages}
    results = {"versions": versions, "cells": cells}
    print(as_table(results))
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        TABLE.write_text(as_table(results), encoding="utf-8")
