"""Drawn faces with labels of every kind say what their pictures show, and are otherwise those of SyntheticFaces."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mtattn import Number
from mtattn.data import SyntheticFaces, SyntheticKinds
from mtattn.data.synthetic.drawing import svg
from mtattn.data.synthetic.kinds import BANDS, TABLE, TONES, AgedFaces

pytest.importorskip("resvg_py")
pytest.importorskip("dicebear_styles")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return SyntheticKinds.write(tmp_path_factory.mktemp("kinds") / "faces", 40, seed=3)


def column(root, name):
    return SyntheticKinds(root, "all", attributes=[name]).targets[:, 0].numpy()


def test_the_binary_labels_are_those_of_synthetic_faces(root):
    binary = [kind for kind in SyntheticKinds.groups.kinds if isinstance(kind, str)]
    expected = SyntheticFaces(40, seed=3).labels[:, [SyntheticFaces.attributes.index(name) for name in binary]]
    assert (SyntheticKinds(root, "all", attributes=binary).targets.numpy() == expected).all()


def test_without_wrinkles_the_pictures_are_those_of_synthetic_faces():
    plain, aged = SyntheticFaces(40, seed=3), AgedFaces(40, seed=3)
    for index in range(5):
        face = aged._face(index)
        assert replace(face, years=None) == plain._face(index)
        assert aged[index][0].tobytes() != plain[index][0].tobytes()


def test_the_hair_color_is_what_celebas_labels_say_and_unknown_where_no_hair_is_seen(root):
    labels, found = SyntheticFaces(40, seed=3).labels, column(root, "hair_color")
    for index, color in enumerate(("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"), start=1):
        assert ((found == index) == labels[:, SyntheticFaces.attributes.index(color)]).all()
    hat = labels[:, SyntheticFaces.attributes.index("Wearing_Hat")]
    assert np.isnan(found[hat]).all()
    assert (found == 0).any()  # red or dyed


def test_the_tone_of_skin_is_pale_where_celebas_label_is_and_else_follows_the_color_drawn(root):
    tones, faces = column(root, "skin_tone"), SyntheticFaces(40, seed=3)
    pale = faces.labels[:, SyntheticFaces.attributes.index("Pale_Skin")]
    assert ((tones == 0) == pale).all()
    brightness = [max(bytes.fromhex(faces._face(index).colors["skin"][1:])) for index in range(40)]
    assert (np.diff(tones[np.argsort(brightness, kind="stable")]) <= 0).all()
    assert set(tones) >= set(range(1, len(TONES)))


def test_older_faces_have_deeper_wrinkles_and_the_bands_are_those_of_the_years(root):
    years = column(root, "years")
    assert (column(root, "age") == years // 20).all()
    assert years.max() < 20 * len(BANDS)
    assert len(set(years)) > 35
    faces = AgedFaces(40, seed=3)
    for index in (0, 7):
        face = faces._face(index)
        drawn = svg(face, faces._view(index, face), faces.size)
        assert f'<g opacity="{0.9 * years[index] / 80:.3f}">' in drawn


def test_the_parts_are_eight_one_and_one_tenths(root):
    sizes = [len(SyntheticKinds(root, part)) for part in ("train", "valid", "test", "all")]
    assert sizes == [32, 4, 4, 40]


def test_all_attributes_are_given_in_the_order_of_the_groups(root):
    data = SyntheticKinds(root, "train")
    assert data.attributes == SyntheticKinds.groups.attributes
    assert data.kinds == SyntheticKinds.groups.kinds
    fitted = SyntheticKinds.groups.fitted(data.targets)
    (years,) = [kind for kind in fitted.kinds if isinstance(kind, Number)]
    assert years.mean == pytest.approx(float(torch.tensor(column(root, "years")[:32]).mean()), abs=1e-3)


def test_writing_again_leaves_the_folder_and_other_faces_are_refused(root):
    before = (root / TABLE).stat().st_mtime_ns
    assert SyntheticKinds.write(root, 40, seed=3) == root
    assert (root / TABLE).stat().st_mtime_ns == before
    for other in (lambda: SyntheticKinds.write(root, 40, seed=4), lambda: SyntheticFaces(40, seed=3).write(root)):
        with pytest.raises(FileExistsError, match="holds other faces"):
            other()


def test_a_folder_of_plain_drawn_faces_is_refused_with_the_way_out(tmp_path):
    plain = SyntheticFaces(10).write(tmp_path / "faces")
    with pytest.raises(FileNotFoundError, match=r"SyntheticKinds: needs kinds.csv.*Draw it with SyntheticKinds.write"):
        SyntheticKinds(plain, "train")
    with pytest.raises(ValueError, match="SyntheticKinds: no split 'tset'; did you mean 'test'"):
        SyntheticKinds(plain, "tset")
