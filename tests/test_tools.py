"""What torch and its neighbours do to a module works on each of ours: a module is called, its weight is not read."""

import copy
import sys

import pytest
import torch
from test_contract import CASES, MODELS, cases
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.parallel import replicate
from torch.nn.utils import parametrize, prune
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.flop_counter import FlopCounterMode

ONCE = {name: case for name, case in MODELS.items() if not case.has_norm}  # batch norm writes its statistics


def weights(module):
    """Every matrix or stack of matrices among the parameters, as the module that owns it and its name there."""
    return [
        (owner, name)
        for owner in module.modules()
        for name, parameter in owner.named_parameters(recurse=False)
        if parameter.ndim >= 2
    ]


def layers(module):
    """The layers inside a module, by name: whatever has parameters of its own, the module itself left out."""
    inner = {name: part for name, part in module.named_modules() if name}
    return {name: part for name, part in inner.items() if next(part.parameters(recurse=False), None) is not None}


class Double(nn.Module):
    def forward(self, weight):
        return 2 * weight


TOOLS = {
    "prune": lambda owner, name: prune.random_unstructured(owner, name, amount=0.5),
    "parametrize": lambda owner, name: parametrize.register_parametrization(owner, name, Double()),
    "spectral norm": spectral_norm,
}


@cases(MODELS)
def test_every_layer_inside_is_called(case):
    module, called = case.grown().eval(), set()
    for name, layer in layers(module).items():
        layer.register_forward_hook(lambda *_, name=name: called.add(name))
    module(*case.inputs())
    assert called == set(layers(module))


@cases({name: case for name, case in MODELS.items() if hasattr(case.build(), "pooled")})
def test_the_pooled_form_calls_the_module(case):
    module, called = case.grown(), []
    module.register_forward_hook(lambda *_: called.append(1))
    module.pooled(*case.inputs())
    assert called == [1]


@cases(MODELS)
@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
def test_weights_that_a_tool_computes_are_the_ones_that_count(tool, case):
    module, plain = case.grown().eval(), case.grown().eval()
    chosen = weights(module)
    before = module(*case.inputs())
    for owner, name in chosen:
        tool(owner, name)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)  # a step of this size, whatever the gradients
    for _ in range(2):  # the second step fails where a weight was computed once and for all
        module(*case.inputs()).square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
        optimizer.step()
        optimizer.zero_grad()
    got = module.eval()(*case.inputs())
    plain.load_state_dict(
        {**plain.state_dict(), **{k: v for k, v in module.state_dict().items() if k in plain.state_dict()}}
    )
    with torch.no_grad():
        for (owner, name), (source, _) in zip(weights(plain), chosen, strict=True):
            getattr(owner, name).copy_(getattr(source, name))
    torch.testing.assert_close(got, plain(*case.inputs()))
    assert (got - before).abs().max() > 1e-4


@cases(MODELS)
def test_a_counter_of_operations_sees_every_layer_inside(case):
    module = case.grown().eval()
    counter = FlopCounterMode(display=False)
    with counter:
        module(*case.inputs())
    counts = {name.partition(".")[2]: sum(found.values()) for name, found in counter.get_flop_counts().items()}
    multiplying = {name for name, layer in layers(module).items() if isinstance(layer, (nn.Linear, nn.Conv2d))}
    assert {name for name in multiplying if not counts.get(name)} == set()
    assert counter.get_total_flops() > 0


@cases(ONCE)
def test_two_modules_run_as_one_ensemble(case):
    module, other = case.grown(), case.grown()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    parameters, buffers = stack_module_state([module, other])
    inputs = tuple(case.inputs())

    def called(parameters, buffers):
        return functional_call(module, (parameters, buffers), inputs)

    got = vmap(called)(parameters, buffers)
    torch.testing.assert_close(got, torch.stack([module(*inputs), other(*inputs)]), rtol=1e-4, atol=1e-5)


@cases(MODELS)
def test_the_gradient_of_each_image_equals_that_of_a_batch_of_one(case):
    module, inputs = case.grown().eval(), case.inputs()
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def loss(parameters, items):
        return functional_call(module, parameters, tuple(item[None] for item in items)).square().mean()

    each = vmap(grad(loss), in_dims=(None, 0))(parameters, inputs)
    for item in range(2):
        module.zero_grad()
        module(*[x[item : item + 1] for x in inputs]).square().mean().backward()
        for name, parameter in module.named_parameters():
            torch.testing.assert_close(each[name][item], parameter.grad, rtol=1e-3, atol=1e-5, msg=name)


@cases(CASES)
@pytest.mark.parametrize("assign", [False, True], ids=["to_empty", "assigned"])
def test_a_module_built_on_the_meta_device_is_the_one_that_is_loaded(assign, case):
    module = case.grown()
    with torch.device("meta"):
        empty = case.build()
    if not assign:
        empty.to_empty(device="cpu")
        with torch.no_grad():
            for tensor in (*empty.parameters(), *(b for b in empty.buffers() if b in set(empty.state_dict().values()))):
                tensor.fill_(7)  # stands for what lies in fresh memory
    empty.load_state_dict(copy.deepcopy(module.state_dict()), strict=True, assign=assign)
    assert not any(tensor.is_meta for tensor in (*empty.parameters(), *empty.buffers()))
    assert torch.equal(empty.eval()(*case.inputs()), module.eval()(*case.inputs()))


@cases(MODELS)
def test_replicas_as_of_data_parallel_give_the_same(case, monkeypatch):
    def copies(tensors, devices, detach=False):
        return [[tensor.detach().clone() if detach else tensor.clone() for tensor in tensors] for _ in devices]

    # the part of it that needs GPUs
    monkeypatch.setattr(sys.modules["torch.nn.parallel.replicate"], "_broadcast_coalesced_reshape", copies)
    module = case.grown().eval()
    for replica in replicate(module, [0, 1]):
        assert not list(replica.parameters())
        assert torch.equal(replica(*case.inputs()), module(*case.inputs()))
        replica(*case.inputs()).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


@cases(ONCE)
def test_first_and_second_derivatives_are_right(case):
    module = case.grown().double()
    names, values = zip(*module.named_parameters(), strict=True)
    given = [x.requires_grad_() for x in case.inputs(batch=2, dtype=torch.float64)]

    def of_everything(*tensors):
        inputs, parameters = tensors[: len(given)], tensors[len(given) :]
        return functional_call(module, dict(zip(names, parameters, strict=True)), inputs)

    inputs = (*given, *values)
    assert torch.autograd.gradcheck(of_everything, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(of_everything, inputs, fast_mode=True)


ADAPTED = {
    name: case for name, case in ONCE.items() if any(isinstance(p, nn.Linear) for p in layers(case.build()).values())
}


@cases(ADAPTED)
def test_an_adapter_on_any_layer_acts_and_merging_it_changes_nothing(case):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    module = case.grown()
    chosen = [name for name, layer in layers(module).items() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    plain = module(*case.inputs())
    tuned = peft.get_peft_model(module, peft.LoraConfig(r=2, target_modules=chosen, init_lora_weights=False))
    out = tuned(*case.inputs())
    assert (out - plain).abs().max() > 1e-4
    out.square().sum().backward()
    learning = {
        name for name, p in tuned.named_parameters() if "lora_B" in name and p.grad is not None and p.grad.any()
    }
    assert len(learning) == len(chosen)
    torch.testing.assert_close(tuned.merge_and_unload()(*case.inputs()), out, rtol=1e-4, atol=1e-5)
