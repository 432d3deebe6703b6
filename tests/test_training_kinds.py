"""A run with attributes of every kind: it learns, resumes, and several processes compute what one does."""

import math

import pytest
import torch
from processes import in_group
from test_distributed import state
from test_training import raise_at, without_times
from torch import nn
from torch.utils.data import Dataset

from mtattn import FARAMTN, AttributeGroups, Categorical, DWSLoss, Number, Ordinal
from mtattn.data import UnreadableImage
from mtattn.metrics import AttributeMetrics, Baselines
from mtattn.training import fit

MIXED = AttributeGroups(
    {
        "face": ["Left", Categorical("colour", ("red", "green", "blue"))],
        "age": [Ordinal("stage", ("child", "young", "middle", "old")), Number("years", "years")],
    }
)


class Pictures(Dataset):
    """Pictures that show their labels; a part of these is missing, unevenly."""

    def __init__(self, size=48, seed=0, disturb=None):
        generator = torch.Generator().manual_seed(seed)
        self.images = 0.3 * torch.randn(size, 3, 8, 8, generator=generator)
        left = torch.randint(2, (size,), generator=generator)
        colour = torch.randint(3, (size,), generator=generator)
        years = 80 * torch.rand(size, generator=generator)
        self.targets = torch.stack([left, colour, (years / 20).floor(), years], dim=1).float()
        self.images[..., :4] += left[:, None, None, None]
        self.images[range(size), colour] += 1
        self.images[:, :, 4:] += years[:, None, None, None] / 40
        self.targets[torch.rand(size, 4, generator=generator) < 0.3] = math.nan
        self.targets[: size // 3, 2] = math.nan
        self.disturb, self.num_read = disturb, 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.num_read += 1
        image = self.images[index]
        return (image if self.disturb is None else self.disturb(self.num_read, image)), self.targets[index]


def setting():
    torch.manual_seed(0)
    groups = MIXED.fitted(Pictures().targets)
    trunk = nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.GroupNorm(4, 16), nn.ReLU())
    model = FARAMTN(trunk, 16, groups, reduction=4, num_heads=2)
    optimizer = torch.optim.AdamW(model.parameter_groups(1e-2, trunk_factor=1.0))
    return model, DWSLoss(groups), optimizer, AttributeMetrics(groups, Baselines(groups, Pictures().targets))


def run(output, parts=None, train=None, valid=None, **options):
    parts, train, valid = parts or setting(), train or Pictures(), valid or Pictures(40, seed=1)
    return fit(*parts, train, valid, output=output, **{"epochs": 3, "batch_size": 16} | options)


def test_a_resumed_run_ends_like_one_that_was_never_stopped(tmp_path):
    whole, resumed = setting(), setting()
    expected = run(tmp_path / "whole", whole)
    with pytest.raises(UnreadableImage, match="gone"):
        run(tmp_path / "parts", train=Pictures(disturb=raise_at(2 * 48 + 20, UnreadableImage("gone"))))
    history = run(tmp_path / "parts", resumed, resume=True)
    assert without_times(history) == without_times(expected)
    for one, other in zip(whole[:2], resumed[:2], strict=True):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.parametrize(("what", "message"), [("a class", "=red, got yellow"), ("the unit", "unit=years, got months")])
def test_a_run_is_not_resumed_with_an_attribute_that_means_something_else(what, message, tmp_path):
    run(tmp_path, epochs=1)
    plain = MIXED.fitted(Pictures().targets).to_plain()
    if what == "a class":
        plain["face"][1]["classes"][0] = "yellow"
    else:
        plain["age"][1]["unit"] = "months"
    groups = AttributeGroups.from_plain(plain)
    model = FARAMTN(setting()[0].trunk, 16, groups, reduction=4, num_heads=2)
    optimizer = torch.optim.AdamW(model.parameter_groups(1e-2, trunk_factor=1.0))
    metrics = AttributeMetrics(groups, Baselines(groups, Pictures().targets))
    with pytest.raises(ValueError, match=rf"begun with groups\[\d\].*{message}"):
        run(tmp_path, (model, DWSLoss(groups), optimizer, metrics), epochs=1, resume=True)


def test_a_model_that_takes_a_number_for_another_is_refused(tmp_path):
    model, _, optimizer, metrics = setting()
    loss = DWSLoss(
        AttributeGroups.from_plain({**MIXED.to_plain(), "age": [{"ordinal": "stage", "levels": list("abcd")}, "years"]})
    )
    with pytest.raises(ValueError, match=r"fit: model takes Ordinal\(name='stage'.* for what is Ordinal\(name='stage'"):
        run(tmp_path, (model, loss, optimizer, metrics))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        pytest.param((7, 1), 3.0, "'colour' has 3 classes, so a target is 0 to 2", id="class"),
        pytest.param((7, 1), 0.5, "'colour' has 3 classes", id="fraction of a class"),
        pytest.param((7, 2), -1.0, "'stage' has 4 levels", id="level"),
        pytest.param((7, 3), math.inf, "'years' is a number, so a target is finite", id="infinite"),
    ],
)
def test_targets_that_cannot_be_are_refused_before_training(place, value, message, tmp_path):
    data = Pictures()
    data.targets[place] = value
    with pytest.raises(ValueError, match=f"fit: train_data: {message}.*for image 7"):
        run(tmp_path, train=data)
    assert list(tmp_path.iterdir()) == []


def train(folder, options):
    parts = setting()
    return run(folder, parts, Pictures(50), Pictures(37, seed=1), epochs=2, **options), state(parts)


def test_several_processes_and_small_batches_compute_what_one_large_batch_does(tmp_path):
    history, alone = train(tmp_path / "alone", {"batch_size": 12})
    options = {"batch_size": 3, "accumulate": 2}
    results = in_group(2, tmp_path, train, tmp_path / "parts", options)[0]
    for name, tensor in results[0][1]["model"].items():
        torch.testing.assert_close(tensor, alone["model"][name], rtol=2e-3, atol=2e-5)
    torch.testing.assert_close(results[0][1]["loss"], alone["loss"], rtol=1e-4, atol=1e-6, equal_nan=True)
    for record, other in zip(history, results[0][0], strict=True):
        assert other["train_loss"] == pytest.approx(record["train_loss"], rel=1e-4)
        assert other["valid"] == pytest.approx(record["valid"], rel=1e-3, nan_ok=True)
