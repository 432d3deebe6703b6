"""Scores of parts of the images are those of these images alone; what is too small makes no gap."""

import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from processes import in_group

from mtattn import AttributeGroups
from mtattn.decisions import Decisions
from mtattn.metrics import AttributeMetrics
from mtattn.metrics.decided import decided_metrics, decided_scores
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
        ends = metrics_of(logits[chosen], targets[chosen]).intervals(num_resamples=400)
        assert row["intervals"] == {score: ends[score] for score in row["intervals"]}
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
    scores = decided_scores(decided_metrics(metrics_of(logits, targets), decisions), targets)
    assert scores["attributes"]["Hat"]["accuracy"] == 0.5
    assert (scores["attributes"]["Hat"]["precision"], scores["attributes"]["Hat"]["recall"]) == (1, 0.5)
    assert scores["answered"] == pytest.approx(5 / 6)


def test_decided_scores_have_precision_and_recall_of_each_attribute_and_their_means():
    logits, targets = torch.tensor([[3.0, 1.0]] * 3 + [[-3.0, -1.0]]), torch.tensor([[1.0, 0], [1, 1], [0, 0], [1, 0]])
    scores = decided_scores(decided_metrics(metrics_of(logits, targets), Decisions("f1")), targets)
    hat, hair = (scores["attributes"][name] for name in ("Hat", "Hair"))
    assert (hat["precision"], hat["recall"]) == pytest.approx((2 / 3, 2 / 3))
    assert (hair["precision"], hair["recall"]) == pytest.approx((1 / 3, 1))
    assert (scores["mean_precision"], scores["mean_recall"]) == pytest.approx((1 / 2, 5 / 6))


def test_a_single_label_that_has_an_answer_is_all_that_there_is():
    logits, targets = torch.ones(2, 2), torch.tensor([[1.0, float("nan")], [float("nan")] * 2])
    decided = decided_metrics(metrics_of(logits, targets), Decisions("f1"))
    assert decided_scores(decided, targets)["answered"] == 1


def scores_of_a_share(logits, targets, values, decisions):
    """Measure as a recipe does: each process has seen its images, in their order."""
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1:
        torch.distributed.init_process_group("gloo")
    metrics = metrics_of(logits.tensor_split(size)[rank], targets.tensor_split(size)[rank])
    decided = decided_metrics(metrics, decisions)
    found = decided_scores(decided, metrics.seen()[1]), slice_scores(decided, {"who": values})
    if size > 1:
        torch.distributed.destroy_process_group()
    return found


@pytest.mark.outside
def test_two_processes_find_the_scores_the_intervals_and_the_answers_that_one_finds(tmp_path):
    torch.manual_seed(0)
    logits, targets = torch.randn(61, 2), (torch.rand(61, 2) < 0.4).float()
    decisions = Decisions("precision=0.9", thresholds={"Hat": 0.7}, absent={"Hat": 0.4})
    arguments = logits, targets, ["ab"[index % 2] for index in range(61)], decisions
    expected = scores_of_a_share(*arguments)
    found, _ = in_group(2, tmp_path, scores_of_a_share, *arguments)
    assert 0 < expected[0]["answered"] < 1
    assert found == [expected, expected]
