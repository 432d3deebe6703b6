"""What a label says is decided for each column by itself, and refused where nobody can tell."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mtattn import Categorical, Number, Ordinal
from mtattn.data import AttributeRows, read_row
from mtattn.data.labels import as_numbers, read_column, read_labels

NAN = math.nan


def targets(*columns, zero=None):
    """Read columns side by side."""
    labels = np.array([*zip(*columns, strict=True)], object)
    names = [f"a{place}" for place in range(len(columns))]
    return read_labels("labels", labels, names, num_images=len(labels), zero=zero).T.tolist()


def same(found, *expected):
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected, dtype=torch.float32), equal_nan=True)


COLUMNS = {
    "CelebA's": ([1, -1, 0], [1, 0, NAN]),
    "CelebA's without unknown": ([1, -1, -1], [1, 0, 0]),
    "0 and 1 with NaN": ([1, 0, NAN], [1, 0, NAN]),
    "0 and 1 with None": ([1, 0, None], [1, 0, NAN]),
    "truth values": ([True, False, False], [1, 0, 0]),
    "truth values of numpy with None": ([np.True_, np.False_, None], [1, 0, NAN]),
    "-1 and 1 with NaN": ([1.0, -1.0, NAN], [1, 0, NAN]),
    "-1, 0 and NaN": ([0, -1, NAN], [NAN, 0, NAN]),
    "yes only": ([1, 1, 1], [1, 1, 1]),
    "yes and unknown": ([1, None, None], [1, NAN, NAN]),
    "no only": ([-1, -1, -1], [0, 0, 0]),
    "nothing known": ([None, NAN, None], [NAN, NAN, NAN]),
}


@pytest.mark.parametrize("form", COLUMNS)
def test_a_column_says_by_itself_what_it_says(form):
    labels, expected = COLUMNS[form]
    same(targets(labels), expected)


@given(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, max_size=6))
def test_no_column_changes_what_another_says(forms):
    same(targets(*(COLUMNS[form][0] for form in forms)), *(COLUMNS[form][1] for form in forms))


@pytest.mark.parametrize("other", [[1, -1, -1], [1, 0, NAN], [True, False, True], [1, 1, 1]], ids=str)
def test_a_column_of_0_and_1_only_is_refused_whatever_stands_beside_it(other):
    with pytest.raises(ValueError, match=r"got 0 and neither for 'a1'; say which with zero='no' or zero='unknown'"):
        targets(other, [1, 0, 0])


def test_a_column_of_0_only_is_refused_too():
    with pytest.raises(ValueError, match="got 0 and neither for 'a0'"):
        targets([0, 0, 0])


def test_the_option_says_what_0_says_where_no_minus_one_does():
    same(targets([1, 0, 0], [1, -1, 0], zero="no"), [1, 0, 0], [1, 0, NAN])
    same(targets([1, 0, 0], [1, -1, 0], zero="unknown"), [1, NAN, NAN], [1, 0, NAN])


def test_the_option_has_two_values():
    with pytest.raises(ValueError, match="labels: no reading of 0 'none'; did you mean 'no'"):
        targets([1], zero="none")


def test_a_whole_array_of_truth_values_is_read():
    found = read_labels("labels", np.array([[True, False], [False, False]]), ["a", "b"], num_images=2)
    assert found.tolist() == [[1, 0], [0, 0]]


def test_pandas_columns_are_read():
    frame = pytest.importorskip("pandas").DataFrame({"a": [1, None, 0], "b": [True, False, True]})
    frame["c"] = frame["b"].astype("boolean").mask(frame["a"].isna())
    found = read_labels("labels", frame, ["a", "b", "c"], num_images=3)
    same(found.tolist(), [1, 1, 1], [NAN, 0, NAN], [0, 1, 1])


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        (2, "2"),
        (0.5, "0.5"),
        (-2, "-2"),
        ("1", "1"),
        ("yes", "yes"),
        (10**400, "10+"),
        (math.inf, "inf"),
        ([], r"\[\]"),
    ],
)
def test_any_other_label_is_refused_with_its_column_and_row(label, shown):
    labels = np.empty((4, 2), object)
    labels[:] = 1
    labels[1:3, 1] = label, label
    with pytest.raises(ValueError, match=rf"labels: a label is 1 .*, got {shown} for 'Bag' in row 2 and 1 more; map"):
        read_labels("labels", labels, ["Hat", "Bag"], num_images=4)


def test_rows_of_several_lengths_are_refused():
    with pytest.raises(ValueError, match="labels: all rows of labels have one length, got rows of several"):
        read_labels("labels", [[1, 0], [1]], ["a", "b"], num_images=2)


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.just(NAN),
            st.booleans(),
            st.integers(),
            st.floats(allow_nan=False),
            st.text(max_size=3),
            st.binary(max_size=2),
        ),
        min_size=1,
    )
)
def test_anything_becomes_a_number_or_is_told_from_one(labels):
    column = np.empty(len(labels), object)
    column[:] = labels
    numbers = as_numbers(column)
    assert numbers.shape == (len(labels),)
    assert [math.isnan(number) for number in numbers] == [label is None or label is NAN for label in labels]


AGE = Ordinal("age", ("child", "young", "old"))
HAIR = Categorical("hair", ("black", "0", "none"))
YEARS = Number("years", unit="years")


@pytest.mark.parametrize(
    ("kind", "labels", "expected"),
    [
        (AGE, ["old", "child", None, "young"], [2, 0, NAN, 1]),
        (AGE, [2, 0.0, NAN, np.int64(1)], [2, 0, NAN, 1]),
        (HAIR, ["0", 0, "none", None], [1, 0, 2, NAN]),
        (YEARS, [33, 0.5, -1, None], [33, 0.5, -1, NAN]),
    ],
    ids=["levels", "indices", "classes that look like others", "numbers"],
)
def test_a_label_of_another_kind_is_a_name_an_index_or_a_number(kind, labels, expected):
    same([read_column("labels", kind, labels).tolist()], expected)


@pytest.mark.parametrize(
    ("kind", "label", "message"),
    [
        (
            AGE,
            "Old",
            "a label of 'age' is one of child, young, old, or its index from 0 to 2, .* got Old in row 2",
        ),
        (AGE, 3, "or its index from 0 to 2, .* got 3 in row 2 and 1 more; map"),
        (AGE, -1, "got -1 in row 2"),
        (AGE, 0.5, "got 0.5 in row 2"),
        (AGE, True, "got True in row 2"),
        (HAIR, "", "a label of 'hair' is one of black, 0, none, .* got  in row 2"),
        (YEARS, "33", "a label of 'years' is a finite number, .* got 33 in row 2"),
        (YEARS, math.inf, "got inf in row 2"),
        (YEARS, 1e39, r"got 1e\+39 in row 2"),
        (YEARS, True, "got True in row 2"),
    ],
)
def test_a_label_that_its_kind_does_not_know_is_refused_with_its_row(kind, label, message):
    with pytest.raises(ValueError, match=f"labels: .*{message}"):
        read_column("labels", kind, [None, label, label])


def test_rows_match_classes_by_name_where_the_data_set_names_them():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "hair": datasets.ClassLabel(names=["none", "black", "0"])})
    picture = Image.new("RGB", (4, 4))
    rows = datasets.Dataset.from_dict({"image": [picture] * 4, "hair": [0, 1, 2, None]}, features=features)
    data = AttributeRows(rows, [HAIR])
    same(data.targets.T.tolist(), [2, 0, 1, NAN])
    same([torch.cat([data[row][1] for row in range(4)]).tolist()], [2, 0, 1, NAN])


def test_rows_hold_targets_of_every_kind():
    row = {"image": Image.new("RGB", (4, 4)), "age": "young", "Hat": False, "years": 31.5, "hair": None}
    _, targets = read_row(row, [AGE, "Hat", YEARS, HAIR])
    same([targets.tolist()], [1, 0, 31.5, NAN])
    with pytest.raises(ValueError, match=r"read_row: a label of 'age' is one of .* got Young in row 1"):
        read_row({**row, "age": "Young"}, [AGE])


def test_kinds_are_mixed_in_one_table():
    rows = [["young", 1, 33.5, "black"], ["old", -1, None, None]]
    found = read_labels("labels", rows, [AGE, "Hat", YEARS, HAIR], num_images=2)
    same(found.tolist(), [1, 1, 33.5, 0], [2, 0, NAN, NAN])
