"""DynamicWeighting and DWSLoss: numbers against the loops, state through a training, missing labels, several ranks."""

import copy
import io
import math
import pickle

import pytest
import reference
import torch
import torch.nn.functional as F
from jaxtyping import TypeCheckError

from mtattn import AttributeGroups, DWSLoss, DynamicWeighting, Number, Ordinal

NAN, INF = math.nan, math.inf
GROUPS = AttributeGroups({"nose": ["Big_Nose"], "eyes": ["Eyeglasses", "Narrow_Eyes", "Bags"], "chin": ["Goatee"]})
MIXED = AttributeGroups({"face": ["Hat", Ordinal("age", ("young", "old")), Number("height", mean=170, std=10)]})
PERIODS = [[2.0, 0.7, 0.1], [1.5, 0.65, 0.09], [0.3, 0.6, 0.02], [0.25, 0.61, 0.01]]
RULES = ["dws", "equal", "dwa", "trend", "random"]
ALL_RULES = pytest.mark.parametrize("rule", RULES)


def twice_the_latest(history):
    return 2 * history.latest


def run_period(weighting, *losses):
    for row in losses:
        weighting(torch.tensor(row, device=weighting.weights.device))
    weighting.step()


def assert_same_state(module, before):
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True, msg=name)


def batch(seed, size=6, *, missing=0.3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, 5, generator=generator, dtype=dtype)
    targets = torch.rand(size, 5, generator=generator, dtype=dtype)
    targets[torch.rand(size, 5, generator=generator) < missing] = NAN
    return logits, targets


def trained(rule, num_periods=2, device="cpu", **options):
    """A loss in the middle of its third period."""
    loss = DWSLoss(GROUPS, rule=rule, device=device, **options)
    for period in range(num_periods):
        for seed in range(3):
            loss(*(tensor.to(device) for tensor in batch(10 * period + seed)))
        loss.step()
    loss(*(tensor.to(device) for tensor in batch(99)))
    return loss


def continued(loss, device="cpu"):
    """Everything that the next two periods show."""
    seen = []
    for period in range(2):
        seen += [loss(*(tensor.to(device) for tensor in batch(100 + 10 * period + seed))) for seed in range(2)]
        loss.step()
        seen += [loss.weights.clone(), *(row.clone() for row in loss.history)]
    return torch.cat([tensor.detach().reshape(-1) for tensor in seen])


class TestDynamicWeighting:
    @pytest.mark.parametrize("rule", ["dws", "equal", "dwa", "trend"])
    def test_the_weights_follow_the_published_formula_period_after_period(self, rule, device):
        weighting = DynamicWeighting(3, rule=rule, device=device)
        for losses, expected in zip(PERIODS, reference.weights_over_time(rule, PERIODS), strict=True):
            run_period(weighting, losses)
            torch.testing.assert_close(weighting.weights.cpu(), torch.tensor(expected), rtol=1e-5, atol=1e-6)

    def test_dwa_follows_its_formula_when_a_loss_explodes(self):
        weighting, periods = DynamicWeighting(2, rule="dwa"), [[0.001, 1.0], [0.5, 1.0]]
        for losses, expected in zip(periods, reference.weights_over_time("dwa", periods), strict=True):
            run_period(weighting, losses)
            torch.testing.assert_close(weighting.weights, torch.tensor(expected))

    @pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0])
    def test_alpha_is_the_exponent_of_the_loss_left(self, alpha):
        weighting = DynamicWeighting(3, alpha=alpha)
        for losses, expected in zip(PERIODS, reference.weights_over_time("dws", PERIODS, alpha=alpha), strict=True):
            run_period(weighting, losses)
            torch.testing.assert_close(weighting.weights, torch.tensor(expected), rtol=1e-5, atol=1e-6)

    @ALL_RULES
    def test_a_new_one_weighs_all_tasks_alike(self, rule):
        assert DynamicWeighting(3, rule=rule).weights.tolist() == [1, 1, 1]

    @pytest.mark.parametrize("rule", ["dwa", "trend"])
    def test_weights_are_one_for_the_first_two_periods(self, rule):
        weighting = DynamicWeighting(3, rule=rule)
        run_period(weighting, PERIODS[0])
        assert weighting.weights.tolist() == [1, 1, 1]
        run_period(weighting, PERIODS[1])
        assert weighting.weights.tolist() != [1, 1, 1]

    def test_the_result_is_the_weighted_mean(self, device):
        weighting = DynamicWeighting(3, device=device)
        for losses in PERIODS[:2]:
            run_period(weighting, losses)
        weights = reference.weights_over_time("dws", PERIODS[:2])[-1]
        expected = sum(w * loss for w, loss in zip(weights, PERIODS[2], strict=True)) / 3
        assert weighting(torch.tensor(PERIODS[2], device=device)).item() == pytest.approx(expected)

    def test_counts_are_shares_of_the_mean(self):
        total = DynamicWeighting(2)(torch.tensor([1.0, 4.0]), torch.tensor([3.0, 1.0]))
        assert total.item() == pytest.approx((3 * 1 + 1 * 4) / 4)

    def test_counts_are_shares_of_the_history(self):
        weighting = DynamicWeighting(2)
        weighting(torch.tensor([1.0, 4.0]), torch.tensor([3.0, 1.0]))
        weighting(torch.tensor([2.0, 8.0]), torch.tensor([1.0, 3.0]))
        weighting.step()
        assert weighting.history.latest.tolist() == [1.25, 7.0]

    def test_the_gradient_of_each_loss_is_its_weight_over_the_number_of_tasks(self):
        weighting = DynamicWeighting(3)
        for losses in PERIODS[:2]:
            run_period(weighting, losses)
        losses = torch.tensor(PERIODS[2], requires_grad=True)
        weighting(losses).backward()
        torch.testing.assert_close(losses.grad, weighting.weights / 3)

    def test_the_history_holds_the_first_the_last_but_one_and_the_last_period(self):
        weighting = DynamicWeighting(3)
        for losses in PERIODS:
            run_period(weighting, losses)
        first, previous, latest = weighting.history
        torch.testing.assert_close(first, torch.tensor(PERIODS[0]))
        torch.testing.assert_close(previous, torch.tensor(PERIODS[-2]))
        torch.testing.assert_close(latest, torch.tensor(PERIODS[-1]))
        torch.testing.assert_close(weighting.loss_left, torch.tensor(PERIODS[-1]) / torch.tensor(PERIODS[0]))

    def test_the_history_starts_unknown(self):
        assert all(row.isnan().all() for row in DynamicWeighting(3).history)
        assert DynamicWeighting(3).loss_left.isnan().all()

    @ALL_RULES
    def test_the_history_holds_unweighted_losses(self, rule):
        weighting = DynamicWeighting(3, rule=rule)
        for losses in PERIODS:
            run_period(weighting, losses, losses)
            torch.testing.assert_close(weighting.history.latest, torch.tensor(losses))

    @ALL_RULES
    def test_evaluation_is_not_remembered(self, rule):
        weighting = DynamicWeighting(3, rule=rule)
        run_period(weighting, PERIODS[0])
        weighting(torch.tensor(PERIODS[1]))
        before = copy.deepcopy(weighting.state_dict())
        weighting.eval()(torch.tensor(PERIODS[2]))
        assert_same_state(weighting, before)

    def test_reset_forgets_everything(self):
        weighting = DynamicWeighting(3)
        run_period(weighting, PERIODS[0])
        run_period(weighting, PERIODS[1])
        weighting(torch.tensor(PERIODS[2]))
        weighting.reset()
        assert_same_state(weighting, DynamicWeighting(3).state_dict())

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
    def test_half_precision_counts_are_multiplied_in_float32(self, dtype):
        weighting = DynamicWeighting(2, rule="equal")
        losses, counts = torch.tensor([20.125, 3.0], dtype=dtype), torch.tensor([8200.0, 8.0], dtype=dtype)
        expected = (counts.double() * losses.double()).sum() / counts.double().sum()
        torch.testing.assert_close(weighting(losses, counts).double(), expected, rtol=1e-6, atol=0)
        weighting.step()
        torch.testing.assert_close(weighting.history.latest, losses.float(), rtol=1e-6, atol=0)

    @pytest.mark.parametrize("value", [NAN, INF, -INF])
    def test_a_loss_that_is_not_finite_shows_in_the_result_but_not_in_the_history(self, value):
        weighting = DynamicWeighting(2)
        assert not weighting(torch.tensor([value, 1.0])).isfinite()
        weighting(torch.tensor([3.0, 1.0]))
        weighting.step()
        assert weighting.history.latest.tolist() == [3, 1]
        assert weighting.weights.tolist() == [1, 1]

    @ALL_RULES
    def test_a_period_without_any_loss_changes_nothing(self, rule):
        weighting = DynamicWeighting(3, rule=rule)
        run_period(weighting, *PERIODS[:2])
        run_period(weighting, PERIODS[2])
        before = copy.deepcopy(weighting.state_dict())
        weighting.step()
        assert_same_state(weighting, before)

    @ALL_RULES
    def test_a_task_absent_from_a_period_keeps_its_weight_and_its_history(self, rule):
        weighting = DynamicWeighting(3, rule=rule)
        for losses in PERIODS[:3]:
            run_period(weighting, losses)
        weight, history = weighting.weights[1].clone(), [row[1].clone() for row in weighting.history]
        weighting.train(rule != "random")  # a call in training would draw new random weights
        weighting(torch.tensor([0.2, NAN, 0.01]), torch.tensor([1.0, 0.0, 1.0]))
        weighting.step()
        assert torch.equal(weighting.weights[1], weight)
        assert [row[1] for row in weighting.history] == history
        assert weighting.weights.mean().item() == pytest.approx(1)

    def test_a_task_that_comes_late_starts_its_own_history(self):
        weighting = DynamicWeighting(2)
        for losses, counts in ([[1.0, NAN], [1.0, 0.0]], [[0.5, 3.0], [1.0, 1.0]], [[0.5, 1.5], [1.0, 1.0]]):
            weighting(torch.tensor(losses), torch.tensor(counts))
            weighting.step()
        assert weighting.history.first.tolist() == [1, 3]
        assert weighting.loss_left.tolist() == [0.5, 0.5]
        assert weighting.weights.tolist() == [1, 1]

    def test_a_function_of_the_history_is_a_rule(self):
        weighting = DynamicWeighting(2, rule=twice_the_latest)
        run_period(weighting, [1.0, 3.0])
        assert weighting.weights.tolist() == [0.5, 1.5]

    def test_a_task_for_which_a_rule_returns_nan_keeps_its_weight(self):
        weighting = DynamicWeighting(3, rule=lambda history: history.latest.new_tensor([NAN, 1.0, 3.0]))
        run_period(weighting, PERIODS[0])
        assert weighting.weights.tolist() == [1, 0.5, 1.5]

    def test_a_rule_sees_the_first_the_previous_and_the_latest_losses(self):
        seen = []

        def rule(history):
            seen.append([row.tolist() for row in history])
            return torch.ones_like(history.latest)

        weighting = DynamicWeighting(2, rule=rule)
        run_period(weighting, [4.0, 8.0])
        run_period(weighting, [2.0, 4.0])
        run_period(weighting, [1.0, 2.0])
        assert seen[2] == [[4, 8], [2, 4], [1, 2]]
        assert math.isnan(seen[0][1][0])

    def test_a_task_whose_first_loss_was_zero_keeps_its_weight(self):
        weighting = DynamicWeighting(3)
        for losses in ([0.0, 1.0, 1.0], [0.1, 0.5, 0.25]):
            run_period(weighting, losses)
        assert weighting.weights[0] == 1
        assert weighting.weights[1:].tolist() == pytest.approx([4 / 3, 2 / 3])
        assert weighting.loss_left.isnan().tolist() == [True, False, False]

    def test_a_loss_of_count_zero_may_be_anything(self):
        total = DynamicWeighting(2)(torch.tensor([NAN, 1.5]), torch.tensor([0.0, 2.0]))
        assert total.item() == 1.5

    def test_a_rule_may_return_small_numbers(self):
        weighting = DynamicWeighting(2, rule=lambda history: 0.1 * history.latest)
        run_period(weighting, [1.0, 3.0])
        assert weighting.weights.tolist() == pytest.approx([0.5, 1.5])

    def test_the_largest_seed_is_taken(self):
        weighting = DynamicWeighting(2, rule="random", seed=2**31 - 1)
        weighting(torch.ones(2))
        assert weighting.weights.mean().item() == pytest.approx(1)

    def test_the_state_is_in_float32_whatever_the_default(self):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            dtypes = {buffer.dtype for buffer in DynamicWeighting(2).buffers()}
            kinds = {buffer.dtype for buffer in DWSLoss(MIXED, pos_weight=[1.0] * 3).buffers()}
        finally:
            torch.set_default_dtype(before)
        assert dtypes == {torch.float32, torch.int64}
        assert kinds == {torch.float32, torch.int64, torch.bool}

    def test_alpha_is_shown_for_its_own_rule_only(self):
        assert repr(DynamicWeighting(2, rule="dwa")) == "DynamicWeighting(2, rule='dwa')"
        assert repr(DynamicWeighting(2, alpha=0.5)) == "DynamicWeighting(2, rule='dws', alpha=0.5)"

    def test_random_weights_differ_from_call_to_call(self):
        weighting = DynamicWeighting(3, rule="random")
        seen = set()
        for _ in range(20):
            weighting(torch.ones(3))
            seen.add(tuple(weighting.weights.tolist()))
            assert weighting.weights.mean().item() == pytest.approx(1)
            assert (weighting.weights > 0).all()
        assert len(seen) == 20

    def test_a_step_leaves_random_weights_alone(self):
        weighting = DynamicWeighting(3, rule="random")
        weighting(torch.ones(3))
        before = weighting.weights.clone()
        weighting.step()
        assert torch.equal(weighting.weights, before)

    def test_the_seed_decides_random_weights_and_the_global_generator_does_not(self):
        def first_weights(seed):
            weighting = DynamicWeighting(3, rule="random", seed=seed)
            torch.manual_seed(seed + 100)
            weighting(torch.ones(3))
            return weighting.weights.tolist()

        assert first_weights(1) == first_weights(1)
        assert first_weights(1) != first_weights(2)

    @ALL_RULES
    def test_two_calls_before_one_backward_give_both_gradients(self, rule):
        weighting = DynamicWeighting(2, rule=rule)
        one, two = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        first = weighting(one)
        weights = weighting.weights.clone()
        second = weighting(two)
        (first + second).backward()
        torch.testing.assert_close(one.grad, weights / 2)
        torch.testing.assert_close(two.grad, weighting.weights / 2)

    def test_a_step_between_forward_and_backward_does_not_reach_the_gradient(self):
        weighting = DynamicWeighting(2)
        run_period(weighting, [1.0, 1.0])
        losses = torch.tensor([1.0, 3.0], requires_grad=True)
        total = weighting(losses)
        weighting.step()
        total.backward()
        assert losses.grad.tolist() == [0.5, 0.5]

    def test_no_graph_is_kept_in_the_state(self):
        weighting = DynamicWeighting(2)
        weighting(torch.ones(2, requires_grad=True) * 2)
        weighting.step()
        assert not any(buffer.requires_grad for buffer in weighting.buffers())

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_the_state_stays_in_float32(self, dtype):
        weighting = DynamicWeighting(2)
        run_period(weighting, [1.0, 3.1])
        expected = weighting.history.latest.clone()
        weighting.to(dtype)
        assert {buffer.dtype for buffer in weighting.buffers()} == {torch.float32, torch.int64}
        assert torch.equal(weighting.history.latest, expected)
        weighting(torch.ones(2, dtype=dtype))
        weighting.step()
        assert weighting.weights.dtype == torch.float32

    def test_losses_of_half_precision_are_summed_in_float32(self):
        weighting = DynamicWeighting(1)
        for _ in range(3000):
            weighting(torch.full((1,), 0.1, dtype=torch.bfloat16))
        weighting.step()
        assert weighting.history.latest.item() == pytest.approx(0.1, rel=0.01)
        assert DynamicWeighting(301)(torch.ones(301, dtype=torch.bfloat16)).item() == pytest.approx(1)

    def test_a_state_on_the_meta_device_can_be_filled_and_reset(self):
        weighting = DynamicWeighting(2, device="meta").to_empty(device="cpu")
        weighting.reset()
        run_period(weighting, [1.0, 1.0])
        assert weighting.weights.tolist() == [1, 1]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            pytest.param({"num_tasks": 0}, "num_tasks must be at least 1, got 0", id="no task"),
            pytest.param({"alpha": -1.0}, "alpha must be at least 0 and finite, got -1.0", id="alpha"),
            pytest.param({"alpha": NAN}, "alpha must be at least 0 and finite, got nan", id="NaN alpha"),
            pytest.param({"alpha": INF}, "alpha must be at least 0 and finite, got inf", id="infinite alpha"),
            pytest.param({"seed": 2**31}, r"seed must be in \[0, 2\*\*31\), got 2147483648", id="large seed"),
            pytest.param({"seed": -1}, r"seed must be in \[0, 2\*\*31\), got -1", id="seed"),
            pytest.param({"rule": "dvs"}, "no rule 'dvs'; did you mean 'dws'", id="misspelt rule"),
        ],
    )
    def test_options_that_cannot_be_are_refused(self, arguments, message):
        with pytest.raises((ValueError, TypeCheckError), match=rf"^DynamicWeighting: {message}|^Type-check error"):
            DynamicWeighting(**{"num_tasks": 2} | arguments)

    @pytest.mark.parametrize("shape", [(3,), (2, 1), ()], ids=["too many", "matrix", "scalar"])
    def test_another_number_of_losses_is_refused(self, shape):
        with pytest.raises(
            (ValueError, TypeCheckError), match=r"expects 2 losses in one tensor, got shape \(|^Type-check error"
        ):
            DynamicWeighting(2)(torch.ones(shape))

    def test_a_list_of_losses_is_refused(self):
        with pytest.raises(
            (ValueError, TypeCheckError), match=r"expects 2 losses in one tensor, got a list|^Type-check error"
        ):
            DynamicWeighting(2)([torch.tensor(1.0), torch.tensor(2.0)])

    def test_what_was_read_of_the_history_stays_as_it_was(self):
        weighting, latest = DynamicWeighting(2), []
        for period in range(3):
            weighting(torch.tensor([1.0, 2.0]) + period)
            weighting.step()
            latest.append(weighting.history.latest)
        assert torch.stack(latest).tolist() == [[1.0, 2.0], [2.0, 3.0], [3.0, 4.0]]

    @pytest.mark.parametrize("shape", [(1,), (3,)])
    def test_another_number_of_counts_is_refused(self, shape):
        with pytest.raises(
            (ValueError, TypeCheckError), match=r"counts has one number for each of 2 losses|^Type-check error"
        ):
            DynamicWeighting(2)(torch.ones(2), torch.ones(shape))

    def test_counts_may_be_small_fractions(self):
        total = DynamicWeighting(2)(torch.tensor([1.0, 4.0]), torch.tensor([0.03, 0.01]))
        assert total.item() == pytest.approx(1.75)

    @pytest.mark.parametrize("result", [torch.ones(3), torch.tensor(1.0), [1.0, 1.0]], ids=["long", "scalar", "list"])
    def test_a_rule_that_returns_something_else_is_refused(self, result):
        weighting = DynamicWeighting(2, rule=lambda _: result)
        weighting(torch.ones(2))
        with pytest.raises(ValueError, match="a rule returns a tensor with one number for each of 2 tasks, got"):
            weighting.step()

    def test_a_rule_that_gives_no_task_any_weight_changes_nothing(self):
        weighting = DynamicWeighting(2, rule=lambda _: torch.zeros(2))
        weighting(torch.ones(2))
        weighting.step()
        assert weighting.weights.tolist() == [1, 1]

    def test_a_rule_never_makes_a_weight_negative(self):
        weighting = DynamicWeighting(3, rule=lambda _: torch.tensor([-1.0, 1.0, 3.0]))
        weighting(torch.ones(3))
        weighting.step()
        assert weighting.weights.tolist() == [1, 0.5, 1.5]

    @pytest.mark.parametrize("rule", ["dws", "dwa"])
    def test_a_task_with_a_negative_loss_keeps_its_weight(self, rule):
        weighting = DynamicWeighting(3, rule=rule)
        for losses in ([0.5, 1.0, 1.0], [-0.5, 0.5, 0.9]):
            run_period(weighting, losses)
        assert weighting.weights[0] == 1
        assert weighting.weights[1] < 1 < weighting.weights[2]


class TestDWSLoss:
    @pytest.mark.parametrize("weighted", [False, True], ids=["plain", "pos_weight"])
    def test_equals_the_loops(self, weighted, device):
        pos_weight = torch.tensor([1.0, 3.0, 0.5, 2.0, 1.5]) if weighted else None
        loss = trained("dws", device=device, pos_weight=pos_weight)
        logits, targets = batch(1, dtype=torch.float64)
        there, here = logits.to(device).requires_grad_(), logits.clone().requires_grad_()
        got = loss(there, targets.to(device))
        weights = loss.weights.double().cpu()
        assert (weights != 1).all()
        expected = reference.dws_loss(here, targets, GROUPS.sizes, weights, pos_weight)
        torch.testing.assert_close(got.cpu(), expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(
            torch.autograd.grad(got, there)[0].cpu(), torch.autograd.grad(expected, here)[0], rtol=1e-9, atol=1e-12
        )

    def test_a_group_without_labels_takes_nothing_from_the_gradients_of_the_others(self):
        logits, targets = torch.zeros(2, 5, requires_grad=True), torch.tensor([[0.0, NAN, NAN, NAN, 1.0]] * 2)
        DWSLoss(GROUPS).group_losses(logits, targets).nan_to_num().sum().backward()
        assert logits.grad.isfinite().all()
        assert logits.grad[:, 0].abs().min() > 0

    def test_group_losses_equal_the_loops(self, device):
        logits, targets = batch(1, dtype=torch.float64)
        got = DWSLoss(GROUPS, device=device).group_losses(logits.to(device), targets.to(device))
        expected, _ = reference.group_bce(logits, targets, GROUPS.sizes)
        torch.testing.assert_close(got.cpu(), expected)

    @pytest.mark.parametrize("weighted", [False, True], ids=["plain", "pos_weight"])
    def test_gradcheck_passes(self, weighted, device):
        loss = trained("dws", device=device, pos_weight=torch.tensor([1.0, 3.0, 0.5, 2.0, 1.5]) if weighted else None)
        logits, targets = (tensor.to(device) for tensor in batch(1, dtype=torch.float64))
        assert targets.isnan().any()
        assert torch.autograd.gradcheck(lambda logits: loss(logits, targets), logits.requires_grad_())

    @pytest.mark.parametrize("rule", ["dws", "equal", "dwa", "trend"])
    def test_the_weights_follow_the_published_formula_of_the_losses_of_the_groups(self, rule, device):
        loss, periods = DWSLoss(GROUPS, rule=rule, device=device), []
        for period in range(4):
            logits, targets = batch(period, 40, dtype=torch.float64)
            loss((logits / (period + 1)).to(device), targets.to(device))
            loss.step()
            periods.append([float(x) for x in reference.group_bce(logits / (period + 1), targets, GROUPS.sizes)[0]])
            torch.testing.assert_close(loss.history.latest.cpu(), torch.tensor(periods[-1]), rtol=1e-5, atol=0)
            expected = torch.tensor(reference.weights_over_time(rule, periods)[-1])
            torch.testing.assert_close(loss.weights.cpu(), expected, rtol=1e-3, atol=1e-4)

    def test_pos_weight_may_be_named(self):
        logits, targets = batch(1)
        named = DWSLoss(GROUPS, pos_weight={"Bags": 3.0, "Big_Nose": 2})
        listed = DWSLoss(GROUPS, pos_weight=torch.tensor([2.0, 1, 1, 3, 1]))
        assert torch.equal(named(logits, targets), listed(logits, targets))

    def test_pos_weight_given_is_copied(self):
        pos_weight = torch.ones(5)
        loss = DWSLoss(GROUPS, pos_weight=pos_weight)
        pos_weight += 1
        assert loss.pos_weight.tolist() == [1] * 5

    def test_a_group_without_labels_has_no_loss_of_its_own(self):
        logits, targets = batch(1, missing=0)
        targets[:, 1:4] = NAN
        assert DWSLoss(GROUPS).group_losses(logits, targets).isnan().tolist() == [False, True, False]

    @ALL_RULES
    def test_a_group_without_labels_neither_breaks_a_step_nor_moves_its_weight(self, rule):
        loss = trained(rule)
        loss.step()
        logits, targets = batch(1, missing=0)
        targets[:, 1:4] = NAN
        if rule == "random":
            loss.eval()
        weight, latest = loss.weights[1].clone(), loss.history.latest[1].clone()
        logits.requires_grad_()
        loss(logits, targets).backward()
        loss.step()
        assert loss.weights[1] == weight
        assert loss.history.latest[1] == latest
        assert loss.weights.isfinite().all()
        assert logits.grad.isfinite().all()
        assert (logits.grad[:, 1:4] == 0).all()

    @ALL_RULES
    @pytest.mark.parametrize("size", [0, 4], ids=["empty batch", "unlabelled batch"])
    def test_a_batch_without_labels_neither_breaks_a_step_nor_moves_a_weight(self, size, rule):
        loss = trained(rule)
        loss.step()
        if rule == "random":
            loss.eval()
        before = copy.deepcopy(loss.state_dict())
        logits = torch.randn(size, 5, requires_grad=True)
        total = loss(logits, torch.full((size, 5), NAN))
        total.backward()
        loss.step()
        assert total.item() == 0
        assert (logits.grad == 0).all()
        assert_same_state(loss, before)

    @pytest.mark.parametrize("hidden", [NAN, INF, -INF, 1e30])
    def test_what_stands_at_an_unlabelled_entry_never_matters(self, hidden, device):
        logits, targets = (tensor.to(device) for tensor in batch(1))
        spoilt = torch.where(targets.isnan(), hidden, logits).requires_grad_()
        logits.requires_grad_()
        total, spoilt_total = (
            DWSLoss(GROUPS, device=device)(logits, targets),
            DWSLoss(GROUPS, device=device)(spoilt, targets),
        )
        total.backward()
        spoilt_total.backward()
        assert torch.equal(total, spoilt_total)
        assert torch.equal(logits.grad, spoilt.grad)
        assert (spoilt.grad[targets.isnan()] == 0).all()

    @ALL_RULES
    def test_the_history_holds_unweighted_losses(self, rule):
        loss = trained(rule)
        loss.step()
        logits, targets = batch(5)
        loss(logits, targets)
        loss.step()
        torch.testing.assert_close(loss.history.latest, loss.group_losses(logits, targets))

    def test_one_label_is_a_group_loss(self):
        targets = torch.tensor([[1.0, NAN, NAN, NAN, NAN]])
        assert DWSLoss(GROUPS).group_losses(torch.zeros(1, 5), targets)[0].item() == pytest.approx(math.log(2))

    @pytest.mark.parametrize("value", [INF, -INF, NAN])
    def test_a_logit_that_is_not_finite_spoils_its_own_group_only(self, value):
        logits, targets = batch(1, missing=0)
        logits[2, 2] = value
        loss = DWSLoss(GROUPS)
        healthy = loss.group_losses(logits.nan_to_num(0, 0, 0), targets)
        losses = loss.group_losses(logits, targets)
        assert losses.isfinite().tolist() == [True, False, True]
        assert torch.equal(losses[[0, 2]], healthy[[0, 2]])
        loss(logits, targets)
        loss.step()
        assert loss.history.latest.isnan().tolist() == [False, True, False]

    def test_weights_that_were_read_stay_as_they_were(self):
        loss, read = trained("dws"), []
        for seed in range(2):
            loss(*batch(seed))
            loss.step()
            read.append(loss.weights)
        assert not torch.equal(*read)

    def test_options_are_those_of_the_weighting(self):
        for options in ({}, {"rule": "dwa"}, {"alpha": 0.5, "seed": 3}):
            ours, alone = DWSLoss(GROUPS, **options).weighting, DynamicWeighting(3, **options)
            for name in ("rule", "alpha", "seed", "num_tasks"):
                assert getattr(ours, name) == getattr(alone, name)
        assert DynamicWeighting(3).seed == 0  # the default: what was drawn before is drawn again

    def test_groups_are_no_dict(self):
        with pytest.raises(
            (TypeError, TypeCheckError), match=r"DWSLoss: groups is an AttributeGroups|^Type-check error"
        ):
            DWSLoss({"mouth": ["Smiling"]})

    def test_gradients_of_each_image_come_from_torch_func_in_evaluation(self):
        logits, targets = batch(3)
        loss = DWSLoss(GROUPS).eval()
        each = torch.func.vmap(torch.func.grad(lambda out, label: loss(out[None], label[None])))(logits, targets)
        for out, label, gradient in zip(logits, targets, each, strict=True):
            alone = out.clone().requires_grad_()
            loss(alone[None], label[None]).backward()
            torch.testing.assert_close(gradient, alone.grad)

    def test_under_torch_func_training_is_refused_with_the_way_out(self):
        logits, targets = batch(3)
        with pytest.raises(RuntimeError) as caught:
            torch.func.vmap(torch.func.grad(lambda out, label: DWSLoss(GROUPS)(out[None], label[None])))(
                logits, targets
            )
        assert caught.value.__notes__ == [
            "DynamicWeighting: remembers losses in buffers, which torch.func cannot change; eval() first."
        ]

    def test_group_losses_are_not_remembered(self):
        loss = trained("dws")
        before = copy.deepcopy(loss.state_dict())
        loss.group_losses(*batch(1))
        assert_same_state(loss, before)

    def test_a_batch_in_parts_gives_the_same_history(self):
        logits, targets = batch(1, 12)
        whole, parts = DWSLoss(GROUPS), DWSLoss(GROUPS)
        whole(logits, targets)
        for rows in (slice(0, 1), slice(1, 4), slice(4, 12)):
            parts(logits[rows], targets[rows])
        whole.step()
        parts.step()
        torch.testing.assert_close(parts.history.latest, whole.history.latest)

    @ALL_RULES
    def test_saving_and_loading_in_the_middle_of_training_changes_nothing(self, rule, device):
        loss, resumed = trained(rule, device=device), DWSLoss(GROUPS, rule=rule, seed=5, device=device)
        stored = io.BytesIO()
        torch.save(loss.state_dict(), stored)
        stored.seek(0)
        resumed.load_state_dict(torch.load(stored, weights_only=True))
        assert torch.equal(continued(resumed, device), continued(loss, device))

    @ALL_RULES
    @pytest.mark.parametrize(
        "copied",
        [
            copy.deepcopy,
            lambda loss: pickle.loads(pickle.dumps(loss)),
            lambda loss: loss.to("cpu"),
            lambda loss: loss.half().double(),
            lambda loss: loss.float(),
        ],
        ids=["deepcopy", "pickle", "to", "half and double", "float"],
    )
    def test_copying_and_moving_in_the_middle_of_training_changes_nothing(self, copied, rule):
        assert torch.equal(continued(copied(trained(rule))), continued(trained(rule)))

    def test_a_loss_with_a_function_as_its_rule_can_be_copied_and_pickled(self):
        loss = trained(twice_the_latest)
        for copied in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
            assert torch.equal(continued(copied), continued(copy.deepcopy(loss)))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_the_state_stays_in_float32_and_counts_stay_exact(self, dtype):
        logits, targets = batch(1, 2501, missing=0.2)
        plain, converted = (
            DWSLoss(GROUPS, pos_weight={"Bags": 3.3}),
            DWSLoss(GROUPS, pos_weight={"Bags": 3.3}).to(dtype),
        )
        assert torch.equal(plain(logits, targets), converted(logits, targets))
        plain.step()
        converted.step()
        assert torch.equal(plain.history.latest, converted.history.latest)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_logits_of_half_precision_give_a_loss_in_float32(self, dtype):
        logits, targets = batch(1, 3000)
        total = DWSLoss(GROUPS)(logits.to(dtype), targets)
        assert total.dtype == torch.float32
        torch.testing.assert_close(total, DWSLoss(GROUPS)(logits.to(dtype).float(), targets))

    def test_confident_logits_give_a_finite_loss_and_gradient(self):
        logits = torch.tensor([[1e4, -1e4, 1e4, 0, 88.0]], requires_grad=True)
        total = DWSLoss(GROUPS)(logits, torch.tensor([[0.0, 1, 1, 1, 0]]))
        total.backward()
        assert total.isfinite()
        assert logits.grad.isfinite().all()

    def test_equal_weights_are_the_plain_mean_to_the_last_bits(self):
        logits, targets = batch(1, 64, missing=0)
        expected = F.binary_cross_entropy_with_logits(logits, targets)
        torch.testing.assert_close(DWSLoss(GROUPS, rule="equal")(logits, targets), expected, rtol=3e-7, atol=0)

    @pytest.mark.parametrize(
        ("logits", "targets"),
        [
            pytest.param((4, 5), (4, 4), id="labels of another width"),
            pytest.param((4, 4), (4, 4), id="both of another width"),
            pytest.param((4, 5), (3, 5), id="another batch"),
            pytest.param((4, 5, 1), (4, 5, 1), id="maps"),
            pytest.param((4, 5), (1, 5), id="would broadcast"),
        ],
    )
    @pytest.mark.parametrize("method", ["forward", "group_losses"])
    def test_logits_and_targets_of_another_shape_are_refused(self, method, logits, targets):
        message = (
            r"DWSLoss: logits and targets are \(batch, 5\), one column an attribute, got|parameter '(outputs|targets)'"
        )
        with pytest.raises((ValueError, TypeCheckError), match=message):
            getattr(DWSLoss(GROUPS), method)(torch.zeros(logits), torch.zeros(targets))

    @pytest.mark.parametrize(
        ("pos_weight", "message"),
        [
            pytest.param(
                torch.ones(4), r"pos_weight has one number for each of 5 attributes, got shape \(4,\)", id="width"
            ),
            pytest.param({"Bag": 2.0}, "DWSLoss: no attribute 'Bag'; did you mean 'Bags'", id="unknown name"),
        ],
    )
    def test_a_pos_weight_that_does_not_fit_is_refused(self, pos_weight, message):
        with pytest.raises(ValueError, match=message):
            DWSLoss(GROUPS, pos_weight=pos_weight)

    def test_pos_weight_may_be_a_list(self):
        numbers = [1.0, 3.0, 0.5, 2.0, 1.5]
        logits, targets = batch(1)
        expected = DWSLoss(GROUPS, pos_weight=torch.tensor(numbers))(logits, targets)
        assert torch.equal(DWSLoss(GROUPS, pos_weight=numbers)(logits, targets), expected)

    @pytest.mark.parametrize("value", [0.0, -1.0, NAN, math.inf])
    def test_a_pos_weight_that_is_not_positive_and_finite_is_refused(self, value):
        with pytest.raises(ValueError, match="DWSLoss: pos_weight is positive and finite, got"):
            DWSLoss(GROUPS, pos_weight={"Bags": value})

    def test_an_unknown_rule_is_refused_with_the_nearest_names(self):
        with pytest.raises(
            (ValueError, TypeCheckError), match=r"no rule 'equals'; did you mean 'equal'|^Type-check error"
        ):
            DWSLoss(GROUPS, rule="equals")

    def test_a_state_of_other_groups_is_refused(self):
        other = DWSLoss(AttributeGroups({"all": ["a", "b", "c", "d", "e"]}))
        with pytest.raises(RuntimeError, match=r"size mismatch for weighting\.weights"):
            other.load_state_dict(DWSLoss(GROUPS).state_dict())
