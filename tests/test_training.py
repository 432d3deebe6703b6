import copy
import math
import shutil

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

from mtattn import FARAMTN, AttributeGroups, DWSLoss
from mtattn.data import UnreadableImage
from mtattn.metrics import AttributeMetrics, train_rates
from mtattn.training import SCORES, TrainingDiverged, evaluate, fit
from mtattn.training.epochs import warmup_then_cosine

GROUPS = AttributeGroups({"left": ["Left"], "whole": ["Bright", "Never"]})
MEASURED_TIMES = {"seconds", "images_per_second"}


class Squares(Dataset):
    """Pictures in which "Left" and "Bright" can be seen, "Never" cannot; a disturbance may change a read item."""

    def __init__(self, size=48, seed=0, disturb=None):
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.randn(size, 3, 8, 8, generator=generator)
        self.targets = (torch.rand(size, 3, generator=generator) < 0.4).float()
        self.images[..., :4] += 2 * self.targets[:, 0, None, None, None]
        self.images += self.targets[:, 1, None, None, None]
        self.disturb, self.num_read = disturb, 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.num_read += 1
        image = self.images[index] + 0.1 * torch.randn(3, 8, 8)  # chance that a resumed run has to get right
        return (image if self.disturb is None else self.disturb(self.num_read, image)), self.targets[index]


def raise_at(read, error):
    def disturb(num_read, image):
        if num_read == read:
            raise error
        return image

    return disturb


def setting(rule="dws"):
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.BatchNorm2d(16), nn.ReLU())
    model = FARAMTN(trunk, 16, GROUPS, reduction=4, num_heads=2)
    optimizer = torch.optim.AdamW(model.parameter_groups(2e-2, trunk_factor=1.0))
    return model, DWSLoss(GROUPS, rule=rule), optimizer, AttributeMetrics(GROUPS, train_rates(Squares().targets))


def run(output, parts=None, train=None, valid=None, **options):
    parts = setting() if parts is None else parts
    train = Squares() if train is None else train
    valid = Squares(40, seed=1) if valid is None else valid
    return fit(*parts, train, valid, output=output, **{"epochs": 4, "batch_size": 16} | options)


def without_times(history):
    return [{key: value for key, value in record.items() if key not in MEASURED_TIMES} for record in history]


def test_it_learns_what_can_be_seen(tmp_path):
    parts = setting()
    history = run(tmp_path, parts, epochs=25)
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]
    scores = evaluate(parts[0], Squares(200, seed=2), parts[3])
    for name in ("Left", "Bright"):
        attribute = scores["attributes"][name]
        assert attribute["accuracy"] > attribute["majority_accuracy"] + 0.15


BINARY_SCORES = {*SCORES} - {"mean_skill"}


def test_each_epoch_is_recorded(tmp_path):
    parts = setting()
    history = run(tmp_path, parts)
    assert [record["epoch"] for record in history] == [1, 2, 3, 4]
    for record in history:
        assert set(record["loss_left"]) == set(record["weights"]) == set(record["group_losses"]) == set(GROUPS)
        assert set(record["valid"]) > BINARY_SCORES
        assert sum(record["weights"].values()) / len(GROUPS) == pytest.approx(1)
    assert history[0]["loss_left"] == {"left": 1, "whole": 1}
    assert history[0]["weights"] == {"left": 1, "whole": 1}
    assert history[-1]["learning_rate"] == pytest.approx(0, abs=1e-12)
    last = history[-1]["group_losses"]["left"] / history[0]["group_losses"]["left"]
    assert history[-1]["loss_left"]["left"] == pytest.approx(last)
    assert parts[1].weights.tolist() != [1, 1]


@pytest.mark.parametrize("select_by", sorted(BINARY_SCORES))
def test_it_ends_with_the_weights_of_the_best_epoch(select_by, tmp_path):
    parts, clean = setting(), Squares(40, seed=1)
    clean.disturb = lambda read, _: clean.images[(read - 1) % len(clean)]
    history = run(tmp_path, parts, valid=clean, select_by=select_by, epochs=6)
    scores = evaluate(parts[0], clean, parts[3])
    assert scores[select_by] == pytest.approx(max(record["valid"][select_by] for record in history))


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        pytest.param("dws", {"averaging": 0.9}, id="averaged"),
        pytest.param("random", {}, id="random weights"),
        pytest.param("dws", {"workers": 1, "epochs": 3}, id="worker"),  # it starts in each epoch, which takes the time
    ],
)
def test_a_resumed_run_ends_like_one_that_was_never_stopped(options, rule, tmp_path):
    whole, stopped, resumed = setting(rule), setting(rule), setting(rule)
    expected = run(tmp_path / "whole", whole, **options)
    with pytest.raises(UnreadableImage, match="gone"):  # in the third epoch
        run(tmp_path / "parts", stopped, train=Squares(disturb=raise_at_epoch(3, options)), **options)
    history = run(tmp_path / "parts", resumed, resume=True, **options)
    assert without_times(history) == without_times(expected)
    for one, other in zip(whole[:2], resumed[:2], strict=True):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name


def raise_at_epoch(epoch, options):
    first_read = 48 * (epoch - 1)
    if options.get("workers"):  # a worker starts again each epoch and counts its own reads: tell it by its seed instead
        return SeedsSeen(epoch)
    return raise_at(first_read + 20, UnreadableImage("gone"))


class SeedsSeen:
    """Counts the epochs of a dataset that is pickled into a new worker each time, through a file."""

    def __init__(self, epoch):
        self.epoch, self.seeds = epoch, torch.zeros(1, dtype=torch.long).share_memory_()

    def __call__(self, num_read, image):
        self.seeds += num_read == 1
        if self.seeds.item() == self.epoch:
            raise UnreadableImage("gone")
        return image


def test_a_finished_run_that_is_resumed_changes_nothing(tmp_path):
    first, second = setting(), setting()
    history = run(tmp_path, first)
    assert run(tmp_path, second, train=Squares(disturb=raise_at(1, AssertionError)), resume=True) == history
    for name, tensor in first[0].state_dict().items():
        assert torch.equal(tensor, second[0].state_dict()[name]), name


def test_resuming_without_a_checkpoint_starts_and_says_so(tmp_path, capsys):
    assert len(run(tmp_path, resume=True, epochs=1)) == 1
    assert f"fit: no checkpoint in {tmp_path}/checkpoints, starting with the first epoch." in capsys.readouterr().out


def test_an_unreadable_image_stops_the_run_and_the_checkpoint_stays(tmp_path):
    with pytest.raises(UnreadableImage, match=r"cannot read face\.jpg"):
        run(tmp_path, train=Squares(disturb=raise_at(100, UnreadableImage("cannot read face.jpg"))))
    assert sorted(path.name for path in (tmp_path / "checkpoints").glob("epoch-*")) == ["epoch-0001", "epoch-0002"]


def test_a_checkpoint_left_unfinished_is_not_taken_for_one(tmp_path):
    stop_in_third_epoch(tmp_path)
    unfinished = tmp_path / "checkpoints/partial"
    unfinished.mkdir()
    (unfinished / "model.safetensors").write_text("torn")
    assert len(run(tmp_path, resume=True)) == 4


def stop_in_third_epoch(folder):
    with pytest.raises(UnreadableImage, match="gone"):
        run(folder, train=Squares(disturb=raise_at(48 * 2 + 20, UnreadableImage("gone"))))


def test_the_last_two_checkpoints_are_kept_and_each_holds_the_best_weights(tmp_path):
    history = run(tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["epoch-0003", "epoch-0004"]
    scores = [record["valid"]["mean_accuracy"] for record in history]
    third, fourth = ((tmp_path / f"checkpoints/epoch-000{epoch}/best.safetensors").read_bytes() for epoch in (3, 4))
    assert (third == fourth) == (scores[3] < max(scores[:3]))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(value, tmp_path):
    train = Squares(disturb=lambda read, image: image * value if read == 48 + 20 else image)
    with pytest.raises(TrainingDiverged, match=r"epoch 2, step 2 of 3.*last good checkpoint is .*epoch-0001"):
        run(tmp_path, train=train)
    assert not (tmp_path / "checkpoints/epoch-0002").exists()


def test_a_loss_that_is_never_finite_says_that_there_is_no_checkpoint(tmp_path):
    with pytest.raises(TrainingDiverged, match=r"epoch 1, step 1 of 3.*There is no checkpoint yet"):
        run(tmp_path, train=Squares(disturb=lambda _, image: image * math.nan))


def test_weights_that_the_last_step_spoils_are_not_kept(tmp_path):
    parts, num_backwards = setting(), [0]

    def spoil(gradient):
        num_backwards[0] += 1
        return gradient * math.nan if num_backwards[0] == 6 else gradient

    parts[0].heads.weight.register_hook(spoil)
    with pytest.raises(TrainingDiverged, match=r"weights are not finite after epoch 2.*epoch-0001"):
        run(tmp_path, parts)
    assert not (tmp_path / "checkpoints/epoch-0002").exists()


def test_a_model_that_is_useless_though_its_weights_are_finite_is_not_kept(tmp_path):
    model, loss, _, metrics = setting()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e30)
    with pytest.raises(TrainingDiverged, match=r"There is no checkpoint yet"):
        run(tmp_path, (model, loss, optimizer, metrics), epochs=1, batch_size=48, warmup=0.0)
    assert not (tmp_path / "checkpoints").exists()


FILES = ["model.safetensors", "best.safetensors", "optimizer.bin", "random_states_0.pkl", "history.json", "files.json"]


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(file, tmp_path, capsys):
    whole = setting()
    expected = run(tmp_path, whole)
    damaged = tmp_path / "checkpoints/epoch-0004" / file
    damaged.write_bytes(damaged.read_bytes()[:100])
    resumed = setting()
    history = run(tmp_path, resumed, resume=True)
    said = capsys.readouterr().out
    assert f"fit: {tmp_path}/checkpoints/epoch-0004 cannot be read" in said
    assert f"fit: going on from {tmp_path}/checkpoints/epoch-0003" in said
    assert without_times(history) == without_times(expected)
    assert torch.equal(whole[0].heads.weight, resumed[0].heads.weight)


def test_a_run_goes_on_from_an_old_checkpoint_when_all_later_ones_are_damaged(tmp_path):
    whole, folder = setting(), tmp_path / "checkpoints"
    expected = run(tmp_path, whole, train=Squares(disturb=keep_first(folder)))
    for later in ("epoch-0003", "epoch-0004"):
        (folder / later / "files.json").unlink()
    (tmp_path / "epoch-0002").rename(folder / "epoch-0002")
    resumed = setting()
    assert without_times(run(tmp_path, resumed, resume=True)) == without_times(expected)
    assert torch.equal(whole[0].heads.weight, resumed[0].heads.weight)
    assert sorted(path.name for path in folder.iterdir()) == ["epoch-0003", "epoch-0004"]


def keep_first(folder):
    def copy_aside(num_read, image):
        if num_read == 48 * 3:  # in the third epoch
            shutil.copytree(folder / "epoch-0002", folder.parent / "epoch-0002")
        return image

    return copy_aside


def test_a_checkpoint_that_lacks_a_file_is_passed_over(tmp_path, capsys):
    run(tmp_path)
    (tmp_path / "checkpoints/epoch-0004/random_states_0.pkl").unlink()
    run(tmp_path, resume=True)
    assert "epoch-0004 cannot be read: random_states_0.pkl is missing." in capsys.readouterr().out


def test_a_folder_that_only_looks_like_a_checkpoint_is_passed_over(tmp_path, capsys):
    expected = run(tmp_path)
    foreign = tmp_path / "checkpoints/epoch-0005"
    foreign.mkdir()
    (foreign / "model.safetensors").write_text("somebody else's")
    assert run(tmp_path, resume=True) == expected
    assert "epoch-0005 cannot be read: no list of its files in files.json" in capsys.readouterr().out


def test_a_whole_checkpoint_that_does_not_fit_is_refused_and_never_taken_for_a_damaged_one(tmp_path, monkeypatch):
    model, loss, optimizer, metrics = setting()
    run(tmp_path, (model, loss, optimizer, metrics))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    parts = setting()
    parts[0].renamed = parts[0].__dict__["_modules"].pop("heads")  # as many numbers in as many tensors
    with pytest.raises(ValueError, match=r"epoch-0004 is whole and fits neither .* in loading state_dict"):
        run(tmp_path, parts, resume=True)

    def out_of_memory(*_, **__):
        raise torch.OutOfMemoryError("no room on the device")

    monkeypatch.setattr("accelerate.Accelerator.load_state", out_of_memory)
    with pytest.raises(torch.OutOfMemoryError, match="no room on the device"):
        run(tmp_path, resume=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_checkpoints_that_are_all_damaged_are_refused(tmp_path):
    run(tmp_path)
    for file in (tmp_path / "checkpoints").glob("epoch-*/files.json"):
        file.write_text("{")
    with pytest.raises(ValueError, match=r"fit: none of .*epoch-0003, .*epoch-0004 can be read"):
        run(tmp_path, resume=True)


@pytest.mark.parametrize("epochs", [1, 3, 6])
def test_a_folder_that_holds_another_run_is_left_alone(epochs, tmp_path):
    run(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"fit: .*checkpoints holds another run; take resume=True, another output"):
        run(tmp_path, epochs=epochs)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("wrong", ["train", "valid"])
def test_data_with_columns_in_another_order_are_refused(wrong, tmp_path):
    data = Squares()
    data.attributes = ("Never", "Left", "Bright")
    with pytest.raises(
        ValueError, match=rf"fit: the columns of {wrong}_data are .*Left, Bright, Never, got Never, Left"
    ):
        run(tmp_path, **{wrong: data})
    with pytest.raises(ValueError, match="evaluate: the columns of data are"):
        evaluate(setting()[0], data, setting()[3])


def test_metrics_of_other_groups_are_refused(tmp_path):
    model, loss, optimizer, _ = setting()
    metrics = AttributeMetrics(AttributeGroups({"all": ["a", "b", "c"]}), [0.1, 0.2, 0.3])
    with pytest.raises(
        ValueError, match=r"fit: the columns of metrics are groups\.attributes, Left, Bright, Never, got a, b, c"
    ):
        run(tmp_path, (model, loss, optimizer, metrics))


def test_one_process_may_train_and_measure_in_several_precisions(tmp_path):
    model, _, _, metrics = parts = setting()
    exact = evaluate(model, Squares(), metrics)
    assert exact["loss"] != evaluate(model, Squares(), metrics, mixed_precision="bf16")["loss"]
    run(tmp_path / "bf16", parts, epochs=1, mixed_precision="bf16")
    run(tmp_path / "float32", setting(), epochs=1)


def test_missing_labels_do_not_stop_training(tmp_path):
    train, valid = Squares(), Squares(40, seed=1)
    train.targets[torch.rand(train.targets.shape) < 0.5] = math.nan
    train.targets[:, 0] = math.nan  # the whole group "left"
    valid.targets[:] = math.nan
    history = run(tmp_path, train=train, valid=valid)
    assert math.isfinite(history[-1]["train_loss"])
    assert [record["weights"]["left"] for record in history] == [1] * 4
    assert history[-1]["loss_left"]["left"] is None


def test_an_averaged_copy_is_what_is_kept(tmp_path):
    plain, averaged = setting(), setting()
    run(tmp_path / "plain", plain, epochs=1)
    run(tmp_path / "averaged", averaged, epochs=1, averaging=0.99)
    assert not torch.equal(plain[0].heads.weight, averaged[0].heads.weight)


def test_bf16_trains_and_gives_back_a_model_in_float32(tmp_path):
    parts = setting()
    run(tmp_path, parts, mixed_precision="bf16", epochs=1)
    images = Squares().images[:4]
    model = parts[0].eval()
    assert model(images).dtype == torch.float32
    torch.testing.assert_close(model.attribute_maps(images).mean((-2, -1)), model(images))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"epochs": 0}, "epochs and batch_size must be at least 1, got 0 and 16", id="epochs"),
        pytest.param({"batch_size": 0}, "epochs and batch_size must be at least 1, got 4 and 0", id="batch size"),
        pytest.param({"batch_size": 49}, "needs at least one full batch of images, got batch_size=49", id="few images"),
        pytest.param({"warmup": 1.0}, r"warmup is a share in \[0, 1\), got 1.0", id="warmup"),
        pytest.param({"averaging": 1.0}, r"averaging is a decay in \(0, 1\), got 1.0", id="averaging"),
        pytest.param(
            {"select_by": "mean_acuracy"},
            "no score to select by 'mean_acuracy'; did you mean 'mean_accuracy'",
            id="name",
        ),
    ],
)
def test_options_that_cannot_be_are_refused_before_training(options, message, tmp_path):
    with pytest.raises(ValueError, match=f"fit: {message}"):
        run(tmp_path, train=Squares(disturb=raise_at(1, AssertionError)), **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("warmup", "num_warm"), [(0.0, 0), (0.1, 2), (0.5, 10)])
def test_the_learning_rate_rises_linearly_and_falls_along_a_cosine_to_zero(warmup, num_warm):
    factor = warmup_then_cosine(warmup, 20)
    factors = [factor(step) for step in range(21)]
    assert factors[:num_warm] == pytest.approx([(step + 1) / num_warm for step in range(num_warm)])
    assert factors[num_warm] == 1
    assert factors[num_warm:] == sorted(factors[num_warm:], reverse=True)
    assert factors[num_warm + (20 - num_warm) // 2] == pytest.approx(0.5)
    assert factors[-1] == pytest.approx(0)


class TestEvaluate:
    def test_measures_all_images_once_in_evaluation_mode_and_gives_the_mode_back(self):
        model, _, _, metrics = setting()
        data = Squares(37)
        data.disturb = lambda read, _: data.images[(read - 1) % 37]
        data.targets[3, 1] = math.nan
        before = copy.deepcopy(model.state_dict())
        scores = evaluate(model.train(), data, metrics, batch_size=16)
        assert model.training
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        with torch.no_grad():
            logits = model.eval()(data.images)
        labelled = ~data.targets.isnan()
        loss = F.binary_cross_entropy_with_logits(logits[labelled], data.targets[labelled])
        assert scores["loss"] == pytest.approx(loss.item(), rel=1e-5)
        right = ((logits > 0) == (data.targets > 0.5)).double()
        assert scores["attributes"]["Left"]["accuracy"] == pytest.approx(right[:, 0].mean().item())

    def test_with_mirror_images_each_image_has_the_mean_of_both(self):
        model, _, _, metrics = setting()
        data, turned = Squares(16), Squares(16)
        turned.images = data.images.flip(-1)
        for each in (data, turned):
            each.disturb = lambda read, _, images=each.images: images[(read - 1) % 16]
        scores = evaluate(model, data, metrics, mirror=True)
        assert evaluate(model, turned, metrics, mirror=True) == scores
        with torch.no_grad():
            both = (model.eval()(data.images) + model(turned.images)) / 2
        loss = F.binary_cross_entropy_with_logits(both, data.targets)
        assert scores["loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert evaluate(model, data, metrics)["loss"] != pytest.approx(loss.item(), rel=1e-3)

    def test_gives_back_the_mode_of_each_part(self):
        model, _, _, metrics = setting()
        model.train()
        frozen = next(part for part in model.modules() if part is not model)
        frozen.eval()
        before = [part.training for part in model.modules()]
        evaluate(model, Squares(4), metrics)
        assert [part.training for part in model.modules()] == before

    def test_forgets_what_the_metrics_saw_before(self):
        model, _, _, metrics = setting()
        once = Squares(16)
        once.disturb = lambda read, _: once.images[(read - 1) % 16]
        assert evaluate(model, once, metrics) == evaluate(model, once, metrics)
