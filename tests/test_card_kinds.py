"""The card of a model whose attributes are of several kinds: right words for each, and never a yes about an age."""

import json
import math
import re

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from settings import IMAGES, perturbed, tiny

from mtattn import FARAMTN, AttributeGroups, Categorical, Number, Ordinal

MIXED = AttributeGroups(
    {
        "mouth": ["Smiling", Categorical("expression", ("angry", "happy", "<sad>"))],
        "age": [Number("age", unit="years", mean=33, std=20), Ordinal("stage", ("child", "young", "old"))],
    }
)
TEST = {
    "mean_accuracy": 0.7, "mean_balanced_accuracy": 0.6, "mean_f1": 0.5, "mean_average_precision": 0.65,
    "mean_skill": 0.3, "majority_accuracy": 0.5,
    "groups": {"mouth": {"accuracy": 0.75}, "age": {"accuracy": 0.6}},
    "attributes": {
        "Smiling": {"accuracy": 0.9, "balanced_accuracy": 0.8, "f1": 0.5, "average_precision": 0.65,
                    "majority_accuracy": 0.55, "skill": 0.6},
        "expression": {"accuracy": 0.6, "balanced_accuracy": 0.4, "macro_f1": 0.4, "majority_accuracy": 0.45,
                       "skill": 0.1},
        "age": {"mean_absolute_error": 5.314, "r_squared": 0.6, "median_error": 12.0, "skill": 0.557},
        "stage": {"accuracy": 0.61, "within_one": 0.92, "mean_absolute_error": 0.52, "majority_accuracy": 0.5,
                  "median_error": math.nan, "skill": math.nan},
    },
    "intervals": {"mean_accuracy": (0.65, 0.75), "mean_skill": (0.2, 0.4), "gain": (0.1, 0.3)},
}  # fmt: skip


@pytest.fixture
def model():
    return perturbed(tiny(MIXED)).eval()


def saved(folder, model, **card):
    model.save_pretrained(folder, model_card_kwargs=card)
    return (folder / "README.md").read_text(encoding="utf-8")


def test_each_attribute_is_told_with_its_kind(model, tmp_path):
    text = saved(tmp_path, model)
    assert "reads 4 attributes in 2 groups" in text
    assert "| mouth | Smiling, expression (one of angry, happy, &lt;sad&gt;) |" in text
    assert "| age | age (a number, in years), stage (a level: child &lt; young &lt; old) |" in text


def test_each_attribute_is_measured_beside_its_baseline(model, tmp_path):
    text = saved(tmp_path, model, run={"test": TEST}, title="FAR-AMTN on faces")
    for row in (
        "| accuracy | 70.0 | 65.0 to 75.0 |",
        "| gain over the baseline | 20.0 | 10.0 to 30.0 |",
        "| skill | 30.0 | 20.0 to 40.0 |",
        "| Smiling | accuracy 90.0 % | 55.0 % | 60.0 |",
        "| expression | accuracy 60.0 % | 45.0 % | 10.0 |",
        "| age | mean absolute error 5.31 years | 12 years | 55.7 |",
        "| stage | accuracy 61.0 %, within one level 92.0 %, mean absolute error 0.52 levels | "
        "50.0 %, \N{EN DASH} levels | \N{EN DASH} |",
    ):
        assert row in text
    results = {result.metric_type for result in ModelCard.load(tmp_path / "README.md").data.eval_results}
    assert {"skill", "accuracy", "majority_accuracy"} <= results


def test_only_numbers_have_no_accuracy_to_tell(tmp_path):
    ages = AttributeGroups({"age": [MIXED.kinds[2]]})
    test = {"mean_skill": 0.5, "groups": {}, "attributes": {"age": TEST["attributes"]["age"]}}
    text = saved(tmp_path, perturbed(tiny(ages)), run={"test": test})
    assert "| skill | 50.0 |  |" in text
    assert "accuracy |" not in text


def test_its_code_says_what_each_output_means(model, tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", saved(tmp_path, model), re.DOTALL)
    Image.new("RGB", (64, 64), (128, 60, 20)).save(tmp_path / "face.jpg")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    said = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert list(said) == list(MIXED.attributes)
    assert re.fullmatch(r"\d+ %", said["Smiling"])
    assert re.fullmatch(r"(angry|happy|<sad>) \(\d+ %\)", said["expression"])
    assert re.fullmatch(r"-?[\d.]+ years", said["age"])
    assert re.fullmatch(r"(child|young|old) \(\d+ %\)", said["stage"])
    torch.testing.assert_close(names["maps"].mean((-2, -1)), names["outputs"][0])


def test_a_model_of_mixed_kinds_is_saved_and_loaded(model, tmp_path):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["groups"]["mouth"][1] == {"categorical": "expression", "classes": ["angry", "happy", "<sad>"]}
    loaded = FARAMTN.from_pretrained(tmp_path)
    assert loaded.groups == MIXED
    assert torch.equal(loaded(IMAGES), model(IMAGES))
    assert loaded.attribute_maps(IMAGES).shape[1] == len(MIXED.columns.attributes)
    torch.testing.assert_close(loaded.attribute_maps(IMAGES).mean((-2, -1)), model(IMAGES), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"categorical": "expression", "classes": ["happy", "angry", "<sad>"]}, id="other order"),
        pytest.param({"ordinal": "expression", "levels": ["a", "b", "c", "d"]}, id="another kind"),
        pytest.param("expression", id="binary"),
    ],
)
def test_a_kind_that_changed_between_saving_and_loading_is_refused(change, model, tmp_path):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["groups"]["mouth"][1] = change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"was saved with another config: groups should be"):
        FARAMTN.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ({"categorical": "x"}, "an attribute is a name, or has the keys of its kind"),
        ({"categorical": 3, "classes": ["a", "b"]}, "Categorical: its name is a string, got the int 3"),
        ({"classes": ["a"]}, "an attribute is a name, or has the keys of its kind"),
        ({"ordinal": "x", "levels": "ab"}, "Ordinal: the levels of 'x' are a tuple of names"),
        ({"categorical": "x", "classes": ["a", "b"], "more": 1}, "an attribute is a name, or has the keys of its kind"),
        ({}, "an attribute is a name, or has the keys of its kind"),
        (None, "an attribute is a string, got the NoneType"),
        (["a"], "an attribute is a string, got the list"),
        (3, "an attribute is a string, got the int 3"),
        ({"number": "age", "std": 0}, "an attribute is a name, or has the keys of its kind"),
        ({"number": "age", "unit": "y", "mean": "x", "std": 1}, "Number: the mean of 'age' is a number, got the str"),
        ({"number": "age", "unit": "", "mean": None, "std": None}, "stands there once, got 'age' 2 times"),
        ({"number": "more", "unit": "", "mean": 0, "std": 1}, "another config: groups should be"),
    ],
    ids=str,
)
def test_a_hostile_kind_is_refused_in_our_words(member, message, model, tmp_path):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["groups"]["mouth"][1] = member
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"from_pretrained: .*{message}"):
        FARAMTN.from_pretrained(tmp_path)
