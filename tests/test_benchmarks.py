"""The benchmarks run, and the page on speed says what the committed results say."""

import importlib
import json
import runpy
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.outside

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def page(monkeypatch):
    pytest.importorskip("matplotlib", reason="figures need the extra recipes")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import page

    return page


@pytest.fixture
def bench(monkeypatch):
    pytest.importorskip("timm", reason="the extra recipes is not installed")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("common").Bench("cpu", threads=torch.get_num_threads(), blocks=1, seed=0)


def test_the_page_on_speed_is_what_its_program_writes_from_the_results(page):
    files = sorted((BENCHMARKS / "results").glob("*--*.json"))
    results = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
    assert page.PAGE.read_text(encoding="utf-8") == page.page(results)


@pytest.mark.recipe
def test_one_command_measures_and_keeps_what_it_measured_before(bench, tmp_path, monkeypatch):
    file, before = tmp_path / "results.json", {"heads": {"rows": ["measured before"]}}
    file.write_text(json.dumps(before), encoding="utf-8")
    command = ["run.py", "kinds", "--device", "cpu", "--threads", str(torch.get_num_threads()), "--blocks", "1"]
    monkeypatch.setattr(sys, "argv", [*command, "--output", str(file)])
    runpy.run_path(str(BENCHMARKS / "run.py"), run_name="__main__")
    results = json.loads(file.read_text(encoding="utf-8"))
    assert set(results) == {"heads", "kinds"}
    assert results["heads"] == before["heads"]
    assert results["kinds"]["machine"]["kind"] == "cpu"
    ours, other = results["kinds"]["rows"][0]["contenders"].values()
    assert ours["ratio"] == {"median": 1, "low": 1, "high": 1}
    assert all(contender["ms"]["median"] > 0 and contender["peak_bytes"] > 0 for contender in (ours, other))


def test_the_parts_of_other_systems_compute_what_their_loops_compute(bench):
    bench_systems = importlib.import_module("bench_systems")
    bench_systems.compare_maximum(bench, 2, 32, 3, 2)
    bench_systems.compare_masks(bench, 2, 4, 3, 2, 6)
    bench_systems.compare_centers(bench, 3, 4, 5)
    assert [len(row.contenders) for row in bench.rows] == [3, 2, 3]
    assert all(row.facts["largest_difference"] < 1e-5 for row in bench.rows)


@pytest.mark.recipe
def test_the_program_for_gpus_passes_its_dry_run_on_a_cpu(tmp_path):
    command = [sys.executable, BENCHMARKS / "gpu.py", "--output", tmp_path / "out", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("passed") == 5
    assert json.loads((tmp_path / "out/results.json").read_text())["heads"]["rows"]


def test_a_stage_that_fails_or_hangs_ends_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    options = Namespace(device="cpu", output=tmp_path)
    assert not gpu.passed(gpu.Stage("fails", [sys.executable, "-c", "raise SystemExit(3)"], 60), options)
    assert not gpu.passed(gpu.Stage("hangs", [sys.executable, "-c", "import time; time.sleep(60)"], 0.05), options)
    said = capsys.readouterr().out
    assert "failed with 3, see fails.txt" in said
    assert "ended after 1.0 s, see hangs.txt" in said


def test_an_unknown_benchmark_is_refused_with_those_there_are(bench, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "heds"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(BENCHMARKS / "run.py"), run_name="__main__")
    assert "no benchmark heds; there are wsgsa, cgff" in capsys.readouterr().err
