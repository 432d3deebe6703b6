"""The gallery: its scripts run in the documentation's build; here is what the build does not check."""

import ast
import runpy
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.outside

DOCS = Path(__file__).parents[1] / "docs"
SCRIPTS = sorted((DOCS / "gallery").glob("*.py"))

script = pytest.mark.parametrize("script", SCRIPTS, ids=[path.stem for path in SCRIPTS])


def test_there_are_at_least_eight_pages_and_sphinx_gallery_runs_each_of_them():
    assert len(SCRIPTS) >= 8
    assert all(path.name.startswith("plot_") for path in SCRIPTS)  # sphinx-gallery shows others without running them


def test_an_error_in_a_script_fails_the_build(monkeypatch):
    pytest.importorskip("sphinx_gallery", reason="sphinx-gallery comes with the extra docs")
    monkeypatch.syspath_prepend(DOCS)  # so that conf.py's own entry in sys.path is taken back
    settings = runpy.run_path(str(DOCS / "conf.py"))["sphinx_gallery_conf"]
    assert not {"only_warn_on_example_error", "expected_failing_examples", "filename_pattern"} & set(settings)


@script
def test_a_page_opens_with_a_claim_or_question_and_a_paragraph(script):
    title, underline, empty, *paragraph = (ast.get_docstring(ast.parse(script.read_text())) or "").splitlines()
    assert len(title.split()) >= 4
    assert title.endswith("?") or title[-1].isalpha()
    assert underline == "=" * len(title)
    assert not empty
    assert len(" ".join(paragraph).split()) >= 20


@script
def test_a_page_has_one_figure_with_an_alternative_text(script):
    calls = [node for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.Call)]
    labels = [call.args[0] for call in calls if getattr(call.func, "attr", "") == "set_label"]
    (label,) = [ast.literal_eval(label) for label in labels]
    assert len(label.split()) >= 15


def test_a_figure_without_alternative_text_is_refused(monkeypatch):
    pytest.importorskip("sphinx_gallery", reason="sphinx-gallery comes with the extra docs")
    monkeypatch.syspath_prepend(DOCS)
    import matplotlib as mpl

    mpl.use("Agg")
    import gallery_figures
    from matplotlib import pyplot as plt

    plt.figure()
    with pytest.raises(ValueError, match=r"a figure of plot_x\.py has no alternative text; call set_label"):
        gallery_figures.scrape(("code", "", 1), {"src_file": "plot_x.py"}, {})
    plt.close("all")


def test_training_briefly_is_the_same_every_time_and_tells_each_epochs_weights(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    from trained import GROUPS, new_model, train_briefly

    from mtattn import DWSLoss

    images, targets = torch.rand(128, 3, 16, 16), torch.randint(2, (128, len(GROUPS.attributes))).float()

    def weights():
        history = train_briefly(new_model(), DWSLoss(GROUPS), images, targets, epochs=3)
        return torch.stack([epoch["weights"] for epoch in history])

    torch.testing.assert_close(weights(), weights(), rtol=0, atol=0)
    torch.testing.assert_close(weights()[:2], torch.ones(2, len(GROUPS)))  # one whole epoch has to be known
    assert not torch.equal(weights()[2], torch.ones(len(GROUPS)))
