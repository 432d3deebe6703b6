"""The recipes with attributes of every kind run end to end on their data sets in small."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from test_examples import refused, run

from mtattn import FARAMTN, Number
from mtattn.data import PETA_GROUPS

pytestmark = pytest.mark.recipe
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


@pytest.mark.parametrize("split", ["image", "person"])
def test_peta_trains_attributes_of_three_kinds_and_says_that_its_split_leaks(peta, split, tmp_path, capsys):
    run("peta", "--root", peta, "--output", tmp_path / "run", "--split-by", split, *SMALL)
    test, report, model = results(tmp_path / "run")
    assert model.groups == PETA_GROUPS
    assert {"accuracy", "macro_f1"} <= test["attributes"]["hair_color"].keys()
    assert {"within_one", "median_error"} <= test["attributes"]["age"].keys()
    assert test["labels"]["personalMale"] == {"labels": 6, "positives": test["labels"]["personalMale"]["positives"]}
    said = capsys.readouterr().out
    assert ("The official split leaks" in said) == (split == "image")
    assert "test, by image: instance_accuracy" in said
    assert "57.7" in report
    assert "not facts about a person" in (tmp_path / "run/model/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("age", ["bands", "years"])
def test_fairface_trains_the_age_as_bands_or_as_years(fairface, age, tmp_path):
    run("fairface", "--root", fairface, "--output", tmp_path / "run", "--age", age, *SMALL)
    test, report, model = results(tmp_path / "run")
    kind = model.groups.kinds[0]
    assert isinstance(kind, Number) == (age == "years")
    assert ("mean_absolute_error" in test["attributes"][kind.name]) is True
    assert 20 < kind.mean < 40 if age == "years" else kind.levels[1] == "3-9"
    assert "what annotators saw in a picture" in report


def test_drawn_faces_are_no_pedestrians(tmp_path):
    for name in ("peta", "fairface"):
        assert "give --root" in refused(name, "--synthetic", 20, "--output", tmp_path / "run")
    assert not (tmp_path / "run").exists()
