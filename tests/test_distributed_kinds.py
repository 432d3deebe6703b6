"""Two processes compute what one does, and resume as if never stopped, for mixed and for joined labels."""

import functools

import pytest
import torch
from processes import in_group
from test_kind_training import MIXED, drawn
from test_training import run, without_times
from torch import nn
from torch.utils.data import Dataset

from mtattn import FARAMTN, DWSLoss
from mtattn.data import JointDataset
from mtattn.metrics import AttributeMetrics, Baselines

pytestmark = pytest.mark.outside


class Labelled(Dataset):
    """Pictures with some of the labels."""

    def __init__(self, attributes, size):
        self.images, targets = drawn(size).tensors
        self.attributes = attributes
        self.targets = targets[:, [MIXED.attributes.index(name) for name in attributes]]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.targets[index]


def mixed():
    return Labelled(MIXED.attributes, 48)


def joint(shares=None):
    parts = (Labelled(("Smiling", "hair"), 28), Labelled(("stage", "age", "Smiling"), 20))
    return JointDataset(*parts, attributes=MIXED.attributes, shares=shares)


def in_shares():
    return joint(shares=(0.5, 0.5))


def parts():
    torch.manual_seed(0)
    model = FARAMTN(nn.Conv2d(1, 8, 1), 8, MIXED, reduction=2, num_heads=2)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    return model, DWSLoss(MIXED), optimizer, AttributeMetrics(MIXED, Baselines(MIXED, mixed().targets))


def train(folder, data, *, made=None, **options):
    made = parts() if made is None else made
    history = run(folder, made, data(), mixed(), **{"epochs": 2} | options)
    return without_times(history), {"model": made[0].state_dict(), "loss": made[1].state_dict()}


def stopped_at(step):
    """Make the parts of a run that stops after a step, in each process."""
    made, num_steps = parts(), 0

    def count(*_):
        nonlocal num_steps
        num_steps += 1
        if num_steps == step:
            raise RuntimeError("stopped")

    made[2].register_step_post_hook(count)
    return made


def whole_and_resumed(folder, data, **options):
    expected = train(folder / "whole", data, **options)
    with pytest.raises(RuntimeError, match="stopped"):
        train(folder / "parts", data, made=stopped_at(6), **options)  # of 8: in the second epoch
    return expected, train(folder / "parts", data, resume=True, **options)


each_data = pytest.mark.parametrize(
    "data", [mixed, joint, in_shares], ids=["mixed kinds", "joined, partly labelled", "in shares"]
)


@each_data
@pytest.mark.parametrize("accumulate", [1, 3])
def test_two_processes_compute_what_one_does_with_a_larger_batch_and_resume_exactly(data, accumulate, tmp_path):
    history, alone = train(tmp_path / "alone", data, batch_size=12)
    command = functools.partial(whole_and_resumed, batch_size=6 // accumulate, accumulate=accumulate)
    ((first, resumed), (second, _)), _ = in_group(2, tmp_path, command, tmp_path / "group", data)
    torch.testing.assert_close(first[1], second[1], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(first[1], alone, rtol=1e-4, atol=1e-5, equal_nan=True)
    for record, other in zip(history, first[0], strict=True):
        assert other["train_loss"] == pytest.approx(record["train_loss"], rel=1e-5)
        assert other["weights"] == pytest.approx(record["weights"], rel=1e-4)
        assert other["valid"] == pytest.approx(record["valid"], rel=1e-3, nan_ok=True)
    torch.testing.assert_close(resumed[1], first[1], rtol=0, atol=0, equal_nan=True)
    assert resumed[0] == first[0]
