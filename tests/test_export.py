"""An exported file gives the model's numbers in onnxruntime, for any batch and size, and says what it is."""

import json
import os

import pytest
import torch
from test_contract import GROUPS, MODELS

from mtattn import FARAMTN
from mtattn.export import export_onnx, quantize_onnx, read_onnx_metadata

onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")
pytest.importorskip("onnxscript", reason="the extra export is not installed")

pytestmark = pytest.mark.compile
IMAGE = {"size": [32, 40], "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
FARAMTNS = {name: case for name, case in MODELS.items() if name.startswith("FARAMTN")}


def build(name="FARAMTN custom"):
    model = MODELS[name].grown().eval()
    model.config["image"] = IMAGE
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Each model and its file."""
    folder = tmp_path_factory.mktemp("exported")
    pairs = {name: (build(name), folder / f"{name}.onnx") for name in FARAMTNS}
    for model, file in pairs.values():
        export_onnx(model, file)
    return pairs


def run(file, images, outputs=None):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(output) for output in session.run(outputs, {"images": images.numpy()})]


def names(file):
    return [output.name for output in onnxruntime.InferenceSession(file).get_outputs()]


@pytest.mark.parametrize("name", FARAMTNS)
@pytest.mark.parametrize(
    "shape",
    [(1, 3, 32, 40), (5, 3, 32, 40), (2, 3, 64, 64), (3, 3, 47, 81)],
    ids=lambda shape: "x".join(map(str, shape)),
)
@torch.no_grad()
def test_onnxruntime_gives_the_logits_and_maps_of_torch(shape, name, exported):
    model, file = exported[name]
    images = torch.randn(shape)
    logits, maps = run(file, images)
    torch.testing.assert_close(logits, model(images), rtol=0, atol=1e-4)
    torch.testing.assert_close(maps, model.attribute_maps(images), rtol=0, atol=1e-4)
    torch.testing.assert_close(maps.mean((-2, -1)), logits, rtol=0, atol=1e-4)


def test_the_trunk_is_computed_once_for_both_outputs(exported):
    _, file = exported["FARAMTN resnet18"]
    assert sum(node.op_type == "Conv" for node in onnx.load(file).graph.node) == 20


def test_the_file_is_whole_valid_and_alone(exported):
    for _, file in exported.values():
        onnx.checker.check_model(onnx.load(file, load_external_data=False), full_check=True)
    (folder,) = {file.parent for _, file in exported.values()}
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.onnx" for name in FARAMTNS)


def test_its_axes_are_named(exported):
    (images,) = onnxruntime.InferenceSession(exported["FARAMTN custom"][1]).get_inputs()
    assert (images.name, images.shape) == ("images", ["batch", 3, "height", "width"])


def test_it_says_which_attributes_and_images_it_is_for(exported):
    model, file = exported["FARAMTN custom"]
    expected = {
        "mtattn_version": model.config["mtattn_version"],
        "groups": {group: list(attributes) for group, attributes in GROUPS.items()},
        "image": IMAGE,
    }
    assert read_onnx_metadata(file) == expected
    assert list(read_onnx_metadata(file)["groups"]) == list(GROUPS)
    told = onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map
    assert json.loads(told["mtattn"]) == expected


@torch.no_grad()
def test_maps_may_be_left_out_and_the_size_be_fixed(tmp_path):
    model, file = build(), tmp_path / "new" / "small.onnx"
    export_onnx(model, file, maps=False, dynamic_size=False)
    assert names(file) == ["logits"]
    assert onnxruntime.InferenceSession(file).get_inputs()[0].shape == ["batch", 3, *IMAGE["size"]]
    images = torch.randn(3, 3, *IMAGE["size"])
    torch.testing.assert_close(run(file, images)[0], model(images), rtol=0, atol=1e-4)


@torch.no_grad()
def test_a_model_in_training_and_half_precision_is_exported_for_use_and_left_as_it_is(tmp_path):
    model = build().train().to(torch.bfloat16)
    export_onnx(model, tmp_path / "model.onnx", maps=False)
    assert model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    images = torch.randn(2, 3, 32, 40)
    expected = model.eval().float()(images)
    torch.testing.assert_close(run(tmp_path / "model.onnx", images)[0], expected, rtol=0, atol=1e-4)


def test_a_file_is_replaced_only_when_asked(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_text("mine")
    with pytest.raises(FileExistsError, match=r"export_onnx: .*model\.onnx exists already; move it away, or pass over"):
        export_onnx(build(), file)
    assert file.read_text() == "mine"
    export_onnx(build(), file, maps=False, overwrite=True)
    assert names(file) == ["logits"]


def test_a_write_that_fails_leaves_the_file_before_and_nothing_else(tmp_path, monkeypatch, exported):
    file = tmp_path / "model.onnx"
    file.write_text("mine")
    monkeypatch.setattr(os, "getpid", lambda: "unfinished")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("No space left on device")))
    with pytest.raises(OSError, match="No space left on device"):
        export_onnx(build(), file, maps=False, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert file.read_text() == "mine"


def test_a_model_that_does_not_know_its_images_is_refused(tmp_path):
    model = MODELS["FARAMTN custom"].build()
    with pytest.raises(ValueError, match=r"by size, mean and std, got no size, mean, std; set it"):
        export_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@torch.no_grad()
def test_a_model_for_grey_images_exports(tmp_path):
    model = FARAMTN.from_timm("resnet18", GROUPS, backbone_options={"in_chans": 1}, drop_stages=2).eval()
    export_onnx(model, tmp_path / "model.onnx", maps=False)
    images = torch.randn(3, 1, 64, 48)
    torch.testing.assert_close(run(tmp_path / "model.onnx", images)[0], model(images), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        pytest.param(
            "vit_tiny_patch16_224", {"img_size": 32}, r"got one that does not .*doesn't match model", id="ViT"
        ),
        pytest.param("tf_efficientnet_lite0", {}, "got one that pads by their size, as timm's tf_ models do", id="tf_"),
    ],
)
@torch.no_grad()
def test_a_trunk_for_one_size_says_so_and_exports_with_that_size(name, options, message, tmp_path):
    model = FARAMTN.from_timm(name, GROUPS, backbone_options=options, fused_channels=64).eval()
    model.config["image"]["size"] = [32, 32]
    file = tmp_path / "model.onnx"
    with pytest.raises(ValueError, match=rf"export_onnx: .*{message}.*; pass dynamic_size=False\.$"):
        export_onnx(model, file)
    export_onnx(model, file, maps=False, dynamic_size=False)
    images = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(run(file, images)[0], model(images), rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def pair(exported, tmp_path_factory):
    """An exported file and its int8 copy."""
    _, file = exported["FARAMTN resnet18"]
    quantized = tmp_path_factory.mktemp("int8") / "int8.onnx"
    quantize_onnx(file, quantized, torch.randn(4, 8, 3, 32, 40))
    return file, quantized


class TestInt8:
    def test_is_near_and_smaller_and_keeps_what_it_says(self, pair):
        file, quantized = pair
        images = torch.randn(8, 3, 32, 40)
        (logits, maps), (expected, _) = run(quantized, images), run(file, images)
        assert 0 < (logits - expected).abs().mean() < 0.1 * expected.std()
        torch.testing.assert_close(maps.mean((-2, -1)), logits, rtol=0, atol=1e-4)
        assert quantized.stat().st_size < 0.4 * file.stat().st_size
        assert read_onnx_metadata(quantized) == read_onnx_metadata(file)

    def test_takes_any_batch_and_size_too(self, pair):
        assert [output.shape[0] for output in run(pair[1], torch.randn(3, 3, 64, 47))] == [3, 3]

    def test_its_convolutions_have_a_scale_for_each_channel(self, pair):
        model = onnx.load(pair[1])
        scales = {array.name: onnx.numpy_helper.to_array(array).size for array in model.graph.initializer}
        weights = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
        reads = [node for node in model.graph.node if node.output[0] in weights]
        assert reads
        assert all(node.op_type == "DequantizeLinear" and scales[node.input[1]] >= 64 for node in reads)

    def test_a_file_is_replaced_only_when_asked(self, pair):
        with pytest.raises(FileExistsError, match=r"quantize_onnx: .*int8\.onnx exists already"):
            quantize_onnx(*pair, [])

    def test_needs_images(self, pair, tmp_path):
        with pytest.raises(ValueError, match="quantize_onnx: needs at least one batch of images, got none"):
            quantize_onnx(pair[0], tmp_path / "int8.onnx", [])


class TestMetadata:
    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=rf"read_onnx_metadata: no file {tmp_path}/none\.onnx"):
            read_onnx_metadata(tmp_path / "none.onnx")

    def test_a_file_of_something_else_is_refused(self, tmp_path):
        (tmp_path / "text.onnx").write_bytes(b"no model" * 9)
        with pytest.raises(ValueError, match=r"text\.onnx is damaged or no ONNX file"):
            read_onnx_metadata(tmp_path / "text.onnx")

    def test_a_model_of_somebody_else_is_refused(self, tmp_path):
        graph = onnx.helper.make_graph([], "empty", [], [])
        onnx.save(onnx.helper.make_model(graph), tmp_path / "other.onnx")
        with pytest.raises(ValueError, match=r"other\.onnx was not written by mtattn; write it with export_onnx"):
            read_onnx_metadata(tmp_path / "other.onnx")
