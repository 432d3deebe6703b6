"""The model card says what is true of the model and of its run, and goes to the hub and back with it."""

import json
import math
import re
import runpy
import shutil
import sys
from pathlib import Path

import huggingface_hub.hub_mixin
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from settings import GROUPS, IMAGES, built, perturbed, small
from test_metrics import make_batch
from torch import nn

import mtattn.models.loading
from mtattn import FARAMTN, AttributeGroups
from mtattn.metrics import AttributeMetrics
from mtattn.models.card import is_unchanged
from mtattn.report import write_metrics
from mtattn.report.numbers import UNDEFINED

EXAMPLES = Path(__file__).parents[1] / "examples/neighbours"
HOSTILE = AttributeGroups({"<b>eyes</b> | x": ["<script>alert(1)</script>"], "_mouth_": ["a\n$b_{", "名前"]})


def make_run(groups=GROUPS, **settings):
    metrics = AttributeMetrics(groups, torch.full((len(groups.attributes),), 0.3))
    metrics.update(*make_batch(0, 200, groups))
    return {
        "test": {**metrics.compute(), "intervals": metrics.intervals(num_resamples=50)},
        "settings": {"epochs": 3, "images": {"train": 3247, "valid": 433, "test": 650}, **settings},
        "versions": {"torch": "2.15"},
    }


def saved(folder, model=None, **card):
    model = built("resnet18", drop_stages=2) if model is None else model
    model.save_pretrained(folder, model_card_kwargs=card)
    return (folder / "README.md").read_text(encoding="utf-8")


def code_block(text):
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return block


class TestWhatItSays:
    def test_every_mean_stands_beside_the_baseline_and_with_its_interval(self, tmp_path):
        run = make_run()
        text, test = saved(tmp_path, run=run, title="FAR-AMTN on CelebA"), run["test"]
        low, high = test["intervals"]["mean_accuracy"]
        gain = test["mean_accuracy"] - test["majority_accuracy"]
        assert f"| accuracy | {100 * test['mean_accuracy']:.1f} | {100 * low:.1f} to {100 * high:.1f} |" in text
        assert f"| accuracy of the majority baseline | {100 * test['majority_accuracy']:.1f} | " in text
        assert f"| gain over the baseline | {100 * gain:.1f} | " in text
        for name in ("balanced accuracy", "average precision", "F1"):
            assert re.search(rf"^\| {name} \| \d+\.\d \| \d+\.\d to \d+\.\d \|$", text, re.MULTILINE)
        assert "percentile bootstraps over the test images" in text

    def test_each_group_has_a_row_of_attributes_and_a_row_of_scores(self, tmp_path):
        run = make_run()
        text = saved(tmp_path, run=run)
        for group, members in GROUPS.items():
            accuracy, baseline = (run["test"]["groups"][group][score] for score in ("accuracy", "majority_accuracy"))
            assert f"| {group} | {', '.join(members)} |" in text
            assert f"| {group} | {100 * accuracy:.1f} | {100 * baseline:.1f} | " in text

    def test_data_and_settings_are_told_without_the_places_on_a_machine(self, tmp_path):
        settings = {
            "root": "/home/ann/celeba",
            "output": "/home/ann/runs",
            "backbone_weights": "/home/ann/weights.pth",
            "averaging": None,
            "learning_rate": 2e-3,
            "skipped": {"test": ["/home/ann/celeba/000007.jpg"]},
        }
        text = saved(tmp_path, run=make_run(**settings), title="FAR-AMTN on CelebA")
        for row in (
            "data | CelebA",
            "images, train | 3,247",
            "left out, test | 1",
            "backbone weights | weights.pth",
            "learning rate | 0.002",
            "version of torch | 2.15",
        ):
            assert f"| {row} |" in text
        assert "/home" not in text
        assert "averaging" not in text

    @pytest.mark.parametrize(
        ("title", "told"),
        [
            ("FAR-AMTN on CelebA", ["two annotators agree at 95 %", "CelebA is for non-commercial research only"]),
            ("FAR-AMTN on LFWA", ["LFWA's labels are noisy", "LFWA is for non-commercial research only"]),
            ("FAR-AMTN on 60 drawn faces", ["drawings only, never a photograph", "avataaars by Pablo Stanley"]),
            ("shoes", ["is not recorded", "follows from their data"]),
        ],
    )
    def test_limits_and_licence_are_those_of_the_data(self, title, told, tmp_path):
        text = saved(tmp_path, run=make_run(), title=title)
        for words in (*told, "**Do not use this model**", "no fact about a person"):
            assert words in text

    def test_the_config_is_told(self, tmp_path):
        text = saved(tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        told = json.loads(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1])
        assert told == {key: value for key, value in config.items() if key != "groups"}

    def test_a_model_saved_without_a_run_says_so(self, tmp_path):
        text = saved(tmp_path)
        assert text.count("Nothing is recorded: the model was saved without a run.") == 2
        assert "95 %" not in text
        assert ModelCard.load(tmp_path / "README.md").data.eval_results is None

    def test_metrics_json_does_as_well_as_the_run_itself(self, tmp_path):
        run = make_run()
        run["test"]["mean_f1"] = math.nan
        write_metrics(tmp_path, run, GROUPS)
        read = json.loads((tmp_path / "metrics.json").read_text())
        model = built("resnet18", drop_stages=2)
        assert str(model.generate_model_card(run=read)) == str(model.generate_model_card(run=run))

    @pytest.mark.parametrize("undefined", [math.nan, None])
    def test_what_is_undefined_is_a_dash_and_no_result(self, undefined, tmp_path):
        run = make_run()
        run["test"]["mean_f1"] = undefined
        run["test"]["intervals"]["mean_f1"] = (undefined, undefined)
        assert f"| F1 | {UNDEFINED} | {UNDEFINED} to {UNDEFINED} |" in saved(tmp_path, run=run)
        results = ModelCard.load(tmp_path / "README.md").data.eval_results
        assert "f1" not in {result.metric_type for result in results}

    def test_names_are_shown_as_they_stand(self, tmp_path):
        model = small(HOSTILE)
        text = saved(tmp_path, model, run=make_run(HOSTILE), title="<i>on</i> | on *mine*")
        assert "<script>" not in text.partition("# ")[2]
        assert "| &lt;b&gt;eyes&lt;/b&gt; \\| x | &lt;script&gt;alert(1)&lt;/script&gt; |" in text
        assert "| \\_mouth\\_ | a \\$b\\_{, 名前 |" in text
        assert "# &lt;i&gt;on&lt;/i&gt; \\| on \\*mine\\*" in text


class TestItsCode:
    @pytest.mark.usefixtures("no_network", "no_pickle")
    def test_runs_in_the_folder_of_the_model(self, tmp_path, monkeypatch, capsys):
        model = perturbed(built("resnet18", drop_stages=2))
        model.config["image"]["size"] = [64, 48]
        text = saved(tmp_path, model)
        Image.new("L", (178, 218), 128).save(tmp_path / "face.jpg")
        monkeypatch.chdir(tmp_path)
        names = {}
        exec(compile(code_block(text), "README.md", "exec"), names)
        assert names["images"].shape == (1, 3, 64, 48)
        assert re.findall(r"^(\w+): \d+%$", capsys.readouterr().out, re.MULTILINE) == list(GROUPS.attributes)
        torch.testing.assert_close(names["maps"].mean((-2, -1)).sigmoid(), names["probabilities"])
        assert "The picture, not cut, is squeezed to 64 x 48 pixels (height first)." in text

    @pytest.mark.parametrize(
        ("own", "build", "parts"),
        [
            ("trunk", small, lambda: {"trunk": small().trunk}),
            (
                "shared",
                lambda: built("resnet18", shared=nn.Conv2d(512, 32, 1), out_channels=32),
                lambda: {"shared": nn.Conv2d(512, 32, 1)},
            ),
            (
                "trunk and a shared",
                lambda: small(shared=nn.Conv2d(16, 32, 1), out_channels=32),
                lambda: {"trunk": small().trunk, "shared": nn.Conv2d(16, 32, 1)},
            ),
        ],
    )
    def test_asks_for_the_parts_that_are_not_in_the_folder(self, own, build, parts, tmp_path, monkeypatch):
        model = perturbed(build()).eval()
        text = saved(tmp_path, model)
        monkeypatch.chdir(tmp_path)
        names = parts()
        exec(compile(code_block(text), "README.md", "exec"), names)
        assert torch.equal(names["model"](IMAGES), model(IMAGES))
        assert f"a {own} module of its own, not in this folder" in text

    def test_asks_for_a_picture_of_the_colours_that_the_model_takes(self, tmp_path, monkeypatch):
        model = perturbed(FARAMTN.from_timm("resnet18", GROUPS, backbone_options={"in_chans": 4}, drop_stages=2))
        text = saved(tmp_path, model)
        monkeypatch.chdir(tmp_path)
        names = {"picture": Image.new("CMYK", (178, 218))}
        exec(compile(code_block(text), "README.md", "exec"), names)
        assert names["images"].shape == (1, 4, 224, 224)
        assert "`picture` has 4 channels, read as for training" in text

    def test_shows_a_model_the_grey_middle_that_it_was_trained_on(self, tmp_path, monkeypatch):
        model = perturbed(FARAMTN.from_timm("resnet18", GROUPS, backbone_options={"in_chans": 1}, drop_stages=2))
        model.config["image"] |= {"size": [8, 8], "crop": [0.5, 0.75]}
        text = saved(tmp_path, model)
        Image.new("RGB", (178, 218)).save(tmp_path / "face.jpg")
        monkeypatch.chdir(tmp_path)
        names = {}
        exec(compile(code_block(text), "README.md", "exec"), names)
        assert names["images"].shape == (1, 1, 8, 8)
        assert "The middle of the picture, 50% of its height and 75% of its width, is squeezed to 8 x 8 pixels" in text


class TestItsMetadata:
    @pytest.mark.parametrize(("dataset", "licence"), [("CelebA", "other"), ("9 drawn faces", "mit")])
    def test_is_what_huggingface_hub_reads(self, dataset, licence, tmp_path):
        run, title = make_run(), f"FAR-AMTN on {dataset}"
        saved(tmp_path, run=run, title=title)
        data = ModelCard.load(tmp_path / "README.md").data
        assert (data.library_name, data.pipeline_tag, data.license) == ("mtattn", "image-classification", licence)
        assert data.model_name == title
        results = {result.metric_type: result.metric_value for result in data.eval_results}
        assert results["accuracy"] == round(run["test"]["mean_accuracy"], 4)
        assert results["majority_accuracy"] == round(run["test"]["majority_accuracy"], 4)
        assert {result.dataset_name for result in data.eval_results} == {dataset}


class TestAPersonsCard:
    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [("license: other", "license: cc0-1.0"), ("saved without a run", "trained by me"), ("-->", "")],
    )
    def test_is_never_overwritten(self, ours, theirs, tmp_path):
        card = tmp_path / "README.md"
        card.write_text(saved(tmp_path).replace(ours, theirs), encoding="utf-8")
        before = card.read_bytes()
        assert not is_unchanged(card)
        saved(tmp_path, run=make_run())
        assert card.read_bytes() == before

    def test_in_no_known_encoding_is_left_alone_as_well(self, tmp_path):
        (tmp_path / "README.md").write_bytes(b"\xff\xfe m\xfctze")
        built("resnet18", drop_stages=2).save_pretrained(tmp_path)
        assert (tmp_path / "README.md").read_bytes() == b"\xff\xfe m\xfctze"

    def test_is_not_one_that_was_written_here_and_left_unchanged(self, tmp_path):
        assert "Nothing is recorded" in saved(tmp_path)
        assert is_unchanged(tmp_path / "README.md")
        text = saved(tmp_path, run=make_run(), title="FAR-AMTN on CelebA")
        assert text.startswith("---\nlibrary_name: mtattn\n")
        assert "# FAR-AMTN on CelebA" in text
        assert "Nothing is recorded" in saved(tmp_path)  # other weights may lie there now: old numbers must go


class Hub:
    """A hub in a folder, in place of the one that huggingface_hub talks to."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, **_):
        return self

    def create_repo(self, *, repo_id, exist_ok=False, **_):
        (self.folder / repo_id).mkdir(parents=True, exist_ok=exist_ok)
        return type("RepoUrl", (), {"repo_id": repo_id})

    def upload_folder(self, *, repo_id, folder_path, ignore_patterns=None, **_):
        kept = shutil.ignore_patterns(*(ignore_patterns or []))
        shutil.copytree(folder_path, self.folder / repo_id, dirs_exist_ok=True, ignore=kept)
        return "a commit"

    def download(self, repo_id, filename, **_):
        return str(self.folder / repo_id / filename)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub.hub_mixin, "HfApi", hub)
    monkeypatch.setattr(mtattn.models.loading, "hf_hub_download", hub.download)
    return hub


@pytest.mark.usefixtures("no_network", "no_pickle")
class TestTheHub:
    def test_a_model_pushed_and_loaded_by_its_name_is_the_same(self, hub):
        model = perturbed(built("resnet18", drop_stages=2)).eval()
        assert model.push_to_hub("ann/faces") == "a commit"
        loaded = FARAMTN.from_pretrained("ann/faces")
        assert loaded.groups == model.groups
        assert torch.equal(loaded(IMAGES), model(IMAGES))
        names = sorted(path.name for path in (hub.folder / "ann/faces").iterdir())
        assert names == ["README.md", "config.json", "model.safetensors"]

    def test_the_card_that_is_pushed_tells_of_the_run(self, hub):
        card = {"run": make_run(), "title": "FAR-AMTN on CelebA"}
        built("resnet18", drop_stages=2).push_to_hub("ann/faces", model_card_kwargs=card)
        assert ModelCard.load(hub.folder / "ann/faces/README.md").data.model_name == "FAR-AMTN on CelebA"

    def test_a_card_on_the_hub_stays_where_it_is_to_be_ignored(self, hub):
        model = built("resnet18", drop_stages=2)
        model.push_to_hub("ann/faces")
        card = Path(hub.folder, "ann/faces/README.md")
        card.write_text("# mine")
        model.push_to_hub("ann/faces", ignore_patterns=["README.md"])
        assert card.read_text() == "# mine"

    def test_the_example_pushes_the_model_of_a_run(self, hub, tmp_path, monkeypatch, capsys):
        saved(tmp_path / "run/model")
        write_metrics(tmp_path / "run", make_run(), GROUPS)
        monkeypatch.setattr(sys, "argv", ["push_to_hub.py", str(tmp_path / "run"), "ann/faces"])
        runpy.run_path(str(EXAMPLES / "push_to_hub.py"), run_name="__main__")
        assert capsys.readouterr().out == "a commit\n"
        assert "# FAR-AMTN on CelebA" in (hub.folder / "ann/faces/README.md").read_text(encoding="utf-8")
        assert FARAMTN.from_pretrained("ann/faces").groups == GROUPS
