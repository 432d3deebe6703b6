"""mtattn train: from a table of one's own to a model, metrics and a report."""

import csv
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image
from test_cli import refused, run

from mtattn import FARAMTN, AttributeGroups, Categorical
from mtattn.decisions import Decisions
from mtattn.training import evaluate

pytestmark = [pytest.mark.recipe, pytest.mark.usefixtures("no_figures")]  # those of module fixtures are drawn

SMALL = ["--epochs=1", "--batch-size=8", "--image-size", "32", "--drop-stages=3", "--workers=0"]
PAGE = Path(__file__).parents[1] / "docs/how-to/own-attributes.md"


def write_table(folder, count=40, **columns):
    """Pictures that are red or blue, and a table as a spreadsheet writes it: which are red, and whose they are."""
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    rows = [
        [f"{index:02d}.png", f"p{index // 2}", "yes" if index % 3 else "no", ["no", "yes", ""][index % 5 % 3]]
        for index in range(count)
    ]
    for name, _, red, _ in rows:
        Image.new("RGB", (24, 32), "red" if red == "yes" else "blue").save(folder / "photos" / name)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8-sig") as file:
        table = [
            ["file", "person", "Red", "Odd", *columns],
            *(
                [*row, *more]
                for row, more in zip(
                    rows, zip(*columns.values(), strict=True) if columns else [()] * count, strict=True
                )
            ),
        ]
        csv.writer(file, delimiter=";").writerows(table)
    return folder / "labels.csv"


def read_split(folder):
    with (folder / "split.csv").open(newline="") as file:
        return {row["image"]: row["split"] for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a table, its photos, and a run on them."""
    folder = tmp_path_factory.mktemp("own")
    write_table(folder)
    run("train", folder / "labels.csv", "--images", folder / "photos", "--output", folder / "run", *SMALL)
    return folder


def test_it_leaves_all_that_a_recipe_leaves_and_the_split(place):
    names = {path.name for path in (place / "run").iterdir()}
    assert names >= {"checkpoints", "metrics.csv", "metrics.json", "model", "report.html", "settings.json", "split.csv"}
    assert "FAR-AMTN on labels.csv" in (place / "run/report.html").read_text()
    assert FARAMTN.from_pretrained(place / "run/model").groups.attributes == ("Red", "Odd")
    metrics = json.loads((place / "run/metrics.json").read_text())
    assert metrics["settings"]["images"] == {"train": 32, "valid": 4, "test": 4}
    assert "intervals" in metrics["test"]


@pytest.mark.parametrize("inside", ["", "model"])
def test_a_teacher_that_saw_what_the_student_is_measured_on_is_refused(place, tmp_path, inside):
    arguments = [place / "labels.csv", "--images", place / "photos", "--output", tmp_path / "run", *SMALL]
    said = refused("train", *arguments, "--seed=1", "--teachers", place / "run" / inside)
    held_out = {name for name, part in read_split(place / "run").items() if part == "train"}
    counted, name = re.search(
        r"trained on (\d) of them, (\d\d\.png) for one; give the table a split column", said
    ).groups()
    assert 1 <= int(counted) <= 8
    assert name in held_out
    assert not (tmp_path / "run").exists()


def test_a_student_learns_from_a_teacher_of_the_same_split(place, tmp_path, capsys):
    arguments = [place / "labels.csv", "--images", place / "photos", "--output", tmp_path / "run", *SMALL]
    run("train", *arguments, "--teachers", place / "run")
    assert "taught_by: asking a trained model about 32 images" in capsys.readouterr().out
    one, other = ((folder / "run/model/model.safetensors").read_bytes() for folder in (tmp_path, place))
    assert one != other  # of the same seed: without teachers the same model


def test_no_person_is_in_two_parts(place):
    parts = read_split(place / "run")
    assert all(parts[f"{index:02d}.png"] == parts[f"{index + 1:02d}.png"] for index in range(0, 40, 2))


def test_what_it_leaves_predicts_pictures(place, capsys):
    run("predict", place / "run", place / "photos/00.png")
    assert re.search(r"^    Red +\d+\.\d%", capsys.readouterr().out, re.MULTILINE)


def test_a_run_that_was_stopped_has_the_best_model_until_then(place, tmp_path, capsys):
    shutil.copytree(place / "run/checkpoints", tmp_path / "stopped/checkpoints")
    run("predict", place / "run", place / "photos/00.png")
    finished = capsys.readouterr().out
    run("predict", tmp_path / "stopped", place / "photos/00.png")
    assert capsys.readouterr().out == finished


def test_a_folder_that_holds_a_run_is_left_alone_and_a_run_resumes(place, capsys, monkeypatch):
    arguments = ["train", place / "labels.csv", "--images", place / "photos", "--output", place / "run", *SMALL]
    assert "already holds a run; go on with --resume" in refused(*arguments)
    assert "was begun with seed=0, got 1" in refused(*arguments, "--resume", "--seed=1")
    asked = []
    for part in ("measuring", "results"):
        monkeypatch.setattr(
            f"mtattn.recipes.{part}.evaluate", lambda *a, **k: asked.append(k["mirror"]) or evaluate(*a, **k)
        )
    for views in (["--mirror"], []):
        run(*arguments, "--resume", *views)
        assert "fit: going on from" in capsys.readouterr().out
    assert asked == [True, True, False, False]


def test_the_parts_that_a_table_names_are_taken_and_those_that_it_does_not_are_made(tmp_path, capsys):
    named = ["val" if index < 6 else "train" for index in range(40)]
    table = write_table(tmp_path, Split=named)
    run("train", table, "--images", tmp_path / "photos", "--output", tmp_path / "run", *SMALL)
    assert "test parted from it by column 'person', balanced over the labels, seed 0" in capsys.readouterr().out
    parts = read_split(tmp_path / "run")
    assert {name for name, part in parts.items() if part == "valid"} == {f"{index:02d}.png" for index in range(6)}
    assert 2 <= sum(part == "test" for part in parts.values()) <= 5


def test_unreadable_and_missing_pictures_stop_it_unless_they_may_be_left_out(tmp_path):
    table = write_table(tmp_path)
    (tmp_path / "photos/03.png").write_bytes(b"no picture")
    (tmp_path / "photos/04.png").unlink()
    arguments = ["train", table, "--images", tmp_path / "photos", "--output", tmp_path / "run", *SMALL]
    assert "--skip-unreadable" in refused(*arguments)
    with pytest.warns(UserWarning, match="left out 1 of"):
        run(*arguments, "--skip-unreadable")
    assert len(read_split(tmp_path / "run")) == 38


def test_thresholds_need_an_attribute_that_is_yes_or_no(tmp_path):
    write_table(tmp_path)
    rows = [f"{file.name},{20 + 3 * place}" for place, file in enumerate(sorted((tmp_path / "photos").iterdir()))]
    (tmp_path / "ages.csv").write_text("image,age\n" + "\n".join(rows) + "\n")
    arguments = ["train", tmp_path / "ages.csv", "--images", tmp_path / "photos", "--output", tmp_path / "run", *SMALL]
    assert "leave the option out" in refused(*arguments, "--thresholds", "f1")
    assert not (tmp_path / "run").exists()


def test_thresholds_are_chosen_on_validation_saved_with_the_model_and_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mtattn.decisions.FEWEST", 2)
    table = write_table(tmp_path, count=80)
    run("train", table, "--images", tmp_path / "photos", "--output", tmp_path / "run", *SMALL, "--thresholds", "f1")
    assert "test, from one half to thresholds: accuracy " in capsys.readouterr().out
    decisions = FARAMTN.from_pretrained(tmp_path / "run/model").config["decisions"]
    assert decisions["goal"] == "f1"
    assert list(decisions["temperatures"]) == ["Red", "Odd"]
    assert {*decisions["thresholds"], *decisions["kept"]} == {"Red", "Odd"}
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["decisions"]["thresholds"] == decisions["thresholds"]
    assert 0 <= metrics["decisions"]["test"]["mean_f1"] <= 1
    assert "thresholds for F1" in (tmp_path / "run/report.html").read_text()


def test_uncertain_answers_and_slices_are_told_and_kept(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mtattn.decisions.FEWEST", 1)
    table = write_table(tmp_path, count=80, sex=["f" if index % 4 < 2 else "m" for index in range(80)])
    goal = ["--thresholds", "precision=0.6", "--uncertain", "--slices", "sex"]
    run("train", table, "--images", tmp_path / "photos", "--output", tmp_path / "run", *SMALL, *goal)
    said = capsys.readouterr().out
    assert "of the answers are not uncertain" in said
    assert "by sex:" in said
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert sum(row["images"] for row in metrics["slices"]["sex"]["values"].values()) == 8
    report = (tmp_path / "run/report.html").read_text()
    assert "For whom it works" in report
    assert "a precision of 0.6" in report


def test_attributes_of_every_kind_are_trained_reported_and_predicted(tmp_path, capsys):
    ages, heights = [["child", "adult"][index % 2] for index in range(40)], [f"{index},5" for index in range(40)]
    table = write_table(tmp_path, age=ages, height=heights)
    run("train", table, "--images", tmp_path / "photos", "--output", tmp_path / "run", *SMALL)
    groups = FARAMTN.from_pretrained(tmp_path / "run/model").groups
    assert [type(kind).__name__ for kind in groups.kinds] == ["str", "str", "Categorical", "Number"]
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert set(metrics["test"]["attributes"]) == {"Red", "Odd", "age", "height"}
    report = (tmp_path / "run/report.html").read_text()
    assert "child" in report
    assert "What each part does here" in report
    capsys.readouterr()
    run("predict", tmp_path / "run", tmp_path / "photos")
    said = capsys.readouterr().out
    assert "adult" in said or "child" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--attributes", "Rde"], "no column in .*labels.csv 'Rde'; did you mean 'Red'", id="attribute"),
        pytest.param(["--person-column", "who"], "no column in .* 'who'", id="column"),
        pytest.param(["--images", "nowhere"], "no folder .*nowhere", id="folder"),
        pytest.param(
            ["--config", "a.toml", "--image-column", "file"], "--config says what the columns are", id="config"
        ),
        pytest.param(["--thresholds", "f1", "--uncertain"], "--uncertain needs a stated precision", id="uncertain"),
        pytest.param(["--slices", "gender"], "no column in .*labels.csv 'gender'", id="slice"),
        pytest.param(["--slices", "file"], "slices are columns with 2 to 12 different values, got 40", id="slices"),
        pytest.param(["--rule", "dvs"], "no rule 'dvs'; did you mean 'dws'", id="rule"),
    ],
)
def test_what_it_cannot_do_is_said_in_one_line_before_anything_is_written(arguments, message, place, tmp_path):
    output = tmp_path / "new"
    said = refused("train", place / "labels.csv", "--images", place / "photos", "--output", output, *SMALL, *arguments)
    assert re.search(f"^mtattn train: .*{message}", said)
    assert not output.exists()


def evaluated(place, *arguments):
    return ["evaluate", place / "run", place / "labels.csv", "--images", place / "photos", *arguments]


def test_evaluate_scores_the_part_of_the_run_as_the_run_did(place, tmp_path, capsys):
    run(*evaluated(place, "--output", tmp_path / "scores", "--slices", "Odd"))
    said = capsys.readouterr().out
    assert "4 images, part test; baselines know the labels of the training part" in said
    trained, again = (json.loads((f / "metrics.json").read_text()) for f in (place / "run", tmp_path / "scores"))
    assert again["test"] == {**trained["test"], "loss": pytest.approx(trained["test"]["loss"])}
    assert set(again["slices"]["Odd"]["values"]) <= {"yes", "no", "(empty)"}
    assert "run on labels.csv" in (tmp_path / "scores/report.html").read_text()
    assert "exists already; move it away" in refused(*evaluated(place, "--output", tmp_path / "scores"))


def test_evaluate_with_mirror_images_asks_of_both_and_says_so(place, tmp_path, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "mtattn.recipes.measuring.evaluate", lambda *a, **k: asked.append(k["mirror"]) or evaluate(*a, **k)
    )
    run(*evaluated(place, "--mirror", "--output", tmp_path / "both"))
    assert "4 images, each with its mirror image, part test" in capsys.readouterr().out
    assert json.loads((tmp_path / "both/metrics.json").read_text())["settings"]["mirror"] is True


def test_evaluate_applies_the_thresholds_of_the_model(place, tmp_path, capsys):
    recalls = {}
    for threshold in (1e-6, 1 - 1e-6):  # all are red, none is red, whatever one epoch taught the model
        model = FARAMTN.from_pretrained(place / "run/model")
        model.config["decisions"] = Decisions("f1", thresholds={"Red": threshold}).to_plain()
        model.save_pretrained(tmp_path / f"model {threshold}")
        output = tmp_path / f"out {threshold}"
        arguments = [tmp_path / f"model {threshold}", place / "labels.csv", "--images", place / "photos"]
        run("evaluate", *arguments, "--output", output)
        assert "40 images, all of the table; baselines know their own labels" in capsys.readouterr().out
        decided = json.loads((output / "metrics.json").read_text())["decisions"]
        assert decided["thresholds"] == {"Red": threshold}
        recalls[threshold] = decided["test"]["mean_recall"], decided["one_half"]["mean_recall"]
    (all_red, one_half), (none_red, same) = recalls.values()
    assert all_red - none_red == pytest.approx(1 / 2)  # of two attributes one has recall 1 or 0
    assert none_red <= one_half == same <= all_red


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--slices", "sex"], "--slices: no column in .* 'sex'", id="slice"),
        pytest.param(["--person-column", "who"], "no column in .* 'who'", id="column"),
    ],
)
def test_evaluate_refuses_before_it_reads_pictures(arguments, message, place, monkeypatch):
    monkeypatch.setattr("mtattn.cli.evaluate.open_images", None)
    assert re.search(message, refused(*evaluated(place, *arguments)))


def test_evaluate_without_parts_has_no_part_to_choose(place):
    arguments = [place / "run/model", place / "labels.csv", "--images", place / "photos", "--split", "test"]
    assert "--split test: neither a column nor split.csv" in refused("evaluate", *arguments)


def test_evaluate_reads_the_classes_of_the_model_and_no_others(tmp_path):
    table = write_table(tmp_path, age=[["child", "adult"][index % 2] for index in range(40)])
    groups = AttributeGroups({"a": [Categorical("age", ("adult", "child"))]})
    model = FARAMTN.from_timm("resnet18", groups, drop_stages=3)
    model.config["image"] |= {"size": [32, 32]}
    model.save_pretrained(tmp_path / "model")
    run("evaluate", tmp_path / "model", table, "--images", tmp_path / "photos")
    table.write_text(table.read_text(encoding="utf-8").replace("adult", "grown"), encoding="utf-8")
    said = refused("evaluate", tmp_path / "model", table, "--images", tmp_path / "photos")
    assert "'grown' for 'age' in line 3" in said


def test_the_commands_of_the_page_do_what_it_says(tmp_path, monkeypatch):
    pytest.importorskip("onnxscript", reason="the extra export is not installed")
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path, site=["one", "two"] * 20, gender=["f", "f", "m", "m"] * 10)
    (tmp_path / "photo.jpg").write_bytes((tmp_path / "photos/00.png").read_bytes())
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    commands = [shlex.split(line) for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    done = []
    for program, *arguments in commands:
        if program == "mtattn" and arguments[0] != "serve":  # served models have tests of their own
            run(*arguments, *(SMALL if arguments[0] == "train" else []))
            done.append(arguments[0])
    assert done[:1] == ["check"] or "check" not in done
    assert {"train", "predict", "export"} <= {*done}
    assert Path("runs/own/report.html").exists()
    assert Path("own.onnx").exists()
