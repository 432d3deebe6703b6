"""Number tests of the pure functions: against the slow loops, in float64, forward and gradient."""

import math

import pytest
import reference
import torch

from mtattn import functional
from mtattn.functional import LossHistory

NAN = math.nan
SPACES = [
    pytest.param((), id="vectors"),
    pytest.param((3,), id="tokens"),
    pytest.param((2, 3), id="images"),
    pytest.param((2, 1, 2), id="volumes"),
]
RULES = {
    "dws": functional.dws_weights,
    "equal": functional.equal_weights,
    "dwa": functional.dwa_weights,
    "trend": functional.trend_weights,
}


def numbers(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def assert_same_with_gradients(fast, slow, inputs, device):
    """Both give the same values, and the same gradients to all inputs, for one random direction."""
    there = [tensor.detach().to(device).requires_grad_() for tensor in inputs]
    expected, got = slow(*inputs), fast(*there)
    torch.testing.assert_close(got.cpu(), expected, rtol=1e-9, atol=1e-11)
    direction = torch.randn_like(expected)
    expected_gradients = torch.autograd.grad((expected * direction).sum(), inputs)
    gradients = torch.autograd.grad((got * direction.to(device)).sum(), there)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient.cpu(), expected_gradient, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("space", SPACES)
def test_channel_gates_equal_the_loops(space, device):
    inputs = [numbers(2, 4, *space), numbers(3, 2, 4), numbers(3, 2), numbers(3, 5, 2), numbers(3, 5)]

    def fast(x, *parameters):
        return functional.channel_gates(x.flatten(2).mean(2) if space else x, *parameters)

    assert_same_with_gradients(fast, reference.channel_gates, inputs, device)


@pytest.mark.parametrize("space", SPACES)
def test_position_weights_equal_the_loops(space, device):
    inputs = [numbers(2, 3, *space), numbers(4, 5), numbers(5, 3)]
    assert_same_with_gradients(functional.position_weights, reference.position_weights, inputs, device)


@pytest.mark.parametrize("space", SPACES[1:])
def test_position_weights_with_coordinates_equal_the_loops(space, device):
    inputs = [numbers(2, 3, *space), numbers(4, 5), numbers(5, 3), numbers(4, len(space) * (len(space) + 3) // 2)]
    assert_same_with_gradients(functional.position_weights, reference.position_weights, inputs, device)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_coordinates_are_rounded_once_in_half_precision(dtype):
    exact = functional.coordinates(torch.zeros(1, 1, 3, 300))
    assert torch.equal(functional.coordinates(torch.zeros(1, 1, 3, 300, dtype=dtype)), exact.to(dtype))


def test_one_sure_position_among_very_many_is_the_most_that_float16_can_say():
    x = torch.zeros(1, 4, 260, 260, dtype=torch.float16)
    x[0, 0, 3, 3] = 50
    where = functional.position_weights(x, torch.full((1, 4), 2.0).half(), torch.eye(4).half())
    assert where.max() == where[0, 0, 3, 3] == torch.finfo(torch.float16).max
    assert where.float().mean() == pytest.approx(1, rel=0.04)


def test_a_vector_has_no_coordinates():
    assert functional.coordinates(torch.zeros(2, 3)).shape == (0, 1)


def test_with_coordinates_a_query_can_look_at_one_place_at_any_size():
    blind = torch.zeros(1, 2), torch.zeros(2, 3)
    at = torch.tensor([[0.5, -0.5, -0.5, 0.0, -0.5]])  # minus half the squared distance to y = 0.5, x = -0.5
    for size in (8, 16):
        where = functional.position_weights(torch.randn(1, 3, size, size), *blind, 40 * at)
        highest = divmod(int(where.argmax()), size)
        centre = torch.tensor([(2 * i + 1) / size - 1 for i in highest])
        assert (centre - torch.tensor([0.5, -0.5])).abs().max() <= 1 / size
        assert where.max() > 3 * where.mean()


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("num_queries", [0, 1, 3], ids=["plain", "a query", "three queries"])
def test_gated_features_equal_the_loops(space, num_queries, device):
    inputs = [numbers(2, 6, *space), numbers(2, 4, 6), *([numbers(2, 4 * num_queries, *space)] if num_queries else [])]
    assert_same_with_gradients(functional.gate, reference.wsgsa, inputs, device)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("num_queries", [0, 1, 3], ids=["plain", "a query", "three queries"])
def test_the_mean_of_gated_features_equals_the_loops(space, num_queries, device):
    inputs = [numbers(2, 6, *space), numbers(2, 4, 6), *([numbers(2, 4 * num_queries, *space)] if num_queries else [])]

    def slow(*arguments):
        return reference.pooled(reference.wsgsa(*arguments))

    assert_same_with_gradients(functional.gate_mean, slow, inputs, device)


@pytest.mark.parametrize("space", SPACES)
def test_a_linear_map_on_channels_equals_the_loops(space, device):
    inputs = [numbers(2, 3, 4, *space), numbers(5, 4)]
    assert_same_with_gradients(functional.channel_linear, reference.channel_linear, inputs, device)


@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_affinity_is_a_softmax_of_scaled_products(num_heads, device):
    inputs = [numbers(2, 3, 4), numbers(2, 3, 4)]

    def slow(queries, keys):
        width = 4 // num_heads
        scores = [
            [[[sum(q[i] * k[i] for i in range(h * width, (h + 1) * width)) for k in keys[b]] for q in queries[b]]
             for h in range(num_heads)]
            for b in range(2)
        ]  # fmt: skip
        raised = (reference.stacked(scores) / math.sqrt(width)).exp()
        return raised / raised.sum(-1, keepdim=True)

    def fast(queries, keys):
        return functional.group_affinity(queries, keys, num_heads)

    assert_same_with_gradients(fast, slow, inputs, device)


@pytest.mark.parametrize("space", SPACES)
def test_mixed_groups_equal_the_loops(space, device):
    inputs = [numbers(2, 2, 3, 3), numbers(2, 3, 4, *space)]
    assert_same_with_gradients(functional.mix_groups, reference.mix_groups, inputs, device)


@pytest.mark.parametrize("space", SPACES)
def test_group_logits_equal_the_loops(space, device):
    inputs = [numbers(2, 3, 4, *space), numbers(6, 4), numbers(6)]
    group_of = torch.tensor([0, 1, 1, 1, 2, 2], device=device)

    def fast(*arguments):
        return functional.group_logits(*arguments, group_of)

    def slow(*arguments):
        return reference.group_heads(*arguments, (1, 3, 2))

    assert_same_with_gradients(fast, slow, inputs, device)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "pos_weight"])
def test_binary_losses_equal_the_loops(weighted, device):
    logits, targets = numbers(5, 4), torch.rand(5, 4, dtype=torch.float64)
    targets[0, :], targets[:, 3], targets[2, 1] = NAN, NAN, NAN
    membership = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]], device=device).bool()
    pos_weight = torch.tensor([1.0, 3.0, 0.5, 2.0], dtype=torch.float64) if weighted else None
    _, counts = reference.group_bce(logits, targets, (1, 2, 1))

    def fast(logits):
        there = None if pos_weight is None else pos_weight.to(device)
        losses = functional.binary_losses(logits, targets.to(device), there)
        return functional.sums_of(losses.sum(0), membership) / torch.tensor(counts, device=device).clamp_min(1)

    def slow(logits):
        return reference.group_bce(logits, targets, (1, 2, 1), pos_weight)[0]

    assert_same_with_gradients(fast, slow, [logits], device)
    assert counts == [4, 7, 0]


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_equals_its_published_formula(rule, device):
    first, previous, latest = [2.0, 0.7, 0.1, 1.0], [1.5, 0.65, 0.09, 0.2], [0.3, 0.6, 0.08, 0.25]
    history = LossHistory(*(torch.tensor(row, dtype=torch.float64, device=device) for row in (first, previous, latest)))
    expected = torch.tensor(reference.RULES[rule](first, previous, latest), dtype=torch.float64)
    torch.testing.assert_close(RULES[rule](history).cpu(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 3.0])
def test_dws_raises_the_loss_left_to_alpha(alpha):
    history = LossHistory(torch.tensor([1.0, 2.0]), torch.tensor([NAN, NAN]), torch.tensor([0.5, 0.4]))
    expected = torch.tensor(reference.dws([1.0, 2.0], [NAN, NAN], [0.5, 0.4], alpha))
    torch.testing.assert_close(functional.dws_weights(history, alpha=alpha), expected)


@pytest.mark.parametrize("rule", [functional.dws_weights, functional.equal_weights, functional.dwa_weights])
def test_a_task_whose_loss_reached_zero_breaks_no_rule(rule):
    zero = torch.tensor([0.0, 1.0])
    weights = rule(LossHistory(torch.tensor([1.0, 1.0]), torch.tensor([0.1, 1.0]), zero))
    assert weights.isfinite().all()
    assert (weights >= 0).all()


def test_random_weights_are_a_pure_function_of_the_draw(device):
    draw = torch.tensor(5, device=device)
    assert torch.equal(functional.random_weights(draw, 4), functional.random_weights(draw, 4))
    assert not torch.equal(functional.random_weights(draw, 4), functional.random_weights(draw + 1, 4))


def test_no_stream_of_random_weights_repeats_another_not_even_in_another_order():
    seen = {}
    for num_tasks in (4, 8, 40, 128):
        for seed in (0, 1, 2, 15, 16, 32, 62, 63, 256, 2**20, 2**31 - 1):
            for draw in range(1, 9):
                weights = functional.random_weights(torch.tensor((seed << 32) + draw), num_tasks)
                key = (num_tasks, *weights.sort().values.tolist())
                assert key not in seen, (num_tasks, seed, draw, seen[key])
                seen[key] = (seed, draw)


def test_random_weights_come_from_normal_numbers():
    weights = torch.cat([functional.random_weights(torch.tensor(draw), 500).log() for draw in range(40)])
    centred = weights.double() - weights.double().mean()
    normal = (centred / centred.std()).sort().values
    expected = torch.distributions.Normal(0.0, 1.0).cdf(normal)
    empirical = (torch.arange(len(normal)) + 0.5) / len(normal)
    assert (expected - empirical).abs().max() < 0.01  # Kolmogorov-Smirnov: 1.36 / sqrt(20 000) is 0.0096


def test_random_weights_have_the_moments_of_a_softmax_of_standard_normals(device):
    draws = torch.stack([functional.random_weights(torch.tensor(i, device=device), 3) for i in range(2000)])
    expected = 3 * torch.randn(200_000, 3).softmax(1)
    torch.testing.assert_close(draws.mean(0).cpu(), torch.ones(3), atol=0.05, rtol=0)
    torch.testing.assert_close(draws.std(0).cpu(), expected.std(0), atol=0.03, rtol=0)
    logs = draws.log()
    normals = logs - logs.mean(1, keepdim=True)  # three standard normals less their mean: variance 2/3
    torch.testing.assert_close(normals.var(0).cpu(), torch.full((3,), 2 / 3), atol=0.05, rtol=0)
    assert abs(torch.corrcoef(torch.stack([logs[:-1, 0], logs[1:, 0]]))[0, 1]) < 0.1
