"""PETA and FairFace: their files in small, read by name, each attribute by its kind."""

import csv
import math
from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image

from mtattn import Categorical, Ordinal
from mtattn.data import FAIRFACE_GROUPS, FAIRFACE_GROUPS_YEARS, PETA, PETA_GROUPS, FairFace, peta

NAN = math.nan
REAL = Path(__file__).parents[2] / "shared/data"
BANDS = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")


def write_table(file, rows):
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_images(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 8)).save(root / name)


def replace(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def same(targets, expected):
    torch.testing.assert_close(targets, torch.tensor(expected, dtype=torch.float32), equal_nan=True, rtol=0, atol=0)


class TestPETA:
    @pytest.fixture
    def root(self, tmp_path):
        binary = {kind: ["0", "1", "0", "0"] for kind in PETA_GROUPS.kinds if isinstance(kind, str)}
        columns = binary | {
            "age": ["16-30", "60+", "", "Less15"],
            "viewpoint": ["back", "side", "front", "front"],
            "hair_color": ["Black", "", "Yellow", "Brown"],
            "upper_color": ["Pink", "Blue", "", "Yellow"],
            "lower_color": ["Black", "Black", "Black", "Black"],
            "footwear_color": ["White", "White", "White", ""],
            "image": [f"images/{row:05}.jpg" for row in range(1, 5)],
            "person": ["7", "7", "8", "9"],
            "split": ["train", "test", "val", "train"],
            "split_by_person": ["train", "train", "test", "val"],
        }
        write_table(tmp_path / "peta.csv", [{name: columns[name][row] for name in sorted(columns)} for row in range(4)])
        write_images(tmp_path, columns["image"])
        return tmp_path

    def test_its_groups_hold_31_binary_one_ordinal_and_five_categorical_attributes(self):
        kinds = [type(kind) for kind in PETA_GROUPS.kinds]
        assert [kinds.count(kind) for kind in (str, Ordinal, Categorical)] == [31, 1, 5]

    def test_columns_are_read_by_name_and_by_kind(self, root):
        data = PETA(root, "all", attributes=["age", "hair_color", "personalMale", "viewpoint"])
        assert data.attributes == ("age", "hair_color", "personalMale", "viewpoint")
        same(data.targets, [[1, 0, 0, 2], [4, NAN, 1, 1], [NAN, 8, 0, 0], [0, 1, 0, 0]])
        assert data[0][0].size == (4, 8)

    def test_without_a_wish_its_columns_are_those_of_the_groups(self, root):
        data = PETA(root, "train")
        assert (data.attributes, data.kinds) == (PETA_GROUPS.attributes, PETA_GROUPS.kinds)
        assert data.targets.shape == (2, 37)

    @pytest.mark.parametrize(
        ("split", "by_person", "images"),
        [
            ("train", False, ["00001", "00004"]),
            ("valid", False, ["00003"]),
            ("test", False, ["00002"]),
            ("train", True, ["00001", "00002"]),
            ("valid", True, ["00004"]),
            ("test", True, ["00003"]),
            ("all", True, ["00001", "00002", "00003", "00004"]),
        ],
    )
    def test_there_is_the_official_split_and_one_by_person(self, root, split, by_person, images):
        assert [Path(file).stem for file in PETA(root, split, by_person=by_person).files] == images

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("16-30", "16-31", "PETA: 'age' is one of Less15, .*, got '16-31' in line 2 in"),
            ("Yellow", "Blue", "PETA: 'hair_color' is one of Black, .* got 'Blue' in line 4"),
            ("person,", "who,", ""),
            ("hair_color", "hair_colour", "no column 'hair_color'; did you mean 'hair_colour'"),
            ("split_by_person", "by_person", "no column 'split_by_person'; did you mean"),
            ("00002.jpg", "00001.jpg", "are unique, got 'images/00001.jpg' in line 2 and line 3 in .*peta.csv; delete"),
        ],
        ids=["level", "class", "a column of no use", "attribute", "split", "an image twice"],
    )
    def test_a_table_that_breaks_its_form_is_refused(self, root, old, new, message):
        replace(root / "peta.csv", old, new)
        if not message:
            assert len(PETA(root, "all", by_person=True)) == 4
            return
        with pytest.raises(ValueError, match=message):
            PETA(root, "all", by_person=True)

    def test_what_is_missing_is_named(self, root):
        with pytest.raises(ValueError, match="PETA: no split 'val'; did you mean 'valid'"):
            PETA(root, "val")
        replace(root / "peta.csv", ",val,", ",train,")
        with pytest.raises(ValueError, match=r"PETA: split 'valid' is empty: no row of .*peta\.csv says 'val'"):
            PETA(root, "valid")
        (root / "images/00002.jpg").unlink()
        with pytest.raises(FileNotFoundError, match=r"PETA: every image .* got 1 of 1 missing, .*00002\.jpg"):
            PETA(root, "test")
        (root / "peta.csv").unlink()
        with pytest.raises(FileNotFoundError, match=r"PETA: needs peta\.csv, found none in .*\. Get PETA"):
            PETA(root, "test")


FACES = [
    {"image": f"{part}/{row}.jpg", "split": part, "age": BANDS[row % 9], "gender": gender, "race": "White"}
    for part, count in (("train", 20), ("val", 3))
    for row in range(count)
    for gender in [("Male", "Female")[row % 2]]
]


def write_changed_faces(root, old, new):
    write_images(root, [row["image"] for row in FACES])
    write_table(root / "fairface.csv", FACES)
    replace(root / "fairface.csv", old, new)


class TestFairFace:
    @pytest.fixture(params=["one table", "official"])
    def root(self, request, tmp_path):
        write_images(tmp_path, [row["image"] for row in FACES])
        if request.param == "one table":
            write_table(tmp_path / "fairface.csv", FACES)
            return tmp_path
        for part in ("train", "val"):
            rows = [row for row in FACES if row["split"] == part]
            named = [{"file": row["image"], **{name: row[name] for name in ("age", "gender", "race")}} for row in rows]
            write_table(tmp_path / f"fairface_label_{part}.csv", [{**row, "service_test": "True"} for row in named])
        return tmp_path

    def test_both_forms_read_the_same_by_name(self, root):
        data = FairFace(root, "test", attributes=["gender", "years", "age"])
        same(data.targets, [[1, 1.0, 0], [0, 6.0, 1], [1, 14.5, 2]])

    def test_its_parts_are_the_official_ones_and_valid_is_every_tenth_of_train(self, root):
        parts = {split: FairFace(root, split).files for split in ("train", "valid", "trainval", "test", "all")}
        assert parts["valid"] == ["train/9.jpg", "train/19.jpg"]
        assert parts["test"] == [f"val/{row}.jpg" for row in range(3)]
        assert sorted(parts["train"] + parts["valid"]) == sorted(parts["trainval"])
        assert (len(parts["train"]), len(parts["all"])) == (18, 23)

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_an_image_of_two_parts_is_refused_in_each(self, tmp_path, split):
        write_changed_faces(tmp_path, "val/0.jpg", "train/0.jpg")
        with pytest.raises(ValueError, match=r"FairFace: image names, .*, got 'train/0\.jpg' in line 2 and line 22 in"):
            FairFace(tmp_path, split)

    def test_the_age_is_a_band_or_the_middle_of_it(self, root):
        bands = FairFace(root, "train", attributes=FAIRFACE_GROUPS.attributes)
        years = FairFace(root, "train", attributes=FAIRFACE_GROUPS_YEARS.attributes)
        assert (bands.kinds, years.kinds) == (FAIRFACE_GROUPS.kinds, FAIRFACE_GROUPS_YEARS.kinds)
        assert bands.targets[:9, 0].tolist() == list(range(9))
        assert years.targets[:9, 0].tolist() == [1, 6, 14.5, 24.5, 34.5, 44.5, 54.5, 64.5, 75]
        fitted = FAIRFACE_GROUPS_YEARS.fitted(years.targets).kinds[0]
        assert fitted.mean == pytest.approx(years.targets[:, 0].mean().item())

    @pytest.mark.parametrize("attribute", ["age", "years"])
    def test_a_band_that_a_spreadsheet_made_a_date_is_refused(self, tmp_path, attribute):
        write_changed_faces(tmp_path, "3-9", "03. Sep")
        with pytest.raises(ValueError, match=r"FairFace: 'age' is one of .* got '03\. Sep' in line 3 in"):
            FairFace(tmp_path, "train", attributes=[attribute])

    def test_what_is_missing_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"FairFace: needs fairface_label_train\.csv, .*\. Get FairFace"):
            FairFace(tmp_path, "train")
        write_table(tmp_path / "fairface.csv", [row for row in FACES if row["split"] == "train"])
        with pytest.raises(ValueError, match="FairFace: split 'test' is empty: 20 images are of the part"):
            FairFace(tmp_path, "test")


@pytest.mark.skipif(not (REAL / "peta").is_dir(), reason="no real PETA images on this machine")
def test_the_real_peta_has_its_sizes_and_its_leak(monkeypatch):
    monkeypatch.setattr(peta, "read_published", cache(peta.read_published))  # two columns of one file of 19,000 rows
    sizes = {
        by_person: [len(PETA(REAL / "peta", part, by_person=by_person)) for part in ("train", "valid", "test")]
        for by_person in (False, True)
    }
    assert sizes == {False: [9500, 1900, 7600], True: [9511, 1886, 7603]}


@pytest.mark.skipif(not (REAL / "fairface").is_dir(), reason="no real FairFace images on this machine")
def test_the_real_fairface_has_its_sizes_and_baseline():
    assert [len(FairFace(REAL / "fairface", part)) for part in ("train", "valid", "test")] == [14400, 1600, 4000]
    age = FairFace(REAL / "fairface", "test", attributes=["age"]).targets[:, 0]
    assert age.mode().values.eq(age).float().mean().item() == pytest.approx(0.305, abs=5e-4)
