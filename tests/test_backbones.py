"""timm's backbones, cut in two: the parts are timm's own features, and what cannot be cut is refused."""

import pytest
import timm
import torch
from settings import CUT, EIGHT, GROUPS, IMAGES, VIT, built, perturbed
from torch import nn

from mtattn import FARAMTN, WSGSA
from mtattn.models.backbones import FreshBottleneck, build_backbone

BACKBONES = pytest.mark.parametrize("name", [*CUT, VIT])


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
            pytest.param("resnet18", {"foo": 1}, "'foo' is not on the list of backbone_options", id="misspelt"),
            pytest.param(
                "resnet18",
                {"img_size": 64},
                "'resnet18' does not take these backbone_options: .*img_size",
                id="of another family",
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
        ("name", "drop_stages", "message"),
        [
            pytest.param("resnet18", 4, "from 0 to 3 for 'resnet18', got 4", id="all of a ResNet"),
            pytest.param("resnet18", 7, "from 0 to 3 for 'resnet18', got 7", id="more than a ResNet has"),
            pytest.param("resnet18", -1, "from 0 to 3 for 'resnet18', got -1", id="negative"),
            pytest.param("convnext_atto", 4, "from 0 to 3 for 'convnext_atto', got 4", id="all of a ConvNeXt"),
            pytest.param("mobilenetv3_small_100", 9, "from 0 to 5 for .*, got 9", id="all of a MobileNet"),
            pytest.param(VIT, 1, f"for the families that can be cut, got '{VIT}'; use drop_stages=0", id="no stages"),
        ],
    )
    def test_more_stages_than_there_are_cannot_be_dropped(self, name, drop_stages, message):
        with pytest.raises(ValueError, match=f"^from_timm: drop_stages is {message}"):
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

    def test_an_unknown_backbone_without_near_names_is_refused_in_a_few_lines(self):
        with pytest.raises(ValueError, match=r"no timm model 'qqqq'; there are .* and 1,\d\d\d more\.$") as refused:
            built("qqqq")
        assert len(str(refused.value)) < 2000

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
