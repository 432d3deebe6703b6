"""A model's parameters, sorted for an optimizer."""

import pytest
import torch
from settings import VIT, built, small
from torch import nn


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
