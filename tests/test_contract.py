"""One contract for all modules: what anybody may do to an ``nn.Module`` works on each of them."""

import copy
import io
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from settings import GROUPS, tiny
from torch import nn

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
)
from mtattn.modules import AttentionalFusion, EmbeddingHead, GroupMLP, MaskHead, MultiLevelFusion

MIXED = AttributeGroups(
    {
        "face": ["Smiling", Categorical("hair", ("none", "short", "middle", "long"))],
        "age": [Ordinal("stage", ("child", "young", "old")), Number("age", "years", mean=33, std=20)],
    }
)


@dataclass(frozen=True)
class Case:
    """One module, how it is built, and an input.

    ``shapes`` are those of the inputs, batch first where there is one; ``sizes`` is what repr shows.
    """

    build: Any
    shapes: tuple[tuple[int, ...], ...]
    sizes: str
    has_device: bool = True  # takes device= and dtype=
    is_loss: bool = False
    has_norm: bool = False  # batch norm: training differs from evaluation
    whole_targets: bool = False  # classes and levels are whole numbers

    def inputs(self, batch=4, seed=0, **to):
        generator = torch.Generator().manual_seed(seed)
        shapes = self.shapes if isinstance(self.build(), DynamicWeighting) else [(batch, *s[1:]) for s in self.shapes]
        inputs = [torch.rand(shape, generator=generator).to(**to) for shape in shapes]
        return [inputs[0], inputs[1].round()] if self.whole_targets else inputs

    def grown(self):
        """The module, every parameter away from its start, and in the middle of training if it has a history."""
        torch.manual_seed(1)
        module = self.build()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        if self.is_loss:
            for seed in range(3):
                module(*self.inputs(seed=seed))
                module.step() if seed < 2 else None
        return module


def custom_model():
    trunk = nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.ReLU())
    return FARAMTN(trunk, 16, GROUPS, fused_channels=8, num_heads=2, spatial=True)


ALLOWED = [[True, False, True], [False, True, True], [False, False, True]]


class TwoLevels(MultiLevelFusion):
    """With its levels one by one, as everything here takes its inputs."""

    def forward(self, fine, coarse):
        """As its parent's."""
        return super().forward([fine, coarse])


CASES = {
    "WSGSA": Case(lambda **to: WSGSA(32, 3, reduction=4, **to), ((4, 32, 5, 5),), "32, 3, reduction=4"),
    "WSGSA spatial": Case(
        lambda **to: WSGSA(32, 3, reduction=4, spatial=True, key_channels=8, **to),
        ((4, 32, 5, 5),),
        "spatial=True, num_heads=1, key_channels=8",
    ),
    "WSGSA shared": Case(
        lambda **to: WSGSA(32, 3, reduction=4, shared=nn.Conv2d(32, 16, 3, **to), out_channels=16, **to),
        ((4, 32, 5, 5),),
        "32, 3, reduction=4, out_channels=16",
    ),
    "WSGSA mean and maximum": Case(
        lambda **to: WSGSA(32, 3, reduction=4, squeeze="mean+max", **to), ((4, 32, 5, 5),), "squeeze='mean+max'"
    ),
    "WSGSA fixed gates": Case(
        lambda **to: WSGSA(32, 3, reduction=None, spatial=True, key_channels=8, **to),
        ((4, 32, 5, 5),),
        "32, 3, reduction=None",
    ),
    "CGFF": Case(lambda **to: CGFF(32, num_heads=4, **to), ((4, 3, 32, 5, 5),), "32, num_heads=4"),
    "CGFF without norm": Case(
        lambda **to: CGFF(32, num_heads=4, norm=False, **to), ((4, 3, 32, 5, 5),), "32, num_heads=4"
    ),
    "CGFF allowed": Case(
        lambda **to: CGFF(32, num_heads=4, allowed=ALLOWED, **to), ((4, 3, 32, 5, 5),), "num_heads=4, allowed=5 pairs"
    ),
    "CGFF pairs": Case(
        lambda **to: CGFF(32, num_heads=4, num_groups=3, **to), ((4, 3, 32, 5, 5),), "num_heads=4, num_groups=3"
    ),
    "CGFF pairs alone": Case(
        lambda **to: CGFF(32, num_heads=4, key_channels=0, num_groups=3, **to),
        ((4, 3, 32, 5, 5),),
        "num_heads=4, key_channels=0, num_groups=3",
    ),
    "CGFF uniform": Case(
        lambda **to: CGFF(32, num_heads=4, key_channels=0, **to), ((4, 3, 32, 5, 5),), "key_channels=0"
    ),
    "GroupHeads": Case(
        lambda **to: GroupHeads(32, GROUPS, **to), ((4, 3, 32),), "32, sizes={'nose': 1, 'eyes': 3, 'chin': 1}"
    ),
    "MaskHead": Case(lambda **to: MaskHead(32, 3, **to), ((4, 32, 5, 5),), "out_features=3"),
    "MultiLevelFusion": Case(lambda **to: TwoLevels((8, 16), 12, **to), ((4, 8, 6, 6), (4, 16, 3, 3)), "(8, 16), 12"),
    "AttentionalFusion": Case(
        lambda **to: AttentionalFusion(16, **to), ((4, 16, 5, 5), (4, 16, 5, 5)), "AttentionalFusion"
    ),
    "GroupMLP": Case(lambda **to: GroupMLP(16, 3, (8, 6), **to), ((4, 3, 16),), "16, 3, hidden=(8, 6)"),
    "EmbeddingHead": Case(lambda **to: EmbeddingHead(16, 8, **to), ((4, 16),), "16, 8", has_norm=True),
    "DynamicWeighting": Case(
        lambda **to: DynamicWeighting(3, **to), ((3,),), "3, rule='dws', alpha=1.0", has_device=False, is_loss=True
    ),
    "DWSLoss": Case(
        lambda **to: DWSLoss(GROUPS, pos_weight={"Bags": 2.0}, **to),
        ((4, 5), (4, 5)),
        "3, rule='dws', alpha=1.0",
        has_device=False,
        is_loss=True,
    ),
    "GroupHeads mixed": Case(
        lambda **to: GroupHeads(32, MIXED, **to), ((4, 2, 32),), "32, sizes={'face': 5, 'age': 3}"
    ),
    "DWSLoss mixed": Case(
        lambda **to: DWSLoss(MIXED, class_weight={"hair": {"long": 2.0}}, **to),
        ((4, 8), (4, 4)),
        "2, rule='dws', alpha=1.0",
        has_device=False,
        is_loss=True,
        whole_targets=True,
    ),
    "FARAMTN custom": Case(
        custom_model, ((4, 3, 32, 32),), "sizes={'nose': 1, 'eyes': 3, 'chin': 1}", has_device=False
    ),
    "FARAMTN from timm": Case(
        lambda: tiny(fused_channels=16),
        ((4, 3, 64, 64),),  # 2 x 2 positions: of a single one nobody learns where to look
        "32, 3, reduction=16, out_channels=32",
        has_device=False,
        has_norm=True,
    ),
}
MODELS = {name: case for name, case in CASES.items() if not case.is_loss}


def cases(chosen=CASES):
    return pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in chosen.items()])


def assert_same_results(one, other, case):
    """Two modules give the same numbers now and, if they have a history, in the periods that follow."""
    for seed in range(3):
        for module in (one, other):
            module.train(case.is_loss)
        assert torch.equal(one(*case.inputs(seed=seed)), other(*case.inputs(seed=seed)))
        if case.is_loss:
            one.step()
            other.step()


@cases()
def test_state_dict_round_trip(case):
    module, other, stored = case.grown(), case.build(), io.BytesIO()
    torch.save(module.state_dict(), stored)
    stored.seek(0)
    other.load_state_dict(torch.load(stored, weights_only=True), strict=True)
    assert_same_results(other, module, case)


@cases()
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_copy_is_equal_and_independent(copied, case):
    module = case.grown()
    clone = copied(module)
    assert repr(clone) == repr(module)
    assert not {t.data_ptr() for t in module.state_dict().values()} & {
        t.data_ptr() for t in clone.state_dict().values()
    }
    assert_same_results(clone, module, case)


@cases(MODELS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_type_of_the_parameters_is_kept(dtype, case):
    module = case.grown().eval().to(dtype)
    out = module(*case.inputs(dtype=dtype))
    assert out.dtype == dtype
    assert out.isfinite().all()
    assert {p.dtype for p in module.parameters()} == {dtype}


@cases({name: case for name, case in MODELS.items() if case.has_device})
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_constructor_takes_the_type_of_the_parameters(dtype, case):
    module = case.build(dtype=dtype)
    assert {p.dtype for p in module.parameters()} == {dtype}
    assert module(*case.inputs(dtype=dtype)).dtype == dtype


@cases()
def test_the_device_is_kept(case, device):
    module = case.grown().to(device)
    assert {t.device.type for t in (*module.parameters(), *module.buffers())} == {device.type}
    assert module(*case.inputs(device=device)).device.type == device.type


@cases({name: case for name, case in CASES.items() if not name.startswith("FARAMTN")})
def test_the_constructor_takes_the_device(case, device):
    module = case.build(device=device)
    assert {t.device.type for t in (*module.parameters(), *module.buffers())} == {device.type}
    assert module(*case.inputs(device=device)).device.type == device.type


@cases({name: case for name, case in MODELS.items() if case.has_device})
def test_a_module_on_the_meta_device_can_be_filled_and_reset(case):
    module = case.build(device="meta")
    assert {t.device.type for t in (*module.parameters(), *module.buffers())} == {"meta"}
    module = module.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(torch.nan)
    for part in reversed(list(module.modules())):
        part.reset_parameters() if hasattr(part, "reset_parameters") else None
    out = module(*case.inputs())
    assert out.isfinite().all()
    torch.manual_seed(0)
    expected = case.build()
    assert {name: t.shape for name, t in module.state_dict().items()} == {
        n: t.shape for n, t in expected.state_dict().items()
    }


def seeded(reset_parameters):
    """Draw the same at each call, so that what constructor and reset draw can be compared number by number."""

    def reset(self):
        torch.manual_seed(0)
        reset_parameters(self)

    return reset


@cases({name: case for name, case in MODELS.items() if case.has_device})
def test_reset_parameters_starts_as_the_constructor_does(case, monkeypatch):
    for kind in {type(part) for part in case.build().modules() if hasattr(part, "reset_parameters")}:
        monkeypatch.setattr(kind, "reset_parameters", seeded(kind.reset_parameters))
    module, fresh = case.build(), case.build()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(7)
    parts = [module] if hasattr(module, "reset_parameters") else [*module.modules()]
    for part in parts:
        part.reset_parameters() if hasattr(part, "reset_parameters") else None
    for (name, p), q in zip(module.named_parameters(), fresh.parameters(), strict=True):
        assert (p == 7).all() if name.startswith("shared.") else torch.equal(p, q), name


@cases(MODELS)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_every_parameter_gets_a_finite_gradient(training, case):
    module = case.grown().train(training)
    out = module(*case.inputs())
    (out * torch.randn_like(out)).sum().backward()
    assert [name for name, p in module.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    silent = [name for name, p in module.named_parameters() if not p.grad.any()]
    assert silent == []


@cases()
def test_the_input_gets_a_finite_gradient(case):
    inputs = case.inputs()
    inputs[0].requires_grad_()
    out = case.grown()(*inputs)
    (out * torch.randn_like(out)).sum().backward()
    assert inputs[0].grad.isfinite().all()
    assert inputs[0].grad.any()


@cases(MODELS)
def test_batch_items_are_independent(case):
    module, inputs = case.grown().eval().double(), case.inputs(dtype=torch.float64)
    out = module(*inputs)
    for item in range(len(out)):
        alone = [x[item : item + 1] for x in inputs]
        torch.testing.assert_close(module(*alone), out[item : item + 1])


@cases(MODELS)
def test_an_empty_batch_gives_an_empty_result(case):
    module = case.grown().eval()
    assert module(*case.inputs(batch=0)).shape == (0, *module(*case.inputs(batch=2)).shape[1:])


@cases({name: case for name, case in MODELS.items() if not case.has_norm})
def test_evaluation_gives_what_training_gives_without_dropout_and_batch_norm(case):
    module = case.grown()
    assert torch.equal(module.train()(*case.inputs()), module.eval()(*case.inputs()))


@cases({name: case for name, case in CASES.items() if case.is_loss})
def test_a_loss_gives_the_same_in_evaluation(case):
    module = case.grown()
    assert torch.equal(module.train()(*case.inputs()), module.eval()(*case.inputs()))


@cases(MODELS)
def test_the_input_is_left_alone(case):
    inputs = case.inputs()
    before = [x.clone() for x in inputs]
    case.grown()(*inputs)
    assert all(torch.equal(x, given) for x, given in zip(inputs, before, strict=True))


@cases(MODELS)
def test_results_are_the_same_every_time_in_evaluation(case):
    module = case.grown().eval()
    assert torch.equal(module(*case.inputs()), module(*case.inputs()))


@cases()
def test_forward_and_step_look_at_no_value_so_nothing_waits_for_the_device(case):
    module = case.grown().to("meta")
    assert module(*case.inputs(device="meta")).device.type == "meta"
    if case.is_loss:
        module.step()
        assert module.weights.device.type == "meta"


@cases()
def test_repr_shows_the_sizes(case):
    assert case.sizes in repr(case.build())


@cases(MODELS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_gives_finite_results_and_gradients(dtype, case, device):
    module = case.grown().to(device).eval()
    inputs = case.inputs(device=device)
    with torch.autocast(device.type, dtype=dtype):
        out = module(*inputs)
    assert out.isfinite().all()
    out.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())
    exact = module(*inputs)
    assert (out - exact).abs().max() < 3 * torch.finfo(dtype).eps * exact.abs().max()


@cases({name: case for name, case in CASES.items() if case.is_loss})
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_loss_under_autocast_is_computed_in_float32(dtype, case, device):
    inputs = case.inputs(device=device)
    plain, cast = case.grown().to(device), case.grown().to(device)
    with torch.autocast(device.type, dtype=dtype):
        total = cast(*inputs)
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, plain(*inputs))


@cases()
def test_a_misspelt_option_is_a_type_error(case):
    kind = type(case.build())
    positional = {
        WSGSA: (32, 3), CGFF: (32,), GroupHeads: (32, GROUPS), DynamicWeighting: (3,), DWSLoss: (GROUPS,),
        FARAMTN: (nn.Identity(), 16, GROUPS), MaskHead: (32, 3), TwoLevels: ((8, 16), 12), AttentionalFusion: (16,),
        GroupMLP: (16, 3, (8,)), EmbeddingHead: (16, 8),
    }[kind]  # fmt: skip
    with pytest.raises(TypeError, match="misspelt"):
        kind(*positional, misspelt=1)


@cases()
def test_options_go_by_name_only(case):
    kind = type(case.build())
    too_many = {
        WSGSA: (32, 3, 4), CGFF: (32, 4), GroupHeads: (32, GROUPS, "cpu"), DynamicWeighting: (3, "dws"),
        DWSLoss: (GROUPS, "dws"), FARAMTN: (nn.Identity(), 16, GROUPS, None), MaskHead: (32, 3, "cpu"),
        TwoLevels: ((8, 16), 12, 3), AttentionalFusion: (16, 4), GroupMLP: (16, 3, (8,), 0.5),
        EmbeddingHead: (16, 8, "cpu"),
    }[kind]  # fmt: skip
    with pytest.raises(TypeError, match="positional argument"):
        kind(*too_many)


@cases(MODELS)
def test_the_modules_of_a_model_have_docstrings_of_their_own(case):
    module = case.build()
    for method in (type(module), type(module).forward):
        assert method.__doc__
        assert method.__doc__ != nn.Module.forward.__doc__


def test_every_kind_of_module_is_under_contract():
    import mtattn
    from mtattn import modules

    public = [getattr(room, name) for room in (mtattn, modules) for name in room.__all__]
    kinds = {kind for kind in public if issubclass(kind, nn.Module)}
    elsewhere = {  # test_masks.py and test_fusion.py have theirs
        modules.BatchRandomMask,  # without parameters, and the identity in evaluation
        modules.AttributeCenterLoss,  # to a scalar, and without a history
    }
    under_contract = {kind for case in CASES.values() for kind in type(case.build()).__mro__}
    assert kinds - under_contract == elsewhere
