"""A backbone's checkpoint: found by names under any prefix, by order only with a warning, and refused otherwise."""

import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file
from settings import IMAGES, built, perturbed


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
