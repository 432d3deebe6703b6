"""What joins and follows features: laws, the slow loops, and what they refuse."""

import math

import pytest
import reference
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from test_properties import BATCHES, SEEDS, SPACES, grown

from mtattn import AttributeGroups, Categorical, functional
from mtattn.modules import (
    AttentionalFusion,
    AttributeCenterLoss,
    EmbeddingHead,
    GroupMLP,
    MultiLevelFusion,
)

GROUPS = AttributeGroups({"head": ["Hat"], "body": ["Vest", "Bag"]})
MAPS = st.tuples(st.integers(1, 4), st.integers(1, 4))


def numbers(*shape):
    return torch.randn(shape, dtype=torch.float64)


class TestMultiLevelFusion:
    @given(st.lists(st.integers(1, 900), min_size=1, max_size=5), st.integers(1, 600))
    def test_shares_are_proportional_and_sum_to_the_whole(self, channels, out_channels):
        shares = functional.channel_shares(channels, out_channels)
        assert sum(shares) == out_channels
        for share, width in zip(shares, channels, strict=True):
            assert abs(share - out_channels * width / sum(channels)) < 1

    @given(SEEDS, BATCHES)
    def test_with_a_kernel_of_one_the_mean_of_the_fusion_is_the_fusion_of_the_means(self, seed, batch):
        torch.manual_seed(seed)
        fusion = MultiLevelFusion((4, 8), 6, kernel_size=1).double()
        levels = [numbers(batch, 4, 6, 6), numbers(batch, 8, 3, 3)]
        of_means = fusion([level.mean((2, 3), keepdim=True) for level in levels])
        torch.testing.assert_close(fusion(levels).mean((2, 3), keepdim=True), of_means)

    def test_it_equals_one_convolution_with_blocks_on_the_joined_levels(self):
        fusion = MultiLevelFusion((4, 8), 6).double()
        levels = [numbers(2, 4, 6, 6), numbers(2, 8, 3, 3)]
        joined = torch.cat([F.avg_pool2d(levels[0], 2), levels[1]], 1)
        weight = torch.zeros(6, 12, 3, 3).double()
        weight[:2, :4], weight[2:, 4:] = (convolution.weight for convolution in fusion.convolutions)
        torch.testing.assert_close(fusion(levels), F.conv2d(joined, weight, padding=1))

    @pytest.mark.parametrize(
        ("levels", "message"),
        [
            pytest.param([(2, 8, 3, 3), (2, 4, 6, 6)], "level 0: expects 4 channels, got 8", id="other order"),
            pytest.param([(2, 4, 3, 3), (2, 8, 6, 6)], r"0: levels go from fine to coarse, got \(3, 3\)", id="sizes"),
            pytest.param([(2, 4, 6, 6)], "expects a list of 2 levels, got 1 of them", id="one"),
            pytest.param((2, 4, 6, 6), r"a list of 2 levels, got one tensor \(2, 4, 6, 6\)", id="a tensor"),
            pytest.param([(2, 6, 6, 4), (2, 8, 3, 3)], r"level 0: .*channels come last: pass x\.movedim", id="last"),
        ],
    )
    def test_levels_that_are_others_are_refused(self, levels, message):
        given = torch.zeros(levels) if isinstance(levels, tuple) else [torch.zeros(shape) for shape in levels]
        with pytest.raises((ValueError, TypeCheckError), match=f"MultiLevelFusion.*{message}|^Type-check error"):
            MultiLevelFusion((4, 8), 6)(given)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (((), 6), "needs at least one level"),
            (((4, 0), 6), r"channels\[1\] must be at least 1"),
            (((1, 900), 6), r"each level needs a share, got \(0, 6\); raise out_channels"),
        ],
    )
    def test_sizes_that_cannot_be_are_refused(self, arguments, message):
        with pytest.raises(ValueError, match=f"MultiLevelFusion: .*{message}"):
            MultiLevelFusion(*arguments)

    def test_an_even_kernel_is_refused(self):
        with pytest.raises(ValueError, match="kernel_size is odd, so that the size is kept, got 2"):
            MultiLevelFusion((4,), 6, kernel_size=2)


class TestAttentionalFusion:
    @given(SEEDS, BATCHES, SPACES)
    def test_each_number_lies_between_the_two_and_both_orders_share_the_sum(self, seed, batch, space):
        torch.manual_seed(seed)
        fusion, x, y = grown(AttentionalFusion(8)), numbers(batch, 8, *space), numbers(batch, 8, *space)
        fused = fusion(x, y)
        assert ((torch.minimum(x, y) <= fused) & (fused <= torch.maximum(x, y))).all()
        torch.testing.assert_close(fused + fusion(y, x), x + y)
        assert torch.equal(fusion(x, x), x)

    @pytest.mark.parametrize("space", [(), (3,), (2, 2)], ids=["vectors", "tokens", "images"])
    def test_equals_the_loops(self, space):
        fusion, x, y = grown(AttentionalFusion(4, reduction=2)), numbers(2, 4, *space), numbers(2, 4, *space)
        layers = {
            which: (part[0].weight, part[0].bias, part[2].weight, part[2].bias)
            for which, part in (("local", fusion.local), ("context", fusion.context))
        }
        torch.testing.assert_close(fusion(x, y), reference.attentional_fusion(x, y, layers))

    def test_two_shapes_are_refused(self):
        with pytest.raises(
            (ValueError, TypeCheckError), match=r"have one shape, got \(2, 8, 4\) and \(2, 8, 3\)|^Type-check error"
        ):
            AttentionalFusion(8)(torch.zeros(2, 8, 4), torch.zeros(2, 8, 3))

    def test_a_reduction_that_leaves_a_rest_is_refused(self):
        with pytest.raises(ValueError, match="AttentionalFusion: reduction must divide channels, got channels=6"):
            AttentionalFusion(6)


class TestGroupMLP:
    @given(SEEDS, st.sampled_from([1, 2]), st.sampled_from([1, 3]), st.lists(st.integers(1, 4), min_size=1, max_size=3))
    def test_equals_the_loops(self, seed, batch, groups, hidden):
        torch.manual_seed(seed)
        mlp, x = grown(GroupMLP(4, groups, hidden)), numbers(batch, groups, 4)
        layers = [(layer.weight, layer.bias) for layer in mlp.layers if hasattr(layer, "weight")]
        torch.testing.assert_close(mlp(x), reference.group_mlp(x, layers))

    def test_groups_do_not_see_each_other(self):
        mlp, x = grown(GroupMLP(4, 3, (5, 2))), numbers(2, 3, 4)
        jacobian = torch.autograd.functional.jacobian(lambda x: mlp(x)[0], x)[:, :, 0]  # group, out, group, channel
        for group in range(3):
            others = [other for other in range(3) if other != group]
            assert not jacobian[group][:, others].any()

    def test_permuting_the_groups_with_their_weights_permutes_the_output(self):
        mlp, permuted, order = grown(GroupMLP(4, 3, (5, 2))), GroupMLP(4, 3, (5, 2)).double(), torch.tensor([2, 0, 1])
        permuted.load_state_dict({name: value[order] for name, value in mlp.state_dict().items()})
        x = numbers(2, 3, 4)
        torch.testing.assert_close(permuted(x[:, order]), mlp(x)[:, order])

    def test_dropout_acts_in_training_only(self):
        mlp, x = grown(GroupMLP(4, 3, (64,), dropout=0.5)), numbers(2, 3, 4)
        assert not torch.equal(mlp.train()(x), mlp(x))
        assert torch.equal(mlp.eval()(x), mlp(x))

    @pytest.mark.parametrize(
        ("hidden", "options", "message"),
        [
            ((), {}, "needs at least one layer"),
            ((0,), {}, r"hidden\[0\] must be at least 1"),
            ((4,), {"dropout": 1.0}, r"dropout is a probability in \[0, 1\), got 1.0"),
        ],
    )
    def test_what_cannot_be_is_refused(self, hidden, options, message):
        with pytest.raises(ValueError, match=f"GroupMLP: {message}"):
            GroupMLP(4, 3, hidden, **options)

    def test_maps_are_refused(self):
        with pytest.raises(
            (ValueError, TypeCheckError), match=r"pooled features \(batch, group, channel\), got|^Type-check error"
        ):
            GroupMLP(4, 3, (2,))(torch.randn(2, 3, 4, 5))


class TestEmbeddingHead:
    def test_in_training_the_scale_of_the_last_weight_does_not_matter(self):
        head, x = EmbeddingHead(8, 4).double(), numbers(6, 8)
        before = head(x)
        with torch.no_grad():
            head.layers[2].weight.mul_(7)
        torch.testing.assert_close(head(x), before, rtol=1e-3, atol=1e-3)

    def test_one_image_while_training_is_refused(self):
        head = EmbeddingHead(8, 4)
        with pytest.raises(ValueError, match=r"batch norms need two images while training, got one; .*drop_last"):
            head(torch.randn(1, 8))
        assert head.eval()(torch.randn(1, 8)).shape == (1, 4)

    def test_maps_are_refused(self):
        with pytest.raises(
            (ValueError, TypeCheckError), match=r"EmbeddingHead: expects pooled features|^Type-check error"
        ):
            EmbeddingHead(8, 4)(torch.randn(2, 8, 5, 5))


class TestAttributeCenterLoss:
    @given(SEEDS, BATCHES, st.booleans(), st.sampled_from([0.0, 0.3, 1.0]))
    def test_equals_the_double_loop_with_its_gradients(self, seed, batch, grouped, missing):
        torch.manual_seed(seed)
        loss = grown(AttributeCenterLoss(GROUPS, 4))
        features = numbers(batch, 2, 4).requires_grad_() if grouped else numbers(batch, 4).requires_grad_()
        targets = torch.rand(batch, 3, dtype=torch.float64).round()
        targets[torch.rand(batch, 3) < missing] = math.nan
        group_of = GROUPS.group_of if grouped else (0, 0, 0)
        slow = reference.attribute_center_loss(
            features if grouped else features[:, None], loss.centers, targets, group_of
        )
        got = loss(features, targets)
        torch.testing.assert_close(got, slow)
        if slow.requires_grad:
            inputs = [features, loss.centers]
            for one, other in zip(torch.autograd.grad(got, inputs), torch.autograd.grad(slow, inputs), strict=True):
                torch.testing.assert_close(one, other)

    def test_the_best_centres_are_the_means_of_the_images_with_the_attribute(self):
        loss, features = AttributeCenterLoss(GROUPS, 4).double(), numbers(6, 4)
        targets = torch.tensor([[1.0, 0, 1], [1, 1, 0], [0, 1, 1]]).double().repeat(2, 1)
        with torch.no_grad():
            loss.centers.copy_(targets.T @ features / targets.sum(0)[:, None])
        loss(features, targets).backward()
        torch.testing.assert_close(loss.centers.grad, torch.zeros_like(loss.centers))

    def test_a_shift_of_features_and_centres_changes_nothing(self):
        loss, features, targets = AttributeCenterLoss(GROUPS, 4), torch.randn(6, 4), torch.ones(6, 3)
        before = loss(features, targets)
        with torch.no_grad():
            loss.centers.add_(30)
        torch.testing.assert_close(loss(features + 30, targets), before, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_under_autocast_and_for_half_features_it_is_computed_in_float32(self, dtype, device):
        loss, features, targets = (
            AttributeCenterLoss(GROUPS, 64).to(device),
            torch.randn(6, 64).to(device),
            torch.ones(6, 3),
        )
        exact = loss(features.to(dtype).float(), targets.to(device))
        with torch.autocast(device.type, dtype=dtype):
            got = loss(features.to(dtype), targets.to(device))
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, exact)

    def test_attributes_of_another_kind_are_refused(self):
        groups = AttributeGroups({"body": ["Vest", Categorical("view", ("front", "back"))]})
        with pytest.raises(ValueError, match="AttributeCenterLoss: centres belong to binary attributes, got 'view'"):
            AttributeCenterLoss(groups, 4)

    @pytest.mark.parametrize(
        ("features", "targets", "message"),
        [
            ((6, 5), (6, 3), "expects 4 channels, got 5"),
            ((6, 3, 4), (6, 3), "expects 2 groups, got 3"),
            ((6, 4), (6, 2), r"targets are \(batch, 3\), one column an attribute, got \(6, 2\) for 6 images"),
        ],
        ids=["channels", "groups", "columns"],
    )
    def test_other_sizes_are_refused(self, features, targets, message):
        with pytest.raises((ValueError, TypeCheckError), match=f"AttributeCenterLoss: {message}"):
            AttributeCenterLoss(GROUPS, 4)(torch.zeros(features), torch.zeros(targets))

    @pytest.mark.compile
    def test_it_compiles_without_a_graph_break(self):
        loss, features, targets = AttributeCenterLoss(GROUPS, 4), torch.randn(6, 2, 4), torch.ones(6, 3)
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(features, targets), loss(features, targets))
