"""Scores of parts of the images are those of these images alone; what is too small makes no gap."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtattn import AttributeGroups
from mtattn.decisions import Decisions
from mtattn.metrics import AttributeMetrics, Baselines
from mtattn.metrics.decided import decided_scores
from mtattn.metrics.slices import check_slices, slice_scores

GROUPS = AttributeGroups({"head": ["Hat", "Hair"]})


def metrics_of(logits, targets):
    metrics = AttributeMetrics(GROUPS, [0.5, 0.2])
    metrics.update(logits, targets)
    return metrics


@given(seed=st.integers(0, 1000))
def test_a_slice_has_the_scores_of_its_images_alone(seed):
    random = torch.Generator().manual_seed(seed)
    logits, targets = torch.randn(90, 2, generator=random), (torch.rand(90, 2, generator=random) < 0.4).float()
    values = ["abc"[int(index)] for index in torch.randint(3, (90,), generator=random)]
    found = slice_scores(metrics_of(logits, targets), {"who": values})["who"]
    for value, row in found["values"].items():
        chosen = torch.tensor([each == value for each in values])
        alone = metrics_of(logits[chosen], targets[chosen]).compute()
        assert row["images"] == int(chosen.sum())
        assert row["mean_accuracy"] == pytest.approx(alone["mean_accuracy"])
        low, high = row["intervals"]["mean_accuracy"]
        assert low <= row["mean_accuracy"] <= high
    gap = found["gaps"]["mean_accuracy"]
    if gap:
        big = [row["mean_accuracy"] for row in found["values"].values() if row["images"] >= 20]
        assert gap["gap"] == pytest.approx(max(big) - min(big))


def test_few_images_and_unknown_values_are_told_but_make_no_gap():
    logits, targets = torch.ones(64, 2), torch.ones(64, 2)
    targets[50:] = 0
    found = slice_scores(metrics_of(logits, targets), {"who": ["a"] * 50 + ["b"] * 10 + [""] * 4})["who"]
    assert {value: row["images"] for value, row in found["values"].items()} == {"(empty)": 4, "a": 50, "b": 10}
    assert found["gaps"]["mean_accuracy"] is None


@pytest.mark.parametrize(("values", "told"), [(["a"] * 9, "1 in 'who'"), (list(map(str, range(13))), "13 in 'who'")])
def test_a_column_that_is_no_slice_is_refused(values, told):
    with pytest.raises(ValueError, match=f"slices are columns with 2 to 12 different values, got {told}"):
        check_slices("me", {"who": values})


def test_uncertain_answers_count_nowhere_and_their_share_is_told():
    logits, targets = torch.tensor([[3.0, 0.0], [0.0, 0.0], [-3.0, 0.0]]), torch.tensor([[1.0, 0], [0, 0], [1, 0]])
    decisions = Decisions("precision=0.9", thresholds={"Hat": 0.9}, absent={"Hat": 0.1})
    scores = decided_scores(GROUPS, Baselines(GROUPS, targets), logits, targets, decisions)
    assert scores["attributes"]["Hat"]["accuracy"] == 0.5
    assert (scores["attributes"]["Hat"]["precision"], scores["attributes"]["Hat"]["recall"]) == (1, 0.5)
    assert scores["answered"] == pytest.approx(5 / 6)
