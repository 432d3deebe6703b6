import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtattn.data import CELEBA_ATTRIBUTES, LFWA

h5py = pytest.importorskip("h5py")

REAL = Path(__file__).parents[2] / "shared/data/lfwa"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="no real LFWA images on this machine")

ATTRIBUTES = ["Smiling", "5 o Clock Shadow"]
PEOPLE = [f"Person_{letter}" for letter in "ABCDEFGHIJKL"]
NAMES = [f"{person}\\{person}_{number:04}.jpg" for person in PEOPLE for number in (1, 2)]
LABELS = [[index % 2, index // 2 % 2] for index in range(len(NAMES))]
TRAIN, TEST = np.arange(1, 21), np.arange(21, 25)


def write_cells(file, key, texts):
    references = []
    for number, text in enumerate(texts):
        codes = np.frombuffer(text.encode("utf-16-le"), np.uint16)[:, None]
        references.append(file.create_dataset(f"#refs#/{key}{number}", data=codes).ref)
    file.create_dataset(key, data=np.array([references], dtype=h5py.ref_dtype))


def write_labels(root, *, names=NAMES, labels=LABELS, attributes=ATTRIBUTES):
    with h5py.File(root / "lfw_att_40.mat", "w", userblock_size=512) as file:
        write_cells(file, "AttrName", attributes)
        write_cells(file, "name", names)
        file["label"] = np.array(labels, dtype=float).T


def write_indices(root, *, train=TRAIN, test=TEST):
    with h5py.File(root / "indices_train_test.mat", "w", userblock_size=512) as file:
        file["indices_img_train"] = np.array([train], dtype=float)
        file["indices_img_test"] = np.array([test], dtype=float)


@pytest.fixture
def root(tmp_path):
    write_labels(tmp_path)
    write_indices(tmp_path)
    for name in NAMES:
        path = tmp_path / "lfw" / name.replace("\\", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 5)).save(path)
    return tmp_path


def people(dataset):
    return {name.split("/")[0] for name in dataset.files}


def test_an_item_is_an_rgb_picture_and_float_targets(root):
    dataset = LFWA(root, "test")
    image, target = dataset[1]
    assert (image.mode, image.size) == ("RGB", (5, 5))
    assert target.dtype == torch.float32
    assert target.tolist() == LABELS[21]
    assert dataset.path(1) == root / "lfw/Person_K/Person_K_0002.jpg"


def test_names_have_underscores_and_come_in_the_order_asked_for(root):
    dataset = LFWA(root, "test", attributes=["5_o_Clock_Shadow", "Smiling"])
    assert LFWA(root, "test").attributes == ("Smiling", "5_o_Clock_Shadow")
    assert dataset.targets.tolist() == [row[::-1] for row in LABELS[20:]]


def test_the_training_half_is_cut_by_person(root):
    train, valid = LFWA(root, "train"), LFWA(root, "valid")
    assert (len(train), people(valid)) == (18, {"Person_J"})
    assert not people(train) & people(valid)
    assert sorted(train.files + valid.files) == LFWA(root, "trainval").files
    assert len(LFWA(root, "all")) == 24


@pytest.mark.parametrize("validation", [0.0, 0.1, 0.25, 0.5, 0.9])
def test_valid_takes_the_share_of_people_asked_for(root, validation):
    train = LFWA(root, "train", validation=validation)
    assert len(people(train)) == 10 - int(10 * validation)


def test_the_same_people_are_valid_in_whatever_order_the_images_stand(root):
    before = people(LFWA(root, "valid"))
    write_indices(root, train=TRAIN[::-1])
    assert people(LFWA(root, "valid")) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "train", "attributes": ["Smilling"]}, "LFWA: no attribute 'Smilling'; did you mean 'Smiling'"),
        ({"split": "validation"}, "LFWA: no split 'validation'; did you mean 'valid'"),
        ({"split": "valid", "validation": 1.0}, r"LFWA: validation is a share in \[0, 1\), got 1.0"),
        ({"split": "valid", "validation": 0.0}, "LFWA: split 'valid' is empty: the training half has 20 images"),
    ],
    ids=["unknown attribute", "unknown split", "share too large", "share too small"],
)
def test_wrong_arguments_are_refused(root, options, message):
    with pytest.raises(ValueError, match=message):
        LFWA(root, **options)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            {"labels": [[0, 2], *LABELS[1:]]},
            "a label is 0 or 1, got 2 for '5_o_Clock_Shadow' of Person_A/Person_A_0001.jpg",
        ),
        ({"labels": [[np.nan, 0], *LABELS[1:]]}, "a label is 0 or 1, got nan for 'Smiling'"),
        (
            {"labels": LABELS[1:]},
            "label has a row for each of 24 images and a column for each of 2 attributes, got 23 x 2",
        ),
        ({"names": [NAMES[1], *NAMES[1:]]}, "image names are unique, got 'Person_A/Person_A_0002.jpg' twice"),
        ({"names": ["A.jpg", *NAMES[1:]]}, r"image names are Person.file.jpg, got 'A.jpg'"),
        ({"attributes": ["Smiling", "Smiling"]}, "attribute names are unique, got 'Smiling' twice"),
    ],
    ids=["value 2", "value nan", "shape", "image twice", "no person", "attribute twice"],
)
def test_labels_that_break_their_form_are_refused(root, broken, message):
    write_labels(root, **broken)
    with pytest.raises(ValueError, match=f"LFWA: {message}"):
        LFWA(root, "train")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"train": [0, 1]}, "whole numbers from 1 to 24, .* got 0 in"),
        ({"test": [25]}, "whole numbers from 1 to 24, .* got 25 in"),
        ({"test": [21.5]}, "whole numbers from 1 to 24, .* got 21.5 in"),
        ({"test": [np.nan]}, "whole numbers from 1 to 24, .* got nan in"),
        ({"test": [1]}, "an image is in one half and there once, got index 1 twice"),
    ],
    ids=["zero-based", "too large", "half", "nan", "in both halves"],
)
def test_indices_that_break_their_form_are_refused(root, broken, message):
    write_indices(root, **broken)
    with pytest.raises(ValueError, match=f"LFWA: .*{message}"):
        LFWA(root, "train")


@pytest.mark.parametrize("name", ["lfw_att_40.mat", "indices_train_test.mat"])
def test_a_file_that_is_not_hdf5_is_refused(root, name):
    root.joinpath(name).write_bytes(b"MATLAB 5.0 MAT-file" + bytes(600))
    with pytest.raises(ValueError, match=rf"LFWA: .*{name} must be a MATLAB v7.3 \(HDF5\) file"):
        LFWA(root, "train")


def test_a_file_without_its_keys_is_refused(root):
    with h5py.File(root / "lfw_att_40.mat", "a") as file:
        del file["name"]
    with pytest.raises(ValueError, match=r"must hold AttrName, label, name, got .*AttrName, label; get"):
        LFWA(root, "train")


def test_names_that_are_no_cells_are_refused(root):
    with h5py.File(root / "lfw_att_40.mat", "a") as file:
        del file["name"]
        file["name"] = np.zeros((1, 24))
    with pytest.raises(ValueError, match="LFWA: name must be a cell array of strings, got float64"):
        LFWA(root, "train")


@pytest.mark.parametrize("name", ["lfw_att_40.mat", "indices_train_test.mat", "lfw"])
def test_what_is_missing_is_named_with_where_to_get_it(root, name):
    root.joinpath(name).rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match=rf"LFWA: needs .*{name}, found none in {re.escape(str(root))}.*mmlab"):
        LFWA(root, "train")


def test_missing_images_are_named_or_left_out(root):
    root.joinpath("lfw/Person_A/Person_A_0002.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"LFWA: .* got 1 of 18 missing, the first is .*Person_A_0002.jpg"):
        LFWA(root, "train")
    with pytest.warns(UserWarning, match="LFWA: left out 1 of 18 images"):
        assert len(LFWA(root, "train", missing="skip")) == 17


@needs_real
def test_real_halves_have_their_sizes_and_no_person_is_in_two_parts():
    train, valid, test = (LFWA(REAL, split) for split in ("train", "valid", "test"))
    assert (len(train) + len(valid), len(test)) == (6263, 6880)
    assert 0.05 < len(valid) / 6263 < 0.15
    assert sorted(train.attributes) == list(CELEBA_ATTRIBUTES)
    assert not people(train) & people(valid) | people(train) & people(test) | people(valid) & people(test)


@needs_real
def test_real_splits_join_to_the_whole_and_reach_the_majority_baseline():
    trainval, test, everything = (LFWA(REAL, split) for split in ("trainval", "test", "all"))
    assert (len(trainval), len(everything)) == (6263, 13143)
    majority = trainval.targets.mean(0).round()
    assert (test.targets == majority).float().mean() == pytest.approx(0.7095, abs=5e-4)


def test_a_file_that_was_written_again_is_read_again(root):
    before = LFWA(root, "all").targets
    write_labels(root, labels=[[1 - first, second] for first, second in LABELS])
    assert torch.equal(LFWA(root, "all").targets[:, 0], 1 - before[:, 0])
