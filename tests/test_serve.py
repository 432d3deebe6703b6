"""The server: right answers for every kind of picture, a reason for every bad one, batches that keep order."""

import asyncio
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mtattn import FARAMTN, AttributeGroups, Categorical, Number, Ordinal, Predictor
from mtattn.data import image_transform, read_image
from mtattn.decisions import Decisions
from mtattn.export import export_onnx

for package in ("onnx", "onnxruntime", "fastapi", "uvicorn", "python_multipart"):
    pytest.importorskip(package, reason="the extras export and serve are not installed")

import onnx  # noqa: E402
from serving import BAD_UPLOADS, GROUPS, IMAGE, encoded, red_above_blue, write_model  # noqa: E402
from starlette.requests import ClientDisconnect, Request  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from mtattn.serving import server, uploads  # noqa: E402
from mtattn.serving.answers import as_json, description  # noqa: E402
from mtattn.serving.pictures import as_input, read_picture  # noqa: E402
from mtattn.serving.session import Batcher, Prediction, Session  # noqa: E402

pytestmark = pytest.mark.outside

MUCH, LITTLE = 0.8808, 0.1192  # sigmoid of 2 and -2: all of a colour, none of it
GREY16 = Image.fromarray(np.full((32, 48), 40_000, dtype=np.uint16))
PALETTE = red_above_blue().quantize(4)
PICTURES = {
    "jpeg": encoded(red_above_blue(), "JPEG"),
    "png": encoded(red_above_blue()),
    "webp": encoded(red_above_blue(), "WEBP"),
    "bmp": encoded(red_above_blue(), "BMP"),
    "gif": encoded(PALETTE, "GIF"),
    "tiff": encoded(red_above_blue(), "TIFF"),
    "phone's two views": encoded(red_above_blue(), "MPO", save_all=True, append_images=[Image.new("RGB", (48, 32))]),
    "grey": encoded(red_above_blue("L"), "JPEG"),
    "black and white": encoded(red_above_blue("1")),
    "grey and alpha": encoded(red_above_blue("LA")),
    "alpha": encoded(red_above_blue("RGBA")),
    "nothing but alpha": encoded(Image.new("RGBA", (48, 32), (200, 100, 50, 0))),
    "CMYK": encoded(red_above_blue("CMYK"), "JPEG"),
    "palette": encoded(PALETTE),
    "palette with transparency": encoded(PALETTE, transparency=0),
    "16 bits": encoded(GREY16),
    "16-bit tiff": encoded(GREY16, "TIFF"),
    "progressive": encoded(red_above_blue(size=(178, 218)), "JPEG", progressive=True),
    "one pixel": encoded(Image.new("RGB", (1, 1), "red")),
    "very wide": encoded(red_above_blue(size=(20_000, 4))),
    **{
        f"turned {value}": encoded(red_above_blue(size=(64, 40)), "JPEG", exif=exif)
        for value in range(1, 9)
        for exif in [Image.Exif()]
        if exif.update({0x0112: value}) is None
    },
}


def named(table):
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), id=name) for name, case in table.items()]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "colours.onnx")


@pytest.fixture(scope="module")
def client(file):
    with TestClient(server.build_app(Session(file, threads=1))) as client:
        yield client


def test_probabilities_come_by_group_and_attribute(client):
    answer = client.post("/predict", content=encoded(Image.new("RGB", (48, 32), "red")))
    assert answer.status_code == 200
    assert answer.json() == {"groups": {"warm": {"Red": MUCH}, "cold": {"Green": LITTLE, "Blue_Or_So": LITTLE}}}
    assert list(answer.json()["groups"]) == list(GROUPS)


def test_maps_come_when_asked_for_and_lie_as_the_picture_does(client):
    maps = client.post("/predict?maps=true", content=encoded(red_above_blue())).json()["maps"]
    assert list(maps) == ["Red", "Green", "Blue_Or_So"]
    assert maps["Red"] == [[2.0] * 6] * 2 + [[-2.0] * 6] * 2
    assert maps["Blue_Or_So"] == [[-2.0] * 6] * 2 + [[2.0] * 6] * 2


def test_a_picture_is_turned_as_its_exif_says(client):
    maps = client.post("/predict?maps=true", content=PICTURES["turned 6"]).json()["maps"]
    left, right = np.array(maps["Red"])[:, :2], np.array(maps["Red"])[:, 4:]
    assert left.max() < -1  # a quarter to the right: what was above is on the right
    assert right.min() > 1


@pytest.mark.parametrize("data", named(PICTURES))
def test_every_picture_is_prepared_as_in_training(data, client, tmp_path):
    (tmp_path / "picture").write_bytes(data)
    expected = image_transform(**IMAGE)(read_image(tmp_path / "picture"))
    got = torch.from_numpy(as_input(read_picture(data), **IMAGE))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
    assert client.post("/predict", content=data).status_code == 200


@given(
    width=st.integers(2, 40),
    height=st.integers(2, 40),
    crop=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)),
    num_colors=st.sampled_from([1, 3]),
)
def test_the_middle_of_a_picture_and_its_greys_are_what_the_model_was_trained_on(width, height, crop, num_colors):
    image = {"size": [9, 7], "mean": [0.4] * num_colors, "std": [0.3] * num_colors, "crop": list(crop)}
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = image_transform(**image)(Image.fromarray(pixels))
    got = as_input(read_picture(encoded(Image.fromarray(pixels))), **image)
    torch.testing.assert_close(torch.from_numpy(got), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("body", "status", "reason"), named(BAD_UPLOADS))
def test_a_bad_upload_gets_a_reason_and_the_next_picture_an_answer(body, status, reason, client):
    answer = client.post("/predict", content=body)
    assert answer.status_code == status
    assert reason in answer.json()["detail"]
    assert client.post("/predict", content=PICTURES["jpeg"]).status_code == 200


def test_a_form_gets_an_answer_for_each_picture_in_their_order_and_a_reason_for_a_bad_one(client):
    files = [
        ("a", ("one.jpg", PICTURES["jpeg"])),
        ("b", ("bad.jpg", b"no picture")),
        ("a", ("two.png", PICTURES["png"])),
    ]
    answer = client.post("/predict?maps=true", files=files, data={"note": "is passed over"})
    assert answer.status_code == 200
    one, two, three = answer.json()["pictures"]  # fields of one name may stand apart
    assert [one["name"], two["name"], three["name"]] == ["one.jpg", "bad.jpg", "two.png"]
    assert set(two) == {"name", "detail"}
    assert one["groups"] == client.post("/predict", content=PICTURES["jpeg"]).json()["groups"]
    assert set(three["maps"]) == {"Red", "Green", "Blue_Or_So"}


def test_a_form_of_bad_pictures_alone_is_refused_as_the_first_is(client):
    answer = client.post("/predict", files={"picture": b"no picture"})
    assert (answer.status_code, answer.json()["detail"][:26]) == (415, "The body is not a picture;")


FORM = {"content-type": "multipart/form-data; boundary=edge"}
BAD_FORMS = {
    "no boundary": ({"content-type": "multipart/form-data"}, b"", 400, "The form cannot be read"),
    "an endless boundary": ({"content-type": "multipart/form-data; boundary=" + "e" * 500}, b"", 400, "cannot be read"),
    "nothing": (FORM, b"", 400, "The form holds no picture"),
    "no form": (FORM, b"hello", 400, "The form cannot be read"),
    "cut short": (FORM, b"--edge\r\nContent-Disposition: form-data; name=a; filename=b\r\n\r\nab", 400, "no picture"),
    "texts alone": (
        FORM,
        b'--edge\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--edge--\r\n',
        400,
        "no picture",
    ),
}


@pytest.mark.parametrize(("headers", "body", "status", "reason"), named(BAD_FORMS))
def test_a_bad_form_gets_a_reason(headers, body, status, reason, client):
    answer = client.post("/predict", content=body, headers=headers)
    assert answer.status_code == status
    assert reason in answer.json()["detail"]


def test_a_form_holds_so_many_pictures_and_bytes_and_no_more(client, monkeypatch):
    many = [("a", (f"{n}.png", PICTURES["one pixel"])) for n in range(33)]
    assert client.post("/predict", files=many).json()["detail"].startswith("The form cannot be read (Too many files")
    assert len(client.post("/predict", files=many[:32]).json()["pictures"]) == 32
    answer = client.post("/predict", files=[("a", ("a.png", bytes(11 * 2**20)))] * 2)
    assert (answer.status_code, answer.json()["detail"]) == (413, "The body has more than 20 MB; send fewer pictures.")
    monkeypatch.setattr(uploads, "MAX_HELD_BYTES", 100)
    assert client.post("/predict", content=PICTURES["jpeg"]).status_code == 429


@given(
    body=st.one_of(
        st.binary(max_size=300),
        st.lists(
            st.sampled_from(
                [
                    b"--edge",
                    b"--",
                    b"\r\n",
                    b"\n",
                    b"Content-Disposition: form-data",
                    b"; name=a",
                    b'; filename="',
                    b"Content-Type: ",
                    b"\x00\xff",
                    PICTURES["one pixel"],
                ]
            ),
            max_size=30,
        ).map(b"".join),
        st.tuples(st.sampled_from(sorted(PICTURES)), st.integers(0, 400), st.binary(max_size=4)).map(
            lambda drawn: PICTURES[drawn[0]][: drawn[1]] + drawn[2] + PICTURES[drawn[0]][drawn[1] + len(drawn[2]) :]
        ),
    ),
    kind=st.sampled_from(
        [
            "multipart/form-data; boundary=edge",
            "multipart/form-data; boundary=",
            "multipart/mixed",
            "image/png",
            "application/json",
            "\x7f",
        ]
    ),
)
def test_whatever_is_sent_gets_a_picture_s_answer_or_one_of_our_reasons(body, kind, client):
    answer = client.post("/predict", content=body, headers={"content-type": kind})
    assert answer.status_code in {200, 400, 413, 415, 422}
    assert isinstance(answer.json().get("detail", ""), str)
    assert client.app.state.uploads.held == 0


def test_the_model_says_what_it_answers_and_programs_find_how_to_ask(client):
    model = client.get("/model").json()
    assert (model["model"], model["image"]) == ("colours", IMAGE)
    assert model["attributes"][0] == {
        "name": "Red", "group": "warm", "kind": "binary", "yes_above": 0.5, "no_up_to": 0.5
    }  # fmt: skip
    assert client.get("/docs").status_code == 200
    body = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/octet-stream", "multipart/form-data"}


def test_kinds_and_uncertain_answers_are_told_by_the_metadata():
    attributes = [
        {"name": "Hat", "group": "a", "kind": "binary", "columns": [0]},
        {"name": "hair", "group": "a", "kind": "categorical", "classes": ["red", "grey"], "columns": [1, 2]},
        {"name": "age", "group": "a", "kind": "number", "unit": "years", "mean": 30, "std": 10, "columns": [3]},
    ]
    decisions = {"goal": "precision=0.9", "thresholds": {"Hat": 0.9}, "absent": {"Hat": 0.1}}
    metadata = {"attributes": attributes, "image": IMAGE, "decisions": decisions}
    told = description(metadata)
    assert told["thresholds_for"] == "precision=0.9"
    assert told["attributes"] == [
        {"name": "Hat", "group": "a", "kind": "binary", "yes_above": 0.9, "no_up_to": 0.1},
        {"name": "hair", "group": "a", "kind": "categorical", "classes": ["red", "grey"]},
        {"name": "age", "group": "a", "kind": "number", "unit": "years"},
    ]
    said = [as_json(Prediction(np.array([logit, 0, 1, 0.5]), None), metadata, maps=False) for logit in (-3, 0, 3)]
    assert [each["answers"]["Hat"] for each in said] == [False, None, True]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/predict", 405),
        ("PUT", "/predict", 405),
        ("POST", "/health", 405),
        ("GET", "/page/../server.py", 404),
        ("GET", "/page/%2e%2e/server.py", 404),
        ("POST", "/predict?maps=perhaps", 422),
    ],
)
def test_a_wrong_request_is_refused(method, path, status, client):
    assert client.request(method, path, content=PICTURES["jpeg"] if method != "GET" else None).status_code == status


def test_a_body_that_never_ends_or_comes_too_slowly_is_refused(monkeypatch):
    monkeypatch.setattr(uploads, "UPLOAD_SECONDS", 0.05)

    def reading(receive):
        async def read():
            async with reader.of(Request({"type": "http", "headers": []}, receive)):
                pass

        return asyncio.run(read())

    reader = uploads.Uploads()

    async def endless():
        return {"type": "http.request", "body": bytes(2**20), "more_body": True}

    async def silent():
        await asyncio.sleep(3600)

    async def gone():
        raise ClientDisconnect

    for receive, status in ((endless, 413), (silent, 408), (gone, 400)):
        with pytest.raises(server.HTTPException, match=f"^{status}: "):
            reading(receive)
        assert reader.held == 0


def test_health_says_what_is_served(client):
    assert client.get("/health").json() == {
        "status": "ok", "mtattn": "0.1.0", "model": "colours", "attributes": 3, "image": IMAGE, "maps": True
    }  # fmt: skip


def test_the_page_loads_nothing_from_elsewhere(client):
    page = client.get("/").text
    for name in ("page/style.css", "page/script.js", "page/map.js"):
        assert name in page
        assert client.get(name).status_code == 200
    everything = (
        page + client.get("page/style.css").text + client.get("page/script.js").text + client.get("page/map.js").text
    )
    assert "http:" not in everything
    assert "https:" not in everything


def test_a_model_without_maps_says_so(tmp_path):
    with TestClient(server.build_app(Session(write_model(tmp_path / "m.onnx", maps=False), threads=1))) as client:
        assert client.get("/health").json()["maps"] is False
        assert client.post("/predict", content=PICTURES["jpeg"]).status_code == 200
        answer = client.post("/predict?maps=true", content=PICTURES["jpeg"])
        assert (answer.status_code, answer.json()["detail"]) == (400, "The model was exported without maps.")


class TestBatcher:
    """Concurrent calls with a model that doubles its input and notes its batches."""

    def answers(self, values, *, fail_on=None, max_batch=4):
        sizes = []

        def predict(images, *, maps):
            sizes.append(len(images))
            if fail_on in images:
                raise RuntimeError("no such picture")
            return [2 * image for image in images]

        async def ask():
            batcher = Batcher(predict, max_batch=max_batch, max_wait=0.01)
            running = asyncio.create_task(batcher.run())
            questions = [batcher(np.float32(value), maps=False) for value in values]
            results = await asyncio.gather(*questions, return_exceptions=True)
            running.cancel()
            return results

        return asyncio.run(ask()), sizes

    def test_each_request_gets_its_own_answer(self):
        results, sizes = self.answers(range(11))
        assert results == [2 * value for value in range(11)]
        assert sizes == [4, 4, 3]

    def test_a_single_request_does_not_wait_for_others_for_ever(self):
        assert self.answers([5]) == ([10], [1])

    def test_a_failure_stays_in_its_batch(self):
        results, sizes = self.answers(range(8), fail_on=2)
        assert [type(result) for result in results[:4]] == [RuntimeError] * 4
        assert results[4:] == [8, 10, 12, 14]
        assert sizes == [4, 4]

    def test_a_request_that_is_given_up_does_not_stop_the_others(self):
        async def ask():
            batcher = Batcher(lambda images, **_: list(images), max_batch=4, max_wait=0.01)
            first, second = (asyncio.create_task(batcher(np.float32(value), maps=False)) for value in (1, 2))
            await asyncio.sleep(0)
            first.cancel()
            running = asyncio.create_task(batcher.run())
            result = await second
            running.cancel()
            return result

        assert asyncio.run(ask()) == 2


def test_maps_are_computed_for_a_batch_only_if_somebody_wants_them(file):
    model = Session(file, threads=1)
    images = np.zeros((2, 3, 32, 48), dtype=np.float32)
    assert [answer.maps for answer in model(images, maps=False)] == [None, None]
    assert [answer.maps.shape for answer in model(images, maps=True)] == [(3, 4, 6)] * 2


def run(program, *arguments):
    return subprocess.run([sys.executable, *program, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_the_server_needs_no_torch():
    program = "import sys, mtattn.cli.serve, mtattn.serving.server; print('torch' in sys.modules)"
    assert run(["-c", program]).stdout.strip() == "False"


def written(file):
    write_model(file)
    return file.read_bytes()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        pytest.param(lambda _: None, "is missing, damaged or no ONNX file", id="missing"),
        pytest.param(lambda file: file.write_bytes(b"no model"), "is missing, damaged or no ONNX file", id="damaged"),
        pytest.param(
            lambda file: write_model(file, metadata=False),
            "says nothing about its model; write it with mtattn export",
            id="of somebody else",
        ),
        pytest.param(
            lambda file: file.write_bytes(written(file).replace(b"mtattn_version", b"mtattn_v\xd6rsion")),
            "is missing, damaged or no ONNX file",
            id="text that is no UTF-8",
        ),
        pytest.param(
            lambda file: file.write_bytes(written(file).replace(b"images", b"imag\xd6s")),
            "is missing, damaged or no ONNX file",
            id="a name that is no UTF-8",
        ),
    ],
)
def test_a_file_that_cannot_be_served_ends_the_program_in_one_line(write, message, tmp_path):
    write(tmp_path / "model.onnx")
    done = run(["-m", "mtattn", "serve"], tmp_path / "model.onnx")
    assert done.returncode == 1
    assert done.stderr.strip() == f"mtattn serve: {tmp_path}/model.onnx {message}."


def test_a_load_with_a_tenth_of_bad_requests_fails_nowhere(file):
    done = run([Path(__file__).parents[1] / "benchmarks/load_server.py"], file, "--requests=200", "--connections=8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "server, 8 connections, a tenth bad: 200 requests, failures: {}" in done.stdout
    assert "server alive at the end: True; it complained of: []" in done.stdout


@pytest.mark.compile
@torch.no_grad()
def test_an_exported_model_is_served_with_the_predictions_that_torch_makes(tmp_path):
    test_export = pytest.importorskip("test_export")
    model = test_export.build()
    test_export.export_onnx(model, tmp_path / "model.onnx")
    (tmp_path / "face.jpg").write_bytes(PICTURES["progressive"])
    images = image_transform(**model.config["image"])(read_image(tmp_path / "face.jpg"))[None]
    with TestClient(server.build_app(Session(tmp_path / "model.onnx", threads=1))) as client:
        answer = client.post("/predict?maps=true", content=PICTURES["progressive"]).json()
    got = [probability for group in answer["groups"].values() for probability in group.values()]
    torch.testing.assert_close(torch.tensor(got), model(images)[0].sigmoid(), rtol=0, atol=2e-4)
    maps = torch.tensor(list(answer["maps"].values()))
    torch.testing.assert_close(maps, model.attribute_maps(images)[0], rtol=0, atol=2e-4)


@pytest.mark.compile
@torch.no_grad()
def test_attributes_of_every_kind_and_thresholds_are_served_as_the_predictor_answers(tmp_path):
    pytest.importorskip("onnxscript")
    groups = AttributeGroups(
        {
            "head": ["Hat", "Scarf", Categorical("hair", ("black", "brown", "red"))],
            "age": [Ordinal("stage", ("child", "young", "old")), Number("age", "years", mean=33, std=20)],
        }
    )
    model = FARAMTN(torch.nn.Conv2d(3, 16, 4, stride=4), 16, groups, fused_channels=8, num_heads=2).eval()
    model.config["image"] = IMAGE
    model.config["decisions"] = Decisions("f1", {"head": 2.0}, {"Hat": 0.999, "Scarf": 0.001}).to_plain()
    export_onnx(model, tmp_path / "kinds.onnx")
    with TestClient(server.build_app(Session(tmp_path / "kinds.onnx", threads=1))) as client:
        answer = client.post("/predict?maps=true", content=PICTURES["png"]).json()
        assert client.get("/health").json()["attributes"] == 5
    (expected,) = Predictor(model).predict([red_above_blue()])
    said = {name: value for members in answer["groups"].values() for name, value in members.items()}
    for name, shares in expected.probabilities.items():
        assert said[name] == pytest.approx(shares, abs=2e-4)
    assert said["age"] == pytest.approx(expected.answers["age"], abs=0.01)
    assert answer["answers"] == {**expected.answers, "age": said["age"]}
    assert answer["units"] == {"age": "years"}
    assert list(answer["maps"]) == list(groups.columns.attributes)


CENTRES = {"rows": [0.1, 0.3, 0.6, 0.8], "columns": [0.1, 0.2, 0.4, 0.6, 0.7, 0.9]}


def mean_of_all_colours(model):
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.array([1, 2, 3]), "axes"))


def finer_maps(model):
    strides = next(attribute for attribute in model.graph.node[0].attribute if attribute.name == "strides")
    strides.ints[:] = [4, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            mean_of_all_colours,
            r"tells of 3 columns, got outputs of shape \(2,\) and \(2, 3, 4, 6\) for 2 images; export",
        ),
        (finer_maps, "tells where 4 x 6 cells look, got maps of 7 x 11; export"),
    ],
)
def test_a_file_that_gives_something_else_than_it_tells_of_is_refused(change, message, tmp_path):
    file = write_model(tmp_path / "changed.onnx", centres=CENTRES)
    images = np.zeros((2, 3, 32, 48), np.float32)
    assert len(Session(file, threads=1)(images, maps=True)) == 2
    model = onnx.load(file)
    change(model)
    for output in model.graph.output:  # what is written there would be refused by onnxruntime itself
        output.type.tensor_type.ClearField("shape")
    onnx.save(model, file)
    with pytest.raises(ValueError, match=rf"changed\.onnx {message}"):
        Session(file, threads=1)(images, maps=True)
    with pytest.raises(ValueError, match=r"changed\.onnx tells"):  # before the first request
        server.build_app(Session(file, threads=1))


def test_images_that_a_file_cannot_compute_are_refused_by_name(tmp_path):
    session = Session(write_model(tmp_path / "blocks.onnx"), threads=1)
    with pytest.raises(ValueError, match=r"blocks\.onnx cannot compute images of shape \(1, 2, 32, 48\): "):
        session(np.zeros((1, 2, 32, 48), np.float32), maps=False)
