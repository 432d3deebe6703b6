"""The laws, over drawn sizes: strategies draw plain data, every tensor comes from the drawn seed."""

import copy
import math
from itertools import pairwise

import pytest
import reference
import torch
import torch.nn.functional as F
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch import nn

from mtattn import CGFF, FARAMTN, WSGSA, AttributeGroups, DWSLoss, DynamicWeighting, GroupHeads
from mtattn.functional import LossHistory, dwa_weights, dws_weights, trend_weights

NAN, INF = math.nan, math.inf
SEEDS = st.integers(0, 2**31 - 1)
BATCHES = st.sampled_from([0, 1, 2, 3])
NUM_GROUPS = st.sampled_from([1, 2, 3, 8, 40])
SPACES = st.lists(st.integers(1, 4), max_size=3).map(tuple)
SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=6) | st.just([1] * 40)
LAYOUTS = st.sampled_from(["contiguous", "channels last", "strided", "expanded"])
TOLERANCES = {
    torch.float64: {"rtol": 1e-9, "atol": 1e-11},
    torch.float32: {"rtol": 1e-4, "atol": 1e-5},
    torch.bfloat16: {"rtol": 5e-2, "atol": 5e-2},
    torch.float16: {"rtol": 1e-2, "atol": 1e-2},
}
DTYPES = st.sampled_from(list(TOLERANCES))
LOOKS = st.sampled_from(["everywhere", "by content", "by place", "with fixed gates"])


FORMS = st.sampled_from(  # of CGFF, for a number of groups
    [
        lambda _: {},
        lambda num_groups: {"num_groups": num_groups},
        lambda num_groups: {"num_groups": num_groups, "key_channels": 0},
    ]
)


def named_groups(sizes):
    return AttributeGroups({f"g{g}": [f"a{g}.{a}" for a in range(size)] for g, size in enumerate(sizes)})


def shuffled(groups):
    """The groups in another order, that order, and the columns that go with it."""
    order = torch.randperm(len(groups)).tolist()
    permuted = AttributeGroups({list(groups)[g]: groups[list(groups)[g]] for g in order})
    return permuted, order, [groups.attributes.index(attribute) for attribute in permuted.attributes]


def features(layout, *shape):
    """Random features in float64, laid out in memory in one of several ways."""
    x = torch.randn(shape, dtype=torch.float64)
    if layout == "channels last" and len(shape) in (4, 5):
        return x.to(memory_format=torch.channels_last if len(shape) == 4 else torch.channels_last_3d)
    if layout == "strided":
        return torch.randn(*shape[:-1], 2 * shape[-1], dtype=torch.float64)[..., ::2]
    if layout == "expanded":
        return x[..., :1].expand(shape)
    return x


def grown(module):
    """In float64 and every parameter away from its start, where zeros would hide mistakes."""
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def small_wsgsa(num_groups, looks, space):
    """A module whose groups look everywhere alike, by what is there, or by what is there and the place."""
    options = {"spatial": looks != "everywhere", "coordinates": len(space) if looks == "by place" else 0}
    reduction = None if looks == "with fixed gates" else 4
    return grown(WSGSA(8, num_groups, reduction=reduction, num_heads=2, key_channels=4, **options))


def small_model(groups, *, spatial=False, narrow=True, num_heads=2):
    trunk = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU())
    shared = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.ReLU())
    model = FARAMTN(
        trunk,
        8,
        groups,
        shared=shared,
        out_channels=12,
        reduction=4,
        fused_channels=8 if narrow else 16,
        num_heads=num_heads,
        spatial=spatial,
        key_channels=4,
    )
    return grown(model).eval()


class TestPooling:
    @given(SEEDS, BATCHES, NUM_GROUPS, SPACES, LOOKS, LAYOUTS, DTYPES)
    @example(0, 0, 1, (), "everywhere", "contiguous", torch.float64)
    @example(0, 1, 40, (4, 4), "by content", "channels last", torch.float32)
    @example(0, 1, 40, (4, 4), "by place", "channels last", torch.float32)
    def test_pooled_equals_the_dense_result_averaged(  # noqa: PLR0917
        self, seed, batch, groups, space, looks, layout, dtype
    ):
        torch.manual_seed(seed)
        wsgsa = small_wsgsa(groups, looks, space).to(dtype)
        x = features(layout, batch, 8, *space).to(dtype)
        dense = wsgsa(x)
        assert dense.shape == (batch, groups, 8, *space)
        assert dense.dtype == wsgsa.pooled(x).dtype == dtype
        torch.testing.assert_close(wsgsa.pooled(x), dense.flatten(3).mean(3) if space else dense, **TOLERANCES[dtype])

    @given(SEEDS, BATCHES, NUM_GROUPS, SPACES, LAYOUTS, st.sampled_from([1, 2, 8]), DTYPES, FORMS)
    def test_cgff_and_pooling_commute(self, seed, batch, groups, space, layout, num_heads, dtype, form):  # noqa: PLR0917
        torch.manual_seed(seed)
        cgff = grown(CGFF(8, num_heads=num_heads, **form(groups))).to(dtype)
        x = features(layout, batch, groups, 8, *space).to(dtype)
        averaged = x.flatten(3).mean(3) if space else x
        after = cgff(x).flatten(3).mean(3) if space else cgff(x)
        torch.testing.assert_close(after, cgff(averaged), **TOLERANCES[dtype])
        torch.testing.assert_close(cgff.affinity(x), cgff.affinity(averaged), **TOLERANCES[dtype])

    @given(SEEDS, st.sampled_from([0, 1, 2]), SIZES, st.booleans(), st.booleans(), st.booleans())
    def test_maps_average_to_logits(self, seed, batch, sizes, spatial, narrow, channels_last):
        torch.manual_seed(seed)
        model = small_model(named_groups(sizes), spatial=spatial, narrow=narrow)
        assert (model.projection is not None) == narrow
        images = torch.randn(batch, 3, 9, 7, dtype=torch.float64)
        if channels_last:
            images = images.to(memory_format=torch.channels_last)
        maps = model.attribute_maps(images)
        assert maps.shape == (batch, sum(sizes), 4, 3)
        torch.testing.assert_close(maps.mean((-2, -1)), model(images))


class TestPositions:
    @given(SEEDS, BATCHES, NUM_GROUPS, SPACES, LOOKS, LAYOUTS)
    def test_they_are_positive_and_average_to_one(self, seed, batch, groups, space, looks, layout):
        torch.manual_seed(seed)
        positions = small_wsgsa(groups, looks, space).positions(features(layout, batch, 8, *space))
        assert positions.shape == (batch, groups, *space)
        assert (positions > 0).all()
        flat = positions.flatten(2) if space else positions[..., None]
        torch.testing.assert_close(flat.mean(2), torch.ones(batch, groups, dtype=torch.float64))

    @given(SEEDS, BATCHES, NUM_GROUPS, SPACES, st.booleans())
    def test_they_are_all_one_when_new_or_without_spatial(self, seed, batch, groups, space, spatial):
        torch.manual_seed(seed)
        wsgsa = WSGSA(8, groups, reduction=4, spatial=spatial)
        positions = wsgsa.positions(torch.randn(batch, 8, *space))
        torch.testing.assert_close(positions, torch.ones(batch, groups, *space))

    @given(SEEDS, BATCHES, NUM_GROUPS, SPACES)
    def test_a_new_spatial_module_is_the_plain_module(self, seed, batch, groups, space):
        torch.manual_seed(seed)
        spatial = WSGSA(8, groups, reduction=4, spatial=True, coordinates=len(space))
        plain = WSGSA(8, groups, reduction=4)
        plain.load_state_dict(spatial.state_dict(), strict=False)
        x = torch.randn(batch, 8, *space)
        torch.testing.assert_close(spatial(x), plain(x))
        torch.testing.assert_close(spatial.pooled(x), plain.pooled(x))


class TestCGFF:
    @given(SEEDS, BATCHES, NUM_GROUPS, SPACES, LAYOUTS, DTYPES)
    def test_it_is_the_identity_when_new(self, seed, batch, groups, space, layout, dtype):
        torch.manual_seed(seed)
        x = features(layout, batch, groups, 8, *space).to(dtype)
        assert torch.equal(CGFF(8, num_heads=2, dtype=dtype)(x), x)

    @given(SEEDS, BATCHES, NUM_GROUPS, SPACES, st.sampled_from([1, 2, 8]), LAYOUTS, DTYPES)
    def test_affinity_rows_sum_to_one(self, seed, batch, groups, space, num_heads, layout, dtype):  # noqa: PLR0917
        torch.manual_seed(seed)
        affinity = (
            grown(CGFF(8, num_heads=num_heads)).to(dtype).affinity(features(layout, batch, groups, 8, *space).to(dtype))
        )
        assert affinity.shape == (batch, groups, groups)
        assert (affinity >= 0).all()
        rows = affinity.double().sum(2)
        step = torch.finfo(dtype).eps  # a row's entries are rounded to this, each by itself
        torch.testing.assert_close(rows, torch.ones_like(rows), rtol=0, atol=4 * step)

    @given(SEEDS, NUM_GROUPS, SPACES)
    def test_the_value_path_is_linear_while_the_affinity_is_held(self, seed, groups, space):
        torch.manual_seed(seed)
        cgff = grown(CGFF(8, num_heads=2))
        x = torch.randn(2, groups, 8, *space, dtype=torch.float64)
        # the norm makes the affinity blind to the scale, up to its epsilon
        cgff.norm.eps = 0.0
        torch.testing.assert_close(cgff(3 * x), 3 * cgff(x))


class TestGroups:
    @given(SEEDS, BATCHES, NUM_GROUPS, SPACES, LOOKS, LAYOUTS)
    def test_adding_a_group_leaves_the_others_alone(self, seed, batch, groups, space, looks, layout):
        torch.manual_seed(seed)
        fewer, more = small_wsgsa(groups, looks, space), small_wsgsa(groups + 1, looks, space)
        with torch.no_grad():
            for name, parameter in more.named_parameters():
                kept = fewer.get_parameter(name)
                parameter.copy_(kept) if name == "key_weight" else parameter[:groups].copy_(kept)
        x = features(layout, batch, 8, *space)
        for method in ("gates", "positions", "forward", "pooled"):
            torch.testing.assert_close(getattr(more, method)(x)[:, :groups], getattr(fewer, method)(x))

    @given(SEEDS, NUM_GROUPS, SPACES, LOOKS)
    def test_permuting_the_groups_permutes_what_wsgsa_gives(self, seed, groups, space, looks):
        torch.manual_seed(seed)
        wsgsa, order = small_wsgsa(groups, looks, space), torch.randperm(groups)
        permuted = copy.deepcopy(wsgsa)
        with torch.no_grad():
            for name, parameter in wsgsa.named_parameters():
                permuted.get_parameter(name).copy_(parameter if name == "key_weight" else parameter[order])
        x = torch.randn(2, 8, *space, dtype=torch.float64)
        for method in ("gates", "positions", "forward", "pooled"):
            torch.testing.assert_close(getattr(permuted, method)(x), getattr(wsgsa, method)(x)[:, order])

    @given(SEEDS, NUM_GROUPS, SPACES)
    def test_permuting_the_groups_permutes_what_cgff_gives(self, seed, groups, space):
        torch.manual_seed(seed)
        cgff, order = grown(CGFF(8, num_heads=2)), torch.randperm(groups)
        x = torch.randn(2, groups, 8, *space, dtype=torch.float64)
        torch.testing.assert_close(cgff(x[:, order]), cgff(x)[:, order])
        torch.testing.assert_close(cgff.affinity(x[:, order]), cgff.affinity(x)[:, order][:, :, order])

    @given(SEEDS, NUM_GROUPS, st.sampled_from([0, 4]))
    def test_learned_pairs_move_with_their_groups(self, seed, groups, key_channels):
        torch.manual_seed(seed)
        cgff, order = grown(CGFF(8, num_heads=2, key_channels=key_channels, num_groups=groups)), torch.randperm(groups)
        permuted = copy.deepcopy(cgff)
        with torch.no_grad():
            permuted.prior.copy_(cgff.prior[:, order][:, :, order])
        x = torch.randn(2, groups, 8, dtype=torch.float64)
        torch.testing.assert_close(permuted(x[:, order]), cgff(x)[:, order])
        torch.testing.assert_close(permuted.affinity(x[:, order]), cgff.affinity(x)[:, order][:, :, order])

    @given(SEEDS, SIZES)
    def test_permuting_the_groups_permutes_the_logits_of_the_heads(self, seed, sizes):
        torch.manual_seed(seed)
        groups = named_groups(sizes)
        permuted, order, columns = shuffled(groups)
        heads, permuted_heads = GroupHeads(8, groups).double(), GroupHeads(8, permuted).double()
        with torch.no_grad():
            permuted_heads.weight.copy_(heads.weight[columns])
            permuted_heads.bias.copy_(heads.bias[columns])
        x = torch.randn(2, len(sizes), 8, dtype=torch.float64)
        torch.testing.assert_close(permuted_heads(x[:, order]), heads(x)[:, columns])

    @given(SEEDS, st.sampled_from([1, 4]))
    def test_permuting_the_attributes_of_a_group_permutes_their_logits(self, seed, size):
        torch.manual_seed(seed)
        names = [f"a{index}" for index in range(size)]
        order = torch.randperm(size).tolist()
        heads = GroupHeads(8, AttributeGroups({"x": ["x"], "g": names}))
        permuted = GroupHeads(8, AttributeGroups({"x": ["x"], "g": [names[index] for index in order]}))
        columns = [0, *(1 + index for index in order)]
        permuted.load_state_dict({name: value[columns] for name, value in heads.state_dict().items()})
        x = torch.randn(2, 2, 8)
        torch.testing.assert_close(permuted(x), heads(x)[:, columns])

    @given(SEEDS, SIZES, st.booleans())
    def test_permuting_the_groups_permutes_what_the_whole_model_gives(self, seed, sizes, spatial):
        torch.manual_seed(seed)
        groups = named_groups(sizes)
        permuted_groups, order, columns = shuffled(groups)
        model, permuted = small_model(groups, spatial=spatial), small_model(permuted_groups, spatial=spatial)
        stacked = {"down_weight", "down_bias", "up_weight", "up_bias", "queries", "place_weight"}
        state = model.state_dict()
        for name, value in model.state_dict().items():
            state[name] = value[columns] if name.startswith("heads.") else value
            state[name] = value[order] if name.removeprefix("wsgsa.") in stacked else state[name]
        permuted.load_state_dict(dict(state))  # without the names of the groups
        images = torch.randn(2, 3, 9, 9, dtype=torch.float64)
        torch.testing.assert_close(permuted(images), model(images)[:, columns])
        torch.testing.assert_close(permuted.attribute_maps(images), model.attribute_maps(images)[:, columns])
        torch.testing.assert_close(permuted.affinity(images), model.affinity(images)[:, order][:, :, order])


class TestBatch:
    @given(SEEDS, NUM_GROUPS, SPACES, LOOKS)
    def test_permuting_the_batch_permutes_the_output(self, seed, groups, space, looks):
        torch.manual_seed(seed)
        wsgsa, cgff = small_wsgsa(groups, looks, space), grown(CGFF(8, num_heads=2))
        x, order = torch.randn(4, 8, *space, dtype=torch.float64), torch.randperm(4)
        torch.testing.assert_close(cgff(wsgsa(x[order])), cgff(wsgsa(x))[order])
        torch.testing.assert_close(wsgsa.pooled(x[order]), wsgsa.pooled(x)[order])

    @given(SEEDS, SIZES, st.booleans())
    def test_permuting_the_images_permutes_logits_maps_and_affinities(self, seed, sizes, spatial):
        torch.manual_seed(seed)
        model = small_model(named_groups(sizes), spatial=spatial)
        images, order = torch.randn(3, 3, 9, 9, dtype=torch.float64), torch.randperm(3)
        for method in ("forward", "forward_features", "attribute_maps", "affinity"):
            call = getattr(model, method)
            torch.testing.assert_close(call(images[order]), call(images)[order])

    @given(SEEDS, SIZES)
    def test_permuting_the_batch_does_not_change_the_loss(self, seed, sizes):
        torch.manual_seed(seed)
        loss, order = DWSLoss(named_groups(sizes)), torch.randperm(5)
        logits, targets = drawn_batch(5, sum(sizes))
        torch.testing.assert_close(loss(logits[order], targets[order]), loss(logits, targets))


def drawn_batch(size, num_attributes, *, missing=0.3):
    logits = 3 * torch.randn(size, num_attributes, dtype=torch.float64)
    targets = torch.rand(size, num_attributes, dtype=torch.float64)
    targets = torch.where(torch.rand_like(targets) < 0.5, targets.round(), targets)
    return logits, targets.where(torch.rand_like(targets) >= missing, NAN)


class TestLoss:
    @given(SEEDS, st.sampled_from([1, 2, 7]), SIZES, st.booleans(), st.sampled_from([0.0, 0.3, 0.9]))
    def test_equal_weights_give_the_plain_mean_binary_cross_entropy(self, seed, batch, sizes, weighted, missing):
        torch.manual_seed(seed)
        logits, targets = drawn_batch(batch, sum(sizes), missing=missing)
        pos_weight = torch.rand(sum(sizes)) * 5 if weighted else None
        labelled = ~targets.isnan()
        assume(labelled.any())
        expected = F.binary_cross_entropy_with_logits(
            logits[labelled],
            targets[labelled],
            pos_weight=None if pos_weight is None else pos_weight.double().expand(batch, -1)[labelled],
        )
        for rule in ("equal", "dws"):
            loss = DWSLoss(named_groups(sizes), rule=rule, pos_weight=pos_weight)
            torch.testing.assert_close(loss(logits, targets), expected, rtol=1e-12, atol=1e-14)

    @given(SEEDS, st.sampled_from([1, 4]), SIZES, st.sampled_from([NAN, INF, -INF, 1e38]))
    def test_the_value_at_an_unlabelled_entry_never_matters(self, seed, batch, sizes, hidden):
        torch.manual_seed(seed)
        logits, targets = drawn_batch(batch, sum(sizes), missing=0.5)
        results = []
        for given_logits in (logits, torch.where(targets.isnan(), hidden, logits)):
            loss, leaf = DWSLoss(named_groups(sizes)), given_logits.detach().clone().requires_grad_()
            total = loss(leaf, targets)
            total.backward()
            loss.step()
            results.append((total.detach(), leaf.grad, loss.weights, loss.history.latest))
        for plain, spoilt in zip(*results, strict=True):
            torch.testing.assert_close(spoilt, plain, rtol=0, atol=0, equal_nan=True)
        assert results[1][1].isfinite().all()

    @given(SEEDS, SIZES)
    def test_permuting_the_groups_permutes_losses_and_weights(self, seed, sizes):
        torch.manual_seed(seed)
        groups = named_groups(sizes)
        permuted, order, columns = shuffled(groups)
        loss, permuted_loss = DWSLoss(groups), DWSLoss(permuted)
        for _ in range(3):
            logits, targets = drawn_batch(6, sum(sizes), missing=0.1)
            expected = loss(logits, targets)
            got = permuted_loss(logits[:, columns], targets[:, columns])
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=0)  # the weights are in float32
            loss.step()
            permuted_loss.step()
            torch.testing.assert_close(permuted_loss.weights, loss.weights[order])

    @given(SEEDS, st.sampled_from([0, 1, 6]), st.integers(1, 5), st.integers(1, 4))
    def test_permuting_the_attributes_of_a_group_changes_nothing(self, seed, batch, size, others):
        torch.manual_seed(seed)
        order, weights = torch.randperm(size).tolist(), 0.1 + torch.rand(size + others)
        columns = [*order, *range(size, size + others)]
        names = [f"a{index}" for index in range(size + others)]
        loss, permuted = (
            DWSLoss(
                AttributeGroups({"g": [names[i] for i in places[:size]], "h": names[size:]}), pos_weight=weights[places]
            )
            for places in ([*range(size + others)], columns)
        )
        logits, targets = drawn_batch(batch, size + others)
        expected, got = loss(logits, targets), permuted(logits[:, columns], targets[:, columns])
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-12)

    @given(SEEDS, SIZES, st.lists(st.integers(1, 5), min_size=1, max_size=4))
    def test_a_batch_in_parts_gives_the_same_period(self, seed, sizes, parts):
        torch.manual_seed(seed)
        logits, targets = drawn_batch(sum(parts), sum(sizes), missing=0.5)
        whole, split = DWSLoss(named_groups(sizes)), DWSLoss(named_groups(sizes))
        whole(logits, targets)
        for some_logits, some_targets in zip(logits.split(parts), targets.split(parts), strict=True):
            split(some_logits, some_targets)
        whole.step()
        split.step()
        torch.testing.assert_close(split.history.latest, whole.history.latest, equal_nan=True)


LOSSES = st.floats(2**-20, 2**13, width=32)
NUM_TASKS = st.shared(st.sampled_from([1, 2, 3, 8, 40]), key="tasks")


def periods_of(losses):
    return NUM_TASKS.flatmap(
        lambda tasks: st.lists(st.lists(losses, min_size=tasks, max_size=tasks), min_size=1, max_size=4)
    )


PERIODS, NEAR_PERIODS = periods_of(LOSSES), periods_of(st.floats(2**-7, 4, width=32))
ALPHAS = st.sampled_from([0.0, 0.5, 1.0, 2.0])


def weights_after(periods, scale=1.0, **options):
    weighting = DynamicWeighting(len(periods[0]), **options)
    for losses in periods:
        weighting(scale * torch.tensor(losses, dtype=torch.float64))
        weighting.step()
    return weighting.weights


class TestWeights:
    @pytest.mark.parametrize("rule", ["dws", "equal", "dwa", "trend", "random"])
    @given(PERIODS)
    def test_they_are_positive_and_average_to_one(self, rule, periods):
        weights = weights_after(periods, rule=rule)
        assert (weights >= 0).all() if rule == "trend" else (weights > 0).all()
        torch.testing.assert_close(weights.mean(), torch.tensor(1.0))

    @pytest.mark.parametrize("rule", ["dws", "equal", "dwa", "trend"])
    @given(NEAR_PERIODS)  # farther apart the formula's exponentials overflow
    def test_they_follow_the_published_formula(self, rule, periods):
        changes = [one != other for one, other in pairwise(periods)]
        assume(rule != "trend" or all(changes))  # or the formula divides by a trend of zero
        expected = torch.tensor(reference.weights_over_time(rule, periods)[-1])
        torch.testing.assert_close(weights_after(periods, rule=rule), expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("rule", "alpha"), [("dwa", 1.0), ("dws", 9.0)])
    def test_they_stay_positive_where_a_formula_leaves_the_range_of_numbers(self, rule, alpha):
        weights = weights_after([[0.0078125, 1.0], [2.0, 1e-9]], rule=rule, alpha=alpha)
        assert (weights > 0).all()
        assert weights.mean() == 1

    @given(PERIODS, ALPHAS, st.sampled_from([0.125, 1024.0, 1e-3, 7.0]))
    def test_dws_does_not_depend_on_a_common_scale_of_the_losses(self, periods, alpha, scale):
        weights = weights_after(periods, alpha=alpha)
        torch.testing.assert_close(weights_after(periods, scale, alpha=alpha), weights, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("rule", ["equal", "dwa", "trend", "random"])
    @given(PERIODS)
    def test_no_rule_depends_on_a_common_scale_of_the_losses(self, rule, periods):
        weights = weights_after(periods, rule=rule)
        torch.testing.assert_close(weights_after(periods, 1024.0, rule=rule), weights, rtol=1e-4, atol=1e-6)

    @given(PERIODS, ALPHAS)
    def test_dws_does_not_depend_on_the_scale_of_one_loss(self, periods, alpha):
        scaled = [[64 * losses[0], *losses[1:]] for losses in periods]
        torch.testing.assert_close(
            weights_after(scaled, alpha=alpha), weights_after(periods, alpha=alpha), rtol=1e-4, atol=1e-6
        )

    @given(PERIODS, ALPHAS, st.floats(1, 100), st.data())
    def test_a_weight_never_falls_when_its_task_has_more_of_its_loss_left(self, periods, alpha, factor, data):
        assume(len(periods) > 1)
        task = data.draw(st.integers(0, len(periods[0]) - 1))
        more = [list(losses) for losses in periods]
        more[-1][task] *= factor
        before, after = weights_after(periods, alpha=alpha), weights_after(more, alpha=alpha)
        assert after[task] >= before[task] * (1 - 1e-5)
        others = [other for other in range(len(before)) if other != task]
        assert (after[others] <= before[others] * (1 + 1e-5)).all()

    @given(PERIODS, ALPHAS)
    def test_the_more_loss_is_left_the_more_a_task_weighs(self, periods, alpha):
        weights = weights_after(periods, alpha=alpha)
        left = torch.tensor(periods[-1], dtype=torch.float64) / torch.tensor(periods[0], dtype=torch.float64)
        in_order = weights[left.argsort()]
        assert (in_order[1:] >= in_order[:-1] * (1 - 1e-5)).all()

    @given(PERIODS)
    def test_alpha_zero_is_equal(self, periods):
        torch.testing.assert_close(weights_after(periods, alpha=0.0), weights_after(periods, rule="equal"))

    @pytest.mark.parametrize("rule", [dws_weights, dwa_weights, trend_weights])
    @given(SEEDS, st.sampled_from([1, 2, 3, 40]))
    def test_permuting_the_tasks_permutes_the_weights(self, rule, seed, tasks):
        torch.manual_seed(seed)
        rows, order = torch.rand(3, tasks, dtype=torch.float64) + 0.01, torch.randperm(tasks)
        torch.testing.assert_close(rule(LossHistory(*rows[:, order])), rule(LossHistory(*rows))[order])

    @pytest.mark.parametrize("rule", ["dws", "equal", "dwa", "trend", "random"])
    @given(PERIODS, st.data())
    def test_saving_and_loading_at_any_moment_changes_nothing(self, rule, periods, data):
        moment = data.draw(st.integers(0, 2 * len(periods)))
        straight = DynamicWeighting(len(periods[0]), rule=rule)
        resumed = DynamicWeighting(len(periods[0]), rule=rule)
        acts = [act for losses in periods for act in (losses, None)]
        for number, losses in enumerate(acts):
            if number == moment:
                stored = copy.deepcopy(resumed.state_dict())
                resumed = DynamicWeighting(len(periods[0]), rule=rule, seed=9)
                resumed.load_state_dict(stored)
            for weighting in (straight, resumed):
                weighting.step() if losses is None else weighting(torch.tensor(losses))
        for name, value in straight.state_dict().items():
            torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0, equal_nan=True)
