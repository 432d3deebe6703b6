"""The table of capabilities: the page shows what the script found, and ours still can what it says."""

import importlib
import json
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.outside

ROOT = Path(__file__).parents[1]
RESULTS = json.loads((ROOT / "benchmarks/results/capabilities.json").read_text(encoding="utf-8"))
TRIALS = ("resume exact", "ranks agree", "labels may be missing", "compile", "export", "AMP")


def test_the_page_shows_what_the_script_found():
    page = (ROOT / "docs/explanation/capabilities-table.md").read_text(encoding="utf-8")
    assert tuple(RESULTS["cells"]) == TRIALS
    for trial, cells in RESULTS["cells"].items():
        assert f"| {trial} | {' | '.join(cell['answer'] for cell in cells.values())} |" in page
        for name, cell in cells.items():
            assert cell["answer"] in {"yes", "no"}
            assert f"| {trial} | {name} | {cell['answer']} | {cell['reason']} |" in page
    for package, number in RESULTS["versions"].items():
        assert f"{package} {number}" in page


@pytest.mark.compile
@pytest.mark.parametrize("trial", TRIALS)
def test_ours_can_still_do_it(trial, monkeypatch):
    for package in ("torchjd", "gradnorm_pytorch"):
        pytest.importorskip(package)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    capabilities = importlib.import_module("capabilities")
    ours = capabilities.SUBJECTS["DWSLoss"]
    assert capabilities.tried(capabilities.TRIALS[trial], ours)["answer"] == "yes"
    assert RESULTS["cells"][trial]["DWSLoss"]["answer"] == "yes"
    sys.modules.pop("capabilities")
