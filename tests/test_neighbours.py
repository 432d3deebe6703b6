"""mtattn beside its neighbours: the programs in examples/neighbours/ run, and do what their pages say."""

import importlib
import runpy
from pathlib import Path

import pytest
import torch
from PIL import Image
from processes import in_group
from torch import distributed, nn

from mtattn import AttributeGroups, DWSLoss, DynamicWeighting
from mtattn.data import CELEBA_GROUPS, AttributeRows, read_row

pytestmark = pytest.mark.outside

EXAMPLES = Path(__file__).parents[1] / "examples/neighbours"
GROUPS = AttributeGroups({"eyes": ["Eyeglasses"], "mouth": ["Smiling", "Big_Lips"]})


def needs(package):
    """Skip where the package is missing; that it is there and broken is a failure."""
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


def program(name, *, run_name="example"):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name=run_name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("with_lightning", "weights: [", marks=needs("pytorch_lightning")),
        pytest.param("with_torchjd", "UPGrad, preferring: [", marks=[needs("torchjd"), needs("quadprog")]),
        pytest.param("with_libmtl", "weights: [", marks=needs("LibMTL")),
        pytest.param("with_datasets", "epoch 1: mean loss of each group [", marks=needs("datasets")),
        pytest.param("with_timm", "measured on (1, 3, 64, 64)"),
    ],
)
def test_the_program_runs(name, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    program(name, run_name="__main__")
    assert says in capsys.readouterr().out


@needs("pytorch_lightning")
class TestLightning:
    @staticmethod
    def fitted(folder, example, *, epochs, checkpoint=None):
        lightning = importlib.import_module("pytorch_lightning")
        lightning.seed_everything(0)
        module = example["AttributeModule"](torch.full((5,), 0.5))
        train, valid = example["loaders"]()
        train = torch.utils.data.DataLoader(train.dataset, batch_size=8)  # one order in each epoch
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = lightning.Trainer(max_epochs=epochs, default_root_dir=folder, accelerator="cpu", **quiet)
        trainer.fit(module, train, valid, ckpt_path=checkpoint)
        return module, trainer.checkpoint_callback.best_model_path

    def test_a_resumed_run_ends_with_the_same_weights_history_and_model(self, tmp_path):
        example = program("with_lightning")
        whole, _ = self.fitted(tmp_path / "whole", example, epochs=4)
        _, checkpoint = self.fitted(tmp_path / "halves", example, epochs=2)
        resumed, _ = self.fitted(tmp_path / "halves", example, epochs=4, checkpoint=checkpoint)
        assert whole.loss.weights.tolist() != [1, 1]
        states = resumed.state_dict(), whole.state_dict()
        assert all(torch.equal(one, other) for one, other in zip(*(state.values() for state in states), strict=True))

    def test_validation_leaves_the_history_alone(self, tmp_path):
        example = program("with_lightning")
        module, _ = self.fitted(tmp_path, example, epochs=1)
        module.eval()
        module.loss(torch.zeros(8, 5), torch.ones(8, 5))
        assert module.loss.weighting._period.sum() == 0


def average_losses(broadcast):
    distributed.init_process_group("gloo")
    module = nn.Module()
    module.net, module.loss = nn.Linear(3, 3), DWSLoss(GROUPS)
    module.forward = lambda images, targets: module.loss(0 * module.net(images), targets)
    wrapped = nn.parallel.DistributedDataParallel(module, broadcast_buffers=broadcast)
    targets = torch.full((4, 3), torch.nan if distributed.get_rank() else 1.0)
    targets[:, 0] = 1  # the second rank has labels of the first group only
    for _ in range(3):
        wrapped(torch.ones(4, 3), targets)
    return module.loss.weighting._period


def test_inside_ddp_each_rank_keeps_its_own_losses_only_without_broadcast(tmp_path):
    own, overwritten = (in_group(2, tmp_path, average_losses, broadcast)[0][1] for broadcast in (False, True))
    assert own[1].tolist() == [12, 0]  # four labels in each of three batches
    assert overwritten[1][1] > 0  # what the how-to page warns of: labels that only the first rank has


@needs("torchjd")
class TestTorchjd:
    @pytest.mark.parametrize("name", ["Mean", "Sum", "UW", "FAMO", "DWA", "GeometricMean", "IMTLL", "Random"])
    def test_every_scalarizer_takes_the_losses_of_the_groups(self, name):
        scalarization = importlib.import_module("torchjd.scalarization")
        scalarizer = getattr(scalarization, name)(*((2,) if name in {"UW", "FAMO", "IMTLL"} else ()))
        logits = torch.zeros(4, 3, requires_grad=True)
        scalarizer(DWSLoss(GROUPS).group_losses(logits, torch.ones(4, 3))).backward()
        assert logits.grad.isfinite().all()
        assert logits.grad.any(0).all()

    def test_dwa_weighs_as_ours_does(self):
        theirs = importlib.import_module("torchjd.scalarization").DWA()
        ours = DynamicWeighting(2, rule="dwa")
        for losses in torch.rand(5, 2, generator=torch.Generator().manual_seed(0)):
            torch.testing.assert_close(theirs(losses) / 2, ours(losses))  # theirs add up to the sum, ours to the mean
            theirs.step()
            ours.step()

    @needs("quadprog")
    def test_a_group_without_labels_gives_upgrad_a_row_of_zeros(self):
        upgrad = importlib.import_module("torchjd.aggregation").UPGrad()
        autojac = importlib.import_module("torchjd.autojac")
        logits, targets = torch.zeros(4, 3, requires_grad=True), torch.ones(4, 3)
        targets[:, 0] = torch.nan
        autojac.backward(DWSLoss(GROUPS).group_losses(logits, targets).nan_to_num())
        autojac.jac_to_grad([logits], upgrad)
        assert logits.grad.isfinite().all()
        assert logits.grad.any(0).tolist() == [False, True, True]


@needs("LibMTL")
def test_libmtl_closes_a_period_with_each_epoch():
    names = program("with_libmtl")
    training = names["trainer"]()
    loader = torch.utils.data.DataLoader(names["Faces"](), batch_size=8)
    weights = training.train(loader, loader, epochs=3, return_weight=True)
    assert weights.shape == (2, 3, 4)
    assert (weights == weights[:, :, :1]).all()  # one set of weights an epoch
    assert (weights[:, :2] == 1).all()  # the first period closes as the second epoch begins
    assert not (weights[:, 2] == 1).any()
    assert "weighting.weights" in training.model.state_dict()


def test_timms_optimizer_keeps_the_rates_of_parameter_groups():
    optimizer = program("with_timm")["optimizer"]
    rates = {group["name"]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups}
    assert rates["trunk"] == (2e-4, 0.05)
    assert rates["new, no decay"] == (2e-3, 0.0)


class Table:
    """A stand-in for datasets.Dataset: rows by number, columns by name."""

    def __init__(self, rows):
        self.rows, self.column_names = rows, [*rows[0]]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, key):
        return [row[key] for row in self.rows] if isinstance(key, str) else self.rows[key]


def table(**labels):
    count = len(next(iter(labels.values())))
    faces = [Image.new("L", (4, 6), 40 * index) for index in range(count)]
    return Table([{"image": faces[i], **{name: labels[name][i] for name in labels}} for i in range(count)])


class TestRows:
    def test_columns_come_in_the_order_asked_for_and_none_is_unknown(self):
        data = AttributeRows(table(Male=[True, False, None], Young=[1, 0, 1]), ["Young", "Male"])
        assert data.attributes == ("Young", "Male")
        expected = torch.tensor([[1, 1], [0, 0], [1, torch.nan]])
        torch.testing.assert_close(data.targets, expected, equal_nan=True)
        torch.testing.assert_close(torch.stack([data[i][1] for i in range(3)]), expected, equal_nan=True)
        assert data[1][0].mode == "RGB"

    def test_a_column_that_is_not_there_is_named(self):
        with pytest.raises(ValueError, match=r"AttributeRows: no column 'Smilling'; did you mean 'Smiling'"):
            AttributeRows(table(Smiling=[True]), ["Smilling"])
        with pytest.raises(ValueError, match="AttributeRows: no column 'picture'"):
            AttributeRows(table(Smiling=[True]), ["Smiling"], image="picture")

    @pytest.mark.parametrize("label", [-1, "yes", 0.5])
    def test_a_label_that_is_no_truth_value_is_refused(self, label):
        with pytest.raises(ValueError, match=r"a label is true, false or None \(unknown\), got"):
            read_row({"image": Image.new("L", (4, 6)), "Male": label}, ["Male"])

    @needs("datasets")
    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_stream_gives_each_row_once_whatever_the_workers(self, workers):
        example = program("with_datasets")
        stream = example["rows"].to_iterable_dataset(num_shards=2)
        loader = torch.utils.data.DataLoader(stream, 8, collate_fn=example["batch_of"], num_workers=workers)
        streamed = torch.cat([targets for _, targets in loader])
        assert sorted(streamed.tolist()) == sorted(example["data"].targets.tolist())

    @needs("datasets")
    def test_rows_train_and_are_measured_with_the_columns_of_celeba_on_the_hub(self, tmp_path):
        pytest.importorskip("accelerate")
        from mtattn.metrics import AttributeMetrics, train_rates
        from mtattn.training import evaluate, fit

        example = program("with_datasets")
        data, model, loss = example["data"], example["model"], example["loss"]
        assert example["rows"].column_names == ["image", "celeb_id", *CELEBA_GROUPS.attributes]
        metrics = AttributeMetrics(CELEBA_GROUPS, train_rates(data.targets))
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        loss.weighting.reset()  # the program has trained with it
        history = fit(model, loss, optimizer, metrics, data, data, output=tmp_path, epochs=1, batch_size=16)
        assert len(history) == 1
        assert evaluate(model, data, metrics)["mean_accuracy"] > 0
