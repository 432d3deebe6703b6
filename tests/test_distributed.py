"""Several processes compute what one does: gloo on the CPU, two and three of them."""

import functools
import math
from unittest import mock

import pytest
import torch
from processes import in_group
from test_training import GROUPS, Squares, run, setting, without_times
from torch import nn

from mtattn import FARAMTN, DWSLoss
from mtattn.metrics import AttributeMetrics, train_rates
from mtattn.training import TrainingDiverged, evaluate, processes
from mtattn.training.distributed import with_synchronized_batch_norm

pytestmark = pytest.mark.outside

several = pytest.mark.parametrize("count", [2, 3])


class Still(Squares):
    """Squares without chance in reading; every third label is missing if asked for, unevenly over the images."""

    def __init__(self, size=48, seed=0, *, missing=False):
        super().__init__(size, seed)
        self.seen = []
        if missing:
            self.targets[torch.rand(self.targets.shape, generator=torch.Generator().manual_seed(5)) < 0.4] = math.nan
            self.targets[: size // 2, 1:] = math.nan

    def __getitem__(self, index):
        self.seen.append(index)
        return self.images[index], self.targets[index]


def without_batch_norm():
    model, loss, _, metrics = setting()
    model.trunk[1] = nn.GroupNorm(4, 16)
    return model, loss, torch.optim.AdamW(model.parameters(), 2e-3), metrics


def state(parts):
    return {"model": parts[0].state_dict(), "loss": parts[1].state_dict(), "optimizer": parts[2].state_dict()["state"]}


def equal(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    return torch.equal(one, other)


def train(folder, build, data, valid, options):
    parts = build()
    history = run(folder, parts, data, valid, **options)
    return history, state(parts), getattr(data, "seen", None)


@several
@pytest.mark.parametrize("options", [{}, {"averaging": 0.9}], ids=["plain", "averaged"])
def test_all_processes_end_with_the_same_model_weights_and_history(count, options, tmp_path):
    results, said = in_group(
        count, tmp_path, train, tmp_path, setting, Squares(50), Squares(41, seed=1), {"batch_size": 8} | options
    )
    history, first, _ = results[0]
    for other_history, other, _ in results[1:]:
        assert without_times(other_history) == without_times(history)
        assert equal(first, other)
    assert first["loss"]["weighting.weights"].tolist() != [1, 1]
    assert [line.partition(" ")[0] for line in said[0].splitlines()] == ["epoch"] * 4 + ["fit:"]
    assert said[1:] == [""] * (count - 1)


@several
@pytest.mark.parametrize("missing", [False, True], ids=["all labels", "labels missing"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_several_processes_compute_what_one_does_with_a_larger_batch(count, accumulate, missing, tmp_path):
    data, valid = Still(50, missing=missing), Still(37, seed=1, missing=missing)
    options = {"epochs": 2, "batch_size": 6 * count}
    history, alone, _ = train(tmp_path / "alone", without_batch_norm, data, valid, options)
    options = {"epochs": 2, "batch_size": 6 // accumulate, "accumulate": accumulate}
    results, _ = in_group(count, tmp_path, train, tmp_path / "group", without_batch_norm, data, valid, options)
    for name, tensor in results[0][1]["model"].items():
        torch.testing.assert_close(tensor, alone["model"][name], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(results[0][1]["loss"], alone["loss"], rtol=1e-4, atol=1e-6, equal_nan=True)
    for record, other in zip(history, results[0][0], strict=True):
        assert other["train_loss"] == pytest.approx(record["train_loss"], rel=1e-4)
        assert other["weights"] == pytest.approx(record["weights"], rel=1e-4)
        assert other["valid"] == pytest.approx(record["valid"], rel=1e-3)


@several
def test_each_image_is_seen_once_an_epoch_in_the_order_of_one_process(count, tmp_path):
    results, _ = in_group(
        count, tmp_path, train, tmp_path / "group", setting, Still(50), Still(8), {"epochs": 1, "batch_size": 4}
    )
    *_, alone = train(tmp_path / "alone", setting, Still(50), Still(8), {"epochs": 1, "batch_size": 4 * count})
    steps = [torch.tensor(seen).split(4) for _, _, seen in results]
    seen = torch.cat([batch for step in zip(*steps, strict=True) for batch in step]).tolist()
    assert seen[: len(alone)] == alone
    assert len(set(seen)) == len(seen) >= 50 - 4 * count


def score(model, data, metrics):
    return evaluate(model, data, metrics, batch_size=4)


@several
@pytest.mark.parametrize("size", [1, 2, 7, 24, 37])
def test_an_evaluation_is_the_one_of_a_single_process(count, size, tmp_path):
    model, _, _, metrics = setting()
    data = Still(size, seed=3, missing=size == 37)
    expected = score(model, data, metrics)
    results, _ = in_group(count, tmp_path, score, model, data, metrics)
    for result in results:
        assert flat(result) == pytest.approx(flat(expected), rel=1e-6, abs=1e-6, nan_ok=True)


def flat(scores, prefix=""):
    pairs = {}
    for key, value in scores.items():
        pairs |= flat(value, f"{prefix}{key} ") if isinstance(value, dict) else {prefix + key: value}
    return pairs


def gather_seen(model, data, metrics):
    evaluate(model, data, metrics, batch_size=4)
    return sum(map(len, metrics.logits)) // len(GROUPS.attributes)


def test_no_process_measures_an_image_of_another(tmp_path):
    model, _, _, metrics = setting()
    assert in_group(3, tmp_path, gather_seen, model, Still(37), metrics)[0] == [13, 12, 12]


def steps_of_loss(counts):
    rank = torch.distributed.get_rank()
    loss = DWSLoss(GROUPS)
    for step in range(3):
        generator = torch.Generator().manual_seed(10 * step + rank)
        logits = torch.randn(counts[rank], 3, generator=generator) * (step + 1)
        loss(logits, (torch.rand(counts[rank], 3, generator=generator) < 0.5).float())
        loss.step()
    return loss.state_dict()


def state_after(counts):
    torch.distributed.init_process_group("gloo")
    return steps_of_loss(counts)


@several
def test_a_rank_counts_in_the_weights_by_its_labels(count, tmp_path):
    counts = [2, 30, 5][:count]
    results, _ = in_group(count, tmp_path, state_after, counts)
    assert all(equal(results[0], other) for other in results[1:])
    loss = DWSLoss(GROUPS)
    for step in range(3):
        for rank, size in enumerate(counts):
            generator = torch.Generator().manual_seed(10 * step + rank)
            logits = torch.randn(size, 3, generator=generator) * (step + 1)
            loss(logits, (torch.rand(size, 3, generator=generator) < 0.5).float())
        loss.step()
    torch.testing.assert_close(results[0]["weighting.weights"], loss.weights)


def stop_then_resume(folder):
    options = {"batch_size": 8, "averaging": 0.9}
    whole = setting()
    expected = run(folder / "whole", whole, **options)
    with pytest.raises(RuntimeError, match="stopped"):
        run(folder / "parts", setting(), train=Squares(disturb=stop), **options)
    resumed = setting()
    history = run(folder / "parts", resumed, resume=True, **options)
    return without_times(history) == without_times(expected) and equal(state(whole), state(resumed))


def stop(num_read, image):
    if num_read == 60:
        raise RuntimeError("stopped")
    return image


def test_a_resumed_run_of_two_processes_ends_like_one_that_was_never_stopped(tmp_path):
    assert in_group(2, tmp_path, stop_then_resume, tmp_path)[0] == [True, True]
    assert len(list((tmp_path / "parts/checkpoints/epoch-0004").glob("random_states_*.pkl"))) == 2


def test_a_run_of_two_processes_is_not_resumed_by_one(tmp_path):
    in_group(2, tmp_path, train, tmp_path, setting, Squares(), Squares(16), {"epochs": 1, "batch_size": 8})
    with pytest.raises(ValueError, match=r"fit: .*epoch-0001 was begun with num_processes=2, got 1; a run resumes"):
        run(tmp_path, resume=True, epochs=1, batch_size=8, valid=Squares(16))


def diverge_on_one(folder):
    data = Squares()
    if processes().process_index == 1:
        data.disturb = lambda read, image: image * math.nan if read == 30 else image
    try:
        run(folder, train=data, batch_size=8)
    except TrainingDiverged as error:
        return str(error)


def test_what_goes_wrong_in_one_process_stops_all_and_all_say_the_same(tmp_path):
    messages = in_group(2, tmp_path, diverge_on_one, tmp_path)[0]
    assert messages[0] == messages[1]
    assert "the loss is nan since epoch 2, step 1 of 3" in messages[0]


def refusal(folder, options):
    try:
        run(folder, **options)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"sync_batch_norm": True}, "sync_batch_norm needs GPUs, got processes on the CPU", id="no GPU"),
        pytest.param(
            {"batch_size": 16, "accumulate": 2},
            "got batch_size=16 x accumulate=2 in 2 processes for 48 images; take a smaller batch_size",
            id="few images",
        ),
    ],
)
def test_what_several_processes_cannot_do_is_refused(options, message, tmp_path):
    for said in in_group(2, tmp_path, refusal, tmp_path / "run", options)[0]:
        assert message in said
    assert not (tmp_path / "run").exists()


def test_alone_a_process_needs_no_synchronized_batch_norm(tmp_path):
    parts = setting()
    run(tmp_path, parts, sync_batch_norm=True, epochs=1)
    assert isinstance(parts[0].trunk[1], nn.BatchNorm2d)


@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet_lite0"])
def test_synchronized_batch_norms_are_the_same_model_with_the_same_parameters(backbone):
    model = FARAMTN.from_timm(backbone, GROUPS)
    before, images = dict(model.named_parameters()), torch.rand(2, 3, 32, 32)
    expected = model.eval()(images)
    model = with_synchronized_batch_norm(model, torch.device("cuda"))
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    assert all(parameter is before[name] for name, parameter in model.named_parameters())
    torch.testing.assert_close(model(images), expected)


def test_a_frozen_trunk_trains_in_several_processes(tmp_path):
    results, _ = in_group(2, tmp_path, train_frozen, tmp_path / "run")
    assert equal(*results)


def train_frozen(folder):
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.BatchNorm2d(16), nn.ReLU())
    model = FARAMTN(trunk, 16, GROUPS, reduction=4, num_heads=2).freeze()
    optimizer = torch.optim.AdamW(model.parameter_groups(2e-2))
    metrics = AttributeMetrics(GROUPS, train_rates(Squares().targets))
    run(folder, (model, DWSLoss(GROUPS), optimizer, metrics), epochs=1, batch_size=8)
    return model.state_dict()


@pytest.mark.compile
def test_a_compiled_step_is_the_same_step_in_several_processes(tmp_path):
    results, _ = in_group(2, tmp_path, train_compiled, tmp_path)
    for plain, compiled in results:
        torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-5)
    assert equal(results[0][1], results[1][1])


def train_compiled(folder):
    states = []
    for compiled in (False, True):
        parts = without_batch_norm()
        with mock.patch("torch.compile", functools.partial(torch.compile, backend="aot_eager")):
            run(folder / str(compiled), parts, Still(), Still(20, seed=1), batch_size=4, accumulate=2, compile=compiled)
        states.append(parts[0].state_dict())
    return states
