"""What mutation testing (``mutmut run``) found untested in parts that other tests call with one form only."""

import pytest
import torch
from torch import nn

from mtattn import CGFF, WSGSA, AttributeGroups, Categorical, Number, functional
from mtattn.modules import (
    AttentionalFusion,
    AttributeCenterLoss,
    BatchRandomMask,
    EmbeddingHead,
    GroupMLP,
    MaskHead,
    MultiLevelFusion,
)

GROUPS = AttributeGroups({"head": ["Hat"], "body": ["Vest", "Bag"]})
SINGLE, HALF, DOUBLE = torch.float32, torch.bfloat16, torch.float64


@pytest.mark.parametrize(
    ("module", "shapes"),
    [
        pytest.param(MaskHead(8, 3), [(2, 6, 3, 3)], id="MaskHead"),
        pytest.param(AttentionalFusion(8), [(2, 6, 3, 3), (2, 6, 3, 3)], id="AttentionalFusion"),
        pytest.param(WSGSA(8, 2, reduction=4), [(2, 6, 3, 3)], id="WSGSA"),
    ],
)
def test_channels_of_another_number_are_refused_in_the_name_of_the_module(module, shapes):
    owner = type(module).__name__
    with pytest.raises(ValueError, match=rf"^{owner}: expects 8 channels, got 6 in"):
        module(*map(torch.zeros, shapes))
    with pytest.raises(
        ValueError, match=rf"^{owner}: expects the axes batch, channel and any spatial ones, got \(8,\)"
    ):
        module(*(torch.zeros(8) for _ in shapes))


def test_positions_are_hidden_one_by_one_and_none_at_probability_zero():
    x = torch.ones(2, 3, 40, 50)
    hidden = BatchRandomMask(0.5)(x) == 0
    assert torch.equal(hidden[0, 0], hidden[1, 2])
    for axis in (0, 1):  # no two rows, and no two columns, are hidden alike
        assert len(hidden[0, 0].unique(dim=axis)) > 1
        assert not hidden[0, 0].all(axis).any()
    assert BatchRandomMask(0.5)(torch.ones(2, 3, 4, device="meta")).device.type == "meta"
    nothing = BatchRandomMask(0.0)
    assert nothing(x) is x
    with pytest.raises(ValueError, match=r"^BatchRandomMask: expects"):
        BatchRandomMask(0.5)(torch.ones(3))


class TestThreeLevels:
    @pytest.fixture
    def fusion(self):
        return MultiLevelFusion((2, 3, 4), 5)

    def test_all_come_to_the_size_of_the_last(self, fusion):
        levels = [torch.rand(2, 2, 12, 8), torch.rand(2, 3, 6, 6), torch.rand(2, 4, 3, 2)]
        assert fusion(levels).shape == (2, 5, 3, 2)

    @pytest.mark.parametrize("size", [(2, 8), (8, 2)], ids=["lower", "narrower"])
    def test_a_level_that_is_smaller_than_the_last_in_one_axis_is_refused(self, fusion, size):
        levels = [torch.rand(1, 2, 12, 12), torch.rand(1, 3, *size), torch.rand(1, 4, 3, 3)]
        with pytest.raises(
            ValueError, match=r"MultiLevelFusion, level 1: levels go from fine to coarse, got .* before \(3, 3\)"
        ):
            fusion(levels)


def test_the_layers_of_wsgsa_start_spread_over_the_whole_range_on_both_sides():
    module = WSGSA(64, 8, reduction=4, out_channels=48, shared=nn.Conv2d(64, 48, 1))
    for name, fan_in in (("down_weight", 64), ("up_weight", 16)):
        weight, bound = getattr(module, name), fan_in**-0.5
        assert weight.min().item() == pytest.approx(-bound, rel=0.02)
        assert weight.max().item() == pytest.approx(bound, rel=0.02)


@pytest.mark.parametrize(
    ("owner", "make"),
    [
        ("MaskHead", lambda size: MaskHead(size, 3)),
        ("MultiLevelFusion", lambda size: MultiLevelFusion((8, 8), size)),
        ("AttentionalFusion", AttentionalFusion),
        ("GroupMLP", lambda size: GroupMLP(size, 3, (4,))),
        ("EmbeddingHead", lambda size: EmbeddingHead(8, size)),
        ("AttributeCenterLoss", lambda size: AttributeCenterLoss(GROUPS, size)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_size_of_zero_is_refused_in_the_name_of_the_module(owner, make):
    with pytest.raises(ValueError, match=rf"^{owner}: \w+ must be at least 1, got 0\."):
        make(0)


def test_centres_of_what_is_no_grouping_are_refused_in_their_name():
    with pytest.raises(TypeError, match=r"^AttributeCenterLoss: "):
        AttributeCenterLoss({"head": ["Hat"]}, 4)


@pytest.mark.parametrize(
    ("module", "given", "message"),
    [
        (GroupMLP(4, 2, (3,)), [(5, 4)], "GroupMLP: expects the axes batch, group, channel and any spatial"),
        (GroupMLP(4, 2, (3,)), [(5, 3, 4)], "GroupMLP: expects 2 groups, got 3"),
        (GroupMLP(4, 2, (3,)), [(5, 2, 6)], "GroupMLP: expects 4 channels, got 6"),
        (EmbeddingHead(4, 3), [(4,)], "EmbeddingHead: expects the axes batch, channel and any spatial"),
        (EmbeddingHead(4, 3), [(5, 6)], "EmbeddingHead: expects 4 channels, got 6"),
        (AttributeCenterLoss(GROUPS, 4), [(4,), (1, 3)], "AttributeCenterLoss: expects the axes batch, group, channel"),
        (AttributeCenterLoss(GROUPS, 4), [(5, 6), (5, 3)], "AttributeCenterLoss: expects 4 channels, got 6"),
    ],
    ids=["MLP, axes", "MLP, groups", "MLP, channels", "head, axes", "head, width", "centres, axes", "centres, width"],
)
def test_other_shapes_are_refused_in_the_name_of_the_module(module, given, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        module(*map(torch.ones, given))


def test_positions_and_levels_without_axes_are_told_which_they_need():
    with pytest.raises(ValueError, match=r"^WSGSA, its positions: expects the axes batch, group and any spatial"):
        WSGSA(8, 2, reduction=4)(torch.zeros(2, 8, 3, 3), torch.ones(2))
    with pytest.raises(ValueError, match=r"^MultiLevelFusion, level 0: expects the axes batch, channel and any"):
        MultiLevelFusion((2, 3), 5)([torch.zeros(2), torch.zeros(1, 3, 4, 4)])


def test_a_shared_module_that_gives_no_channels_is_told_which_axes_are_needed():
    module = WSGSA(8, 2, reduction=4, shared=nn.Flatten(0))
    with pytest.raises(ValueError, match=r"^WSGSA, its shared module: expects the axes batch, channel and any spatial"):
        module(torch.zeros(2, 8, 3, 3))


def test_constant_gates_have_the_type_of_the_features():
    module = WSGSA(8, 2, reduction=None, shared=nn.Identity())
    assert module(torch.zeros(2, 8, 3, 3, dtype=HALF)).dtype == HALF


def test_each_axis_of_a_level_is_held_against_its_own():
    levels = [torch.rand(1, 2, 4, 9), torch.rand(1, 3, 3, 8)]
    assert MultiLevelFusion((2, 3), 5)(levels).shape == (1, 5, 3, 8)


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7])
def test_convolutions_of_any_odd_size_keep_the_size_of_the_map(kernel_size):
    fusion = MultiLevelFusion((2, 3), 5, kernel_size=kernel_size)
    assert fusion([torch.rand(1, 2, 8, 6), torch.rand(1, 3, 4, 3)]).shape == (1, 5, 4, 3)


def test_the_layers_of_each_group_start_as_those_of_torch():
    mlp = GroupMLP(64, 30, (16,))
    for values in mlp.layers[0].parameters():
        assert values.min().item() == pytest.approx(-1 / 8, rel=0.05)
        assert values.max().item() == pytest.approx(1 / 8, rel=0.05)
        assert values.mean().abs() < 0.01


def test_an_embedding_has_512_numbers_and_no_bias_before_a_norm():
    head = EmbeddingHead(8)
    assert head.size == 512
    assert [name for name, _ in head.named_parameters() if "bias" in name] == ["layers.1.bias", "layers.3.bias"]


def test_centres_lie_where_and_as_they_are_asked_for():
    loss = AttributeCenterLoss(GROUPS, 4, device="meta", dtype=torch.float64)
    assert (loss.centers.dtype, loss.centers.device.type, loss.group_of.device.type) == (torch.float64, "meta", "meta")


def test_modules_print_what_is_not_as_usual_and_nothing_else():
    assert CGFF(8, num_heads=2).extra_repr() == "8, num_heads=2"
    square = torch.tensor([[True, True], [False, True]])
    assert CGFF(8, num_heads=2, allowed=square).extra_repr() == "8, num_heads=2, allowed=3 pairs"
    plain = WSGSA(8, 2, reduction=4).extra_repr()
    assert plain == "8, 2, reduction=4, out_channels=8"
    assert WSGSA(8, 2, reduction=4, squeeze="mean+max").extra_repr() == f"{plain}, squeeze='mean+max'"
    looking = WSGSA(8, 2, reduction=4, spatial=True, num_heads=2, key_channels=4, coordinates=2).extra_repr()
    assert looking == f"{plain}, spatial=True, num_heads=2, key_channels=4, coordinates=2"


def test_pairs_that_are_neither_true_nor_false_are_told_as_numbers():
    with pytest.raises(ValueError, match=r"^CGFF: allowed says True or False of each pair, got 7\."):
        CGFF(8, num_heads=2, allowed=torch.tensor([[1, 7], [0, 1]]))


@pytest.mark.parametrize("batch", [(), (5,), (5, 4)], ids=["a map", "maps", "maps of images"])
def test_maps_are_drawn_whatever_stands_before_height_and_width(batch):
    maps = torch.randn(*batch, 2, 3)
    drawn = functional.draw_maps(maps, (8, 12))
    assert drawn.shape == (*batch, 8, 12)
    assert torch.equal(drawn[..., 0, 0], maps[..., 0, 0])
    assert torch.equal(drawn[..., -1, -1], maps[..., -1, -1])
    with pytest.raises(ValueError, match=r"too many values|longer"):
        functional.draw_maps(maps, (8, 12, 3))


@pytest.mark.parametrize("num_groups", [None, 3])
def test_groups_without_keys_listen_only_where_it_is_allowed(num_groups):
    allowed = [[True, True, False], [False, True, True], [True, True, True]]
    module = CGFF(8, num_heads=2, key_channels=0, num_groups=num_groups, allowed=allowed)
    affinity = module.affinity(torch.randn(2, 3, 8))
    assert torch.equal(affinity > 0, torch.tensor(allowed).expand(2, 3, 3))
    torch.testing.assert_close(affinity.sum(-1), torch.ones(2, 3))


@pytest.mark.parametrize("size", [(5,), (3, 4), (3, 4, 5)])
def test_coordinates_average_to_zero_over_the_positions_and_lie_with_the_features(size):
    found = functional.coordinates(torch.zeros(1, 8, *size, dtype=DOUBLE))
    torch.testing.assert_close(found.mean(1), torch.zeros(len(found), dtype=DOUBLE))
    assert (found.std(1) > 0.1).all()
    assert functional.coordinates(torch.zeros(1, 8, *size, device="meta")).device.type == "meta"


def test_channels_go_to_the_largest_remainders():
    assert functional.channel_shares((4, 3, 2), 4) == (2, 1, 1)  # 1.78, 1.33 and 0.89


class TestPrecision:
    """Whatever halves come in, losses are computed in single precision at least."""

    @pytest.mark.parametrize(
        ("losses", "given"),
        [
            (functional.binary_losses, [[[0.3, -2.2]], [[1.0, 0.0]], [2.3, 0.7]]),
            (functional.number_losses, [[[0.3, -2.2]], [[31.0, 7.0]], [30.5, 7.3], [9.1, 0.3]]),
            (functional.level_exceedance, [[[0.3, -2.2, 1.7]]]),
        ],
        ids=["binary", "number", "level"],
    )
    def test_of_halves(self, losses, given):
        halves = [torch.tensor(each, dtype=HALF) for each in given]
        found = losses(*halves)
        assert found.dtype == SINGLE
        torch.testing.assert_close(found, losses(*(each.float() for each in halves)))

    def test_of_outputs_whatever_the_weights_are(self):
        logits, targets, weights = torch.tensor([[0.3, -2.2]]), torch.tensor([[1.0, 0.0]]), torch.tensor([2.3, 0.7])
        assert functional.binary_losses(logits, targets, weights.double()).dtype == SINGLE
        scores, choices = torch.randn(1, 2, 3), torch.ones(2, 3, dtype=torch.bool)
        weighted = functional.categorical_losses(scores, targets, choices, torch.rand(2, 3).double())
        assert weighted.dtype == SINGLE
        assert functional.number_losses(logits, targets.double(), weights.double(), weights.double()).dtype == SINGLE

    @pytest.mark.parametrize("dtype", [HALF, SINGLE, DOUBLE])
    def test_thresholds_keep_the_type_of_the_targets(self, dtype):
        given = (torch.tensor(each, dtype=dtype) for each in ([[1.0, 1.0]], [0.0, 1.0], [2.0, 2.0]))
        found = functional.threshold_targets(*given)
        assert (found.dtype, found.tolist()) == (dtype, [[1, 0]])

    def test_of_centres(self):
        grouped, centers = torch.randn(3, 2, 4), torch.randn(3, 4).to(HALF)
        targets, group_of = torch.ones(3, 3, dtype=DOUBLE), torch.tensor([0, 1, 1])
        found = functional.attribute_center_loss(grouped, centers, targets, group_of)
        assert found.dtype == SINGLE
        torch.testing.assert_close(
            found, functional.attribute_center_loss(grouped, centers.float(), targets, group_of), rtol=1e-6, atol=0
        )


class TestWeighting:
    @pytest.mark.parametrize(
        ("draw", "weights"),
        [
            (0, [0.420055, 0.638906, 1.217117, 1.723922]),
            (1, [2.964014, 0.089308, 0.388629, 0.558048]),
            (2**40 + 7, [2.175949, 1.540314, 0.077765, 0.205973]),
        ],
    )
    def test_a_draw_gives_the_same_weights_in_every_version(self, draw, weights):
        assert functional.random_weights(torch.tensor(draw, device="meta"), 4).device.type == "meta"
        assert functional.random_weights(torch.tensor(draw), 4).tolist() == pytest.approx(weights, abs=2e-6)

    def test_a_first_loss_at_the_floor_leaves_no_fraction(self):
        floor = torch.tensor([functional.weighting.LOSS_FLOOR, 1.0])
        assert functional.loss_left(functional.LossHistory(floor, floor, floor)).isnan().tolist() == [True, False]

    def test_the_least_weight_is_exp_of_minus_80_and_a_nan_changes_no_other(self):
        history = functional.LossHistory(*(torch.tensor([1.0, 1.0, torch.nan]) for _ in range(3)))
        smallest = functional.dwa_weights(history._replace(latest=torch.tensor([1.0, 9e3, torch.nan])))
        assert (smallest[0] / smallest[1]).item() == pytest.approx(torch.tensor(-80.0).exp().item())
        small = functional.dws_weights(history._replace(latest=torch.tensor([1e-7, 2e-7, torch.nan])), alpha=5.0)
        assert (small[1] / small[0]).item() == pytest.approx(32)


def test_a_kind_needs_a_name_and_a_number_that_is_finite():
    with pytest.raises(ValueError, match=r"^Categorical: needs a name, got an empty one\."):
        Categorical("", ("a", "b"))
    with pytest.raises(ValueError, match=r"^Number: the mean of 'age' is finite, got inf\."):
        Number("age", mean=10**400, std=1.0)
