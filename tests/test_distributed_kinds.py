"""Two processes compute what one does, and a resumed run what one without a stop does, for mixed and joined labels."""

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
    """Pictures with some of the labels; reading one that is to stop the run does."""

    def __init__(self, attributes, size, *, stop_at=None):
        self.images, targets = drawn(size).tensors
        self.attributes = attributes
        self.targets = targets[:, [MIXED.attributes.index(name) for name in attributes]]
        self.num_read, self.stop_at = 0, stop_at

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.num_read += 1
        if self.num_read == self.stop_at:
            raise RuntimeError("stopped")
        return self.images[index], self.targets[index]


def mixed(**options):
    return Labelled(MIXED.attributes, 48, **options)


def joint(**options):
    parts = (Labelled(("Smiling", "hair"), 28, **options), Labelled(("stage", "age", "Smiling"), 20))
    return JointDataset(*parts, attributes=MIXED.attributes)


def in_shares(**options):
    made = joint(**options)
    return JointDataset(*made.datasets, attributes=MIXED.attributes, shares=(0.5, 0.5))


def parts():
    torch.manual_seed(0)
    model = FARAMTN(nn.Conv2d(1, 8, 1), 8, MIXED, reduction=2, num_heads=2)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    return model, DWSLoss(MIXED), optimizer, AttributeMetrics(MIXED, Baselines(MIXED, mixed().targets))


def train(folder, data, *, stop_at=None, **options):
    made = parts()
    history = run(folder, made, data(stop_at=stop_at), mixed(), **{"epochs": 2} | options)
    return without_times(history), {"model": made[0].state_dict(), "loss": made[1].state_dict()}


each_data = pytest.mark.parametrize(
    "data", [mixed, joint, in_shares], ids=["mixed kinds", "joined, partly labelled", "in shares"]
)


@each_data
@pytest.mark.parametrize("accumulate", [1, 3])
def test_two_processes_compute_what_one_does_with_a_larger_batch(data, accumulate, tmp_path):
    history, alone = train(tmp_path / "alone", data, batch_size=12)
    command = functools.partial(train, batch_size=6 // accumulate, accumulate=accumulate)
    (first, second), _ = in_group(2, tmp_path, command, tmp_path / "group", data)
    torch.testing.assert_close(first[1], second[1], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(first[1], alone, rtol=1e-4, atol=1e-5, equal_nan=True)
    for record, other in zip(history, first[0], strict=True):
        assert other["train_loss"] == pytest.approx(record["train_loss"], rel=1e-5)
        assert other["weights"] == pytest.approx(record["weights"], rel=1e-4)
        assert other["valid"] == pytest.approx(record["valid"], rel=1e-3, nan_ok=True)


def stop_then_resume(folder, data):
    expected = train(folder / "whole", data, batch_size=8)
    with pytest.raises(RuntimeError, match="stopped"):
        train(folder / "parts", data, stop_at=26, batch_size=8)
    history, state = train(folder / "parts", data, resume=True, batch_size=8)
    torch.testing.assert_close(state, expected[1], rtol=0, atol=0, equal_nan=True)
    return history == expected[0]


@each_data
def test_a_resumed_run_ends_like_one_that_was_never_stopped(data, tmp_path):
    assert stop_then_resume(tmp_path, data)
    assert len(list((tmp_path / "parts" / "checkpoints").glob("epoch-*"))) > 0
