"""set_grad_checkpointing: the same gradients and statistics with less kept."""

import copy
import pickle

import pytest
import timm
import torch
from torch import nn

from mtattn import FARAMTN, AttributeGroups
from mtattn.models import set_grad_checkpointing

GROUPS = AttributeGroups({"nose": ["Big_Nose"], "eyes": ["Narrow_Eyes", "Eyeglasses"]})
BACKBONES = {
    "ResNet": ("resnet18", {"drop_stages": 1}),
    "EfficientNet": ("efficientnet_lite0", {}),
    "ConvNeXt": ("convnext_atto", {}),
    "ViT with dropped paths": ("vit_tiny_patch16_224", {"backbone_options": {"img_size": 32, "drop_path_rate": 0.3}}),
}
backbones = pytest.mark.parametrize(
    ("name", "options"), [pytest.param(*pair, id=key) for key, pair in BACKBONES.items()]
)


class CountingBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.calls = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), 0

    def forward(self, x):
        self.calls += 1
        return x + self.norm(self.conv(x)).relu()


def trained_once(model, images):
    torch.manual_seed(0)
    model(images).square().sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}, model.state_dict()


@backbones
def test_gradients_and_statistics_are_exactly_the_same(name, options):
    model = FARAMTN.from_timm(name, GROUPS, **options).train()
    other = copy.deepcopy(model)
    set_grad_checkpointing(other.trunk)
    images = torch.rand(4, 3, 32, 32)
    for one, two in zip(trained_once(model, images), trained_once(other, images), strict=True):
        assert one.keys() == two.keys()
        assert all(torch.equal(tensor, two[key]) for key, tensor in one.items())


@backbones
def test_less_is_kept_between_forward_and_backward(name, options):
    model, kept = FARAMTN.from_timm(name, GROUPS, **options).train(), []
    for enable in (False, True):
        set_grad_checkpointing(model.trunk, enable)
        sizes = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.setdefault(tensor.data_ptr(), tensor.nbytes) and tensor,  # noqa: B023
            lambda tensor: tensor,
        ):
            model(torch.rand(8, 3, 64 if "vit" not in name else 32, 64 if "vit" not in name else 32))
        kept.append(sum(sizes.values()))
    assert kept[1] < 0.7 * kept[0]


def test_blocks_are_computed_twice_in_training_only():
    trunk = nn.Sequential(CountingBlock(), CountingBlock())
    set_grad_checkpointing(trunk)
    images = torch.rand(2, 3, 4, 4, requires_grad=True)
    trunk.eval()(images).sum().backward()
    with torch.no_grad():
        trunk.train()(images)
    assert [block.calls for block in trunk] == [2, 2]
    trunk(images).sum().backward()
    assert [block.calls for block in trunk] == [4, 4]
    set_grad_checkpointing(trunk, False)
    trunk(images).sum().backward()
    assert [block.calls for block in trunk] == [5, 5]


def test_a_trunk_without_blocks_is_computed_twice_as_a_whole():
    trunk = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
    other = copy.deepcopy(trunk)
    set_grad_checkpointing(other)
    for module in (trunk, other):
        module(torch.ones(2, 3, 4, 4)).square().sum().backward()
    assert torch.equal(trunk[0].weight.grad, other[0].weight.grad)
    assert other[1].num_batches_tracked == 1


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_a_copy_computes_its_own_blocks(copied):
    trunk = nn.Sequential(CountingBlock())
    set_grad_checkpointing(trunk)
    other = copied(trunk)
    other(torch.rand(2, 3, 4, 4)).sum().backward()
    assert (trunk[0].calls, other[0].calls) == (0, 2)
    assert trunk.state_dict().keys() == other.state_dict().keys() == nn.Sequential(CountingBlock()).state_dict().keys()


def test_it_is_what_timm_does_to_a_whole_model():
    model = timm.create_model("resnet18", num_classes=0).train()
    other = copy.deepcopy(model)
    set_grad_checkpointing(model)
    other.set_grad_checkpointing()
    images = torch.rand(2, 3, 32, 32)
    for module in (model, other):
        module(images).square().sum().backward()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad)


@pytest.mark.compile
def test_it_compiles_and_updates_statistics_once():
    torch._dynamo.reset()
    trunk = FARAMTN.from_timm("resnet18", GROUPS, drop_stages=2).trunk.train()
    other = copy.deepcopy(trunk)
    set_grad_checkpointing(other)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    images = torch.rand(4, 3, 32, 32)
    trunk(images).sum().backward()
    compiled(images).sum().backward()
    for (name, tensor), expected in zip(other.state_dict().items(), trunk.state_dict().values(), strict=True):
        torch.testing.assert_close(tensor, expected, msg=name)
    for one, two in zip(other.parameters(), trunk.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-3, atol=1e-4)
