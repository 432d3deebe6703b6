"""The recipes with attributes of every kind run end to end on their data sets in small."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from test_examples import refused, run

from mtattn import FARAMTN, Categorical, Number, Ordinal
from mtattn.data import PETA_GROUPS

pytestmark = [pytest.mark.recipe, pytest.mark.usefixtures("no_figures")]  # those of module fixtures are drawn
SMALL = ["--epochs=1", "--batch-size=8", "--drop-stages=2", "--workers=0", "--image-size", "48", "32"]


def write(root, table, rows):
    generator = np.random.default_rng(0)
    with (root / table).open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        (root / row["image"]).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (40, 24, 3), np.uint8)).save(root / row["image"])
    return root


@pytest.fixture(scope="module")
def peta(tmp_path_factory):
    parts, rows = ["train"] * 16 + ["val"] * 6 + ["test"] * 6, []
    for index, part in enumerate(parts):
        row = {
            "image": f"images/{index}.png",
            "split": part,
            "split_by_person": parts[-1 - index].replace("val", "val"),
        }
        for kind in PETA_GROUPS.kinds:
            choices = getattr(kind, "levels", getattr(kind, "classes", None))
            row[getattr(kind, "name", kind)] = choices[index % 3] if choices else index // 2 % 2
        rows.append(row)
    return write(tmp_path_factory.mktemp("peta"), "peta.csv", rows)


@pytest.fixture(scope="module")
def fairface(tmp_path_factory):
    bands = ("0-2", "20-29", "more than 70")
    rows = [
        {"image": f"{part}/{index}.png", "split": part, "age": bands[index % 3], "gender": gender, "race": "White"}
        for part, count in (("train", 20), ("val", 6))
        for index in range(count)
        for gender in [("Male", "Female")[index // 2 % 2]]
    ]
    return write(tmp_path_factory.mktemp("fairface"), "fairface.csv", rows)


def results(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    return (
        metrics["test"],
        (folder / "report.html").read_text(encoding="utf-8"),
        FARAMTN.from_pretrained(folder / "model"),
    )


def test_peta_trains_attributes_of_three_kinds(peta, tmp_path, capsys):
    run("peta", "--root", peta, "--output", tmp_path / "run", "--split-by", "person", *SMALL)
    test, report, model = results(tmp_path / "run")
    assert model.groups == PETA_GROUPS
    assert {"accuracy", "macro_f1"} <= test["attributes"]["hair_color"].keys()
    assert {"within_one", "median_error"} <= test["attributes"]["age"].keys()
    assert test["labels"]["personalMale"] == {"labels": 6, "positives": test["labels"]["personalMale"]["positives"]}
    said = capsys.readouterr().out
    assert "The official split leaks" not in said
    assert "test, by image: instance_accuracy" in said
    assert "57.7" in report
    assert "not facts about a person" in (tmp_path / "run/model/README.md").read_text(encoding="utf-8")


def test_peta_says_that_its_official_split_leaks_before_it_trains(peta, tmp_path, capsys):
    said = refused("peta", "--root", peta, "--output", tmp_path / "run", *SMALL, "--batch-size=64")
    assert "needs at least one full batch of images" in said
    assert "The official split leaks" in capsys.readouterr().out


def test_fairface_trains_the_age_as_years(fairface, tmp_path):
    run("fairface", "--root", fairface, "--output", tmp_path / "run", "--age", "years", *SMALL)
    test, report, model = results(tmp_path / "run")
    assert model.groups.attributes == ("years", "gender")
    assert 20 < model.groups.kinds[0].mean < 40
    assert "mean_absolute_error" in test["attributes"]["years"]
    assert "what annotators saw in a picture" in report


@pytest.mark.parametrize(
    ("name", "kinds"), [("peta", {str, Categorical, Ordinal, Number}), ("fairface", {Categorical, Ordinal})]
)
def test_a_mixed_run_needs_no_data_set(drawn, name, kinds, capsys):
    run(name, "--synthetic", 30, "--output", drawn / name, *SMALL)
    test, report, model = results(drawn / name)
    assert set(map(type, model.groups.kinds)) == kinds
    assert test["attributes"].keys() == set(model.groups.attributes)
    assert "FAR-AMTN on 30 drawn faces" in report
    assert "leaks" not in report + capsys.readouterr().out


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Where the runs go, so that the faces are drawn once."""
    pytest.importorskip("resvg_py")
    return tmp_path_factory.mktemp("drawn")


def test_drawn_faces_cannot_be_split_by_person(tmp_path):
    said = refused("peta", "--synthetic", 20, "--split-by", "person", "--output", tmp_path / "run")
    assert "No person is drawn twice" in said
    assert not list(tmp_path.iterdir())
