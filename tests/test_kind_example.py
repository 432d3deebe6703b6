"""The program of how-to/kinds.md, from a table to predictions."""

import csv
import random
import re
import runpy
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("pandas")
pytestmark = pytest.mark.recipe
PROGRAM = Path(__file__).parents[1] / "examples" / "kinds.py"
COLUMNS = ["image", "age", "Smiling", "Beard", "expression", "Glasses", "Hat", "hair"]


def write_table(folder):
    """Plain pictures whose three colours decide all labels, some of which are missing."""
    chance, rows = random.Random(0), []
    for index in range(40):
        red, green, blue = (chance.randrange(256) for _ in range(3))
        Image.new("RGB", (20, 20), (red, green, blue)).save(folder / f"{index}.png")
        words = {"expression": ("happy", "sad", "neutral")[red // 86], "hair": ("short", "middle", "long")[green // 86]}
        answers = {"Smiling": red > 127, "Beard": green > 127, "Glasses": blue > 127, "Hat": red < 50}
        row = (
            {"image": f"{index}.png", "age": round(blue / 3)}
            | words
            | {name: int(yes) for name, yes in answers.items()}
        )
        rows.append([row[name] if name == "image" or chance.random() < 0.9 else "" for name in COLUMNS])
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


def test_a_table_with_attributes_of_several_kinds_becomes_predictions(tmp_path, monkeypatch, capsys):
    write_table(tmp_path)
    Image.new("RGB", (20, 20), (250, 10, 250)).save(tmp_path / "new.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(PROGRAM), "labels.csv", ".", "new.png"])
    runpy.run_path(str(PROGRAM), run_name="__main__")
    said = dict(line.split(": ") for line in capsys.readouterr().out.splitlines()[-7:])
    assert list(said) == ["Smiling", "Beard", "expression", "Glasses", "Hat", "hair", "age"]
    assert re.fullmatch(r"\d+ %", said["Smiling"])
    assert re.fullmatch(r"(happy|sad|neutral) \(\d+ %\)", said["expression"])
    assert re.fullmatch(r"(short|middle|long) \(\d+ %\)", said["hair"])
    assert re.fullmatch(r"-?\d+\.\d years", said["age"])


def test_the_program_is_at_most_25_lines_of_its_own():
    lines = PROGRAM.read_text(encoding="utf-8").splitlines()
    own = [line for line in lines[lines.index("labels, photos, photo = sys.argv[1:]") :] if line.strip()]
    assert len(own) <= 25
