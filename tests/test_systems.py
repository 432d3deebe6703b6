"""The systems of the field, built from our parts: short, told apart from their papers, and trainable by one command."""

import ast
import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("accelerate", reason="the extra recipes is not installed")
from PIL import Image

from mtattn import AttributeGroups, DWSLoss

pytestmark = pytest.mark.recipe

SYSTEMS = Path(__file__).parents[1] / "examples/systems"
NAMES = sorted(path.stem for path in SYSTEMS.glob("*.py") if path.stem not in {"system_runs", "identities"})
TINY = ["--synthetic=60", "--epochs=1", "--batch-size=16", "--image-size=32", "--workers=0"]
FORMS = {"far_amtn": [[]], "mgmtn": [[], ["--masks=learned"]], "parformer": [[]]}
RECOGNITION = {"swinface": [["--fairface"]], "aaface": [["--fusion=mix"], ["--fusion=listen"], ["--fusion=none"]]}


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
    assert set(NAMES) == {*FORMS, *RECOGNITION}


@pytest.mark.parametrize("name", NAMES)
def test_a_model_has_forty_lines_or_fewer(name):
    text = (SYSTEMS / f"{name}.py").read_text(encoding="utf-8")
    models = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    lines = [line for model in models for line in text.splitlines()[model.lineno - 1 : model.end_lineno]]
    assert models[0].name == "System"
    assert len([line for line in lines if line.strip()]) <= 40


@pytest.mark.parametrize("name", NAMES)
def test_the_head_of_a_program_tells_the_paper_from_our_reading(name):
    head = ast.get_docstring(ast.parse((SYSTEMS / f"{name}.py").read_text(encoding="utf-8")))
    assert re.search(r"\| part \| known from (public text|the public code) \| our reading \|", head)
    assert "arXiv" in head


@pytest.fixture(autouse=True)
def metric_learning(request):
    if "parformer" in request.node.nodeid.lower():  # with its class
        pytest.importorskip("pytorch_metric_learning", reason="the extra neighbours is not installed")


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
        assert (abs(row + 0.5 - 52), abs(column + 0.5 - 50)) <= (1, 1)
        edge = nose[52, 50 + 11]  # height 0.52, width 0.50, radius 0.11
        torch.testing.assert_close(edge, torch.tensor(0.5), rtol=0, atol=0.1)

    def test_discs_lie_where_the_parts_of_drawn_faces_are(self, program):
        pytest.importorskip("resvg_py", reason="the extra recipes is not installed")
        from mtattn.data.synthetic.drawing import HEAD

        left, top, width, height = HEAD
        discs = program("mgmtn").DISCS
        for name, (across, down) in {"eyes": (114, 112), "nose": (140, 132), "mouth": (140, 157)}.items():
            y, x, radius = discs[name][0]
            assert abs(y - (down - top) / height) < radius / 2
            assert abs(x - (across - left) / width) < radius / 2

    @pytest.mark.parametrize("learned", [False, True])
    def test_a_part_hears_itself_and_the_whole_face_only(self, learned, program):
        mgmtn = program("mgmtn")
        model = mgmtn.System(mgmtn.GROUPS, "resnet18", pretrained=False, learned=learned).eval()
        whole = list(mgmtn.GROUPS).index("object")
        affinity = model.g2ff.affinity(torch.randn(2, 8, 256))
        heard = (affinity > 0).all(0)
        assert heard.tolist() == [[speaker in (listener, whole) for speaker in range(8)] for listener in range(8)]
        assert model(torch.rand(2, 3, 64, 64)).shape == (2, 40)


class TestPARFormer:
    @pytest.fixture
    def peta(self, tmp_path, program):
        """Noise in the form of PETA: a person in each picture, and of every fourth nobody knows the side."""
        groups = program("parformer").GROUPS
        names = groups.attributes
        rows, generator = [",".join(["image", "split", "split_by_person", *names])], np.random.default_rng(0)
        for number in range(40):
            pixels = generator.integers(0, 255, (32, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{number}.png")
            part = ["train", "train", "val", "test"][number % 4]
            side = ["front", "side", "back", ""][number // 4 % 4]
            labels = [str(label) for label in generator.integers(0, 2, len(names) - 1)]
            rows.append(",".join([f"{number}.png", part, part, *labels, side]))
        (tmp_path / "peta.csv").write_text("\n".join(rows) + "\n")
        return tmp_path

    def test_it_trains_on_people_with_their_views(self, peta, tmp_path, monkeypatch):
        size = ["--epochs=1", "--batch-size=8", "--image-size=32", "--workers=0"]
        run(monkeypatch, "parformer", "--root", peta, "--by-person", "--output", tmp_path / "run", *size)
        assert json.loads((tmp_path / "run/scores.json").read_text())["parameters"] > 1e6

    def test_its_total_is_the_sum_of_its_three_losses(self, program):
        parformer = program("parformer")
        model = parformer.System(parformer.GROUPS, "resnet18", pretrained=False, mask=0).eval()
        loss = parformer.Losses(parformer.GROUPS, model)
        targets = torch.randint(0, 2, (6, len(parformer.GROUPS.attributes))).float()
        targets[5] = torch.nan
        outputs = model(torch.rand(6, 3, 64, 32))
        plain = DWSLoss(parformer.GROUPS, rule="equal")(outputs, targets)
        centers = model.centers(model.grouped[:, :-1], targets[:, :-1])
        scores = torch.nn.functional.normalize(outputs[:5, -3:])
        raised, views = (scores @ scores.T / 0.1).exp(), targets[:5, -1]
        others = views[:, None] != views
        pairs = [(i, j) for i in range(5) for j in range(5) if i != j and views[i] == views[j]]
        apart = [-(raised[i, j] / (raised[i, j] + raised[i, others[i]].sum())).log() for i, j in pairs]
        torch.testing.assert_close(loss(outputs, targets), plain + 0.5 * centers + torch.stack(apart).mean())

    @pytest.mark.parametrize("views", [[torch.nan] * 3, [1, torch.nan, torch.nan], [2, 2, 2], [0, 1, 2]])
    def test_without_two_images_of_a_view_and_one_of_another_the_views_cost_nothing(self, views, program):
        parformer = program("parformer")
        model = parformer.System(parformer.GROUPS, "resnet10t", pretrained=False, mask=0)
        loss = parformer.Losses(parformer.GROUPS, model)
        targets = torch.ones(3, len(parformer.GROUPS.attributes))
        targets[:, -1] = torch.tensor(views)
        outputs = model(torch.rand(3, 3, 64, 32))
        found = loss(outputs, targets)
        found.backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
        plain = DWSLoss(parformer.GROUPS, rule="equal")(outputs, targets)
        centers = model.centers(model.grouped[:, :-1], targets[:, :-1])
        torch.testing.assert_close(found, plain + 0.5 * centers)

    def test_the_parameters_of_the_model_are_not_those_of_its_loss(self, program):
        parformer = program("parformer")
        model = parformer.System(parformer.GROUPS, "resnet18", pretrained=False, mask=0)
        assert not list(parformer.Losses(parformer.GROUPS, model).parameters())


class TestRecognition:
    @pytest.fixture
    def data(self, tmp_path):
        """Noise in the forms of LFWA, LFW's pairs and FairFace: 20 people to learn, then 4 others, 4 pictures each."""
        write = pytest.importorskip("test_data_lfwa", reason="the extra recipes is not installed")
        from mtattn.data import CELEBA_ATTRIBUTES

        root, generator = tmp_path / "data", np.random.default_rng(0)
        names = [f"P{person:02}/P{person:02}_{number:04}.jpg" for person in range(24) for number in (1, 2, 3, 4)]
        ages = [f"{number}.jpg" for number in range(48)]
        for name in [f"lfw/{name}" for name in names] + ages:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 255, (16, 16, 3), np.uint8)).save(root / name)
        labels = generator.integers(0, 2, (len(names), 40))
        write.write_labels(root, names=names, labels=labels, attributes=CELEBA_ATTRIBUTES)
        write.write_indices(root, train=np.arange(1, 81), test=np.arange(81, 97))
        parts, bands = ("train", "train", "train", "val"), ("3-9", "20-29")
        rows = [f"{name},{parts[i % 4]},{bands[i // 4 % 2]},Male,White" for i, name in enumerate(ages)]
        (root / "fairface.csv").write_text("\n".join(["image,split,age,gender,race", *rows]) + "\n")
        same = [f"P2{person}\t1\t2" for person in range(4)]
        different = ["P20\t1\tP21\t1", "P22\t1\tP23\t1", "P00\t1\tP21\t1", "P21\t1\tP23\t3"]
        lines = ["2\t2", *same[:2], *different[:2], *same[2:], *different[2:]]
        (root / "pairs.txt").write_text("\n".join(lines) + "\n")
        return root

    @pytest.mark.parametrize(("name", "form"), [(name, form) for name, forms in RECOGNITION.items() for form in forms])
    def test_a_system_learns_people_by_one_command_and_is_measured_on_others(
        self, name, form, data, tmp_path, monkeypatch
    ):
        form = [*form, data] if form == ["--fairface"] else form
        size = ["--backbone=resnet10t", "--epochs=1", "--batch-size=16", "--image-size=32", "--workers=0"]
        run(monkeypatch, name, "--root", data, "--output", tmp_path / "run", *size, *form)
        scores = json.loads((tmp_path / "run/scores.json").read_text())
        assert scores["verification_pairs"] == 7  # one of the eight shows a person who was trained on
        assert 0 <= scores["verification_accuracy"] <= 1
        assert 0 < scores["mean_accuracy"] < 1

    def test_a_person_with_few_pictures_has_no_identity_to_learn(self, program):
        identities = program("identities")
        files = ["ann/1.jpg", "ann/2.jpg", "bob/1.jpg", "eve/1.jpg", "eve/2.jpg"]
        assert identities.people_of(files, pictures=2).classes == ("ann", "eve")
        with pytest.raises(SystemExit, match="1 people have 3 pictures or more, need two"):
            identities.people_of([*files, "eve/3.jpg"], pictures=3)

    def test_the_margin_makes_the_loss_cosface_and_leaves_out_who_is_unknown(self, program):
        losses = pytest.importorskip("pytorch_metric_learning.losses", reason="the extra neighbours is not installed")
        from mtattn import Categorical

        identities = program("identities")
        groups = AttributeGroups({"who": [Categorical("identity", ["ann", "bob", "eve"])]})
        embeddings, people, who = torch.randn(5, 8), torch.randn(3, 8), torch.tensor([0, 2, 1, 1, 0])
        theirs = losses.CosFaceLoss(3, 8, margin=identities.MARGIN, scale=identities.SCALE)
        theirs.W.data = people.T.clone()
        outputs, targets = identities.cosines(embeddings, people), who.float()[:, None]
        unit = float(np.log(2) / np.log(3))  # of a categorical loss: guessing costs ln 2
        torch.testing.assert_close(identities.CosFace(groups)(outputs, targets), unit * theirs(embeddings, who))
        targets[3:] = torch.nan
        torch.testing.assert_close(identities.CosFace(groups)(outputs, targets), unit * theirs(embeddings[:3], who[:3]))
        measured = identities.CosFace(groups).eval()(outputs[:3], targets[:3])
        torch.testing.assert_close(measured, unit * torch.nn.functional.cross_entropy(outputs[:3], who[:3]))

    @pytest.mark.parametrize(("who", "costs"), [([torch.nan] * 3, False), ([1, torch.nan, 1], True)])
    def test_a_batch_without_any_identity_or_with_one_person_only_trains(self, who, costs, program):
        from mtattn import Categorical

        identities = program("identities")
        groups = AttributeGroups({"who": [Categorical("identity", ["ann", "bob"])]})
        outputs = torch.randn(3, 2, requires_grad=True)
        loss = identities.CosFace(groups)(outputs, torch.tensor(who)[:, None])
        loss.backward()
        assert bool(loss > 0) == costs
        assert outputs.grad.isfinite().all()
        assert outputs.grad.any(1).tolist() == [not np.isnan(person) for person in who]

    def test_identity_hears_every_group_and_no_group_hears_identity(self, program):
        from mtattn import Categorical

        aaface = program("aaface")
        groups = AttributeGroups({"a": ["x"], "b": ["y"], "who": [Categorical("identity", ["ann", "bob"])]})
        model = aaface.System(groups, "resnet10t", "listen", pretrained=False).eval()
        heard = (model.cgff.affinity(torch.randn(2, 3, 256)) > 0).all(0)
        assert heard.tolist() == [[True, False, False], [False, True, False], [True, True, True]]
        assert model(torch.rand(2, 3, 64, 64)).shape == (2, 4)
