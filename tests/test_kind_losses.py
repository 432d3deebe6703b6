"""The losses of attributes of every kind: numbers against loops and other libraries, laws, and what cannot be."""

import math

import pytest
import reference
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from strategies import groups_of_every_kind, labelled

from mtattn import FARAMTN, AttributeGroups, Categorical, DWSLoss, Number, Ordinal
from mtattn.functional import level_exceedance, number_losses
from mtattn.losses import AttributeLosses

NAN, INF, LN2 = math.nan, math.inf, math.log(2)
HAIR = Categorical("hair", ("none", "short", "long"))
STAGE = Ordinal("stage", ("child", "young", "middle", "old"))
AGE = Number("age", "years", mean=33, std=20)
MIXED = AttributeGroups({"face": ["Smiling", HAIR, "Hat"], "age": [AGE, STAGE, Ordinal("size", ("small", "large"))]})
seeds = st.integers(0, 10_000)


def means(groups, outputs, targets, **options):
    """The mean loss of each attribute."""
    sums, terms, _ = AttributeLosses(groups, **options).attribute_sums(outputs, targets)
    return sums / terms.clamp_min(1)


def slow_means(groups, outputs, targets, class_weight=None, pos_weight=None):
    losses = []
    for index, kind in enumerate(groups.kinds):
        columns, labels = outputs[:, groups.columns_of(groups.attributes[index])], targets[:, index]
        match kind:
            case Categorical(name, classes):
                weight = (class_weight or {}).get(name, [1.0] * len(classes))
                losses.append(reference.categorical_loss(columns, labels, weight))
            case Ordinal():
                losses.append(reference.ordinal_loss(columns, labels))
            case Number(_, _, mean, std):
                losses.append(reference.number_loss(columns[:, 0], labels, mean, std))
            case name:
                weight = [(pos_weight or {}).get(name, 1.0)]
                losses.append(reference.group_bce(columns, labels[:, None], (1,), weight)[0][0])
    return torch.stack([torch.as_tensor(loss, dtype=outputs.dtype) for loss in losses])


@given(groups_of_every_kind(), seeds)
def test_losses_and_gradients_equal_the_loops(groups, seed):
    outputs, targets = labelled(groups, seed)
    here, there = outputs.clone().requires_grad_(), outputs.clone().requires_grad_()
    got, expected = means(groups, here, targets), slow_means(groups, there, targets)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)  # means and deviations of numbers are in float32
    factors = torch.arange(1.0, len(got) + 1).double()
    (got * factors).sum().backward()
    if expected.requires_grad:
        (expected * factors).sum().backward()
        torch.testing.assert_close(here.grad, there.grad, rtol=1e-5, atol=1e-5)


def test_weights_of_labels_equal_the_loops():
    outputs, targets = labelled(MIXED, 1, size=12)
    class_weight, pos_weight = {"hair": [0.5, 2.0, 3.0]}, {"Hat": 4.0}
    got = means(MIXED, outputs, targets, class_weight=class_weight, pos_weight=pos_weight)
    expected = slow_means(MIXED, outputs, targets, class_weight=class_weight, pos_weight=pos_weight)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)
    assert (got != means(MIXED, outputs, targets))[[1, 2]].all()


@given(st.integers(2, 7), seeds)
def test_an_ordinal_equals_corn_loss_of_coral_pytorch(num_levels, seed):
    losses = pytest.importorskip("coral_pytorch.losses", reason="coral-pytorch is not installed")
    groups = AttributeGroups({"g": [Ordinal("x", tuple(map(str, range(num_levels))))]})
    outputs, targets = labelled(groups, seed, size=20, missing=0)
    torch.testing.assert_close(means(groups, outputs, targets)[0], losses.corn_loss(outputs, targets[:, 0], num_levels))


@given(st.integers(2, 9), seeds)
def test_a_categorical_is_cross_entropy_times_its_factor(num_classes, seed):
    groups = AttributeGroups({"g": [Categorical("x", tuple(map(str, range(num_classes))))]})
    outputs, targets = labelled(groups, seed, size=20, missing=0)
    expected = F.cross_entropy(outputs, targets[:, 0].long()) * LN2 / math.log(num_classes)
    torch.testing.assert_close(means(groups, outputs, targets)[0], expected)


@given(seeds)
def test_an_ordinal_of_two_levels_is_a_binary_attribute_to_the_bit(seed):
    binary = AttributeGroups({"a": ["x", "y"], "b": ["z"]})
    ordinal = AttributeGroups({"a": [Ordinal("x", ("no", "yes")), "y"], "b": [Ordinal("z", ("no", "yes"))]})
    outputs, targets = labelled(binary, seed, dtype=torch.float32)
    one, other = outputs.clone().requires_grad_(), outputs.clone().requires_grad_()
    total, same = DWSLoss(binary)(one, targets), DWSLoss(ordinal)(other, targets)
    total.backward()
    same.backward()
    assert torch.equal(total, same)
    assert torch.equal(one.grad, other.grad)
    decoded = ordinal.decode(outputs)
    assert [level == "yes" for level in decoded["x"]] == (binary.decode(outputs)["x"] > 0.5).tolist()


@given(st.integers(1, 9), seeds, st.sampled_from([0.1, 10.0, 1e3]))
def test_the_probability_to_lie_above_a_level_falls_for_any_outputs(num_thresholds, seed, scale):
    outputs = scale * torch.randn(5, num_thresholds, generator=torch.Generator().manual_seed(seed))
    assert (level_exceedance(outputs).diff(dim=1) <= 0).all()


class TestNothingKnown:
    @given(groups_of_every_kind(), seeds)
    def test_costs_log_2_on_every_attribute(self, groups, seed):
        outputs, targets = labelled(groups, seed, size=30, missing=0.1)
        got = means(groups, 0 * outputs, targets)
        for mean, kind in zip(got, groups.kinds, strict=True):
            if not isinstance(kind, Number):
                torch.testing.assert_close(mean.item(), LN2, rtol=1e-9, atol=0)

    def test_costs_log_2_on_normal_numbers(self):
        labels = torch.linspace(0, 1, 20_001).double()[1:-1, None]
        labels = 33 + 20 * math.sqrt(2) * torch.erfinv(2 * labels - 1)  # their quantiles
        losses = number_losses(torch.zeros_like(labels), labels, torch.tensor([33.0]), torch.tensor([20.0]))
        assert losses.mean().item() == pytest.approx(LN2, rel=1e-3)

    @pytest.mark.parametrize("size", [1, 7])
    def test_costs_log_2_in_all(self, size):
        groups = MIXED.only(["Smiling", "hair", "stage", "size", "Hat"])
        outputs, targets = labelled(groups, 3, size=size, missing=0.2)
        assert DWSLoss(groups)(0 * outputs, targets).item() == pytest.approx(LN2)


class TestMissingLabels:
    @given(groups_of_every_kind(), seeds, st.sampled_from([NAN, INF, -INF, 1e30]))
    def test_whatever_stands_there_never_matters_and_has_no_gradient(self, groups, seed, hidden):
        outputs, targets = labelled(groups, seed)
        unknown = targets.isnan()[:, list(groups.attribute_of)]
        spoilt = outputs.masked_fill(unknown, hidden).requires_grad_()
        outputs.requires_grad_()
        total, same = (DWSLoss(groups)(out, targets) for out in (outputs, spoilt))
        total.backward()
        same.backward()
        assert torch.equal(total, same)
        assert torch.equal(outputs.grad, spoilt.grad)
        assert (spoilt.grad[unknown] == 0).all()

    def test_thresholds_above_the_level_have_no_gradient(self):
        groups = AttributeGroups({"g": [STAGE]})
        outputs = torch.zeros(3, 3, requires_grad=True)
        DWSLoss(groups)(outputs, torch.tensor([[0.0], [1.0], [3.0]])).backward()
        assert (outputs.grad != 0).tolist() == [[True, False, False], [True, True, False], [True, True, True]]

    def test_of_all_labels_give_zero(self):
        outputs, targets = labelled(MIXED, 0)
        outputs.requires_grad_()
        total = DWSLoss(MIXED)(outputs, torch.full_like(targets, NAN))
        total.backward()
        assert total.item() == 0
        assert (outputs.grad == 0).all()


class TestOrder:
    @given(groups_of_every_kind(), seeds)
    def test_of_attributes_and_groups_does_not_matter(self, groups, seed):
        outputs, targets = labelled(groups, seed)
        plain = groups.to_plain()
        turned = AttributeGroups.from_plain({name: plain[name][::-1] for name in reversed(plain)})
        columns = [c for name in turned.attributes for c in range(*groups.columns_of(name).indices(99))]
        attributes = [groups.attributes.index(name) for name in turned.attributes]
        torch.testing.assert_close(
            DWSLoss(turned)(outputs[:, columns], targets[:, attributes]), DWSLoss(groups)(outputs, targets)
        )
        torch.testing.assert_close(
            DWSLoss(turned).group_losses(outputs[:, columns], targets[:, attributes]),
            DWSLoss(groups).group_losses(outputs, targets).flip(0),
            equal_nan=True,
        )

    @given(st.permutations(range(4)), seeds)
    def test_of_classes_does_not_matter(self, order, seed):
        groups = AttributeGroups({"g": [Categorical("x", ("a", "b", "c", "d"))]})
        outputs, targets = labelled(groups, seed)
        renamed = torch.tensor([float(order.index(index)) for index in range(4)]).double()
        turned = torch.where(targets.isnan(), NAN, renamed[targets.nan_to_num(0).long()])
        torch.testing.assert_close(DWSLoss(groups)(outputs[:, order], turned), DWSLoss(groups)(outputs, targets))


class TestGroups:
    def test_count_attributes_and_not_columns(self):
        groups = AttributeGroups({"one": ["a"], "many": [Ordinal("b", tuple("abcdefghij"))]})
        outputs, targets = torch.zeros(4, 10), torch.tensor([[1.0, 9], [1, 9], [0, 9], [0, 9]])
        outputs[:, 1:] = 100  # certain and right
        torch.testing.assert_close(DWSLoss(groups)(outputs, targets).item(), LN2 / 2)

    def test_the_total_is_the_mean_over_labels(self):
        outputs, targets = labelled(MIXED, 5, size=9)
        sums, terms, labels = AttributeLosses(MIXED).attribute_sums(outputs, targets)
        expected = (sums / terms * labels).sum() / labels.sum()
        torch.testing.assert_close(DWSLoss(MIXED)(outputs, targets), expected)

    @given(groups_of_every_kind(), seeds)
    def test_batches_with_the_counts_of_the_step_add_up_to_the_whole(self, groups, seed):
        outputs, targets = labelled(groups, seed, size=9)
        whole, parts, total = DWSLoss(groups), DWSLoss(groups), 0.0
        counts = sum(parts.label_counts(targets[rows]) for rows in (slice(0, 2), slice(2, 9)))
        for rows in (slice(0, 2), slice(2, 9)):
            share = (~targets[rows].isnan()).sum() / (~targets.isnan()).sum().clamp_min(1)
            total += share * parts(outputs[rows], targets[rows], counts)
        torch.testing.assert_close(total, whole(outputs, targets), rtol=1e-5, atol=1e-9)
        whole.step()
        parts.step()
        torch.testing.assert_close(parts.history.latest, whole.history.latest, equal_nan=True)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_gradients_and_their_gradients_are_right(weighted):
    options = {"class_weight": {"hair": {"long": 2.0}}, "pos_weight": {"Hat": 3.0}} if weighted else {}
    loss = DWSLoss(MIXED, **options)
    outputs, targets = labelled(MIXED, 2)
    assert targets.isnan().any()
    assert torch.autograd.gradcheck(lambda out: loss(out, targets), outputs.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda out: loss(out, targets), outputs)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("hair", 3), ("hair", -1), ("hair", 0.5), ("stage", 4), ("stage", -1), ("stage", 1.5), ("size", 2), ("age", INF)],
)
def test_a_label_that_cannot_be_makes_the_loss_of_its_group_not_finite(attribute, value):
    outputs, targets = labelled(MIXED, 4, missing=0)
    targets[2, MIXED.attributes.index(attribute)] = value
    group = MIXED.group_of[MIXED.attributes.index(attribute)]
    loss = DWSLoss(MIXED)
    finite = loss.group_losses(outputs, targets).isfinite().tolist()
    assert finite == [index != group for index in range(2)]
    assert not loss(outputs, targets).isfinite()


def test_all_kinds_work_in_half_precision():
    outputs, targets = labelled(MIXED, 6, size=50, dtype=torch.float32)
    for dtype in (torch.float16, torch.bfloat16):
        total = DWSLoss(MIXED)(outputs.to(dtype), targets)
        assert total.dtype == torch.float32
        torch.testing.assert_close(total, DWSLoss(MIXED)(outputs.to(dtype).float(), targets))
        torch.testing.assert_close(DWSLoss(MIXED).to(dtype)(outputs, targets), DWSLoss(MIXED)(outputs, targets))


def test_a_loss_moved_without_its_values_computes_the_same():
    outputs, targets = labelled(MIXED, 6, dtype=torch.float32)
    moved = DWSLoss(MIXED, device="meta").to_empty(device="cpu")
    moved.weighting.reset()
    assert torch.equal(moved(outputs, targets), DWSLoss(MIXED)(outputs, targets))


def test_all_state_is_made_on_the_device_of_the_loss_and_weights_are_looked_at_before():
    weights = {"pos_weight": torch.ones(6).double(), "class_weight": {"hair": [1.0, 2.0, 3.0]}}
    with torch.device("meta"):
        default, given = DWSLoss(MIXED, **weights), DWSLoss(MIXED, **weights, device="cpu")
    for loss, device in ((default, "meta"), (given, "cpu"), (DWSLoss(MIXED, **weights, device="meta"), "meta")):
        assert {buffer.device.type for buffer in loss.buffers()} == {device}
        assert loss.pos_weight.dtype == loss.class_weight.dtype == torch.float32
    outputs, targets = labelled(MIXED, 6, dtype=torch.float32)
    assert torch.equal(given(outputs, targets), DWSLoss(MIXED, **weights)(outputs, targets))


def test_classes_and_attributes_without_a_weight_weigh_one():
    groups = AttributeGroups({"a": [HAIR, Categorical("lips", ("thin", "full"))]})
    assert DWSLoss(groups, class_weight={"lips": {"full": 3.0}}).class_weight.tolist() == [[1, 1, 1], [1, 3, 1]]
    outputs, targets = labelled(groups, 3, dtype=torch.float32)
    assert torch.equal(DWSLoss(groups, class_weight={})(outputs, targets), DWSLoss(groups)(outputs, targets))
    binary = AttributeGroups({"a": ["Hat"]})
    assert DWSLoss(binary, class_weight={})(torch.zeros(1, 1), torch.ones(1, 1)).item() == pytest.approx(LN2)


def test_soft_labels_of_binary_attributes_may_stand_beside_other_kinds():
    outputs, targets = torch.tensor([[0.7, 1.0, 2.0]]), torch.tensor([[0.3, 1.0]])
    got = means(AttributeGroups({"a": ["Smiling", Categorical("hair", ("short", "long"))]}), outputs, targets)
    torch.testing.assert_close(got[0], F.binary_cross_entropy_with_logits(outputs[0, 0], targets[0, 0]))


@pytest.mark.parametrize("groups", [MIXED, *(AttributeGroups({"a": [kind]}) for kind in ("Hat", HAIR, STAGE, AGE))])
@pytest.mark.parametrize(("dtype", "summed"), [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)])
def test_sums_and_their_counts_are_of_one_type(groups, dtype, summed):
    outputs, targets = labelled(groups, 0, dtype=torch.float32)
    assert {part.dtype for part in AttributeLosses(groups).attribute_sums(outputs.to(dtype), targets)} == {summed}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"pos_weight": {"hair": 2.0}}, "pos_weight is for binary attributes, got 2 for 'hair'", id="kind"),
        pytest.param({"pos_weight": {"Hta": 2.0}}, "no attribute 'Hta'; did you mean 'Hat'", id="misspelt"),
        pytest.param({"class_weight": {"Hat": [1.0, 2.0]}}, "no categorical attribute 'Hat'", id="binary"),
        pytest.param({"class_weight": {"hiar": [1.0] * 3}}, "no attribute 'hiar'; did you mean 'hair'", id="no name"),
        pytest.param({"class_weight": {"stage": [1.0] * 4}}, "no categorical attribute 'stage'", id="ordinal"),
        pytest.param(
            {"class_weight": {"hair": {"lng": 2.0}}}, "no class of 'hair' 'lng'; did you mean 'long'", id="class"
        ),
        pytest.param({"class_weight": {"hair": [1.0, 2.0]}}, "class_weight .* 3 classes of 'hair', got 2", id="width"),
        pytest.param({"class_weight": {"hair": {"long": 0.0}}}, "class_weight is positive and finite", id="zero"),
        pytest.param({"class_weight": {"hair": [1.0, NAN, 1.0]}}, "class_weight is positive and finite", id="NaN"),
    ],
)
def test_weights_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^DWSLoss: {message}"):
        DWSLoss(MIXED, **options)


def test_class_weights_where_no_attribute_has_classes_are_refused():
    with pytest.raises(ValueError, match=r"^DWSLoss: no categorical attribute 'Hat'; there are none\.$"):
        DWSLoss(AttributeGroups({"a": ["Hat"]}), class_weight={"Hat": [1.0, 2.0]})


@pytest.mark.parametrize("weight", [[1.0, 2.0, 3.0], 2.0], ids=["list", "number"])
def test_class_weights_without_names_are_refused(weight):
    with pytest.raises(TypeError, match=r"DWSLoss: class_weight is a mapping from .*got a|^Type-check error"):
        DWSLoss(MIXED, class_weight=weight)


def test_a_number_without_its_mean_is_refused():
    with pytest.raises(ValueError, match="DWSLoss: the number 'age' has no mean and std yet"):
        DWSLoss(AttributeGroups({"g": [Number("age")]}))


def test_outputs_and_targets_of_another_width_are_refused():
    outputs, targets = labelled(MIXED, 0, dtype=torch.float32)
    message = r"outputs are \(batch, 10\), the columns of groups.columns, and targets \(batch, 6\).* got"
    for out, labels in ((outputs[:, :6], targets), (outputs, outputs), (outputs[:3], targets)):
        with pytest.raises((ValueError, TypeError), match=f"{message}|^Type-check error"):
            DWSLoss(MIXED)(out, labels)


def test_the_state_of_a_binary_loss_has_the_keys_it_always_had():
    loss = DWSLoss(AttributeGroups({"a": ["x"]}), pos_weight=[2.0])
    keys = {"pos_weight", "weighting.weights", "weighting._history", "weighting._period", "weighting._draws"}
    assert set(loss.state_dict()) == keys
    assert {name for name, _ in loss.named_buffers()} == keys | {"_membership"}


def test_maps_average_to_the_outputs_for_every_kind():
    torch.manual_seed(0)
    model = FARAMTN(torch.nn.Conv2d(3, 16, 4, stride=4), 16, MIXED, num_heads=2).double().eval()
    images = torch.rand(2, 3, 16, 16).double()
    maps = model.attribute_maps(images)
    assert maps.shape[1] == len(MIXED.columns.attributes)
    torch.testing.assert_close(maps.mean((-2, -1)), model(images))


def test_every_kind_is_learnt():
    torch.manual_seed(0)
    features, groups = torch.randn(200, 4), MIXED.only(["Smiling", "hair", "age", "stage"])
    targets = torch.stack(
        [
            (features[:, 0] > 0).float(),
            features[:, :3].argmax(1).float(),
            33 + 20 * features[:, 2],
            (features[:, 1:2] > torch.tensor([-1.0, 0.0, 1.0])).sum(1).float(),
        ],
        1,
    )
    head, loss = torch.nn.Linear(4, len(groups.columns.attributes)), DWSLoss(groups)
    optimizer = torch.optim.Adam(head.parameters(), 0.1)
    for _ in range(150):
        optimizer.zero_grad()
        loss(head(features), targets).backward()
        optimizer.step()
    decoded = groups.decode(head(features))
    assert ((decoded["Smiling"] > 0.5) == (targets[:, 0] > 0.5)).float().mean() > 0.95
    assert sum(HAIR.classes[int(t)] == c for t, c in zip(targets[:, 1], decoded["hair"], strict=True)) > 180
    assert sum(STAGE.levels[int(t)] == c for t, c in zip(targets[:, 3], decoded["stage"], strict=True)) > 180
    assert (decoded["age"] - targets[:, 2]).abs().mean() < 2
