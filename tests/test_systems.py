"""The systems of the field, built from our parts: short, told apart from their papers, and trainable by one command."""

import ast
import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("accelerate", reason="the extra recipes is not installed")
from mtattn import AttributeGroups

pytestmark = pytest.mark.recipe

SYSTEMS = Path(__file__).parents[1] / "examples/systems"
NAMES = sorted(path.stem for path in SYSTEMS.glob("*.py") if path.stem != "system_runs")
TINY = ["--synthetic=60", "--epochs=1", "--batch-size=16", "--image-size=32", "--workers=0"]
FORMS = {"far_amtn": [[]], "mgmtn": [[], ["--masks=learned"]]}


@pytest.fixture
def program(monkeypatch):
    monkeypatch.syspath_prepend(str(SYSTEMS))

    def load(name):
        sys.modules.pop(name, None)
        return importlib.import_module(name)

    return load


def run(monkeypatch, name, *arguments):
    import runpy

    monkeypatch.syspath_prepend(str(SYSTEMS))
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
    runpy.run_path(str(SYSTEMS / f"{name}.py"), run_name="__main__")


def test_every_system_is_tried_in_each_form():
    assert set(NAMES) == set(FORMS)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_has_forty_lines_or_fewer(name):
    text = (SYSTEMS / f"{name}.py").read_text(encoding="utf-8")
    (model,) = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    lines = text.splitlines()[model.lineno - 1 : model.end_lineno]
    assert len([line for line in lines if line.strip()]) <= 40


@pytest.mark.parametrize("name", NAMES)
def test_the_head_of_a_program_tells_the_paper_from_our_reading(name):
    head = ast.get_docstring(ast.parse((SYSTEMS / f"{name}.py").read_text(encoding="utf-8")))
    assert "| part | known from public text | our reading |" in head
    assert "arXiv" in head


@pytest.mark.parametrize(("name", "form"), [(name, form) for name, forms in FORMS.items() for form in forms])
def test_a_system_trains_by_one_command(name, form, tmp_path, monkeypatch):
    run(monkeypatch, name, "--output", tmp_path / "run", *TINY, *form)
    scores = json.loads((tmp_path / "run/scores.json").read_text())
    assert 0.5 < scores["mean_accuracy"] <= 1
    assert scores["parameters"] > 1e6


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit, match="is not empty; give a new folder"):
        run(monkeypatch, "far_amtn", "--output", tmp_path, *TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


class TestMGMTN:
    def test_every_attribute_of_celeba_is_in_one_group_and_every_group_has_its_discs(self, program):
        from mtattn.data import CELEBA_ATTRIBUTES

        mgmtn = program("mgmtn")
        assert sorted(mgmtn.GROUPS.attributes) == sorted(CELEBA_ATTRIBUTES)
        assert list(mgmtn.GROUPS) == list(mgmtn.DISCS)

    def test_a_disc_is_one_half_at_its_edge_and_lies_at_its_place(self, program):
        mgmtn = program("mgmtn")
        (nose,) = mgmtn.discs(AttributeGroups({"nose": ["Big_Nose"]}), side=100)
        row, column = divmod(int(nose.argmax()), 100)
        assert (abs(row + 0.5 - 56), abs(column + 0.5 - 50)) <= (1, 1)
        edge = nose[56, 50 + 12]  # height 0.56, width 0.50, radius 0.12
        torch.testing.assert_close(edge, torch.tensor(0.5), rtol=0, atol=0.1)

    @pytest.mark.parametrize("learned", [False, True])
    def test_a_part_hears_itself_and_the_whole_face_only(self, learned, program):
        mgmtn = program("mgmtn")
        model = mgmtn.System(mgmtn.GROUPS, "resnet18", pretrained=False, learned=learned).eval()
        whole = list(mgmtn.GROUPS).index("object")
        affinity = model.g2ff.affinity(torch.randn(2, 8, 256))
        heard = (affinity > 0).all(0)
        assert heard.tolist() == [[speaker in (listener, whole) for speaker in range(8)] for listener in range(8)]
        assert model(torch.rand(2, 3, 64, 64)).shape == (2, 40)
