"""torch.compile without graph breaks and torch.export, for every module under contract.

The compiled graphs run uncompiled (``aot_eager``): breaks and guards are the same, and it takes seconds.
"""

import copy

import pytest
import torch
from test_contract import CASES, MODELS, cases
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.export import Dim, export

from mtattn import (
    CGFF,
    FARAMTN,
    WSGSA,
    AttributeGroups,
    Categorical,
    DWSLoss,
    DynamicWeighting,
    GroupHeads,
    Number,
    Ordinal,
    functional,
)

pytestmark = pytest.mark.compile
BATCH, HEIGHT, WIDTH = Dim("batch", max=64), Dim("height", min=2, max=64), Dim("width", min=2, max=64)
GROUPS = AttributeGroups({"nose": ["Big_Nose"], "eyes": ["Narrow_Eyes", "Eyeglasses", "Bags"]})


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()


class Method(nn.Module):
    """A module whose forward is another method, for tools that take modules only."""

    def __init__(self, module, name):
        super().__init__()
        self.module, self.name = module, name

    def forward(self, x):
        return getattr(self.module, self.name)(x)


METHODS = {
    "WSGSA pooled": (CASES["WSGSA shared"], "pooled"),
    "WSGSA spatial pooled": (CASES["WSGSA spatial"], "pooled"),
    "WSGSA gates": (CASES["WSGSA"], "gates"),
    "WSGSA positions": (CASES["WSGSA spatial"], "positions"),
    "CGFF affinity": (CASES["CGFF"], "affinity"),
    "FARAMTN maps": (CASES["FARAMTN custom"], "attribute_maps"),
    "DWSLoss groups": (CASES["DWSLoss"], "group_losses"),
}
methods = pytest.mark.parametrize(("case", "name"), [pytest.param(*pair, id=key) for key, pair in METHODS.items()])


@pytest.mark.parametrize(
    ("case", "training"),
    [
        pytest.param(case, training, id=f"{'training' if training else 'evaluation'}-{name}")
        for name, case in CASES.items()
        for training in (True, False)
        if training or case.is_loss or case.has_norm  # the others do the same in both
    ],
)
def test_compiles_without_a_graph_break(case, training):
    module = case.grown().train(training)
    compiled = torch.compile(copy.deepcopy(module), fullgraph=True, backend="aot_eager")
    for seed in range(2):
        here, there = case.inputs(seed=seed), case.inputs(seed=seed)
        here[0].requires_grad_()
        there[0].requires_grad_()
        expected, got = module(*here), compiled(*there)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
        expected.square().sum().backward()
        got.square().sum().backward()
        torch.testing.assert_close(there[0].grad, here[0].grad, rtol=1e-3, atol=1e-5)
    for (key, value), wanted in zip(compiled._orig_mod.state_dict().items(), module.state_dict().values(), strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-5, equal_nan=True, msg=key)


@pytest.mark.parametrize(
    ("attributes", "num_columns"),
    [
        pytest.param(["a", "b"], 2, id="binary"),
        pytest.param(["a", Number("years", mean=30, std=10)], 2, id="number"),
        pytest.param([Ordinal("age", ("child", "young", "old"))], 2, id="ordinal"),
        pytest.param([Categorical("hair", ("red", "fair", "dark")), "a"], 4, id="categorical"),
    ],
)
def test_groups_that_were_never_read_before_compile(attributes, num_columns):
    loss = DWSLoss(AttributeGroups({"only": attributes}))  # nothing here may read them, not even an eager call
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    outputs, targets = torch.randn(4, num_columns), torch.ones(4, len(attributes))
    value = compiled(outputs, targets)
    torch.testing.assert_close(value, loss(outputs, targets))


@methods
def test_its_other_methods_compile_without_a_graph_break(case, name):
    module = case.grown().eval()
    compiled = torch.compile(getattr(module, name), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*case.inputs()), getattr(module, name)(*case.inputs()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", ["dws", "equal", "dwa", "trend", "random"])
def test_every_rule_compiles_without_a_graph_break(rule):
    module = DynamicWeighting(3, rule=rule)
    other = copy.deepcopy(module)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    for seed in range(6):
        torch.manual_seed(seed)
        losses = torch.rand(3)
        torch.testing.assert_close(compiled(losses), module(losses))
        if seed % 2:
            module.step()
            other.step()
            torch.testing.assert_close(other.weights, module.weights)


@cases({name: case for name, case in MODELS.items() if name != "FARAMTN from timm"})  # the rest of it is timm's
def test_other_batch_sizes_compile_once_more_at_most(case):
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(case.grown().eval(), fullgraph=True, backend=counter)
    for batch in (4, 6, 8):
        assert len(compiled(*case.inputs(batch=batch))) == batch
    assert counter.frame_count <= 2


def test_new_weights_do_not_compile_again():
    case = CASES["DWSLoss"]
    module, counter = case.build(), CompileCounterWithBackend("eager")
    compiled = torch.compile(module, fullgraph=True, backend=counter)
    for seed in range(5):
        compiled(*case.inputs(seed=seed))
        module.step()
    assert counter.frame_count == 1


@cases(MODELS)
def test_exports_with_any_batch_size(case):
    module = case.grown().eval()
    program = export(module, tuple(case.inputs()), dynamic_shapes=tuple({0: BATCH} for _ in case.shapes))
    for batch in (2, 7):
        inputs = case.inputs(batch=batch)
        torch.testing.assert_close(program.module()(*inputs), module(*inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("case", "name"), [pytest.param(*pair, id=key) for key, pair in METHODS.items() if not pair[0].is_loss]
)
def test_its_other_methods_export_with_any_batch_size(case, name):
    module = case.grown().eval()
    program = export(Method(module, name), tuple(case.inputs()), dynamic_shapes=({0: BATCH},))
    for batch in (2, 7):
        inputs = case.inputs(batch=batch)
        torch.testing.assert_close(program.module()(*inputs), getattr(module, name)(*inputs), rtol=1e-4, atol=1e-5)


@cases({name: case for name, case in MODELS.items() if name.startswith("FARAMTN")})
@pytest.mark.parametrize("name", ["forward", "attribute_maps"])
def test_the_model_exports_with_any_batch_and_image_size(name, case):
    module = case.grown().eval()
    space = dict.fromkeys((0, 2, 3), Dim.DYNAMIC)  # an axis that turns out to be fixed is an error
    program = export(Method(module, name), (torch.rand(2, 3, 96, 128),), dynamic_shapes=(space,))
    for shape in ((2, 3, 80, 65), (3, 3, 64, 64), (7, 3, 96, 160)):
        images = torch.rand(shape)
        torch.testing.assert_close(program.module()(images), getattr(module, name)(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["forward", "pooled", "positions"])
@pytest.mark.parametrize(
    "module",
    [
        pytest.param(WSGSA(16, 3, spatial=True), id="spatial"),
        pytest.param(WSGSA(16, 3, shared=nn.Conv2d(16, 8, 3), out_channels=8), id="shared"),
        pytest.param(WSGSA(16, 3), id="plain"),
        pytest.param(WSGSA(16, 3, reduction=None), id="fixed gates"),
    ],
)
def test_wsgsa_exports_with_any_size_of_space(module, name):
    space = {0: BATCH, 2: Dim("height", min=4, max=64), 3: Dim("width", min=4, max=64)}
    program = export(Method(module, name), (torch.rand(4, 16, 7, 6),), dynamic_shapes=(space,))
    for shape in ((2, 16, 5, 9), (3, 16, 12, 4)):
        x = torch.rand(shape)
        torch.testing.assert_close(program.module()(x), getattr(module, name)(x))


def test_cgff_and_heads_export_with_any_size_of_space():
    module = nn.Sequential(CGFF(16, num_heads=2), GroupHeads(16, GROUPS))
    program = export(module, (torch.rand(4, 2, 16, 7, 6),), dynamic_shapes=({0: BATCH, 3: HEIGHT, 4: WIDTH},))
    x = torch.rand(3, 2, 16, 5, 9)
    torch.testing.assert_close(program.module()(x), module(x))


class Gate(nn.Module):
    def forward(self, shared, gates, positions):
        return functional.gate(shared, gates, positions), functional.gate_mean(shared, gates, positions)


def test_the_pure_functions_export_with_any_size_of_space():
    def inputs(batch, height, width):
        return torch.rand(batch, 8, height, width), torch.rand(batch, 3, 8), torch.rand(batch, 3, height, width)

    space = {0: BATCH, 2: HEIGHT, 3: WIDTH}
    program = export(Gate(), inputs(4, 7, 6), dynamic_shapes=(space, {0: BATCH}, space))
    arguments = inputs(3, 5, 9)
    for got, expected in zip(program.module()(*arguments), Gate()(*arguments), strict=True):
        torch.testing.assert_close(got, expected)


def test_a_training_step_with_its_loss_is_one_graph_and_two_more_for_other_batches_and_evaluation():
    """Nothing waits for the device in it: a graph that read a value on the host would break."""
    model, loss = FARAMTN(nn.Conv2d(3, 32, 4, stride=4), 32, GROUPS), DWSLoss(GROUPS)
    counter = CompileCounterWithBackend("eager")

    @torch.compile(fullgraph=True, backend=counter)
    def compiled(images, targets):
        return loss(model(images), targets)

    for mode in (True, False):
        model.train(mode)
        loss.train(mode)
        for batch in (4, 6, 8):
            compiled(torch.rand(batch, 3, 16, 16), torch.randint(0, 2, (batch, 4)).float()).backward()
            loss.step()
    assert counter.frame_count <= 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="only CUDA can tell that something waits for the device")
def test_no_training_step_waits_for_the_device():
    model, loss = FARAMTN.from_timm("resnet18", GROUPS).cuda(), DWSLoss(GROUPS).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    images, targets = torch.rand(4, 3, 64, 64).cuda(), torch.randint(0, 2, (4, 4)).float().cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            loss(model(images), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
