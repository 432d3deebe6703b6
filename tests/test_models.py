"""FARAMTN: against the loops, on timm's backbones, frozen, saved and loaded, and what it refuses."""

import copy
import json
import pickle
import socket
from pathlib import Path

import pytest
import reference
import timm
import torch
from safetensors.torch import save_file
from test_modules import assert_same_with_gradients
from torch import nn

from mtattn import FARAMTN, WSGSA, AttributeGroups
from mtattn.models.backbones import FreshBottleneck, build_backbone

GROUPS = AttributeGroups({"nose": ["Big_Nose"], "eyes": ["Narrow_Eyes", "Eyeglasses", "Bags"], "chin": ["Goatee"]})
EIGHT = AttributeGroups({f"group {g}": [f"attribute {g}.{a}" for a in range(5)] for g in range(8)})
VIT = "vit_tiny_patch16_224"
OPTIONS = {VIT: {"img_size": 64}}
CUT = ["resnet18", "resnet50", "convnext_atto", "mobilenetv3_small_100", "tf_efficientnet_lite0"]
BACKBONES = pytest.mark.parametrize("name", [*CUT, VIT])
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def perturbed(module):
    """Every number away from its start: timm starts last norms at zero, which would hide a whole block."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var"):
                tensor.add_(torch.rand_like(tensor))
            elif tensor.is_floating_point():
                fan_in = tensor[0].numel() if tensor.ndim > 1 else 100
                tensor.add_(0.5 * torch.randn_like(tensor) / max(fan_in, 10) ** 0.5)
    return module


def small(groups=GROUPS, **options):
    trunk = nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.BatchNorm2d(16), nn.ReLU())
    return FARAMTN(trunk, 16, groups, **options)


def built(name, groups=GROUPS, **options):
    return FARAMTN.from_timm(name, groups, backbone_options=OPTIONS.get(name), **options)


def edit(path, change):
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def forbid(*_, **__):
    raise AssertionError("this must not be called")


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", forbid)
    monkeypatch.setattr(socket, "getaddrinfo", forbid)


@pytest.fixture
def no_pickle(monkeypatch):
    monkeypatch.setattr(torch, "load", forbid)
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, forbid)


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
        monkeypatch.setattr(type(model.wsgsa), "forward", forbid)
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
            TypeError, match=r"FARAMTN: groups is an AttributeGroups, got a dict; wrap it|parameter 'groups'"
        ):
            small({"eyes": ["Eyeglasses"]})

    def test_a_trunk_with_other_channels_is_refused_with_both_numbers(self):
        with pytest.raises(ValueError, match="WSGSA: expects 32 channels, got 16"):
            FARAMTN(nn.Conv2d(3, 16, 4), 32, GROUPS)(IMAGES)


class TestBackbones:
    @BACKBONES
    def test_gives_logits_maps_and_features(self, name):
        model = built(name, fused_channels=64).eval()
        with torch.no_grad():
            maps = model.attribute_maps(IMAGES)
            assert maps.ndim == 4
            assert model.forward_features(IMAGES).shape == (2, 3, 64)
            torch.testing.assert_close(maps.mean((-2, -1)), model(IMAGES), rtol=1e-4, atol=1e-5)

    @BACKBONES
    def test_every_parameter_gets_a_finite_gradient(self, name):
        model = perturbed(built(name, spatial=True)).eval()
        (model(IMAGES) * torch.randn(2, 5)).sum().backward()
        missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert missing == []
        assert all(p.grad.abs().sum() > 0 for p in model.wsgsa.parameters())

    @pytest.mark.parametrize("name", CUT)
    def test_the_two_parts_are_timms_own_features(self, name, tmp_path):
        original = perturbed(timm.create_model(name, num_classes=0)).eval()
        torch.save(original.state_dict(), tmp_path / "weights.pth")
        backbone = build_backbone(name, weights=tmp_path / "weights.pth")
        with torch.no_grad():
            got = backbone.shared.eval()(backbone.trunk.eval()(IMAGES))
            expected = original.forward_features(IMAGES)
            if name == "convnext_atto":  # its norm comes after pooling in timm, before it here
                expected = original.head.norm(expected)
        torch.testing.assert_close(got, expected)

    def test_a_vision_transformers_tokens_become_a_map(self, tmp_path):
        original = perturbed(timm.create_model(VIT, num_classes=0, img_size=64)).eval()
        torch.save(original.state_dict(), tmp_path / "weights.pth")
        backbone = build_backbone(VIT, weights=tmp_path / "weights.pth", options={"img_size": 64})
        with torch.no_grad():
            got = backbone.trunk.eval()(IMAGES)
            tokens = original.forward_features(IMAGES)[:, 1:]
        torch.testing.assert_close(got, tokens.mT.reshape(2, 192, 4, 4))
        assert torch.equal(backbone.shared.eval()(got), got)

    @pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
    def test_dropped_stages_leave_the_features_of_the_stage_before(self, name, tmp_path):
        original = perturbed(timm.create_model(name, num_classes=0)).eval()
        torch.save(original.state_dict(), tmp_path / "weights.pth")
        backbone = build_backbone(name, weights=tmp_path / "weights.pth", drop_stages=1)
        with torch.no_grad():
            got = backbone.shared.eval()(backbone.trunk.eval()(IMAGES))
            expected = original.forward_intermediates(IMAGES, intermediates_only=True)[-2]
        torch.testing.assert_close(got, expected)

    @pytest.mark.parametrize("name", CUT)
    def test_dropped_stages_give_a_map_at_least_as_large_from_fewer_parameters_all_of_them_used(self, name):
        whole, fewer = built(name), perturbed(built(name, drop_stages=1)).eval()
        height = whole.eval().attribute_maps(IMAGES).shape[-1]
        maps = fewer.attribute_maps(IMAGES)
        maps.sum().backward()
        assert maps.shape[-1] >= height
        assert sum(p.numel() for p in fewer.parameters()) < sum(p.numel() for p in whole.parameters())
        assert [name for name, p in fewer.named_parameters() if p.grad is None] == []

    def test_a_backbone_without_a_feature_map_is_refused(self):
        with pytest.raises(ValueError, match="from_timm: 'hiera_tiny_224' gives no feature map"):
            FARAMTN.from_timm("hiera_tiny_224", GROUPS)

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            pytest.param(
                "resnet18", {"norm_layer": nn.BatchNorm2d}, "backbone_options are saved as JSON", id="no JSON"
            ),
            pytest.param(
                "resnet18", {"foo": 1}, "'resnet18' does not take these backbone_options: .*foo", id="misspelt"
            ),
            pytest.param("resnet18.foo", {}, r"Invalid pretrained tag \(foo\)", id="tag"),
        ],
    )
    @pytest.mark.parametrize("pretrained", [False, True])
    @pytest.mark.usefixtures("no_network")
    def test_options_that_cannot_be_are_refused_before_anything_is_fetched(self, name, options, message, pretrained):
        with pytest.raises(ValueError, match=f"from_timm: {message}"):
            FARAMTN.from_timm(name, GROUPS, backbone_options=options, pretrained=pretrained)

    @pytest.mark.parametrize(
        ("name", "drop_stages"),
        [
            pytest.param("resnet18", 4, id="all of a ResNet"),
            pytest.param("resnet18", 7, id="more than a ResNet has"),
            pytest.param("resnet18", -1, id="negative"),
            pytest.param("convnext_atto", 4, id="all of a ConvNeXt"),
            pytest.param("mobilenetv3_small_100", 9, id="all of a MobileNet"),
            pytest.param(VIT, 1, id="no stages"),
        ],
    )
    def test_more_stages_than_there_are_cannot_be_dropped(self, name, drop_stages):
        with pytest.raises(ValueError, match=rf"drop_stages.*got .*{drop_stages}|drop_stages is for the families"):
            built(name, drop_stages=drop_stages)

    def test_a_resnet50_is_cut_before_conv5_3(self):
        model = built("resnet50")
        assert [len(getattr(model.trunk.model, f"layer{stage}")) for stage in (1, 2, 3, 4)] == [3, 4, 6, 2]
        assert sum(p.numel() for p in model.trunk.parameters()) == 8_543_296 + 6_039_552 + 4_462_592
        assert sum(p.numel() for p in model.wsgsa.shared.parameters()) == 4_462_592

    def test_a_resnet50_for_eight_groups_has_the_parameters_that_the_paper_counts(self):
        model = built("resnet50", EIGHT, fused_channels=2048, spatial=False)
        without_fusion = sum(p.numel() for part in (model.trunk, model.wsgsa, model.heads) for p in part.parameters())
        assert without_fusion == 8_543_296 + 14_964_736 + 8 * 526_464 + 40 * 2049
        assert round(without_fusion / 1e6, 1) == 27.8

    def test_each_group_learns_where_to_look_by_default(self):
        model = FARAMTN(nn.Identity(), 16, GROUPS)
        assert model.wsgsa.queries.shape == (len(GROUPS), 8 * 64)  # as many queries as CGFF has heads
        assert FARAMTN(nn.Identity(), 16, GROUPS, num_heads=2).wsgsa.num_heads == 2
        assert FARAMTN(nn.Identity(), 36, GROUPS, reduction=4, fused_channels=32).wsgsa.num_heads == 4
        assert model.config["spatial"] is True
        assert WSGSA(16, len(GROUPS)).queries is None  # the module alone is as the paper tells it

    def test_a_backbone_without_a_block_to_give_gets_a_fresh_bottleneck(self):
        assert isinstance(built(VIT).wsgsa.shared, FreshBottleneck)

    def test_a_shared_module_of_ones_own_follows_the_whole_backbone(self):
        model = built("resnet18", shared=nn.Conv2d(512, 64, 1), out_channels=64).eval()
        assert len(model.trunk.model.layer4) == 2
        assert model.forward_features(IMAGES).shape == (2, 3, 64)

    def test_a_shared_module_of_ones_own_leaves_no_stage_to_drop(self):
        with pytest.raises(ValueError, match="shared= comes after the whole backbone, got drop_stages=1; use 0"):
            built("resnet18", shared=nn.Conv2d(512, 64, 1), out_channels=64, drop_stages=1)

    @pytest.mark.parametrize("num_colors", [1, 2, 5])
    def test_backbone_options_reach_timm(self, num_colors):
        model = FARAMTN.from_timm("resnet18", GROUPS, backbone_options={"in_chans": num_colors})
        assert model(torch.rand(2, num_colors, 64, 64)).shape == (2, 5)
        image = model.config["image"]
        assert image["mean"] == pytest.approx([(0.485 + 0.456 + 0.406) / 3] * num_colors)
        assert len(image["std"]) == num_colors

    def test_building_leaves_the_running_statistics_at_their_start(self):
        model = built("resnet18")
        assert all(part.training for part in model.modules())
        assert model.trunk.model.bn1.num_batches_tracked == 0
        assert (model.trunk.model.bn1.running_mean == 0).all()

    def test_an_unknown_backbone_is_refused_with_the_nearest_names(self):
        with pytest.raises(ValueError, match=r"no timm model 'resnet81'; did you mean 'resnet[0-9]"):
            built("resnet81")

    def test_weights_that_cannot_be_fetched_name_the_way_out(self, monkeypatch):
        def fail(*_, **__):
            raise RuntimeError("no route to host")

        monkeypatch.setattr(timm, "create_model", fail)
        with pytest.raises(OSError, match=r"'resnet18' could not be fetched.*no route to host.*backbone_weights="):
            built("resnet18", pretrained=True)

    @pytest.mark.parametrize("misspelt", ["redction", "backbone_weight", "droop_stages"])
    def test_a_misspelt_option_is_a_type_error(self, misspelt):
        with pytest.raises(TypeError, match=misspelt):
            built("resnet18", **{misspelt: 1})


class TestBackboneWeights:
    @pytest.fixture
    def original(self):
        return perturbed(timm.create_model("resnet18", num_classes=0)).eval()

    @staticmethod
    def assert_loaded(file, original):
        model = built("resnet18", backbone_weights=file).eval()
        with torch.no_grad():
            features = model.wsgsa.shared(model.trunk(IMAGES))
        torch.testing.assert_close(features, original.forward_features(IMAGES).detach())

    @pytest.mark.parametrize(
        "wrap",
        [
            pytest.param(lambda state: state, id="plain"),
            pytest.param(lambda state: {"epoch": 3, "state_dict": state}, id="state_dict"),
            pytest.param(lambda state: {"model": state}, id="model"),
            pytest.param(lambda state: {f"module.{key}": value for key, value in state.items()}, id="parallel"),
            pytest.param(lambda state: {**state, "fc.weight": torch.zeros(9, 512)}, id="classifier"),
            pytest.param(lambda state: dict(reversed(state.items())), id="another order"),
        ],
    )
    def test_are_read_by_name(self, wrap, original, tmp_path):
        torch.save(wrap(original.state_dict()), tmp_path / "weights.pth")
        self.assert_loaded(tmp_path / "weights.pth", original)

    @pytest.mark.parametrize("counters", [True, False], ids=["with counters", "without counters"])
    @pytest.mark.parametrize(
        "classifier", [{}, {"theirs.last": torch.zeros(9, 512)}], ids=["no classifier", "classifier"]
    )
    def test_are_read_by_order_where_the_names_differ(self, classifier, counters, original, tmp_path):
        state = {f"theirs.{key}": value for key, value in original.state_dict().items() if counters or value.ndim}
        torch.save(state | classifier, tmp_path / "weights.pth")
        self.assert_loaded(tmp_path / "weights.pth", original)

    def test_are_read_from_safetensors(self, original, tmp_path):
        save_file(original.state_dict(), tmp_path / "weights.safetensors")
        self.assert_loaded(tmp_path / "weights.safetensors", original)

    def test_may_be_named_by_a_string(self, original, tmp_path):
        torch.save(original.state_dict(), tmp_path / "weights.pth")
        self.assert_loaded(str(tmp_path / "weights.pth"), original)

    def test_of_another_network_are_refused(self, original, tmp_path):
        torch.save(original.state_dict(), tmp_path / "weights.pth")
        with pytest.raises(
            ValueError, match=r"weights.pth does not fit ResNet: .* has shape .*, the file has .* in its place"
        ):
            built("resnet50", backbone_weights=tmp_path / "weights.pth")

    def test_of_a_deeper_network_with_the_same_names_are_refused(self, tmp_path):
        torch.save(timm.create_model("resnet34").state_dict(), tmp_path / "weights.pth")
        with pytest.raises(
            ValueError, match=r"weights.pth does not fit ResNet: it has layer1\.2\.conv1\.weight and more"
        ):
            built("resnet18", backbone_weights=tmp_path / "weights.pth")

    def test_that_go_on_after_the_classifier_are_refused(self, original, tmp_path):
        state = {f"theirs.{key}": value for key, value in original.state_dict().items()}
        torch.save(state | {f"theirs.more.{index}": torch.zeros(2) for index in range(3)}, tmp_path / "weights.pth")
        with pytest.raises(ValueError, match=r"it has theirs\.more\.0 and more that the model lacks"):
            built("resnet18", backbone_weights=tmp_path / "weights.pth")

    def test_that_end_early_are_refused(self, original, tmp_path):
        state = dict(list(original.state_dict().items())[:-3])
        torch.save(state, tmp_path / "weights.pth")
        with pytest.raises(ValueError, match="the file has nothing in its place"):
            built("resnet18", backbone_weights=tmp_path / "weights.pth")

    def test_that_are_not_there_are_refused_with_the_path(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=f"no checkpoint at {tmp_path}/weights.pth"):
            built("resnet18", backbone_weights=tmp_path / "weights.pth")

    @pytest.mark.parametrize("suffix", ["pth", "safetensors"])
    def test_that_are_no_checkpoint_are_refused_with_the_path(self, suffix, tmp_path):
        file = tmp_path / f"weights.{suffix}"
        file.write_text("hello")
        with pytest.raises(ValueError, match=f"{file} is not a checkpoint"):
            built("resnet18", backbone_weights=file)

    @pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {"epoch": 3}], ids=["list", "tensor", "no weights"])
    def test_that_hold_something_else_are_refused_with_the_path(self, content, tmp_path):
        torch.save(content, tmp_path / "weights.pth")
        with pytest.raises(ValueError, match=r"weights\.pth"):
            built("resnet18", backbone_weights=tmp_path / "weights.pth")

    def test_that_would_run_code_are_refused_and_run_none(self, tmp_path):
        ran = tmp_path / "ran"
        (tmp_path / "weights.pth").write_bytes(pickle.dumps(Dangerous(str(ran)), protocol=2))
        torch.save({"conv1.weight": Dangerous(str(ran))}, tmp_path / "zip.pth")
        for file in ("weights.pth", "zip.pth"):
            with pytest.raises(ValueError, match="is not a checkpoint that can be read without unpickling"):
                built("resnet18", backbone_weights=tmp_path / file)
        assert not ran.exists()


class Dangerous:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


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

    def test_a_trunk_without_parameters_is_not_taken_for_a_frozen_one(self):
        model = FARAMTN(
            nn.Sequential(nn.AvgPool2d(4), nn.BatchNorm2d(3, affine=False)), 3, GROUPS, reduction=1, num_heads=1
        )
        assert model.train().trunk.training


class TestParameterGroups:
    @pytest.mark.parametrize("frozen", [False, True], ids=["training", "frozen"])
    @pytest.mark.parametrize(
        "build",
        [small, *(lambda name=name: built(name, spatial=True, fused_channels=64) for name in ("resnet18", VIT))],
        ids=["custom", "resnet18", "vit"],
    )
    def test_cover_each_trainable_parameter_exactly_once(self, build, frozen):
        model = build().freeze() if frozen else build()
        listed = [id(p) for group in model.parameter_groups(1e-3) for p in group["params"]]
        wanted = [id(p) for p in model.parameters() if p.requires_grad]
        assert sorted(listed) == sorted(wanted)
        assert all(group["params"] for group in model.parameter_groups(1e-3))

    def test_an_optimizer_takes_them(self):
        groups = small().parameter_groups(1e-3, weight_decay=0.05)
        assert len(torch.optim.AdamW(groups).param_groups) == len(groups)

    def test_the_backbone_gets_the_smaller_rate_and_the_new_modules_the_full_one(self):
        model = built("resnet18")
        rates = {
            id(p): group["lr"] for group in model.parameter_groups(0.5, trunk_factor=0.25) for p in group["params"]
        }
        for part, rate in ((model.trunk, 0.125), (model.wsgsa.shared, 0.125), (model.cgff, 0.5), (model.heads, 0.5)):
            assert {rates[id(p)] for p in part.parameters()} == {rate}
        assert rates[id(model.wsgsa.up_weight)] == 0.5

    @pytest.mark.parametrize(
        "build",
        [
            pytest.param(lambda: built(VIT), id="fresh bottleneck"),
            pytest.param(lambda: small(shared=nn.Conv2d(16, 16, 1)), id="own, custom trunk"),
            pytest.param(lambda: built("resnet18", shared=nn.Conv2d(512, 512, 1)), id="own, timm"),
        ],
    )
    def test_a_shared_module_that_is_not_from_the_backbone_counts_as_new(self, build):
        model = build()
        rates = {id(p): group["lr"] for group in model.parameter_groups(1.0) for p in group["params"]}
        assert {rates[id(p)] for p in model.wsgsa.shared.parameters()} == {1.0}

    def test_biases_and_norms_do_not_decay(self):
        model = built("resnet18", spatial=True)
        decay = {id(p): g["weight_decay"] for g in model.parameter_groups(1.0, weight_decay=0.1) for p in g["params"]}
        for name, p in model.named_parameters():
            plain = name.endswith("bias") or "bn" in name or "norm" in name or "downsample.1" in name
            assert decay[id(p)] == (0.0 if plain else 0.1), name


class TestSaving:
    @pytest.fixture
    def folder(self, tmp_path):
        perturbed(built("resnet18", reduction=32, spatial=True)).save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            pytest.param(
                "resnet18", {"reduction": 32, "spatial": True, "fused_channels": 64, "num_heads": 4}, id="resnet18"
            ),
            pytest.param("resnet18", {"drop_stages": 1}, id="resnet18 short"),
            pytest.param("tf_efficientnet_lite0", {"dropout": 0.1}, id="efficientnet"),
            pytest.param(VIT, {"reduction": 8, "key_channels": 16, "spatial": True}, id="vit"),
        ],
    )
    @pytest.mark.usefixtures("no_network", "no_pickle")
    def test_a_loaded_model_is_the_saved_one(self, name, options, tmp_path):
        model = perturbed(built(name, **options)).eval()
        model.save_pretrained(tmp_path)
        loaded = FARAMTN.from_pretrained(tmp_path)
        assert loaded.groups == model.groups
        assert list(loaded.groups) == ["nose", "eyes", "chin"]
        assert not loaded.training
        assert repr(loaded) == repr(model)
        with torch.no_grad():
            assert torch.equal(loaded(IMAGES), model(IMAGES))
            assert torch.equal(loaded.attribute_maps(IMAGES), model.attribute_maps(IMAGES))

    def test_a_loaded_model_saves_the_same_files(self, folder, tmp_path):
        FARAMTN.from_pretrained(folder).save_pretrained(tmp_path / "again")
        for file in ("config.json", "model.safetensors"):
            assert (tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes()

    def test_what_others_added_to_the_config_stays(self, folder, tmp_path):
        edit(folder / "config.json", lambda config: config.update(image={"size": [9, 9]}, note="mine"))
        model = FARAMTN.from_pretrained(folder)
        assert (model.config["image"], model.config["note"]) == ({"size": [9, 9]}, "mine")
        custom = small()
        custom.config["image"] = {"size": [8, 8]}
        custom.save_pretrained(tmp_path / "custom")
        trunk = nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.BatchNorm2d(16), nn.ReLU())
        assert FARAMTN.from_pretrained(tmp_path / "custom", trunk=trunk).config["image"] == {"size": [8, 8]}

    def test_an_option_given_on_loading_is_saved_again(self, folder):
        model = FARAMTN.from_pretrained(folder, dropout=0.5)
        assert model.cgff.dropout.p == model.config["dropout"] == 0.5

    def test_other_groups_are_refused(self, folder):
        with pytest.raises(ValueError, match="the groups belong to the saved model; leave groups= out"):
            FARAMTN.from_pretrained(folder, groups=EIGHT)

    def test_a_module_used_twice_is_saved_once_and_loaded(self, tmp_path):
        def build():
            twice = nn.Conv2d(16, 16, 1)
            return nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), twice), twice

        trunk, twice = build()
        model = perturbed(FARAMTN(trunk, 16, GROUPS, shared=twice)).eval()
        model.save_pretrained(tmp_path)
        trunk, twice = build()
        loaded = FARAMTN.from_pretrained(tmp_path, trunk=trunk, shared=twice)
        assert torch.equal(loaded(IMAGES), model(IMAGES))

    @pytest.mark.usefixtures("no_network")
    @pytest.mark.parametrize("place", ["runs/model", Path("runs/model"), Path("model"), "~/no/model"])
    def test_a_missing_folder_is_never_looked_for_on_the_hub(self, place, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("runs").mkdir()
        with pytest.raises(FileNotFoundError, match=r"FARAMTN\.from_pretrained: no folder .*model"):
            FARAMTN.from_pretrained(place)

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda config: config.clear(), id="empty"),
            pytest.param(lambda config: config.pop("groups"), id="no groups"),
            pytest.param(lambda config: config.pop("out_channels"), id="no channels"),
            pytest.param(lambda config: config.update(backbone={}), id="nothing of the backbone"),
            pytest.param(lambda config: config.update(groups=["eyes"]), id="groups as a list"),
        ],
    )
    def test_the_config_of_something_else_is_refused(self, change, folder):
        edit(folder / "config.json", change)
        with pytest.raises(
            ValueError, match=r"FARAMTN\.from_pretrained: (the config of a FARAMTN has|config.json of .* is)"
        ):
            FARAMTN.from_pretrained(folder)

    def test_a_string_names_a_folder_as_well(self, folder, monkeypatch):
        assert FARAMTN.from_pretrained(str(folder)).groups == GROUPS
        monkeypatch.chdir(folder.parent)
        assert FARAMTN.from_pretrained("model").groups == GROUPS

    def test_the_config_can_be_read(self, folder):
        config = json.loads((folder / "config.json").read_text())
        assert config["backbone"]["name"] == "resnet18"
        assert config["reduction"] == 32
        assert config["spatial"] is True
        assert list(config["groups"].items()) == [(name, list(attributes)) for name, attributes in GROUPS.items()]
        assert len(config["image"]["mean"]) == len(config["image"]["std"]) == 3

    def test_no_pickle_is_written(self, folder):
        assert {path.suffix for path in folder.iterdir()} <= {".safetensors", ".json", ".md"}

    @pytest.mark.usefixtures("no_network", "no_pickle")
    def test_a_custom_trunk_is_given_again(self, tmp_path):
        model = perturbed(small(shared=nn.Conv2d(16, 24, 1), out_channels=24)).eval()
        model.save_pretrained(tmp_path)
        trunk, shared = copy.deepcopy(small().trunk), nn.Conv2d(16, 24, 1)
        loaded = FARAMTN.from_pretrained(tmp_path, trunk=trunk, shared=shared)
        assert torch.equal(loaded(IMAGES), model(IMAGES))

    def test_a_shared_module_without_parameters_is_not_forgotten(self, tmp_path):
        model = perturbed(small(shared=nn.MaxPool2d(2))).eval()
        model.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="has a shared module of its own; pass shared="):
            FARAMTN.from_pretrained(tmp_path, trunk=small().trunk)
        loaded = FARAMTN.from_pretrained(tmp_path, trunk=small().trunk, shared=nn.MaxPool2d(2))
        assert torch.equal(loaded(IMAGES), model(IMAGES))

    def test_the_device_is_a_name_or_a_device(self, tmp_path):
        model = perturbed(small()).eval()
        model.save_pretrained(tmp_path)
        for device in ("cpu", torch.device("cpu")):
            loaded = FARAMTN.from_pretrained(tmp_path, trunk=small().trunk, map_location=device)
            assert torch.equal(loaded(IMAGES), model(IMAGES))

    def test_an_option_that_changes_predictions_but_no_shape_is_refused(self, tmp_path):
        small(spatial=False).save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="was saved with another config: num_heads should be 8, got 4"):
            FARAMTN.from_pretrained(tmp_path, trunk=small().trunk, num_heads=4)

    @pytest.mark.parametrize("part", ["coordinates", "own_shared", "groups"])
    def test_a_config_that_lacks_a_part_is_refused_with_what_may_be_the_cause(self, part, tmp_path):
        small().save_pretrained(tmp_path)
        edit(tmp_path / "config.json", lambda config: config.pop(part))
        with pytest.raises(ValueError, match=rf"has .*{part}.*; that of .* is something else, or of an earlier mtattn"):
            FARAMTN.from_pretrained(tmp_path, trunk=small().trunk)

    def test_a_custom_trunk_that_is_not_given_is_asked_for(self, tmp_path):
        small().save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="names no backbone; pass trunk="):
            FARAMTN.from_pretrained(tmp_path)

    def test_a_custom_trunk_of_another_form_is_refused(self, tmp_path):
        small().save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=r"does not fit its config.json: trunk\."):
            FARAMTN.from_pretrained(tmp_path, trunk=nn.Conv2d(3, 16, 4, stride=4))

    @pytest.mark.usefixtures("no_network")
    def test_a_shared_module_of_ones_own_on_timm_is_given_again_or_asked_for(self, tmp_path):
        model = perturbed(built("resnet18", shared=nn.Conv2d(512, 32, 1), out_channels=32)).eval()
        model.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="has a shared module of its own; pass shared="):
            FARAMTN.from_pretrained(tmp_path)
        loaded = FARAMTN.from_pretrained(tmp_path, shared=nn.Conv2d(512, 32, 1))
        assert torch.equal(loaded(IMAGES), model(IMAGES))

    def test_weights_fetched_for_training_are_not_fetched_for_loading(self, folder, monkeypatch):
        asked, create = [], timm.create_model
        monkeypatch.setattr(timm, "create_model", lambda *a, **k: asked.append(k["pretrained"]) or create(*a, **k))
        FARAMTN.from_pretrained(folder)
        assert asked == [False]

    @pytest.mark.usefixtures("no_network")
    def test_a_folder_that_is_not_there_is_refused_with_its_path(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=f"FARAMTN.from_pretrained: no folder {tmp_path}/model"):
            FARAMTN.from_pretrained(tmp_path / "model")

    @pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
    @pytest.mark.usefixtures("no_network")
    def test_a_folder_that_lacks_a_file_is_refused_with_its_path(self, file, folder):
        (folder / file).unlink()
        with pytest.raises(FileNotFoundError, match=f"FARAMTN.from_pretrained: no {file} in {folder}"):
            FARAMTN.from_pretrained(folder)

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda config: config["groups"]["eyes"].append("Bushy"), id="one more attribute"),
            pytest.param(lambda config: config["groups"].update(hair=["Bald"]), id="one more group"),
            pytest.param(lambda config: config.update(spatial=False), id="not spatial"),
            pytest.param(lambda config: config.update(fused_channels=64), id="narrower"),
            pytest.param(lambda config: config.update(reduction=16), id="reduction"),
            pytest.param(lambda config: config.update(num_heads=4), id="heads"),
            pytest.param(lambda config: config["backbone"].update(name="resnet34"), id="backbone"),
            pytest.param(lambda config: config["backbone"].update(drop_stages=1), id="stages"),
        ],
    )
    def test_weights_that_disagree_with_the_config_are_refused(self, change, folder):
        edit(folder / "config.json", change)
        with pytest.raises(ValueError, match=f"{folder}/model.safetensors does not fit its config.json: .* should be"):
            FARAMTN.from_pretrained(folder)

    @pytest.mark.parametrize(
        ("change", "key"),
        [
            pytest.param(
                lambda config: config.update(
                    groups={"nose": ["Big_Nose", "Narrow_Eyes"], "eyes": ["Eyeglasses", "Bags"], "chin": ["Goatee"]}
                ),
                "groups",
                id="an attribute in another group",
            ),
            pytest.param(lambda config: config["groups"]["eyes"].reverse(), "groups", id="attributes in another order"),
            pytest.param(
                lambda config: config.update(
                    groups={name: config["groups"][name] for name in ("chin", "eyes", "nose")}
                ),
                "groups",
                id="groups in another order",
            ),
        ],
    )
    def test_a_config_that_fits_but_is_not_the_one_saved_is_refused(self, change, key, folder):
        edit(folder / "config.json", change)
        with pytest.raises(ValueError, match=rf"model\.safetensors was saved with another config: {key} should be"):
            FARAMTN.from_pretrained(folder)

    def test_other_heads_fit_where_nobody_looks_and_are_refused_all_the_same(self, tmp_path):
        built("resnet18", spatial=False).save_pretrained(tmp_path)
        edit(tmp_path / "config.json", lambda config: config.update(num_heads=4))
        with pytest.raises(ValueError, match=r"was saved with another config: num_heads should be"):
            FARAMTN.from_pretrained(tmp_path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param(
                lambda config: config["backbone"].update(name="resnet81"), "no timm model 'resnet81'", id="backbone"
            ),
            pytest.param(lambda config: config["groups"].update(hair=[]), "got none for 'hair'", id="empty group"),
            pytest.param(lambda config: config.update(reduction=7), "reduction must divide channels", id="reduction"),
        ],
    )
    def test_a_config_that_cannot_be_is_refused(self, change, message, folder):
        edit(folder / "config.json", change)
        with pytest.raises(ValueError, match=message):
            FARAMTN.from_pretrained(folder)

    @pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
    def test_a_truncated_file_is_refused_with_its_path(self, file, folder):
        path = folder / file
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(ValueError, match=f"FARAMTN.from_pretrained: .*{file}"):
            FARAMTN.from_pretrained(folder)

    def test_a_misspelt_option_is_a_type_error(self, folder):
        with pytest.raises(TypeError, match="trunck"):
            FARAMTN.from_pretrained(folder, trunck=nn.Identity())
