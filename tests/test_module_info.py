"""torch's own harness: a ModuleInfo for every public module, and what torch tests of its modules with it.

Of torch's tests these do not apply: check_inplace (no module has ``inplace``), lazy modules and recurrent ones (there
are none), multiple_device_transfer and cpu_gpu_parity (two devices are needed; ``MTATTN_TEST_DEVICE`` runs the contract
on another one), errors (every error is tested with its message beside its module). Where a single test does not apply
to a single module, ``DecorateInfo`` says why.
"""

import copy
import io
import pickle
import unittest
from functools import partial

import pytest
import torch
from torch import nn

pytest.importorskip("expecttest", reason="expecttest is not installed: torch's harness needs it")
from settings import GROUPS
from torch.testing._internal.common_device_type import instantiate_device_type_tests
from torch.testing._internal.common_modules import FunctionInput, ModuleInfo, ModuleInput, modules
from torch.testing._internal.common_utils import TestCase, freeze_rng_state, gradcheck, gradgradcheck
from torch.testing._internal.opinfo.core import DecorateInfo

import mtattn
from mtattn import CGFF, FARAMTN, WSGSA, AttributeGroups, Categorical, DWSLoss, DynamicWeighting, GroupHeads, Number
from mtattn.modules import (
    AttentionalFusion,
    AttributeCenterLoss,
    BatchRandomMask,
    EmbeddingHead,
    GroupMLP,
    MaskHead,
    MultiLevelFusion,
)

torch.backends.__allow_nonbracketed_mutation_flag = True  # the harness forbids it to the tests that come after, too

MIXED = AttributeGroups(
    {"face": ["Smiling", Categorical("hair", ("none", "short"))], "age": [Number("age", "y", mean=3, std=2)]}
)


def given(*arguments, **options):
    return FunctionInput(*arguments, **options)


def inputs(*table):
    """From rows of constructor's and forward's arguments, where a shape stands for a random tensor."""

    def make(module_info, device, dtype, requires_grad, training, **_):
        def tensor(shape):
            return torch.rand(shape, device=device, dtype=dtype).requires_grad_(requires_grad)

        def value(entry):
            if isinstance(entry, list):
                return [value(each) for each in entry]
            return tensor(entry) if isinstance(entry, tuple) else entry

        return [
            ModuleInput(constructor_input=built, forward_input=given(*map(value, forward))) for built, forward in table
        ]

    return make


def skip(reason, *tests):
    return [DecorateInfo(unittest.skip(reason), "TestModules", test) for test in tests]


STATE = "its state stays in float32, whatever the type of the losses"
FACTORY = ("test_factory_kwargs", "test_a_default_device_is_where_it_is_built")
TARGETS = torch.tensor([[1, 0, torch.nan, 1, 0], [0, 1, 1, 0, 1]])
TRUTHS = torch.tensor([[1, 1, 4.0], [0, torch.nan, 2.5]])

MODULES = [
    ModuleInfo(
        WSGSA,
        module_inputs_func=inputs(
            (given(8, 3, reduction=4), [(2, 8, 3, 3)]),
            (given(8, 2, reduction=4, spatial=True, key_channels=4), [(2, 8, 3, 2)]),
            (given(8, 2, reduction=4, squeeze="mean+max"), [(2, 8, 3, 3)]),
        ),
    ),
    ModuleInfo(
        CGFF,
        module_inputs_func=inputs(
            (given(8, num_heads=2), [(2, 3, 8, 2, 2)]), (given(8, num_heads=1, norm=False), [(2, 3, 8)])
        ),
    ),
    ModuleInfo(
        GroupHeads,
        module_inputs_func=inputs((given(8, GROUPS), [(2, 3, 8)]), (given(8, MIXED), [(2, 2, 8)])),
    ),
    ModuleInfo(MaskHead, module_inputs_func=inputs((given(8, 3), [(2, 8, 3, 3)]))),
    ModuleInfo(MultiLevelFusion, module_inputs_func=inputs((given((4, 6), 5), [[(2, 4, 4, 4), (2, 6, 2, 2)]]))),
    ModuleInfo(
        AttentionalFusion, module_inputs_func=inputs((given(8), [(2, 8, 3, 3), (2, 8, 3, 3)])), gradcheck_fast_mode=True
    ),
    ModuleInfo(GroupMLP, module_inputs_func=inputs((given(8, 3, (6, 4)), [(2, 3, 8)]))),
    ModuleInfo(
        EmbeddingHead,
        module_inputs_func=inputs((given(8, 4), [(3, 8)])),
        train_and_eval_differ=True,  # batch norm
    ),
    ModuleInfo(
        BatchRandomMask,
        module_inputs_func=inputs((given(0.5), [(2, 4, 3, 3)])),
        train_and_eval_differ=True,
        skips=skip("it has no parameters, and so takes no device", *FACTORY),
    ),
    ModuleInfo(
        AttributeCenterLoss,
        module_inputs_func=inputs(
            (given(GROUPS, 4), [(2, 3, 4), TARGETS]),
            (given(GROUPS, 4), [(2, 4), TARGETS]),
        ),
    ),
    ModuleInfo(
        DynamicWeighting,
        module_inputs_func=inputs((given(3), [(3,)]), (given(3), [(3,), torch.tensor([4.0, 0.0, 2.0])])),
        skips=skip(STATE, *FACTORY),
    ),
    ModuleInfo(
        DWSLoss,
        module_inputs_func=inputs((given(GROUPS), [(2, 5), TARGETS]), (given(MIXED), [(2, 4), TRUTHS])),
        skips=skip(STATE, *FACTORY),
    ),
    ModuleInfo(
        FARAMTN,
        module_inputs_func=inputs(
            (given(nn.Conv2d(3, 16, 4, stride=4), 16, GROUPS, fused_channels=4, num_heads=2), [(2, 3, 8, 8)]),
        ),
        skips=skip("its trunk is given, on the device where it is", *FACTORY),
    ),
]


def tensors(values):
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list):
            yield from tensors(value)


def changed(values, change):
    """The same nested values with every tensor changed."""
    if isinstance(values, torch.Tensor):
        return change(values)
    return type(values)(changed(value, change) for value in values) if isinstance(values, (list, tuple)) else values


def replaced(inputs, tensor):
    """The next input in place of a tensor that needs a gradient."""
    return next(inputs) if tensor.requires_grad else tensor


def with_gaps(tensor):
    """The same numbers with others between them in memory."""
    spread = torch.repeat_interleave(tensor, 2, dim=-1)[..., ::2]
    assert spread.numel() < 2 or not spread.is_contiguous()
    return spread.detach().requires_grad_(tensor.requires_grad)


def channels_last(tensor):
    if tensor.ndim != 4:
        return tensor
    return tensor.detach().to(memory_format=torch.channels_last).requires_grad_(tensor.requires_grad)


class TestModules(TestCase):
    def each(self, info, device, dtype, training, requires_grad=False):
        """Each module of a ModuleInfo, with its inputs."""
        for item in info.module_inputs_func(info, device, dtype, requires_grad, training):
            built = item.constructor_input
            module = copy.deepcopy(info.module_cls(*copy.deepcopy(built.args), **built.kwargs))
            yield module.to(device).to(dtype).train(training), item

    def same_run(self, module, forward):
        with freeze_rng_state():
            return module(*forward)

    @modules(MODULES)
    def test_forward(self, device, dtype, training, module_info):
        for module, item in self.each(module_info, device, dtype, training):
            out = module(*item.forward_input.args)
            self.assertEqual(out.device.type, torch.device(device).type)
            self.assertTrue(out.isfinite().all())
            if next(module.parameters(), None) is not None:
                self.assertEqual(out.dtype, dtype)

    @modules(MODULES)
    def test_factory_kwargs(self, device, dtype, training, module_info):
        for _, item in self.each(module_info, device, dtype, training):
            built = item.constructor_input
            module = module_info.module_cls(*built.args, **built.kwargs, device=device, dtype=dtype)
            for parameter in module.parameters():
                self.assertEqual((parameter.device.type, parameter.dtype), (torch.device(device).type, dtype))
            for buffer in module.buffers():
                self.assertEqual(buffer.device.type, torch.device(device).type)

    @modules(MODULES, allowed_dtypes=[torch.float32])
    def test_a_default_device_is_where_it_is_built(self, device, dtype, training, module_info):
        for _, item in self.each(module_info, device, dtype, training):
            built = item.constructor_input
            with torch.device("meta"):
                module = module_info.module_cls(*built.args, **built.kwargs)
            self.assertEqual({p.device.type for p in module.parameters()}, {"meta"})

    @modules(MODULES, allowed_dtypes=[torch.float32])
    def test_repr(self, device, dtype, training, module_info):
        for module, _ in self.each(module_info, device, dtype, training):
            self.assertIn(module_info.name, repr(module))
            self.assertEqual(str(module), repr(module))

    @modules(MODULES)
    def test_pickle(self, device, dtype, training, module_info):
        for module, item in self.each(module_info, device, dtype, training):
            expected = self.same_run(copy.deepcopy(module), item.forward_input.args)
            loaded = pickle.loads(pickle.dumps(module))
            self.assertEqual(self.same_run(loaded, item.forward_input.args), expected)

    @modules(MODULES)
    def test_save_load(self, device, dtype, training, module_info):
        for module, item in self.each(module_info, device, dtype, training):
            file = io.BytesIO()
            torch.save(module.state_dict(), file)
            file.seek(0)
            built = item.constructor_input
            other = module_info.module_cls(*copy.deepcopy(built.args), **built.kwargs).to(device).to(dtype)
            other.train(training).load_state_dict(torch.load(file, weights_only=True), strict=True)
            forward = item.forward_input.args
            self.assertEqual(self.same_run(other, forward), self.same_run(module, forward))

    @modules(MODULES)
    def test_non_contiguous_tensors(self, device, dtype, training, module_info):
        for module, item in self.each(module_info, device, dtype, training, requires_grad=True):
            found = []
            for change in (lambda tensor: tensor, with_gaps):
                runner, forward = copy.deepcopy(module), changed(item.forward_input.args, change)
                out = self.same_run(runner, forward)
                out.square().sum().backward()
                grads = [tensor.grad for tensor in (*tensors(forward), *runner.parameters()) if tensor.requires_grad]
                found.append((out, grads))
            self.assertEqual(found[0], found[1])

    @modules(MODULES)
    def test_memory_format(self, device, dtype, training, module_info):
        for module, item in self.each(module_info, device, dtype, training):
            forward = item.forward_input.args
            expected = self.same_run(copy.deepcopy(module), forward)
            moved = copy.deepcopy(module).to(memory_format=torch.channels_last)
            self.assertEqual(self.same_run(moved, changed(forward, channels_last)), expected)

    @modules(MODULES, allowed_dtypes=[torch.float64])
    def test_grad(self, device, dtype, training, module_info):
        self.check_derivatives(gradcheck, device, dtype, training, module_info)

    @modules(
        [info for info in MODULES if info.supports_gradgrad],
        allowed_dtypes=[torch.float64],
    )
    def test_gradgrad(self, device, dtype, training, module_info):
        self.check_derivatives(gradgradcheck, device, dtype, training, module_info)

    def check_derivatives(self, check, device, dtype, training, info):
        for module, item in self.each(info, device, dtype, training, requires_grad=True):
            names, parameters = zip(*module.named_parameters(), strict=True) if [*module.parameters()] else ((), ())
            forward = item.forward_input.args
            leaves = [tensor for tensor in tensors(forward) if tensor.requires_grad]
            count = len(leaves)

            def run(*values, module=module, forward=forward, names=names, count=count):
                inputs, weights = iter(values[:count]), values[count:]
                arguments = changed(forward, partial(replaced, inputs))
                with freeze_rng_state():
                    return torch.func.functional_call(
                        copy.deepcopy(module), dict(zip(names, weights, strict=True)), arguments
                    )

            assert check(run, (*leaves, *parameters), fast_mode=True, nondet_tol=info.gradcheck_nondet_tol)

    @modules(MODULES, allowed_dtypes=[torch.float32])
    def test_if_train_and_eval_modes_differ(self, device, dtype, training, module_info):
        differ = False
        for module, item in self.each(module_info, device, dtype, training):
            forward = item.forward_input.args
            training_out = self.same_run(copy.deepcopy(module).train(), forward)
            differ |= not torch.equal(training_out, self.same_run(copy.deepcopy(module).eval(), forward))
        self.assertEqual(differ, module_info.train_and_eval_differ)

    @modules(MODULES)
    def test_to(self, device, dtype, training, module_info):
        for module, _ in self.each(module_info, device, torch.float32, training):
            before = {name: parameter.clone() for name, parameter in module.named_parameters()}
            module.to(dtype)
            for name, parameter in module.named_parameters():
                self.assertEqual(parameter.dtype, dtype)
                self.assertEqual(parameter, before[name].to(dtype))

    @modules(MODULES, allowed_dtypes=[torch.float32])
    def test_to_empty(self, device, dtype, training, module_info):
        for module, item in self.each(module_info, device, dtype, training):
            state, forward = copy.deepcopy(module.state_dict()), item.forward_input.args
            expected = self.same_run(copy.deepcopy(module), forward)
            filled = module.to("meta").to_empty(device=device)
            filled.load_state_dict(state)
            self.assertEqual(self.same_run(filled, forward), expected)


instantiate_device_type_tests(TestModules, globals(), only_for="cpu")


def test_every_public_module_has_a_module_info():
    public = [getattr(room, name) for room in (mtattn, mtattn.modules, mtattn.losses) for name in room.__all__]
    kinds = {kind for kind in public if isinstance(kind, type) and issubclass(kind, nn.Module)}
    without = {mtattn.losses.AttributeLosses}  # it has no forward
    assert kinds - {info.module_cls for info in MODULES} == without
