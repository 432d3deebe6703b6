"""Predictor: the numbers of the bare model, by name, in order, from whatever pictures come as."""

import itertools
import json
import math

import pytest
import torch
from PIL import Image
from test_cli import GROUPS, small_model

from mtattn import FARAMTN, AttributeGroups, Categorical, Number, Ordinal, Predictor
from mtattn.data import AttributeImages, image_transform
from mtattn.decisions import Decisions
from mtattn.export import export_onnx
from mtattn.functional import draw_maps
from mtattn.models import find_model, map_centres

pytestmark = pytest.mark.outside

COLORS = ["red", "green", "blue", "white", "black", "orange", "grey"]


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture
def paths(tmp_path):
    files = [tmp_path / f"{color}.png" for color in COLORS]
    for file, color in zip(files, COLORS, strict=True):
        Image.new("RGB", (20, 30), color).save(file)
    return files


def bare(model, files):
    transform = image_transform(**model.config["image"])
    with torch.no_grad():
        return model(torch.stack([transform(Image.open(file)) for file in files]))


def logits(predictions):
    return torch.stack([prediction.logits for prediction in predictions])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("workers", [1, 3])
def test_pictures_get_the_logits_of_the_bare_model_in_their_order(batch_size, workers, model, paths):
    predictor = Predictor(model, batch_size=batch_size, workers=workers)
    predictions = list(predictor.predict(paths))
    assert [prediction.source for prediction in predictions] == paths
    torch.testing.assert_close(logits(predictions), bare(model, paths), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("colors", [1, 3], ids=["grey", "colour"])
def test_a_model_of_the_middle_sees_nothing_else(colors, tmp_path):
    model = small_model(colors)
    model.config["image"]["crop"] = [0.5, 0.25]
    model.save_pretrained(tmp_path)
    inner = Image.linear_gradient("L").convert("RGB").resize((80, 80))
    pictures = [Image.new("RGB", (160, 120), margin) for margin in ("red", "blue")]
    for picture in pictures:
        picture.paste(inner, (40, 20))  # a little more than the 40 x 60 pixels that the model was trained on
    first, second = Predictor(tmp_path).predict(pictures, maps=True)
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(first.image, second.image)
    whole = image_transform(**model.config["image"] | {"crop": 1.0})(pictures[0])
    assert (next(Predictor(model).predict([whole])).logits - first.logits).abs().max() > 1e-3


def test_paths_pictures_tensors_and_data_sets_get_the_same_answers(model, paths):
    transform = image_transform(**model.config["image"])
    labels = [[1]] * len(paths)
    data = AttributeImages(paths[0].parent, [file.name for file in paths], labels, ["none"], transform=transform)
    forms = {
        "texts": map(str, paths),
        "pictures": [Image.open(file) for file in paths],
        "tensors": (transform(Image.open(file)) for file in paths),
        "data set": data,
        "untransformed data set": AttributeImages(paths[0].parent, data.files, labels, ["none"]),
    }
    for form, pictures in forms.items():
        got = logits(Predictor(model).predict(pictures))
        torch.testing.assert_close(got, bare(model, paths), rtol=1e-4, atol=1e-5, msg=form)


def test_answers_and_probabilities_have_names(model, paths):
    (prediction,) = Predictor(model).predict(paths[:1])
    assert list(prediction.probabilities) == list(prediction.answers) == list(GROUPS.attributes)
    assert list(prediction.probabilities.values()) == prediction.logits.sigmoid().tolist()
    assert prediction.answers == {name: p > 0.5 for name, p in prediction.probabilities.items()}


def test_attributes_of_every_kind_say_what_they_are(paths, tmp_path):
    groups = AttributeGroups(
        {
            "head": ["Hat", Categorical("hair", ("black", "brown"))],
            "age": [Ordinal("age", ("child", "young", "old")), Number("height", "cm", mean=170, std=10)],
        }
    )
    model = FARAMTN(torch.nn.Conv2d(3, 16, 4), 16, groups)
    model.config["image"] = {"size": [32, 32], "mean": [0.5] * 3, "std": [0.25] * 3}
    predictor = Predictor(model)
    (prediction,) = predictor.predict(paths[:1])
    answers, shares = prediction.answers, prediction.probabilities
    assert [type(answer) for answer in answers.values()] == [bool, str, str, float]
    assert list(shares) == ["Hat", "hair", "age"]
    assert answers["hair"] == max(shares["hair"], key=shares["hair"].get)
    assert sum(shares["age"].values()) == pytest.approx(1)
    assert answers["height"] == pytest.approx(170 + 10 * float(prediction.logits[-1]), rel=1e-5)
    assert prediction.texts["height"].endswith(" cm")
    predictor.write_csv(tmp_path / "all.csv", paths[:1])
    header, row, *_ = (tmp_path / "all.csv").read_text().splitlines()
    assert header == "image,Hat,hair,age,height"
    assert row.split(",")[2:4] == [answers["hair"], answers["age"]]


def test_thresholds_and_temperatures_of_the_model_decide_its_answers(paths):
    model = small_model()
    (plain,) = Predictor(model).predict(paths[:1])
    before = plain.probabilities["Smiling"]
    decisions = Decisions("f1", {"mouth": 2.0}, {"Smiling": 0.999, "Eyeglasses": 0.001})
    model.config["decisions"] = decisions.to_plain()
    (decided,) = Predictor(model).predict(paths[:1])
    assert decided.answers["Smiling"] is False
    assert decided.answers["Eyeglasses"] is True
    assert decided.logits.equal(plain.logits)
    assert decided.probabilities["Eyeglasses"] == plain.probabilities["Eyeglasses"]  # its group has no temperature
    logit = math.log(before / (1 - before))
    assert decided.probabilities["Smiling"] == pytest.approx(1 / (1 + math.exp(-logit / 2)), rel=1e-4)


def test_maps_average_to_the_logits_and_come_with_the_picture(model, paths):
    (prediction,) = Predictor(model).predict(paths[:1], maps=True)
    torch.testing.assert_close(prediction.maps.mean((-2, -1)), prediction.logits)
    torch.testing.assert_close(prediction.image, torch.tensor([1.0, 0, 0])[:, None, None].expand(3, 32, 32))


def test_a_picture_and_its_mirror_image_get_the_same_answers(model):
    images = torch.rand(4, 3, 32, 32)
    plain, mirror = Predictor(model), Predictor(model, mirror=True)
    seen, turned = (list(mirror.predict(given, maps=True)) for given in (images, images.flip(-1)))
    assert torch.equal(logits(seen), logits(turned))
    each = [logits(plain.predict(given)) for given in (images, images.flip(-1))]
    assert not torch.allclose(*each)
    torch.testing.assert_close(logits(seen), sum(each) / 2)
    for one, other in zip(seen, turned, strict=True):
        assert torch.equal(one.maps, other.maps.flip(-1))
        torch.testing.assert_close(one.maps.mean((-2, -1)), one.logits)
        drawn = [draw_maps(each.maps, (32, 32), each.centres) for each in (one, other)]
        torch.testing.assert_close(drawn[0], drawn[1].flip(-1))


def test_a_bad_picture_is_passed_over_and_named(model, paths):
    paths[2].write_bytes(b"no picture")
    predictor = Predictor(model, batch_size=2)
    predictions = list(predictor.predict(paths))
    assert [prediction.source for prediction in predictions] == [file for file in paths if file != paths[2]]
    assert [str(paths[2]) in str(error) for error in predictor.skipped] == [True]
    list(predictor.predict(paths[:1]))
    assert predictor.skipped == []


def test_an_iterator_that_never_ends_is_read_only_so_far_ahead(model, paths):
    asked = []

    def endless():
        for index in itertools.count():
            asked.append(index)
            yield paths[index % len(paths)]

    predictions = Predictor(model, batch_size=2).predict(endless())
    assert len(list(itertools.islice(predictions, 4))) == 4
    predictions.close()
    assert len(asked) <= 10


def test_what_is_no_picture_is_refused(model):
    with pytest.raises(TypeError, match=r"Predictor: a picture is a path, a PIL image, a tensor .* got a int"):
        list(Predictor(model).predict([3]))
    with pytest.raises(ValueError, match="Predictor: batch_size must be at least 1, got 0"):
        Predictor(model, batch_size=0)


def test_a_model_that_says_nothing_about_its_images_is_refused(tmp_path):
    silent = small_model()
    del silent.config["image"]
    with pytest.raises(ValueError, match=r"config\['image'\] of a model says .* got none in the model"):
        Predictor(silent)


def test_a_run_a_model_and_a_stopped_run_are_found(model, paths, tmp_path):
    model.save_pretrained(tmp_path / "finished/model")
    assert find_model(tmp_path / "finished") == find_model(tmp_path / "finished/model")
    assert find_model("somebody/on-the-hub") == "somebody/on-the-hub"
    for epoch in ("epoch-9999", "epoch-10000", "partial"):
        model.save_pretrained(tmp_path / "stopped/checkpoints" / epoch)
    assert find_model(tmp_path / "stopped") == str(tmp_path / "stopped/checkpoints/epoch-10000")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"find_model: no model in .*empty, .* give the folder of a run"):
        find_model(tmp_path / "empty")
    torch.testing.assert_close(
        logits(Predictor(tmp_path / "finished").predict(paths)), bare(model, paths), rtol=1e-4, atol=1e-5
    )


def test_a_prediction_knows_where_the_cells_of_its_maps_look(model, paths, tmp_path):
    (prediction,) = Predictor(model).predict(paths[:1], maps=True)
    assert prediction.centres == map_centres(model, prediction.image.shape[-2:])
    (without,) = Predictor(model).predict(paths[:1])
    assert without.centres is None


def test_an_onnx_file_tells_where_its_cells_look_and_an_earlier_one_does_not(model, paths, tmp_path):
    pytest.importorskip("onnxscript", reason="the extra export is not installed")
    onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
    pytest.importorskip("onnxruntime", reason="the extra serve is not installed")
    export_onnx(model, tmp_path / "face.onnx", dynamic_size=False)
    (prediction,) = Predictor(tmp_path / "face.onnx").predict(paths[:1], maps=True)
    assert prediction.centres == map_centres(model)
    proto = onnx.load(tmp_path / "face.onnx")
    (entry,) = proto.metadata_props
    entry.value = json.dumps({key: told for key, told in json.loads(entry.value).items() if key != "map_centres"})
    onnx.save(proto, tmp_path / "earlier.onnx")
    (prediction,) = Predictor(tmp_path / "earlier.onnx").predict(paths[:1], maps=True)
    assert prediction.centres is None
    assert prediction.maps is not None
