import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from mtattn.data.presets import CELEBA_ATTRIBUTES
from mtattn.data.synthetic import SyntheticFaces
from mtattn.data.synthetic.label_model import LabelModel
from mtattn.data.synthetic.parts import EXCLUSIVE, HIDES, READ, choose, repaired

pytest.importorskip("resvg_py")
pytest.importorskip("dicebear_styles")

SMALL = SyntheticFaces(40, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return SMALL.write(tmp_path_factory.mktemp("faces") / "small")


@pytest.fixture(scope="module")
def labels():
    return SyntheticFaces(4000).labels


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def columns(labels, names):
    return labels[:, [SyntheticFaces.attributes.index(name) for name in names]]


def test_the_attributes_are_celebas_in_celebas_order():
    assert SyntheticFaces.attributes == tuple(name for name in CELEBA_ATTRIBUTES if name in READ)
    assert len(SyntheticFaces.attributes) == 34


def test_the_same_seed_writes_the_same_bytes(folder, tmp_path):
    assert contents(SyntheticFaces(40, seed=3).write(tmp_path / "again")) == contents(folder)


def test_another_seed_gives_other_faces():
    assert (SyntheticFaces(40, seed=4).labels != SMALL.labels).any()
    assert SyntheticFaces(40, seed=4)[0][0].tobytes() != SMALL[0][0].tobytes()


def test_a_face_does_not_depend_on_how_many_there_are_nor_on_the_order_of_drawing():
    more = SyntheticFaces(60, seed=3)
    for index in (39, 0, 20):
        (image, labels), (image_of_more, labels_of_more) = SMALL[index], more[index]
        assert image.tobytes() == image_of_more.tobytes()
        assert (labels == labels_of_more).all()


@pytest.mark.parametrize(
    "option", [{"jitter": 0.0}, {"occlusion": 1.0}, {"wrong_labels": 0.3}, {"size": (32, 32)}], ids=str
)
def test_no_option_changes_the_true_labels(option):
    assert (replace(SMALL, **option).labels == SMALL.labels).all()


def test_wrong_labels_leave_the_pictures_alone():
    assert replace(SMALL, wrong_labels=0.3)[5][0].tobytes() == SMALL[5][0].tobytes()


@pytest.mark.parametrize("attribute", READ)
def test_a_wanted_attribute_is_shown(attribute):
    for seed in range(8):
        clean_shaven = set() if attribute in HIDES["No_Beard"] else {"No_Beard"}
        assert READ[attribute](choose({attribute} | clean_shaven, np.random.default_rng(seed)))


@pytest.mark.parametrize("attribute", READ)
def test_an_attribute_that_is_not_wanted_is_not_shown(attribute):
    others = set(READ) - {attribute, *HIDES, "Heavy_Makeup"} | ({"No_Beard"} if attribute != "No_Beard" else set())
    for seed in range(8):
        wanted = others - set(HIDES["No_Beard"]) if attribute in HIDES["No_Beard"] else others
        assert not READ[attribute](choose(wanted, np.random.default_rng(seed)))


def test_what_is_left_after_repair_is_what_the_face_shows():
    model = LabelModel.of(SyntheticFaces.attributes)
    for seed in range(500):
        rng = np.random.default_rng(seed)
        wanted = {name for name, has in zip(READ, model.draw(rng), strict=True) if has}
        left = repaired(wanted, np.random.default_rng(seed))
        face = choose(wanted, np.random.default_rng(seed))
        shown = {name for name, shows in READ.items() if shows(face)}
        assert shown <= left
        assert left - shown <= {"Double_Chin"}  # under a full beard


@pytest.mark.parametrize("names", EXCLUSIVE, ids=lambda names: names[0])
def test_rivals_never_meet(labels, names):
    assert columns(labels, names).sum(1).max() == 1


@pytest.mark.parametrize("name", HIDES)
def test_what_is_hidden_is_not_labelled(labels, name):
    assert not columns(labels[columns(labels, [name])[:, 0]], HIDES[name]).any()


def test_a_face_without_any_hair_has_no_hair_color(labels):
    face = choose({"Bald"}, np.random.default_rng(0))
    assert face.top == "none"
    assert not any(READ[color](face) for color in EXCLUSIVE[0])


def test_the_rates_are_celebas(labels):
    rates = LabelModel.of(SyntheticFaces.attributes).rates
    assert np.abs(labels.mean(0) - rates).max() < 0.07  # No_Beard and the rivals pay for the repairs, with up to 0.05
    assert np.abs(labels.mean(0) - rates).mean() < 0.015


def test_the_correlations_are_celebas(labels):
    model = LabelModel.of(SyntheticFaces.attributes)
    pairs = np.triu_indices(len(model.rates), 1)
    drawn = np.array([model.draw(np.random.default_rng(seed)) for seed in range(4000)])
    found, expected = np.corrcoef(labels.T)[pairs], np.corrcoef(drawn.T)[pairs]
    assert np.corrcoef(found, expected)[0, 1] > 0.95


def test_the_label_model_reproduces_its_own_numbers():
    model = LabelModel.of(CELEBA_ATTRIBUTES)
    assert np.allclose(model.factor @ model.factor.T, model.correlations, atol=0.05)
    assert np.allclose(np.diag(model.correlations), 1)
    assert (model.correlations == model.correlations.T).all()


def test_every_attribute_changes_the_picture():
    base = {"No_Beard"}
    faces = SyntheticFaces(10, jitter=0.0, occlusion=0.0)
    for attribute in set(READ) - base:
        with_, without = (choose(wanted, np.random.default_rng(0)) for wanted in (base | {attribute}, base))
        with_ = replace(with_, colors=without.colors) if attribute not in (*EXCLUSIVE[0], "Pale_Skin") else with_
        assert pixels(faces, with_) != pixels(faces, without), attribute


def pixels(faces, face):
    from mtattn.data.synthetic.drawing import picture

    return picture(face, faces._view(0, face), faces.size).tobytes()


def test_the_folder_has_celebas_layout(folder):
    lines = (folder / "list_attr_celeba.txt").read_text().splitlines()
    assert lines[0] == "40"
    assert tuple(lines[1].split()) == SyntheticFaces.attributes
    names, values = zip(*(line.split(maxsplit=1) for line in lines[2:]), strict=True)
    assert names == tuple(f"{number:06d}.jpg" for number in range(1, 41))
    assert ([[value == "1" for value in row.split()] for row in values] == SMALL.labels).all()
    assert {value for row in values for value in row.split()} == {"1", "-1"}
    assert sorted(path.name for path in (folder / "img_align_celeba").iterdir()) == list(names)


def test_the_splits_are_eight_one_and_one_tenths_in_order(folder):
    rows = [line.split() for line in (folder / "list_eval_partition.txt").read_text().splitlines()]
    assert [int(split) for _, split in rows] == [0] * 32 + [1] * 4 + [2] * 4 == SMALL.partition.tolist()


def test_the_celeba_loader_reads_what_was_written(folder):
    from mtattn.data.celeba import CelebA

    wanted = ["Smiling", "Bald", "Eyeglasses"]
    for number, split in enumerate(("train", "valid", "test")):
        read = CelebA(folder, split, attributes=wanted)
        targets = np.array([target.numpy() for _, target in read])
        assert (targets == columns(SMALL.labels, wanted)[SMALL.partition == number]).all()
        assert read[0][0].size == (88, 108)


@pytest.mark.parametrize("size", [(108, 88), (218, 178), (64, 64), (37, 50)], ids=str)
def test_a_picture_has_exactly_the_asked_size(size):
    assert replace(SMALL, size=size)[0][0].size == size[::-1]


def test_the_folder_names_the_art_and_its_licence(folder):
    about = (folder / "README.txt").read_text(encoding="utf-8")
    assert "Pablo Stanley" in about
    assert "Free for personal and commercial use" in about


def test_wrong_labels_have_the_asked_share_in_training_and_none_elsewhere():
    faces = SyntheticFaces(1000, wrong_labels=0.1)
    wrong = faces.written_labels != faces.labels
    assert wrong[faces.partition == 0].mean() == pytest.approx(0.1, abs=0.01)
    assert not wrong[faces.partition > 0].any()


def test_a_folder_that_holds_this_set_is_used_again(folder):
    before = (folder / "list_attr_celeba.txt").stat().st_mtime_ns
    assert SyntheticFaces(40, seed=3).write(str(folder)) == folder
    assert (folder / "list_attr_celeba.txt").stat().st_mtime_ns == before


def test_a_folder_that_holds_other_faces_is_refused(folder):
    before = contents(folder)
    with pytest.raises(FileExistsError, match=r"SyntheticFaces: .*small must be new.*holds other faces, .*'seed': 3"):
        SyntheticFaces(40, seed=4).write(folder)
    assert contents(folder) == before


@pytest.mark.parametrize("record", [None, "[]", "not json"], ids=["no record", "foreign record", "broken record"])
def test_a_folder_of_somebody_elses_is_refused(tmp_path, record):
    (tmp_path / "thesis.txt").write_text("years of work")
    if record is not None:
        (tmp_path / "synthetic_faces.json").write_text(record)
    with pytest.raises(FileExistsError, match="it holds something else"):
        SMALL.write(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_an_empty_folder_is_filled(tmp_path):
    assert (
        json.loads((SyntheticFaces(10).write(tmp_path) / "synthetic_faces.json").read_text())["settings"]["seed"] == 0
    )


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    from mtattn.data.synthetic import faces

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(faces, "picture", interrupt)
    with pytest.raises(KeyboardInterrupt):
        SMALL.write(tmp_path / "set")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_faces": 9}, "num_faces must be at least 10, .* got 9"),
        ({"num_faces": 10**6}, "num_faces must be below a million"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"size": (8, 88)}, r"size must be height and width, 16 pixels or more, got \(8, 88\)"),
        ({"jitter": 1.5}, r"jitter must lie in \[0, 1\], got 1.5"),
        ({"occlusion": -0.1}, r"occlusion must lie in \[0, 1\], got -0.1"),
        ({"wrong_labels": 1.0}, r"wrong_labels must lie in \[0, 1\), got 1.0"),
        ({"wrong_labels": float("nan")}, r"wrong_labels must lie in \[0, 1\), got nan"),
    ],
    ids=str,
)
def test_an_argument_out_of_its_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=f"SyntheticFaces: {message}"):
        SyntheticFaces(**arguments)


@pytest.mark.parametrize("index", [-1, 40])
def test_there_is_no_face_beyond_the_last(index):
    with pytest.raises(IndexError, match=r"index must lie in \[0, 40\)"):
        SMALL[index]


def test_occlusion_leaves_one_half_of_the_face_free():
    from mtattn.data.synthetic.drawing import MIDDLE, View

    for seed in range(200):
        view = View.draw(np.random.default_rng(seed), jitter=1.0, occlusion=1.0, blurry=False)
        across, _, wide, _ = view.occluder
        assert abs(across - MIDDLE) > wide


def test_faces_differ(labels):
    assert len(np.unique(labels, axis=0)) > 3000
    assert len({image.tobytes() for image, _ in (SMALL[index] for index in range(10))}) == 10
    assert all(SMALL[a][0] != SMALL[b][0] for a, b in combinations(range(4), 2))


def test_several_writers_of_one_set_all_get_it(tmp_path):
    """Each draws it; the one that comes first puts it there, and the others find it."""
    root, faces = tmp_path / "faces", SyntheticFaces(10)
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda _: faces.write(root), range(3))) == [root] * 3
    assert contents(root) == contents(faces.write(tmp_path / "alone"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "faces"]


@pytest.mark.parametrize("other", [SyntheticFaces(10, seed=5), None], ids=["other faces", "something else"])
def test_what_appears_while_faces_are_drawn_is_kept(tmp_path, monkeypatch, other):
    root, fill = tmp_path / "faces", SyntheticFaces._fill

    def interrupted(faces, folder):
        fill(faces, folder)
        if faces.seed == 0:
            other.write(root) if other else (root.mkdir(), (root / "mine.txt").touch())

    monkeypatch.setattr(SyntheticFaces, "_fill", interrupted)
    with pytest.raises(FileExistsError, match="must be new, empty, or hold this very set; it holds"):
        SyntheticFaces(10).write(root)
    assert (root / "mine.txt").exists() != bool(other)
