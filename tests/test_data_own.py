"""A csv of one's own is read as what it is, or refused with its lines and columns."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mtattn.data import AttributeImages, read_csv_labels

NAN = math.nan


@pytest.fixture
def read(tmp_path):
    def read(text):
        file = tmp_path / "labels.csv"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_csv_labels(file)

    return read


def same(labels, expected):
    np.testing.assert_array_equal(np.array(labels, float), np.array(expected, float))


READ = {
    "plain": ("image,Hat,Bag\na.jpg,1,0\nb.jpg,,1\n", [[1, -1], [NAN, 1]]),
    "pandas, a column with a hole": ("image,Hat,Bag\na.jpg,1.0,\nb.jpg,0.0,1.0\n", [[1, NAN], [-1, 1]]),
    "tick boxes of a spreadsheet": ("image,Hat,Bag\na.jpg,TRUE,FALSE\nb.jpg,FALSE,TRUE\n", [[1, -1], [-1, 1]]),
    "words": ("image,Hat,Bag\na.jpg,yes,No\nb.jpg,YES,no\n", [[1, -1], [1, -1]]),
    "NA and its kin": ("image,Hat,Bag\na.jpg,NA,nan\nb.jpg,N/A,<NA>\n", [[NAN, NAN], [NAN, NAN]]),
    "a comma at every end": ("image,Hat,Bag,\na.jpg,1,0,\nb.jpg,0,1,\n", [[1, -1], [-1, 1]]),
    "commas at some ends": ("image,Hat,Bag\na.jpg,1,0,,\nb.jpg,0,1\n", [[1, -1], [-1, 1]]),
    "a comma in the header only": ("image,Hat,Bag,\na.jpg,1,0\nb.jpg,0,1\n", [[1, -1], [-1, 1]]),
    "semicolons": ("image;Hat;Bag\na.jpg;1;0\nb.jpg;;1\n", [[1, -1], [NAN, 1]]),
    "tabs": ("image\tHat\tBag\na.jpg\t1\t0\nb.jpg\t\t1\n", [[1, -1], [NAN, 1]]),
    "a byte order mark and Windows' line ends": (
        "\ufeffimage,Hat,Bag\r\na.jpg,1,0\r\nb.jpg,,1\r\n",
        [[1, -1], [NAN, 1]],
    ),
    "an old Mac's line ends": ("image,Hat,Bag\ra.jpg,1,0\rb.jpg,,1\r", [[1, -1], [NAN, 1]]),
    "CelebA's own -1": ("image,Hat,Bag\na.jpg,1,-1\nb.jpg,-1,1\n", [[1, -1], [-1, 1]]),
    "blanks around": (" image , Hat , Bag \n a.jpg , 1 , 0 \n\n b.jpg ,  , 1 \n", [[1, -1], [NAN, 1]]),
    "quotes": ('"image","Hat","Bag"\n"a.jpg","1","0"\n"b.jpg","","1"\n', [[1, -1], [NAN, 1]]),
}


@pytest.mark.parametrize("form", READ)
def test_a_form_that_programs_write_is_read_as_what_it_is(read, form):
    text, labels = READ[form]
    found = read(text)
    assert (found.names, found.attributes) == (["a.jpg", "b.jpg"], ["Hat", "Bag"])
    same(found.labels, labels)


REFUSED = {
    "a value": (
        "image,Hat,Bag\na.jpg,1,7\nb.jpg,x,1\n",
        "'Bag' is yes or no .*, got 'x' for 'Hat' in line 3, '7' for 'Bag' in line 2 in",
    ),
    "many values": (
        "image,Hat\n" + "".join(f"{row}.jpg,{row}\n" for row in range(2, 12)),
        "got '2' for 'Hat' in line 2, '3' for 'Hat' in line 3, '4' for 'Hat' in line 4, '5' for 'Hat' in line 5, "
        "'6' for 'Hat' in line 6 and 5 more in",
    ),
    "a column of persons": (
        "image,person,Hat\na.jpg,ann,1\n",
        "got 'ann' for 'person' in line 2 in",
    ),
    "a value after a line break in quotes": (
        'image,Hat\n"a\nb.jpg",1\nc.jpg,1\nd.jpg,7\n',
        "got '7' for 'Hat' in line 5 in",
    ),
    "rows of other lengths": (
        "image,Hat,Bag\na.jpg,1\nb.jpg,1,1\nc.jpg,1,0,1\n",
        "a row has as many cells as the header, 3, got 2 in line 2, 4 in line 4 in",
    ),
    "a column without a name": ("image,Hat,\na.jpg,1,0\n", "a column has a name, got none for column 3 in"),
    "columns without names": ("image,,Hat,,Bag\na,1,1,1,1\n", "got none for column 2, none for column 4 in"),
    "a column twice": ("image,Hat,Hat\na.jpg,1,0\n", "column names are unique, got 'Hat' 2 times in"),
    "a row without a name": (
        "image,Hat\n,1\na.jpg,0\n,0\n",
        "every row names an image in column 'image', got none in line 2, none in line 4",
    ),
    "an image twice": ("image,Hat\na.jpg,1\nb.jpg,1\na.jpg,0\n", "are unique, got 'a.jpg' in line 2 and line 4 in"),
    "0 and -1": ("image,Hat,Bag\na.jpg,0,1\nb.jpg,-1,0\n", "a column says no by 0 or by -1, got both for 'Hat' in"),
    "no column": (
        "image\na.jpg\n",
        "line 1 of .*csv names the image column and an attribute, got 'image'",
    ),
    "nothing": ("", "a table has a header and rows, got 0 lines that are not empty in"),
    "a cell without end": ('image,Hat\n"' + "a" * 200_000, "is no csv, got field larger than field limit .* in line 2"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_no_such_csv_is_refused_with_all_lines_and_columns_of_one_kind(read, form):
    text, message = REFUSED[form]
    pattern = message if ".*" in message else re.escape(message)
    with pytest.raises(ValueError, match=f"^read_(csv_labels|table): .*{pattern}"):
        read(text)


def test_what_had_to_be_guessed_is_warned_of(read):
    with pytest.warns(UserWarning, match=r"is no UTF-8 \(line 2\), so it was read as Windows-1252"):
        assert read("image,Hat\nzo\u00e9.jpg,1\n".encode("latin-1")).names == ["zo\u00e9.jpg"]


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        read_csv_labels(tmp_path / "none.csv")


@pytest.mark.parametrize("name", ["ann\u2028e.jpg", "x\x85y.jpg", "a\x0cb.jpg", "Zoë 名.jpg"])
def test_a_name_keeps_every_letter(read, name):
    assert read(f"image,Hat\n{name},1\n").names == [name]


FORMS = {
    1: ["1", "1.0", "true", "TRUE", "yes"],
    -1: ["0", "0.0", "False", "no"],
    NAN: ["", "NA", "NaN", "n/a"],
}


@given(
    st.lists(st.lists(st.sampled_from([1, -1, NAN]), min_size=2, max_size=2), min_size=1, max_size=8),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.data(),
)
def test_a_table_written_in_any_of_the_forms_reads_back(tmp_path_factory, labels, separator, line_end, trailing, data):
    rows = [
        [f"{row}.jpg", *(data.draw(st.sampled_from(FORMS[label])) for label in labels[row])]
        for row in range(len(labels))
    ]
    lines = [separator.join([*cells, ""] if trailing else cells) for cells in [["image", "Hat", "Bag"], *rows]]
    file = tmp_path_factory.mktemp("table") / "labels.csv"
    file.write_text(line_end.join(lines), newline="")
    found = read_csv_labels(file)
    assert found.names == [f"{row}.jpg" for row in range(len(labels))]
    same(found.labels, labels)


def test_labels_of_yes_and_unknown_only_become_targets(read, tmp_path):
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.jpg")
    names, labels, attributes = read("image,Hat,Bag\na.jpg,1,\nb.jpg,,1\n")
    targets = AttributeImages(tmp_path, names, labels, attributes).targets
    torch.testing.assert_close(targets, torch.tensor([[1, NAN], [NAN, 1]]), equal_nan=True)
