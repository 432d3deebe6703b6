"""FARAMTN: against the loops, what it refuses, and its trunk frozen."""

import copy

import pytest
import reference
import torch
from settings import EIGHT, GROUPS, IMAGES, built, perturbed, small
from test_modules import assert_same_with_gradients
from torch import nn

from mtattn import FARAMTN, functional


def forbid(*_, **__):
    raise AssertionError("this must not be called")


def slow_maps(images, p):
    x = nn.functional.conv2d(images, p["trunk.weight"], p["trunk.bias"], stride=2)
    gates = reference.channel_gates(x, *(p[f"wsgsa.{n}"] for n in ("down_weight", "down_bias", "up_weight", "up_bias")))
    spatial = "wsgsa.queries" in p
    positions = None
    if spatial:
        queries = p["wsgsa.queries"].reshape(-1, len(p["wsgsa.key_weight"]))
        places = 20 * p["wsgsa.place_weight"].reshape(len(queries), -1) if "wsgsa.place_weight" in p else None
        positions = reference.position_weights(x, queries, p["wsgsa.key_weight"], places)
    grouped = 2 * reference.wsgsa(x, gates, positions)
    if "projection.weight" in p:
        grouped = reference.channel_linear(grouped, p["projection.weight"])
    linears = (p[f"cgff.{name}.weight"] for name in ("query", "key", "value", "output"))
    fused = reference.cgff(grouped, None, *linears, num_heads=2)
    return reference.group_heads(fused, p["heads.weight"], p["heads.bias"], GROUPS.sizes)


class TestTheModel:
    @pytest.mark.parametrize(
        "looking",
        [
            pytest.param({"spatial": False}, id="plain"),
            pytest.param({"coordinates": False}, id="spatial"),
            pytest.param({}, id="with coordinates"),
        ],
    )
    @pytest.mark.parametrize("fused_channels", [4, 512], ids=["with projection", "without projection"])
    def test_equals_the_loops(self, fused_channels, looking, device):
        model = FARAMTN(
            nn.Conv2d(3, 6, 2, stride=2),
            6,
            GROUPS,
            reduction=2,
            fused_channels=fused_channels,
            num_heads=2,
            key_channels=3,
            **looking,
        )
        assert (model.wsgsa.place_weight is None) == bool(looking)
        model = perturbed(model.double()).to(device)
        images = torch.rand(2, 3, 4, 6, dtype=torch.float64)
        assert_same_with_gradients(model, model.attribute_maps, slow_maps, images, device)
        assert_same_with_gradients(model, model, lambda x, p: slow_maps(x, p).mean((-2, -1)), images, device)

    def test_a_projection_stands_only_where_it_narrows(self):
        assert small(fused_channels=8, num_heads=2).projection.weight.shape == (8, 16)
        assert small(fused_channels=16).projection is None
        assert small(fused_channels=512).projection is None

    @pytest.mark.parametrize("fused_channels", [64, 512], ids=["with projection", "without projection"])
    def test_a_new_model_keeps_the_scale_of_pooled_features(self, fused_channels):
        model = FARAMTN(nn.Identity(), 256, EIGHT, fused_channels=fused_channels)
        x = torch.randn(16, 256, 4, 4)
        assert 0.8 < model.forward_features(x).std() / x.mean((-2, -1)).std() < 1.2

    def test_features_have_one_row_a_group(self):
        assert small().forward_features(IMAGES).shape == (2, 3, 16)
        assert small(fused_channels=8, num_heads=2).forward_features(IMAGES).shape == (2, 3, 8)

    def test_affinity_has_a_row_a_group_that_sums_to_one(self):
        affinity = perturbed(small()).affinity(IMAGES)
        assert affinity.shape == (2, 3, 3)
        torch.testing.assert_close(affinity.sum(2), torch.ones(2, 3))

    def test_the_dense_features_are_never_built_in_forward(self, monkeypatch):
        model = small()
        monkeypatch.setattr(functional, "gate", forbid)
        assert model(IMAGES).shape == (2, 5)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            pytest.param(
                {"reduction": 3},
                "WSGSA: reduction must divide channels, got channels=16 and reduction=3",
                id="reduction",
            ),
            pytest.param(
                {"num_heads": 5}, "CGFF: num_heads must divide channels, got channels=16 and num_heads=5", id="heads"
            ),
            pytest.param({"dropout": 2.0}, "CGFF: dropout is a probability", id="dropout"),
            pytest.param({"out_channels": 8}, "out_channels=8; pass shared=", id="nothing shared"),
            pytest.param({"fused_channels": 0}, "fused_channels must be at least 1, got 0", id="nothing fused"),
            pytest.param({"fused_channels": -1}, "fused_channels must be at least 1, got -1", id="fewer than nothing"),
        ],
    )
    def test_sizes_that_do_not_fit_are_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            small(**options)

    def test_a_plain_dict_of_groups_is_refused_with_the_way_out(self):
        with pytest.raises(
            TypeError, match=r"FARAMTN: groups is an AttributeGroups, got a dict; wrap it|^Type-check error"
        ):
            small({"eyes": ["Eyeglasses"]})

    def test_a_trunk_with_other_channels_is_refused_with_both_numbers(self):
        with pytest.raises(ValueError, match="WSGSA: expects 32 channels, got 16"):
            FARAMTN(nn.Conv2d(3, 16, 4), 32, GROUPS)(IMAGES)


@pytest.mark.parametrize("fused_channels", [8, 512], ids=["with projection", "without projection"])
@pytest.mark.parametrize("assign", [False, True], ids=["filled", "assigned"])
def test_a_state_dict_is_all_that_a_model_built_without_memory_needs(fused_channels, assign):
    def build():
        trunk = nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.ReLU())
        return FARAMTN(trunk, 16, GROUPS, fused_channels=fused_channels, num_heads=2)

    model = perturbed(build()).eval()
    with torch.device("meta"):
        empty = build().eval()
    if not assign:
        empty.to_empty(device="cpu")
        for tensor in (*empty.parameters(), *empty.buffers()):  # stands for what is in fresh memory
            tensor.data.fill_(7)
    empty.load_state_dict(model.state_dict(), strict=True, assign=assign)
    assert torch.equal(empty(IMAGES), model(IMAGES))
    assert torch.equal(empty.attribute_maps(IMAGES), model.attribute_maps(IMAGES))


class TestFreezing:
    @staticmethod
    def trunk_state(model):
        return {name: tensor.clone() for name, tensor in model.trunk.state_dict().items()}

    @staticmethod
    def train_once(model):
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        model.train()
        model(IMAGES).square().sum().backward()
        optimizer.step()

    @pytest.mark.parametrize("build", [small, lambda: built("resnet18")], ids=["custom", "timm"])
    def test_a_frozen_trunk_stays_put_statistics_included(self, build):
        model = build().freeze()
        before = self.trunk_state(model)
        self.train_once(model)
        assert all(torch.equal(value, before[name]) for name, value in model.trunk.state_dict().items())
        assert not any(p.requires_grad for p in model.trunk.parameters())
        assert all(p.requires_grad for name, p in model.named_parameters() if not name.startswith("trunk."))

    def test_the_rest_goes_on_learning(self):
        model = perturbed(small()).freeze()
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.train_once(model)
        changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
        assert {"wsgsa.up_weight", "cgff.value.weight", "heads.weight"} <= changed

    def test_going_to_evaluation_and_back_keeps_the_trunk_frozen(self):
        model = small().freeze().eval().train()
        assert model.training
        assert not model.trunk.training

    @pytest.mark.parametrize("training", [True, False])
    def test_freezing_and_unfreezing_keep_the_mode(self, training):
        model = small().train(training)
        assert model.freeze().training == training
        assert model.unfreeze().training == training
        assert model.trunk.training == training

    def test_an_unfrozen_trunk_learns_again(self):
        model = small().freeze().unfreeze()
        before = self.trunk_state(model)
        self.train_once(model)
        changed = {name for name, value in model.trunk.state_dict().items() if not torch.equal(value, before[name])}
        assert {"0.weight", "1.running_mean"} <= changed

    @pytest.mark.parametrize("times", [1, 2])
    def test_what_was_frozen_by_the_user_stays_frozen(self, times):
        model = built("resnet18", drop_stages=2)
        model.trunk.model.conv1.requires_grad_(False)
        for _ in range(times):
            model.freeze()
        model = copy.deepcopy(model).unfreeze()
        frozen = [name for name, parameter in model.trunk.named_parameters() if not parameter.requires_grad]
        assert frozen == ["model.conv1.weight"]

    def test_what_is_added_between_two_freezes_thaws_with_the_rest(self):
        model = small().freeze()
        model.trunk.append(nn.Conv2d(16, 16, 1))
        assert all(p.requires_grad for p in model.freeze().unfreeze().trunk.parameters())

    def test_unfreezing_what_was_never_frozen_changes_nothing(self):
        model = small()
        model.trunk[0].weight.requires_grad_(False)
        assert not model.unfreeze().trunk[0].weight.requires_grad

    def test_is_not_saved(self, tmp_path):
        small().freeze().save_pretrained(tmp_path)
        loaded = FARAMTN.from_pretrained(tmp_path, trunk=small().trunk).train()
        assert loaded.trunk.training
        assert all(p.requires_grad for p in loaded.parameters())

    def test_a_trunk_without_parameters_is_not_taken_for_a_frozen_one(self):
        model = FARAMTN(
            nn.Sequential(nn.AvgPool2d(4), nn.BatchNorm2d(3, affine=False)), 3, GROUPS, reduction=1, num_heads=1
        )
        assert model.train().trunk.training


class Alike(nn.Module):
    """One linear layer for all groups; it takes maps as well."""

    linear = True

    def __init__(self, channels, num_columns):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_columns, channels))

    def forward(self, x):
        return torch.einsum("bgc...,ac->ba...", x, self.weight)


class TestHeadsOfOnesOwn:
    def test_read_the_features_of_the_groups(self):
        heads = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 8), nn.ReLU(), nn.Linear(8, 5))
        model = perturbed(small(heads=heads)).eval()
        torch.testing.assert_close(model(IMAGES), heads(model.forward_features(IMAGES)))
        model(IMAGES).sum().backward()
        assert all(p.grad is not None for p in heads.parameters())

    def test_that_are_not_linear_have_no_maps_and_say_so(self):
        model = small(heads=nn.Sequential(nn.Flatten(), nn.Linear(48, 5)))
        with pytest.raises(ValueError, match=r"only linear heads have maps .* got heads of your own, Sequential;"):
            model.attribute_maps(IMAGES)

    def test_that_are_linear_and_say_so_have_exact_maps(self):
        model = perturbed(small(heads=Alike(16, 5))).eval()
        torch.testing.assert_close(model.attribute_maps(IMAGES).mean((-2, -1)), model(IMAGES))

    def test_with_another_number_of_columns_are_refused(self):
        with pytest.raises(ValueError, match="The heads of FARAMTN: expects 5 columns, got 4"):
            small(heads=Alike(16, 4))(IMAGES)
