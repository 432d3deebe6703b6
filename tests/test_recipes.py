"""How a recipe ends: the scores of each part are that part's, and the faces shown are predicted as the model does."""

import json
import re
import shutil
from argparse import Namespace

import pytest
import reference
import torch
from processes import alone
from torch import nn
from torch.nn import functional

from mtattn import FARAMTN
from mtattn.data import CELEBA_GROUPS, CelebA, SyntheticFaces, SyntheticKinds, UnreadableImage, image_transform
from mtattn.metrics import AttributeMetrics, train_rates
from mtattn.recipes import check_output, finish_run, open_output, results, run_recipe, taught_by

pytestmark = pytest.mark.outside

GROUPS = CELEBA_GROUPS.only(["Smiling", "Eyeglasses", "Blond_Hair", "Bald"])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return SyntheticFaces(60).write(tmp_path_factory.mktemp("drawn") / "faces")


@pytest.fixture
def parts(root):
    transform = image_transform((16, 16), mean=[0.5] * 3, std=[0.5] * 3)
    return {
        name: CelebA(root, name, attributes=GROUPS.attributes, transform=transform)
        for name in ("train", "valid", "test")
    }


@pytest.fixture
def finished(parts, tmp_path, monkeypatch):
    """What a run leaves whose model is new: metrics.json, and what the report is made of."""
    shown = {}
    monkeypatch.setattr(results, "write_report", lambda _, **told: shown.update(told))
    monkeypatch.setattr(results, "measure_ablations", lambda *told: list(told[1]))
    model = FARAMTN(nn.Conv2d(3, 16, 4, stride=4), 16, GROUPS)
    metrics = AttributeMetrics(GROUPS, train_rates(parts["train"].targets))
    (tmp_path / "settings.json").write_text("{}")
    data = {f"{name}_data": part for name, part in parts.items()}
    finish_run(tmp_path, model, metrics, [{"epoch": 1, "best_epoch": 1}], title="Drawn", **data)
    return model.eval(), json.loads((tmp_path / "metrics.json").read_text()), shown


def test_an_attribute_without_a_training_label_is_told_to_be_unlearnt_wherever_the_run_is_read(
    parts, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(results, "measure_ablations", lambda *_: None)
    parts["train"]._targets[:, GROUPS.attributes.index("Bald")] = torch.nan
    model = FARAMTN(nn.Conv2d(3, 16, 4, stride=4), 16, GROUPS)
    (tmp_path / "settings.json").write_text("{}")
    data = {f"{name}_data": part for name, part in parts.items()}
    told = finish_run(tmp_path, model, AttributeMetrics(GROUPS, train_rates(parts["train"])), [], title="Drawn", **data)
    words = "Unlearnt, because no training image has a label of it: Bald. What the model says of it means nothing."
    assert told["unlearnt"] == json.loads((tmp_path / "metrics.json").read_text())["unlearnt"] == ["Bald"]
    assert words in capsys.readouterr().out.splitlines()
    assert f"<p>{words}</p>" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert words in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")


def test_a_run_in_which_each_attribute_has_labels_has_no_word_on_unlearnt_ones(finished):
    assert "unlearnt" not in finished[1]


def whole(data):
    images, targets = zip(*(data[index] for index in range(len(data))), strict=True)
    return torch.stack(images), torch.stack(targets)


@torch.no_grad()
def test_the_scores_of_each_part_are_those_of_plain_loops_over_its_images(finished, parts):
    model, metrics, _ = finished
    majority = parts["train"].targets.nanmean(0) > 0.5
    for name in ("test", "valid"):
        images, targets = whole(parts[name])
        logits = model(images)
        for score, mean in reference.mean_scores(logits, targets).items():
            assert metrics[name][score] == pytest.approx(mean), score
        for column, attribute in enumerate(GROUPS.attributes):
            row = reference.scores_of(logits[:, column], targets[:, column])
            row["majority_accuracy"] = ((targets[:, column] > 0.5) == majority[column]).double().mean().item()
            told = {
                score: float("nan") if value is None else value
                for score, value in metrics[name]["attributes"][attribute].items()
            }
            assert told == pytest.approx(row, nan_ok=True), attribute
    assert metrics["test"]["loss"] != metrics["valid"]["loss"]
    assert metrics["settings"]["images"] == {"train": 48, "valid": 6, "test": 6}


@torch.no_grad()
def test_with_mirror_images_each_part_is_measured_on_both_and_single_faces_are_not(parts, tmp_path, monkeypatch):
    shown = {}
    monkeypatch.setattr(results, "write_report", lambda _, **told: shown.update(told))
    monkeypatch.setattr(results, "measure_ablations", lambda *_: None)
    model = FARAMTN(nn.Conv2d(3, 16, 4, stride=4), 16, GROUPS)
    (tmp_path / "settings.json").write_text('{"mirror": true}')
    metrics = AttributeMetrics(GROUPS, train_rates(parts["train"].targets))
    data = {f"{name}_data": part for name, part in parts.items()}
    told = finish_run(tmp_path, model, metrics, [], title="Drawn", mirror=True, thresholds="f1", **data)
    for name in ("valid", "test"):
        images, targets = whole(parts[name])
        logits = (model.eval()(images) + model(images.flip(-1))) / 2
        expected = functional.binary_cross_entropy_with_logits(logits, targets).item()
        assert told[name]["loss"] == pytest.approx(expected, rel=1e-5)
        alone = functional.binary_cross_entropy_with_logits(model(images), targets).item()
        assert told[name]["loss"] != pytest.approx(alone, rel=1e-4)  # else this test would not see the difference
    torch.testing.assert_close(shown["faces"][0].probabilities, model(images[:1])[0].sigmoid())
    assert "| mirror | True |" in (tmp_path / "model/README.md").read_text(encoding="utf-8")


@torch.no_grad()
def test_the_faces_shown_are_test_images_predicted_as_the_model_does(finished, parts):
    model, _, shown = finished
    images, targets = whole(parts["test"])
    assert len(shown["faces"]) == 6
    for face, image, target in zip(shown["faces"], images, targets, strict=True):
        torch.testing.assert_close(face.probabilities, model(image[None])[0].sigmoid())
        torch.testing.assert_close(face.maps.mean((-2, -1)), model(image[None])[0])
        torch.testing.assert_close(face.targets, target, equal_nan=True)
        torch.testing.assert_close(face.image, image / 2 + 0.5)


def test_what_the_parts_of_the_model_do_is_measured_on_all_test_images(finished, parts):
    _, _, shown = finished
    images = torch.cat([batch for batch, _ in shown["ablations"]])
    assert torch.equal(images, whole(parts["test"])[0])


def teacher(seed, groups=GROUPS):
    torch.manual_seed(seed)
    model = FARAMTN(nn.Conv2d(3, 16, 4, stride=4), 16, groups)
    model.config["image"] = {"size": [16, 16], "mean": [0.5] * 3, "std": [0.5] * 3}
    return model.eval()


class TestTeachers:
    @torch.no_grad()
    @pytest.mark.parametrize("share", [0.5, 1.0, 0.1])
    def test_targets_are_labels_mixed_with_the_mean_of_what_the_teachers_say(self, share, parts):
        data, teachers = parts["train"], [teacher(seed) for seed in range(3)]
        data._targets[3, 1] = torch.nan
        before = data.targets
        taught = taught_by(teachers, data, share=share)
        for row in range(len(data)):
            image, label = data[row]
            said = torch.zeros(len(GROUPS.attributes))
            for model in teachers:
                both = model(torch.stack([image, image.flip(-1)]))
                said += both.mean(0).sigmoid() / len(teachers)
            pairs = zip(label, said, strict=True)
            expected = [says if own.isnan() else (1 - share) * own + share * says for own, says in pairs]
            torch.testing.assert_close(taught[row][1], torch.stack(expected))
            assert torch.equal(taught[row][0], image)
        torch.testing.assert_close(data.targets, before, equal_nan=True)

    def test_a_teacher_may_know_more_and_in_another_order(self, parts):
        other = CELEBA_GROUPS.only(["Bald", "Smiling", "Young", "Eyeglasses", "Blond_Hair"])
        targets = taught_by([teacher(0, other)], parts["test"], share=1.0).targets
        model, data = teacher(0, other), parts["test"]
        with torch.no_grad():
            both = model(torch.stack([data[0][0], data[0][0].flip(-1)])).mean(0).sigmoid()
        expected = [both[other.attributes.index(name)] for name in data.attributes]
        torch.testing.assert_close(targets[0], torch.stack(expected))

    def test_other_targets_have_a_row_an_image_and_a_column_an_attribute(self, parts):
        with pytest.raises(ValueError, match=r"targets are \(image, attribute\), here .* got \(2, 1\)"):
            parts["train"].with_targets(torch.zeros(2, 1))

    @pytest.mark.parametrize("teachers", [None, []])
    def test_without_teachers_nothing_changes(self, teachers, parts):
        assert taught_by(teachers, parts["train"]) is parts["train"]

    @pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
    def test_a_share_out_of_range_is_refused(self, share, parts):
        with pytest.raises(ValueError, match=r"taught_by: share is in \(0, 1\]"):
            taught_by([teacher(0)], parts["train"], share=share)

    def test_a_teacher_that_does_not_know_an_attribute_is_refused_before_any_is_asked(self, parts):
        with pytest.raises(ValueError, match="taught_by: the teacher: no binary attribute 'Bald'; there are"):
            taught_by([teacher(0), teacher(0, GROUPS.only(["Smiling"]))], parts["train"])

    def test_classes_and_numbers_are_refused(self, tmp_path):
        root = SyntheticKinds.write(tmp_path / "kinds", 12, seed=0)
        data = SyntheticKinds(root, "train")
        with pytest.raises(ValueError, match=r"taught_by: teachers soften binary labels, got '.*' of another kind"):
            taught_by([teacher(0)], data)

    def test_a_teacher_that_is_not_there_is_named(self, parts, tmp_path):
        with pytest.raises(FileNotFoundError, match="nobody"):
            taught_by([tmp_path / "nobody"], parts["train"])

    def test_an_image_that_cannot_be_read_is_named(self, root, tmp_path):
        folder = shutil.copytree(root, tmp_path / "faces")
        data = CelebA(folder, "train", attributes=GROUPS.attributes)
        data.path(2).write_bytes(b"no picture")
        with pytest.raises(UnreadableImage, match=re.escape(data.path(2).name)):
            taught_by([teacher(0)], data)


@pytest.mark.parametrize(("length", "count", "expected"), [(10, 5, [0, 2, 4, 6, 8]), (3, 5, [0, 1, 2]), (7, 2, [0, 3])])
def test_images_are_taken_evenly_over_a_part(length, count, expected):
    assert results._evenly_spaced(length, count) == expected


def options(output, **more):
    return Namespace(**{"output": output, "resume": False, "overwrite": False, "seed": 0} | more)


def begin_elsewhere(folder, more):
    try:
        open_output(options(folder, **more))
    except ValueError as error:
        return str(error)


class TestAFolderThatCannotBeWritten:
    @pytest.mark.parametrize("below", ["", "run", "a/b/run"])
    def test_a_file_in_its_place_is_named(self, tmp_path, below):
        (tmp_path / "file").write_text("")
        with pytest.raises(ValueError, match=r"cannot hold a run, .*file is no folder; give another --output"):
            check_output(options(tmp_path / "file" / below))

    @pytest.mark.parametrize("below", ["", "run", "a/b/run"])
    def test_a_folder_without_permission_is_named(self, tmp_path, below, monkeypatch):
        monkeypatch.setattr("os.access", lambda place, _: place != tmp_path)  # root may write everywhere
        with pytest.raises(ValueError, match=rf"cannot hold a run, {re.escape(str(tmp_path))} may not be written to"):
            check_output(options(tmp_path / below))

    def test_where_training_never_began_a_run_begins_without_being_told_to_replace(self, tmp_path):
        for name in ("settings.json", "split.csv"):
            (tmp_path / name).write_text("{}")
        assert check_output(options(tmp_path)) == tmp_path
        (tmp_path / "checkpoints").mkdir()
        with pytest.raises(ValueError, match=r"already holds a run; go on with --resume"):
            check_output(options(tmp_path))


class TestOneRunInAFolder:
    @pytest.mark.parametrize("more", [{}, {"resume": True}, {"overwrite": True}], ids=["new", "resume", "overwrite"])
    def test_while_a_recipe_works_no_other_begins_there_and_nothing_of_it_is_touched(self, more, tmp_path):
        folder, said = tmp_path / "run", []

        def main(options):
            check_output(options)
            open_output(options)
            (folder / "model").mkdir()
            said.append(alone(tmp_path, begin_elsewhere, folder, more | {"seed": 1}))

        run_recipe(main, options(folder))
        assert said == [f"fit: another run is at work in {folder}; wait for its end, or give another output."]
        assert json.loads((folder / "settings.json").read_text())["seed"] == 0
        assert (folder / "model").is_dir()
        assert "already holds a run" in alone(tmp_path, begin_elsewhere, folder, {})

    def test_a_recipe_that_fails_lets_others_in(self, tmp_path):
        def main(options):
            open_output(options)
            raise ValueError("no more")

        with pytest.raises(SystemExit, match="no more"):
            run_recipe(main, options(tmp_path / "run"))
        assert alone(tmp_path, begin_elsewhere, tmp_path / "run", {}) is None
