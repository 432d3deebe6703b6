import io
import pickle
import re
import tracemalloc
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mtattn.data import (
    CELEBA_ATTRIBUTES,
    CELEBA_GROUPS,
    AttributeImages,
    CelebA,
    UnreadableImage,
    skip_unreadable,
)

REAL = Path(__file__).parents[2] / "shared/data/celeba"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="no real CelebA images on this machine")

ATTRIBUTES = ["Smiling", "Young", "Male"]
LABELS = [[1, -1, -1], [-1, 1, 0], [1, 1, 1], [-1, -1, 1], [0, 1, -1]]
PARTS = [0, 0, 0, 1, 2]
NAMES = [f"{number:06}.jpg" for number in range(1, 6)]
NAN = float("nan")


def write_text_form(root):
    rows = [f"{name} {' '.join(f'{value:2}' for value in values)}" for name, values in zip(NAMES, LABELS, strict=True)]
    root.joinpath("list_attr_celeba.txt").write_text("\n".join(["5", f"{' '.join(ATTRIBUTES)} ", *rows, ""]))
    parts = "".join(f"{name} {part}\n" for name, part in zip(NAMES, PARTS, strict=True))
    root.joinpath("list_eval_partition.txt").write_text(parts)


def write_csv_form(root):
    rows = [f"{name},{','.join(map(str, values))}\n" for name, values in zip(NAMES, LABELS, strict=True)]
    root.joinpath("list_attr_celeba.csv").write_text(f"image_id,{','.join(ATTRIBUTES)}\n" + "".join(rows))
    parts = "".join(f"{name},{part}\n" for name, part in zip(NAMES, PARTS, strict=True))
    root.joinpath("list_eval_partition.csv").write_text(f"image_id,partition\n{parts}")


def write_images(folder):
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        Image.new("RGB", (6, 8), (40 * number, 0, 0)).save(folder / name, quality=100)


@pytest.fixture
def root(tmp_path):
    write_text_form(tmp_path)
    write_images(tmp_path / "img_align_celeba")
    return tmp_path


@pytest.fixture
def kaggle_root(tmp_path):
    write_csv_form(tmp_path)
    write_images(tmp_path / "img_align_celeba/img_align_celeba")
    return tmp_path


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def same(targets, expected):
    torch.testing.assert_close(targets, torch.tensor(expected), equal_nan=True, rtol=0, atol=0)


def test_an_item_is_an_rgb_picture_and_float_targets_with_nan_where_unlabelled(root):
    image, target = CelebA(root, "train")[1]
    assert (image.mode, image.size) == ("RGB", (6, 8))
    same(target, [0.0, 1.0, NAN])


def test_attributes_come_by_name_in_the_order_asked_for(root):
    dataset = CelebA(root, "train", attributes=["Male", "Smiling"])
    assert dataset.attributes == ("Male", "Smiling")
    same(dataset.targets, [[0.0, 1.0], [NAN, 0.0], [1.0, 1.0]])
    same(dataset[0][1], [0.0, 1.0])


@pytest.mark.parametrize(
    ("split", "names"),
    [("train", NAMES[:3]), ("valid", NAMES[3:4]), ("test", NAMES[4:]), ("all", NAMES)],
    ids=["train", "valid", "test", "all"],
)
def test_a_split_holds_the_images_that_the_partition_puts_there(root, split, names):
    dataset = CelebA(root, split)
    assert dataset.files == names
    assert [dataset.path(index) for index in range(len(dataset))] == [
        root / "img_align_celeba" / name for name in names
    ]


@pytest.mark.parametrize("split", ["train", "valid", "test", "all"])
def test_kaggles_csv_form_reads_the_same_as_the_text_form(tmp_path, split):
    for form, write, folder in [
        ("text", write_text_form, "img_align_celeba"),
        ("csv", write_csv_form, "img_align_celeba/img_align_celeba"),
    ]:
        write_images(tmp_path / form / folder)
        write(tmp_path / form)
    text, csv = CelebA(tmp_path / "text", split), CelebA(tmp_path / "csv", split)
    assert (csv.attributes, csv.files) == (text.attributes, text.files)
    same(csv.targets, text.targets.tolist())
    assert csv[0][0].tobytes() == text[0][0].tobytes()


def test_the_official_folders_anno_eval_and_img_are_looked_into(root):
    for folder, name in [
        ("Anno", "list_attr_celeba.txt"),
        ("Eval", "list_eval_partition.txt"),
        ("Img", "img_align_celeba"),
    ]:
        (root / folder).mkdir()
        (root / name).rename(root / folder / name)
    assert len(CelebA(root, "all")) == 5


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda text: text.replace("\n", "\r\n"), id="Windows line ends"),
        pytest.param(lambda text: "\ufeff" + text, id="byte order mark"),
        pytest.param(lambda text: text.rstrip("\n"), id="no line end at the end"),
        pytest.param(lambda text: text + "\n\n", id="blank lines"),
    ],
)
@pytest.mark.parametrize("form", ["txt", "csv"])
def test_harmless_differences_of_editors_do_not_matter(tmp_path, spoil, form):
    (write_text_form if form == "txt" else write_csv_form)(tmp_path)
    write_images(tmp_path / "img_align_celeba")
    expected = CelebA(tmp_path, "train").targets.tolist()
    for path in tmp_path.glob("list_*"):
        path.write_bytes(spoil(path.read_text()).encode())
    same(CelebA(tmp_path, "train").targets, expected)


def test_a_transform_is_applied_to_the_picture(root):
    assert CelebA(root, "train", transform=lambda image: image.size)[0][0] == (6, 8)


def test_shortened_lists_take_fewer_images(root):
    root.joinpath("list_attr_celeba.txt").write_text("2\nSmiling Young\n000001.jpg 1 -1\n000005.jpg 1 -1\n")
    root.joinpath("list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 0\n")
    assert CelebA(root, "train").files == ["000001.jpg"]
    assert CelebA(root, "all").files == ["000001.jpg", "000005.jpg"]


def test_the_order_of_the_partition_does_not_matter(root):
    path = root / "list_eval_partition.txt"
    path.write_text("\n".join(reversed(path.read_text().splitlines())))
    assert CelebA(root, "train").files == NAMES[:3]


def test_the_split_all_needs_no_partition(root):
    root.joinpath("list_eval_partition.txt").unlink()
    assert len(CelebA(root, "all")) == 5


def test_worker_processes_read_the_same(root):
    dataset = CelebA(root, "train", transform=np.asarray)
    targets = torch.cat([target for _, target in DataLoader(dataset, batch_size=2, num_workers=2)])
    same(targets, dataset.targets.tolist())


def test_a_pickled_copy_is_the_same_and_small(root):
    dataset = CelebA(root, "train")
    stored = pickle.dumps(dataset)
    assert pickle.loads(stored).files == dataset.files
    assert len(stored) < 2_000


def test_iteration_ends_and_negative_indices_count_from_the_end(root):
    dataset = CelebA(root, "train")
    assert len(list(dataset)) == 3
    same(dataset[-1][1], [1.0, 1.0, 1.0])


def test_a_subset_keeps_the_order_asked_for_and_leaves_the_whole_alone(root):
    dataset = CelebA(root, "train")
    assert dataset.subset([2, 0]).files == ["000003.jpg", "000001.jpg"]
    assert dataset.subset(np.array([True, False, False])).files == ["000001.jpg"]
    assert len(dataset.subset([])) == 0
    assert len(dataset) == 3


def test_repr_tells_the_sizes(root):
    assert repr(CelebA(root, "train")).startswith("CelebA(3 images, 3 attributes, in ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "train", "attributes": ["Smilling"]}, "CelebA: no attribute 'Smilling'; did you mean 'Smiling'"),
        ({"split": "train", "attributes": "Smiling"}, "CelebA: attributes is a list .* got 'Smiling'"),
        ({"split": "train", "attributes": []}, r"CelebA: attributes is a list .* got \[\]"),
        (
            {"split": "train", "attributes": ["Male", "Male"]},
            "CelebA: each attribute is asked for once, got 'Male' 2 times",
        ),
        ({"split": "val"}, "CelebA: no split 'val'; did you mean 'valid'"),
        (
            {"split": "train", "missing": "ignore"},
            "CelebA: no way to treat missing images 'ignore'; there are error, skip",
        ),
    ],
    ids=["unknown attribute", "string", "no attribute", "attribute twice", "unknown split", "unknown way"],
)
def test_wrong_arguments_are_refused(root, options, message):
    with pytest.raises(ValueError, match=message):
        CelebA(root, **options)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("attr", "5\n", "6\n", r"line 1 of .* says how many rows follow, got 6 and 5 rows; .* write 5 there"),
        ("attr", "5\n", "", r"line 1 of .*txt is the number of images, got 'Smiling Young Male'"),
        ("attr", "Smiling Young Male", "", r"line 2 of .* holds the attribute names, got none"),
        ("attr", "Young Male", "Young Young", "attribute names are unique, got 'Young' 2 times in line 2"),
        ("attr", "000002.jpg -1  1  0", "000002.jpg -1  1", "image name and 3 values, got 2 in line 4 of"),
        ("attr", "000002.jpg -1  1  0", "000002.jpg -1  1  0 1", "image name and 3 values, got 4 in line 4 of"),
        ("attr", "000002.jpg -1  1  0", "000002.jpg -1  2  0", "is -1, 0 or 1, got '2' for 'Young' in line 4 of"),
        ("attr", "000002.jpg -1  1  0", "000002.jpg -1  1.0  0", "is -1, 0 or 1, got '1.0' for 'Young' in line 4 of"),
        ("attr", "000002.jpg -1  1  0", "000002.jpg -1  nan  0", "is -1, 0 or 1, got 'nan' for 'Young' in line 4 of"),
        ("attr", "000002.jpg", "000001.jpg", "image names are unique, got '000001.jpg' in lines 3 and 4 of"),
        ("eval", "000002.jpg 0", "000002.jpg 3", "is 0, 1 or 2, got '3' for 'partition' in line 2 of"),
        ("eval", "000002.jpg 0", "000002.jpg", "image name and 1 value, got 0 in line 2 of"),
        ("eval", "000002.jpg", "000001.jpg", "image names are unique, got '000001.jpg' in lines 1 and 2 of"),
    ],
    ids=[
        "count disagrees",
        "no count",
        "no names",
        "attribute twice",
        "value missing",
        "value too many",
        "value 2",
        "value 1.0",
        "value nan",
        "image twice",
        "part 3",
        "part missing",
        "image in two parts",
    ],
)
def test_a_file_that_breaks_its_form_is_refused_with_its_line(root, name, old, new, message):
    replace(next(root.glob(f"list_{name}*")), old, new)
    with pytest.raises(ValueError, match=f"CelebA: .*{message}"):
        CelebA(root, "train")


def test_a_csv_row_with_a_hole_is_refused_with_its_line(kaggle_root):
    replace(kaggle_root / "list_attr_celeba.csv", "000002.jpg,-1,1,0", "000002.jpg,-1,,0")
    with pytest.raises(ValueError, match="a row has no empty cell, got one in line 3 of"):
        CelebA(kaggle_root, "train")


def test_labels_written_as_0_and_1_are_refused_because_0_means_unlabelled(root):
    path = root / "list_attr_celeba.txt"
    path.write_text(path.read_text().replace("-1", " 0"))
    with pytest.raises(ValueError, match=r"got 0 and no -1 for 'Smiling' and 2 more in .*; write -1 for 0"):
        CelebA(root, "train")


def test_a_column_of_0_and_1_is_refused_beside_columns_of_minus_one(root):
    path = root / "list_attr_celeba.txt"
    path.write_text("3\nSmiling Mask\n000001.jpg 1 1\n000002.jpg -1 0\n000003.jpg 0 0\n")
    with pytest.raises(ValueError, match=r"CelebA: .* got 0 and no -1 for 'Mask' in .*; write -1 for 0"):
        CelebA(root, "train")


def test_a_name_of_absurd_length_is_refused_before_it_takes_memory(root):
    rows = "".join(f"{row:06}.jpg -1 -1 -1\n" for row in range(5_000))
    text = f"5001\n{' '.join(ATTRIBUTES)}\n{rows}{'x' * 20_000} 1 1 1\n"
    root.joinpath("list_attr_celeba.txt").write_text(text)
    tracemalloc.start()
    with pytest.raises(ValueError, match="an image name has at most 1024 bytes, got 20000 in line 5003 of"):
        CelebA(root, "train")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * len(text)  # the names as a matrix of letters took 17,000 times


def test_a_split_may_have_no_minus_one_if_the_file_has_some(root):
    path = root / "list_attr_celeba.txt"
    path.write_text(path.read_text().replace(f"{NAMES[4]}  0  1 -1", f"{NAMES[4]}  0  1  1"))
    assert CelebA(root, "test").targets.nan_to_num(-1).tolist() == [[-1, 1, 1]]


def test_an_attribute_without_a_name_is_refused(kaggle_root):
    replace(kaggle_root / "list_attr_celeba.csv", "image_id,Smiling,Young", "image_id,Smiling,")
    with pytest.raises(ValueError, match="an attribute has a name, got an empty one in line 1 of"):
        CelebA(kaggle_root, "train")


def test_own_data_of_a_derived_class_are_checked_like_any_other(root):
    class Mine(AttributeImages):
        pass

    with pytest.raises(ValueError, match="Mine: 0 says 'no' beside 1 and NaN"):
        Mine(root / "img_align_celeba", NAMES[:1], [[1, 0, 1]], ATTRIBUTES)


@pytest.mark.parametrize(
    "content",
    [b"\x1f\x8b\x08\x00\xff\xfe", "5\nSmiling".encode("utf-16"), b"5\nSmiling\n\0\0\0"],
    ids=["gzip", "UTF-16", "zeros"],
)
def test_a_binary_file_is_refused(root, content):
    root.joinpath("list_attr_celeba.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"CelebA: .*list_attr_celeba.txt must be UTF-8 text"):
        CelebA(root, "train")


def test_an_empty_split_is_refused(root):
    root.joinpath("list_eval_partition.txt").write_text("000001.png 0\n")
    with pytest.raises(
        ValueError, match=r"split 'train' is empty: .* lists 5 images, .* puts 1 images .* none is in both"
    ):
        CelebA(root, "train")


def test_annotations_without_any_row_are_refused(root):
    root.joinpath("list_attr_celeba.txt").write_text("0\nSmiling Young\n")
    with pytest.raises(ValueError, match=r"CelebA: .*list_attr_celeba\.txt holds a row for each image, got none"):
        CelebA(root, "all")


@pytest.mark.parametrize("name", ["list_attr_celeba.txt", "list_eval_partition.txt", "img_align_celeba"])
def test_what_is_missing_is_named_with_where_to_get_it(root, name):
    root.joinpath(name).rename(root / "elsewhere")
    with pytest.raises(
        FileNotFoundError, match=rf"CelebA: needs .*{Path(name).stem}.* none in {re.escape(str(root))}.*mmlab"
    ):
        CelebA(root, "train")


def test_a_misspelt_root_suggests_the_nearest_folder(root):
    with pytest.raises(FileNotFoundError, match=f"CelebA: no folder .*; did you mean {re.escape(str(root))}"):
        CelebA(f"{root}s", "train")


def test_a_root_that_is_a_file_is_refused(root):
    with pytest.raises(NotADirectoryError, match="CelebA: root is a folder, got the file"):
        CelebA(root / "list_attr_celeba.txt", "train")


def test_missing_images_are_counted_and_the_first_is_named(root):
    for name in NAMES[1:3]:
        root.joinpath("img_align_celeba", name).unlink()
    with pytest.raises(FileNotFoundError, match=r"got 2 of 3 missing, the first is .*000002.jpg; .*missing='skip'"):
        CelebA(root, "train")


def test_missing_images_are_left_out_when_asked(root):
    root.joinpath("img_align_celeba/000002.jpg").unlink()
    with pytest.warns(UserWarning, match=r"CelebA: left out 1 of 3 images because they are missing \(.*000002.jpg\)"):
        dataset = CelebA(root, "train", missing="skip")
    assert dataset.files == ["000001.jpg", "000003.jpg"]
    assert dataset.skipped == (root / "img_align_celeba/000002.jpg",)
    same(dataset.targets, [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])


def test_no_image_at_all_is_an_error_even_when_missing_ones_are_skipped(root):
    for name in NAMES:
        root.joinpath("img_align_celeba", name).unlink()
    with pytest.raises(FileNotFoundError, match=r"CelebA: all 3 images are missing, the first is .*000001.jpg"):
        CelebA(root, "train", missing="skip")


def jpeg(size):
    file = io.BytesIO()
    Image.effect_noise((60, 60), 50).save(file, "JPEG")
    return file.getvalue()[:size]


SPOILT = [
    pytest.param(lambda path: path.write_bytes(jpeg(900)), "truncated", id="cut short"),
    pytest.param(lambda path: path.write_bytes(jpeg(50)), "truncated", id="cut in the head"),
    pytest.param(lambda path: path.write_text("<html>"), "the file is not an image", id="no image"),
    pytest.param(lambda path: path.write_bytes(b""), "the file is not an image", id="empty"),
    pytest.param(lambda path: path.unlink(), "the file is missing", id="missing"),
    pytest.param(lambda path: (path.unlink(), path.mkdir()), "IsADirectoryError|PermissionError", id="folder"),
]


@pytest.mark.parametrize(("spoil", "reason"), SPOILT)
def test_an_unreadable_image_is_named_with_the_reason(root, spoil, reason):
    dataset = CelebA(root, "train")
    spoil(dataset.path(1))
    with pytest.raises(UnreadableImage, match=rf"cannot read .*000002.jpg: .*({reason}).*skip_unreadable"):
        dataset[1]


def test_an_unreadable_image_is_named_from_a_worker_process_too(root):
    dataset = CelebA(root, "train", transform=np.asarray)
    dataset.path(1).write_bytes(b"")
    with pytest.raises(UnreadableImage, match=r"000002.jpg: the file is not an image"):
        list(DataLoader(dataset, num_workers=1))


@pytest.mark.parametrize(("spoil", "reason"), SPOILT)
@pytest.mark.parametrize("num_threads", [None, 1, 8])
def test_skip_unreadable_leaves_out_names_and_counts_what_cannot_be_read(root, spoil, reason, num_threads):
    dataset = CelebA(root, "train", attributes=["Male"])
    spoil(dataset.path(1))
    with pytest.warns(
        UserWarning, match=r"CelebA: left out 1 of 3 images because they cannot be read \(.*000002.jpg\)"
    ):
        readable = skip_unreadable(dataset, num_threads=num_threads)
    assert isinstance(readable, CelebA)
    assert readable.files == ["000001.jpg", "000003.jpg"]
    assert readable.skipped == (dataset.path(1),)
    assert readable.attributes == ("Male",)
    same(readable.targets, [[0.0], [1.0]])
    assert (len(dataset), dataset.skipped) == (3, ())


@pytest.mark.filterwarnings("error")
def test_skip_unreadable_is_silent_when_every_image_can_be_read(root):
    assert skip_unreadable(CelebA(root, "train")).files == NAMES[:3]


def test_skip_unreadable_refuses_to_leave_nothing(root):
    dataset = CelebA(root, "train")
    for index in range(3):
        dataset.path(index).write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="CelebA: all 3 images cannot be read"):
        skip_unreadable(dataset)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [[1, -1]],
            r"labels have a row for each image .*, got shape \(1, 2\) for 1 images and 3 attributes",
        ),
        ([[1, -1, 0.5]], r"a label is 1 \(yes\), 0 or -1 \(no\), or NaN \(unknown\), got 0.5 for 'Male' in row 1"),
        ([[1, 0, 1]], "0 says 'no' beside 1 and NaN, and 'unknown' beside 1 and -1, got 0 and neither for 'Young'"),
    ],
    ids=["shape", "value", "0 alone"],
)
def test_own_data_with_wrong_labels_is_refused(root, labels, message):
    with pytest.raises(ValueError, match=f"AttributeImages: {message}"):
        AttributeImages(root / "img_align_celeba", NAMES[:1], np.array(labels), ATTRIBUTES)


@pytest.mark.parametrize(
    ("names", "attributes", "message"),
    [
        (["a.jpg", "b.jpg"], ["Smiling", "Smiling"], "attribute names are unique, got 'Smiling' 2 times"),
        (["a.jpg", "a.jpg"], ["Smiling", "Young"], r"image names are unique, got 'a\.jpg' 2 times"),
    ],
)
def test_own_data_with_a_name_twice_is_refused(tmp_path, names, attributes, message):
    with pytest.raises(ValueError, match=f"AttributeImages: {message}"):
        AttributeImages(tmp_path, names, [[1, -1], [-1, 1]], attributes)


def test_own_data_without_images_or_with_an_empty_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="AttributeImages: needs at least one image, got none"):
        AttributeImages(tmp_path, [], [], ["Smiling"])
    with pytest.raises(ValueError, match="AttributeImages: an image has a name, got an empty one in row 2"):
        AttributeImages(tmp_path, ["a.jpg", " "], [[1], [1]], ["Smiling"])


def test_a_folder_that_is_not_there_is_named_with_the_nearest(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(FileNotFoundError, match=r"AttributeImages: no folder .*photo; did you mean .*photos\?"):
        AttributeImages(tmp_path / "photo", ["a.jpg"], [[1]], ["Smiling"])


def test_a_folder_is_no_image(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(FileNotFoundError, match=r"got 1 of 1 missing, the first is .*a\.jpg"):
        AttributeImages(tmp_path, ["a.jpg"], [[1]], ["Smiling"])


def test_a_target_that_somebody_changes_stays_as_it_was(root):
    dataset = CelebA(root, "train")
    dataset[0][1].zero_()
    dataset.targets.zero_()
    same(dataset[0][1], [1.0, 0.0, 0.0])


NFC, NFD = (unicodedata.normalize(form, "café.jpg") for form in ("NFC", "NFD"))
THERE = (
    NFD,
    "SITE1/0001.jpg",
    "0001.jpg",
    "Größe 1/ÉTÉ.JPG",
    "both.jpg",
    "both.png",
    "Both2.jpg",
    "both2.JPG",
    "x.v2.png",
)


@pytest.fixture
def elsewhere(tmp_path):
    for name in THERE:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 3)).save(tmp_path / name)
    (tmp_path / "0001.txt").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "means"),
    [
        (NFC, NFD),
        ("SITE1\\0001.jpg", "SITE1/0001.jpg"),
        ("site1/0001.JPG", "SITE1/0001.jpg"),
        ("./SITE1/0001.jpg", "./SITE1/0001.jpg"),
        ("0001.JPG", "0001.jpg"),
        ("0001", "0001.jpg"),
        ("grösse 1\\été.jpg", "Größe 1/ÉTÉ.JPG"),
        ("GRÖSSE 1/été", "Größe 1/ÉTÉ.JPG"),
        ("X.V2", "x.v2.png"),
    ],
)
def test_a_name_from_another_system_means_the_one_file_that_fits(elsewhere, name, means):
    faces = AttributeImages(elsewhere, [name, "both.png"], [[1], [-1]], ["Hat"])
    assert faces.files == [means, "both.png"]
    assert faces[0][0].size == (4, 3)
    same(faces.targets, [[1.0], [0.0]])


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("both", r"did you mean 'both\.jpg' or 'both\.png'\? Else unpack"),
        ("BOTH2.jpg", r"did you mean 'Both2\.jpg' or 'both2\.JPG'\? Else unpack"),
        ("0001.png", r"did you mean '0001\.jpg'\? Else unpack"),
        ("SITE2/0001.jpg", r"0001\.jpg; unpack"),
        ("none.jpg", r"none\.jpg; unpack"),
        ("../SITE1/0001.jpg/", r"SITE1/0001\.jpg/?; unpack"),
    ],
)
def test_a_name_that_no_one_file_fits_is_missing_and_the_nearest_is_shown(elsewhere, name, hint):
    with pytest.raises(FileNotFoundError, match=rf"AttributeImages: .* got 1 of 1 missing, .*{hint}"):
        AttributeImages(elsewhere, [name], [[1]], ["Hat"])


def test_two_names_never_mean_one_file(elsewhere):
    with pytest.raises(
        FileNotFoundError, match=r"got 1 of 2 missing, the first is .*0001\.JPG; did you mean '0001\.jpg'"
    ):
        AttributeImages(elsewhere, ["0001.jpg", "0001.JPG"], [[1], [-1]], ["Hat"])


def test_own_data_may_lie_in_folders_with_any_name(tmp_path):
    (tmp_path / "Zoë").mkdir()
    Image.new("RGB", (4, 3)).save(tmp_path / "Zoë/an image.png")
    faces = AttributeImages(tmp_path, ["Zoë/an image.png"], [[1]], ["Smiling"])
    assert faces.files == ["Zoë/an image.png"]
    assert faces[0][0].size == (4, 3)


@needs_real
@pytest.mark.parametrize(("split", "size"), [("train", 3247), ("valid", 433), ("test", 650), ("all", 4330)])
def test_real_splits_have_their_sizes(split, size):
    dataset = CelebA(REAL, split)
    assert len(dataset) == size
    assert dataset.attributes == CELEBA_ATTRIBUTES
    assert dataset[-1][0].size == (178, 218)


@needs_real
def test_the_real_majority_baseline_is_reached():
    majority = CelebA(REAL, "train", attributes=CELEBA_GROUPS.attributes).targets.mean(0).round()
    targets = CelebA(REAL, "test", attributes=CELEBA_GROUPS.attributes).targets
    assert (targets == majority).float().mean() == pytest.approx(0.807, abs=5e-4)
