"""The scores of attributes of every kind: numbers against loops and torchmetrics, laws, baselines by name."""

import math
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import groups_of_every_kind, labelled
from torchmetrics.functional.classification import multiclass_f1_score, multiclass_recall
from torchmetrics.functional.regression import r2_score

from mtattn import AttributeGroups, Categorical, Number, Ordinal
from mtattn.metrics import AttributeMetrics, Baselines, train_rates

NAN = math.nan
HAIR = Categorical("hair", ("none", "short", "long"))
STAGE = Ordinal("stage", ("child", "young", "middle", "old"))
AGE = Number("age", "years", mean=33, std=20)
MIXED = AttributeGroups({"face": ["Smiling", HAIR], "age": [AGE, STAGE]})
seeds = st.integers(0, 10_000)


class Data:
    """What a data set tells of its labels."""

    def __init__(self, attributes, targets):
        self.attributes, self.targets = attributes, torch.tensor(targets)


def measured(groups, outputs, targets, train=None, **options):
    metrics = AttributeMetrics(groups, Baselines(groups, targets if train is None else train), **options)
    metrics.update(outputs, targets)
    return metrics


def mean(values):
    values = list(values)
    return statistics.fmean(values) if values else NAN


def slow_scores(kind, said, truth, within):
    """The scores of an attribute that is not binary, from what was said and what is true, which is the baseline too."""
    if isinstance(kind, Categorical):
        recalls, f1s, classes = [], [], range(len(kind.classes))
        for k in classes:
            hits = sum(s == t == k for s, t in zip(said, truth, strict=True))
            labels, claims = truth.count(k), said.count(k)
            recalls += [hits / labels] if labels else []
            f1s += [2 * hits / (labels + claims)] if labels + claims else []
        chance = 1 / len(recalls) if recalls else NAN
        return {
            "accuracy": mean(s == t for s, t in zip(said, truth, strict=True)),
            "balanced_accuracy": mean(recalls),
            "macro_f1": mean(f1s),
            "majority_accuracy": max((truth.count(k) / len(truth) for k in classes), default=NAN) if truth else NAN,
            "skill": (mean(recalls) - chance) / (1 - chance) if chance < 1 else NAN,
        }
    errors = [abs(s - t) for s, t in zip(said, truth, strict=True)]
    blind = mean(abs(statistics.median_low(truth) - t) for t in truth) if truth else NAN
    common = {
        "mean_absolute_error": mean(errors),
        "median_error": blind,
        "skill": 1 - mean(errors) / blind if blind > 0 else NAN,
    }
    if isinstance(kind, Ordinal):
        return common | {
            "accuracy": mean(e == 0 for e in errors),
            "within_one": mean(e <= 1 for e in errors),
            "majority_accuracy": max((truth.count(k) / len(truth) for k in set(truth)), default=NAN),
        }
    spread = statistics.pvariance(truth) if truth else 0
    r_squared = 1 - mean(e**2 for e in errors) / spread if spread > 0 else NAN
    return common | {"r_squared": r_squared, "within": mean(e <= within for e in errors)}


@given(groups_of_every_kind(), seeds, st.integers(0, 30))
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_scores_equal_slow_loops(groups, seed, size):
    outputs, targets = labelled(groups, seed, size=size)
    within = {kind.name: 1.5 for kind in groups.kinds if isinstance(kind, Number)}
    metrics = measured(groups, outputs, targets, within=within)
    found, decoded = metrics.compute()["attributes"], groups.decode(outputs) if size else {}
    for index, (name, kind) in enumerate(zip(groups.attributes, groups.kinds, strict=True)):
        if isinstance(kind, str):
            continue
        known = (~targets[:, index].isnan()).nonzero()[:, 0].tolist()
        said = [decoded[name][row] for row in known]
        choices = getattr(kind, "classes", getattr(kind, "levels", None))
        said = [float(value) if choices is None else choices.index(value) for value in said]
        expected = slow_scores(kind, said, targets[known, index].tolist(), 1.5)
        assert found[name] == pytest.approx(expected, rel=1e-4, abs=1e-5, nan_ok=True)


def test_classes_are_scored_as_torchmetrics_scores_them():
    groups = AttributeGroups({"g": [Categorical("x", ("a", "b", "c", "d"))]})
    outputs, targets = labelled(groups, 0, size=40, missing=0)
    scores, labels = measured(groups, outputs, targets).compute()["attributes"]["x"], targets[:, 0].long()
    for name, function in (("macro_f1", multiclass_f1_score), ("balanced_accuracy", multiclass_recall)):
        assert scores[name] == pytest.approx(function(outputs, labels, 4, average="macro").item())


def test_numbers_are_scored_as_torchmetrics_scores_them():
    groups = AttributeGroups({"g": [AGE]})
    outputs, targets = labelled(groups, 0, size=40, missing=0)
    scores = measured(groups, outputs, targets).compute()["attributes"]["age"]
    assert scores["r_squared"] == pytest.approx(r2_score(groups.decode(outputs)["age"], targets[:, 0]).item(), rel=1e-5)


class TestSkill:
    @given(groups_of_every_kind(), seeds)
    def test_is_zero_for_the_baseline_and_one_for_the_truth(self, groups, seed):
        _, targets = labelled(groups, seed, size=40, missing=0.1)
        baselines = Baselines(groups, targets)
        blind, perfect = [], []
        for index, (name, kind) in enumerate(zip(groups.attributes, groups.kinds, strict=True)):
            truth = targets[:, index].nan_to_num(0)
            answer = baselines.median.get(name, baselines.majority.get(name))
            blind.append(columns_for(kind, torch.full_like(truth, answer)))
            perfect.append(columns_for(kind, truth))
        for outputs, expected in ((blind, 0.0), (perfect, 1.0)):
            scores = measured(groups, torch.cat(outputs, 1), targets).compute()
            for name, row in scores["attributes"].items():
                skill = row.get("skill", 2 * row.get("balanced_accuracy", NAN) - 1)
                assert skill == pytest.approx(expected, abs=1e-4) or math.isnan(skill), name
            if "mean_skill" in scores and not math.isnan(scores["mean_skill"]):
                assert scores["mean_skill"] == pytest.approx(expected, abs=1e-4)

    def test_of_a_rare_attribute_is_that_of_a_frequent_one(self):
        groups = AttributeGroups({"g": ["rare", HAIR]})
        targets = torch.zeros(1000, 2)
        targets[:10, 0] = 1
        outputs = torch.where(torch.arange(1000)[:, None] < 500, 1.0, -1.0) * torch.ones(1000, 4)
        row = measured(groups, outputs, targets).compute()["attributes"]["rare"]
        assert row["accuracy"] == pytest.approx(0.51)
        assert row["skill"] == pytest.approx(1 + 500 / 990 - 1)

    def test_is_left_out_where_all_is_binary(self):
        groups = AttributeGroups({"g": ["a", "b"]})
        scores = measured(groups, *labelled(groups, 0)).compute()
        assert "mean_skill" not in scores
        assert "skill" not in scores["attributes"]["a"]


def columns_for(kind, answers):
    """Outputs that say the answers."""
    match kind:
        case Categorical(_, choices):
            return 9 * torch.nn.functional.one_hot(answers.long(), len(choices)).double()
        case Ordinal(_, choices):
            return torch.where(answers[:, None] > torch.arange(len(choices) - 1), 40.0, -9.0).double()
        case Number(_, _, mean, std):
            return ((answers - mean) / std)[:, None].double()
    return 18 * answers[:, None] - 9


class TestSchema:
    def test_each_attribute_has_the_scores_of_its_kind(self):
        scores = measured(MIXED, *labelled(MIXED, 0), within={"age": 5}).compute()
        rows = {name: list(row) for name, row in scores["attributes"].items()}
        assert rows == {
            "Smiling": ["accuracy", "balanced_accuracy", "f1", "average_precision", "majority_accuracy", "skill"],
            "hair": ["accuracy", "balanced_accuracy", "macro_f1", "majority_accuracy", "skill"],
            "age": ["mean_absolute_error", "within", "r_squared", "median_error", "skill"],
            "stage": ["accuracy", "within_one", "mean_absolute_error", "majority_accuracy", "median_error", "skill"],
        }
        means = ("accuracy", "balanced_accuracy", "f1", "average_precision", "skill")
        expected = [*(f"mean_{name}" for name in means), "majority_accuracy", "attributes", "groups"]
        assert sorted(scores) == sorted(expected)

    @given(groups_of_every_kind())
    @pytest.mark.filterwarnings("ignore:The ``compute`` method")
    def test_the_means_that_there_will_be_are_known_before(self, groups):
        metrics = AttributeMetrics(groups, Baselines(groups, torch.empty(0, len(groups.attributes))))
        found = {name for name in metrics.compute() if name.startswith("mean_")}
        assert set(metrics.mean_scores) == found
        assert metrics.mean_scores[0] == ("mean_accuracy" if groups.columns is groups else "mean_skill")

    def test_means_are_over_those_that_have_the_score(self):
        scores = measured(MIXED, *labelled(MIXED, 0, size=60, missing=0.1)).compute()
        rows = scores["attributes"]
        assert scores["mean_accuracy"] == pytest.approx(mean(rows[n]["accuracy"] for n in ("Smiling", "hair", "stage")))
        assert scores["mean_skill"] == pytest.approx(mean(row["skill"] for row in rows.values()))
        assert scores["groups"]["age"]["skill"] == pytest.approx(mean(rows[n]["skill"] for n in ("age", "stage")))
        assert scores["groups"]["age"]["accuracy"] == rows["stage"]["accuracy"]

    def test_predictions_and_the_truth_of_what_is_labelled(self):
        outputs, targets = labelled(MIXED, 0, missing=0.4)
        pairs = measured(MIXED, outputs, targets).predictions()
        said, truth = pairs["hair"]
        known = ~targets[:, 1].isnan()
        assert truth.tolist() == targets[known, 1].tolist()
        decoded = [name for name, here in zip(MIXED.decode(outputs)["hair"], known, strict=True) if here]
        assert [HAIR.classes[int(index)] for index in said] == decoded
        assert set(pairs["Smiling"][0].tolist()) <= {0.0, 1.0}

    @given(groups_of_every_kind(), seeds, st.lists(st.integers(0, 5), min_size=1, max_size=4))
    @pytest.mark.filterwarnings("ignore:The ``compute`` method")
    def test_splitting_into_batches_changes_nothing(self, groups, seed, sizes):
        outputs, targets = labelled(groups, seed, size=sum(sizes))
        metrics = AttributeMetrics(groups, Baselines(groups, targets))
        for part in zip(outputs.split(sizes), targets.split(sizes), strict=True):
            metrics.update(*part)
        assert repr(metrics.compute()) == repr(measured(groups, outputs, targets).compute())

    def test_a_nan_output_spoils_its_attribute_only(self):
        outputs, targets = labelled(MIXED, 0, missing=0)
        outputs[2, MIXED.columns_of("hair")] = NAN
        outputs[3, MIXED.columns_of("stage")] = NAN
        rows = measured(MIXED, outputs, targets).compute()["attributes"]
        for name in ("hair", "stage"):
            known = {key for key, value in rows[name].items() if not math.isnan(value)}
            assert known <= {"majority_accuracy", "median_error"}
        assert not math.isnan(rows["age"]["mean_absolute_error"])

    def test_an_output_without_label_never_matters(self):
        outputs, targets = labelled(MIXED, 3, missing=0.5)
        spoilt = outputs.masked_fill(targets.isnan()[:, list(MIXED.attribute_of)], NAN)
        assert repr(measured(MIXED, spoilt, targets).compute()) == repr(measured(MIXED, outputs, targets).compute())

    def test_an_attribute_all_missing_in_training_has_no_baseline(self):
        outputs, targets = labelled(MIXED, 0, missing=0)
        train = targets.clone()
        train[:, 2] = NAN
        row = measured(MIXED, outputs, targets, train).compute()["attributes"]["age"]
        assert math.isnan(row["median_error"])
        assert math.isnan(row["skill"])
        assert not math.isnan(row["mean_absolute_error"])


class TestIntervals:
    def test_of_every_kind_hold_the_score(self):
        metrics = measured(MIXED, *labelled(MIXED, 0, size=200, missing=0.1), within={"age": 5})
        scores = metrics.compute()
        for name, (low, high) in metrics.intervals(num_resamples=200).items():
            assert (
                low < (scores["mean_accuracy"] - scores["majority_accuracy"] if name == "gain" else scores[name]) < high
            )
        for name, row in metrics.attribute_intervals(num_resamples=200).items():
            assert list(row) == list(scores["attributes"][name])
            for score, (low, high) in row.items():
                assert low - 1e-4 <= scores["attributes"][name][score] <= high + 1e-4

    def test_of_images_drawn_twice_score_as_a_batch_that_holds_them_twice(self):
        outputs, targets = labelled(MIXED, 1, size=20)
        times = torch.tensor([0.0, 1, 2, 1, 3] * 4)
        repeats = times.long()
        twice = measured(MIXED, outputs.repeat_interleave(repeats, 0), targets.repeat_interleave(repeats, 0), targets)
        metrics = measured(MIXED, outputs, targets)
        found = metrics._means(times[None].double(), *metrics._seen())
        expected = twice.compute()
        for score in ("mean_accuracy", "mean_skill", "mean_balanced_accuracy", "majority_accuracy"):
            assert found[score].item() == pytest.approx(expected[score], rel=1e-6)


class TestBaselines:
    def test_are_the_most_frequent_answer_and_the_median(self):
        targets = torch.tensor([[1.0, 2, 10, 0], [1, 2, 20, 0], [0, 1, 90, 3], [NAN, NAN, NAN, NAN]])
        baselines = Baselines(MIXED, targets)
        assert baselines.majority == {"Smiling": 1.0, "hair": 2.0, "stage": 0.0}
        assert baselines.median == {"age": 20.0, "stage": 0.0}
        assert baselines.rates == {"Smiling": pytest.approx(2 / 3)}

    def test_find_the_columns_of_a_data_set_by_name(self):
        groups = AttributeGroups({"age": ["Young"], "hair": ["Bald"]})
        data = Data(("Bald", "Other", "Young"), [[1.0, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]])
        assert Baselines(groups, data).rates == {"Young": 0.75, "Bald": 0.25}
        metrics = AttributeMetrics(groups, Baselines(groups, data))
        metrics.update(torch.zeros(4, 2), data.targets[:, [2, 0]])
        assert metrics.compute()["majority_accuracy"] == 0.75

    def test_serve_groups_in_another_order(self):
        turned = AttributeGroups({"age": [STAGE, AGE], "face": [HAIR, "Smiling"]})
        _, targets = labelled(MIXED, 0)
        metrics = AttributeMetrics(turned, Baselines(MIXED, targets))
        assert metrics.baselines.median["age"] == Baselines(MIXED, targets).median["age"]

    @pytest.mark.parametrize(
        ("groups", "message"),
        [
            pytest.param(AttributeGroups({"g": ["Smilling"]}), "no training label of 'Smilling'; did", id="name"),
            pytest.param(AttributeGroups({"g": ["hair"]}), "the training labels are of Categorical", id="kind"),
            pytest.param(
                AttributeGroups({"g": [Categorical("hair", ("short", "none", "long"))]}),
                ".*make both of one",
                id="classes",
            ),
        ],
    )
    def test_of_other_attributes_are_refused(self, groups, message):
        with pytest.raises(ValueError, match=f"AttributeMetrics: {message}"):
            AttributeMetrics(groups, Baselines(MIXED, labelled(MIXED, 0)[1]))

    def test_rates_do_not_tell_of_other_kinds(self):
        with pytest.raises(
            ValueError, match=r"rates tell of binary attributes alone.* give Baselines\(groups, train\)"
        ):
            AttributeMetrics(MIXED, [0.1, 0.2, 0.3, 0.4])

    def test_of_nothing_that_has_labels_are_refused(self):
        with pytest.raises(TypeError, match="takes targets, or a data set that has attributes and targets, got a list"):
            Baselines(MIXED, [1, 2])


class TestRatesByName:
    def test_of_a_data_set_are_matched_whatever_their_order(self):
        groups = AttributeGroups({"age": ["Young"], "hair": ["Bald"]})
        rates = train_rates(Data(("Bald", "Young"), [[1.0, 0], [0, 1], [0, 1], [0, 1]]))
        assert rates == {"Bald": 0.25, "Young": 0.75}
        assert AttributeMetrics(groups, rates).majority.tolist() == [True, False]

    def test_that_lack_an_attribute_are_refused(self):
        with pytest.raises(ValueError, match="AttributeMetrics: no rate of 'Young'; did you mean 'young'"):
            AttributeMetrics(AttributeGroups({"age": ["Young"]}), {"young": 0.5})


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("Smiling", -1.0, r"'Smiling' is binary, so a target is in \[0, 1\], or NaN where it is missing; got -1"),
        ("Smiling", 2.0, "'Smiling' is binary"),
        ("hair", 3.0, "'hair' has 3 classes"),
        ("hair", -1.0, "'hair' has 3 classes"),
        ("stage", 4.0, "'stage' has 4 levels"),
        ("age", math.inf, "'age' is a number"),
    ],
)
def test_targets_that_cannot_be_are_refused_by_metrics_and_baselines(attribute, value, message):
    outputs, targets = labelled(MIXED, 0, missing=0)
    targets[2, MIXED.attributes.index(attribute)] = value
    metrics = AttributeMetrics(MIXED, Baselines(MIXED, targets[:2]))
    metrics.update(outputs, targets)
    for use in (metrics.compute, metrics.intervals, metrics.predictions, metrics.instance_scores):
        with pytest.raises(ValueError, match=f"AttributeMetrics: {message}.* for image 2"):
            use()
    with pytest.raises(ValueError, match=f"Baselines: {message}"):
        Baselines(MIXED, targets)


def test_rates_refuse_minus_one():
    with pytest.raises(ValueError, match="or NaN where it is missing, got -1 for image 2, column 0"):
        train_rates(torch.tensor([[1.0], [1.0], [-1.0]]))


@pytest.mark.parametrize(
    "changed",
    [
        lambda metrics: metrics.set_dtype(torch.float64),
        lambda metrics: metrics.double(),
        lambda metrics: metrics.half(),
    ],
    ids=["set_dtype", "double", "half"],
)
def test_metrics_work_in_another_precision(changed):
    for groups in (MIXED, AttributeGroups({"g": ["a", "b"]})):
        outputs, targets = labelled(groups, 0, size=30, dtype=torch.float32)
        metrics = AttributeMetrics(groups, Baselines(groups, targets))
        changed(metrics)
        metrics.update(outputs, targets)
        expected = measured(groups, outputs, targets).compute()
        for name, value in metrics.compute().items():
            if name.startswith("mean"):
                assert value == pytest.approx(expected[name], rel=1e-5)


@pytest.mark.parametrize(
    ("within", "message"),
    [
        ({"Smiling": 1.0}, "no number 'Smiling'"),
        ({"aeg": 1.0}, "did you mean 'age'"),
        ({"age": 0.0}, "within is above 0"),
    ],
)
def test_a_distance_that_means_nothing_is_refused(within, message):
    with pytest.raises(ValueError, match=message):
        AttributeMetrics(MIXED, Baselines(MIXED, labelled(MIXED, 0)[1]), within=within)


class TestInstances:
    def test_are_scored_one_by_one_and_then_averaged(self):
        groups = AttributeGroups({"g": ["a", "b", "c"]})
        metrics = AttributeMetrics(groups, [0.5] * 3)
        metrics.update(
            torch.tensor([[1.0, 1, -1], [1, -1, -1], [-1, -1, -1], [1, 1, 1]]),
            torch.tensor([[1.0, 0, 0], [1, 1, NAN], [0, 0, 0], [NAN, NAN, NAN]]),
        )
        assert metrics.instance_scores() == pytest.approx(
            {
                "instance_accuracy": (1 / 2 + 1 / 2 + 0) / 3,
                "instance_precision": (1 / 2 + 1 + 0) / 3,
                "instance_recall": (1 + 1 / 2 + 0) / 3,
                "instance_f1": (2 / 3 + 2 / 3 + 0) / 3,
            }
        )

    def test_look_at_binary_attributes_only(self):
        groups = AttributeGroups({"g": [AGE, "a", HAIR]})
        outputs, targets = labelled(groups, 0, size=20)
        alone = AttributeMetrics(AttributeGroups({"g": ["a"]}), [0.5])
        alone.update(outputs[:, 1:2], targets[:, 1:2])
        assert measured(groups, outputs, targets).instance_scores() == alone.instance_scores()


def test_ranks_are_scored_together():
    outputs, targets = labelled(MIXED, 0, size=20, dtype=torch.float32)
    first, second = [AttributeMetrics(MIXED, Baselines(MIXED, targets)) for _ in range(2)]
    first.update(outputs[:20], targets[:20])
    gathered = iter([*first.logits, *first.targets])
    second.dist_sync_fn = lambda mine, **_: [next(gathered), mine]
    second.distributed_available_fn = lambda: True
    with pytest.warns(UserWarning, match="The ``compute`` method"):  # the second rank has seen nothing
        found = second.compute()
    np.testing.assert_equal(found, measured(MIXED, outputs, targets).compute())


def test_a_nan_output_is_no_answer_in_predictions_and_instance_scores():
    metrics = AttributeMetrics(AttributeGroups({"g": ["a", "b"]}), [0.5] * 2)
    metrics.update(torch.tensor([[NAN, 1.0], [1.0, NAN]]), torch.tensor([[1.0, 1.0], [1.0, NAN]]))
    assert metrics.predictions()["a"][0].tolist() == pytest.approx([NAN, 1], nan_ok=True)
    assert all(map(math.isnan, metrics.instance_scores().values()))
    metrics.reset()
    metrics.update(torch.tensor([[1.0, NAN]]), torch.tensor([[1.0, NAN]]))  # no label, so nobody asked
    assert metrics.instance_scores()["instance_f1"] == 1
