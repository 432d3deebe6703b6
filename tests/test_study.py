"""The study: its heads, its file of runs, its statistics, and that page and README say what the rows say."""

import importlib
import itertools
import json
import math
import re
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.outside

PROJECT = Path(__file__).parent.parent
STUDY = PROJECT / "benchmarks" / "study"


@pytest.fixture
def study(monkeypatch):
    """Import a file of the study as its programs do; other folders have files of the same names."""
    monkeypatch.syspath_prepend(str(STUDY))
    names = {path.stem for path in STUDY.glob("*.py")}
    others = {name: sys.modules.pop(name) for name in names & set(sys.modules)}
    yield importlib.import_module
    for name in names & set(sys.modules):
        del sys.modules[name]
    sys.modules.update(others)


class TestDifferences:
    def test_a_constant_gain_is_more_and_its_mirror_is_less(self, study):
        compare = study("compare")
        rng = np.random.default_rng(0)
        theirs = dict(enumerate(rng.normal(0, 0.1, 10)))
        ours = {seed: value + 1 + rng.normal(0, 0.01) for seed, value in theirs.items()}
        (up, down) = compare.holm([compare.paired(ours, theirs), compare.paired(theirs, ours)])
        assert (up.words, down.words) == ("more", "less")
        assert up.low < up.mean < up.high
        assert abs(up.mean - 1) < 0.02

    def test_noise_is_no_difference(self, study):
        compare = study("compare")
        rng = np.random.default_rng(1)
        pairs = [[dict(enumerate(rng.normal(0, 1, 10))) for _ in range(2)] for _ in range(20)]
        assert {d.words for d in compare.holm([compare.paired(*pair) for pair in pairs])} == {"no difference"}

    @pytest.mark.parametrize(("t", "freedom", "p"), [(2.262, 9, 0.05), (4.781, 9, 0.001), (2.776, 4, 0.05)])
    def test_the_tails_of_students_t_are_those_of_the_tables(self, study, t, freedom, p):
        assert abs(study("compare").t_tails(t, freedom) - p) < 1e-4 + 0.01 * p

    def test_holm_multiplies_the_smallest_by_all_and_never_falls(self, study):
        compare = study("compare")
        raw = [compare.Difference(1, 0.5, 1.5, p) for p in (0.03, 0.01, 0.02)]
        assert [round(d.corrected, 6) for d in compare.holm(raw)] == [0.04, 0.03, 0.04]

    def test_only_seeds_that_both_have_are_compared(self, study):
        difference = study("compare").paired({0: 1.0, 1: 2.0, 2: 9.0}, {0: 0.0, 1: 1.0})
        assert (difference.mean, difference.low, difference.high) == (1.0, 1.0, 1.0)


class TestRuns:
    def test_a_line_that_a_kill_cut_short_is_dropped_and_the_rest_is_kept(self, study, tmp_path):
        run = study("run")
        path = tmp_path / "runs.jsonl"
        record = {"row": "linear", "seed": 0, "split": "test", "learning_rate": 0.1, "weight_decay": 0.0, "epochs": 1}
        path.write_text(json.dumps(record) + "\n" + '{"row": "wsg')
        runs = run.Runs(path)
        assert runs.done == [record]
        settings = run.Settings(0.1, 0.0, 1)
        jobs = [run.Job(None, "linear", seed, settings, "test") for seed in (0, 1)]
        assert [runs.lacks(job) for job in jobs] == [False, True]
        runs.add(record | {"seed": 1})
        assert len(run.Runs(path).done) == 2

    def test_reading_what_is_not_there_writes_nothing(self, study, tmp_path):
        runs = study("run").Runs(tmp_path / "results" / "runs.jsonl")
        assert list(tmp_path.iterdir()) == []
        runs.add({"row": "linear"})
        assert (tmp_path / "results" / "runs.jsonl").read_text() == '{"row": "linear"}\n'

    def test_with_all_results_there_it_says_at_once_that_nothing_is_to_do(self, study, monkeypatch, capsys):
        run = study("run")
        monkeypatch.setattr(run, "load", None)  # it would take minutes
        run.main(["lfwa", "--root", "nowhere", "--weights", "nowhere.pth"])
        assert "nothing to do: all " in capsys.readouterr().out

    def test_the_best_settings_of_the_first_seed_are_decided_by_more(self, study, tmp_path):
        run, rows = study("run"), study("rows")
        row, runs = rows.BY_NAME["linear"], run.Runs(tmp_path / "runs.jsonl")
        scores = {0.002: (0.5, 0.9, 0.9), 0.006: (0.9, 0.6, 0.6), 0.018: (0.8, 0.8, 0.8), 0.054: (0.1,), 0.162: (0.2,)}
        scores |= {0.0006: (0.0,), 0.486: (0.0,)}

        def tried(jobs, score):
            for job in jobs:
                assert runs.lacks(job)
                record = {"row": job.row, "seed": job.seed, "split": job.split, "accuracy": score(job)}
                chosen = asdict(job.settings)
                runs.add(record | chosen | {"balanced_accuracy": 0.0})

        def score(job):
            return scores[job.settings.learning_rate][rows.SEARCH_SEEDS.index(job.seed)]

        tried(run.search(None, [row]), score)
        tried(run.search_decay(None, [row], runs), lambda _: 0.0)
        tried(run.search_again(None, [row], runs), score)
        assert runs.best("linear") == (0.018, 0.01)
        stages = run.search_decay(None, [row], runs) + run.search_again(None, [row], runs)
        assert not any(map(runs.lacks, stages))  # going on begins nothing new


class TestTraining:
    def features(self, study, num_images=256):
        """Draw maps in which one position tells each attribute."""
        from mtattn.data import CELEBA_ATTRIBUTES

        rng = np.random.default_rng(0)
        inputs, labels = {}, {}
        for split in ("train", "valid", "test"):
            truth = rng.integers(0, 2, (num_images, 40))
            maps = rng.normal(0, 0.1, (num_images, 2 if split == "train" else 1, 64, 2, 2))
            maps[:, :, :40, 0, 0] += truth[:, None]
            inputs[split], labels[split] = maps.astype(np.float16), truth.astype(np.float16)
        return study("features").Features(tuple(CELEBA_ATTRIBUTES), inputs, labels)

    @pytest.mark.parametrize("name", ["linear", "faramtn", "groups-random"])
    def test_a_run_learns(self, study, name):
        training, rows = study("training"), study("rows")
        settings = training.Settings(0.02, 0.01, 24)
        run = training.run(rows.BY_NAME[name], self.features(study), 0, settings, split="test")
        assert run["accuracy"] > 0.7
        assert 0 < run["spread"] < 1

    @pytest.mark.parametrize("name", ["linear", "faramtn", "groups-random"])
    def test_a_run_is_the_same_again(self, study, name):
        training, rows = study("training"), study("rows")
        features, settings = self.features(study, 64), training.Settings(0.02, 0.01, 2)
        first, second = (training.run(rows.BY_NAME[name], features, 0, settings, split="test") for _ in range(2))
        assert first == second

    def test_a_trunk_is_trained_too_where_there_is_one(self, study):
        training, rows = study("training"), study("rows")
        trunk = torch.nn.Conv2d(64, 32, 1)
        before = trunk.weight.clone()
        settings = training.Settings(0.02, 0.01, 1)
        run = training.run(rows.BY_NAME["faramtn"], self.features(study), 0, settings, split="test", trunk=trunk)
        assert not torch.equal(trunk.weight, before)
        assert run["parameters"] < 300_000  # the head's alone

    @pytest.mark.parametrize(
        ("plan", "start"), [("TUNED", ["--weights", "their.pth"]), ("FROM_SCRATCH", ["--from-scratch"])]
    )
    def test_with_its_trunk_each_row_ends_at_the_rate_that_was_best_in_its_search(
        self, study, monkeypatch, tmp_path, plan, start
    ):
        finetune, features = study("finetune"), self.features(study, 64)
        plan = getattr(study("rows"), plan)
        monkeypatch.setattr(finetune, "load", lambda _: features)
        monkeypatch.setattr(finetune, "Trunk", lambda *_, **__: torch.nn.Conv2d(64, 32, 1))
        threads = str(torch.get_num_threads())
        results = tmp_path / "runs.jsonl"
        command = ["--root", ".", *start, "--seeds", "2", "--threads", threads, "--results", str(results)]
        finetune.main(command)
        finetune.main(command)  # nothing is left to do
        runs = [json.loads(line) for line in results.read_text().splitlines()]
        tries = len(plan.learning_rates)
        assert len(runs) == len(plan.rows) * (tries + 2)
        for name in plan.rows:
            own = [run for run in runs if run["row"] == name]
            searched, finals = own[:tries], own[tries:]
            best = max(searched, key=lambda run: run["accuracy"] + run["balanced_accuracy"])["learning_rate"]
            assert [(run["seed"], run["learning_rate"]) for run in finals] == [(0, best), (1, best)]
            for run in own:
                expected = plan.trunk_rate or run["learning_rate"]
                assert math.isclose(run["learning_rate"] * run["trunk_factor"], expected)

    def test_each_head_climbs_a_step_with_the_settings_that_its_search_found(self, study, monkeypatch, tmp_path):
        ladder, page, trained = study("ladder"), study("ladder_page"), []
        peaks, scores = {"linear": 0.162, "faramtn": 0.006}, ("accuracy", "balanced_accuracy", "average_precision")

        def run(row, _, seed, settings, *, split, device):
            head = row.name.split(", ")[1]
            rate = peaks[head] / (1 if settings.epochs == 1 else 3)  # more epochs want a lower rate
            score = 0.8 + settings.epochs / 100 - 0.01 * abs(math.log(settings.learning_rate / rate)) + seed / 1e6
            found = dict.fromkeys(scores, score)
            trained.append((row.name, seed, split))
            record = {"row": row.name, "seed": seed, "split": split, **asdict(settings), **found}
            return record | {"mirrored": dict.fromkeys(scores, score + 0.001)}

        steps = (
            ladder.Step("wide", "wider", width=32, epochs=(1,)),
            ladder.Step("long", "longer", width=32, epochs=(1, 2)),
        )
        monkeypatch.setattr(ladder, "STEPS", steps)
        monkeypatch.setattr(ladder, "load", lambda _: None)
        monkeypatch.setattr(ladder, "run", run)
        results = tmp_path / "runs.jsonl"
        for _ in range(2):  # the second time nothing is left to do
            ladder.main(["--root", ".", "--seeds", "2", "--results", str(results)])
        runs = [json.loads(line) for line in results.read_text().splitlines()]
        assert len(trained) == 5 + 4 + 2 * 2 + 2 * (2 + 2)  # what is the same under another step is not done again
        rates = {"linear": [0.006, 0.018, 0.054, 0.162, 0.486], "faramtn": [0.006, 0.018, 0.054, 0.002]}
        for head, peak in peaks.items():
            own = [run for run in runs if run["row"] == f"long, {head}"]
            searched, finals = (
                [(r["learning_rate"], r["epochs"]) for r in own if r["split"] == s] for s in ("valid", "test")
            )
            assert searched == [*((rate, 1) for rate in rates[head]), (peak, 2), (peak / 3, 2)]
            assert finals == [(peak / 3, 2)] * 2
        monkeypatch.setattr(page, "STEPS", steps)
        assert page.best_step(runs).name == "long"
        lines = list(page.ladder(runs))
        (line,) = [line for line in lines if line.startswith("| longer |")]
        assert line.split("|")[2].split(" / ")[0].strip() == line.split("|")[3].split(" / ")[0].strip() == "82.00"
        assert any(line.startswith("- accuracy: +0.00") for line in lines)
        short = list(page.in_short(runs, study("results").Results.of([])))
        assert short[0] == "- **FARAMTN against one linear layer** in [the best step of a frozen trunk](#step-by-step):"
        assert short[1].startswith("  accuracy +0.00 (+0.00 to +0.00), no difference; balanced accuracy +0.00 ")
        assert sum("+0.10 points of accuracy (+0.10 to +0.10)" in line for line in lines) == 1
        assert [line.split("|")[2].strip() for line in page.best_of_ladder(runs)] == ["82.00", "82.00"]

    def test_a_run_is_scored_with_mirror_images_where_there_are_some(self, study):
        training, features, rows = study("training"), self.features(study, 64), study("rows")
        features.inputs["test"] = np.concatenate([features.inputs["test"], features.inputs["test"][..., ::-1]], 1)
        for name in ("linear", "faramtn"):
            run = training.run(rows.BY_NAME[name], features, 0, training.Settings(0.02, 0.01, 2), split="test")
            asks_where = name != "linear"  # a mean over positions is the same in a mirror
            assert (run["mirrored"]["loss"] != pytest.approx(run["loss"], rel=1e-6)) == asks_where

    def test_the_recipe_and_one_linear_layer_get_the_same_options_and_are_run_once(self, study, monkeypatch, tmp_path):
        trained, commands = study("trained"), []

        def write_metrics(command, **_):
            commands.append(command)
            output = Path(command[-1])
            output.mkdir(parents=True)
            scores = dict.fromkeys(trained.SCORES.values(), 0.5 + len(commands) / 100)
            (output / "metrics.json").write_text(json.dumps({"test": scores, "valid": scores}))

        monkeypatch.setattr(trained.subprocess, "run", write_metrics)
        results = tmp_path / "runs.jsonl"
        for _ in range(2):  # the second time nothing is left to do
            places = ["--output", str(tmp_path / "runs"), "--results", str(results)]
            trained.main(["--root", "faces", "--weights", "w.pth", "--seeds", "2", "--steps", "crop", "long", *places])
        runs = [json.loads(line) for line in results.read_text().splitlines()]
        heads = ("linear", "faramtn")
        assert [(r["row"], r["seed"]) for r in runs] == [
            (f"{step}, {head}", seed) for seed in (0, 1) for step in ("crop", "long") for head in heads
        ]
        assert [run["accuracy"] for run in runs] == [0.5 + number / 100 for number in range(1, 9)]
        for linear, ours in zip(commands[::2], commands[1::2], strict=True):
            assert [Path(command[1]).name for command in (linear, ours)] == ["linear_head.py", "lfwa.py"]
            assert linear[4:-1] == ours[4:-1]
            assert ours[3:6] == ["faces", "--backbone", "tf_efficientnet_lite0"]
        (line,) = [
            line for line in study("ladder_page").trained(study("results").Results.read(results)) if "30" in line
        ]
        assert [cell.strip() for cell in line.split("|")[2:4]] == ["55.00 / 55.00 / 55.00", "56.00 / 56.00 / 56.00"]
        short = list(study("ladder_page").in_short([], study("results").Results.read(results)))
        assert short[0].endswith(", and 30 epochs:")  # the step that was best on validation
        assert short[1].startswith("  accuracy +1.00 (+1.00 to +1.00), more; balanced accuracy +1.00 ")
        linear, ours = study("ladder_page").best_of_trained(study("results").Results.read(results))
        assert linear.startswith("| one linear layer, 2 seeds | 55.00 | as `examples/lfwa.py --image-size 128 ")
        assert ours.startswith("| FARAMTN, 2 seeds | 56.00 | as `examples/lfwa.py --image-size 128 ")
        assert ours.endswith(" --augment strong --epochs 30` trains, from ImageNet weights |")  # best on validation
        assert not list(study("ladder_page").best_of_trained(study("results").Results.of([])))

    def test_runs_that_teach_come_before_those_that_they_teach(self, study, monkeypatch, tmp_path):
        trained, commands = study("trained"), []
        monkeypatch.setattr(
            trained, "train", lambda *told: commands.append(trained.command(*told[:2], told[2].seed, told[3])) or {}
        )
        monkeypatch.setattr(trained.Runs, "add", lambda *_: None)
        places = ["--root", "faces", "--output", "runs", "--results", str(tmp_path / "none.jsonl")]
        trained.main([*places, "--seeds", "2", "--steps", "own-96-taught", "own-96"])
        assert ["--teachers" in command for command in commands] == [False] * 4 + [True] * 4
        for command in commands[4:]:
            first = command.index("--teachers") + 1
            assert [Path(name).as_posix() for name in command[first : first + 3]] == [
                "runs/own-96-faramtn-0",
                "runs/own-96-faramtn-1",
                "--epochs",
            ]

    def test_a_step_without_one_linear_layer_is_told_below_the_table_and_names_its_teachers(self, study):
        scores = {"accuracy": 0.86, "balanced_accuracy": 0.8, "average_precision": 0.83}
        runs = [
            {"row": f"{step}, faramtn", "seed": seed, "split": "test", "epochs": 20, **scores, "valid": scores}
            for step in ("fine-160", "fine-160-taught")
            for seed in (0, 1)
        ]
        runs += [{**run, "row": "fine-160, linear"} for run in runs[:2]]
        for run in runs[2:4]:
            run["valid"] = {**scores, "accuracy": 0.87}
        results, page = study("results").Results.of(runs), study("ladder_page")
        lines = list(page.trained(results))
        title = next(step.title for step in study("trained").STEPS if step.name == "fine-160-taught")
        assert [line for line in lines if line.startswith("FARAMTN alone")] == [
            f"FARAMTN alone, 2 seeds, *{title}*: 86.00 / 80.00 / 83.00."
        ]
        (line,) = page.best_of_trained(results)
        assert line.endswith("--epochs 20` trains, from ImageNet weights, with the runs of the same as teachers |")

    def test_thresholds_are_measured_once_a_seed_and_help_on_the_page(self, study, monkeypatch, tmp_path):
        thresholds, features = study("thresholds"), self.features(study)
        monkeypatch.setattr(thresholds, "load", lambda *_: features)
        results = tmp_path / "runs.jsonl"
        for _ in range(2):  # the second time nothing is left to do
            thresholds.main(["lfwa", "--root", ".", "--seeds", "2", "--results", str(results)])
        runs = [json.loads(line) for line in results.read_text().splitlines()]
        assert [run["seed"] for run in runs] == [0, 1]
        text = study("thresholds_page").with_section("".join(study("thresholds_page").MARKS), runs)
        before = [run["goals"]["f1"]["before"]["f1"] for run in runs]
        assert f"| LFWA | one half | {100 * np.mean(before):.2f} |" in text

    def test_a_share_of_the_pictures_is_chosen_without_the_test_part(self, study, monkeypatch, tmp_path):
        crops, features, sources = study("crops"), self.features(study), []
        del features.inputs["test"], features.labels["test"]
        monkeypatch.setattr(crops, "load", lambda source: sources.append(source) or features)
        monkeypatch.setattr(crops, "CROPS", {"lfwa": (1.0, 0.6)})
        monkeypatch.setattr(crops, "SEEDS", 2)
        monkeypatch.setattr(crops, "EPOCHS", 1)
        results = tmp_path / "runs.jsonl"
        for _ in range(2):  # the second time nothing is left to do
            crops.main(["lfwa", "--root", ".", "--results", str(results)])
        runs = [json.loads(line) for line in results.read_text().splitlines()]
        rows = [f"lfwa, {share}, {head}" for share in ("1", "0.6") for head in ("linear", "faramtn")]
        assert [(run["row"], run["seed"]) for run in runs] == [(row, seed) for seed in (0, 1) for row in rows]
        assert {run["split"] for run in runs} == {"valid"}
        assert {(source.crop, source.splits) for source in sources} == {
            (share, ("train", "valid")) for share in (1.0, 0.6)
        }
        page = study("ladder_page")
        monkeypatch.setattr(page, "CROPS", crops.CROPS)
        told = [line.split("|") for line in page.crops(runs) if line.startswith("| LFWA |")]
        means = [np.mean([run["accuracy"] for run in runs if run["row"] == row]) for row in rows]
        assert [cell.split(" / ")[0].strip() for line in told for cell in line[3:5]] == [
            f"{100 * m:.2f}" for m in means
        ]

    @pytest.mark.parametrize(
        "name",
        ["content", "uniform", "pairs", "both", "centred", "centred both", "normalized", "others", "mean", "low rank"],
    )
    def test_each_form_of_exchange_is_the_identity_when_new_and_pools_exactly(self, study, name):
        build = study("exchange").EXCHANGES
        assert name in build
        form = build[name](8, 3, num_heads=2, key_channels=4, norm=False).double()
        grouped = torch.randn(2, 3, 8, 4, 5, dtype=torch.float64)
        assert torch.equal(form(grouped), grouped)
        for parameter in form.parameters():
            torch.nn.init.normal_(parameter)
        assert not torch.allclose(form(grouped), grouped)
        torch.testing.assert_close(form(grouped).mean((3, 4)), form(grouped.mean((3, 4))))

    def test_positions_by_place_do_not_see_the_image(self, study):
        looking = study("exchange").ByPlace(16, 3, spatial=True, coordinates=2, num_heads=2)
        torch.nn.init.normal_(looking.place_weight, std=0.1)
        first, second = looking.positions(torch.randn(2, 16, 4, 4))
        torch.testing.assert_close(first, second)
        assert (first.std((1, 2)) > 0.1).all()

    def test_forms_of_the_parts_are_compared_and_none_is_trained_twice(self, study, tmp_path, monkeypatch):
        pytest.importorskip("torchjd", reason="the study needs the extra bench")
        pytest.importorskip("scipy", reason="the study needs the extra bench")
        parts, page = study("parts"), study("parts_page")
        monkeypatch.setattr(parts, "load", lambda _: self.features(study, 64))
        monkeypatch.setattr(parts, "EPOCHS", 1)
        results, forms = tmp_path / "runs.jsonl", ["faramtn", "pairs", "fixed-gates", "no-exchange"]
        for _ in range(2):  # the second time nothing is left to do
            common = ["--root", ".", "--results", str(results), "--seeds", "2", "--forms", *forms]
            parts.main(["lfwa", *common])
            parts.main(["lfwa", *common, "--final"])
        runs = [json.loads(line) for line in results.read_text().splitlines()]
        assert [(r["split"], r["seed"], r["row"]) for r in runs] == [
            (split, seed, f"lfwa, {form}") for split in ("valid", "test") for seed in (0, 1) for form in forms
        ]
        assert [run["differing"] is None for run in runs] == 4 * [False, False, False, True]
        lines = [line for line in page.forms(runs) if line.startswith("| ")]
        assert len(lines) == 2 * (2 + 4)
        assert page.FORMS["pairs"][1] in lines[4]
        means = [
            np.mean([r["accuracy"] for r in runs if r["row"] == f"lfwa, {f}" and r["split"] == "test"]) for f in forms
        ]
        told = [line.split("|")[3].split(" / ")[0].strip() for line in lines[2:6]]
        assert sorted(told) == sorted(f"{100 * mean:.2f}" for mean in means)

    def test_systems_have_one_search_and_the_page_says_what_they_scored(self, study, tmp_path, monkeypatch):
        systems, page = study("systems"), study("systems_page")
        monkeypatch.setattr(systems, "load", lambda _: self.features(study, 64))
        monkeypatch.setattr(systems, "EPOCHS", (1, 2))
        monkeypatch.setattr(systems, "RATES", (0.01, 0.03))
        monkeypatch.setattr(systems, "BLOCKS", 1)
        results, rows = tmp_path / "runs.jsonl", ["faramtn", "linear", "no-exchange", "mgmtn-fixed", "swinface"]
        for _ in range(2):  # the second time nothing is left to do
            systems.main(["lfwa", "--root", ".", "--results", str(results), "--seeds", "2", "--rows", *rows])
        runs = [json.loads(line) for line in results.read_text().splitlines()]
        tried = [
            (r["learning_rate"], r["epochs"]) for r in runs if r["row"] == "lfwa, linear" and r["split"] == "valid"
        ]
        assert tried[:2] == [(0.01, 1), (0.03, 1)]
        assert tried[2][1] == 2
        final = [r for r in runs if r["split"] == "test"]
        assert [(r["seed"], r["row"]) for r in final] == [(seed, f"lfwa, {row}") for seed in (0, 1) for row in rows]
        assert all(record["multiply_adds"] > 0 for record in final)
        lines = [line for line in page.side_by_side(runs) if line.startswith("| ")]
        means = [np.mean([r["accuracy"] for r in final if r["row"] == f"lfwa, {row}"]) for row in rows]
        assert [line.split("|")[2].split(" / ")[0].strip() for line in lines[2:]] == [f"{100 * m:.2f}" for m in means]
        text = "\n".join(page.side_by_side(runs))
        assert "- *LFWA*: " in text
        assert "Not in these tables" in text
        systems.main(["lfwa", "--root", ".", "--results", str(results), "--rows", "faramtn", "linear", "--cost"])
        steps = json.loads((tmp_path / "runs-steps.json").read_text())["lfwa"]
        assert steps["faramtn"]["median"] == 1
        assert steps["linear"]["median"] > 0
        monkeypatch.setattr(page, "RESULTS", results)
        told = [line.split("|")[8].strip() for line in page.side_by_side(runs) if line.startswith("| ")][2:]
        assert told == [
            "1.00 (1.00 to 1.00)",
            "{median:.2f} ({low:.2f} to {high:.2f})".format(**steps["linear"]),
            "",
            "",
            "",
        ]

    def test_a_row_that_is_better_is_what_the_page_advises_and_it_says_what_is_lost(self, study):
        page = study("systems_page")

        def record(row, seed, score, accuracy=None):
            scores = {"accuracy": accuracy or score, "balanced_accuracy": score, "average_precision": score}
            sizes = {"parameters": 1000, "multiply_adds": 10**6, "learning_rate": 0.01, "epochs": 3}
            return {"row": f"peta, {row}", "seed": seed, "split": "test", **scores, **sizes}

        noise = [0.001, -0.001, 0.0005, -0.0002, 0.0003]
        runs = [record("faramtn", seed, 0.7 + noise[seed]) for seed in range(5)]
        runs += [record("no-exchange", seed, 0.6 - noise[seed]) for seed in range(5)]
        runs += [record("linear", seed, 0.8 - noise[seed]) for seed in range(5)]
        text = "\n".join(page.side_by_side(runs))
        assert re.search(
            r"\*one linear layer\* has the best balanced accuracy, \S+ \(.*\) more than FAR-AMTN; none", text
        )
        assert "PETA, split by person: accuracy +10.0" in text  # what CGFF gains
        assert text.count(", more;") + text.count(", more.") == 3
        runs += [record("asymmetric", seed, 0.9 - noise[seed], 0.5 + noise[seed]) for seed in range(5)]
        runs += [record("center", seed, 0.7 + noise[seed]) | {"multiply_adds": 10} for seed in range(5)]
        text = "\n".join(page.side_by_side(runs))
        assert re.search(r"asymmetric loss\* has the best .* more than FAR-AMTN, but accuracy -20.0\S* \(.*\)\. ", text)
        assert "The cheapest that is not told apart from FAR-AMTN in it is *linear, centre loss*, +0.0" in text

    def people(self, study):
        """Faces of 24 people whose first channels tell who and how old they are; files are named as LFW's are."""
        from mtattn.data import CELEBA_ATTRIBUTES

        recognition, rng, files = study("recognition"), np.random.default_rng(0), {}
        sets = {"faces": ({}, {}), "aged": ({}, {})}
        for place, split in enumerate(recognition.SPLITS):
            files[split] = [f"P{8 * place + person}/{number}.jpg" for person in range(8) for number in range(16)]
            who, years = rng.normal(size=(8, 16)).repeat(16, 0), rng.integers(0, 70, (128, 1))
            for (inputs, labels), told in zip(sets.values(), (who, years / 35 - 1), strict=True):
                maps = rng.normal(0, 0.1, (128, 1, 16, 2, 2))
                maps[:, 0, : told.shape[1]] += told[:, :, None, None]
                inputs[split] = maps.astype(np.float16)
                labels[split] = ((who @ rng.normal(size=(16, 40)) > 0) if told is who else years).astype(np.float16)
        features = study("features").Features
        faces, aged = (
            features(names, *own)
            for names, own in zip([tuple(CELEBA_ATTRIBUTES), ("years",)], sets.values(), strict=True)
        )
        return recognition.joined(faces, aged, files, recognition.made_pairs(files["test"]))

    def test_recognition_has_one_search_for_each_row(self, study, tmp_path, monkeypatch):
        recognition, data = study("recognition"), self.people(study)
        monkeypatch.setattr(recognition, "data_of", lambda _: data)
        monkeypatch.setattr(recognition, "EPOCHS", (1, 2))
        monkeypatch.setattr(recognition, "RATES", (0.01, 0.03))
        results, threads, rows = tmp_path / "runs.jsonl", str(torch.get_num_threads()), ["identity", "age"]
        options = ["--root", ".", "--fairface", ".", "--results", str(results), "--seeds", "2", "--threads", threads]
        for _ in range(2):  # the second time nothing is left to do
            recognition.main([*options, "--rows", *rows])
        runs = [json.loads(line) for line in results.read_text().splitlines()]
        final = [run for run in runs if run["split"] == "test"]
        assert [(run["seed"], run["row"]) for run in final] == [(seed, row) for seed in (0, 1) for row in rows]
        for row in rows:
            tried = [run for run in runs if run["row"] == row and run["split"] == "valid"]
            assert [(run["learning_rate"], run["epochs"]) for run in tried[:2]] == [(0.01, 1), (0.03, 1)]
            (chosen,) = {(run["learning_rate"], run["epochs"]) for run in final if run["row"] == row}
            best = max(tried, key=lambda run: run["chosen_by"])
            assert chosen == (best["learning_rate"], best["epochs"])

    def test_the_page_says_what_recognition_gains_and_only_once_all_rows_are_there(self, study):
        page, recognition = study("recognition_page"), study("recognition")
        noise, gains = [0.001, -0.001, 0.0005, -0.0005, 0.0], {"mix": 0.1, "listen": 0.2, "joined": -0.1}
        runs = []
        for place, (name, row) in enumerate(recognition.ROWS.items()):
            for seed in range(5):
                score = 0.6 + gains.get(name, 0) + noise[seed] * (place + 1)
                run = {"row": name, "seed": seed, "split": "test", "learning_rate": 0.01, "epochs": 3}
                run |= {"parameters": 1000 * len(row.tasks), "multiply_adds": 10**6}
                if "age" in row.tasks:
                    run |= {"years_off": 10 * score, "years_off_always_the_median": 12.0}
                if "attributes" in row.tasks:
                    run |= dict.fromkeys(["accuracy", "balanced_accuracy", "average_precision"], score)
                if row.tasks != ("age",):
                    run |= {"verification": score, "eer": 1 - score, "pairs": 40, "same": 30}
                runs.append(run)
        text = "\n".join(page.recognition(runs))
        assert "- *AAFACE's fusion: AttentionalFusion*: +10.00 " in text
        assert "minus AAFACE's fusion: +10.00 " in text
        assert "- who it is, accuracy: -10.00 " in text
        assert "parameters: 3 k against 3 k in three models" in text
        assert "on the 40 of LFW's pairs" in text
        assert "75.00 % of them show one person" in text
        assert "always the median: 12.00" in text
        assert "| identity alone | 60.00 | 40.00 |" in text
        assert not list(page.recognition([run for run in runs if run["row"] != "age"]))

    def test_a_joined_model_learns_each_task_from_those_who_know_it(self, study):
        recognition, data = study("recognition"), self.people(study)
        row = recognition.ROWS["joined"]
        part = data.part(row, "train")
        assert [int((~own.isnan()).any(1).sum()) for own in part.targets.values()] == [128, 128, 128]
        assert len(part.maps) == 256
        record = recognition.measure(data, "joined", 0, recognition.Settings(0.02, 0.01, 12), "test")
        assert record["years_off"] < 0.7 * record["years_off_always_the_median"]
        assert record["verification"] > 0.8

    @pytest.mark.parametrize(("name", "hears"), [("mix", True), ("listen", True), ("joined", False)])
    def test_identity_takes_in_the_attributes_where_its_fusion_says_so(self, study, name, hears):
        recognition, data = study("recognition"), self.people(study)
        torch.manual_seed(0)
        head = recognition.Head(16, data.groups, data.ages, recognition.ROWS[name]).eval()
        for parameter in head.parameters():  # a new CGFF adds nothing to what it hears
            torch.nn.init.normal_(parameter, 0, 0.1)
        maps = torch.randn(2, 16, 2, 2)
        before = head(maps)
        with torch.no_grad():
            head.wsgsa.up_bias.add_(1)  # of the attributes' gates
            if name == "mix":
                head.soft[0].weight.mul_(2)
        after = head(maps)
        assert not torch.equal(before["attributes"], after["attributes"])
        assert torch.equal(before["identity"], after["identity"]) != hears

    def test_only_pairs_of_people_who_were_not_trained_on_are_measured(self, study, tmp_path):
        recognition = study("recognition")
        for name in ("A/A_0001", "A/A_0002", "B/B_0001", "B/B_0002", "C/C_0001"):
            (tmp_path / "lfw" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / f"lfw/{name}.jpg").write_bytes(b"")
        lines = ["2\t1", "A\t1\t2", "A\t1\tC\t1", "B\t1\t2", "A\t2\tB\t2"]
        (tmp_path / "pairs.txt").write_text("\n".join(lines) + "\n")
        test = ["B/B_0001.jpg", "A/A_0001.jpg", "B/B_0002.jpg", "A/A_0002.jpg"]  # C was trained on
        pairs = recognition.lfw_pairs(tmp_path, test)
        assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [(1, 3), (0, 2), (3, 2)]
        assert pairs.same.tolist() == [True, True, False]
        assert pairs.fold.tolist() == [0, 1, 1]

    @pytest.mark.parametrize(
        "views", [[0, 1, 2, 0, 1, 0], [0, 0, 0], [0, 1, 2], []], ids=["three", "one", "no pair", "none"]
    )
    def test_the_viewpoint_loss_is_that_of_its_pairs(self, study, views):
        scores, seen = torch.randn(len(views), 3, dtype=torch.float64, requires_grad=True), torch.tensor(views)
        found = study("system_heads").view_loss(scores, seen.double())
        unit, terms = scores / scores.norm(dim=1, keepdim=True), []
        for i, j in itertools.permutations(range(len(views)), 2):
            if seen[i] == seen[j]:
                others = sum((unit[i] @ unit[n] / 0.1).exp() for n in range(len(views)) if seen[n] != seen[i])
                same = (unit[i] @ unit[j] / 0.1).exp()
                terms.append(-(same / (same + others)).log())
        expected = torch.stack(terms).mean() if terms else torch.zeros((), dtype=torch.float64)
        torch.testing.assert_close(found, expected)
        (gradient,) = torch.autograd.grad(found, scores)
        assert gradient.isfinite().all()

    @pytest.mark.parametrize("terms", [{"center": 0.5}, {"view": 1.0}, {"mask": 0.5}, {"center": 0.5, "gated": True}])
    def test_what_parformer_adds_trains_all_it_has_and_changes_no_score_by_the_viewpoint(self, study, terms):
        heads = study("system_heads")
        groups = study("grouping").default_groups(["personalMale", "hairLong", "footwearShoes"])
        torch.manual_seed(0)
        head = heads.PARFormer((17, 4), groups, **terms)
        maps = torch.randn(8, 17, 4, 2)
        maps[:, -1] = torch.tensor([0.0, 0, 1, 1, 2, 2, float("nan"), float("nan")])[:, None, None]
        heads.loss_of("weighted", head, groups, rule="equal")(head(maps), torch.ones(8, 3)).backward()
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in head.parameters())
        unknown = maps.clone()
        unknown[:, -1] = float("nan")
        assert torch.equal(head.eval()(maps), head(unknown))

    def test_true_masks_move_with_the_drawn_face(self, study):
        pytest.importorskip("resvg_py", reason="the extra recipes is not installed")
        systems = study("systems")
        y, x = (torch.tensor(0.4), torch.tensor(0.6))
        still = systems.View(scale=1, shift=(0, 0), angle=0, flip=False, occluder=None, softness=0, quality=90)
        for found, place in zip(systems.seen_by(still, y, x), (y, x), strict=True):
            torch.testing.assert_close(found, place)
        moved = systems.replace(still, shift=(0.05, 0.0))
        torch.testing.assert_close(systems.seen_by(moved, y, x)[1], x - 0.05)
        large = systems.replace(still, scale=1.1)
        torch.testing.assert_close(systems.seen_by(large, torch.tensor(0.6), x)[0], torch.tensor(0.5 + 0.1 / 1.1))

    def test_in_planted_relations_groups_see_their_own_regions_only(self, study, tmp_path, monkeypatch):
        pytest.importorskip("resvg_py", reason="the extra recipes is not installed")
        parts, training = study("parts"), study("training")
        monkeypatch.setattr(parts, "NUM_PLANTED", {"train": 128, "valid": 32, "test": 32})
        monkeypatch.setattr(parts, "PLANTED_SETTINGS", training.Settings(0.005, 0.01, 1, trunk_factor=1.0))
        results = tmp_path / "runs.jsonl"
        parts.main(["planted", "--results", str(results), "--seeds", "1", "--forms", "faramtn", "fixed-gates"])
        (run,) = [json.loads(line) for line in results.read_text().splitlines()]  # gates are fixed there anyway
        assert run["row"] == "planted, faramtn"
        head = study("heads").faramtn(
            (8, 16), parts.PlantedRelations.groups, **parts.row_of("planted", "pairs").head_options
        )
        x = torch.randn(1, 8, 16, 16)
        other = x.clone()
        other[..., :6, :] = 0  # hair
        changed = (head.wsgsa.eval().pooled(x) - head.wsgsa.pooled(other)).abs().amax((0, 2))
        assert changed[0] > 0.01
        assert (changed[1:] < 1e-4).all()

    def test_only_the_trunk_computes_in_half_precision(self, study):
        finetune, source = study("finetune"), study("features").Source
        torch.manual_seed(0)
        trunk = finetune.Trunk(source("lfwa", None, Path(), "resnet18", images=True), mixed=True).eval()
        images = torch.randint(256, (2, 3, 64, 64)).float()
        half, trunk.mixed = trunk(images), False
        full = trunk(images)
        assert half.dtype == full.dtype == torch.float32
        assert not torch.equal(half, full)
        torch.testing.assert_close(half, full, rtol=0.05, atol=0.05 * float(full.detach().std()))

    def test_the_whole_head_is_faramtn(self, study):
        pytest.importorskip("timm")
        from mtattn import FARAMTN
        from mtattn.data import CELEBA_GROUPS

        head = study("heads").faramtn((64, 2), CELEBA_GROUPS, **study("rows").BY_NAME["faramtn"].head_options)
        as_it_comes = FARAMTN(
            torch.nn.Identity(), 64, CELEBA_GROUPS, shared=study("heads").convolution(64), out_channels=256
        )
        assert str(head) == str(as_it_comes)
        assert head(torch.rand(2, 64, 2, 2)).shape == (2, 40)

    @pytest.mark.parametrize(
        "options",
        [
            {"wsgsa": "ungated"},
            {"fuse": False},
            {"norm": True},
            {"scaled": False},
            {"queries": 4},
            {"coordinates": False},
        ],
    )
    def test_variants_start_as_faramtn_starts(self, study, options):
        from mtattn.data import CELEBA_GROUPS

        heads = study("heads")
        whole, part = (
            heads.faramtn((64, 2), CELEBA_GROUPS).eval(),
            heads.faramtn((64, 2), CELEBA_GROUPS, **options).eval(),
        )
        at_zero = {"wsgsa.queries", "wsgsa.place_weight"}
        part.load_state_dict({k: v for k, v in whole.state_dict().items() if k not in at_zero}, strict=False)
        maps = torch.rand(2, 64, 2, 2)
        if "wsgsa" in options:
            whole.wsgsa.up_weight.data.zero_()  # gates of exactly one half
        torch.testing.assert_close(part(maps), whole(maps))


def test_the_spread_is_that_of_the_loss_left_when_the_first_is_nearly_done(study):
    losses = np.array([[1.0, 2.0], [0.5, 1.8], [0.05, 1.5], [0.0, 1.0]])
    assert math.isclose(study("results").spread(losses), np.std([0.05, 0.75]))


def test_the_page_and_the_readme_say_what_the_committed_rows_say(study):
    page = study("page")
    results = page.read()
    assert page.PAGE.read_text(encoding="utf-8") == page.page(results)
    readme = page.README.read_text(encoding="utf-8")
    assert readme == page.with_table(readme, results)
    imbalance = page.IMBALANCE.read_text(encoding="utf-8")
    assert imbalance == page.with_section(imbalance)


def test_every_row_of_the_study_has_the_same_seeds_and_the_same_search(study):
    rows, runs_of = study("rows"), study("finished").Runs
    for path in (STUDY / "results").glob("*.jsonl"):
        if path.stem not in {"lfwa", "celeba", "drawn-easy", "drawn-hard"}:
            continue
        records = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows.rows_of(path.stem):
            own = [record for record in records if record["row"] == row.name]
            assert sorted(r["seed"] for r in own if r["split"] == "test") == list(range(rows.SEEDS)), (
                path.stem,
                row.name,
            )
            searched = {
                seed: [
                    (r["learning_rate"], r["weight_decay"]) for r in own if r["split"] == "valid" and r["seed"] == seed
                ]
                for seed in rows.SEARCH_SEEDS
            }
            first, *others = searched.values()
            assert sorted(rate for rate, decay in first if decay == rows.WEIGHT_DECAYS[0]) == list(rows.LEARNING_RATES)
            assert len(first) == len(rows.LEARNING_RATES) + len(rows.WEIGHT_DECAYS) - 1
            runs = runs_of(path)
            for again in others:
                assert sorted(again) == sorted(runs.leading(row.name)[: rows.FINALISTS])
            chosen = {(r["learning_rate"], r["weight_decay"]) for r in own if r["split"] == "test"}
            assert chosen == {runs.best(row.name)}, (path.stem, row.name)


def test_rows_with_their_trunk_have_the_seeds_and_the_search_that_the_page_tells(study):
    rows = study("rows")
    for plan in (rows.TUNED, rows.FROM_SCRATCH):
        runs = study("finished").Runs(STUDY / "results" / f"{plan.results}.jsonl")
        for name in plan.rows:
            own = [record for record in runs.done if record["row"] == name]
            searched, finals = ([r for r in own if r["split"] == split] for split in ("valid", "test"))
            assert sorted(r["learning_rate"] for r in searched) == list(plan.learning_rates)
            assert sorted(r["seed"] for r in finals) == list(range(rows.TUNED_SEEDS))
            for record in own:
                epochs = plan.epochs if record["split"] == "test" else plan.search_epochs
                assert (record["epochs"], record["weight_decay"]) == (epochs, plan.weight_decay)
                rate = plan.trunk_rate or record["learning_rate"]
                assert math.isclose(record["learning_rate"] * record["trunk_factor"], rate)
            assert {r["learning_rate"] for r in finals} == {runs.best(name)[0]}


class TestMixedKinds:
    def maps(self, study):
        """Draw maps of two data sets, each of which labels what the other does not."""
        from mtattn import AttributeGroups, Categorical, Number

        groups = AttributeGroups(
            {"faces": ["smile"], "people": [Categorical("side", ["front", "back"]), Number("years")]}
        )
        rng = torch.Generator().manual_seed(0)
        inputs, targets = {}, {}
        for split in ("train", "valid", "test"):
            targets[split] = torch.randint(2, (256, 3), generator=rng).float()
            inputs[split] = 0.1 * torch.randn(256, 64, 3, 3, generator=rng)
            inputs[split][:, :3] += targets[split][..., None, None]
            targets[split][:, 2] = 40 + 20 * targets[split][:, 2]
            targets[split][128:, 0], targets[split][:128, 1:] = math.nan, math.nan
        parts = torch.arange(256).split(128)
        return study("mixed").Maps(groups.fitted(targets["train"]), inputs, targets, parts)

    def test_a_batch_holds_as_many_images_of_each_data_set(self, study):
        mixed = study("mixed")
        batches = mixed._batches(torch.arange(1100).split([100, 1000]))
        for _ in range(30):
            images = next(batches)
            assert [(images < 100).sum().item(), (images >= 100).sum().item()] == [64, 64]

    def test_losses_in_their_own_scale_are_those_that_people_write(self, study):
        mixed, losses = study("mixed"), study("mixed_losses")
        groups = self.maps(study).groups
        outputs, targets = torch.tensor([[0.0, 2.0, -1.0, 0.0]]), torch.tensor([[1.0, 1.0, 40.0]])
        own = losses.InOwnScale(groups).attribute_sums(outputs, targets).sums
        common = mixed.loss_of(groups, "equal", "common", seed=0).loss.attribute_sums(outputs, targets).sums
        entropy = torch.nn.functional.cross_entropy(outputs[:, 1:3], torch.tensor([1]))
        torch.testing.assert_close(own[:2], torch.stack([torch.tensor(math.log(2)), entropy]))
        spread = groups.kinds[2].std
        torch.testing.assert_close(own[2] / common[2], torch.tensor(spread / 1.632))

    def test_rates_are_chosen_on_validation_and_the_table_shows_only_the_chosen(self, study, monkeypatch, tmp_path):
        mixed, page = study("mixed"), study("mixed_page")
        maps, results = self.maps(study), tmp_path / "runs.jsonl"
        monkeypatch.setattr(mixed, "load", lambda *_: maps)
        for name, value in {"STEPS": 25, "SEEDS": 2, "RATES": (0.001, 0.03)}.items():
            monkeypatch.setattr(mixed, name, value)
        monkeypatch.setattr(mixed, "RULES", {rule: mixed.RULES[rule] for rule in ("equal", "dws")})
        for _ in range(2):  # the second time nothing is left to do
            mixed.main(["joined", "--results", str(results)])
        runs = study("finished").Runs(results)
        assert len(runs.done) == 4 * 2 + 4 * 2
        worse = dict(runs.done[-1]) | {"learning_rate": 0.001, "seed": 7, "skill": 0.0}
        runs.done.append(worse)  # from a search that chose otherwise before
        row = mixed.row_of("joined", "equal", "common")
        assert mixed.best_rate(runs, row) == 0.03
        assert set(page.scored(runs, worse["row"])) == {0, 1}
        mean = np.mean([r["skill"] for r in runs.done if r["row"] == row and r["split"] == "test"])
        assert any(f"| equal weights | in the common unit | {100 * mean:.2f} |" in line for line in page.mixed(runs))
