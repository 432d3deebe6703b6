"""PA-100K's annotation.mat in small: its 26 labels as 20 yes-or-no attributes, an age band and a side."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtattn.data import PA100K, PA100K_GROUPS

io = pytest.importorskip("scipy.io", reason="the extra tables is not installed")

NAMES = ["Female", "AgeOver60", "Age18-60", "AgeLess18", "Front", "Side", "Back", "Hat", "Glasses", "HandBag"]
NAMES += ["ShoulderBag", "Backpack", "HoldObjectsInFront", "ShortSleeve", "LongSleeve", "UpperStride", "UpperLogo"]
NAMES += ["UpperPlaid", "UpperSplice", "LowerStripe", "LowerPattern", "LongCoat", "Trousers", "Shorts", "Skirt&Dress"]
NAMES += ["boots"]
YES = {
    "train": [{"Female", "AgeLess18", "Back", "boots"}, {"Age18-60", "AgeOver60", "Hat"}],
    "val": [{"AgeOver60", "Side"}],
    "test": [{"Age18-60", "Front", "Trousers"}],
}


def column(texts):
    cells = np.empty((len(texts), 1), object)
    cells[:, 0] = texts
    return cells


def write(root, *, names=NAMES, changed=lambda contents: contents):
    contents, number = {"attributes": column(names)}, 0
    for part, images in YES.items():
        files = [f"{number + place:06}.jpg" for place in range(1, len(images) + 1)]
        number += len(images)
        contents[f"{part}_images_name"] = column(files)
        contents[f"{part}_label"] = np.array([[name in yes for name in names] for yes in images], np.uint8)
    io.savemat(root / "annotation.mat", changed(contents), do_compression=True)


@pytest.fixture(params=["data", "release_data/release_data", "."])
def root(request, tmp_path):
    (tmp_path / request.param).mkdir(parents=True, exist_ok=True)
    for number in range(1, 5):
        Image.new("RGB", (4, 8)).save(tmp_path / request.param / f"{number:06}.jpg")
    write(tmp_path)
    return tmp_path


def test_its_labels_are_read_and_two_bands_or_no_side_are_unknown(root):
    data = PA100K(root, "train", attributes=["boots", "age", "viewpoint", "Hat"])
    expected = torch.tensor([[1, 0, 2, 0], [0, torch.nan, torch.nan, 1]])
    torch.testing.assert_close(data.targets, expected, equal_nan=True)
    assert data[0][0].size == (4, 8)


@pytest.mark.parametrize(("split", "numbers"), [("valid", [3]), ("test", [4]), ("all", [1, 2, 3, 4])])
def test_the_parts_are_the_official_ones(root, split, numbers):
    assert [int(Path(file).stem) for file in PA100K(root, split).files] == numbers


def test_all_26_labels_are_in_the_groups():
    labels = [kind if isinstance(kind, str) else kind.name for kind in PA100K_GROUPS.kinds]
    assert len(labels) == 22
    assert set(NAMES) > {name for name in labels if name not in {"age", "viewpoint"}}


def but(**changes):
    return lambda contents: contents | changes


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"changed": lambda _: {"peta": np.zeros((1, 1))}}, r"must be PA-100K's annotation.mat.*'attributes'"),
        ({"names": [*NAMES[:-1], "Boots"]}, "names the 26 labels of PA-100K, got 'Boots' otherwise"),
        ({"names": [*NAMES, "boots"]}, "names the 26 labels of PA-100K, got 'boots' otherwise"),
        ({"changed": but(train_label=np.zeros((3, 26)))}, r"got \[2\] images and labels of shape \(3, 26\)"),
        ({"changed": but(train_label=np.zeros((2, 25)))}, r"got \[2\] images and labels of shape \(2, 25\)"),
        ({"changed": but(train_label=np.full((2, 26), 2))}, "a label is 0 or 1, got 2"),
        ({"changed": but(train_label=np.zeros((2, 26, 2)))}, "labels of shape"),
        ({"changed": but(test_images_name=column(["000002.jpg"]))}, r"in one part and there once, got '000002\.jpg' 2"),
        ({"changed": but(train_label="no numbers")}, "must be PA-100K's annotation.mat"),
        ({"changed": but(train_images_name=np.empty((0, 1), object), train_label=np.empty((0, 26)))}, "is empty in"),
    ],
)
def test_a_file_that_breaks_its_form_is_refused(tmp_path, broken, message):
    write(tmp_path, **broken)
    with pytest.raises(ValueError, match=f"PA100K: .*{message}"):
        PA100K(tmp_path, "train")


def test_without_the_file_or_an_image_it_says_what_it_needs(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"needs annotation\.mat, found none in .*Get PA-100K"):
        PA100K(tmp_path, "train")
    write(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"000001\.jpg"):
        PA100K(tmp_path, "train")
