"""DynamicWeighting against a plain model of it in Python, whatever is called in whatever order."""

import copy
import math

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mtattn import DynamicWeighting

NAN = math.nan
TASKS = 3
losses = st.lists(st.sampled_from([0.0, 0.01, 0.3, 1.0, 7.0, NAN, math.inf]), min_size=TASKS, max_size=TASKS)
counts = st.lists(st.sampled_from([0, 1, 4]), min_size=TASKS, max_size=TASKS)


class Task:
    """One task's memory, as the documentation tells it."""

    def __init__(self):
        self.weight, self.total, self.count = 1.0, 0.0, 0.0
        self.first = self.previous = self.latest = NAN

    def remember(self, loss, count):
        if count and math.isfinite(loss):
            self.total, self.count = self.total + loss * count, self.count + count

    def close(self):
        if self.count:
            mean = self.total / self.count
            self.first = mean if math.isnan(self.first) else self.first
            self.previous, self.latest = self.latest, mean
        seen, self.total, self.count = self.count > 0, 0.0, 0.0
        return seen

    def score(self, name):
        """What the rule wants the weight to be proportional to; NaN leaves it alone."""
        if name == "equal":
            return 1.0
        then = self.first if name == "dws" else self.previous
        if math.isnan(self.latest) or math.isnan(then) or (name == "dws" and then == 0):
            return NAN
        ratio = max(self.latest, 1e-12) / max(then, 1e-12)
        return math.log(ratio) if name == "dws" else ratio / 2


class Weighting(RuleBasedStateMachine):
    @initialize(name=st.sampled_from(["dws", "equal", "dwa"]))
    def make(self, name):
        self.name, self.real, self.tasks = name, DynamicWeighting(TASKS, rule=name), [Task() for _ in range(TASKS)]

    @rule(losses=losses, counts=counts)
    def train(self, losses, counts):
        self.check_total(self.real(torch.tensor(losses), torch.tensor(counts).float()), losses, counts)
        for task, loss, count in zip(self.tasks, losses, counts, strict=True):
            task.remember(loss, count)

    @rule(losses=losses, counts=counts)
    def evaluate(self, losses, counts):
        self.real.eval()
        self.check_total(self.real(torch.tensor(losses), torch.tensor(counts).float()), losses, counts)
        self.real.train()

    @rule()
    def step(self):
        self.real.step()
        seen = [task.close() for task in self.tasks]
        scores = [task.score(self.name) for task in self.tasks]
        moving = [t for t, here, s in zip(self.tasks, seen, scores, strict=True) if here and not math.isnan(s)]
        highest = max((s for s in scores if not math.isnan(s)), default=0.0)
        raised = {
            id(t): math.exp(max(s - highest, -80)) for t, s in zip(self.tasks, scores, strict=True) if t in moving
        }
        to_share = sum(task.weight for task in moving)
        for task in moving:
            task.weight = raised[id(task)] / sum(raised.values()) * to_share

    @rule()
    def save_and_load(self):
        other = DynamicWeighting(TASKS, rule=self.name)
        other.load_state_dict(copy.deepcopy(self.real.state_dict()))
        self.real = other

    @rule(change=st.sampled_from(["deepcopy", "half", "to_empty"]))
    def move(self, change):
        state = copy.deepcopy(self.real.state_dict())
        self.real = {
            "deepcopy": lambda: copy.deepcopy(self.real),
            "half": lambda: self.real.half().double(),
            "to_empty": lambda: self.real.to_empty(device="cpu"),
        }[change]()
        self.real.load_state_dict(state)

    @rule()
    def reset(self):
        self.real.reset()
        self.tasks = [Task() for _ in range(TASKS)]

    def check_total(self, total, losses, counts):
        parts = [t.weight * x * n for t, x, n in zip(self.tasks, losses, counts, strict=True) if n]
        expected = sum(parts) / max(sum(counts), 1)
        assert total.item() == pytest.approx(expected, rel=1e-4, abs=1e-7, nan_ok=True)

    @invariant()
    def agree(self):
        if not hasattr(self, "real"):
            return
        weights = [task.weight for task in self.tasks]
        assert self.real.weights.tolist() == pytest.approx(weights, rel=1e-3, abs=1e-6)
        assert self.real.weights.mean().item() == pytest.approx(1, rel=1e-5)
        for name, row in self.real.history._asdict().items():
            expected = [getattr(task, name) for task in self.tasks]
            assert row.tolist() == pytest.approx(expected, rel=1e-5, nan_ok=True)


TestWeighting = Weighting.TestCase
TestWeighting.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
