"""Tasks that differ in scale and difficulty: what do weighting rules do where convergence is uneven?

Eight teachers, random two-layer networks of the same inputs, are learned by regression in one network. They differ in
the scale of their answers and in how fast these vary.

python benchmarks/study/tasks.py
"""

import multiprocessing
import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import numpy as np
import torch
from finished import Runs
from results import spread
from run import HERE
from torch import Tensor, nn
from torchjd.scalarization import FAMO, UW

from mtattn import DynamicWeighting
from mtattn.training.epochs import warmup_then_cosine

SEEDS, SEARCH_SEED, PERIODS, STEPS, BATCH, INPUTS = 10, 1000, 100, 10, 64, 16
HELD = {"valid": 4096, "test": 16384}
SCALES = (0.3, 2.0, 0.6, 1.5, 0.4, 1.0, 0.3, 0.8)  # the loss of the largest is 44 times that of the smallest
SPEEDS = (0.1, 0.1, 0.2, 0.3, 0.3, 0.1, 0.2, 0.2)  # how fast a teacher's answers vary
NOISE = 0.1
RATES = {"sgd": (0.05, 0.1, 0.2, 0.4), "adam": (0.003, 0.01, 0.03)}
RULES: dict[str, dict[str, Any]] = {
    "equal": {"rule": "equal"},
    "random": {"rule": "random"},
    "dwa": {"rule": "dwa"},
    "trend": {"rule": "trend"},
    "dws-half": {"rule": "dws", "alpha": 0.5},
    "dws": {"rule": "dws"},
    "dws-2": {"rule": "dws", "alpha": 2.0},
    "uw": {},
    "famo": {},
}


class Teachers:
    """Random two-layer networks that answer for any inputs."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.inner = [self._normal(INPUTS, 32) * speed for speed in SPEEDS]
        self.outer = [self._normal(32) for _ in SPEEDS]
        probe = self._answers(self._normal(4096, INPUTS))
        self.mean, self.deviation = probe.mean(0), probe.std(0)

    def draw(self, number: int) -> tuple[Tensor, Tensor]:
        """Draw inputs and answers (input, task), noise included."""
        inputs = self._normal(number, INPUTS)
        answers = (self._answers(inputs) - self.mean) / self.deviation + NOISE * self._normal(number, len(SCALES))
        return inputs, answers * torch.tensor(SCALES)

    def _answers(self, inputs: Tensor) -> Tensor:
        pairs = zip(self.inner, self.outer, strict=True)
        return torch.stack([torch.sin(inputs @ inner) @ outer for inner, outer in pairs], 1)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)


def learn(name: str, optimizer_name: str, seed: int, rate: float, split: str) -> dict[str, Any]:
    """Learn all tasks under a rule; report the spread and the losses, as shares of what guessing zero would lose."""
    torch.set_num_threads(1)
    teachers = Teachers(torch.Generator().manual_seed(seed))
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(INPUTS, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, len(SCALES)))
    rule = _rule(name)
    parameters = [*model.parameters(), *rule.parameters()]
    optimizer: Any = (
        torch.optim.SGD(parameters, lr=rate, momentum=0.9)
        if optimizer_name == "sgd"
        else torch.optim.AdamW(parameters, lr=rate)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_then_cosine(0.1, PERIODS * STEPS))
    noted = []
    for _ in range(PERIODS):  # short ones: the easy tasks are learned within a hundred steps
        sums = torch.zeros(len(SCALES))
        for _ in range(STEPS):
            inputs, answers = teachers.draw(BATCH)
            each = (model(inputs) - answers).square().mean(0)
            optimizer.zero_grad()
            rule(each).backward()
            optimizer.step()
            schedule.step()
            if name == "famo":
                rule.update((model(inputs) - answers).square().mean(0).detach())
            sums += each.detach()
        noted.append(sums / STEPS)
        if isinstance(rule, DynamicWeighting):
            rule.step()
    inputs, answers = teachers.draw(HELD[split])
    with torch.no_grad():
        left = (model(inputs) - answers).square().mean(0) / answers.square().mean(0)
    losses = torch.stack(noted).numpy()
    return {
        "row": f"{name}, {optimizer_name}",
        "seed": seed,
        "learning_rate": rate,
        "weight_decay": 0.0,
        "split": split,
        "spread": spread(losses) if np.isfinite(losses).all() else float("nan"),
        "left": float(left.mean()),
        "spread_in_the_end": float(left.std(correction=0)),
        "worst": float(left.max()),
    }


def _rule(name: str) -> Any:
    if name == "uw":
        return UW(len(SCALES))
    return FAMO(len(SCALES)) if name == "famo" else DynamicWeighting(len(SCALES), **RULES[name])


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, default=HERE / "results" / "tasks.jsonl")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    runs = Runs(options.results)
    rows = [(name, optimizer) for optimizer in RATES for name in RULES]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        jobs = [(*row, SEARCH_SEED + i, rate, "valid") for row in rows for rate in RATES[row[1]] for i in range(2)]
        _do(pool, runs, jobs)
        jobs = [(*row, seed, best_rate(runs, *row), "test") for row in rows for seed in range(SEEDS)]
        _do(pool, runs, jobs)


def best_rate(runs: Runs, name: str, optimizer: str) -> float:
    """Choose the learning rate with the least loss left on validation, in the mean over two seeds."""
    tried: dict[float, list[float]] = {}
    for record in runs.done:
        if record["row"] == f"{name}, {optimizer}" and record["split"] == "valid":
            tried.setdefault(record["learning_rate"], []).append(record["left"])
    return min(tried, key=lambda rate: float(np.nan_to_num(np.mean(tried[rate]), nan=np.inf)))


def _do(pool: Any, runs: Runs, jobs: list[tuple[Any, ...]]) -> None:
    done = {(r["row"], r["seed"], r["learning_rate"], r["split"]) for r in runs.done}
    waiting = [job for job in jobs if (f"{job[0]}, {job[1]}", *job[2:]) not in done]
    for record in pool.imap_unordered(_learn, waiting):
        runs.add(record)


def _learn(job: tuple[Any, ...]) -> dict[str, Any]:
    return learn(*job)


if __name__ == "__main__":
    main()
