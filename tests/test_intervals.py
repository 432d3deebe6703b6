"""Bootstrap intervals: the scores themselves, their width, and what they refuse."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_metrics import MEANS, make_batch, make_groups

from mtattn.intervals import _mean_scores, bootstrap_intervals, resampled
from mtattn.metrics import AttributeMetrics

GROUPS = make_groups((2, 1))


def measured(seed, size, *, ties=False, unlabelled=0.2):
    metrics = AttributeMetrics(GROUPS, torch.full((3,), 0.6))
    metrics.update(*make_batch(seed, size, GROUPS, ties=ties, unlabelled=unlabelled))
    return metrics


@given(st.integers(0, 2**31), st.integers(1, 40), st.booleans(), st.sampled_from([0.0, 0.3, 1.0]))
def test_images_drawn_once_each_score_as_the_metrics_do(seed, size, ties, unlabelled):
    metrics = measured(seed, size, ties=ties, unlabelled=unlabelled)
    logits, targets = metrics._seen()
    once = _mean_scores(torch.ones(1, size), logits, targets, metrics.majority)
    expected = metrics.compute()
    for score in MEANS:
        torch.testing.assert_close(float(once[score]), expected[score], rtol=1e-4, atol=1e-5, equal_nan=True)


@given(st.integers(0, 2**31), st.integers(5, 40))
def test_images_drawn_twice_score_as_a_batch_that_holds_them_twice(seed, size):
    logits, targets = make_batch(seed, size, GROUPS, ties=True)
    times = torch.randint(3, (1, size), generator=torch.Generator().manual_seed(seed)).float()
    times[0, 0] = 1  # at least one image
    metrics = AttributeMetrics(GROUPS, torch.full((3,), 0.6))
    repeats = times[0].long()
    metrics.update(logits.repeat_interleave(repeats, 0), targets.repeat_interleave(repeats, 0))
    scores, expected = _mean_scores(times, logits, targets, metrics.majority), metrics.compute()
    for score in MEANS:
        torch.testing.assert_close(float(scores[score]), expected[score], rtol=1e-4, atol=1e-5, equal_nan=True)


def test_the_scores_lie_inside_and_the_same_seed_gives_the_same_ends():
    metrics = measured(0, 300)
    scores, intervals = metrics.compute(), metrics.intervals()
    for score in MEANS:
        low, high = intervals[score]
        assert low < scores[score] < high
    assert metrics.intervals() == intervals
    assert metrics.intervals(seed=1) != intervals


def test_the_width_is_that_of_the_binomial_where_there_is_one_attribute():
    right = torch.rand(2000, 1, generator=torch.Generator().manual_seed(0)) < 0.9
    targets = (torch.rand(2000, 1, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    logits = torch.where(right, 1.0, -1.0) * (targets - 0.5)
    low, high = bootstrap_intervals(logits, targets, torch.tensor([True]))["mean_accuracy"]
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.9 * 0.1 / 2000), rel=0.1)


def test_the_gain_is_paired_with_the_baseline():
    targets = (torch.rand(200, 3, generator=torch.Generator().manual_seed(1)) < 0.2).float()
    majority = torch.tensor([False, False, False])
    intervals = bootstrap_intervals(torch.full((200, 3), -1.0), targets, majority)  # the model is the baseline
    assert intervals["gain"] == (0, 0)
    assert intervals["mean_accuracy"] == intervals["majority_accuracy"]


def test_a_nan_logit_leaves_its_attribute_out_as_in_the_metrics():
    logits, targets = make_batch(0, 50, GROUPS)
    logits[3, 1], targets[3, 1] = torch.nan, 1
    intervals = bootstrap_intervals(logits, targets, torch.zeros(3, dtype=torch.bool))
    others = [0, 2]
    without = bootstrap_intervals(logits[:, others], targets[:, others], torch.zeros(2, dtype=torch.bool))
    assert intervals["mean_accuracy"] == pytest.approx(without["mean_accuracy"])
    assert intervals["mean_average_precision"] == pytest.approx(without["mean_average_precision"])


@pytest.mark.parametrize("options", [{"level": 1.0}, {"level": 0.0}, {"num_resamples": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=r"bootstrap_intervals: needs images, a resample and a level in \(0, 1\)"):
        measured(0, 5).intervals(**options)


def test_no_images_are_refused():
    with pytest.raises(ValueError, match=r"bootstrap_intervals: needs images.* got 0 images"):
        AttributeMetrics(GROUPS, torch.full((3,), 0.6)).intervals()


def test_the_gain_of_a_model_that_is_better_than_the_baseline_lies_above_zero():
    targets = (torch.arange(200) % 2).float()[:, None]
    low, high = bootstrap_intervals(targets - 0.5, targets, torch.tensor([False]))["gain"]
    assert 0.4 < low < 0.5 < high < 0.6


def test_the_ends_are_the_quantiles_of_the_level():
    scores = resampled(lambda times: {"x": times[:, 0]}, 1, level=0.9, num_resamples=3)  # one image: always drawn once
    assert scores == {"x": (1, 1)}
    drawn = iter(torch.arange(101.0).split(50))
    assert resampled(lambda _: {"x": next(drawn)}, 5, level=0.9, num_resamples=101)["x"] == pytest.approx((5, 95))


@pytest.mark.parametrize("num_resamples", [1, 49, 50, 51, 120])
def test_as_many_resamples_are_drawn_as_wanted_each_of_as_many_images_as_there_are(num_resamples):
    seen = []
    resampled(lambda times: seen.append(times) or {"x": times[:, 0]}, 7, num_resamples=num_resamples)
    assert sum(map(len, seen)) == num_resamples
    assert all((times.sum(1) == 7).all() for times in seen)
    assert max(map(len, seen)) <= 50  # what is held at once


def test_soft_targets_are_positive_from_one_half():
    logits = torch.tensor([[1.0], [-1.0], [1.0]] * 20)
    soft, hard = torch.tensor([[0.5], [0.3], [0.9]] * 20), torch.tensor([[1.0], [0.0], [1.0]] * 20)
    majority = torch.tensor([True])
    assert bootstrap_intervals(logits, soft, majority) == bootstrap_intervals(logits, hard, majority)


def test_the_gain_compares_the_same_attributes_where_an_output_is_nan():
    targets = torch.cat([torch.ones(40, 1), (torch.arange(40)[:, None] < 18).float()], 1)
    logits = torch.tensor([1.0, -1.0]).expand(40, 2).clone()  # the model is the baseline
    logits[0, 1] = torch.nan
    intervals = bootstrap_intervals(logits, targets, torch.tensor([True, False]))
    assert intervals["gain"] == (0, 0)


def test_a_nan_logit_without_a_label_spoils_nothing():
    logits, targets = make_batch(0, 50, GROUPS)
    logits[targets.isnan()] = torch.nan
    expected = bootstrap_intervals(logits.nan_to_num(0), targets, torch.zeros(3, dtype=torch.bool))
    assert bootstrap_intervals(logits, targets, torch.zeros(3, dtype=torch.bool)) == expected
