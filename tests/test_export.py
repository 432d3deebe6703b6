"""An exported file gives the model's numbers in onnxruntime, for any batch and size, and says what it is."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from test_contract import GROUPS, MODELS
from torch.utils.data import DataLoader, TensorDataset

from mtattn import FARAMTN, AttributeGroups, Categorical, Number, Ordinal
from mtattn.data import image_transform, read_image
from mtattn.export import export_onnx, quantize_onnx, read_onnx_metadata
from mtattn.export.metadata import metadata_of
from mtattn.export.quantization import _as_images, _split
from mtattn.export.writing import _copy_for_use
from mtattn.models import map_centres

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
    model, file = exported["FARAMTN from timm"]
    convolutions = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    assert sum(node.op_type == "Conv" for node in onnx.load(file).graph.node) == len(convolutions) > 3


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
    told = read_onnx_metadata(file)
    assert told["mtattn_version"] == model.config["mtattn_version"]
    assert told["groups"] == {group: list(attributes) for group, attributes in GROUPS.items()}
    assert list(told["groups"]) == list(GROUPS)
    assert told["image"] == IMAGE
    assert told["map_centres"] == {axis: list(at) for axis, at in map_centres(model)._asdict().items()}
    assert told["columns"] == list(GROUPS.attributes)
    assert told["attributes"][1] == {"name": "Narrow_Eyes", "group": "eyes", "kind": "binary", "columns": [1]}
    assert told["decode"] == {"binary": "sigmoid(logit) is the probability of yes"}
    meta = onnxruntime.InferenceSession(file).get_modelmeta()
    assert json.loads(meta.custom_metadata_map["mtattn"]) == told
    for said in (
        "column 4: Goatee (binary)",
        "red, green, blue",
        "resized to 32 x 40 (height x width)",
        "[0.4, 0.5, 0.6]",
    ):
        assert said in meta.description


MIXED = AttributeGroups(
    {
        "mouth": ["Smiling", Categorical("expression", ("angry", "happy", "sad"))],
        "age": [Number("years", unit="years", mean=33, std=20), Ordinal("stage", ("child", "young", "old", "oldest"))],
    }
)

# What somebody writes who has the file and nothing of ours: it reads the metadata and obeys them.
STRANGER = """
import json, sys
sys.modules.update(dict.fromkeys(["torch", "torchvision", "timm", "mtattn"]))  # now they cannot be imported
import numpy as np, onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
told = json.loads(session.get_modelmeta().custom_metadata_map["mtattn"])
height, width = told["image"]["size"]
picture = Image.open(sys.argv[2]).convert("RGB").resize((width, height), Image.BILINEAR)
pixels = (np.asarray(picture, np.float32) / 255 - told["image"]["mean"]) / told["image"]["std"]
(logits,) = session.run(["logits"], {"images": pixels.transpose(2, 0, 1)[None].astype(np.float32)})
answers = {}
for attribute in told["attributes"]:
    values = logits[0, attribute["columns"]].astype(float)
    if attribute["kind"] == "binary":
        answer = 1 / (1 + np.exp(-values[0]))
    elif attribute["kind"] == "categorical":
        answer = attribute["classes"][values.argmax()]
    elif attribute["kind"] == "ordinal":
        above = np.cumprod(1 / (1 + np.exp(-values)))
        answer = attribute["levels"][int((above > 0.5).sum())]
    else:
        answer = attribute["mean"] + attribute["std"] * values[0]
    answers[attribute["name"]] = answer
print(json.dumps(answers))
"""


@torch.no_grad()
def test_somebody_with_the_file_alone_reads_every_kind(tmp_path):
    model = FARAMTN(torch.nn.Conv2d(3, 16, 4, stride=4), 16, MIXED, fused_channels=8, num_heads=2).eval()
    for parameter in model.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    model.config["image"] = IMAGE
    export_onnx(model, tmp_path / "model.onnx")
    told = read_onnx_metadata(tmp_path / "model.onnx")
    assert AttributeGroups.from_plain(told["groups"]) == MIXED
    assert told["columns"] == list(MIXED.columns.attributes)
    assert list(told["decode"]) == ["binary", "categorical", "number", "ordinal"]
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (90, 70, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "picture.png")
        command = [sys.executable, "-c", STRANGER, tmp_path / "model.onnx", tmp_path / "picture.png"]
        said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout)
        images = image_transform(**IMAGE)(read_image(tmp_path / "picture.png"))[None]
        expected = MIXED.decode(model(images))
        assert list(said) == list(MIXED.attributes)
        assert said["Smiling"] == pytest.approx(expected["Smiling"].item(), abs=1e-4)
        assert said["years"] == pytest.approx(expected["years"].item(), abs=1e-3)
        assert [said["expression"], said["stage"]] == [expected["expression"][0], expected["stage"][0]]


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ({}, "8 bits, red, green, blue; the whole of it is resized to 32 x 40"),
        ({"crop": 0.7}, "its middle, 0.7 of the height and 0.7 of the width, is resized to 32 x 40"),
        ({"crop": [0.7, 1.0]}, "its middle, 0.7 of the height and 1 of the width, is resized"),
        ({"mean": [0.4], "std": [0.2]}, "8 bits, grey; the whole of it"),
    ],
    ids=["whole", "crop", "crop of the height", "grey"],
)
def test_the_description_says_how_a_picture_becomes_an_input(image, said):
    assert said in metadata_of(GROUPS, {**IMAGE, **image})["input"]


def test_a_model_is_copied_to_the_cpu_tensor_by_tensor(tmp_path, monkeypatch):
    """A second model on a GPU that the first one fills would not fit."""

    model, copy_of = build().to(torch.bfloat16), torch.Tensor.__deepcopy__
    held = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}  # constants lie on the CPU anyway

    def refuse(tensor, memo):
        assert id(tensor) not in held, "copied where it lies"
        return copy_of(tensor, memo)

    monkeypatch.setattr(torch.nn.Parameter, "__deepcopy__", refuse)
    monkeypatch.setattr(torch.Tensor, "__deepcopy__", refuse)
    copied = _copy_for_use(model)
    assert {tensor.dtype for tensor in copied.parameters()} == {torch.float32}
    with torch.no_grad():
        images = torch.randn(2, 3, 32, 40)
        torch.testing.assert_close(copied(images), model.float()(images))


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
            "vit_tiny_patch16_224",
            {"img_size": 32, "depth": 2},
            r"got one that does not .*doesn't match model",
            id="ViT",
        ),
        pytest.param(
            "tf_mobilenetv3_small_minimal_100",
            {},
            "got one that pads by their size, as timm's tf_ models do",
            id="tf_",
        ),
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
    _, file = exported["FARAMTN from timm"]
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
        arrays = {array.name: onnx.numpy_helper.to_array(array) for array in model.graph.initializer}
        weights = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
        reads = [node for node in model.graph.node if node.output[0] in weights]
        assert reads
        assert all(node.op_type == "DequantizeLinear" for node in reads)
        sizes = {(arrays[node.input[1]].size, len(arrays[node.input[0]])) for node in reads}  # scales, channels
        assert all(scales == channels > 1 for scales, channels in sizes)

    def test_a_file_is_replaced_only_when_asked(self, pair):
        with pytest.raises(FileExistsError, match=r"quantize_onnx: .*int8\.onnx exists already"):
            quantize_onnx(*pair, [])

    def test_needs_images(self, pair, tmp_path):
        with pytest.raises(ValueError, match="quantize_onnx: needs at least one batch of images, got none"):
            quantize_onnx(pair[0], tmp_path / "int8.onnx", [])


IMAGES = torch.rand(8, 3, 32, 40)
BATCHES = {
    "batches": lambda: IMAGES.split(4),
    "a loader of images and targets": lambda: DataLoader(TensorDataset(IMAGES, torch.ones(8, 1)), 4),
    "a generator": lambda: (batch for batch in IMAGES.split(4)),
    "pairs": lambda: [(batch, None) for batch in IMAGES.split(4)],
    "one tensor": lambda: IMAGES,
    "one array": IMAGES.numpy,
    "arrays": lambda: [batch.numpy() for batch in IMAGES.split(4)],
    "float64": lambda: [IMAGES.double()],
    "half precision": lambda: [IMAGES.half()],
    "bfloat16": lambda: [IMAGES.bfloat16()],
    "of a computation": lambda: [IMAGES.clone().requires_grad_()],
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A file for one size."""
    file = tmp_path_factory.mktemp("small") / "model.onnx"
    export_onnx(build(), file, maps=False, dynamic_size=False)
    return file


class TestBatches:
    @pytest.mark.parametrize("form", BATCHES)
    def test_images_are_taken_in_any_form(self, form):
        taken = [_as_images(batch, [0, 3, 32, 40]) for batch in _split(BATCHES[form]())]
        assert {images.dtype for images in taken} == {np.dtype("float32")}
        np.testing.assert_allclose(np.concatenate(taken), IMAGES.numpy(), atol=4e-3)

    def test_the_training_loader_scales_as_its_images_do(self, small, tmp_path):
        for name, form in (("loader", "a loader of images and targets"), ("images", "batches")):
            quantize_onnx(small, tmp_path / f"{name}.onnx", BATCHES[form]())
        (loader,), (images,) = (run(tmp_path / f"{name}.onnx", IMAGES) for name in ("loader", "images"))
        torch.testing.assert_close(loader, images, rtol=0, atol=0)

    @pytest.mark.parametrize(
        ("batches", "error", "message"),
        [
            ([IMAGES[0]], ValueError, r"a batch of images is \(any, 3, 32, 40\) here, got \(3, 32, 40\)"),
            ([IMAGES[:, :1]], ValueError, r"a batch of images is \(any, 3, 32, 40\) here, got \(8, 1, 32, 40\)"),
            ([IMAGES.mT], ValueError, r"a batch of images is \(any, 3, 32, 40\) here, got \(8, 3, 40, 32\)"),
            ([IMAGES[:0]], ValueError, r"a batch of images is \(any, 3, 32, 40\) here, got \(0, 3, 32, 40\)"),
            ([(255 * IMAGES).byte()], TypeError, "images are normalised floats, .* got torch.uint8; transform them"),
            ([{"image": IMAGES}], TypeError, "a batch is a tensor or array of images, .* got a dict; take the images"),
            ([["a.jpg"]], TypeError, "a batch is a tensor or array of images, .* got a str"),
            ([[]], TypeError, "a batch is a tensor or array of images, .* got a list"),
            ("folder", TypeError, "batches is a loader or a tensor of images, got a str"),
            (None, TypeError, "batches is a loader or a tensor of images, got a NoneType"),
        ],
        ids=["image", "grey", "turned", "empty", "bytes", "dict", "paths", "empty pair", "folder", "none"],
    )
    def test_what_are_no_images_is_refused(self, batches, error, message, small, tmp_path):
        with pytest.raises(error, match=f"quantize_onnx: {message}"):
            quantize_onnx(small, tmp_path / "int8.onnx", batches)
        assert not list(tmp_path.iterdir())


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
