"""WSGSA, CGFF and GroupHeads against the slow loops, their starting values, and what they refuse."""

import copy

import pytest
import reference
import torch
from jaxtyping import TypeCheckError
from torch import nn

from mtattn import CGFF, WSGSA, AttributeGroups, GroupHeads

SPACES = [
    pytest.param((), id="vectors"),
    pytest.param((3,), id="tokens"),
    pytest.param((2, 3), id="images"),
    pytest.param((2, 1, 2), id="volumes"),
]
SPATIAL = pytest.mark.parametrize("spatial", [False, True], ids=["plain", "spatial"])
GROUPS = AttributeGroups({"nose": ["Big_Nose"], "eyes": ["Eyeglasses", "Narrow_Eyes", "Bags"], "chin": ["Goatee"]})


def grown(module, device):
    """The module in float64, every parameter away from its start, where zeros would hide mistakes."""
    module = module.to(torch.float64)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return module.to(device)


def cpu_parameters(module):
    return {name: p.detach().cpu().clone().requires_grad_() for name, p in module.named_parameters()}


def assert_same_with_gradients(module, call, slow, x, device):
    """``call`` of the module and ``slow(x, parameters)`` agree in value and in all gradients that are not absent."""
    copies, there, here = cpu_parameters(module), x.to(device).requires_grad_(), x.clone().requires_grad_()
    got, expected = call(there), slow(here, copies)
    torch.testing.assert_close(got.cpu(), expected, rtol=1e-9, atol=1e-11)
    direction = torch.randn_like(expected)
    slow_gradients = torch.autograd.grad((expected * direction).sum(), [here, *copies.values()], allow_unused=True)
    gradients = torch.autograd.grad(
        (got * direction.to(device)).sum(), [there, *module.parameters()], allow_unused=True
    )
    for name, gradient, wanted in zip(["x", *copies], gradients, slow_gradients, strict=True):
        assert (gradient is None) == (wanted is None), name
        if gradient is not None:
            torch.testing.assert_close(gradient.cpu(), wanted, rtol=1e-9, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}")


def slow_gates(x, p):
    return reference.channel_gates(x, p["down_weight"], p["down_bias"], p["up_weight"], p["up_bias"])


def slow_share(x, p):
    """What a 1x1 convolution with three dimensions of space or fewer does, or the identity."""
    if "shared.weight" not in p:
        return x
    weight = p["shared.weight"].flatten(1)
    return reference.channel_linear(x[:, None], weight)[:, 0] + p["shared.bias"].reshape(-1, *[1] * (x.ndim - 2))


def slow_positions(x, p):
    shared = slow_share(x, p)
    if "queries" not in p:
        return None
    queries = p["queries"].reshape(-1, len(p["key_weight"]))
    places = 20 * p["place_weight"].reshape(len(queries), -1) if "place_weight" in p else None
    return reference.position_weights(shared, queries, p["key_weight"], places)


def slow_wsgsa(x, p):
    return reference.wsgsa(slow_share(x, p), slow_gates(x, p), slow_positions(x, p))


def slow_cgff(num_heads, *, norm):
    has_norm = norm

    def slow(x, p):
        norm = (p["norm.weight"], p["norm.bias"], 1e-5) if has_norm else None
        names = ("query.weight", "key.weight", "value.weight", "output.weight")
        return reference.cgff(x, norm, *(p[name] for name in names), num_heads=num_heads)

    return slow


class TestWSGSA:
    @SPATIAL
    @pytest.mark.parametrize("space", SPACES)
    def test_equals_the_loops(self, space, spatial, device):
        wsgsa = grown(WSGSA(4, 3, reduction=2, spatial=spatial, key_channels=3), device)
        x = torch.randn(2, 4, *space, dtype=torch.float64)
        assert_same_with_gradients(wsgsa, wsgsa, slow_wsgsa, x, device)

    @SPATIAL
    @pytest.mark.parametrize("space", SPACES)
    def test_pooled_equals_the_loops(self, space, spatial, device):
        wsgsa = grown(WSGSA(4, 3, reduction=2, spatial=spatial, key_channels=3), device)
        x = torch.randn(2, 4, *space, dtype=torch.float64)
        assert_same_with_gradients(wsgsa, wsgsa.pooled, lambda x, p: reference.pooled(slow_wsgsa(x, p)), x, device)

    @SPATIAL
    @pytest.mark.parametrize("pooled", [False, True], ids=["dense", "pooled"])
    def test_equals_the_loops_with_a_shared_convolution(self, spatial, pooled, device):
        shared = nn.Conv2d(4, 6, 1)
        wsgsa = grown(WSGSA(4, 2, reduction=2, shared=shared, out_channels=6, spatial=spatial, key_channels=3), device)
        x = torch.randn(2, 4, 2, 2, dtype=torch.float64)
        if pooled:
            assert_same_with_gradients(wsgsa, wsgsa.pooled, lambda x, p: reference.pooled(slow_wsgsa(x, p)), x, device)
        else:
            assert_same_with_gradients(wsgsa, wsgsa, slow_wsgsa, x, device)

    @pytest.mark.parametrize("method", ["forward", "pooled", "positions"])
    @pytest.mark.parametrize("num_heads", [1, 2])
    @pytest.mark.parametrize("space", SPACES[1:])
    def test_with_coordinates_equals_the_loops(self, space, num_heads, method, device):
        sizes = {"reduction": 2, "num_heads": num_heads, "key_channels": 3, "coordinates": len(space)}
        wsgsa = grown(WSGSA(4, 3, spatial=True, **sizes), device)
        slow = {
            "forward": slow_wsgsa,
            "pooled": lambda x, p: reference.pooled(slow_wsgsa(x, p)),
            "positions": lambda x, p: slow_positions(x, p).unflatten(1, (3, num_heads)).mean(2),
        }[method]
        x = torch.randn(2, 4, *space, dtype=torch.float64)
        assert_same_with_gradients(wsgsa, getattr(wsgsa, method), slow, x, device)

    def test_gates_equal_the_loops(self, device):
        wsgsa = grown(WSGSA(4, 3, reduction=2), device)
        assert_same_with_gradients(wsgsa, wsgsa.gates, slow_gates, torch.randn(2, 4, 3, dtype=torch.float64), device)

    @pytest.mark.parametrize("num_heads", [1, 2])
    def test_positions_equal_the_loops_averaged_over_heads(self, num_heads, device):
        wsgsa = grown(WSGSA(4, 3, reduction=2, spatial=True, num_heads=num_heads, key_channels=5), device)
        x = torch.randn(2, 4, 2, 3, dtype=torch.float64)

        def slow(x, p):
            return slow_positions(x, p).unflatten(1, (3, num_heads)).mean(2)

        assert_same_with_gradients(wsgsa, wsgsa.positions, slow, x, device)

    @pytest.mark.parametrize("pooled", [False, True], ids=["dense", "pooled"])
    def test_several_queries_equal_the_loops(self, pooled, device):
        wsgsa = grown(WSGSA(4, 3, reduction=2, spatial=True, num_heads=2, key_channels=5), device)
        x = torch.randn(2, 4, 2, 3, dtype=torch.float64)

        def slow(x, p):
            return reference.pooled(slow_wsgsa(x, p)) if pooled else slow_wsgsa(x, p)

        assert_same_with_gradients(wsgsa, wsgsa.pooled if pooled else wsgsa, slow, x, device)

    @SPATIAL
    @pytest.mark.parametrize("pooled", [False, True], ids=["dense", "pooled"])
    def test_gradcheck_passes(self, spatial, pooled, device):
        wsgsa = grown(WSGSA(4, 2, reduction=2, shared=nn.Conv1d(4, 3, 1), out_channels=3, spatial=spatial), device)
        x = torch.randn(2, 4, 3, dtype=torch.float64, device=device, requires_grad=True)
        assert torch.autograd.gradcheck(wsgsa.pooled if pooled else wsgsa, x)
        names, values = zip(*wsgsa.named_parameters(), strict=True)

        def of_parameters(*parameters):
            given = dict(zip(names, parameters, strict=True))
            return torch.func.functional_call(wsgsa, given, (x.detach(),))

        assert torch.autograd.gradcheck(of_parameters, values)

    def test_parameters_are_stacked_over_groups(self):
        shapes = {name: tuple(p.shape) for name, p in WSGSA(64, 8, spatial=True).named_parameters()}
        assert shapes == {
            "down_weight": (8, 4, 64),
            "down_bias": (8, 4),
            "up_weight": (8, 64, 4),
            "up_bias": (8, 64),
            "queries": (8, 64),
            "key_weight": (64, 64),
        }

    def test_the_place_costs_five_weights_a_query(self):
        assert WSGSA(64, 8, spatial=True, num_heads=4, coordinates=2).place_weight.shape == (8, 4 * 5)

    def test_a_gate_pair_costs_what_the_paper_counts(self):
        gates = sum(p.numel() for p in WSGSA(2048, 1).parameters())
        assert gates == 526_464

    def test_fixed_gates_are_the_same_for_all_images_and_cost_a_number_each(self):
        wsgsa = grown(WSGSA(60, 8, reduction=None), "cpu")
        gates = wsgsa.gates(torch.randn(16, 60, 7, 7).double())
        assert gates.shape == (16, 8, 60)
        assert torch.equal(gates, wsgsa.up_bias.sigmoid().expand(16, -1, -1))
        assert sum(parameter.numel() for parameter in wsgsa.parameters()) == 8 * 60
        x = torch.randn(2, 60, 3, 3).double()
        torch.testing.assert_close(wsgsa(x), torch.einsum("gc,bchw->bgchw", gates[0], x))

    def test_new_fixed_gates_are_one_half(self):
        assert (WSGSA(64, 8, reduction=None).gates(torch.randn(2, 64)) == 0.5).all()

    def test_new_gates_are_near_one_half_and_differ_between_groups(self):
        gates = WSGSA(64, 8).gates(torch.randn(16, 64, 7, 7))
        assert (gates - 0.5).abs().max() < 0.2
        assert (gates[:, 0] != gates[:, 1]).any()

    def test_twice_a_new_module_keeps_the_scale_of_its_input(self):
        x = torch.randn(16, 64, 7, 7)
        assert 0.9 < (2 * WSGSA(64, 8)(x)).std() / x.std() < 1.1

    def test_the_shared_module_runs_once_for_all_groups(self):
        calls = []
        shared = nn.Identity()
        shared.register_forward_hook(lambda *_: calls.append(1))
        WSGSA(16, 40, shared=shared)(torch.randn(2, 16, 3))
        assert len(calls) == 1

    def test_a_shared_module_that_works_in_place_changes_no_gate(self):
        plain, in_place = WSGSA(16, 2, reduction=2), WSGSA(16, 2, reduction=2, shared=nn.ReLU(inplace=True))
        in_place.load_state_dict(plain.state_dict())
        x = torch.randn(2, 16, 3)
        expected = plain.gates(x)[..., None] * x.relu()[:, None]
        torch.testing.assert_close(in_place(x.clone()), expected)
        torch.testing.assert_close(in_place.pooled(x.clone()), expected.mean(-1))

    def test_a_shared_module_may_change_the_size_of_space(self):
        shared = nn.Conv2d(16, 8, 3, stride=2)
        wsgsa = WSGSA(16, 5, shared=shared, out_channels=8, spatial=True)
        x = torch.randn(2, 16, 9, 7)
        assert wsgsa(x).shape == (2, 5, 8, 4, 3)
        assert wsgsa.pooled(x).shape == wsgsa.gates(x).shape == (2, 5, 8)
        assert wsgsa.positions(x).shape == (2, 5, 4, 3)

    def test_a_shared_module_derived_from_the_identity_is_not_left_out(self):
        class Double(nn.Identity):
            def forward(self, x):
                return 2 * x

        wsgsa, x = WSGSA(16, 2, shared=Double()), torch.randn(2, 16, 3, 3)
        torch.testing.assert_close(wsgsa.pooled(x), wsgsa(x).mean((-2, -1)))

    def test_a_hook_on_the_identity_counts_in_the_pooled_form_too(self):
        wsgsa, x = WSGSA(16, 2, shared=nn.Identity()), torch.randn(2, 16, 3, 3)
        wsgsa.shared.register_forward_hook(lambda _module, _inputs, out: 2 * out)
        torch.testing.assert_close(wsgsa.pooled(x), wsgsa(x).mean((-2, -1)))

    @pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
    def test_to_ask_for_the_positions_changes_neither_statistics_nor_the_input(self, training):
        shared = nn.Sequential(nn.ReLU(inplace=True), nn.BatchNorm2d(16))
        wsgsa = grown(WSGSA(16, 2, reduction=4, shared=shared, spatial=True), "cpu").train(training)
        x = torch.randn(2, 16, 3, 3, dtype=torch.float64)
        before, given, state = copy.deepcopy(wsgsa), x.clone(), copy.deepcopy(wsgsa.state_dict())
        positions = wsgsa.positions(x)
        assert torch.equal(x, given)
        assert all(torch.equal(value, state[name]) for name, value in wsgsa.state_dict().items())
        grouped, gates = before(x.clone()), before.gates(given)
        shares = grouped[:, :, 0] / (gates[:, :, :1, None] * before.shared(given)[:, None, 0])
        torch.testing.assert_close(positions, shares)  # those of forward, in the same mode

    def test_reset_parameters_leaves_the_shared_module_alone(self):
        wsgsa = WSGSA(16, 2, shared=nn.Conv2d(16, 16, 1))
        weight, gate = wsgsa.shared.weight.clone(), wsgsa.down_weight.clone()
        wsgsa.reset_parameters()
        assert torch.equal(wsgsa.shared.weight, weight)
        assert not torch.equal(wsgsa.down_weight, gate)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            pytest.param({"num_heads": 0}, "WSGSA: num_heads must be at least 1, got 0", id="no query"),
            pytest.param(
                {"num_heads": 7},
                "WSGSA: num_heads must divide out_channels, got out_channels=64 and num_heads=7",
                id="heads",
            ),
            pytest.param(
                {"channels": 60},
                "WSGSA: reduction must divide channels, got channels=60 and reduction=16",
                id="reduction",
            ),
            pytest.param({"channels": 0}, "WSGSA: channels must be at least 1, got 0", id="channels"),
            pytest.param({"num_groups": 0}, "WSGSA: num_groups must be at least 1, got 0", id="groups"),
            pytest.param({"reduction": 0}, "WSGSA: reduction must be at least 1, got 0", id="no reduction"),
            pytest.param(
                {"reduction": None, "squeeze": "mean+max"},
                "WSGSA: squeeze says what the gates see, and with reduction=None they see nothing, got squeeze='mean",
                id="nothing to squeeze",
            ),
            pytest.param({"key_channels": 0}, "WSGSA: key_channels must be at least 1, got 0", id="keys"),
            pytest.param({"out_channels": 0}, "WSGSA: out_channels must be at least 1, got 0", id="out"),
            pytest.param(
                {"coordinates": 2},
                "WSGSA: coordinates is a number of spatial axes, 0 to 3, and needs spatial=True, "
                "got coordinates=2 and spatial=False",
                id="coordinates without spatial",
            ),
            pytest.param(
                {"coordinates": 4, "spatial": True},
                "WSGSA: coordinates is a number of spatial axes, 0 to 3",
                id="too many axes",
            ),
            pytest.param(
                {"coordinates": True, "spatial": True}, "coordinates is a number of spatial axes", id="yes is no number"
            ),
            pytest.param({"out_channels": 32}, "channels=64 and out_channels=32; pass shared=", id="nothing shared"),
        ],
    )
    def test_sizes_that_cannot_be_are_refused(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            WSGSA(**{"channels": 64, "num_groups": 8} | arguments)

    @pytest.mark.parametrize("method", ["forward", "pooled", "gates", "positions"])
    def test_features_without_channels_are_refused(self, method):
        with pytest.raises(
            (ValueError, TypeCheckError), match=r"WSGSA: expects the axes batch, channel .*\(64,\)|^Type-check error"
        ):
            getattr(WSGSA(64, 8), method)(torch.randn(64))

    @pytest.mark.parametrize("method", ["forward", "pooled", "gates", "positions"])
    def test_another_number_of_channels_is_refused_with_both_numbers(self, method):
        with pytest.raises(ValueError, match="WSGSA: expects 64 channels, got 32"):
            getattr(WSGSA(64, 8), method)(torch.randn(2, 32, 7, 7))

    @pytest.mark.parametrize("method", ["forward", "pooled", "positions"])
    def test_another_number_of_axes_than_coordinates_is_refused_with_both_numbers(self, method):
        with pytest.raises(
            ValueError, match=r"WSGSA: coordinates=2 expects 2 spatial axes, got 1; .*FARAMTN: coordinates=False"
        ):
            getattr(WSGSA(16, 2, spatial=True, coordinates=2), method)(torch.randn(2, 16, 3))

    @pytest.mark.parametrize("method", ["forward", "pooled", "positions"])
    def test_a_shared_module_with_other_channels_is_refused_with_both_numbers(self, method):
        wsgsa = WSGSA(16, 2, shared=nn.Conv2d(16, 8, 1))
        with pytest.raises(ValueError, match="WSGSA, its shared module: expects 16 channels, got 8"):
            getattr(wsgsa, method)(torch.randn(2, 16, 3, 3))


class TestCGFF:
    @pytest.mark.parametrize(("num_heads", "key_channels"), [(1, None), (2, None), (2, 1), (1, 5)])
    @pytest.mark.parametrize("norm", [True, False], ids=["norm", "no norm"])
    @pytest.mark.parametrize("space", SPACES)
    def test_equals_the_loops(self, space, norm, num_heads, key_channels, device):
        cgff = grown(CGFF(4, num_heads=num_heads, key_channels=key_channels, norm=norm), device)
        x = torch.randn(2, 3, 4, *space, dtype=torch.float64)
        assert_same_with_gradients(cgff, cgff, slow_cgff(num_heads, norm=norm), x, device)
        assert {name for name, _ in cgff.named_parameters() if name.startswith("norm")} == (
            {"norm.weight", "norm.bias"} if norm else set()
        )

    def test_affinity_equals_the_loops_averaged_over_heads(self, device):
        cgff = grown(CGFF(6, num_heads=3), device)

        def slow(x, p):
            norm = (p["norm.weight"], p["norm.bias"], 1e-5)
            return reference.affinity(x, norm, p["query.weight"], p["key.weight"], 3).mean(1)

        x = torch.randn(2, 4, 6, 2, dtype=torch.float64)
        assert_same_with_gradients(cgff, cgff.affinity, slow, x, device)

    def test_learned_pairs_shift_the_scores(self, device):
        cgff = grown(CGFF(6, num_heads=3, num_groups=4), device)
        plain = CGFF(6, num_heads=3).double().to(device)
        plain.load_state_dict({name: value for name, value in cgff.state_dict().items() if name != "prior"})
        x = torch.randn(2, 4, 6, 2, dtype=torch.float64, device=device)
        shifted = plain._affinity(x) * cgff.prior.exp()
        torch.testing.assert_close(cgff._affinity(x), shifted / shifted.sum(-1, keepdim=True))

    def test_without_keys_the_affinity_is_that_of_the_pairs_whatever_comes(self, device):
        cgff = grown(CGFF(6, num_heads=3, key_channels=0, num_groups=4), device)
        x = torch.randn(2, 4, 6, 2, dtype=torch.float64, device=device)
        affinity = cgff.affinity(x)
        torch.testing.assert_close(affinity, cgff.prior.softmax(-1).mean(0).expand(2, -1, -1))
        torch.testing.assert_close(cgff(3 * x), 3 * cgff(x))  # all of it is linear now

    def test_without_keys_and_pairs_all_are_heard_alike(self, device):
        cgff = grown(CGFF(4, num_heads=2, key_channels=0), device)
        x = torch.randn(2, 5, 4, dtype=torch.float64, device=device)
        heard = cgff.output(cgff.value(x)).mean(1, keepdim=True) / 2
        torch.testing.assert_close(cgff(x), x + heard)
        assert {name for name, _ in cgff.named_parameters()} == {"value.weight", "output.weight"}

    def test_pairs_refuse_another_number_of_groups(self):
        with pytest.raises(ValueError, match="CGFF: expects 3 groups, got 4"):
            CGFF(8, num_groups=3)(torch.randn(2, 4, 8))

    def test_one_group_still_hears_itself(self, device):
        cgff = grown(CGFF(4, num_heads=2), device)
        x = torch.randn(2, 1, 4, 3, dtype=torch.float64, device=device)
        heard = torch.einsum("oc,cd,bgds->bgos", cgff.output.weight, cgff.value.weight, x)
        torch.testing.assert_close(cgff(x), x + heard / 2)  # the root of four channels

    @pytest.mark.parametrize("space", [(), (2,)], ids=["vectors", "tokens"])
    def test_gradcheck_passes(self, space, device):
        cgff = grown(CGFF(4, num_heads=2), device)
        x = torch.randn(2, 3, 4, *space, dtype=torch.float64, device=device, requires_grad=True)
        assert torch.autograd.gradcheck(cgff, x)
        names, values = zip(*cgff.named_parameters(), strict=True)

        def of_parameters(*parameters):
            return torch.func.functional_call(cgff, dict(zip(names, parameters, strict=True)), (x.detach(),))

        assert torch.autograd.gradcheck(of_parameters, values)

    def test_keys_are_as_wide_as_a_head_unless_said_otherwise(self):
        assert CGFF(24, num_heads=3).key_channels == 8
        assert CGFF(24, num_heads=3).query.weight.shape == (24, 24)
        assert CGFF(24, num_heads=3, key_channels=2).key.weight.shape == (6, 24)

    def test_the_identity_at_the_start_can_be_left(self):
        cgff = CGFF(8, num_heads=2)
        cgff(torch.randn(2, 3, 8)).square().sum().backward()
        assert cgff.output.weight.grad.abs().sum() > 0

    def test_dropout_acts_in_training_only(self):
        cgff = grown(CGFF(8, num_heads=2, dropout=0.5), "cpu")
        x = torch.randn(2, 6, 8, dtype=torch.float64)
        assert not torch.equal(cgff.train()(x), cgff(x))
        assert torch.equal(cgff.eval()(x), cgff(x))

    def test_reset_parameters_makes_it_the_identity_again(self):
        cgff = grown(CGFF(8, num_heads=2), "cpu")
        x = torch.randn(2, 3, 8, dtype=torch.float64)
        assert not torch.equal(cgff(x), x)
        cgff.reset_parameters()
        assert torch.equal(cgff(x), x)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            pytest.param({"channels": 0}, "CGFF: channels must be at least 1, got 0", id="channels"),
            pytest.param({"num_heads": 0}, "CGFF: num_heads must be at least 1, got 0", id="no head"),
            pytest.param(
                {"num_heads": 7}, "CGFF: num_heads must divide channels, got channels=64 and num_heads=7", id="heads"
            ),
            pytest.param({"key_channels": -1}, "CGFF: key_channels must be at least 1, got -1", id="keys"),
            pytest.param({"num_groups": 0}, "CGFF: num_groups must be at least 1, got 0", id="groups"),
            pytest.param(
                {"num_groups": 3, "allowed": [[True]]},
                "CGFF: allowed has a row for each group, got 1 rows and num_groups=3",
                id="allowed and groups",
            ),
            pytest.param({"dropout": 1.0}, r"CGFF: dropout is a probability in \[0, 1\), got 1.0", id="all dropped"),
            pytest.param({"dropout": -0.1}, "CGFF: dropout is a probability", id="negative"),
        ],
    )
    def test_sizes_that_cannot_be_are_refused(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            CGFF(**{"channels": 64} | arguments)

    @pytest.mark.parametrize("method", ["forward", "affinity"])
    def test_another_number_of_channels_is_refused_with_both_numbers(self, method):
        with pytest.raises(ValueError, match="CGFF: expects 64 channels, got 32"):
            getattr(CGFF(64), method)(torch.randn(2, 8, 32))

    @pytest.mark.parametrize("method", ["forward", "affinity"])
    def test_features_without_groups_are_refused(self, method):
        with pytest.raises(
            (ValueError, TypeCheckError), match=r"CGFF: expects the axes batch, group, channel|^Type-check error"
        ):
            getattr(CGFF(64), method)(torch.randn(2, 64))


class TestGroupHeads:
    @pytest.mark.parametrize("space", SPACES)
    def test_equals_the_loops(self, space, device):
        heads = grown(GroupHeads(4, GROUPS), device)
        x = torch.randn(2, 3, 4, *space, dtype=torch.float64)
        assert_same_with_gradients(
            heads, heads, lambda x, p: reference.group_heads(x, p["weight"], p["bias"], GROUPS.sizes), x, device
        )

    def test_gradcheck_passes(self, device):
        heads = grown(GroupHeads(4, GROUPS), device)
        x = torch.randn(2, 3, 4, dtype=torch.float64, device=device, requires_grad=True)
        weight, bias = heads.weight, heads.bias

        def of_everything(x, weight, bias):
            return torch.func.functional_call(heads, {"weight": weight, "bias": bias}, (x,))

        assert torch.autograd.gradcheck(of_everything, (x, weight, bias))

    def test_nothing_is_padded(self):
        assert sum(p.numel() for p in GroupHeads(16, GROUPS).parameters()) == 5 * 16 + 5

    def test_a_group_reads_its_own_features_only(self):
        heads = GroupHeads(4, GROUPS)
        x = torch.randn(2, 3, 4)
        changed = x.clone()
        changed[:, 1] += 1
        assert ((heads(x) != heads(changed)) == torch.tensor([False, True, True, True, False])).all()

    def test_logits_of_maps_average_to_the_logits_of_the_mean(self):
        heads = GroupHeads(4, GROUPS).double()
        x = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
        torch.testing.assert_close(heads(x).mean((-2, -1)), heads(x.mean((-2, -1))))

    def test_it_starts_in_the_bounds_of_torchs_linear(self):
        heads = GroupHeads(100, AttributeGroups({"all": [str(index) for index in range(200)]}))
        for parameter in heads.parameters():
            assert 0.09 < parameter.abs().max() <= 0.1

    def test_no_channels_are_refused(self):
        with pytest.raises(ValueError, match="GroupHeads: channels must be at least 1, got 0"):
            GroupHeads(0, GROUPS)

    @pytest.mark.parametrize(
        ("shape", "message"),
        [
            pytest.param((2, 4, 16), "GroupHeads: expects 3 groups, got 4", id="groups"),
            pytest.param((2, 3, 8), "GroupHeads: expects 16 channels, got 8", id="channels"),
        ],
    )
    def test_another_size_is_refused_with_both_numbers(self, shape, message):
        with pytest.raises(ValueError, match=message):
            GroupHeads(16, GROUPS)(torch.randn(shape))

    def test_features_without_groups_are_refused(self):
        with pytest.raises(
            (ValueError, TypeCheckError), match=r"GroupHeads: expects the axes .*, got \(2, 16\)|^Type-check error"
        ):
            GroupHeads(16, GROUPS)(torch.randn(2, 16))


def test_weighted_positions_do_not_overflow_in_half_precision():
    wsgsa = WSGSA(16, 2, spatial=True).half()
    x = torch.full((1, 16, 56, 56), 40.0, dtype=torch.float16)
    torch.testing.assert_close(wsgsa.pooled(x).float(), wsgsa(x).float().mean((-2, -1)), rtol=5e-3, atol=0)
