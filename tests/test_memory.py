"""What the modules allocate and keep: the pooled forms never build a map for each group."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mtattn import FARAMTN, WSGSA, AttributeGroups, GroupHeads

GROUPS = AttributeGroups({"nose": ["Big_Nose"], "eyes": ["Narrow_Eyes", "Eyeglasses"], "hair": ["Bald", "Bangs"]})


class LargestTensor(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation returns."""

    def __init__(self):
        super().__init__()
        self.num_elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.num_elements = max([self.num_elements, *sizes])
        return result


def largest(call):
    with LargestTensor() as seen:
        call()
    return seen.num_elements


@pytest.mark.parametrize("spatial", [False, True], ids=["plain", "spatial"])
def test_pooled_never_builds_a_map_for_each_group(spatial, device):
    wsgsa = WSGSA(32, 8, spatial=spatial, device=device)
    x = torch.randn(4, 32, 9, 9, device=device, requires_grad=True)
    assert largest(lambda: wsgsa(x)) == 8 * x.numel()
    assert largest(lambda: wsgsa.pooled(x).sum().backward()) == x.numel()


def test_the_model_never_builds_a_map_for_each_group(device):
    model = FARAMTN(torch.nn.Conv2d(3, 32, 1), 32, GROUPS).to(device)
    images = torch.randn(4, 3, 24, 24, device=device)
    one_map = 4 * 32 * 24 * 24
    assert largest(lambda: model(images).sum().backward()) == one_map
    assert largest(lambda: model.attribute_maps(images)) == 3 * one_map


@pytest.mark.parametrize(("spatial", "products"), [(False, 0), (True, 1)], ids=["plain", "spatial"])
def test_whole_maps_keep_their_factors_for_the_backward_pass_and_at_most_one_product(spatial, products, device):
    """Of three factors two have to be multiplied first: what is kept of them is as large as the result."""
    wsgsa = WSGSA(32, 8, spatial=spatial, device=device)
    x = torch.randn(4, 32, 9, 9, device=device, requires_grad=True)
    kept = []
    with saved_tensors_hooks(lambda tensor: kept.append(tensor.untyped_storage()) or tensor, lambda t: t):
        wsgsa(x)
    dense = {storage.data_ptr() for storage in kept if storage.nbytes() >= 8 * x.nbytes}
    assert len(dense) == products
    assert max(storage.nbytes() for storage in kept) == (8 if products else 1) * x.nbytes


def test_pooling_by_mask_or_maximum_builds_no_map_for_each_group_either(device):
    wsgsa = WSGSA(32, 8, squeeze="mean+max", device=device)
    x = torch.randn(4, 32, 9, 9, device=device, requires_grad=True)
    positions = torch.rand(4, 8, 9, 9, device=device)
    assert largest(lambda: wsgsa.pooled(x, positions).sum().backward()) == x.numel()
    assert largest(lambda: wsgsa.pooled(x, pool="max").sum().backward()) == x.numel()


def test_heads_build_nothing_as_wide_as_the_features_of_each_attribute(device):
    groups = AttributeGroups({"one": [f"attribute {number}" for number in range(40)], "other": ["last"]})
    heads = GroupHeads(64, groups, device=device)
    x = torch.randn(4, 2, 64, device=device, requires_grad=True)
    assert largest(lambda: heads(x).sum().backward()) <= max(x.numel(), heads.weight.numel())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_of_maps_keep_the_layout_of_the_maps(layout, device):
    wsgsa = WSGSA(32, 8, device=device)
    x = torch.randn(4, 32, 9, 9, device=device).to(memory_format=layout).requires_grad_()
    wsgsa.pooled(x).square().sum().backward()
    assert x.grad.is_contiguous(memory_format=layout)
