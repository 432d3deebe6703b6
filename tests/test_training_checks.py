"""What fit and evaluate refuse before time is spent, and what they are not misled by."""

import errno
import io
import math
import os
import re
import warnings
from contextlib import redirect_stdout
from functools import partial

import numpy as np
import pytest
import torch
from processes import alone, start
from test_training import GROUPS, Squares, UnreadableImage, raise_at, run, setting, stop_in_third_epoch
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, StackDataset, Subset, TensorDataset, random_split

from mtattn import FARAMTN, AttributeGroups, Categorical, DWSLoss, GroupHeads, Number
from mtattn.metrics import AttributeMetrics, train_rates
from mtattn.training import evaluate
from mtattn.training.begun import check_same_run, how_begun
from mtattn.training.checkpoints import checkpoint_of, complete_checkpoints, last_checkpoint
from mtattn.training.checks import Options
from mtattn.training.columns import check_columns

REORDERED = AttributeGroups({"whole": ["Bright", "Never"], "left": ["Left"]})


class Wrapped(Dataset):
    """Somebody's wrapper: it holds data sets under any name, in any container."""

    def __init__(self, inside):
        self.what_i_hold = inside

    def __len__(self):
        return len(first(self.what_i_hold))

    def __getitem__(self, index):
        return first(self.what_i_hold)[index]


def first(inside):
    return (
        next(iter(inside.values())) if isinstance(inside, dict) else inside[0] if isinstance(inside, list) else inside
    )


class Delegating:
    """A wrapper that is no torch data set and passes on what it does not have."""

    def __init__(self, inside):
        self.inside = inside

    def __getattr__(self, name):
        return getattr(self.__dict__["inside"], name)

    def __len__(self):
        return len(self.inside)

    def __getitem__(self, index):
        return self.inside[index]


def misordered(size=48):
    data = Squares(size)
    data.attributes = REORDERED.attributes
    return data


WRAPPERS = {
    "random_split": lambda data: random_split(data, [0.5, 0.5])[0],
    "Subset": lambda data: Subset(data, range(len(data))),
    "ConcatDataset": lambda data: ConcatDataset([Squares(16), data]),
    "StackDataset": lambda data: StackDataset(data, data),
    "Subset of a Subset": lambda data: Subset(Subset(data, range(40)), range(32)),
    "somebody's": Wrapped,
    "a list": lambda data: Wrapped([data]),
    "a dict": lambda data: Wrapped({"faces": data}),
    "delegation": Delegating,
    "delegation in a wrapper": lambda data: Wrapped(Delegating(data)),
    "itself": lambda data: holding_itself(Wrapped(data)),
}


def holding_itself(data):
    data.me = data
    return data


class TestColumns:
    @pytest.mark.parametrize("wrapper", WRAPPERS)
    def test_a_wrapper_hides_no_names(self, wrapper):
        data = WRAPPERS[wrapper](misordered())
        expected = "the columns of train_data are groups.attributes, Left, Bright, Never, got Bright, Never, Left"
        with pytest.raises(ValueError, match=f"fit: {expected}; make it from these groups"):
            check_columns("fit", GROUPS, train_data=data)

    @pytest.mark.parametrize(
        "wrapper",
        [
            pytest.param(name, marks=[pytest.mark.outside] * (name == "delegation"))  # no Dataset, as annotated
            for name in WRAPPERS
            if name != "StackDataset"
        ],
    )
    def test_a_wrapper_around_data_in_the_right_order_trains(self, wrapper, tmp_path):
        data = Squares()
        data.attributes = GROUPS.attributes
        run(tmp_path, train=WRAPPERS[wrapper](data), valid=WRAPPERS[wrapper](data), epochs=1, batch_size=8)

    def test_a_wrapper_that_changes_the_columns_says_so(self):
        data = Wrapped(misordered())
        data.attributes = GROUPS.attributes
        check_columns("fit", GROUPS, train_data=data)

    def test_torchvisions_celeba_has_names_too(self):
        data = Squares()
        data.attr_names = [*REORDERED.attributes, ""]  # the last is empty there
        with pytest.raises(ValueError, match="got Bright, Never, Left;"):
            check_columns("fit", GROUPS, data=data)

    def test_names_that_nobody_says_are_nobodys_fault(self):
        data = Squares()
        data.attributes = 3  # somebody's own word for something else
        check_columns("fit", GROUPS, data=data, tensors=TensorDataset(torch.ones(2, 3)), model=nn.Linear(4, 3))

    def test_of_many_names_the_first_that_differ_are_shown(self):
        names = [f"name{index}" for index in range(40)]
        data = Squares()
        data.attributes = [*names[:30], names[31], names[30], *names[32:]]
        with pytest.raises(ValueError, match="got 30 like them, then name31, name30, name32 and 7 more"):
            check_columns("fit", AttributeGroups({"all": names}), data=data)

    @pytest.mark.parametrize(
        "wrap",
        [
            pytest.param(lambda model: model, id="bare"),
            pytest.param(lambda model: nn.Sequential(nn.Identity(), model), id="normalized before"),
            pytest.param(nn.DataParallel, id="replicated"),
        ],
    )
    def test_a_model_of_other_groups_is_refused(self, wrap, tmp_path):
        model, _, optimizer, _ = setting()
        loss = DWSLoss(REORDERED)
        metrics = AttributeMetrics(REORDERED, [0.5] * 3)
        with pytest.raises(ValueError, match=r"fit: the columns of model are .*Bright, Never, Left, got Left, Bright"):
            run(tmp_path, (wrap(model), loss, optimizer, metrics), misordered(), misordered())
        with pytest.raises(ValueError, match=r"evaluate: the columns of model are .*Bright, Never, Left, got Left"):
            evaluate(wrap(model), misordered(), metrics)
        assert list(tmp_path.iterdir()) == []

    def test_a_model_with_heads_for_several_data_sets_is_its_own_business(self):
        heads = nn.ModuleList([GroupHeads(4, GROUPS), GroupHeads(4, REORDERED)])
        check_columns("fit", GROUPS, model=heads)

    def test_metrics_of_another_grouping_of_the_same_columns_are_fine(self, tmp_path):
        model, loss, optimizer, _ = setting()
        metrics = AttributeMetrics(AttributeGroups({"all": GROUPS.attributes}), [0.5] * 3)
        run(tmp_path, (model, loss, optimizer, metrics), epochs=1)


class Items(Dataset):
    def __init__(self, make, size=16):
        self.make, self.size, self.num_read = make, size, 0

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        self.num_read += 1
        return self.make(torch.rand(3, 8, 8), torch.ones(3))


WRONG = {
    "dict": (lambda image, target: {"image": image, "labels": target}, "a dict with 'image', 'labels'"),
    "triple": (lambda image, target: (image, target, 0), "a tuple of 3: a Tensor, a Tensor, a int"),
    "list of labels": (lambda image, target: (image, target.tolist()), "a tuple of 2: a Tensor, a list"),
    "image alone": (lambda *item: item[0], "a Tensor"),
    "name of a class": (lambda *item: (item[0], "Smiling"), "a tuple of 2: a Tensor, a str"),
    "nothing": (lambda *_: None, "a NoneType"),
}


class TestItems:
    @pytest.mark.parametrize("form", WRONG)
    @pytest.mark.parametrize("part", ["train", "valid"])
    def test_what_an_item_has_to_be_is_said_before_training(self, part, form, tmp_path):
        make, got = WRONG[form]
        train, valid = (Items(make) if part == name else Squares(16) for name in ("train", "valid"))
        message = rf"fit.*: an item of a data set is a pair, .* one number an attribute, got {re.escape(got)}; wrap"
        with pytest.raises(TypeError, match=message):
            run(tmp_path, train=train, valid=valid)
        assert not (tmp_path / "checkpoints").exists()
        with pytest.raises(TypeError, match=message.replace("fit", "evaluate")):
            evaluate(setting()[0], Items(make), setting()[3])

    def test_pairs_in_lists_arrays_whole_numbers_and_images_of_several_parts_are_taken(self):
        model = nn.Module()
        model.forward = lambda images: images["left"].flatten(1)[:, :3]
        for target in (np.ones(3), torch.ones(3, dtype=torch.long), torch.ones(3, dtype=torch.bool)):
            data = Items(lambda image, _, target=target: [{"left": image, "right": image}, target])
            assert evaluate(model, data, setting()[3])["mean_accuracy"] > 0

    def test_a_stream_is_refused_because_it_cannot_be_shuffled(self, tmp_path):
        class Stream(torch.utils.data.IterableDataset):
            def __iter__(self):
                yield torch.rand(3, 8, 8), torch.ones(3)

        with pytest.raises(TypeError, match="fit: train_data has a length, so that it can be shuffled, got a Stream"):
            run(tmp_path, train=Stream())

    def test_an_empty_validation_part_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="fit: valid_data needs at least one image, got none"):
            run(tmp_path, valid=Subset(Squares(), []))

    def test_looking_first_changes_no_chance(self, tmp_path):
        counted = Squares()
        run(tmp_path, train=counted, epochs=1)
        assert counted.num_read == 48


def targets_with(value, place=(20, 1)):
    data = Squares()
    data.targets[place] = value
    return data


class Secretive(Dataset):
    """Tells its targets with its images only."""

    def __init__(self, data):
        self._items = [data[index] for index in range(len(data))]

    def __len__(self):
        return len(self._items)

    def __getitem__(self, index):
        return self._items[index]


class TestTargets:
    @pytest.mark.parametrize("value", [-1.0, 2.0, 1.001, math.inf, -math.inf, 255.0])
    @pytest.mark.parametrize("part", ["train", "valid"])
    def test_targets_that_cannot_be_are_refused_before_training(self, part, value, tmp_path):
        message = rf"fit: {part}_data: 'Bright' is binary, so a target is in \[0, 1\], .* got {value:g} for image 20\."
        with pytest.raises(ValueError, match=message):
            run(tmp_path, **{part: targets_with(value)})
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("workers", [0, 1])
    def test_targets_that_come_with_their_images_are_refused_before_their_step(self, workers, tmp_path):
        with pytest.raises(ValueError, match=r"fit: a batch: 'Bright' is binary, so a target is in .* got -1"):
            run(tmp_path, train=Secretive(targets_with(-1.0)), workers=workers)
        assert not (tmp_path / "checkpoints").exists()

    def test_evaluate_looks_too(self):
        with pytest.raises(ValueError, match=r"evaluate: a batch: 'Bright' is binary, .* got -1 for image 20"):
            evaluate(setting()[0], targets_with(-1.0), setting()[3])

    def test_what_a_subset_leaves_out_is_not_looked_at(self, tmp_path):
        data = targets_with(-1.0, (47, 0))
        run(tmp_path, train=Subset(data, range(40)), epochs=1)
        with pytest.raises(ValueError, match=r"train_data: 'Left' is binary, .* got -1 for image 39"):
            run(tmp_path / "other", train=Subset(data, range(8, 48)), epochs=1)

    @pytest.mark.parametrize("width", [1, 2, 4])
    def test_another_number_of_targets_is_refused(self, width, tmp_path):
        data = TensorDataset(torch.rand(16, 3, 8, 8), torch.ones(16, width))
        with pytest.raises(ValueError, match=rf"fit: train_data: targets are \(image, 3\), .* got \(16, {width}\)"):
            run(tmp_path, train=data)
        with pytest.raises(ValueError, match=rf"evaluate: an image has one target for each of 3.*\({width},\)"):
            evaluate(setting()[0], data, setting()[3])


def other_optimizer(parts, **options):
    model, loss, _, metrics = parts
    return model, loss, torch.optim.AdamW(model.parameter_groups(**{"learning_rate": 2e-2, **options})), metrics


def other_loss(**options):
    model, _, optimizer, metrics = setting()
    return model, DWSLoss(GROUPS, **options), optimizer, metrics


def other_groups(groups):
    model = FARAMTN(setting()[0].trunk, 16, groups, reduction=4, num_heads=2)
    optimizer = torch.optim.AdamW(model.parameter_groups(2e-2, trunk_factor=1.0))
    return model, DWSLoss(groups), optimizer, AttributeMetrics(groups, [0.5] * 3)


def other_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    _, loss, _, metrics = setting()
    return model, loss, torch.optim.SGD(model.parameters()), metrics


CHANGES = {
    "groups": (lambda: {"parts": other_groups(REORDERED)}, r"groups\[0\]\[0\]=left, got whole"),
    "another grouping": (
        lambda: {"parts": other_groups(AttributeGroups({"left": ["Left", "Bright"], "whole": ["Never"]}))},
        r"groups\[0\]\[1\]=\['Left'\], got \['Left', 'Bright'\]",
    ),
    "more epochs": (lambda: {"epochs": 6}, "epochs=4, got 6"),
    "fewer epochs": (lambda: {"epochs": 2}, "epochs=4, got 2"),
    "batch size": (lambda: {"batch_size": 8}, "batch_size=16, got 8"),
    "accumulate": (lambda: {"accumulate": 2}, "accumulate=1, got 2"),
    "warmup": (lambda: {"warmup": 0.2}, r"warmup=0\.1, got 0\.2"),
    "averaging": (lambda: {"averaging": 0.9}, r"averaging=None, got 0\.9"),
    "precision": (lambda: {"mixed_precision": "bf16"}, "mixed_precision=no, got bf16"),
    "selection": (lambda: {"select_by": "mean_f1"}, "select_by=mean_accuracy, got mean_f1"),
    "seed": (lambda: {"seed": 1}, "seed=0, got 1"),
    "training images": (lambda: {"train": Squares(32)}, "train_images=48, got 32"),
    "validation images": (lambda: {"valid": Squares(41)}, "valid_images=40, got 41"),
    "rule": (lambda: {"parts": other_loss(rule="dwa")}, "rule=dws, got dwa"),
    "alpha": (lambda: {"parts": other_loss(alpha=2.0)}, r"alpha=1\.0, got 2\.0"),
    "pos_weight": (lambda: {"parts": other_loss(pos_weight=[1.0, 2.0, 1.0])}, r"pos_weight=None, got \[1\.0, 2\.0"),
    "learning rate": (
        lambda: {"parts": other_optimizer(setting(), learning_rate=1e-2, trunk_factor=1.0)},
        r"parameter_groups\[0\]\.lr=0\.02, got 0\.01",
    ),
    "weight decay": (
        lambda: {"parts": other_optimizer(setting(), trunk_factor=1.0, weight_decay=0.2)},
        r"parameter_groups\[0\]\.weight_decay=0\.0, got 0\.2",
    ),
    "model": (lambda: {"parts": other_model()}, "model=FARAMTN of 3520 numbers in 20 tensors, got Sequential of"),
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A folder with a run that stopped in its third epoch."""
    folder = tmp_path_factory.mktemp("stopped")
    stop_in_third_epoch(folder)
    return folder


class TestHowARunWasBegun:
    @pytest.mark.parametrize("change", CHANGES)
    def test_a_run_that_is_not_the_same_is_not_resumed_and_nothing_is_lost(self, change, stopped):
        options, difference = CHANGES[change]
        before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
        with pytest.raises(ValueError, match=rf"fit: the run in .*epoch-0002 was begun with {difference}.*; a run res"):
            run(stopped, resume=True, **options())
        assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before

    def test_a_finished_run_is_not_trained_for_longer(self, tmp_path):
        run(tmp_path, epochs=2)
        with pytest.raises(ValueError, match=r"was begun with epochs=2, got 4; .* a new run in another output"):
            run(tmp_path, epochs=4, resume=True)

    def test_an_image_that_is_left_out_on_the_way_is_no_other_run(self, tmp_path):
        stop_in_third_epoch(tmp_path)
        data = Squares(48)
        data.images, data.targets, data.skipped = data.images[1:], data.targets[1:], ("gone.jpg",)
        assert len(run(tmp_path, train=data, resume=True)) == 4

    def test_checkpoints_of_versions_that_did_not_tell_are_resumed(self):
        check_same_run("runs/old", {"num_processes": 1}, {"epochs": 4, "num_processes": 1})
        check_same_run("runs/old", {"torch_had": {"this": 1}}, {"epochs": 4})
        with pytest.raises(ValueError, match="begun with num_processes=2, got 1"):
            check_same_run("runs/old", {"num_processes": 2}, {"epochs": 4, "num_processes": 1})


class TestNothingIsLeftOfAnotherRun:
    def test_a_loss_that_was_trained_with_is_refused(self, tmp_path):
        _, loss, _, _ = parts = setting()
        run(tmp_path / "fold1", parts, epochs=1)
        model, _, optimizer, metrics = setting()
        with pytest.raises(ValueError, match=r"fit: a new run begins with equal weights .* loss\.weighting\.reset\(\)"):
            run(tmp_path / "fold2", (model, loss, optimizer, metrics))
        assert not (tmp_path / "fold2/checkpoints").exists()
        loss.weighting.reset()
        first, *_ = run(tmp_path / "fold2", (model, loss, optimizer, metrics), epochs=1)
        assert first["weights"] == first["loss_left"] == {"left": 1, "whole": 1}

    def test_losses_of_a_period_that_was_not_closed_count_as_well(self, tmp_path):
        model, loss, optimizer, metrics = setting()
        loss(torch.zeros(2, 3), torch.ones(2, 3))
        with pytest.raises(ValueError, match="got a loss that has seen some"):
            run(tmp_path, (model, loss, optimizer, metrics))

    def test_an_optimizer_that_made_steps_is_refused(self, tmp_path):
        parts = setting()
        run(tmp_path / "fold1", parts, epochs=1)
        model, loss, _, metrics = setting()
        with pytest.raises(ValueError, match=r"fit: a new run begins with a new optimizer, .*; make a new AdamW for"):
            run(tmp_path / "fold2", (model, loss, parts[2], metrics))

    def test_what_was_stopped_goes_on_with_the_same_objects(self, tmp_path):
        parts = setting()
        with pytest.raises(UnreadableImage, match="gone"):
            run(tmp_path, parts, train=Squares(disturb=raise_at(48 * 2 + 20, UnreadableImage("gone"))))
        assert len(run(tmp_path, parts, resume=True)) == 4

    @pytest.mark.parametrize("precision", ["no", "bf16"])
    def test_a_run_that_fails_gives_the_model_back_as_it_was(self, precision, tmp_path):
        parts = setting()
        parts[0].trunk.eval()
        modes = [module.training for module in parts[0].modules()]
        train = Squares(disturb=raise_at(20, UnreadableImage("gone")))
        with pytest.raises(UnreadableImage, match="gone"):
            run(tmp_path, parts, train=train, mixed_precision=precision)
        assert [module.training for module in parts[0].modules()] == modes
        assert "forward" not in vars(parts[0])

    def test_a_measurement_that_fails_gives_the_modes_back(self):
        model, _, _, metrics = setting()
        model.trunk.eval()
        modes = [module.training for module in model.modules()]
        with pytest.raises(UnreadableImage, match="gone"):
            evaluate(model, Squares(disturb=raise_at(3, UnreadableImage("gone"))), metrics)
        assert [module.training for module in model.modules()] == modes

    def test_a_loss_left_in_evaluation_mode_learns_weights_all_the_same(self, tmp_path):
        parts = setting()
        parts[1].eval()
        run(tmp_path, parts)
        assert parts[1].weights.tolist() != [1, 1]
        assert not parts[1].training


class TestTheEnvironmentOfOtherPrograms:
    @pytest.fixture
    def expected(self, tmp_path):
        return run(tmp_path / "expected", epochs=1)[0]["valid"]

    @pytest.mark.parametrize(
        "variable",
        [
            "ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4",
            "ACCELERATE_MIXED_PRECISION=bf16",
            "ACCELERATE_DYNAMO_BACKEND=INDUCTOR",
        ],
    )
    def test_arguments_decide_and_it_is_said(self, variable, expected, tmp_path, monkeypatch):
        name, value = variable.split("=")
        monkeypatch.setenv(name, value)
        with pytest.warns(UserWarning, match=f"arguments decide, not the environment's {variable}"):
            assert run(tmp_path / "other", epochs=1)[0]["valid"] == expected
        assert os.environ[name] == value

    def test_what_a_launcher_always_sets_is_no_matter(self, expected, tmp_path, monkeypatch):
        for name, value in (("MIXED_PRECISION", "no"), ("DYNAMO_BACKEND", "NO"), ("DYNAMO_MODE", "default")):
            monkeypatch.setenv(f"ACCELERATE_{name}", value)
        with warnings.catch_warnings(action="error"):
            assert run(tmp_path / "other", epochs=1)[0]["valid"] == expected

    @pytest.mark.parametrize("way", ["DEEPSPEED", "FSDP", "MEGATRON_LM"])
    def test_ways_to_shard_a_model_are_refused(self, way, tmp_path, monkeypatch):
        monkeypatch.setenv(f"ACCELERATE_USE_{way}", "true")
        with pytest.raises(ValueError, match=f"each process holds the whole model, got ACCELERATE_USE_{way} in the"):
            run(tmp_path)
        assert list(tmp_path.iterdir()) == []


def windows(path, flags, *rest, real=os.open, **options):
    if os.path.isdir(path):  # noqa: PTH112  a Path would ask os.open's own functions
        raise PermissionError(errno.EACCES, "Permission denied", str(path))
    return real(path, flags, *rest, **options)


def syncs_what_can_be_written(number, real=os.fsync):
    import fcntl

    if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    return real(number)


def syncs(error, folders):
    def fsync(number, real=os.fsync):
        if os.path.isdir(f"/proc/self/fd/{number}") == folders:  # noqa: PTH112
            raise OSError(error, os.strerror(error))
        return real(number)

    return fsync


class TestOtherFileSystems:
    @pytest.mark.parametrize(
        "system",
        [
            pytest.param({"open": windows, "fsync": syncs_what_can_be_written}, id="Windows"),
            pytest.param({"fsync": syncs(errno.EINVAL, folders=True)}, id="network drive"),
            pytest.param({"fsync": syncs(errno.ENOTSUP, folders=False)}, id="no sync at all"),
        ],
    )
    def test_checkpoints_are_written_where_the_system_cannot_sync(self, system, tmp_path, monkeypatch):
        for name, function in system.items():
            monkeypatch.setattr(os, name, function)
        run(tmp_path, epochs=1)
        assert (tmp_path / "checkpoints/epoch-0001/files.json").exists()

    @pytest.mark.parametrize(
        ("number", "advice"), [(errno.EIO, "find out why, then resume"), (errno.ENOSPC, "make room and resume")]
    )
    def test_a_disk_that_loses_what_is_written_stops_the_run(self, number, advice, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "fsync", syncs(number, folders=False))
        with pytest.raises(OSError, match=rf"cannot write the checkpoint of epoch 1.*no checkpoint yet; {advice}\."):
            run(tmp_path)
        assert list((tmp_path / "checkpoints").iterdir()) == []

    @pytest.mark.parametrize("error", [RuntimeError("this state cannot be collected"), KeyError("weight")])
    def test_an_error_that_is_not_the_disks_stays_what_it_is(self, error, tmp_path, monkeypatch):
        def fail(*_):
            raise error

        monkeypatch.setattr("accelerate.Accelerator.save_state", fail)
        with pytest.raises(type(error), match=re.escape(str(error))):
            run(tmp_path)

    def test_epochs_beyond_9999_are_found_in_their_order(self, tmp_path):
        for epoch in (10000, 9999, 9998, 10001):
            checkpoint_of(tmp_path, epoch).mkdir()
        for other in ("partial", "epoch-old", "epoch-0003.bak"):
            (tmp_path / other).mkdir()
        assert [path.name for path in complete_checkpoints(tmp_path)] == [
            f"epoch-{epoch}" for epoch in (9998, 9999, 10000, 10001)
        ]
        assert last_checkpoint(tmp_path).name == "epoch-10001"
        assert last_checkpoint(tmp_path / "nowhere") is None


def try_to_run(folder, options):
    try:
        with redirect_stdout(io.StringIO()):
            return len(run(folder, epochs=1, **options))
    except ValueError as error:
        return str(error)


def hold(folder, ready):
    def wait(num_read, image):
        if num_read == 1:
            ready.touch()
        import time

        time.sleep(0.02)
        return image

    with redirect_stdout(io.StringIO()):
        run(folder, train=Squares(disturb=wait), epochs=1000)


class TestTwoRunsInOneFolder:
    @pytest.mark.parametrize("options", [{}, {"resume": True}], ids=["new", "resume"])
    def test_the_second_is_told_and_gets_the_folder_when_the_first_is_killed(self, options, tmp_path):
        folder, ready = tmp_path / "run", tmp_path / "ready"
        first_run = start(hold, folder, ready)
        while not ready.exists():
            assert first_run.is_alive()
        said = alone(tmp_path, try_to_run, folder, options)
        assert said == f"fit: another run is at work in {folder}; wait for its end, or give another output."
        first_run.kill()
        first_run.join()
        assert alone(tmp_path, try_to_run, folder, options) == 1

    def test_a_run_that_failed_lets_others_in(self, tmp_path):
        stop_in_third_epoch(tmp_path)
        said = alone(tmp_path.parent, try_to_run, tmp_path, {})
        assert "holds another run; take resume=True" in said

    def test_a_drive_without_locks_is_used_with_a_warning(self, tmp_path, monkeypatch):
        def no_locks(*_, **__):
            raise NotImplementedError("no locks here")

        monkeypatch.setattr("filelock.FileLock.acquire", no_locks)
        with pytest.warns(UserWarning, match=r"cannot lock .* \(no locks here\); see that no other run writes there"):
            run(tmp_path, epochs=1)


def test_the_epoch_that_is_kept_is_said_and_recorded(tmp_path, capsys):
    history = run(tmp_path, select_by="mean_f1")
    scores = [record["valid"]["mean_f1"] for record in history]
    best = max(range(4), key=lambda place: (scores[place], place)) + 1
    assert history[-1]["best_epoch"] == best
    assert {record["select_by"] for record in history} == {"mean_f1"}
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == f"fit: kept the weights of epoch {best} of 4: the best by mean_f1, {scores[best - 1]:.4f}."


def test_without_labels_to_choose_by_the_last_epoch_is_kept_and_it_is_said(tmp_path, capsys):
    valid = Squares(40, seed=1)
    valid.targets[:] = math.nan
    assert run(tmp_path, valid=valid, epochs=2)[-1]["best_epoch"] == 2
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "fit: kept the weights of epoch 2 of 2: valid_data gives no mean_accuracy."


def test_rates_of_the_training_part_are_what_metrics_take():
    assert train_rates(Squares().targets).shape == (3,)


class TestKindsOfData:
    OURS = AttributeGroups({"a": [Categorical("hair", ("red", "grey")), Number("age", "years", mean=30, std=9)]})

    def data(self, *kinds):
        data = TensorDataset(torch.zeros(2, 3), torch.zeros(2, 2))
        data.attributes, data.kinds = tuple(kind.name for kind in kinds), kinds
        return Subset(data, [0])

    def test_data_with_the_same_classes_are_taken_whatever_their_mean(self):
        for age in (Number("age", "years"), Number("age", "years", mean=31, std=8), self.OURS.kinds[1]):
            check_columns("fit", self.OURS, train_data=self.data(self.OURS.kinds[0], age))

    def test_data_that_tell_names_only_are_taken(self):
        data = self.data(*self.OURS.kinds).dataset
        data.kinds = data.attributes
        check_columns("fit", self.OURS, train_data=data)

    @pytest.mark.parametrize(
        ("kinds", "given", "ours"),
        [
            ((Categorical("hair", ("grey", "red")), Number("age", "years")), "'grey', 'red'", "'red', 'grey'"),
            ((Categorical("hair", ("red", "grey")), Number("age", "months")), "months", "years"),
        ],
        ids=["classes in another order", "another unit"],
    )
    def test_data_that_mean_something_else_by_the_same_numbers_are_refused(self, kinds, given, ours):
        with pytest.raises(ValueError, match=f"fit: train_data takes .*{given}.* for what is .*{ours}"):
            check_columns("fit", self.OURS, train_data=self.data(*kinds))


class Rule:
    def __call__(self, history):
        return torch.ones_like(history.latest)


@pytest.mark.parametrize("make", [Rule, lambda: partial(Rule())], ids=["an object", "a partial"])
def test_a_rule_has_the_same_name_in_the_next_process(make):
    names = [
        how_begun(
            Options(1, 1, 1, 0.1, None, "no", False, "mean_accuracy", 0),
            model := nn.Linear(1, 3),
            DWSLoss(GROUPS, rule=rule),
            torch.optim.SGD(model.parameters(), lr=1.0),
        )["rule"]
        for rule in (make(), make())
    ]
    assert names[0] == names[1]
