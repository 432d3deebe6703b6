import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from mtattn import AttributeGroups
from mtattn.metrics import AttributeMetrics, train_rates

NAN = math.nan
MEANS = ("mean_accuracy", "mean_balanced_accuracy", "mean_f1", "mean_average_precision", "majority_accuracy")
SCORES = ("accuracy", "balanced_accuracy", "f1", "average_precision", "majority_accuracy")


def make_groups(sizes=(2, 3, 1)):
    names = iter(f"attribute {index}" for index in range(sum(sizes)))
    return AttributeGroups({f"group {index}": [next(names) for _ in range(size)] for index, size in enumerate(sizes)})


def make_batch(seed, size, groups, *, ties=False, unlabelled=0.2):
    generator = torch.Generator().manual_seed(seed)
    shape = (size, len(groups.attributes))
    logits = torch.randn(shape, generator=generator) * 2
    targets = (torch.rand(shape, generator=generator) < 0.4).float()
    targets[torch.rand(shape, generator=generator) < unlabelled] = NAN
    return logits.round() if ties else logits, targets


def score(groups, logits, targets, rates=None):
    metrics = AttributeMetrics(groups, torch.full((len(groups.attributes),), 0.4) if rates is None else rates)
    metrics.update(logits, targets)
    return metrics.compute()


def flat(scores):
    rows = [scores[mean] for mean in MEANS]
    rows += [value for part in ("attributes", "groups") for row in scores[part].values() for value in row.values()]
    return np.array(rows)


def slow_average_precision(logits, positives):
    """The area under the precision-recall steps, one step for each distinct logit, from the highest down."""
    if not any(positives):
        return NAN
    area, recall = 0.0, 0.0
    for threshold in sorted(set(logits), reverse=True):
        hits = [positive for logit, positive in zip(logits, positives, strict=True) if logit >= threshold]
        area += (sum(hits) / sum(positives) - recall) * sum(hits) / len(hits)
        recall = sum(hits) / sum(positives)
    return area


def slow_scores(logits, targets, rate):
    pairs = [(x, t >= 0.5) for x, t in zip(logits, targets, strict=True) if not math.isnan(t)]
    found = [x > 0 for x, positive in pairs if positive]
    rejected = [x <= 0 for x, positive in pairs if not positive]
    false_alarms = len(rejected) - sum(rejected)
    return {
        "accuracy": sum(found + rejected) / len(pairs) if pairs else NAN,
        "balanced_accuracy": (sum(found) / len(found) + sum(rejected) / len(rejected)) / 2
        if found and rejected
        else NAN,
        "f1": 2 * sum(found) / (sum(found) + false_alarms + len(found)) if found else NAN,
        "average_precision": slow_average_precision([x for x, _ in pairs], [positive for _, positive in pairs]),
        "majority_accuracy": len(found if rate > 0.5 else rejected) / len(pairs) if pairs else NAN,
    }


class TestNumbers:
    @given(seed=st.integers(0, 2**20), size=st.integers(0, 40), ties=st.booleans(), unlabelled=st.floats(0, 1))
    @pytest.mark.filterwarnings("ignore:The ``compute`` method")
    def test_scores_equal_slow_loops(self, seed, size, ties, unlabelled):
        groups = make_groups()
        logits, targets = make_batch(seed, size, groups, ties=ties, unlabelled=unlabelled)
        rates = torch.linspace(0, 1, 6)
        scores = score(groups, logits, targets, rates)
        for index, name in enumerate(groups.attributes):
            expected = slow_scores(logits[:, index].tolist(), targets[:, index].tolist(), float(rates[index]))
            assert scores["attributes"][name] == pytest.approx(expected, abs=1e-6, nan_ok=True)

    def test_means_skip_what_is_undefined(self):
        groups = AttributeGroups({"eyes": ["Eyeglasses", "Narrow_Eyes"], "mouth": ["Smiling"]})
        logits = torch.tensor([[1.0, 1.0, 1.0], [-1.0, 1.0, -1.0]])
        targets = torch.tensor([[1.0, 0.0, NAN], [0.0, 0.0, NAN]])
        scores = score(groups, logits, targets)
        assert scores["mean_accuracy"] == 0.5
        assert scores["mean_balanced_accuracy"] == scores["mean_f1"] == scores["mean_average_precision"] == 1
        assert scores["majority_accuracy"] == 0.75
        assert scores["groups"]["eyes"]["accuracy"] == 0.5
        assert np.isnan(list(scores["groups"]["mouth"].values())).all()

    def test_an_attribute_that_is_never_positive_has_accuracy_only(self):
        groups = AttributeGroups({"eyes": ["Eyeglasses"]})
        scores = score(groups, torch.tensor([[-1.0], [1.0]]), torch.zeros(2, 1))["attributes"]["Eyeglasses"]
        assert (scores["accuracy"], scores["majority_accuracy"]) == (0.5, 1)
        assert np.isnan([scores["balanced_accuracy"], scores["f1"], scores["average_precision"]]).all()

    def test_positives_that_are_never_found_score_zero(self):
        groups = AttributeGroups({"eyes": ["Eyeglasses"]})
        scores = score(groups, torch.tensor([[-1.0], [-2.0]]), torch.tensor([[1.0], [0.0]]))["attributes"]["Eyeglasses"]
        assert (scores["f1"], scores["balanced_accuracy"]) == (0, 0.5)

    def test_a_soft_target_is_positive_from_one_half(self):
        groups = AttributeGroups({"eyes": ["Eyeglasses"]})
        scores = score(groups, torch.tensor([[1.0], [-1.0]]), torch.tensor([[0.5], [0.49999997]], dtype=torch.float64))
        assert scores["mean_accuracy"] == scores["mean_f1"] == 1

    def test_a_logit_of_zero_predicts_nothing(self):
        groups = AttributeGroups({"eyes": ["Eyeglasses"]})
        assert score(groups, torch.zeros(2, 1), torch.zeros(2, 1))["mean_accuracy"] == 1

    @pytest.mark.parametrize("scale", [1e-3, 1, 1e3], ids=["inside [0, 1]", "usual", "saturated"])
    def test_average_precision_does_not_depend_on_the_scale_of_logits(self, scale):
        groups = make_groups((1,))
        logits = torch.linspace(0.1, 0.9, 9)[:, None]
        targets = torch.tensor([1.0, 0, 0, 1, 0, 1, 0, 0, 1])[:, None]
        expected = slow_average_precision(logits[:, 0].tolist(), targets[:, 0].bool().tolist())
        assert score(groups, logits * scale, targets)["mean_average_precision"] == pytest.approx(expected, abs=1e-6)

    def test_infinite_logits_share_a_threshold(self):
        groups = AttributeGroups({"eyes": ["Eyeglasses"]})
        logits = torch.tensor([[math.inf], [math.inf], [-math.inf], [-math.inf]])
        assert score(groups, logits, torch.tensor([[1.0], [0.0], [1.0], [0.0]]))["mean_average_precision"] == 0.5

    def test_a_nan_logit_leaves_its_attribute_undefined(self):
        groups = AttributeGroups({"eyes": ["Eyeglasses", "Narrow_Eyes"]})
        logits = torch.tensor([[NAN, 1.0], [-1.0, -1.0]])
        scores = score(groups, logits, torch.tensor([[1.0, 1.0], [0.0, 0.0]]))["attributes"]
        assert np.isnan([scores["Eyeglasses"][name] for name in SCORES[:-1]]).all()
        assert scores["Eyeglasses"]["majority_accuracy"] == 0.5
        assert scores["Narrow_Eyes"]["accuracy"] == 1

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
    def test_any_float_dtype_is_scored(self, dtype):
        groups = make_groups()
        logits, targets = make_batch(0, 20, groups, ties=True)
        np.testing.assert_array_equal(
            flat(score(groups, logits.to(dtype), targets)), flat(score(groups, logits, targets))
        )

    def test_half_precision_batches_do_not_overflow(self):
        groups = make_groups((1,))
        targets = torch.zeros(70_000, 1)
        assert score(groups, torch.full((70_000, 1), -1.0, dtype=torch.float16), targets)["mean_accuracy"] == 1
        assert train_rates((1 - targets).half()).tolist() == [1]


class TestLaws:
    @given(seed=st.integers(0, 2**20), size=st.integers(1, 30), ties=st.booleans())
    def test_permuting_images_changes_nothing(self, seed, size, ties):
        groups = make_groups()
        logits, targets = make_batch(seed, size, groups, ties=ties)
        order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
        np.testing.assert_array_equal(
            flat(score(groups, logits, targets)), flat(score(groups, logits[order], targets[order]))
        )

    @given(seed=st.integers(0, 2**20), sizes=st.lists(st.integers(0, 8), min_size=1, max_size=6))
    def test_splitting_into_batches_changes_nothing(self, seed, sizes):
        groups = make_groups()
        logits, targets = make_batch(seed, sum(sizes), groups)
        metrics = AttributeMetrics(groups, torch.full((6,), 0.4))
        for part in zip(logits.split(sizes), targets.split(sizes), strict=True):
            metrics.update(*part)
        np.testing.assert_array_equal(flat(metrics.compute()), flat(score(groups, logits, targets)))

    @given(seed=st.integers(0, 2**20), value=st.sampled_from([NAN, math.inf, -math.inf, 0.5, 1e30]))
    def test_a_logit_without_label_never_matters(self, seed, value):
        groups = make_groups()
        logits, targets = make_batch(seed, 12, groups, unlabelled=0.5)
        changed = torch.where(targets.isnan(), value, logits)
        np.testing.assert_array_equal(flat(score(groups, logits, targets)), flat(score(groups, changed, targets)))

    @given(seed=st.integers(0, 2**20))
    def test_permuting_attributes_permutes_the_scores(self, seed):
        groups = AttributeGroups({"all": [f"attribute {index}" for index in range(5)]})
        logits, targets = make_batch(seed, 15, groups)
        rates = torch.rand(5, generator=torch.Generator().manual_seed(seed))
        order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
        permuted = AttributeGroups({"all": [groups.attributes[index] for index in order]})
        before = score(groups, logits, targets, rates)
        after = score(permuted, logits[:, order], targets[:, order], rates[order])
        assert list(after["attributes"]) == list(permuted.attributes)
        for name in groups.attributes:
            assert after["attributes"][name] == pytest.approx(before["attributes"][name], abs=0, nan_ok=True)
        assert [after[mean] for mean in MEANS] == pytest.approx([before[mean] for mean in MEANS], nan_ok=True)

    @given(seed=st.integers(0, 2**20))
    def test_the_majority_predictor_reaches_majority_accuracy_and_half_the_balanced_one(self, seed):
        groups = make_groups()
        _, targets = make_batch(seed, 30, groups)
        rates = torch.rand(6, generator=torch.Generator().manual_seed(seed))
        scores = score(groups, torch.where(rates > 0.5, 1.0, -1.0).expand(30, 6), targets, rates)
        assert scores["mean_accuracy"] == scores["majority_accuracy"]
        assert scores["mean_balanced_accuracy"] == 0.5

    @given(seed=st.integers(0, 2**20), size=st.integers(1, 20), unlabelled=st.floats(0, 1))
    def test_every_score_lies_in_the_unit_interval_or_is_nan(self, seed, size, unlabelled):
        groups = make_groups()
        values = flat(score(groups, *make_batch(seed, size, groups, unlabelled=unlabelled)))
        assert (np.isnan(values) | ((values >= 0) & (values <= 1 + 1e-6))).all()


class TestSchema:
    def test_compute_returns_plain_floats_under_the_names_of_metrics_json(self):
        groups = make_groups()
        scores = score(groups, *make_batch(0, 20, groups))
        assert list(scores) == [*MEANS, "attributes", "groups"]
        assert list(scores["attributes"]) == list(groups.attributes)
        assert list(scores["groups"]) == list(groups)
        rows = [*scores["attributes"].values(), *scores["groups"].values()]
        assert all(tuple(row) == SCORES for row in rows)
        assert all(type(value) is float for row in rows for value in row.values())
        assert all(type(scores[mean]) is float for mean in MEANS)

    def test_one_group_with_one_attribute_is_enough(self):
        scores = score(make_groups((1,)), torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0], [0.0]]))
        assert [scores[mean] for mean in MEANS] == [1, 1, 1, 1, 0.5]

    def test_forty_groups_are_scored_alike(self):
        groups = make_groups((1,) * 40)
        scores = score(groups, *make_batch(0, 20, groups))
        rows = zip(scores["groups"].values(), scores["attributes"].values(), strict=True)
        assert all(group == pytest.approx(attribute, nan_ok=True) for group, attribute in rows)

    @pytest.mark.filterwarnings("ignore:The ``compute`` method")
    def test_without_data_every_score_is_nan(self):
        assert np.isnan(flat(AttributeMetrics(make_groups(), torch.zeros(6)).compute())).all()


class TestState:
    def test_reset_forgets(self):
        groups = make_groups()
        metrics = AttributeMetrics(groups, torch.full((6,), 0.4))
        metrics.update(*make_batch(0, 20, groups))
        metrics.reset()
        metrics.update(*make_batch(1, 20, groups))
        np.testing.assert_array_equal(flat(metrics.compute()), flat(score(groups, *make_batch(1, 20, groups))))

    def test_forward_scores_the_batch_and_remembers_it(self):
        groups = make_groups()
        metrics = AttributeMetrics(groups, torch.full((6,), 0.4))
        first, second = make_batch(0, 10, groups), make_batch(1, 10, groups)
        np.testing.assert_array_equal(flat(metrics(*first)), flat(score(groups, *first)))
        np.testing.assert_array_equal(flat(metrics(*second)), flat(score(groups, *second)))
        both = [torch.cat(parts) for parts in zip(first, second, strict=True)]
        np.testing.assert_array_equal(flat(metrics.compute()), flat(score(groups, *both)))

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda metrics: pickle.loads(pickle.dumps(metrics))])
    def test_a_copy_goes_on_from_where_it_was_made(self, copied):
        groups = make_groups()
        metrics = AttributeMetrics(groups, torch.full((6,), 0.4))
        metrics.update(*make_batch(0, 20, groups))
        twin = copied(metrics)
        for one in (metrics, twin):
            one.update(*make_batch(1, 20, groups))
        np.testing.assert_array_equal(flat(twin.compute()), flat(metrics.compute()))

    def test_a_persistent_state_survives_state_dict(self):
        groups = make_groups()
        metrics = AttributeMetrics(groups, torch.full((6,), 0.4))
        assert metrics.state_dict() == {}
        metrics.persistent(True)
        metrics.update(*make_batch(0, 20, groups))
        twin = AttributeMetrics(groups, torch.full((6,), 0.4))
        twin.persistent(True)
        twin.load_state_dict(metrics.state_dict())
        twin.update(*make_batch(1, 20, groups))
        metrics.update(*make_batch(1, 20, groups))
        np.testing.assert_array_equal(flat(twin.compute()), flat(metrics.compute()))

    def test_to_moves_the_states(self):
        groups = make_groups()
        metrics = AttributeMetrics(groups, torch.full((6,), 0.4))
        metrics.update(*make_batch(0, 20, groups))
        metrics.to("meta")
        assert {state.device.type for state in (*metrics.logits, *metrics.targets)} == {"meta"}

    def test_update_never_reads_a_value(self):
        groups = make_groups()
        metrics = AttributeMetrics(groups, torch.full((6,), 0.4)).to("meta")
        metrics.update(*(part.to("meta") for part in make_batch(0, 20, groups)))
        assert len(metrics.logits) == 1

    def test_a_batch_changed_after_update_changes_nothing(self):
        groups = make_groups()
        logits, targets = make_batch(0, 20, groups)
        expected = score(groups, logits, targets)
        metrics = AttributeMetrics(groups, torch.full((6,), 0.4))
        metrics.update(logits, targets)
        logits.zero_()
        targets.zero_()
        np.testing.assert_array_equal(flat(metrics.compute()), flat(expected))

    def test_the_graph_of_the_logits_is_let_go(self):
        groups = make_groups()
        logits, targets = make_batch(0, 20, groups)
        metrics = AttributeMetrics(groups, torch.full((6,), 0.4))
        metrics.update(logits.requires_grad_(), targets)
        assert not metrics.logits[0].requires_grad

    @pytest.mark.parametrize("sizes", [(7, 13), (20, 0)], ids=["uneven ranks", "a rank without data"])
    @pytest.mark.filterwarnings("ignore:The ``compute`` method")
    def test_ranks_are_scored_together(self, sizes):
        groups = make_groups()
        logits, targets = make_batch(0, 20, groups)
        first, second = [AttributeMetrics(groups, torch.full((6,), 0.4)) for _ in sizes]
        first.update(logits[: sizes[0]], targets[: sizes[0]])
        if sizes[1]:
            second.update(logits[sizes[0] :], targets[sizes[0] :])
        gathered = iter([*first.logits, *first.targets])
        second.dist_sync_fn = lambda mine, **_: [next(gathered), mine]
        second.distributed_available_fn = lambda: True
        np.testing.assert_array_equal(flat(second.compute()), flat(score(groups, logits, targets)))


class TestTrainRates:
    def test_unlabelled_values_count_nowhere(self):
        rates = train_rates(torch.tensor([[1.0, NAN], [0.0, 1.0], [0.0, NAN], [0.0, 0.6]]))
        assert rates.tolist() == [0.25, 1]

    def test_a_target_of_one_half_is_positive(self):
        assert train_rates(torch.tensor([[0.5], [0.4]])).tolist() == [0.5]

    def test_an_attribute_without_labels_has_no_rate_and_is_predicted_absent(self):
        groups = AttributeGroups({"eyes": ["Eyeglasses", "Narrow_Eyes"]})
        rates = train_rates(torch.tensor([[1.0, NAN]]))
        assert rates.isnan().tolist() == [False, True]
        scores = score(groups, torch.ones(4, 2), torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]), rates)
        assert [row["majority_accuracy"] for row in scores["attributes"].values()] == [0.75, 0.75]


class TestErrors:
    def test_groups_are_no_dict(self):
        with pytest.raises(
            (TypeError, TypeCheckError), match=r"AttributeMetrics: groups is an AttributeGroups|^Type-check error"
        ):
            AttributeMetrics({"mouth": ["Smiling"]}, torch.zeros(1))

    def test_one_rate_an_attribute(self):
        with pytest.raises(ValueError, match=r"one rate an attribute, got shape \(5,\) for 6 attributes"):
            AttributeMetrics(make_groups(), torch.zeros(5))

    @pytest.mark.parametrize("rate", [-0.1, 1.5])
    def test_rates_lie_in_the_unit_interval(self, rate):
        with pytest.raises(ValueError, match=rf"lie in \[0, 1\], got {rate} for 'attribute 1'"):
            AttributeMetrics(make_groups((2,)), torch.tensor([0.5, rate]))

    def test_columns_are_attributes(self):
        metrics = AttributeMetrics(make_groups(), torch.zeros(6))
        with pytest.raises(ValueError, match=r"logits \(4, 5\) and targets \(4, 5\) for 6 attributes"):
            metrics.update(torch.zeros(4, 5), torch.zeros(4, 5))

    def test_logits_and_targets_have_one_shape(self):
        metrics = AttributeMetrics(make_groups(), torch.zeros(6))
        with pytest.raises((ValueError, TypeCheckError), match=r"targets \(4, 5\) for 6 attributes|^Type-check error"):
            metrics.update(torch.zeros(4, 6), torch.zeros(4, 5))


def test_rates_may_be_a_list():
    groups = AttributeGroups({"eyes": ["Eyeglasses"], "mouth": ["Smiling"]})
    assert AttributeMetrics(groups, [0.1, 0.9]).majority.tolist() == [False, True]
