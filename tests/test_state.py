import pytest
import torch
from jaxtyping import TypeCheckError

from mtattn import AttributeGroups, DWSLoss, DynamicWeighting, GroupHeads

GROUPS = AttributeGroups({"a": ["x", "y"], "b": ["z"]})


@pytest.mark.parametrize("build", [lambda: DynamicWeighting(2), lambda: DWSLoss(GROUPS, pos_weight=[1.0, 2.0, 3.0])])
def test_a_state_that_stays_in_float32_moves_to_the_device_all_the_same(build):
    moved = build().to(device="meta", dtype=torch.float16)
    assert {buffer.device.type for buffer in moved.buffers()} == {"meta"}
    assert torch.float16 not in {buffer.dtype for buffer in moved.buffers()}


def test_heads_start_spread_over_the_whole_range():
    torch.manual_seed(0)
    heads = GroupHeads(16, AttributeGroups({"a": [str(index) for index in range(500)]}))
    for parameter in (heads.weight, heads.bias):
        assert parameter.min() < -0.24
        assert parameter.max() > 0.24
        assert parameter.mean().abs() < 0.02
        assert parameter.std().item() == pytest.approx(0.25 / 3**0.5, rel=0.1)


def test_heads_refuse_a_dict():
    with pytest.raises((TypeError, TypeCheckError), match=r"GroupHeads: groups is an AttributeGroups|'groups'"):
        GroupHeads(4, {"a": ["x"]})
