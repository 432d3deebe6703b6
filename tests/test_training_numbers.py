"""Every number of a whole run is that of a slow second computation of it, in plain loops."""

import copy
import math

import pytest
import reference
import torch
from test_distributed import Still
from test_training import GROUPS, Squares, run, setting

from mtattn.training import TrainingDiverged
from mtattn.training.epochs import Run

EPOCHS, BATCH = 5, 16


class Noted(Still):
    """Notes which images were asked for, and has fewer validation images than it trains on."""

    def __init__(self, size, seed, *, missing=False):
        super().__init__(size, seed, missing=missing)
        self.seen = []


@pytest.mark.parametrize("options", [{}, {"averaging": 0.8}], ids=["plain", "averaged"])
@pytest.mark.parametrize("missing", [False, True], ids=["all labels", "labels missing"])
def test_each_number_of_a_run_is_that_of_plain_loops(missing, options, tmp_path):
    train, valid = Noted(50, 0, missing=missing), Noted(37, 1)
    train.images, valid.images = train.images.double(), valid.images.double()  # AdamW makes much of tiny gradients
    model, loss, _, metrics = setting()
    model.double()
    optimizer = torch.optim.AdamW(model.parameter_groups(2e-2, trunk_factor=1.0, weight_decay=0.05))
    parts, start = (model, loss, optimizer, metrics), copy.deepcopy(model)
    history = run(tmp_path, parts, train, valid, epochs=EPOCHS, batch_size=BATCH, **options)

    orders = [train.seen[epoch * 48 : (epoch + 1) * 48] for epoch in range(EPOCHS)]
    assert len(train.seen) == EPOCHS * 48  # two of fifty images make no batch
    assert all(len(set(order)) == 48 for order in orders)
    assert len({tuple(order) for order in orders}) == EPOCHS  # another order in each epoch
    assert all(order != sorted(order) for order in orders)

    decayed = {
        id(parameter) for group in parts[2].param_groups if group["weight_decay"] for parameter in group["params"]
    }
    decays = [0.05 if id(parameter) in decayed else 0.0 for parameter in parts[0].parameters()]
    expected, ends = reference.training_run(
        start,
        (train.images, train.targets.double()),
        (valid.images, valid.targets.double()),
        orders,
        GROUPS.sizes,
        peak=2e-2,
        decays=decays,
        batch_size=BATCH,
        averaging=options.get("averaging"),
    )
    for record, slow in zip(history, expected, strict=True):
        assert record["learning_rate"] == pytest.approx(slow["learning_rate"], abs=1e-9)
        assert record["train_loss"] == pytest.approx(slow["train_loss"], rel=1e-4)
        for name in ("group_losses", "loss_left", "weights"):
            assert list(record[name].values()) == pytest.approx(slow[name], rel=1e-4), name
        for name, score in slow["valid"].items():
            assert record["valid"][name] == pytest.approx(score, rel=1e-4, nan_ok=True), name
    scores = [slow["valid"]["mean_accuracy"] for slow in expected]
    best = max(range(EPOCHS), key=lambda place: (scores[place], place))
    assert history[-1]["best_epoch"] == best + 1
    for name, tensor in parts[0].state_dict().items():
        torch.testing.assert_close(tensor, ends[best][name], rtol=1e-5, atol=1e-7)


def test_the_speed_is_that_of_all_images_in_the_time_measured(tmp_path):
    for record in run(tmp_path, train=Squares(50), epochs=2):
        assert record["images_per_second"] * record["seconds"] == pytest.approx(48)


def test_a_loss_that_breaks_is_noticed_after_fifty_steps_and_not_at_the_end_of_the_epoch(tmp_path):
    train = Squares(400)
    train.disturb = lambda read, image: image * math.nan if read == 41 else image
    with pytest.raises(TrainingDiverged, match=r"epoch 1, step 11 of 100"):
        run(tmp_path, train=train, batch_size=4, epochs=1)
    assert train.num_read <= 4 * 51


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        pytest.param([0.5, 0.7, 0.6], 2, id="in the middle"),
        pytest.param([0.7, 0.7, 0.6], 2, id="the last of equals"),
        pytest.param([math.nan, 0.1, math.nan], 2, id="never one that is undefined"),
        pytest.param([0.1, math.nan, math.nan], 1, id="not even at the end"),
        pytest.param([math.nan, math.nan], 2, id="unless all are"),
    ],
)
def test_the_best_epoch_is_the_last_with_the_highest_score(scores, best, tmp_path, monkeypatch):
    given, whole = iter(scores), Run.epoch

    def with_score(self, *arguments):
        record = whole(self, *arguments)
        return record | {"valid": record["valid"] | {"mean_accuracy": next(given)}}

    monkeypatch.setattr(Run, "epoch", with_score)
    parts, ends = setting(), []
    parts[3].register_buffer("unused", torch.zeros(1), persistent=False)
    monkeypatch.setattr("mtattn.training.loop.save_checkpoint", keeping(ends))
    history = run(tmp_path, parts, epochs=len(scores))
    assert history[-1]["best_epoch"] == best
    assert torch.equal(parts[0].heads.weight, ends[best - 1])


def keeping(ends):
    from mtattn.training.checkpoints import save_checkpoint

    def save(accelerator, checkpoints, history, best, begun):
        model = best if best is not None else None
        ends.append(None if model is None else model.heads.weight.detach().clone())
        save_checkpoint(accelerator, checkpoints, history, best, begun)

    return save
