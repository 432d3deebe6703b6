"""A backbone's checkpoint: found by names under any prefix, by order only with a warning, and refused otherwise."""

import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file
from settings import EIGHT, GROUPS, IMAGES, TINY, VIT, built, perturbed, tiny
from torch import nn

from mtattn import FARAMTN

DEEPER = {"layers": [1, 1, 2, 2], "channels": TINY["channels"]}
CRITERION = {"criterion.weight": torch.ones(10), "head.fc.weight": torch.ones(5, 512)}


def prefixed(state, prefix="theirs."):
    return {f"{prefix}{name}": tensor.clone() for name, tensor in state.items()}


def noise(state):
    return {name: torch.rand_like(tensor.float()) for name, tensor in state.items()}


def flattened(state, counters=False):
    """The same tensors in the same order, as a program writes them that counts its modules."""
    modules = list(dict.fromkeys(name.rpartition(".")[0] for name in state))
    names = {name: f"n{modules.index(name.rpartition('.')[0]):03}.{role(name)}" for name in state}
    return {names[name]: tensor for name, tensor in state.items() if counters or tensor.ndim}


def role(name):
    return name.rpartition(".")[2]


def module_of(state, name):
    """The first name of a tensor's module."""
    return next(other for other in state if other.rpartition(".")[0] == name.rpartition(".")[0])


class TestBackboneWeights:
    @pytest.fixture
    def original(self):
        return perturbed(timm.create_model("resnet18", num_classes=0, **TINY)).eval()

    @staticmethod
    def assert_loaded(file, original):
        model = tiny(backbone_weights=file).eval()
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
            pytest.param(lambda state: prefixed(state, "backbone."), id="backbone"),
            pytest.param(lambda state: {"state_dict": prefixed(state, "model.") | CRITERION}, id="Lightning"),
            pytest.param(lambda state: {"model": prefixed(state, "_orig_mod."), "epoch": 3}, id="compiled"),
            pytest.param(lambda state: prefixed(state, "encoder.backbone.module."), id="deep inside"),
            pytest.param(lambda state: {"teacher": {"backbone": state}}, id="in folders"),
            pytest.param(lambda state: {"epoch": 3, "state_dict_ema": state}, id="averaged"),
            pytest.param(lambda state: {"state_dict": noise(state), "state_dict_ema": state}, id="averaged beside"),
            pytest.param(lambda state: {"model": noise(state), "model_ema": {"module": state}}, id="averaged module"),
            pytest.param(lambda state: {"model": state, "optimizer": {"state": {0: CRITERION}}}, id="optimizer"),
        ],
    )
    def test_are_read_by_name(self, wrap, original, tmp_path):
        torch.save(wrap(original.state_dict()), tmp_path / "weights.pth")
        self.assert_loaded(tmp_path / "weights.pth", original)

    @pytest.mark.parametrize("counters", [True, False], ids=["with counters", "without counters"])
    @pytest.mark.parametrize(
        "classifier", [{}, {"last.weight": torch.zeros(9, 512)}], ids=["no classifier", "classifier"]
    )
    def test_are_read_by_order_where_the_names_differ(self, classifier, counters, original, tmp_path):
        state = flattened(original.state_dict(), counters=counters)
        torch.save(state | classifier, tmp_path / "weights.pth")
        with pytest.warns(UserWarning, match="taken by their order. Order cannot tell padding, strides or the eps"):
            self.assert_loaded(tmp_path / "weights.pth", original)

    def test_are_read_by_order_inside_a_wrapper(self, original, tmp_path):
        content = {"state_dict": prefixed(flattened(original.state_dict())), "optimizer": {0: torch.zeros(3)}}
        torch.save(content, tmp_path / "weights.pth")
        with pytest.warns(UserWarning, match="by their order"):
            self.assert_loaded(tmp_path / "weights.pth", original)

    @pytest.mark.parametrize(
        "order",
        [
            pytest.param(("running_mean", "running_var", "weight", "bias"), id="MindSpore's"),
            pytest.param(("bias", "weight", "running_mean", "running_var"), id="bias first"),
            pytest.param(("weight", "bias", "running_var", "running_mean"), id="variance first"),
        ],
    )
    def test_are_refused_by_order_where_their_roles_differ(self, order, original, tmp_path):
        state = flattened(original.state_dict())
        norms = sorted(state, key=lambda name: (list(state).index(module_of(state, name)), order.index(role(name))))
        torch.save({name: state[name] for name in norms}, tmp_path / "weights.pth")
        with pytest.raises(ValueError, match=r"by order \S+ would become bn1\.\w+, which is something else; rename"):
            tiny(backbone_weights=tmp_path / "weights.pth")

    def test_are_refused_by_order_where_modules_begin_elsewhere(self, original, tmp_path):
        state = flattened(original.state_dict())
        renamed = {"n001.weight": "n000.more.weight", "n002.weight": "n001.weight"}
        torch.save({renamed.get(name, name): tensor for name, tensor in state.items()}, tmp_path / "weights.pth")
        with pytest.raises(ValueError, match="which is something else"):
            tiny(backbone_weights=tmp_path / "weights.pth")

    def test_in_safetensors_are_never_read_by_order(self, original, tmp_path):
        save_file(flattened(original.state_dict()), tmp_path / "weights.safetensors")
        with pytest.raises(ValueError, match=r"it has other names \(n000\.weight, not conv1.*safetensors sorts"):
            tiny(backbone_weights=tmp_path / "weights.safetensors")

    @pytest.mark.parametrize("named", [True, False], ids=["by name", "by order"])
    def test_with_a_negative_variance_are_refused(self, named, original, tmp_path):
        state = original.state_dict()
        state["layer2.0.bn1.running_var"][3] = -0.1
        torch.save(state if named else flattened(state), tmp_path / "weights.pth")
        with pytest.raises(ValueError, match=r"layer2\.0\.bn1\.running_var is a variance, the file has negative"):
            tiny(backbone_weights=tmp_path / "weights.pth")

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(lambda state: {"teacher": state, "student": noise(state)}, id="teacher and student"),
            pytest.param(lambda state: {"ema": state, "model_ema": noise(state)}, id="two averages"),
            pytest.param(lambda state: prefixed(state, "online.") | prefixed(noise(state), "target."), id="prefixes"),
        ],
    )
    def test_that_are_there_twice_are_refused_with_both_names(self, content, original, tmp_path):
        torch.save(content(original.state_dict()), tmp_path / "weights.pth")
        with pytest.raises(ValueError, match=r"holds the backbone 2 times, under '\w+\.' and '\w+\.'; save the one"):
            tiny(backbone_weights=tmp_path / "weights.pth")

    def test_with_a_prefix_and_another_form_name_both(self, tmp_path):
        state = prefixed(timm.create_model("resnet18", **DEEPER).state_dict(), "model.")
        torch.save(state, tmp_path / "weights.pth")
        with pytest.raises(ValueError, match=r"it has layer3\.1\.conv1\.weight and more"):
            tiny(backbone_weights=tmp_path / "weights.pth")
        state["model.conv1.weight"] = torch.zeros(64, 1, 7, 7)
        torch.save(state, tmp_path / "weights.pth")
        with pytest.raises(ValueError, match=r"the file has \(64, 1, 7, 7\) in its place under 'model\.'"):
            tiny(backbone_weights=tmp_path / "weights.pth")

    @pytest.mark.parametrize(
        "options",
        [
            pytest.param({}, id="cut"),
            pytest.param({"drop_stages": 1}, id="short"),
            pytest.param({"shared": nn.MaxPool2d(1)}, id="whole"),
        ],
    )
    def test_are_taken_out_of_a_model_of_our_own(self, options, tmp_path):
        saved = perturbed(tiny(**options)).eval()
        saved.save_pretrained(tmp_path)
        model = tiny(EIGHT, backbone_weights=tmp_path / "model.safetensors", reduction=8, **options).eval()
        with torch.no_grad():
            expected = saved.wsgsa.shared(saved.trunk(IMAGES))
            assert torch.equal(model.wsgsa.shared(model.trunk(IMAGES)), expected)

    def test_of_a_fresh_bottleneck_are_taken_as_well(self, tmp_path):
        saved = perturbed(built(VIT)).eval()
        saved.save_pretrained(tmp_path)
        model = built(VIT, EIGHT, backbone_weights=tmp_path / "model.safetensors").eval()
        assert torch.equal(model.wsgsa.shared(model.trunk(IMAGES)), saved.wsgsa.shared(saved.trunk(IMAGES)))

    def test_of_another_model_of_our_own_are_refused(self, tmp_path):
        tiny().save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="does not fit CutBackbone"):
            tiny(backbone_weights=tmp_path / "model.safetensors", drop_stages=1)

    def test_are_read_from_safetensors(self, original, tmp_path):
        save_file(original.state_dict(), tmp_path / "weights.safetensors")
        self.assert_loaded(tmp_path / "weights.safetensors", original)

    def test_may_be_named_by_a_string(self, original, tmp_path):
        torch.save(original.state_dict(), tmp_path / "weights.pth")
        self.assert_loaded(str(tmp_path / "weights.pth"), original)

    def test_of_another_network_are_refused(self, original, tmp_path):
        torch.save(original.state_dict(), tmp_path / "weights.pth")
        other = {"layers": [1, 1, 1, 1], "channels": [8, 16, 16, 64]}
        with pytest.raises(
            ValueError, match=r"weights.pth does not fit ResNet: .* has shape .*, the file has .* in its place"
        ):
            FARAMTN.from_timm("resnet18", GROUPS, backbone_options=other, backbone_weights=tmp_path / "weights.pth")

    def test_of_a_deeper_network_with_the_same_names_are_refused(self, tmp_path):
        torch.save(timm.create_model("resnet18", **DEEPER).state_dict(), tmp_path / "weights.pth")
        with pytest.raises(
            ValueError, match=r"weights.pth does not fit ResNet: it has layer3\.1\.conv1\.weight and more"
        ):
            tiny(backbone_weights=tmp_path / "weights.pth")

    def test_that_go_on_after_the_classifier_are_refused(self, original, tmp_path):
        state = {f"theirs.{key}": value for key, value in original.state_dict().items()}
        torch.save(state | {f"theirs.more.{index}": torch.zeros(2) for index in range(3)}, tmp_path / "weights.pth")
        with pytest.raises(ValueError, match=r"it has more\.0 and more that the model lacks"):
            tiny(backbone_weights=tmp_path / "weights.pth")

    def test_that_end_early_are_refused(self, original, tmp_path):
        state = dict(list(original.state_dict().items())[:-3])
        torch.save(state, tmp_path / "weights.pth")
        with pytest.raises(ValueError, match="the file has nothing in its place"):
            tiny(backbone_weights=tmp_path / "weights.pth")

    def test_that_are_not_there_are_refused_with_the_path(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=f"no checkpoint at {tmp_path}/weights.pth"):
            tiny(backbone_weights=tmp_path / "weights.pth")

    @pytest.mark.parametrize("suffix", ["pth", "safetensors"])
    def test_that_are_no_checkpoint_are_refused_with_the_path(self, suffix, tmp_path):
        file = tmp_path / f"weights.{suffix}"
        file.write_text("hello")
        with pytest.raises(ValueError, match=f"{file} is not a checkpoint"):
            tiny(backbone_weights=file)

    @pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {"epoch": 3}], ids=["list", "tensor", "no weights"])
    def test_that_hold_something_else_are_refused_with_the_path(self, content, tmp_path):
        torch.save(content, tmp_path / "weights.pth")
        with pytest.raises(ValueError, match=r"weights\.pth"):
            tiny(backbone_weights=tmp_path / "weights.pth")

    def test_that_would_run_code_are_refused_and_run_none(self, tmp_path):
        ran = tmp_path / "ran"
        (tmp_path / "weights.pth").write_bytes(pickle.dumps(Dangerous(str(ran)), protocol=2))
        torch.save({"conv1.weight": Dangerous(str(ran))}, tmp_path / "zip.pth")
        for file in ("weights.pth", "zip.pth"):
            with pytest.raises(ValueError, match="is not a checkpoint that can be read without unpickling"):
                tiny(backbone_weights=tmp_path / file)
        assert not ran.exists()


class Dangerous:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))
