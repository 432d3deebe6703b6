"""Every public name stands in the reference, with an example or a reason why there is none."""

import ast
import importlib
import inspect
import re
from itertools import pairwise
from pathlib import Path

import pytest

import mtattn.data

REFERENCE = Path(__file__).parents[1] / "docs/reference"
PACKAGES = ["mtattn", "mtattn.data", "mtattn.report", "mtattn.training", "mtattn.recipes"]
MODULES = [
    "mtattn.functional",
    "mtattn.metrics",
    "mtattn.intervals",
    "mtattn.export",
    "mtattn.models.backbones",
    "mtattn.models.checkpoints",
]
WITHOUT_EXAMPLE = {
    "Ablations": "measure_ablations returns it, and its example shows it",
    "Batcher": "build_app makes it",
    "CELEBA_CROP": "its value is shown",
    "Change": "measure_ablations returns it",
    "Decisions": "choose_decisions returns it, and its example shows it",
    "Effect": "measure_ablations returns it",
    "Findings": "check_table returns it",
    "LFWA_CROP": "its value is shown",
    "LFWPairs": "needs LFW's files; its test makes some up",
    "Labelled": "a data set: Baselines and train_rates take it",
    "Link": "measure_ablations returns it",
    "LossSums": "AttributeLosses returns it",
    "Prediction": "Predictor gives it, and its example shows it",
    "Session": "needs an exported file; mtattn serve makes it",
    "SharesSampler": "JointDataset.sampler makes it, and its example shows it",
    "build_app": "needs an exported file; mtattn serve runs it",
    "check_table": "needs images; mtattn check runs it, as the how-to page on tables shows",
    "decisions_of": "needs a model with thresholds; mtattn train makes one",
    "model_options": "the recipes and mtattn train call it, as recipe_parser does",
    "read_plan": "needs a file that write_plan wrote; the how-to page on tables shows both",
    "run_options": "see model_options",
    "training_options": "see model_options",
    "write_csv": "needs predictions; mtattn predict --csv calls it",
    "write_plan": "mtattn check --write-config calls it",
    "Centres": "map_centres returns it, and draw_maps takes it",
    "Backbone": "build_backbone returns it, and its example shows the parts",
    "CutBackbone": "build_backbone makes it for a checkpoint of our own",
    "FeatureMap": "build_backbone makes it",
    "FreshBottleneck": "build_backbone makes it",
    "FoundImages": "find_images returns it, and its example shows it",
    "HelpFormatter": "recipe_parser uses it",
    "LFWA": "needs LFWA's files; CelebA's example shows the same call",
    "PA100K": "needs PA-100K's files; its test makes some up, and PETA's example shows the same call",
    "SCORES": "its value is shown",
    "TrainingDiverged": "fit raises it",
    "export_onnx": "torch.export does not work where shapes are checked; the how-to page on export shows it",
    "finish_run": "needs a finished run; examples/celeba.py ends with it",
    "is_our_own": "needs a checkpoint; build_backbone asks it",
    "load_backbone_weights": "needs a checkpoint; from_timm calls it for backbone_weights",
    "quantize_onnx": "see export_onnx",
    "read_onnx_metadata": "see export_onnx",
}
DIRECTIVE = re.compile(r"^\.\. auto(\w+):: (\S+)$", re.MULTILINE)


def public(module):
    names = getattr(module, "__all__", None)
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    return [name for name in names or own + constants(module) if not name.startswith("_")]


def constants(module):
    """What is assigned and told in a string below, which is what Sphinx shows."""
    body = ast.parse(inspect.getsource(module)).body
    pairs = [(line, below) for line, below in pairwise(body) if isinstance(line, ast.Assign)]
    return [line.targets[0].id for line, below in pairs if isinstance(below, ast.Expr)]


def found(path):
    """Import a module or what is in one."""
    owner, _, name = path.rpartition(".")
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        return getattr(importlib.import_module(owner), name)


def pages():
    """What each page documents: names, and the objects behind them."""
    for file in sorted(REFERENCE.glob("*.md")):
        shown = {}
        for kind, path in DIRECTIVE.findall(file.read_text(encoding="utf-8")):
            target = found(path)
            members = public(target) if kind == "module" else [path.rpartition(".")[2]]
            shown |= {name: getattr(target, name, target) for name in members}
            if kind == "module":
                shown[path] = target
        yield file.stem, shown


PAGES = dict(pages())
PUBLIC = [(package, name) for package in PACKAGES + MODULES for name in public(importlib.import_module(package))]


def examples(shown):
    documented = "\n".join(inspect.getdoc(value) or "" for value in shown.values() if not isinstance(value, tuple))
    return "\n".join(re.findall(r"^ *(?:>>>|\.\.\.) .*(?:\n(?! *>>>).+)*", documented, re.MULTILINE))


@pytest.mark.parametrize(("package", "name"), [pytest.param(*case, id=".".join(case)) for case in PUBLIC])
def test_every_public_name_stands_in_the_reference(package, name):
    value = getattr(importlib.import_module(package), name)
    assert any(shown.get(name) is value for shown in PAGES.values())


@pytest.mark.parametrize("page", [name for name, shown in PAGES.items() if shown])
def test_every_name_on_a_page_is_in_an_example_or_has_a_reason(page):
    shown = PAGES[page]
    said = examples(shown)
    lacking = {name for name in shown if "." not in name and not re.search(rf"\b{name}\b", said)}
    assert lacking <= WITHOUT_EXAMPLE.keys()


def test_no_reason_is_left_over():
    assert WITHOUT_EXAMPLE.keys() <= {name for shown in PAGES.values() for name in shown}


@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_in_the_table_of_contents(page):
    contents = (REFERENCE / "index.md").read_text(encoding="utf-8").splitlines()
    assert page == "index" or page in contents


@pytest.mark.parametrize(("name", "value"), [case for shown in PAGES.values() for case in shown.items()])
def test_what_is_shown_says_what_it_does(name, value):
    if inspect.isclass(value) or inspect.isfunction(value) or inspect.ismodule(value):
        assert inspect.getdoc(value).splitlines()[0].endswith((".", ":")), name


def test_the_glossary_has_the_eight_dimension_words():
    glossary = (REFERENCE / "glossary.md").read_text(encoding="utf-8")
    for word in ["batch", "group", "attribute", "channel", "height", "width", "color", "reduced"]:
        assert f"\n{word}\n  " in glossary


def test_the_table_of_data_names_everything_that_is_imported_from_there():
    table = (REFERENCE / "data.md").read_text(encoding="utf-8")
    assert all(name in table for name in mtattn.data.__all__ if not name.startswith("CELEBA_"))
