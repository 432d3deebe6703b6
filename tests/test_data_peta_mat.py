"""PETA.mat, PETA's official label file, in small and whole: the labels of peta.csv without it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtattn.data import PETA, PETA_GROUPS
from mtattn.data.peta_mat import _BANDS

io = pytest.importorskip("scipy.io", reason="the extra tables is not installed")

REAL = Path(__file__).parents[2] / "shared/data/peta"
BINARY = [kind for kind in PETA_GROUPS.kinds if isinstance(kind, str)]
NAMES = [*BINARY, *_BANDS, "hairBlack", "hairYellow", "upperBodyPink", "lowerBodyRed", "footwearBlue"]
YES = [
    {"personalMale", "personalLess30", "hairYellow"},
    {"personalLess15", "personalLess30"},
    {"hairBlack", "hairYellow"},
]


def write(root, *, names=NAMES, labels=None, train=(1, 3), test=(2,), key="peta"):
    if labels is None:
        labels = [[name in yes for name in names] for yes in YES]
    cells, parts = np.empty((len(names), 1), object), np.empty((1, 1), object)
    cells[:, 0] = names
    parts[0, 0] = {name: np.array(part)[:, None] for name, part in (("train", train), ("val", []), ("test", test))}
    data = np.concatenate([np.full((len(labels), 4), 95), np.array(labels, int)], 1)
    io.savemat(root / "PETA.mat", {key: {"data": data, "attribute": cells, "partion_attribute": parts}})


@pytest.fixture
def root(tmp_path):
    (tmp_path / "images").mkdir()
    for number, suffix in (1, "png"), (2, "jpg"), (3, "png"):
        Image.new("RGB", (4, 8)).save(tmp_path / f"images/{number:05}.{suffix}")
    write(tmp_path)
    return tmp_path


def test_labels_bands_and_colors_are_read_and_what_is_not_labelled_once_is_unknown(root):
    data = PETA(root, "all", attributes=["personalMale", "age", "hair_color", "upper_color", "viewpoint"])
    nan = torch.nan
    expected = torch.tensor([[1, 1, 8, nan, nan], [0, nan, nan, nan, nan], [0, nan, nan, nan, nan]])
    torch.testing.assert_close(data.targets, expected, equal_nan=True)
    assert data[1][0].size == (4, 8)


def test_the_split_is_the_first_official_one(root):
    assert [[Path(file).stem for file in PETA(root, part).files] for part in ("train", "test")] == [
        ["00001", "00003"],
        ["00002"],
    ]


def test_peta_csv_comes_first(root):
    (root / "peta.csv").write_text("image,split,personalMale\nimages/00001.png,train,0\n")
    assert PETA(root, "all", attributes=["personalMale"]).targets.tolist() == [[0]]


def test_the_split_by_person_is_not_in_it(root):
    with pytest.raises(ValueError, match="no split by person; write one into the column 'split_by_person' of peta"):
        PETA(root, "train", by_person=True)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"key": "rap"}, r"must be PETA's official label file, got something else \('peta'\)"),
        ({"names": [name for name in NAMES if name != "personalLess45"]}, "got none called 'personalLess45'"),
        ({"labels": np.full((3, len(NAMES)), 2)}, "a column of 0 and 1 for each label, got 2"),
        ({"labels": np.zeros((3, 7))}, f"got 7 columns for {len(NAMES)} names"),
        ({"train": (1, 4)}, "number images from 1 to 3, each once, got 4"),
        ({"train": (1, 2)}, "number images from 1 to 3, each once, got one in two parts"),
    ],
)
def test_a_file_that_breaks_its_form_is_refused(root, broken, message):
    write(root, **broken)
    with pytest.raises(ValueError, match=f"PETA: .*{message}"):
        PETA(root, "train")


def test_a_file_that_is_no_mat_is_refused(root):
    (root / "PETA.mat").write_text("personalMale")
    with pytest.raises(ValueError, match="must be PETA's official label file, got something else"):
        PETA(root, "train")


@pytest.mark.skipif(not REAL.is_dir(), reason="PETA is not here")
def test_the_official_file_says_what_peta_csv_says(tmp_path):
    for name in ("PETA.mat", "images"):
        (tmp_path / name).symlink_to(REAL / name)
    for part in ("train", "valid", "test"):
        ours, theirs = PETA(tmp_path, part), PETA(REAL, part)
        known = [place for place, name in enumerate(theirs.attributes) if name != "viewpoint"]
        torch.testing.assert_close(ours.targets[:, known], theirs.targets[:, known], equal_nan=True, rtol=0, atol=0)
        assert [Path(file).stem for file in ours.files] == [Path(file).stem for file in theirs.files]
