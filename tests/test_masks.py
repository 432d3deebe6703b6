"""Masks: where groups look when it is known, MaskHead and BatchRandomMask; laws, and what they refuse."""

import math

import pytest
import reference
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from test_properties import BATCHES, NUM_GROUPS, SEEDS, SPACES, grown
from torch import nn

from mtattn import WSGSA, AttributeGroups, functional
from mtattn.modules import (
    BatchRandomMask,
    MaskHead,
)

GROUPS = AttributeGroups({"head": ["Hat"], "body": ["Vest", "Bag"]})
MAPS = st.tuples(st.integers(1, 4), st.integers(1, 4))


def numbers(*shape):
    return torch.randn(shape, dtype=torch.float64)


class TestMaskPositions:
    @given(SEEDS, BATCHES, NUM_GROUPS, MAPS, MAPS)
    def test_they_average_to_one_for_masks_of_any_size(self, seed, batch, groups, size, masks):
        torch.manual_seed(seed)
        positions = functional.mask_positions(torch.rand(batch, groups, *masks, dtype=torch.float64), size)
        assert positions.shape == (batch, groups, *size)
        torch.testing.assert_close(positions.mean((2, 3)), torch.ones(batch, groups, dtype=torch.float64))

    @given(SEEDS, NUM_GROUPS, MAPS, MAPS)
    def test_the_pooled_form_is_the_mean_under_the_mask(self, seed, groups, size, masks):
        torch.manual_seed(seed)
        x, masks = numbers(2, 3, *size), torch.rand(2, groups, *masks, dtype=torch.float64)
        got = functional.gate_mean(x, torch.ones(2, groups, 3).double(), functional.mask_positions(masks, size))
        torch.testing.assert_close(got, reference.masked_means(x, masks, 1e-6))

    @given(SEEDS, MAPS, st.sampled_from([0.0, 1.0, 7.0]))
    def test_a_mask_that_is_the_same_everywhere_is_the_plain_mean(self, seed, size, value):
        torch.manual_seed(seed)
        wsgsa, x = grown(WSGSA(8, 2, reduction=4)), numbers(2, 8, *size)
        positions = functional.mask_positions(torch.full((2, 2, 9, 9), value).double(), size)
        torch.testing.assert_close(wsgsa.pooled(x, positions), wsgsa.pooled(x))

    @given(SEEDS, MAPS)
    def test_the_scale_of_a_mask_does_not_matter_and_permuting_groups_permutes(self, seed, size):
        torch.manual_seed(seed)
        masks, order = torch.rand(2, 3, 8, 8, dtype=torch.float64), torch.randperm(3)
        positions = functional.mask_positions(masks, size, floor=0)
        torch.testing.assert_close(functional.mask_positions(255 * masks, size, floor=0), positions)
        torch.testing.assert_close(functional.mask_positions(masks[:, order], size, floor=0), positions[:, order])

    @given(SEEDS, st.sampled_from([1, 2, 4]))
    def test_parts_that_tile_the_image_give_its_mean_back_each_by_its_area(self, seed, side):
        torch.manual_seed(seed)
        x = numbers(2, 5, side, side)
        parts = F.one_hot(torch.randint(3, (2, 8, 8)), 3).movedim(-1, 1).double()
        looks = functional.mask_positions(parts, (side, side), floor=1e-12)
        areas = F.adaptive_avg_pool2d(parts, (side, side)).mean((2, 3))
        means = functional.gate_mean(x, torch.ones(2, 3, 5).double(), looks)
        torch.testing.assert_close((areas[..., None] * means).sum(1), x.mean((2, 3)), rtol=1e-6, atol=1e-8)

    def test_a_mask_of_one_position_reads_this_position(self):
        x, masks = numbers(1, 5, 3, 3), torch.zeros(1, 1, 3, 3).double()
        masks[0, 0, 1, 2] = 1
        got = functional.gate_mean(x, torch.ones(1, 1, 5).double(), functional.mask_positions(masks, (3, 3)))
        torch.testing.assert_close(got[0, 0], x[0, :, 1, 2], rtol=1e-4, atol=1e-4)

    def test_unknown_and_negative_pixels_count_as_nothing(self):
        masks = torch.tensor([[[[1.0, math.nan], [-3.0, 1.0]]]])
        expected = functional.mask_positions(torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]]), (2, 2))
        assert torch.equal(functional.mask_positions(masks, (2, 2)), expected)

    def test_an_unknown_mask_looks_everywhere_alike(self):
        positions = functional.mask_positions(torch.full((1, 1, 8, 8), math.nan), (2, 2))
        torch.testing.assert_close(positions, torch.ones(1, 1, 2, 2))


class TestGivenPositions:
    @given(SEEDS, BATCHES, NUM_GROUPS, SPACES, st.booleans())
    def test_pooled_equals_the_dense_result_averaged(self, seed, batch, groups, space, spatial):
        torch.manual_seed(seed)
        wsgsa, x = grown(WSGSA(8, groups, reduction=4, spatial=spatial)), numbers(batch, 8, *space)
        positions = torch.rand(batch, groups, *space, dtype=torch.float64)
        dense = wsgsa(x, positions)
        expected = wsgsa.gates(x).reshape(batch, groups, 8, *[1] * len(space)) * positions[:, :, None] * x[:, None]
        torch.testing.assert_close(dense, expected)
        averaged = dense.flatten(3).mean(3) if space else dense
        torch.testing.assert_close(wsgsa.pooled(x, positions=positions), averaged)

    def test_those_of_the_module_itself_change_nothing(self):
        wsgsa, x = grown(WSGSA(8, 3, reduction=4, spatial=True)), numbers(2, 8, 4, 5)
        torch.testing.assert_close(wsgsa(x, wsgsa.positions(x)), wsgsa(x))
        torch.testing.assert_close(wsgsa.pooled(x, wsgsa.positions(x)), wsgsa.pooled(x))

    def test_they_weigh_what_the_shared_module_returns(self):
        wsgsa, x = WSGSA(8, 3, reduction=4, shared=nn.Conv2d(8, 6, 3), out_channels=6), torch.randn(2, 8, 5, 5)
        positions = functional.mask_positions(torch.rand(2, 3, 10, 10), (3, 3))
        torch.testing.assert_close(wsgsa.pooled(x, positions), wsgsa(x, positions).mean((-2, -1)))

    @pytest.mark.parametrize(
        ("shape", "message"),
        [
            pytest.param((2, 2, 4, 5), "WSGSA, its positions: expects 3 groups, got 2", id="groups"),
            pytest.param((2, 3, 8, 10), r"weigh those of f\(x\), \(4, 5\), got \(8, 10\); .*mask_positions", id="size"),
            pytest.param((2, 3, 20), r"weigh those of f\(x\), \(4, 5\), got \(20,\)", id="flat"),
        ],
    )
    @pytest.mark.parametrize("method", ["forward", "pooled"])
    def test_positions_of_another_number_or_size_are_refused(self, method, shape, message):
        with pytest.raises((ValueError, TypeCheckError), match=message):
            getattr(WSGSA(8, 3, reduction=4), method)(torch.randn(2, 8, 4, 5), torch.rand(shape))


class TestMaskHead:
    @pytest.mark.parametrize("space", [(), (3,), (4, 5), (2, 3, 4)], ids=["vectors", "tokens", "images", "volumes"])
    def test_a_new_one_makes_the_model_without_masks(self, space):
        assert torch.equal(MaskHead(8, 3)(torch.randn(2, 8, *space)), torch.zeros(2, 3, *space))

    def test_it_is_a_convolution_of_one_pixel(self):
        head, x = grown(MaskHead(8, 3)), numbers(2, 8, 4, 5)
        torch.testing.assert_close(head(x), F.conv2d(x, head.linear.weight[..., None, None], head.linear.bias))

    def test_its_loss_is_binary_cross_entropy_where_the_mask_is_known(self):
        logits, masks = numbers(2, 3, 4, 4), torch.rand(2, 3, 4, 4, dtype=torch.float64)
        masks[0, 0] = masks[1, 2, :2] = math.nan
        known = ~masks.isnan()
        expected = F.binary_cross_entropy_with_logits(logits[known], masks[known])
        torch.testing.assert_close(functional.mask_bce(logits, masks), expected)

    def test_a_larger_mask_counts_by_the_area_that_is_known(self):
        logits = numbers(1, 1, 1, 2).requires_grad_()
        masks = torch.tensor([[[[1.0, 0.0, math.nan, math.nan], [1.0, math.nan, math.nan, math.nan]]]]).double()
        loss = functional.mask_bce(logits, masks)
        torch.testing.assert_close(
            loss, F.binary_cross_entropy_with_logits(logits[0, 0, 0, 0], torch.tensor(2 / 3).double())
        )
        loss.backward()
        assert logits.grad[0, 0, 0, 1] == 0

    def test_without_a_known_pixel_it_is_zero(self):
        logits = torch.randn(2, 3, 4, 4, requires_grad=True)
        loss = functional.mask_bce(logits, torch.full((2, 3, 8, 8), math.nan))
        loss.backward()
        assert loss == 0
        assert not logits.grad.any()


class TestBatchRandomMask:
    def test_all_images_lose_the_same_positions_and_nothing_else_changes(self):
        x = torch.rand(3, 4, 20, 20) + 1
        out = BatchRandomMask(0.3)(x)
        kept = out[0, 0] != 0
        assert torch.equal(out, x * kept)
        assert 0.6 < kept.float().mean() < 0.8

    def test_in_evaluation_and_with_probability_zero_it_is_the_identity(self):
        x = torch.randn(3, 4, 5)
        assert torch.equal(BatchRandomMask(0.9).eval()(x), x)
        assert torch.equal(BatchRandomMask(0)(x), x)

    @pytest.mark.parametrize("probability", [1, -0.1, math.nan])
    def test_another_probability_is_refused(self, probability):
        with pytest.raises(ValueError, match=r"BatchRandomMask: probability is a probability in \[0, 1\), got"):
            BatchRandomMask(probability)

    def test_vectors_have_nothing_to_hide(self):
        with pytest.raises((ValueError, TypeCheckError), match="expects the axes batch, channel, space"):
            BatchRandomMask(0.5)(torch.randn(2, 8))
