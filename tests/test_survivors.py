"""What mutation testing (``mutmut run``) found untested in modules that other tests call with one form only."""

import pytest
import torch
from torch import nn

from mtattn import WSGSA
from mtattn.modules import AttentionalFusion, BatchRandomMask, MaskHead, MultiLevelFusion


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
