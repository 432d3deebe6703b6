import copy
import pickle
from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from mtattn import AttributeGroups, Number
from mtattn.groups import check_known

FACES = {"eyes": ["Eyeglasses"], "mouth": ["Smiling", "Big_Lips"]}


def test_attributes_stand_group_after_group_in_the_order_given():
    assert AttributeGroups(FACES).attributes == ("Eyeglasses", "Smiling", "Big_Lips")


def test_sizes_count_the_attributes_of_each_group():
    assert AttributeGroups(FACES).sizes == (1, 2)


def test_group_of_gives_the_group_index_of_each_attribute():
    assert AttributeGroups(FACES).group_of == (0, 1, 1)


def test_it_is_a_mapping_from_group_names_to_attribute_names():
    groups = AttributeGroups(FACES)
    assert dict(groups) == {"eyes": ("Eyeglasses",), "mouth": ("Smiling", "Big_Lips")}
    assert list(groups) == ["eyes", "mouth"]
    assert len(groups) == 2
    assert "eyes" in groups
    assert "nose" not in groups


def test_a_group_that_is_not_there_is_a_key_error():
    with pytest.raises(KeyError, match="nose"):
        AttributeGroups(FACES)["nose"]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=40))
def test_every_view_of_the_groups_agrees_with_every_other(sizes):
    names = {f"group {g}": [f"attribute {g}.{a}" for a in range(size)] for g, size in enumerate(sizes)}
    groups = AttributeGroups(names)
    assert groups.sizes == tuple(sizes)
    assert len(groups.attributes) == len(groups.group_of) == sum(sizes)
    for attribute, index in zip(groups.attributes, groups.group_of, strict=True):
        assert attribute in groups[list(groups)[index]]
    assert AttributeGroups(dict(groups)) == groups


def test_later_changes_to_the_names_given_do_not_reach_the_groups():
    names = copy.deepcopy(FACES)
    groups = AttributeGroups(names)
    names["mouth"].append("Mustache")
    names["nose"] = ["Big_Nose"]
    assert dict(groups) == {"eyes": ("Eyeglasses",), "mouth": ("Smiling", "Big_Lips")}


def test_equal_groups_have_one_hash_and_others_another():
    assert AttributeGroups(FACES) == AttributeGroups(FACES)
    assert hash(AttributeGroups(FACES)) == hash(AttributeGroups(FACES))
    assert len({hash(AttributeGroups({"all": [name]})) for name in "abcd"}) == 4


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"mouth": ["Smiling", "Big_Lips"], "eyes": ["Eyeglasses"]}, id="groups reordered"),
        pytest.param({"eyes": ["Eyeglasses"], "mouth": ["Big_Lips", "Smiling"]}, id="attributes reordered"),
        pytest.param({"eye": ["Eyeglasses"], "mouth": ["Smiling", "Big_Lips"]}, id="group renamed"),
        pytest.param({"eyes": ["Eyeglasses", "Smiling", "Big_Lips"]}, id="groups joined"),
    ],
)
def test_order_and_names_are_part_of_equality(other):
    assert AttributeGroups(FACES) != AttributeGroups(other)


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda groups: pickle.loads(pickle.dumps(groups))],
    ids=["copy", "deep", "pickle"],
)
def test_a_copy_is_equal(copied):
    groups = AttributeGroups(FACES)
    groups.attributes, groups.sizes  # noqa: B018  fills the caches
    assert copied(groups) == groups
    assert copied(groups).group_of == groups.group_of


def test_repr_can_be_read_back():
    groups = AttributeGroups(FACES)
    assert eval(repr(groups)) == groups


class TestOnly:
    def test_keeps_the_order_that_the_groups_have_and_drops_empty_groups(self):
        groups = AttributeGroups({**FACES, "nose": ["Big_Nose", "Pointy_Nose"]})
        kept = groups.only(["Pointy_Nose", "Big_Lips", "Smiling"])
        assert kept == AttributeGroups({"mouth": ["Smiling", "Big_Lips"], "nose": ["Pointy_Nose"]})

    def test_all_attributes_keep_everything(self):
        groups = AttributeGroups(FACES)
        assert groups.only(groups.attributes) == groups

    def test_an_unknown_attribute_is_refused_with_the_nearest_names(self):
        with pytest.raises(ValueError, match=r"AttributeGroups: no attribute 'Smilling'; did you mean 'Smiling'\?"):
            AttributeGroups(FACES).only(["Smilling"])

    def test_at_least_one_attribute_is_needed(self):
        with pytest.raises(ValueError, match="at least one"):
            AttributeGroups(FACES).only([])


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        pytest.param({}, "needs at least one group, got none", id="no group"),
        pytest.param(
            {"eyes": [], "mouth": ["Smiling"]}, "at least one attribute, got none for 'eyes'", id="empty group"
        ),
        pytest.param({"eyes": ["Male"], "mouth": ["Male"]}, "got 'Male' 2 times, in 'eyes', 'mouth'", id="two groups"),
        pytest.param({"eyes": ["Male", "Male"]}, "got 'Male' 2 times, in 'eyes'", id="twice in a group"),
        pytest.param(
            {"eyes": "Eyeglasses"}, r"got the string 'Eyeglasses' for 'eyes'; write \['Eyeglasses'\]", id="string"
        ),
    ],
)
def test_groups_that_cannot_be_are_refused(groups, message):
    with pytest.raises(ValueError, match=f"^AttributeGroups: .*{message}"):
        AttributeGroups(groups)


def test_a_group_without_an_order_is_refused():
    with pytest.raises(
        (ValueError, TypeCheckError), match=r"order decides the columns, got a set for 'mouth'|^Type-check error"
    ):
        AttributeGroups({"mouth": {"Smiling", "Big_Lips"}})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("Smilling", "Data: no attribute 'Smilling'; did you mean 'Smiling'?", id="misspelt"),
        pytest.param("SMILING", "did you mean 'Smiling'", id="other case"),
        pytest.param("Zzz", "there are Smiling, Young", id="nothing near"),
    ],
)
def test_an_unknown_name_is_refused_with_what_is_near(name, message):
    with pytest.raises(ValueError, match=message):
        check_known("Data", "attribute", [name], ["Smiling", "Young"])


def test_of_many_known_names_fifty_are_told_and_the_others_counted():
    known = [f"{number:04}" for number in range(1250)]
    with pytest.raises(ValueError, match=r"^Data: no name 'Zzz'; there are 0000, .*, 0049 and 1,200 more\.$"):
        check_known("Data", "name", ["Zzz"], known)


def test_known_names_pass():
    assert check_known("Data", "attribute", ["Young"], ["Smiling", "Young"]) is None


@pytest.mark.parametrize(
    "names",
    [
        pytest.param({"Hat": 1, "Bag": 2}.keys, id="keys"),
        pytest.param(lambda: np.array(["Hat", "Bag"]), id="array"),
        pytest.param(lambda: (name for name in ["Hat", "Bag"]), id="generator"),
        pytest.param(lambda: deque(["Hat", "Bag"]), id="deque"),
        pytest.param(lambda: [np.str_("Hat"), np.str_("Bag")], id="numpy strings"),
    ],
)
def test_whatever_lists_names_in_order_is_taken(names):
    groups = AttributeGroups({"all": names()})
    assert groups == AttributeGroups({"all": ["Hat", "Bag"]})
    assert [type(name) for name in groups.attributes] == [str, str]


def test_the_columns_of_a_table_are_taken():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(columns=["image", "Hat", "Bag"])
    assert AttributeGroups({"all": table.columns[1:]}) == AttributeGroups({"all": ["Hat", "Bag"]})


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        pytest.param("abc", "takes a mapping from group names .* got a str; write a dict", id="string"),
        pytest.param([("eyes", ["Glasses"])], "takes a mapping .* got a list; write a dict", id="pairs"),
        pytest.param({"all": range(3)}, "an attribute of 'all' is a string, got the int 0; write str", id="numbers"),
        pytest.param({"all": [b"Hat"]}, "got the bytes b'Hat'; decode it", id="bytes in a list"),
        pytest.param({"all": b"Hat"}, r"got the b'Hat' for 'all'; write \[b'Hat'\]", id="bytes"),
        pytest.param({True: ["Hat"]}, "the name of a group is a string.* YAML reads on, off", id="YAML's on"),
        pytest.param({"top": [False, "Hat"]}, "got the bool False; YAML reads on, off", id="YAML's off"),
        pytest.param({"all": {"Hat": 1}}, r"got a dict for 'all'; write list\(...\)", id="dict"),
        pytest.param({"all": Number("age")}, r"got a Number for 'all'; write list", id="one kind alone"),
        pytest.param({"all": 3}, r"got a int for 'all'; write list\(...\)", id="a number"),
        pytest.param({"all": np.array([["Hat", "Bag"]])}, "of 'all' is a string, got the ndarray", id="2d"),
    ],
)
def test_names_that_are_none_are_refused_at_once(groups, message):
    with pytest.raises((ValueError, TypeError), match=f"^AttributeGroups: .*{message}|^Type-check error"):
        AttributeGroups(groups)


def test_only_takes_whole_names():
    groups = AttributeGroups({"all": ["a", "b", "ab"]})
    assert groups.only(["ab"]) == AttributeGroups({"all": ["ab"]})
    with pytest.raises(ValueError, match=r"only\(\) takes a list of names, got a string; write \['ab'\]"):
        groups.only("ab")


def test_groups_are_unequal_to_what_are_no_groups():
    assert AttributeGroups(FACES) != 3
    assert AttributeGroups(FACES) != FACES


def test_only_the_groups_that_hold_a_doublet_are_named():
    with pytest.raises(ValueError, match=r"got 'Male' 2 times, in 'eyes', 'mouth'\.$"):
        AttributeGroups({"eyes": ["Male"], "nose": ["Big_Nose"], "mouth": ["Male"]})


@pytest.mark.parametrize("half", [0xD800, 0xDFFF])
def test_half_a_letter_is_no_name(half):
    with pytest.raises(ValueError, match=r"^AttributeGroups: "):
        AttributeGroups({"all": [f"Hat{chr(half)}"]})
    assert AttributeGroups({"all": ["Hat\ud7ff", "Hat\ue000"]}).attributes == ("Hat\ud7ff", "Hat\ue000")


def test_fifty_names_are_all_told_and_two_near_ones_both():
    with pytest.raises(ValueError, match=r"there are 00, .*, 49\.$"):
        check_known("Data", "name", ["Zzz"], [f"{number:02}" for number in range(50)])
    with pytest.raises(ValueError, match=r"did you mean 'Smiling' or 'Smilings'\?$"):
        check_known("Data", "name", ["Smilin"], ["Smiling", "Smilings"])


def test_a_name_that_stands_there_twice_is_told_for_what_it_is():
    with pytest.raises(ValueError, match=r"^AttributeGroups: each attribute belongs to one .* got 'Hat' 2 times"):
        AttributeGroups({"all": ["Hat", "Hat"]})
