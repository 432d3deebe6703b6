import copy
import json
import pickle
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from strategies import groups_of_every_kind

from mtattn import AttributeGroups, Categorical, GroupHeads, Number, Ordinal
from mtattn.groups import check_targets

EXPRESSION = Categorical("expression", ("angry", "happy", "sad", "neutral"))
AGE = Number("age", unit="years", mean=33, std=20)
STAGE = Ordinal("age_group", ("child", "young", "middle", "old"))
MIXED = {"eyes": ["Eyeglasses", "Narrow_Eyes"], "mouth": ["Smiling", EXPRESSION], "age": [AGE, STAGE]}
NAN = torch.nan
HOOK = "Type-check error"  # where run-time checks of shapes refuse it first
OF_A_KIND = (
    r"AttributeGroups: an attribute is a name, or has the keys of its kind "
    r"\(categorical, classes; ordinal, levels; number, mean, std, unit\)"
)


class TestColumns:
    def test_each_kind_has_its_own(self):
        groups = AttributeGroups(MIXED)
        assert groups.attributes == ("Eyeglasses", "Narrow_Eyes", "Smiling", "expression", "age", "age_group")
        assert dict(groups.columns) == {
            "eyes": ("Eyeglasses", "Narrow_Eyes"),
            "mouth": ("Smiling", "expression=angry", "expression=happy", "expression=sad", "expression=neutral"),
            "age": ("age", "age_group>child", "age_group>young", "age_group>middle"),
        }

    def test_of_binary_attributes_are_the_attributes(self):
        groups = AttributeGroups({"eyes": ["Eyeglasses"], "mouth": ["Smiling", "Big_Lips"]})
        assert groups.columns is groups
        assert groups.attribute_of == (0, 1, 2)

    def test_groups_count_attributes_and_not_columns(self):
        assert AttributeGroups(MIXED).sizes == (2, 2, 2)
        assert AttributeGroups(MIXED).columns.sizes == (2, 5, 4)
        assert AttributeGroups(MIXED)["age"] == ("age", "age_group")

    @given(groups_of_every_kind())
    def test_every_view_agrees_with_every_other(self, groups):
        columns = groups.columns.attributes
        found = [name for attribute in groups.attributes for name in columns[groups.columns_of(attribute)]]
        assert tuple(found) == columns
        assert len(groups.attribute_of) == len(columns)
        assert [groups.group_of[index] for index in groups.attribute_of] == list(groups.columns.group_of)
        assert groups.columns.columns == groups.columns

    def test_of_an_unknown_attribute_are_refused_with_the_nearest(self):
        with pytest.raises(ValueError, match=r"^AttributeGroups: no attribute 'expresion'; did you mean 'expression'"):
            AttributeGroups(MIXED).columns_of("expresion")

    def test_that_would_have_one_name_are_refused(self):
        with pytest.raises(ValueError, match=r"each column .* got 'hair=short' 2 times, in 'a', 'b'"):
            AttributeGroups({"a": ["hair=short"], "b": [Categorical("hair", ("short", "long"))]})

    def test_heads_put_them_out(self):
        assert GroupHeads(8, AttributeGroups(MIXED))(torch.randn(2, 3, 8)).shape == (2, 11)


class TestMixedGroups:
    @pytest.mark.parametrize(
        "copied",
        [
            copy.deepcopy,
            lambda groups: pickle.loads(pickle.dumps(groups)),
            lambda groups: eval(repr(groups)),
            lambda groups: AttributeGroups.from_plain(json.loads(json.dumps(groups.to_plain()))),
            AttributeGroups,
        ],
        ids=["deep", "pickle", "repr", "json", "given again"],
    )
    def test_a_copy_is_equal(self, copied):
        groups = AttributeGroups(MIXED)
        groups.columns, groups.attribute_of  # noqa: B018  fills the caches
        assert copied(groups) == groups
        assert hash(copied(groups)) == hash(groups)
        assert copied(groups).columns == groups.columns

    @given(groups_of_every_kind())
    def test_json_holds_them_whole(self, groups):
        assert AttributeGroups.from_plain(json.loads(json.dumps(groups.to_plain()))) == groups

    def test_binary_groups_are_plain_lists_of_names(self):
        assert AttributeGroups({"mouth": ("Smiling",)}).to_plain() == {"mouth": ["Smiling"]}

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param(Categorical("expression", ("happy", "angry", "sad", "neutral")), id="classes reordered"),
            pytest.param(Ordinal("expression", EXPRESSION.classes), id="another kind"),
            pytest.param("expression", id="binary"),
        ],
    )
    def test_the_kind_is_part_of_equality(self, other):
        assert AttributeGroups({"mouth": [EXPRESSION]}) != AttributeGroups({"mouth": [other]})

    def test_only_keeps_the_kinds(self):
        assert AttributeGroups(MIXED).only(["age_group", "Smiling"]).kinds == ("Smiling", STAGE)

    @pytest.mark.parametrize(
        ("plain", "message"),
        [
            pytest.param({"g": [{"categorical": "x", "levels": ["a", "b"]}]}, f"{OF_A_KIND}, got {{'cat", id="keys"),
            pytest.param({"g": [{"kind": "x"}]}, f"{OF_A_KIND}, got {{'kind': 'x'}}", id="unknown kind"),
            pytest.param(
                {"g": [{"number": "x", "unit": "", "mean": "1", "std": 1}]},
                "Number: the mean .* str '1'",
                id="text",
            ),
            pytest.param({"g": [{"ordinal": "x", "levels": 3}]}, "Ordinal: the levels of 'x' are a tuple", id="levels"),
            pytest.param({"g": "abc"}, r"AttributeGroups: .*'abc' for 'g'; write \['abc'\]", id="string"),
            pytest.param({"g": [3]}, "AttributeGroups: an attribute is a string, got the int 3", id="column number"),
            pytest.param(["g"], "AttributeGroups: groups are a mapping from names to lists, got a list", id="list"),
        ],
    )
    def test_what_no_config_can_hold_is_refused(self, plain, message):
        with pytest.raises((ValueError, TypeError), match=f"^{message}|^{HOOK}"):
            AttributeGroups.from_plain(plain)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Categorical("x", ("a",)), "'x' needs at least two classes, got 1"),
        (lambda: Categorical("x", ("a", "b", "a")), "each class of 'x' stands there once, got 'a' more than once"),
        (lambda: Categorical("x", "abc"), "the classes of 'x' are a tuple of names"),
        (lambda: Categorical("x", ("a", 3)), "a class of 'x' is a string, got the int 3"),
        (lambda: Ordinal("x", ("a",)), "'x' needs at least two levels, got 1"),
        (lambda: Ordinal("x", ("a", "b", "a")), "each level of 'x' stands there once, got 'a' more than once"),
        (lambda: Ordinal("x", {"a", "b"}), "the levels of 'x' .* their order decides what an index means"),
        (lambda: Ordinal("x", (True, False)), "a level of 'x' is a string, .* YAML reads on, off, yes and no"),
        (lambda: Ordinal(3, ("a", "b")), "its name is a string, got the int 3"),
        (lambda: Number(""), "needs a name, got an empty one"),
        (lambda: Number("x", unit=3), "the unit of 'x' is a string, got the int 3"),
        (lambda: Number("x", mean=1.0), "'x' has both mean and std, or neither"),
        (lambda: Number("x", std=1.0), "'x' has both mean and std, or neither"),
        (lambda: Number("x", mean=1.0, std=0.0), "the std of 'x' is above 0, got 0"),
        (lambda: Number("x", mean=1.0, std=-2.0), "the std of 'x' is above 0, got -2"),
        (lambda: Number("x", mean=NAN, std=1.0), "the mean of 'x' is finite, got nan"),
        (lambda: Number("x", mean=1.0, std=torch.inf), "the std of 'x' is finite, got inf"),
        (lambda: Number("x", mean="1", std=1.0), "the mean of 'x' is a number, got the str '1'"),
        (lambda: Number("x", mean=True, std=1.0), "the mean of 'x' is a number, got the bool True"),
    ],
)
def test_kinds_that_cannot_be_are_refused(made, message):
    owner = made.__code__.co_names[0]
    with pytest.raises((ValueError, TypeError, TypeCheckError), match=f"^{owner}: {message}|^{HOOK}"):
        made()


@pytest.mark.parametrize("listed", [list, np.array, lambda names: dict.fromkeys(names).keys()])
def test_choices_are_taken_from_any_list(listed):
    try:
        made = Categorical("x", listed(["a", "b"]))
    except TypeCheckError:
        pytest.skip("the jaxtyping hook demands a tuple")
    assert made == Categorical("x", ("a", "b"))
    assert hash(made) == hash(Categorical("x", ("a", "b")))


@pytest.mark.parametrize("one", [1, np.float64(1), np.float32(1), torch.tensor(1.0)])
def test_numbers_of_other_libraries_become_plain(one):
    try:
        number = Number("x", mean=one, std=one)
    except TypeCheckError:
        pytest.skip("the jaxtyping hook demands a plain number")
    assert json.dumps([number.mean, number.std]) == "[1.0, 1.0]"


class TestDecode:
    groups = AttributeGroups(MIXED)
    #        glasses narrow smile | angry happy sad neutral | age | >child >young >middle
    outputs = torch.tensor(
        [
            [0.0, 2.0, -2.0, 0.0, 3.0, 1.0, 0.0, 1.0, 3.0, 3.0, -3.0],
            [0.0, 2.0, -2.0, 5.0, 3.0, 1.0, 0.0, -1.0, -1.0, 9.0, 9.0],
        ]
    )

    def test_says_probability_class_level_and_number_by_name(self):
        decoded = self.groups.decode(self.outputs)
        assert list(decoded) == list(self.groups.attributes)
        torch.testing.assert_close(decoded["Narrow_Eyes"], torch.tensor([2.0, 2.0]).sigmoid())
        assert decoded["expression"] == ["happy", "angry"]
        torch.testing.assert_close(decoded["age"], torch.tensor([53.0, 13.0]))
        assert decoded["age_group"] == ["middle", "child"]

    def test_a_text_never_says_a_share_of_a_number(self):
        texts = self.groups.texts(self.outputs)
        assert texts["age"] == ["53.0 years", "13.0 years"]
        assert texts["Smiling"] == ["12 %", "12 %"]
        assert texts["expression"][0] == f"happy ({100 * self.outputs[0, 3:7].softmax(0)[1]:.0f} %)"
        assert texts["age_group"][0].startswith("middle (")

    def test_a_level_is_above_another_when_that_is_likelier_than_not(self):
        assert self.groups.decode(torch.zeros(1, 11))["age_group"] == ["child"]

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_outputs_of_other_types_are_read_in_float32(self, dtype):
        for decode in (self.groups.decode, self.groups.probabilities):
            got, expected = decode(self.outputs.to(dtype)), decode(self.outputs)  # all of them whole numbers
            for name, values in expected.items():
                assert isinstance(values, list) or values.dtype == torch.float32
                assert torch.equal(got[name], values) if torch.is_tensor(values) else got[name] == values

    @given(groups_of_every_kind(), st.integers(0, 99), st.sampled_from([0.1, 3, 100]))
    def test_probabilities_sum_to_one_and_name_what_is_decoded(self, groups, seed, scale):
        outputs = scale * torch.randn(7, len(groups.columns.attributes), generator=torch.manual_seed(seed)).double()
        decoded, probabilities = groups.decode(outputs), groups.probabilities(outputs)
        for kind in groups.kinds:
            match kind:
                case Categorical(name, choices):
                    torch.testing.assert_close(probabilities[name].sum(1), torch.ones(7).double())
                    assert decoded[name] == [choices[index] for index in probabilities[name].argmax(1)]
                case Ordinal(name, choices):
                    assert (probabilities[name] >= 0).all()
                    torch.testing.assert_close(probabilities[name].sum(1), torch.ones(7).double())
                    above = 1 - probabilities[name].cumsum(1)[:, :-1]
                    clear = ((above - 0.5).abs() > 1e-9).all(1)
                    levels = [choices.index(level) for level in decoded[name]]
                    assert (torch.tensor(levels) == (above > 0.5).sum(1))[clear].all()
                case Number(name):
                    assert name not in probabilities
                case name:
                    torch.testing.assert_close(probabilities[name], decoded[name])

    @pytest.mark.parametrize("decode", ["decode", "probabilities", "texts"])
    def test_outputs_that_say_nothing_are_refused(self, decode):
        owner = "AttributeGroups." + decode.replace("texts", "decode")
        with pytest.raises(ValueError, match=rf"^{owner}: outputs are \(batch, 11\).* got \(2, 6\)"):
            getattr(self.groups, decode)(torch.zeros(2, 6))
        with pytest.raises(ValueError, match=f"^{owner}: an output of 'expression' is NaN"):
            getattr(self.groups, decode)(torch.where(torch.arange(11) == 4, NAN, self.outputs))

    def test_a_number_without_its_mean_is_refused(self):
        groups = AttributeGroups({"age": [Number("age")]})
        with pytest.raises(
            ValueError, match=r"^AttributeGroups.decode: the number 'age' has no .*; take groups.fitted\("
        ):
            groups.decode(torch.zeros(1, 1))
        with pytest.raises(ValueError, match="GroupHeads: the number 'age' has no mean and std yet"):
            GroupHeads(4, groups)

    @pytest.mark.parametrize(
        ("std", "text"), [(0.02, "1.2346 m"), (1, "1.23 m"), (20, "1.2 m"), (50, "1 m"), (1e6, "1 m")]
    )
    def test_numbers_have_as_many_digits_as_their_spread_is_worth(self, std, text):
        assert Number("x", "m", mean=0, std=std).text(1.23456) == text
        assert Number("x", mean=0, std=std).text(1.23456) == text.removesuffix(" m")


class TestFitted:
    def test_measures_what_is_labelled_and_leaves_the_rest(self):
        height = Number("height", "cm")
        groups = AttributeGroups({"a": ["Smiling", height], "b": [AGE, Number("weight", "kg")]})
        targets = torch.tensor([[1.0, 160, 5, 60], [0, NAN, 6, 70], [NAN, 180, 7, NAN]])
        fitted = groups.fitted(targets)
        assert fitted.kinds == (
            "Smiling",
            Number("height", "cm", mean=170, std=10),
            AGE,
            Number("weight", "kg", mean=65, std=5),
        )
        assert list(fitted) == ["a", "b"]
        assert fitted.fitted(targets) == fitted

    def test_binary_groups_stay_equal(self):
        groups = AttributeGroups({"mouth": ["Smiling"]})
        assert groups.fitted(torch.ones(2, 1)) == groups

    def test_a_number_without_any_label_can_be_trained_beside_others(self):
        groups = AttributeGroups({"a": [Number("age"), "Smiling", Number("height")]})
        fitted = groups.fitted(torch.tensor([[NAN, 1.0, 160], [NAN, 0, 180]]))
        assert fitted.kinds == (Number("age", mean=0, std=1), "Smiling", Number("height", mean=170, std=10))

    def test_targets_that_cannot_be_are_refused(self):
        with pytest.raises(ValueError, match=r"^AttributeGroups\.fitted: 'Smiling' is binary"):
            AttributeGroups({"a": ["Smiling"]}).fitted(torch.tensor([[2.0]]))

    @given(st.floats(-1e4, 1e4), st.floats(1e-2, 1e3), st.integers(0, 99))
    def test_what_is_fitted_has_mean_zero_and_deviation_one(self, mean, std, seed):
        labels = mean + std * torch.randn(50, 1, generator=torch.manual_seed(seed)).double()
        (number,) = AttributeGroups({"a": [Number("x")]}).fitted(labels).kinds
        scaled = (labels - number.mean) / number.std
        torch.testing.assert_close(scaled.mean().item(), 0.0, rtol=0, atol=1e-6)
        torch.testing.assert_close(scaled.std(correction=0).item(), 1.0, rtol=1e-6, atol=0)

    def test_labels_that_are_all_the_same_are_refused(self):
        with pytest.raises(ValueError, match="the labels of 'age' are all 30, so there is nothing to learn"):
            AttributeGroups({"a": [Number("age")]}).fitted(torch.tensor([[30.0], [30], [NAN]]))


class TestTargets:
    groups = AttributeGroups({"all": ["Smiling", EXPRESSION, STAGE, AGE]})

    def test_of_every_kind_pass(self):
        targets = torch.tensor([[0.0, 3, 3, 1e4], [0.5, 0, 0, -3], [NAN, NAN, NAN, NAN]])
        check_targets("Data", self.groups, targets)

    @pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.uint8])
    def test_whole_numbers_are_taken_and_checked_like_others(self, dtype):
        groups = AttributeGroups({"face": ["Smiling", Ordinal("stage", ("child", "young", "old")), AGE]})
        check_targets("Data", groups, torch.tensor([[1, 2, 90], [0, 0, 4]], dtype=dtype))
        with pytest.raises(ValueError, match=r"'stage' has 3 levels, so a target is 0 to 2, .*got 3 for image 0"):
            check_targets("Data", groups, torch.tensor([[1, 3, 90]], dtype=dtype))

    def test_are_looked_at_where_they_are_whatever_the_default_device(self):
        with torch.device("meta"):
            targets = torch.tensor([[1.0, 1, 1, 1]], device="cpu")
            check_targets("Data", self.groups, targets)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    @pytest.mark.parametrize(
        ("row", "message"),
        [
            pytest.param([-1.0, 0, 0, 0], r"'Smiling' is binary, .* in \[0, 1\], or NaN .* got -1", id="minus one"),
            pytest.param([2.0, 0, 0, 0], "'Smiling' is binary.*got 2", id="two"),
            pytest.param([1.0, 4, 0, 0], "'expression' has 4 classes, so a target is 0 to 3.* got 4", id="no class"),
            pytest.param([1.0, -1, 0, 0], "'expression' has 4 classes.* got -1", id="negative class"),
            pytest.param([1.0, 1.5, 0, 0], "'expression' has 4 classes.* got 1.5", id="half a class"),
            pytest.param([1.0, 1, 7, 0], "'age_group' has 4 levels.* got 7", id="no level"),
            pytest.param([1.0, 1, 0.5, 0], "'age_group' has 4 levels.* got 0.5", id="half a level"),
            pytest.param([1.0, 1, 1, torch.inf], "'age' is a number, so a target is finite.* got inf", id="infinite"),
            pytest.param([1.0, 1, 1, -torch.inf], "'age' is a number.* got -inf", id="minus infinity"),
        ],
    )
    def test_that_cannot_be_are_refused(self, row, message, dtype):
        targets = torch.tensor([[1.0, 1, 1, 1], row], dtype=dtype)
        with pytest.raises(ValueError, match=f"Data: {message}.* for image 1"):
            check_targets("Data", self.groups, targets)

    @pytest.mark.parametrize("shape", [(3, 7), (3, 3), (4,)])
    def test_of_another_width_are_refused(self, shape):
        message = re.escape(f"targets are (image, 4), one column an attribute, got {shape}")
        with pytest.raises((ValueError, TypeCheckError), match=f"{message}|^{HOOK}"):
            check_targets("Data", self.groups, torch.zeros(shape))
