"""Thresholds and temperatures: the best there are on what they are chosen on, and nothing else changes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits

from mtattn import AttributeGroups, Categorical
from mtattn.decisions import Decisions, choose_decisions

GROUPS = AttributeGroups({"a": ["x", "y"], "b": [Categorical("c", ("p", "q", "r")), "z"]})


def drawn(seed, images=300, scale=3.0):
    """Logits that are too sure and too low, labels that follow them, some of them missing."""
    random = torch.Generator().manual_seed(seed)
    true = torch.randn(images, 6, generator=random)
    targets = (torch.rand(images, 3, generator=random) < true[:, [0, 1, 5]].sigmoid()).double()
    targets = torch.stack(
        [targets[:, 0], targets[:, 1], torch.randint(3, (images,), generator=random), targets[:, 2]], 1
    )
    targets[torch.rand(targets.shape, generator=random) < 0.1] = torch.nan
    return scale * true.double() - 2, targets


def score(logits, targets, goal):
    """F1 or balanced accuracy, counted."""
    said, true = logits[~targets.isnan()] > 0, targets[~targets.isnan()] == 1
    hits, rejections = (said & true).sum() / true.sum(), (~said & ~true).sum() / (~true).sum()
    return float(2 * (said & true).sum() / (said.sum() + true.sum()) if goal == "f1" else (hits + rejections) / 2)


@pytest.mark.parametrize("goal", ["f1", "balanced_accuracy"])
@given(seed=st.integers(0, 1000))
def test_no_other_threshold_scores_better_on_the_same_images(goal, seed):
    logits, targets = drawn(seed, images=120)
    centred = choose_decisions(GROUPS, logits, targets, goal=goal).centred(GROUPS, logits)
    ours = score(centred[:, 0], targets[:, 0], goal)
    others = torch.linspace(float(logits[:, 0].min()) - 1, float(logits[:, 0].max()) + 1, 60)
    assert ours >= max(score(logits[:, 0] - other, targets[:, 0], goal) for other in others) - 1e-9


def test_a_temperature_makes_the_cross_entropy_least_and_keeps_the_order():
    logits, targets = drawn(0, images=4000)
    decisions = choose_decisions(GROUPS, logits + 2, targets)
    assert decisions.temperatures["a"] == pytest.approx(3, rel=0.1)  # what the logits were multiplied by
    known = ~targets[:, 3].isnan()

    def loss(temperature):
        return float(
            binary_cross_entropy_with_logits(
                (logits + 2)[known, GROUPS.columns_of("z").start] / temperature, targets[known, 3]
            )
        )

    best = loss(decisions.temperatures["b"])
    assert all(best <= loss(decisions.temperatures["b"] * factor) for factor in (0.9, 1.1))
    calibrated = decisions.calibrated(GROUPS, logits)
    assert calibrated[:, 0].argsort().equal(logits[:, 0].argsort())


def test_other_kinds_stay_as_they_are():
    logits, targets = drawn(1)
    centred = choose_decisions(GROUPS, logits, targets).centred(GROUPS, logits)
    assert centred[:, GROUPS.columns_of("c")].equal(logits[:, GROUPS.columns_of("c")])


def test_where_there_are_too_few_one_half_is_kept_and_said():
    logits, targets = drawn(2)
    targets[:, 0] = 0
    targets[:5, 0] = 1
    decisions = choose_decisions(GROUPS, logits, targets)
    assert decisions.kept == {"x": "too few to choose on (5): 0.5 kept"}
    assert "x" not in decisions.thresholds
    centred = decisions.centred(GROUPS, logits)
    assert (centred[:, 0] > 0).equal(logits[:, 0] > 0)


def test_decisions_survive_json():
    logits, targets = drawn(3)
    decisions = choose_decisions(GROUPS, logits, targets)
    assert Decisions(**decisions.to_plain()) == decisions


def test_an_unknown_goal_is_refused():
    with pytest.raises(ValueError, match="no goal 'f2'; there are f1"):
        choose_decisions(GROUPS, *drawn(0), goal="f2")


def test_logits_that_are_nan_choose_nothing():
    logits, targets = drawn(0)
    logits[3, 1] = torch.nan
    with pytest.raises(ValueError, match=r"choose_decisions: logits are numbers, got NaN for 'y'"):
        choose_decisions(GROUPS, logits, targets)


def test_a_threshold_far_up_can_be_gone_back_to_its_logit():
    logits = torch.arange(-400.0, 400.0)[:, None]
    decisions = choose_decisions(AttributeGroups({"a": ["x"]}), logits, (logits > 340).float())
    assert decisions.thresholds["x"] < 1
    assert decisions.centred(AttributeGroups({"a": ["x"]}), logits).isfinite().all()


@given(seed=st.integers(0, 1000), precision=st.sampled_from([0.6, 0.75, 0.9]))
def test_a_stated_precision_is_reached_in_twenty_answers_or_one_half_is_kept(seed, precision):
    logits, targets = drawn(seed)
    decisions = choose_decisions(GROUPS, logits, targets, goal=f"precision={precision}")
    for index, name in enumerate(["x", "y"]):
        known = ~targets[:, index].isnan()
        said, true = decisions.centred(GROUPS, logits)[known, index] > 0, targets[known, index] == 1
        if name in decisions.thresholds:
            assert said.sum() >= 20
            assert (said & true).sum() / said.sum() >= precision
            order = logits[known, index].sort(descending=True).indices  # no longer list of the first would do
            shares = true[order].cumsum(0) / torch.arange(1, len(order) + 1)
            assert not (shares[int(said.sum()) :] >= precision).any()
        else:
            assert decisions.kept[name] == f"no threshold reaches precision={precision}: 0.5 kept"


@given(seed=st.integers(0, 1000), cost=st.sampled_from([0.2, 1, 5, 50]))
def test_no_other_threshold_costs_less(seed, cost):
    logits, targets = drawn(seed, images=120)
    known = ~targets[:, 0].isnan()
    said, true = choose_decisions(GROUPS, logits, targets, goal=f"cost={cost}").centred(GROUPS, logits), targets[:, 0]

    def costs(yes):
        return float(cost * (~yes & (true == 1))[known].sum() + (yes & (true == 0))[known].sum())

    others = torch.linspace(float(logits[:, 0].min()) - 1, float(logits[:, 0].max()) + 1, 60)
    assert costs(said[:, 0] > 0) <= min(costs(logits[:, 0] > other) for other in others) + 1e-9


def test_between_two_thresholds_the_answer_is_uncertain_and_each_side_is_as_often_right_as_stated():
    logits, targets = drawn(5, images=2000)
    decisions = choose_decisions(GROUPS, logits, targets, goal="precision=0.95", uncertain=True)
    assert decisions.absent["x"] < decisions.thresholds["x"]
    shares = decisions.calibrated(GROUPS, logits)[:, 0].sigmoid()
    answers = [decisions.answer("x", float(share)) for share in shares]
    assert {*answers} == {True, False, None}
    assert [answer is not None for answer in answers] == decisions.answered(GROUPS, logits)[:, 0].tolist()
    for said in (True, False):
        truths = [float(t) for a, t in zip(answers, targets[:, 0], strict=True) if a is said and not t.isnan()]
        assert sum(t == said for t in truths) >= 0.95 * len(truths)
    assert Decisions(**decisions.to_plain()) == decisions


def test_where_both_sides_are_sure_nothing_is_uncertain():
    logits, targets = drawn(5, images=2000)
    decisions = choose_decisions(GROUPS, logits, targets, goal="precision=0.55", uncertain=True)
    assert decisions.absent["x"] == decisions.thresholds["x"]
    assert decisions.answered(GROUPS, logits).all()


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        ("precision=0.3", "precision is a number between 0.5 and 1, got '0.3'"),
        ("precision=much", "precision is a number between 0.5 and 1, got 'much'"),
        ("cost=-1", "cost is a number above 0, got '-1'"),
        ("recall=0.9", "no goal with a value 'recall'"),
        ("precision", "no goal 'precision'; did you mean 'precision=VALUE'"),
    ],
)
def test_a_goal_with_a_value_that_cannot_be_is_refused(goal, message):
    with pytest.raises(ValueError, match=message):
        choose_decisions(GROUPS, *drawn(0), goal=goal)


def test_uncertain_needs_a_stated_precision():
    with pytest.raises(ValueError, match=r"uncertain needs a stated precision, got 'f1'"):
        choose_decisions(GROUPS, *drawn(0), uncertain=True)
