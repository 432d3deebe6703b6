"""The programs in examples/ run end to end, and say clearly what they cannot do."""

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtattn import FARAMTN
from mtattn.cli import main
from mtattn.data import CELEBA_ATTRIBUTES, CELEBA_GROUPS, SyntheticFaces
from mtattn.recipes.options import recipe_parser

pytestmark = [pytest.mark.recipe, pytest.mark.usefixtures("no_figures")]  # those of module fixtures are drawn

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = ["--epochs=1", "--batch-size=16", "--image-size=32", "--drop-stages=2", "--workers=0"]
SCORES = ["mean_accuracy", "mean_balanced_accuracy", "mean_f1", "mean_average_precision", "majority_accuracy"]
ATTRIBUTE_SCORES = ["accuracy", "balanced_accuracy", "f1", "average_precision", "majority_accuracy"]


def run(name, *arguments):
    """Run an example in this process, as ``python examples/name.py arguments`` would."""
    spec = importlib.util.spec_from_file_location("__main__", EXAMPLES / f"{name}.py")
    before, sys.argv = sys.argv, [f"examples/{name}.py", *map(str, arguments)]
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    finally:
        sys.argv = before


def mtattn(*arguments):
    main([*map(str, arguments)])


def refused(name, *arguments):
    with pytest.raises(SystemExit) as stopped:
        run(name, *arguments)
    assert stopped.value.code not in (0, None)
    return str(stopped.value.code)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a finished run of celeba.py, in "celeba", and the drawn faces that it was trained on."""
    folder = tmp_path_factory.mktemp("runs")
    run("celeba", "--synthetic", 60, "--output", folder / "celeba", *SMALL)
    return folder


@pytest.fixture(scope="module")
def faces(place):
    return place / "synthetic-60-seed-0"


@pytest.fixture
def lfwa_root(tmp_path):
    lfwa = pytest.importorskip("test_data_lfwa")
    labels = np.random.default_rng(0).integers(0, 2, (len(lfwa.NAMES), 40)).tolist()
    lfwa.write_labels(tmp_path, labels=labels, attributes=[name.replace("_", " ") for name in CELEBA_ATTRIBUTES])
    lfwa.write_indices(tmp_path)
    for name in lfwa.NAMES:
        path = tmp_path / "lfw" / name.replace("\\", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(path)
    return tmp_path


def test_each_group_learns_where_to_look_unless_told_not_to():
    parse = recipe_parser("Train.").parse_args
    assert parse(["--synthetic"]).spatial is True
    assert parse(["--synthetic", "--no-spatial"]).spatial is False


def in_range(scores, names):
    return all(scores[name] is None or 0 <= scores[name] <= 1 for name in names)


def test_a_run_leaves_metrics_model_checkpoints_and_report(place):
    names = sorted(path.name for path in (place / "celeba").iterdir())
    assert names == [".lock", "checkpoints", "metrics.csv", "metrics.json", "model", "report.html", "settings.json"]
    assert "FAR-AMTN on 60 drawn faces" in (place / "celeba/report.html").read_text()


def test_metrics_json_holds_what_was_promised(place):
    metrics = json.loads((place / "celeba/metrics.json").read_text())
    assert list(metrics) == ["test", "valid", "settings", "versions"]
    groups = CELEBA_GROUPS.only(SyntheticFaces.attributes)
    for split in ("test", "valid"):
        assert in_range(metrics[split], SCORES)
        assert list(metrics[split]["attributes"]) == list(groups.attributes)
        assert list(metrics[split]["groups"]) == list(groups)
        for row in (*metrics[split]["attributes"].values(), *metrics[split]["groups"].values()):
            assert set(row) == set(ATTRIBUTE_SCORES)
            assert in_range(row, ATTRIBUTE_SCORES)
    assert metrics["settings"]["epochs"] == 1
    assert set(metrics["versions"]) >= {"mtattn", "torch", "timm"}


def test_the_saved_model_says_how_it_wants_its_images(place):
    config = FARAMTN.from_pretrained(place / "celeba/model").config
    assert config["image"]["size"] == [32, 32]
    assert "crop" not in config["image"]  # all of it: these faces have little margin
    assert config["backbone"]["name"] == "resnet18"


def test_height_and_width_and_the_share_to_keep_stay_with_the_model(faces, tmp_path):
    options = ["--image-size", "48", "32", "--crop", "0.5", "0.75", "--augment=strong"]
    run("celeba", "--root", faces, "--output", tmp_path / "run", *SMALL, *options)
    image = FARAMTN.from_pretrained(tmp_path / "run/model").config["image"]
    assert (image["size"], image["crop"]) == ([48, 32], [0.5, 0.75])
    few = [option for option in SMALL if "size=32" not in option and "stages" not in option]
    start = ["--synthetic", 60, "--start-from", tmp_path / "run/model", *few]
    run("lfwa", *start, "--output", tmp_path / "again")
    assert FARAMTN.from_pretrained(tmp_path / "again/model").config["image"] == image
    run("lfwa", *start, "--output", tmp_path / "wider", "--crop=0.9")
    assert FARAMTN.from_pretrained(tmp_path / "wider/model").config["image"] == image | {"crop": [0.9, 0.9]}


def test_the_saved_model_has_a_card_with_the_numbers_of_its_run(place):
    card = (place / "celeba/model/README.md").read_text(encoding="utf-8")
    metrics = json.loads((place / "celeba/metrics.json").read_text())
    low, high = (100 * end for end in metrics["test"]["intervals"]["mean_accuracy"])
    accuracy = 100 * metrics["test"]["mean_accuracy"]
    assert f"| accuracy | {accuracy:.1f} | {low:.1f} to {high:.1f} |" in card
    assert "# FAR-AMTN on 60 drawn faces" in card
    assert "| images, test | 6 |" in card
    assert str(place) not in card


def test_a_folder_that_holds_a_run_is_left_alone(place):
    before = (place / "celeba/metrics.json").read_bytes()
    said = refused("celeba", "--synthetic", 60, "--output", place / "celeba", *SMALL)
    assert re.search(
        r"celeba\.py: .*celeba already holds a run; go on with --resume, replace it with --overwrite", said
    )
    assert (place / "celeba/metrics.json").read_bytes() == before


def test_a_run_resumes_with_its_own_settings_only(place, capsys):
    said = refused("celeba", "--synthetic", 60, "--output", place / "celeba", *SMALL, "--resume", "--epochs=2")
    assert "was begun with epochs=1, got 2; a run resumes with the settings it was begun with" in said
    before = json.loads((place / "celeba/metrics.json").read_text())
    after = {}
    for views in (["--mirror"], []):  # how the model is measured is no setting of its training
        run("celeba", "--synthetic", 60, "--output", place / "celeba", *SMALL, "--resume", *views)
        assert "fit: going on from" in capsys.readouterr().out
        after[*views] = json.loads((place / "celeba/metrics.json").read_text())
    assert (after[()]["test"], after[()]["valid"]) == (before["test"], before["valid"])
    assert after["--mirror",]["settings"]["mirror"]
    assert after["--mirror",]["test"]["loss"] != before["test"]["loss"]


def test_overwrite_deletes_the_run_and_nothing_else(place, faces, tmp_path):
    arguments = ["--root", faces, "--output", tmp_path / "run", *SMALL]
    run("celeba", *arguments)
    (tmp_path / "run/notes.txt").write_text("mine")
    run("celeba", *arguments, "--overwrite", "--seed=1")
    assert (tmp_path / "run/notes.txt").read_text() == "mine"
    assert json.loads((tmp_path / "run/metrics.json").read_text())["settings"]["seed"] == 1


def test_a_run_that_is_replaced_stays_until_the_new_one_is_finished(faces, tmp_path):
    arguments = ["--root", faces, "--output", tmp_path / "run", *SMALL]
    run("celeba", *arguments)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    del before[".lock"]  # of the folder, not of the run
    for _ in range(2):
        said = refused("celeba", *arguments, "--overwrite", "--batch-size=64")
        way_out = "take a smaller batch_size, --batch-size on the command line. The run that was to be replaced is in "
        assert f"batch_size=64 for 48 images; {way_out}" in said
        assert said.endswith(f"{tmp_path}/run/replaced.")
        kept = {path.name: path.read_bytes() for path in (tmp_path / "run/replaced").rglob("*") if path.is_file()}
        assert kept == before
    run("celeba", *arguments, "--overwrite")
    assert not (tmp_path / "run/replaced").exists()


def test_overwrite_deletes_nothing_before_the_new_run_can_begin(place, faces, tmp_path):
    run("celeba", "--root", faces, "--output", tmp_path / "run", *SMALL)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    for wrong in (["--root", tmp_path / "nowhere"], ["--root", faces, "--rule", "dvs"]):
        refused("celeba", *wrong, "--output", tmp_path / "run", *SMALL, "--overwrite")
        assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node=2"],
    "accelerate launch": ["accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port=0"],
}


def launch(launcher, name, *arguments):
    """Run an example in two processes."""
    command = [sys.executable, "-m", *LAUNCHERS[launcher], EXAMPLES / f"{name}.py", *arguments]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=environment)


def test_two_processes_leave_what_one_leaves(tmp_path):
    output = tmp_path / "run"
    done = launch("torchrun", "lfwa", "--synthetic", 60, "--output", output, *SMALL, "--batch-size=8", "--accumulate=2")
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in output.iterdir())
    assert names == [".lock", "checkpoints", "metrics.csv", "metrics.json", "model", "report.html", "settings.json"]
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        "epoch 1/1",
        "fit",
        "test",
        "95 % intervals",
        "report",
    ]
    assert json.loads((output / "metrics.json").read_text())["settings"]["num_processes"] == 2
    assert "destroy_process_group" not in done.stderr


def test_what_two_processes_cannot_do_is_said_in_one_line(tmp_path):
    done = launch("accelerate launch", "celeba", "--root", tmp_path / "nowhere", "--output", tmp_path / "run", *SMALL)
    assert done.returncode != 0
    assert f"celeba.py: CelebA: no folder {tmp_path}/nowhere" in done.stderr
    assert "raise ValueError" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_run_of_two_processes_resumes_in_two_only(place, tmp_path):
    run_folder = tmp_path / "run"
    shutil.copytree(place / "celeba", run_folder)
    settings = json.loads((run_folder / "settings.json").read_text())
    (run_folder / "settings.json").write_text(json.dumps(settings | {"num_processes": 2}))
    said = refused("celeba", "--synthetic", 60, "--output", run_folder, *SMALL, "--resume")
    assert "was begun with num_processes=2, got 1; a run resumes with the settings it was begun with" in said


def test_the_output_says_which_epoch_is_kept_and_by_what(faces, tmp_path, capsys):
    options = [option for option in SMALL if "epochs" not in option]
    chosen = ["--epochs=2", "--select-by=mean_average_precision"]
    run("celeba", "--root", faces, "--output", tmp_path / "run", *options, *chosen)
    said = capsys.readouterr().out
    pattern = r"^fit: kept the weights of epoch (\d) of 2: the best by mean_average_precision, (\d\.\d+)\.$"
    kept, score = re.search(pattern, said, re.MULTILINE).groups()
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["settings"]["select_by"] == "mean_average_precision"
    assert float(score) == pytest.approx(metrics["valid"]["mean_average_precision"], abs=1e-4)
    assert metrics["settings"]["best_epoch"] == int(kept)
    assert f"the weights of epoch {kept} of 2" in (tmp_path / "run/report.html").read_text()


def test_a_run_learns_from_trained_models_and_says_of_which(place, tmp_path, capsys):
    arguments = ["--synthetic", 60, "--output", tmp_path / "run", *SMALL]
    run("celeba", *arguments, "--teachers", place / "celeba", place / "celeba" / "model")
    said = capsys.readouterr().out
    assert "taught_by: asking 2 trained models about 48 images" in said
    folders = (tmp_path / "run", place / "celeba")  # of the same seed: without teachers the same model
    one, other = ((folder / "model/model.safetensors").read_bytes() for folder in folders)
    assert one != other
    one, other = (json.loads((folder / "metrics.json").read_text()) for folder in folders)
    assert one["test"]["labels"] == other["test"]["labels"]
    assert "| teachers | celeba, model |" in (tmp_path / "run/model/README.md").read_text()


def test_a_teacher_that_is_not_there_leaves_no_folder(place, tmp_path):
    said = refused("celeba", "--synthetic", 60, "--output", tmp_path / "run", *SMALL, "--teachers", tmp_path / "nobody")
    assert "nobody" in said
    assert not (tmp_path / "run").exists()


def test_less_memory_by_accumulating_and_recomputing_trains_too(faces, tmp_path):
    arguments = ["--root", faces, "--output", tmp_path / "run", *SMALL, "--batch-size=4", "--accumulate=4"]
    run("celeba", *arguments, "--grad-checkpointing", "--mixed-precision=bf16")
    assert FARAMTN.from_pretrained(tmp_path / "run/model").trunk.state_dict()


def test_a_backbone_made_for_one_image_size_gets_the_size_asked_for(faces, tmp_path):
    vit = ["--backbone=vit_tiny_patch16_224", "--drop-stages=0"]
    run("celeba", "--root", faces, "--output", tmp_path / "run", *SMALL, *vit)
    config = FARAMTN.from_pretrained(tmp_path / "run/model").config
    assert config["backbone"]["options"] == {"img_size": [32, 32]}


def test_a_run_opens_no_connection(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    run("celeba", "--synthetic", 60, "--output", tmp_path / "run", *SMALL)
    mtattn("predict", tmp_path / "run", tmp_path / "synthetic-60-seed-0/img_align_celeba/000001.jpg")


def test_a_folder_that_holds_something_else_is_left_alone(faces, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    said = refused("celeba", "--root", faces, "--output", tmp_path, *SMALL, "--overwrite")
    assert f"{tmp_path} is not empty and holds no run, so it is left alone" in said
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_stops_the_run_with_its_path_unless_it_may_be_skipped(workers, place, tmp_path):
    root = tmp_path / "faces"
    SyntheticFaces(60).write(root)
    damaged = root / "img_align_celeba/000007.jpg"
    damaged.write_bytes(damaged.read_bytes()[:200])
    arguments = ["--root", root, "--output", tmp_path / "run", *SMALL, "--workers", workers]
    said = refused("celeba", *arguments)
    assert said.startswith(f"celeba.py: read_image: cannot read {damaged}: ")
    assert "--skip-unreadable" in said
    assert "\n" not in said
    with pytest.warns(UserWarning, match=r"left out 1 of 48 images because they cannot be read \(.*000007\.jpg\)"):
        run("celeba", *arguments, "--skip-unreadable")
    settings = json.loads((tmp_path / "run/metrics.json").read_text())["settings"]
    assert settings["skipped"] == {"train": [str(damaged)]}


def test_a_run_that_a_damaged_test_image_stopped_goes_on_without_it(tmp_path):
    root = tmp_path / "faces"
    SyntheticFaces(60).write(root)
    damaged = root / "img_align_celeba/000060.jpg"
    damaged.write_bytes(damaged.read_bytes()[:200])
    arguments = ["--root", root, "--output", tmp_path / "run", *SMALL]
    assert f"cannot read {damaged}" in refused("celeba", *arguments)
    with pytest.warns(UserWarning, match="left out 1 of 6 images"):
        run("celeba", *arguments, "--resume", "--skip-unreadable")
    assert (tmp_path / "run/report.html").exists()


def test_a_misspelt_attribute_in_the_annotations_is_refused(tmp_path):
    root = tmp_path / "faces"
    SyntheticFaces(60).write(root)
    table = root / "list_attr_celeba.txt"
    table.write_text(table.read_text().replace(" Smiling", " Smilling"))
    said = refused("celeba", "--root", root, "--output", tmp_path / "run", *SMALL)
    assert "no attribute 'Smilling'; did you mean 'Smiling'" in said


def test_lfwa_runs_on_the_official_form(lfwa_root, tmp_path):
    run("lfwa", "--root", lfwa_root, "--output", tmp_path / "run", *SMALL, "--batch-size=8")
    assert len(json.loads((tmp_path / "run/metrics.json").read_text())["test"]["attributes"]) == 40
    assert "FAR-AMTN on LFWA" in (tmp_path / "run/report.html").read_text()


@pytest.mark.parametrize(("width", "kept"), [(250, 107.5), (128, 76.4)], ids=["LFW's own", "their middle 180"])
def test_lfwa_keeps_the_same_part_of_a_face_in_each_copy(width, kept, lfwa_root, tmp_path):
    for path in (lfwa_root / "lfw").rglob("*.jpg"):
        Image.new("RGB", (width, width)).save(path)
    run("lfwa", "--root", lfwa_root, "--output", tmp_path / "run", *SMALL, "--batch-size=8")
    crop = FARAMTN.from_pretrained(tmp_path / "run/model").config["image"]["crop"]
    assert crop * width == pytest.approx(kept, abs=0.1)


def test_lfwa_goes_on_from_a_saved_model_and_records_what_that_is(place, tmp_path):
    few = [option for option in SMALL if "size=32" not in option and "stages" not in option]
    run("lfwa", "--synthetic", 60, "--start-from", place / "celeba/model", "--output", tmp_path / "run", *few)
    settings = json.loads((tmp_path / "run/metrics.json").read_text())["settings"]
    assert (settings["image_size"], settings["drop_stages"]) == ([32, 32], 2)
    config = FARAMTN.from_pretrained(tmp_path / "run/model").config
    assert config == FARAMTN.from_pretrained(place / "celeba/model").config


@pytest.mark.parametrize("name", ["celeba", "lfwa"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--root", "no/such/place"], r"(CelebA|LFWA): no folder .*no/such/place; Get ", id="root"),
        pytest.param(["--synthetic", "5"], "SyntheticFaces: num_faces must be at least 10", id="too few faces"),
        pytest.param(["--synthetic", "20"], "needs at least one full batch of images, got batch_size=64", id="batch"),
        pytest.param(
            ["--synthetic", "20", "--backbone", "resnet81"],
            "no timm model 'resnet81'; did you mean 'resnet",
            id="backbone",
        ),
        pytest.param(["--synthetic", "20", "--rule", "dvs"], "no rule 'dvs'; did you mean 'dws'", id="rule"),
        pytest.param(["--synthetic", "20", "--backbone-weights", "no.pth"], "no checkpoint at .*no.pth", id="weights"),
    ],
)
def test_what_cannot_be_is_said_in_one_line_and_leaves_no_run(arguments, message, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused(name, *arguments)
    assert re.match(rf"{name}\.py: {message}|{name}\.py: .*{message}", said)
    assert "\n" not in said
    assert not list(tmp_path.glob("runs/*/model"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "one of the arguments --root --synthetic is required", id="no data"),
        pytest.param(["--root", ".", "--synthetic"], "not allowed with argument", id="two kinds of data"),
        pytest.param(
            ["--synthetic", "--resume", "--overwrite"], "not allowed with argument", id="resume and overwrite"
        ),
        pytest.param(["--synthetic", "--epoch-s", "3"], "unrecognized arguments: --epoch-s", id="misspelt"),
        pytest.param(["--synthetic", "--over"], "unrecognized arguments: --over", id="abbreviated"),
        pytest.param(["--synthetic", "--workers=-1"], "--workers: must be at least 0, got -1", id="workers"),
        pytest.param(["--synthetic", "--image-size=0"], "--image-size: must be at least 1, got 0", id="image size"),
        pytest.param(["--synthetic", "--image-size", "8", "8", "8"], "a height and a width, got 3 values", id="sizes"),
        pytest.param(["--synthetic", "--crop=1.5"], "--crop: must be above 0 and at most 1, which is all", id="crop"),
        pytest.param(["--synthetic", "--augment=mixup"], "invalid choice: 'mixup'", id="augmentation"),
        pytest.param(["--synthetic", "--learning-rate=-1"], "--learning-rate: must be above 0", id="learning rate"),
    ],
)
def test_options_that_contradict_each_other_are_refused(arguments, message, capsys):
    assert refused("celeba", *arguments) == "2"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["celeba", "lfwa"])
def test_help_explains_every_option(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        run(name, "--help")
    said = capsys.readouterr().out
    for line in re.findall(r"^  (-.*)$", said, re.MULTILINE):
        explained_beside = re.search(r"\S  +\S", line)
        explained_below = re.search(rf"^  {re.escape(line)}\n {{10,}}\S", said, re.MULTILINE)
        assert explained_beside or explained_below, line


def test_an_example_runs_from_any_folder_as_a_program(faces, tmp_path):
    command = [sys.executable, EXAMPLES / "celeba.py", "--root", faces, *SMALL, "--workers=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "report: runs/celeba/report.html" in done.stdout
    assert "Warning" not in done.stderr
