"""fit and evaluate with attributes of every kind."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from mtattn import AttributeGroups, Categorical, DWSLoss, Number, Ordinal
from mtattn.metrics import AttributeMetrics, Baselines
from mtattn.training import evaluate, fit

MIXED = AttributeGroups(
    {
        "face": ["Smiling", Categorical("hair", ("none", "short", "long"))],
        "age": [Number("age", "years", mean=33, std=20), Ordinal("stage", ("child", "young", "middle", "old"))],
    }
)


def drawn(size=64):
    """Pictures of four numbers that decide all labels, a tenth of which are missing."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(size, 1, 2, 2, generator=generator)
    flat = pictures.flatten(1)
    targets = torch.stack(
        [
            (flat[:, 0] > 0).float(),
            flat[:, :3].argmax(1).float(),
            33 + 20 * flat[:, 3],
            (flat[:, 1:2] > torch.tensor([-0.7, 0.0, 0.7])).sum(1).float(),
        ],
        1,
    )
    targets[torch.rand(targets.shape, generator=generator) < 0.1] = torch.nan
    return TensorDataset(pictures, targets)


def run(folder, groups=MIXED, data=None, **options):
    torch.manual_seed(0)
    data = drawn() if data is None else data
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, len(groups.columns.attributes)))
    columns = [MIXED.attributes.index(name) for name in groups.attributes]
    metrics = AttributeMetrics(groups, Baselines(groups, drawn().tensors[1][:, columns]))
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    history = fit(model, DWSLoss(groups), optimizer, metrics, data, data, output=folder, **options)
    return model, metrics, data, history


def test_every_kind_is_learnt_and_the_skill_keeps_the_epoch(tmp_path, capsys):
    model, metrics, data, history = run(tmp_path, epochs=12, batch_size=16)
    scores = evaluate(model, data, metrics)
    assert scores["mean_skill"] == max(record["valid"]["mean_skill"] for record in history)
    assert scores["mean_skill"] > 0.6
    assert {name: row["skill"] for name, row in scores["attributes"].items() if not row["skill"] > 0} == {}
    assert history[-1]["select_by"] == "mean_skill"
    assert f"skill {history[-1]['valid']['mean_skill']:.4f}, accuracy" in capsys.readouterr().out


def test_batches_that_make_a_step_give_what_one_large_batch_gives(tmp_path):
    whole, *_ = run(tmp_path / "whole", epochs=2, batch_size=32)
    parts, *_ = run(tmp_path / "parts", epochs=2, batch_size=8, accumulate=4)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_the_measured_loss_does_not_depend_on_the_size_of_batches(tmp_path):
    model, metrics, data, _ = run(tmp_path, epochs=1, batch_size=32)
    losses = [evaluate(model, data, metrics, batch_size=size)["loss"] for size in (3, 64)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_score_that_these_attributes_do_not_have_is_refused_before_the_training(tmp_path):
    with pytest.raises(ValueError, match="no score to select by 'mean_f1'; there are mean_skill"):
        run(tmp_path, MIXED.only(["age"]), epochs=1, batch_size=8, select_by="mean_f1")


@pytest.mark.parametrize("name", MIXED.attributes)
def test_an_attribute_that_is_labelled_nowhere_trains_and_is_told_to_be_unlearnt(name, tmp_path, capsys):
    data = drawn()
    data.tensors[1][:, MIXED.attributes.index(name)] = torch.nan
    groups = MIXED.fitted(data.tensors[1])
    model, metrics, data, history = run(tmp_path, groups, data, epochs=3, batch_size=16)
    said = capsys.readouterr().out
    assert said.startswith(f"fit: Unlearnt, because no training image has a label of it: {name}. What")
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    scores = evaluate(model, data, metrics)["attributes"]
    assert {other for other, row in scores.items() if row["skill"] > 0} == set(MIXED.attributes) - {name}


def test_nothing_is_said_where_each_attribute_has_a_label(tmp_path, capsys):
    run(tmp_path, epochs=1, batch_size=16)
    assert "nlearnt" not in capsys.readouterr().out
