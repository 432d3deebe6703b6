"""Gates that see the maximum, pooling by it, and who may listen to whom: laws, and what they refuse."""

import math

import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from test_properties import BATCHES, NUM_GROUPS, SEEDS, SPACES, grown
from torch import nn

from mtattn import CGFF, WSGSA, AttributeGroups

GROUPS = AttributeGroups({"head": ["Hat"], "body": ["Vest", "Bag"]})
MAPS = st.tuples(st.integers(1, 4), st.integers(1, 4))


def numbers(*shape):
    return torch.randn(shape, dtype=torch.float64)


class TestMaximum:
    @given(SEEDS, BATCHES, NUM_GROUPS, SPACES, st.booleans())
    def test_a_gate_passes_through_relu_and_maximum_exactly(self, seed, batch, groups, space, relu):
        torch.manual_seed(seed)
        wsgsa = grown(WSGSA(8, groups, reduction=4, shared=nn.ReLU() if relu else None))
        x = numbers(batch, 8, *space)
        dense = wsgsa(x)
        assert torch.equal(wsgsa.pooled(x, pool="max"), dense.flatten(3).amax(3) if space else dense)

    @given(SEEDS, BATCHES, NUM_GROUPS, SPACES)
    def test_gates_of_mean_and_maximum_are_those_of_the_loops(self, seed, batch, groups, space):
        torch.manual_seed(seed)
        wsgsa, x = grown(WSGSA(8, groups, reduction=4, squeeze="mean+max")), numbers(batch, 8, *space)
        p = (wsgsa.down_weight, wsgsa.down_bias, wsgsa.up_weight, wsgsa.up_bias)
        maximum = x.flatten(2).amax(2) if space else x
        if batch:
            logits = reference.channel_gates(x, *p).logit() + reference.channel_gates(maximum, *p).logit()
            torch.testing.assert_close(wsgsa.gates(x), logits.sigmoid())

    def test_one_group_is_the_channel_gate_of_cbam(self):
        from timm.layers.cbam import ChannelAttn

        cbam, wsgsa = ChannelAttn(32, rd_channels=8).double(), WSGSA(32, 1, reduction=4, squeeze="mean+max").double()
        with torch.no_grad():
            wsgsa.down_weight[0].copy_(cbam.fc1.weight.flatten(1))
            wsgsa.up_weight[0].copy_(cbam.fc2.weight.flatten(1))
        x = numbers(2, 32, 5, 5)
        torch.testing.assert_close(wsgsa(x)[:, 0], cbam(x))

    @pytest.mark.parametrize("given", [True, False], ids=["given", "learned"])
    def test_with_positions_it_is_refused(self, given):
        wsgsa, x = WSGSA(8, 3, reduction=4, spatial=not given), torch.randn(2, 8, 4, 4)
        with pytest.raises(ValueError, match="WSGSA: the maximum over space is one for all groups only where"):
            wsgsa.pooled(x, torch.ones(2, 3, 4, 4) if given else None, pool="max")

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: WSGSA(8, 2, reduction=4, squeeze="max"), "WSGSA: no squeeze 'max'"),
            (lambda: WSGSA(8, 2, reduction=4).pooled(torch.ones(2, 8), pool="sum"), "WSGSA: no pool 'sum'"),
        ],
        ids=["squeeze", "pool"],
    )
    def test_another_name_is_refused(self, call, message):
        with pytest.raises((ValueError, TypeCheckError), match=f"{message}|^Type-check error"):
            call()


class TestAllowed:
    @given(SEEDS, BATCHES, st.sampled_from([1, 2, 5]), SPACES)
    def test_a_group_hears_nothing_of_a_group_it_may_not_hear(self, seed, batch, groups, space):
        torch.manual_seed(seed)
        allowed = (torch.rand(groups, groups) < 0.5) | torch.eye(groups, dtype=torch.bool)
        cgff, x = grown(CGFF(8, num_heads=2, allowed=allowed)), numbers(batch, groups, 8, *space).requires_grad_()
        affinity = cgff.affinity(x)
        torch.testing.assert_close(affinity.sum(2), torch.ones(batch, groups, dtype=torch.float64))
        assert not affinity[:, ~allowed].any()
        for listener in range(groups):
            (gradient,) = torch.autograd.grad(cgff(x)[:, listener].sum(), x)
            assert not gradient[:, ~allowed[listener]].any()
            assert batch == 0 or gradient[:, listener].any()

    @given(SEEDS, st.sampled_from([1, 2, 5]), SPACES)
    def test_all_allowed_is_the_plain_module(self, seed, groups, space):
        torch.manual_seed(seed)
        cgff = grown(CGFF(8, num_heads=2, allowed=torch.ones(groups, groups)))
        plain = CGFF(8, num_heads=2).double()
        plain.load_state_dict({name: value for name, value in cgff.state_dict().items() if name != "allowed"})
        x = numbers(2, groups, 8, *space)
        assert torch.equal(cgff(x), plain(x))

    def test_it_is_the_identity_when_new(self):
        x = torch.randn(2, 2, 8)
        assert torch.equal(CGFF(8, allowed=[[1, 0], [1, 1]])(x), x)

    def test_who_may_listen_is_part_of_the_state(self):
        cgff = CGFF(8, allowed=[[1, 0], [1, 1]])
        other = CGFF(8, allowed=[[1, 1], [1, 1]])
        other.load_state_dict(cgff.state_dict())
        assert other.allowed.tolist() == [[True, False], [True, True]]
        with pytest.raises(RuntimeError, match="allowed"):
            CGFF(8).load_state_dict(cgff.state_dict())

    def test_reset_parameters_restores_it(self):
        cgff = CGFF(8, allowed=[[1, 0], [1, 1]])
        cgff.allowed.fill_(False)
        cgff.reset_parameters()
        assert cgff.allowed.tolist() == [[True, False], [True, True]]

    @pytest.mark.parametrize(
        ("allowed", "message"),
        [
            pytest.param([[1, 0], [0, 0]], r"got none for group 1; .*allowed\[1\]\[1\]", id="alone"),
            pytest.param([[1, 0]], r"allowed is a square, .*got rows of \[2\]", id="no square"),
            pytest.param([[1, 0], [1]], r"allowed is a square", id="ragged"),
            pytest.param([], r"allowed is a square", id="empty"),
            pytest.param([[1, 0.5], [0, 1]], "allowed says True or False of each pair, got 0.5", id="half"),
            pytest.param([[1, math.nan], [0, 1]], "allowed says True or False of each pair, got nan", id="NaN"),
        ],
    )
    def test_what_says_not_who_may_listen_is_refused(self, allowed, message):
        with pytest.raises((ValueError, TypeCheckError), match=f"CGFF: .*{message}|^Type-check error"):
            CGFF(8, allowed=allowed)

    def test_another_number_of_groups_is_refused(self):
        with pytest.raises(ValueError, match="CGFF: expects 2 groups, got 3"):
            CGFF(8, allowed=[[True, False], [True, True]])(torch.randn(2, 3, 8))
