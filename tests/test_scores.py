"""Scores over images that count as often as they were drawn, and at the edges where a score begins or ends."""

import math

import pytest
import torch

from mtattn import AttributeGroups, Categorical, Number, Ordinal
from mtattn._baselines import Baselines
from mtattn._scores import (
    attribute_scores,
    average_precision,
    binary_scores,
    categorical_scores,
    number_scores,
    ordinal_scores,
    predicted,
)
from mtattn.metrics import AttributeMetrics, train_rates
from mtattn.metrics.decided import rescored
from mtattn.metrics.slices import _gap, check_slices

NAN = math.nan
COUNTS = torch.tensor([2, 0, 1, 3, 1, 4])
SAID = torch.tensor([2.0, 1, 0, 2, 1, 0], dtype=torch.float64)
LABELS = torch.tensor([2.0, 0, 1, 2, NAN, 1], dtype=torch.float64)
LOGITS = torch.tensor([1.5, -0.5, 0.5, -2.0, 3.0, 0.5], dtype=torch.float64)
YES = torch.tensor([1.0, 0, 1, 0, NAN, 0], dtype=torch.float64)


def once(size):
    return torch.ones(1, size, dtype=torch.float64)


@pytest.mark.parametrize(
    ("scores", "said", "labels"),
    [
        pytest.param(lambda *sides: categorical_scores(*sides, 3, 2.0), SAID, LABELS, id="classes"),
        pytest.param(lambda *sides: ordinal_scores(*sides, 2.0, 1.0), SAID, LABELS, id="levels"),
        pytest.param(lambda *sides: number_scores(*sides, 1.5, 0.5), 30 + 7 * SAID, 30 + 5 * LABELS, id="number"),
        pytest.param(lambda *sides: {"precision": average_precision(*sides)}, LOGITS, YES, id="precision"),
        pytest.param(
            lambda times, logits, targets: binary_scores(
                times, logits[:, None], targets[:, None], torch.tensor([True])
            ),
            LOGITS,
            YES,
            id="binary",
        ),
    ],
)
def test_an_image_that_counts_twice_counts_as_two_images(scores, said, labels):
    counted = scores(COUNTS.double()[None], said, labels)
    held = scores(once(11), said.repeat_interleave(COUNTS), labels.repeat_interleave(COUNTS))
    for name, value in counted.items():
        assert value.dtype == torch.float64
        assert not value.isnan().any(), name
        torch.testing.assert_close(value, held[name], msg=name)


def test_an_error_as_large_as_within_is_small_enough():
    said, labels = torch.tensor([5.0, 6.0, 4.0, 1.0]), torch.zeros(4)
    assert number_scores(torch.ones(1, 4), said, labels, 0.0, 5.0)["within"].tolist() == [0.75]


def test_a_target_of_one_half_is_no_negative():
    scores = binary_scores(once(2), torch.ones(2, 1), torch.tensor([[0.5], [1.0]]), torch.tensor([True]))
    assert (scores["accuracy"].item(), scores["f1"].item()) == (1, 1)
    assert scores["balanced_accuracy"].isnan().all()


def test_a_number_far_from_zero_loses_no_digits():
    labels = torch.tensor([0.0, 1, 2, 3]).double()
    said = labels + torch.tensor([0.5, -0.5, 0.5, -0.5]).double()
    scores = number_scores(once(4), said + 1e8, labels + 1e8, 0.0, None)
    assert scores["r_squared"].item() == pytest.approx(1 - 0.25 / 1.25)
    groups = AttributeGroups({"all": [Number("age", mean=2.0, std=1.0)]})
    outputs, targets = torch.randn(2, 30, 1)
    given = (groups, Baselines(groups, targets))
    (single, double) = (
        attribute_scores(once(30), outputs, each, *given, within={}, precision=average_precision)["age"]
        for each in (targets, targets.double())
    )
    assert single == double


def test_the_precision_falls_from_the_highest_logit_on_and_equal_ones_share_it():
    targets = torch.tensor([1.0, 0, 0.5, NAN, 1])
    for logits, expected in (
        ([0.9, 0.8, 0.7, 5.0, 0.1], (1 + 2 / 3 + 3 / 4) / 3),
        ([0.7, 0.7, 0.7, 5.0, 0.1], (2 / 3 + 2 / 3 + 3 / 4) / 3),
        ([-1.0, 2.0, -1.0, 5.0, 3.0], (1 + 3 / 4 + 3 / 4) / 3),
    ):
        assert average_precision(once(5), torch.tensor(logits), targets).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("logits", "targets"), [([NAN, 1.0], [1.0, 0.0]), ([1.0, 1.0], [NAN, NAN])], ids=["a NaN", "no labels"]
)
def test_there_is_no_precision_in_any_resample_where_a_logit_is_nan_or_nothing_is_labelled(logits, targets):
    found = average_precision(torch.ones(3, 2).double(), torch.tensor(logits), torch.tensor(targets))
    assert found.shape == (3,)
    assert found.isnan().all()
    assert found.dtype == torch.float64


def test_there_is_no_precision_where_no_labelled_image_was_drawn_and_one_where_a_single_one_was():
    times = torch.tensor([[0.0, 0, 2], [0, 1, 0]]).double()
    found = average_precision(times, torch.tensor([2.0, 1.0, 3.0]), torch.tensor([0.0, 1, NAN]))
    assert found.isnan().tolist() == [True, False]
    assert found[1] == 1


def test_a_level_whose_probability_is_one_half_is_not_reached():
    kind = Ordinal("hair", ("short", "middle", "long"))
    assert predicted(kind, torch.tensor([[0.0, -9.0], [9.0, 0.0], [9.0, 1e-3], [NAN, 9.0]])).tolist()[:3] == [0, 1, 2]


def test_a_prediction_of_which_one_output_is_nan_is_nan():
    for kind in (Ordinal("hair", ("a", "b", "c")), Categorical("hair", ("a", "b"))):
        assert predicted(kind, torch.tensor([[NAN, 9.0], [9.0, NAN]])).isnan().all()
    assert predicted(Number("age", mean=30.0, std=2.0), torch.tensor([[NAN], [1.5]])).tolist()[1] == 33


@pytest.mark.parametrize("said", [0.0, 1.0], ids=["right", "wrong"])
def test_where_one_class_is_labelled_there_is_no_skill(said):
    scores = categorical_scores(once(3), torch.full((3,), said).double(), torch.zeros(3).double(), 2, 0.0)
    assert scores["skill"].isnan().all()
    assert scores["accuracy"].tolist() == [1 - said]


def test_a_blind_answer_that_is_never_wrong_leaves_no_skill():
    labels = torch.full((3,), 4.0).double()
    for scores in (
        ordinal_scores(once(3), labels + 1, labels, 4.0, 4.0),
        number_scores(once(3), labels + 1, labels, 4.0, None),
    ):
        assert scores["skill"].isnan().all()
    assert number_scores(once(3), labels + 1, labels, 4.0, None)["r_squared"].isnan().all()


@pytest.mark.parametrize(
    "scores",
    [
        pytest.param(lambda said, labels: categorical_scores(once(3), said, labels, 2, 1.0), id="classes"),
        pytest.param(lambda said, labels: ordinal_scores(once(3), said, labels, 1.0, 1.0), id="levels"),
        pytest.param(lambda said, labels: number_scores(once(3), said, labels, 0.7, 1.0), id="number"),
    ],
)
def test_a_nan_prediction_spoils_its_scores_where_there_is_a_label_and_nothing_else(scores):
    said, labels = torch.tensor([NAN, 1.0, 0.0]).double(), torch.tensor([0.0, 1.0, 0.0]).double()
    blind = {"majority_accuracy", "median_error"}
    assert {name for name, value in scores(said, labels).items() if not value.isnan()} == blind & scores(
        said, labels
    ).keys()
    labels[0] = NAN
    labels[2] = 1
    assert not any(
        value.isnan().any() for name, value in scores(said, labels).items() if name not in {"skill", "r_squared"}
    )


def test_outputs_of_single_precision_are_scored_in_the_precision_of_the_counts():
    groups = AttributeGroups({"head": ["Hat", Number("age", mean=1 / 3, std=1 / 7)]})
    targets, outputs = torch.tensor([[1.0, 20.1], [0.0, 30.7]]), torch.tensor([[0.3, 0.1], [-0.7, 0.2]])
    given = (groups, Baselines(groups, targets))
    rows = [
        attribute_scores(once(2), each, targets, *given, within={}, precision=average_precision)
        for each in (outputs, outputs.double())
    ]
    assert rows[0] == rows[1]
    assert list(rows[0]) == ["Hat", "age"]


class TestMetrics:
    HAT = AttributeGroups({"head": ["Hat", "Bag"]})

    def seen(self, outputs, targets, groups=HAT):
        metrics = AttributeMetrics(groups, Baselines(groups, torch.tensor(targets)))
        metrics.update(torch.tensor(outputs), torch.tensor(targets))
        return metrics

    def test_scores_have_double_precision(self):
        metrics = self.seen([[1.0, 1.0]] * 3, [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
        assert metrics.compute()["mean_accuracy"] == 1 / 3

    def test_a_label_is_true_from_one_half(self):
        metrics = self.seen([[1.0, 1.0]] * 3, [[0.5, 0.7], [0.4, 0.5], [NAN, 1.0]])
        truth = {name: pair[1].tolist() for name, pair in metrics.predictions().items()}
        assert truth == {"Hat": [1, 0], "Bag": [1, 1, 1]}
        assert {side.dtype for pair in metrics.predictions().values() for side in pair} == {torch.float32}
        assert metrics.compute()["attributes"]["Hat"]["average_precision"] == 0.5
        assert metrics.instance_scores()["instance_precision"] == pytest.approx((1 + 1 / 2 + 1) / 3)

    def test_a_logit_of_zero_is_no_everywhere(self):
        metrics = self.seen([[0.0, 1.0]], [[0.0, 1.0]])
        assert {name: pair[0].tolist() for name, pair in metrics.predictions().items()} == {"Hat": [0], "Bag": [1]}
        assert metrics.instance_scores() == dict.fromkeys(metrics.instance_scores(), 1)

    @pytest.mark.parametrize("kinds", [["Hat"], ["Hat", Number("age", mean=0.0, std=1.0)]], ids=["binary", "mixed"])
    def test_intervals_take_their_options(self, kinds):
        groups = AttributeGroups({"all": kinds})
        sides = torch.randn(2, 60, len(kinds))
        targets = torch.cat([(sides[1, :, :1] > 0).float(), sides[1, :, 1:]], 1)
        metrics = self.seen(sides[0].tolist(), targets.tolist(), groups)

        def wide(ends):
            return ends["mean_accuracy"][1] - ends["mean_accuracy"][0]

        assert wide(metrics.intervals(level=0.5)) < wide(metrics.intervals()) / 1.5
        assert metrics.attribute_intervals(level=0.5) != metrics.attribute_intervals()
        assert metrics.attribute_intervals(seed=1) != metrics.attribute_intervals()

    def test_intervals_find_an_attribute_whose_name_has_a_line_break(self):
        groups = AttributeGroups({"head": ["Hat\n(any)"]})
        metrics = self.seen([[1.0], [-1.0]], [[1.0], [0.0]], groups)
        assert metrics.attribute_intervals()["Hat\n(any)"]["accuracy"] == (1, 1)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
    def test_what_is_remembered_has_the_type_that_other_processes_expect(self, dtype):
        metrics = AttributeMetrics(self.HAT, [0.5, 0.5])
        metrics.update(torch.ones(2, 2, dtype=dtype), torch.ones(2, 2, dtype=dtype))
        assert metrics.targets[0].dtype == torch.float32
        assert metrics.logits[0].dtype == torch.promote_types(dtype, torch.float32)

    def test_others_like_them_know_what_is_a_small_error(self):
        groups = AttributeGroups({"all": [Number("age", mean=0.0, std=1.0)]})
        metrics = AttributeMetrics(groups, Baselines(groups, torch.tensor([[1.0], [2.0]])), within={"age": 5})
        other = rescored(metrics, torch.tensor([[3.0], [9.0]]), torch.tensor([[1.0], [2.0]]))
        assert other.compute()["attributes"]["age"]["within"] == 0.5

    def test_their_errors_name_them(self):
        groups = AttributeGroups({"all": [Categorical("hair", ("a", "b")), "Hat"]})
        with pytest.raises(
            ValueError, match=r"^AttributeMetrics: logits have the 3 columns of groups.columns, targets"
        ):
            self.seen([[1.0, 0.0]], [[1.0, 0.0]], groups)
        with pytest.raises(TypeError, match=r"^train_rates: takes targets, or a data set"):
            train_rates([1, 2])
        with pytest.raises(
            ValueError, match=r"^AttributeMetrics: logits and targets have one column an attribute, got"
        ):
            self.seen([[1.0, 1.0]], [[1.0, 0.0]]).update(torch.ones(1, 3), torch.ones(1, 3))
        with pytest.raises(ValueError, match=r"^AttributeMetrics: "):
            AttributeMetrics(self.HAT, [0.5, 0.5], within={"Hat": 3})
        with pytest.raises(ValueError, match=r"^AttributeMetrics: "):
            AttributeMetrics(AttributeGroups({"all": [Number("age")]}), [0.5])

    @pytest.mark.parametrize("value", [1.5, -0.5])
    def test_rates_of_what_is_no_label_are_refused_with_its_place(self, value):
        with pytest.raises(ValueError, match=rf"^train_rates: a target is .* got {value} for image 1, column 0\."):
            train_rates(torch.tensor([[1.0, 0.0], [value, 1.0]]))
        assert train_rates(torch.tensor([[1.0, 0.5], [0.0, NAN]])).tolist() == [0.5, 1.0]


class TestSlices:
    def test_have_two_to_twelve_values(self):
        check_slices("Run", {"two": ["a", "b"], "twelve": [*"abcdefghijkl"]})
        for values, count in (("aa", 1), ("abcdefghijklm", 13)):
            with pytest.raises(ValueError, match=rf"^Run: slices are columns with 2 to 12 .* got {count} in 'column'"):
                check_slices("Run", {"two": ["a", "b"], "column": [*values]})

    def test_a_gap_is_told_between_the_worst_and_the_best_that_have_twenty_images(self):
        def row(value, images=20):
            return {"images": images, "score": value}

        rows = {"a": row(0.5), "b": row(0.9), "c": row(0.7), "few": row(0.1, 19), "none": row(NAN), "(empty)": row(0.0)}
        assert _gap(rows, "score") == {"gap": 0.4, "from": "a", "to": "b"}
        assert _gap({name: rows[name] for name in ("a", "few")}, "score") is None
        assert _gap({name: rows[name] for name in ("c", "b")}, "score") == {"gap": 0.9 - 0.7, "from": "c", "to": "b"}
