"""mtattn check: what stands in the way of training is found, told, and ends with 1."""

import csv
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_cli import run

from mtattn import AttributeGroups, Categorical, Number, Ordinal
from mtattn.data.table import Plan, Table, check_table, checking, propose, read_table
from mtattn.data.table.checking import _counts, _few_numbers, related_groups
from mtattn.data.table.images import targets

pytestmark = pytest.mark.outside

pytest.importorskip("scipy", reason="the extra tables is not installed")
SHARED = Path(__file__).parents[1].parent / "shared/data"


def write_table(folder, header, rows, count=60):
    """A table and a picture of its own for each row; rows is a function of the row's number."""
    random = np.random.default_rng(0)
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", *header], *([f"{index}.png", *rows(index)] for index in range(count))])
    for index in range(count):
        Image.fromarray(random.integers(0, 255, (6, 6, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return folder / "labels.csv"


def found_in(folder, header, rows, **roles):
    table = read_table(write_table(folder, header, rows))
    return check_table(table, folder, propose(table, **roles))


def balanced(index):
    return index % 2


def ended(*arguments):
    try:
        run("check", *arguments)
    except SystemExit as stopped:
        return stopped.code
    return 0


def test_a_table_without_faults_ends_well_in_lines_of_eighty_characters(tmp_path, capsys):
    table = write_table(tmp_path, ["Hat", "who"], lambda index: [balanced(index), f"p{index}"])
    assert ended(table, "--person-column", "who") == 0
    said = capsys.readouterr().out
    assert "Hat  30 yes (50.0%)" in said
    assert said.endswith("\nNothing stands in the way of training.\n")
    assert max(map(len, said.splitlines())) <= 80


def test_constant_copied_and_rare_attributes_are_told(tmp_path):
    found = found_in(
        tmp_path,
        ["Hat", "Same", "Other", "None", "Rare", "Age"],
        lambda i: [balanced(i), balanced(i), 1 - balanced(i), 0, int(i < 3), "" if i < 10 else i],
    )
    assert [problem.partition(":")[0] for problem in found.problems] == ["'None' is 'no' in every row"]
    assert "'Hat' and 'Same' copy each other: one of them would do" in found.warnings
    assert "'Hat' and 'Other' are each other's opposite: one of them would do" in found.warnings
    assert any(text.startswith("'Rare' has values with fewer than 20 images") for text in found.warnings)
    assert len(found.rare["Rare"]) == 3
    assert (found.attributes["Age"].labels, found.attributes["Age"].missing) == (50, 10)
    assert found.attributes["Age"].values == {"min": 10, "mean": 34.5, "max": 59}


def test_missing_damaged_and_doubled_pictures_are_told(tmp_path):
    table = read_table(write_table(tmp_path, ["Hat", "split"], lambda i: [balanced(i), "test" if i > 50 else "train"]))
    (tmp_path / "0.png").unlink()
    (tmp_path / "1.png").write_bytes(b"no picture")
    (tmp_path / "2.png").write_bytes((tmp_path / "3.png").read_bytes())
    (tmp_path / "4.png").write_bytes((tmp_path / "55.png").read_bytes())
    found = check_table(table, tmp_path, propose(table))
    assert [re.match(r"\d+ pictures.*?(?=:)", problem)[0] for problem in found.problems] == [
        "1 pictures missing", "1 pictures that cannot be read", "1 pictures are in two parts, byte for byte",
    ]  # fmt: skip
    assert "4.png and 55.png" in found.problems[2]
    assert any("2 pictures have the same bytes as another: 2.png and 3.png" in text for text in found.warnings)
    assert (found.images, found.parts) == (58, {"train": 49, "test": 9})


def test_persons_in_two_parts_are_told_with_their_share(tmp_path):
    found = found_in(
        tmp_path,
        ["Hat", "split", "person"],
        lambda i: [balanced(i), ["train", "valid", "test"][i % 3], "" if i > 29 else f"p{i // 2}"],
    )
    (test, valid) = found.problems
    assert test.startswith("50.0% of the test images show somebody who is in another part as well")
    assert re.match(r"5 of 10 persons of the validation part", valid)


def test_labels_that_go_together_are_proposed_as_groups():
    random = np.random.default_rng(0)
    base = random.random((500, 2)) < 0.5
    noisy = [np.where(random.random(500) < 0.1, random.random(500) < 0.5, base[:, index // 2]) for index in range(4)]
    targets = np.stack([*noisy, random.random(500) < 0.5, random.integers(0, 3, 500)], 1).astype(float)
    targets[random.random(targets.shape) < 0.1] = np.nan
    names = ["a", "b", "c", "d", "alone", "class"]
    kinds = [*names[:5], Categorical("class", ("x", "y", "z"))]
    assert sorted(related_groups(names, kinds, targets)) == [["a", "b"], ["c", "d"]]


def test_the_columns_are_written_for_a_person_to_change_and_read_again(tmp_path, capsys):
    table = write_table(tmp_path, ["Hat", "age"], lambda index: [balanced(index), f"{index % 4}-{index % 4 + 1}"])
    ended(table, "--write-config", tmp_path / "own.toml")
    written = tomllib.loads((tmp_path / "own.toml").read_text())
    assert written["groups"]["age"] == [{"ordinal": "age", "levels": ["0-1", "1-2", "2-3", "3-4"]}]
    assert "exists already" in ended(table, "--write-config", tmp_path / "own.toml")
    (tmp_path / "own.toml").write_text('image = "image"\n[groups]\nall = ["Hat"]\n')
    capsys.readouterr()
    assert ended(table, "--config", tmp_path / "own.toml") == 0
    assert "levels" not in capsys.readouterr().out


def test_the_page_shows_what_is_rare_and_loads_nothing_from_elsewhere(tmp_path):
    table = write_table(tmp_path, ["Hat <1>", "None"], lambda index: [int(index < 3), 0])
    assert ended(table, "--html", tmp_path / "check.html") == 1
    page = (tmp_path / "check.html").read_text()
    assert page.count('<img src="data:image/jpeg') == 3
    assert "Hat &lt;1&gt;" in page
    assert "1 to be fixed" in page
    assert not re.findall(r'(?:src|href)="https?:', page)


def test_classes_written_as_few_whole_numbers_are_asked_about():
    table = Table("t.csv", {"race": ["0", "1", "2"] * 9, "age": [str(20 + n) for n in range(27)]}, list(range(27)))
    plan = Plan("file", AttributeGroups({"a": [Number("race"), Number("age")]}))
    values = targets(table, plan).numpy()
    counts = {
        name: _counts(kind, values[:, n], None)
        for n, (name, kind) in enumerate(zip(("race", "age"), plan.groups.kinds, strict=True))
    }
    (told,) = _few_numbers(counts, values)
    assert told.startswith("'race' is taken for a number and has 3 whole values (0, 1, 2): if they are classes")


def test_every_kind_is_counted(tmp_path):
    table = read_table(
        write_table(tmp_path, ["h", "a", "n"], lambda i: [["x", "y"][i % 2], ["lo", "hi"][i % 3 % 2], i])
    )
    groups = AttributeGroups({"all": [Categorical("h", ("x", "y")), Ordinal("a", ("lo", "hi")), Number("n")]})
    found = check_table(table, tmp_path, Plan("image", groups)).attributes
    assert found["h"].values == {"x": 30, "y": 30}
    assert found["a"].values == {"lo": 40, "hi": 20}
    assert list(found["n"].values) == ["min", "mean", "max"]


@pytest.mark.skipif(not (SHARED / "peta").is_dir(), reason="PETA is not here")
def test_the_leak_of_petas_official_split_is_found(monkeypatch):
    monkeypatch.setattr(checking, "skip_unreadable", lambda data: data)  # this asks nothing of 19,000 pictures
    monkeypatch.setattr(checking, "_same_bytes", lambda _: [])
    table = read_table(SHARED / "peta/peta.csv")
    found = check_table(table, SHARED / "peta", propose(table))
    assert found.problems[0].startswith("57.7% of the test images show somebody who is in another part as well")
