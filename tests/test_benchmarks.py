"""The benchmarks run, and the page on speed says what the committed results say."""

import gc
import importlib
import json
import runpy
import subprocess
import sys
import weakref
from argparse import Namespace
from pathlib import Path
from unittest.mock import MagicMock

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
    command += ["--stages", "bench", "tests"]  # a process of some seconds each; the checks run below, in this one
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("passed") == 2
    assert json.loads((tmp_path / "out/results.json").read_text())["heads"]["rows"]


@pytest.mark.recipe
def test_each_check_for_gpus_passes_its_dry_run_on_a_cpu(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    for name in gpu.CHECKS:
        monkeypatch.setattr(sys, "argv", ["gpu.py", "--check", name, "--device", "cpu"])
        gpu.main()
    said = capsys.readouterr().out
    assert said.count("relative error") == 3
    assert "three steps" in said


def test_a_stage_that_fails_or_hangs_ends_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    options = Namespace(device="cpu", output=tmp_path)
    assert not gpu.passed(gpu.Stage("fails", [sys.executable, "-c", "raise SystemExit(3)"], 60), options)
    assert not gpu.passed(gpu.Stage("hangs", [sys.executable, "-c", "import time; time.sleep(60)"], 0.05), options)
    said = capsys.readouterr().out
    assert "failed with 3, see fails.txt" in said
    assert "ended after 1.0 s, see hangs.txt" in said


def test_a_benchmark_that_fails_keeps_the_rows_measured_before(bench, tmp_path, monkeypatch):
    bench_heads = importlib.import_module("bench_heads")

    def fails_in_its_second_row(bench):
        for call in (lambda: None, lambda: 1 / 0):
            bench.compare("heads", {"ours": call}, sizes={})

    monkeypatch.setattr(bench_heads, "run", fails_in_its_second_row)
    file = tmp_path / "results.json"
    monkeypatch.setattr(sys, "argv", ["run.py", "heads", "--device", "cpu", "--blocks", "1", "--output", str(file)])
    with pytest.raises(ZeroDivisionError):
        runpy.run_path(str(BENCHMARKS / "run.py"), run_name="__main__")
    assert len(json.loads(file.read_text(encoding="utf-8"))["heads"]["rows"]) == 1


def test_a_replayed_graph_keeps_alive_what_it_works_on(bench, monkeypatch):
    common = importlib.import_module("common")
    for name in ("Stream", "stream", "current_stream", "CUDAGraph", "graph"):  # no GPU is needed to see who holds whom
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    optimizer = torch.optim.SGD([torch.ones(1)])
    state, replay = weakref.ref(optimizer), common._graphed(optimizer.zero_grad)
    del optimizer
    gc.collect()
    assert state() is not None, "the graph writes into memory that was freed"
    del replay
    gc.collect()
    assert state() is None


def test_only_the_stages_asked_for_run(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    options = Namespace(device="cuda", output=tmp_path, stages=["tests", "bench w"])
    assert [stage.name for stage in gpu.stages(options)] == ["bench wsgsa", "tests"]


def row(variant, ms, other, *, batch=1, floor=1.0):
    ours = {"ms": {"median": ms}, "ratio": {"median": 1, "low": 1, "high": 1}, "peak_bytes": 2**20, "kernels": 7}
    theirs = {"ms": {"median": 9}, "ratio": {"median": other, "low": other, "high": other}, "peak_bytes": 0}
    floor = {"ms": floor, "distance": ms / floor}
    contenders = {"ours": ours} | ({"theirs": theirs} if other else {})
    return {"what": "step", "sizes": {"batch": batch}, "variant": variant, "contenders": contenders, "floor": floor}


def test_a_gpus_sentences_are_of_the_fastest_way_to_run_each_case(page):
    rows = [
        row("float32", 3.0, 2),
        row("bf16", 1.0, 3),
        row("compiled", 0.5, None),
        row("float32", 0.2, 4, batch=2),
        row("bf16", 0.5, 5, batch=2),
    ]
    told = page.told({"machine": {"kind": "cuda", "device": "NVIDIA H100 80GB"}, "rows": rows})
    assert [one["on"] for one in told] == ["H100, bf16", "H100, float32"]


def test_a_gpus_table_has_a_line_for_each_way_to_run(page):
    *_, head, _, first, second, third, end = page.gpu_table(
        [row("float32", 3.0, 2), row("bf16", 1.0, None), row("bf16, CUDA graph", 0.5, 4, floor=page.LEAST_FLOOR / 2)]
    )
    assert head == "| run as | ours, ms | its kernels | times its floor | peak memory, MiB | theirs, times |"
    assert first == "| float32 | 3.000 | 7 | 3.0 | 1.0 | 2.00 (2.00 to 2.00) |"
    assert second == "| bf16 | 1.000 | 7 | 1.0 | 1.0 |  |"  # theirs was not run so
    assert third == "| bf16, CUDA graph | 0.500 | 7 |  |  | 4.00 (4.00 to 4.00) |"  # a small floor, memory of the graph
    assert not end


def test_an_unknown_benchmark_is_refused_with_those_there_are(bench, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "heds"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(BENCHMARKS / "run.py"), run_name="__main__")
    assert "no benchmark heds; there are wsgsa, cgff" in capsys.readouterr().err
