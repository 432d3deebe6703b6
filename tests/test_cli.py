"""The command mtattn: what it says, what it leaves, and what it refuses in one line."""

import csv
import re
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image, ImageOps

from mtattn import FARAMTN, AttributeGroups, Categorical, Number, Predictor
from mtattn.cli import COMMANDS, main
from mtattn.cli.export import share_of_same_answers
from mtattn.report import plot_attribute_maps

pytestmark = pytest.mark.outside

GROUPS = AttributeGroups({"eyes": ["Eyeglasses"], "mouth": ["Smiling", "Big_Lips"]})


def run(*arguments):
    main([*map(str, arguments)])


def refused(*arguments):
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code not in (0, None)
    assert "\n" not in str(stopped.value.code)
    return str(stopped.value.code)


def small_model(colors=3):
    torch.manual_seed(1)
    model = FARAMTN.from_timm("resnet18", GROUPS, drop_stages=3, backbone_options={"in_chans": colors})
    model.config["image"] = {"size": [32, 32], "mean": [0.5] * colors, "std": [0.25] * colors}
    return model.eval()


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of a finished run, as far as predicting and exporting need it."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    small_model().save_pretrained(folder / "model")
    return folder


@pytest.fixture
def photos(tmp_path):
    """A folder with four pictures, one of them in a folder within, one that cannot be read, and a note."""
    folder = tmp_path / "photos"
    (folder / "inside").mkdir(parents=True)
    for name, color in {"b.JPG": "red", "inside/a.jpg": "blue", "d.tif": "green", "e.gif": "white"}.items():
        Image.new("RGB", (40, 50), color).save(folder / name)
    (folder / "c.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture")
    return folder


def read_csv(file):
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.reader(opened))


def test_int8_is_compared_by_answers_and_numbers_are_none():
    groups = AttributeGroups({"a": ["Hat", Categorical("hair", ("red", "grey")), Number("age", mean=30, std=10)]})
    model = FARAMTN(torch.nn.Conv2d(3, 16, 4), 16, groups)
    before = torch.tensor([[1.0, 2.0, 1.0, 0.1], [-1.0, -3.0, -2.0, 0.1]])
    after = before + torch.tensor([0.0, -0.5, 0.0, -0.2])  # the class stays, though signs of columns may not
    assert share_of_same_answers(model, before, after) == (4, 4)
    assert share_of_same_answers(model, before, after - torch.tensor([[3.0, 0, 0, 0], [0, 0, 0, 0]])) == (3, 4)
    only = groups.only(["age"])
    assert share_of_same_answers(FARAMTN(torch.nn.Conv2d(3, 16, 4), 16, only), before[:, 3:], after[:, 3:]) is None


def test_a_file_that_differs_from_the_model_is_not_left(finished, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript", reason="the extra export is not installed")
    monkeypatch.setattr("mtattn.cli.export.TOLERANCE", -1.0)
    assert "differs from the model" in refused("export", finished, tmp_path / "face.onnx")
    assert not list(tmp_path.iterdir())


class TestCommand:
    def test_help_names_every_command(self, capsys):
        with pytest.raises(SystemExit, match="0"):
            run("--help")
        said = capsys.readouterr().out
        assert all(re.search(rf"^  {name} +\w", said, re.MULTILINE) for name in COMMANDS)
        assert max(map(len, said.splitlines())) <= 80

    def test_without_anything_it_says_what_there_is(self, capsys, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["mtattn"])
        with pytest.raises(SystemExit, match="0"):
            main()
        assert "commands:" in capsys.readouterr().out

    def test_a_misspelt_command_is_told_the_nearest(self, capsys):
        assert refused("predct") == "2"
        assert "no command 'predct'; did you mean 'predict'?" in capsys.readouterr().err

    def test_version_tells_what_a_report_of_an_error_needs(self, capsys):
        with pytest.raises(SystemExit, match="0"):
            run("--version")
        said = capsys.readouterr().out
        assert re.search(rf"^mtattn \S+ \(python \d.*torch\s+{re.escape(torch.__version__.partition('+')[0])}", said)

    def test_it_is_a_module_too(self):
        done = subprocess.run([sys.executable, "-m", "mtattn", "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0
        assert done.stdout.startswith("usage: mtattn COMMAND")

    @pytest.mark.parametrize("name", COMMANDS)
    def test_help_explains_every_option(self, name, capsys):
        with pytest.raises(SystemExit, match="0"):
            run(name, "--help")
        said = capsys.readouterr().out
        for line in re.findall(r"^  (-.*)$", said, re.MULTILINE):
            explained_beside = re.search(r"\S  +\S", line)
            explained_below = re.search(rf"^  {re.escape(line)}\n {{10,}}\S", said, re.MULTILINE)
            assert explained_beside or explained_below, line


class TestPredict:
    def test_prints_a_probability_for_each_attribute_of_each_picture(self, finished, photos, capsys):
        run("predict", finished, photos / "b.JPG", photos / "b.JPG")
        said = capsys.readouterr().out
        for name in GROUPS.attributes:
            assert len(re.findall(rf"^    {name} +\d+\.\d%  (yes|no)$", said, re.MULTILINE)) == 2

    def test_one_bad_file_ends_no_folder(self, finished, photos, capsys):
        run("predict", finished, photos)
        said = capsys.readouterr()
        named = [line.rpartition("/")[2] for line in said.out.splitlines() if line.startswith(str(photos))]
        assert named == ["b.JPG", "d.tif", "e.gif", "a.jpg"]
        assert f"left out: read_image: cannot read {photos}/c.png" in said.err

    def test_a_csv_has_a_row_for_each_picture_in_their_order(self, finished, photos, tmp_path, capsys):
        arguments = ["predict", finished, photos, "--csv", tmp_path / "attributes.csv"]
        run(*arguments, "--batch-size=2")
        said = capsys.readouterr()
        assert "attributes.csv: 4 of 5 pictures" in said.out
        assert re.search(rf"{photos}: passed over 1 file.*: \.txt \(1\)", said.err)
        header, *rows = read_csv(tmp_path / "attributes.csv")
        assert header == ["image", *GROUPS.attributes]
        assert [row[0] for row in rows] == [str(photos / name) for name in ("b.JPG", "d.tif", "e.gif", "inside/a.jpg")]
        assert all(0 <= float(value) <= 1 for row in rows for value in row[1:])
        assert "exists already; move it away, or give another file with --csv" in refused(*arguments)

    def test_with_mirror_images_a_picture_says_what_its_mirror_image_says(self, finished, tmp_path):
        picture = Image.linear_gradient("L").rotate(90).convert("RGB")
        for name, turned in (("a.png", picture), ("b.png", ImageOps.mirror(picture))):
            turned.save(tmp_path / name)
        told = {}
        for option in ((), ("--mirror",)):
            run("predict", finished, tmp_path / "a.png", tmp_path / "b.png", "--csv", tmp_path / "out.csv", *option)
            _, first, second = read_csv(tmp_path / "out.csv")
            told[option] = first[1:] == second[1:]
            (tmp_path / "out.csv").unlink()
        assert told == {(): False, ("--mirror",): True}

    def test_pictures_behind_a_link_are_found_and_a_link_that_leads_back_ends(self, finished, photos, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        shutil.copy(photos / "b.JPG", tmp_path / "elsewhere/far.jfif")
        (photos / "linked").symlink_to(tmp_path / "elsewhere")
        (photos / "back").symlink_to(photos)
        run("predict", finished, photos, "--csv", tmp_path / "attributes.csv")
        assert str(photos / "linked/far.jfif") in [row[0] for row in read_csv(tmp_path / "attributes.csv")]

    def test_grey_models_take_any_picture(self, photos, tmp_path, capsys):
        small_model(colors=1).save_pretrained(tmp_path / "grey")
        run("predict", tmp_path / "grey", photos / "b.JPG", "--maps", tmp_path / "maps")
        assert "Smiling" in capsys.readouterr().out
        assert (tmp_path / "maps/b.png").exists()

    def test_saves_maps_but_never_over_a_file(self, finished, photos, tmp_path):
        arguments = ["predict", finished, photos / "b.JPG", "--maps", tmp_path / "maps", "--num-maps=2"]
        run(*arguments)
        assert Image.open(tmp_path / "maps/b.png").width > 300
        assert "exists already; move it away" in refused(*arguments)

    def test_maps_say_of_each_kind_what_it_is_and_no_probability_of_a_number(self, photos, tmp_path, monkeypatch):
        drawn = []

        def note(faces, groups, attributes, *, captions):
            drawn.extend(zip(attributes, *captions, strict=True))
            return plot_attribute_maps(faces, groups, attributes, captions=captions)

        monkeypatch.setattr("mtattn.report.plot_attribute_maps", note)
        kinds = ["Hat", Categorical("hair", ("black", "brown")), Number("age", "years", mean=33, std=20)]
        model = FARAMTN.from_timm("resnet18", AttributeGroups({"head": kinds}), drop_stages=3)
        model.config["image"]["size"] = [32, 32]
        model.save_pretrained(tmp_path / "kinds")
        run("predict", tmp_path / "kinds", photos / "b.JPG", "--maps", tmp_path / "maps")
        (prediction,) = Predictor(tmp_path / "kinds").predict([photos / "b.JPG"])
        hair = f"hair={prediction.answers['hair']}"
        assert drawn[-1] == ("age", prediction.texts["age"])
        assert dict(drawn) == {hair if name == "hair" else name: text for name, text in prediction.texts.items()}

    def test_maps_of_a_folder_keep_its_folders_beside_a_csv(self, finished, photos, tmp_path):
        run("predict", finished, photos, "--maps", tmp_path / "maps", "--csv", tmp_path / "a.csv", "--num-maps=1")
        written = sorted(str(file.relative_to(tmp_path / "maps")) for file in tmp_path.glob("maps/**/*.png"))
        assert written == ["b.png", "d.png", "e.png", "inside/a.png"]
        assert len(read_csv(tmp_path / "a.csv")) == 5

    def test_finds_maps_that_would_collide_before_it_writes_any(self, finished, photos, tmp_path):
        shutil.copy(photos / "b.JPG", photos / "b.png")
        said = refused("predict", finished, photos, "--maps", tmp_path / "maps")
        assert said.endswith(f"got {tmp_path}/maps/b.png for {photos}/b.JPG and {photos}/b.png; rename one.")
        assert not (tmp_path / "maps").exists()

    def test_names_what_is_missing(self, finished, photos, tmp_path):
        (tmp_path / "empty").mkdir()
        assert f"no images in {tmp_path}/empty" in refused("predict", finished, tmp_path / "empty")
        assert f"no model in {tmp_path}/empty" in refused("predict", tmp_path / "empty", photos)
        assert f"no folder {tmp_path}/model" in refused("predict", tmp_path / "model", photos)
        assert refused("predict", finished, tmp_path / "a.jpg").endswith("none of the 1 pictures could be read.")


class TestExport:
    @pytest.fixture(autouse=True)
    def installed(self):
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package, reason="the extra export is not installed")

    def test_writes_a_file_and_an_int8_copy_that_predict_and_serve_take(self, finished, photos, tmp_path, capsys):
        float32, int8 = tmp_path / "face.onnx", tmp_path / "int8.onnx"
        (photos / "c.png").unlink()
        run("export", finished, float32, "--int8", int8, "--calibrate-on", photos, "--num-images=3")
        said = capsys.readouterr().out
        differences = re.findall(r": (\w+) of torch and onnxruntime differ by at most (\S+)$", said, re.MULTILINE)
        assert [name for name, _ in differences] == ["logits", "maps"] * 3
        assert all(float(difference) < 1e-4 for _, difference in differences)
        assert re.search(r"int8\.onnx: \d+\.\d MB, scaled on 3 images$", said, re.MULTILINE)
        assert int8.stat().st_size < float32.stat().st_size
        for model, file in ((finished, "torch.csv"), (float32, "onnx.csv")):
            run("predict", model, photos, "--csv", tmp_path / file)
        assert read_csv(tmp_path / "torch.csv") == read_csv(tmp_path / "onnx.csv")

    def test_takes_the_folder_of_a_model_and_replaces_a_file_only_when_asked(self, finished, tmp_path):
        arguments = ["export", finished / "model", tmp_path / "face.onnx", "--no-maps", "--fixed-size"]
        (tmp_path / "face.onnx").write_bytes(b"somebody's")
        assert "face.onnx exists already; move it away, or replace it with --overwrite" in refused(*arguments)
        assert (tmp_path / "face.onnx").read_bytes() == b"somebody's"
        run(*arguments, "--overwrite")
        assert (tmp_path / "face.onnx").stat().st_size > 1000

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            pytest.param(["nowhere", "face.onnx"], "no folder .*nowhere", id="model"),
            pytest.param(["{run}", "f.onnx", "--int8=8.onnx", "--calibrate-on=."], "no images in ", id="images"),
            pytest.param(["{run}", "f.onnx", "--int8=8.onnx"], "--int8 and --calibrate-on go together", id="int8"),
            pytest.param(["{run}", "f.onnx", "--num-images=3"], "--num-images says .* of --calibrate-on", id="number"),
            pytest.param(
                ["{run}", "f.onnx", "--int8=./f.onnx", "--calibrate-on=."], "--int8 writes a second file", id="same"
            ),
        ],
    )
    def test_refuses_in_one_line_what_it_cannot_do(self, arguments, message, finished, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        said = refused("export", *(argument.format(run=finished) for argument in arguments))
        assert re.search(rf"^mtattn export: .*{message}", said)
        assert not list(tmp_path.iterdir())


def test_what_is_not_installed_is_told_with_the_command_once(monkeypatch, tmp_path):
    for name in ("scipy", "scipy.cluster.hierarchy"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "labels.csv").write_text(
        "image,Hat,Bag,Coat\n" + "".join(f"{i}.png,{i % 2},1,0\n0{i}.png,1,0,1\n" for i in range(2))
    )
    for i in range(2):
        for name in (f"{i}.png", f"0{i}.png"):
            Image.new("RGB", (8, 8)).save(tmp_path / name)
    said = refused("check", tmp_path / "labels.csv", "--images", tmp_path)
    assert re.fullmatch(
        r"mtattn check: import of scipy.* Install what it needs: pip install \"mtattn\[tables\]\"", said
    )
    (tmp_path / "labels.csv").write_text(
        "image,Hat,Bag\n" + "".join(f"{i}.png,{i % 2},1\n0{i}.png,1,0\n" for i in range(2))
    )
    run("check", tmp_path / "labels.csv", "--images", tmp_path)  # nothing to propose for two: scipy is not needed
