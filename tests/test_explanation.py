"""The explanation pages hold what they promise, and their drawings are what the code draws."""

import importlib.util
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

pytestmark = pytest.mark.outside

DOCS = Path(__file__).parents[1] / "docs"
PARTS = ["wsgsa", "cgff", "dws", "far-amtn", "attribute-maps"]
SVG = "{http://www.w3.org/2000/svg}"


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SHAPES = load(DOCS / "draw_shapes.py")
DRAWINGS = [pytest.param(draw(), id=draw.__name__) for draw in SHAPES.DRAWINGS]


def page(name):
    return (DOCS / f"explanation/{name}.md").read_text(encoding="utf-8")


def drawn_on(text):
    return re.findall(r"```\{raw\} html\n:file: \.\./images/(shapes-\w+\.svg)\n```", text)


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_the_committed_drawing_is_what_the_code_draws(drawing):
    assert (SHAPES.IMAGES / f"shapes-{drawing.name}.svg").read_text(encoding="utf-8") == drawing.svg()


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_a_drawing_tells_in_words_what_it_shows(drawing):
    root = ET.fromstring(drawing.svg())
    told = {child.get("id"): child.text for child in root if child.tag in {f"{SVG}title", f"{SVG}desc"}}
    assert list(told) == root.get("aria-labelledby").split()
    assert all(len(words) > 20 for words in told.values())


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_nothing_is_drawn_outside_a_drawing(drawing):
    root = ET.fromstring(drawing.svg())
    _, _, width, height = map(float, root.get("viewBox").split())
    for text in root.iter(f"{SVG}text"):
        classes = text.get("class").split()
        length = len(text.text) * (7.6 if "axes" in classes or "name" in classes else 7)
        left = float(text.get("x")) - length * ("end" in classes or 0.5 * ("middle" in classes))
        assert left >= 0, text.text
        assert left + length <= width, text.text
        assert float(text.get("y")) < height, text.text


def test_every_drawing_is_on_a_page():
    shown = [file for path in (DOCS / "explanation").glob("*.md") for file in drawn_on(path.read_text("utf-8"))]
    assert sorted(shown) == sorted(f"shapes-{drawing.values[0].name}.svg" for drawing in DRAWINGS)


@pytest.mark.parametrize("name", PARTS)
def test_a_page_asks_draws_writes_costs_and_says_whose_it_is(name):
    text = page(name)
    assert text.splitlines()[0].endswith("?")
    assert drawn_on(text)
    wanted = ["## The equation", "## What it costs", "## The paper's, and ours"]
    assert [heading for heading in wanted if heading in text] == wanted
    assert "```python\n" in text


@pytest.mark.parametrize("name", PARTS)
def test_a_ratio_that_a_page_quotes_stands_in_the_results(name):
    quoted = re.findall(r"\d+\.\d+ (?:% )?\(\d+\.\d+ to \d+\.\d+(?: %)?\)", page(name))
    assert quoted or name == "attribute-maps"
    results = re.sub(r"\| (\S+) \| (\S+ to \S+) \|", r"\1 (\2)", page("how-fast"))
    for ratio in quoted:
        assert ratio in results
