"""Precision, accumulation and compilation change how a step is computed, not what it means."""

import functools
import math

import pytest
import torch
from test_distributed import Still, equal, state, without_batch_norm
from test_training import GROUPS, Squares, run, setting, without_times

from mtattn import DWSLoss
from mtattn.models import set_grad_checkpointing

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="float16 with a gradient scaler needs a GPU")


def float_types(module):
    return {tensor.dtype for tensor in module.state_dict().values() if tensor.is_floating_point()}


@pytest.mark.parametrize("missing", [False, True], ids=["all labels", "labels missing"])
@pytest.mark.parametrize(("batch_size", "accumulate"), [(8, 2), (4, 4), (1, 16)])
def test_accumulated_batches_are_one_large_batch(batch_size, accumulate, missing, tmp_path):
    data, valid = Still(50, missing=missing), Still(20, seed=1)
    large, small = without_batch_norm(), without_batch_norm()
    expected = run(tmp_path / "large", large, data, valid, epochs=2, batch_size=16)
    history = run(tmp_path / "small", small, data, valid, epochs=2, batch_size=batch_size, accumulate=accumulate)
    for name, tensor in small[0].state_dict().items():
        torch.testing.assert_close(tensor, large[0].state_dict()[name], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(small[1].state_dict(), large[1].state_dict(), rtol=1e-4, atol=1e-6, equal_nan=True)
    for record, other in zip(expected, history, strict=True):
        assert other["learning_rate"] == record["learning_rate"]
        assert other["train_loss"] == pytest.approx(record["train_loss"], rel=1e-4)
        assert other["weights"] == pytest.approx(record["weights"], rel=1e-4)


def test_accumulation_at_least_one(tmp_path):
    with pytest.raises(ValueError, match="fit: accumulate must be at least 1, got 0"):
        run(tmp_path, accumulate=0)


def test_a_step_of_more_images_than_there_are_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"got batch_size=16 x accumulate=4 for 48 images; take a smaller batch_size"):
        run(tmp_path, accumulate=4)


@pytest.mark.parametrize("precision", ["no", "bf16", pytest.param("fp16", marks=gpu)])
def test_loss_and_history_stay_in_float32(precision, tmp_path):
    parts = setting()
    history = run(tmp_path, parts, mixed_precision=precision)
    assert float_types(parts[0]) == float_types(parts[1]) == {torch.float32}
    assert parts[1].history.latest.isfinite().all()
    assert history[-1]["train_loss"] < history[0]["train_loss"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_loss_of_half_precision_logits_is_that_of_the_same_numbers_in_float32(dtype):
    logits = (20 * torch.randn(64, 3)).to(dtype)
    targets = (torch.rand(64, 3) < 0.5).float()
    half, full = DWSLoss(GROUPS), DWSLoss(GROUPS)
    with torch.autocast("cpu", dtype):
        value = half(logits, targets)
    assert value.dtype == torch.float32
    assert torch.equal(value, full(logits.float(), targets))
    half.step()
    full.step()
    assert half.history.latest.dtype == torch.float32
    assert torch.equal(half.history.latest, full.history.latest)


def test_a_gradient_scaler_skips_a_step_that_overflows_and_the_history_stays_finite():
    model, loss, optimizer, _ = without_batch_norm()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    data = Still(16)
    for factor in (1.0, 1e6, 1.0):  # the second images overflow float16
        before = [parameter.clone() for parameter in model.parameters()]
        with torch.autocast("cpu", torch.float16):
            value = loss(model(factor * data.images), data.targets)
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        moved = any(not torch.equal(one, two) for one, two in zip(before, model.parameters(), strict=True))
        assert moved == (factor == 1)
    loss.step()
    assert loss.history.latest.isfinite().all()
    assert loss.weights.isfinite().all()


def test_float64_trains_in_float64_and_the_history_stays_in_float32(tmp_path):
    parts, data, valid = without_batch_norm(), Still(), Still(20, seed=1)
    data.images, valid.images = data.images.double(), valid.images.double()
    parts[0].double()
    history = run(tmp_path, parts, data, valid, epochs=2)
    assert float_types(parts[0]) == {torch.float64}
    assert float_types(parts[1]) == {torch.float32}
    single = run(tmp_path / "single", without_batch_norm(), Still(), Still(20, seed=1), epochs=2)
    for record, other in zip(history, single, strict=True):
        assert record["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)


def test_recomputed_blocks_train_to_the_same_bits(tmp_path):
    plain, recomputed = setting(), setting()
    set_grad_checkpointing(recomputed[0].trunk)
    expected = run(tmp_path / "plain", plain, averaging=0.9)
    history = run(tmp_path / "recomputed", recomputed, averaging=0.9)
    assert without_times(history) == without_times(expected)
    assert equal(state(plain), state(recomputed))


@pytest.mark.compile
@pytest.mark.parametrize("options", [{}, {"accumulate": 2, "batch_size": 8}, {"mixed_precision": "bf16"}], ids=str)
def test_a_compiled_step_is_the_same_step(options, tmp_path, monkeypatch):
    torch._dynamo.reset()
    exact = functools.partial(torch.compile, backend="aot_eager")  # what breaks, breaks here too, and in seconds
    monkeypatch.setattr(torch, "compile", exact)
    plain, compiled = setting(), setting()
    expected = run(tmp_path / "plain", plain, Still(), Still(20, seed=1), epochs=2, **options)
    history = run(tmp_path / "compiled", compiled, Still(), Still(20, seed=1), epochs=2, compile=True, **options)
    tolerance = 2e-2 if "mixed_precision" in options else 1e-4
    for record, other in zip(expected, history, strict=True):
        assert other["train_loss"] == pytest.approx(record["train_loss"], rel=tolerance)
        assert other["weights"] == pytest.approx(record["weights"], rel=tolerance)
    assert compiled[0].state_dict().keys() == plain[0].state_dict().keys()


@pytest.mark.compile
def test_a_compiled_step_is_one_program(tmp_path, monkeypatch):
    torch._dynamo.reset()
    whole = functools.partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", whole)
    run(tmp_path, setting(), epochs=1, compile=True)


@pytest.mark.compile
def test_a_compiled_run_is_resumed_by_one_that_is_not(tmp_path, monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    with pytest.raises(RuntimeError, match="stopped"):
        run(tmp_path, setting(), train=Squares(disturb=stop), compile=True)
    assert len(run(tmp_path, setting(), resume=True)) == 4


def stop(num_read, image):
    if num_read == 100:
        raise RuntimeError("stopped")
    return image


def test_missing_labels_weigh_alike_in_every_batch_of_a_step():
    from mtattn.training.distributed import label_shares, new_accelerator

    nan = math.nan
    batches = [(None, torch.tensor([[1.0, nan, nan]])), (None, torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, nan]]))]
    shares = label_shares(new_accelerator("no"), batches)
    torch.testing.assert_close(shares, torch.tensor([1 / 3, 5 / 3]))
    assert label_shares(new_accelerator("no"), [(None, torch.full((2, 3), nan))]).tolist() == [0]
