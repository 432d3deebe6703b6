"""A folder from a stranger: nothing runs, nothing is fetched, and whatever is wrong is refused in our words."""

import json
import shutil
from pathlib import Path

import pytest
import timm
import torch
from conftest import forbid
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from settings import GROUPS, IMAGES, edit, perturbed, small, tiny
from torch import nn

from mtattn import FARAMTN

OURS = ("FARAMTN.from_pretrained: ", "FARAMTN.from_timm: ", "from_timm: ", "FARAMTN: ", "WSGSA: ", "CGFF: ")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    perturbed(tiny()).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "model"))


def refusal(folder):
    """What from_pretrained says, or nothing where it loads; any error but a ValueError goes on."""
    try:
        FARAMTN.from_pretrained(folder)
    except ValueError as error:
        return str(error)


def forge(folder, change):
    """Change the config and what the weights remember of it, as somebody would who means it."""
    edit(folder / "config.json", change)
    file = folder / "model.safetensors"
    save_file(load_file(file), file, metadata={"config": (folder / "config.json").read_text()})


@pytest.mark.usefixtures("no_network", "no_pickle")
class TestNothingIsRunOrFetched:
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("checkpoint_path", "extra.pth"),
            ("pretrained", True),
            ("pretrained_cfg", {"file": "extra.pth"}),
            ("pretrained_cfg_overlay", {"file": "extra.pth"}),
            ("pretrained_strict", False),
            ("cache_dir", "/tmp"),
            ("features_only", True),
            ("num_classes", 5),
            ("scriptable", True),
            ("block", "os.system"),
            ("__class__", "x"),
            ("", 1),
        ],
    )
    def test_because_of_an_option_that_does_more_than_decide_the_form(self, option, value, folder, monkeypatch):
        forge(folder, lambda config: config["backbone"]["options"].update({option: value}))
        monkeypatch.setattr(timm, "create_model", forbid)
        with pytest.raises(ValueError, match=f"config of .*model is damaged: '{option}' is not on the list"):
            FARAMTN.from_pretrained(folder)

    @pytest.mark.parametrize(
        "name", ["hf-hub:a/b", "hf_hub:a/b", "local-dir:/tmp", "timm/resnet18", "https://x.org/a", "../extra", "", "."]
    )
    def test_because_of_a_name_that_is_a_place(self, name, folder, monkeypatch):
        forge(folder, lambda config: config["backbone"].update(name=name))
        monkeypatch.setattr(timm, "create_model", forbid)
        with pytest.raises(ValueError, match=r"damaged: backbone\.name is the name of a timm model, without a place"):
            FARAMTN.from_pretrained(folder)

    @pytest.mark.parametrize("part", ["trunk", "shared", "heads", "map_location", "cache_dir", "pretrained"])
    def test_because_of_a_part_that_no_config_has(self, part, folder):
        expected = FARAMTN.from_pretrained(folder)(IMAGES)
        edit(folder / "config.json", lambda config: config.update({part: "hf-hub:a/b"}))
        assert torch.equal(FARAMTN.from_pretrained(folder)(IMAGES), expected)

    @pytest.mark.parametrize("name", ["hf-hub:a/b", "local-dir:/tmp/model"])
    def test_and_a_model_that_could_not_be_loaded_again_is_not_built(self, name):
        with pytest.raises(ValueError, match=f"{name}' names a place to fetch a model from.*backbone_weights="):
            FARAMTN.from_timm(name, GROUPS)


class TestBeforeAnythingIsBuilt:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param(
                lambda config: config["backbone"].update(name="resnet34"), ": backbone should be", id="backbone"
            ),
            pytest.param(
                lambda config: config["backbone"]["options"].update(in_chans=1),
                ": backbone should be",
                id="its options",
            ),
            pytest.param(lambda config: config.update(num_heads=4), ": num_heads should be 8, got 4", id="heads"),
            pytest.param(lambda config: config["groups"]["eyes"].reverse(), ": groups should be", id="groups"),
            pytest.param(
                lambda config: config.update(fused_channels=16), r"\.json: cgff\.key\.weight should", id="sizes"
            ),
            pytest.param(
                lambda config: config.update(channels=2**16, reduction=1, key_channels=2**16),
                ": reduction should be 16, got 1",
                id="huge",
            ),
        ],
    )
    def test_config_and_weights_are_compared(self, change, message, folder, monkeypatch):
        edit(folder / "config.json", change)
        monkeypatch.setattr(timm, "create_model", forbid)
        with pytest.raises(ValueError, match=rf"model\.safetensors .* config{message}"):
            FARAMTN.from_pretrained(folder)

    @pytest.mark.parametrize(
        "backbone",
        [
            pytest.param({"name": "vit_giant_patch14_224", "options": {}}, id="a giant"),
            pytest.param({"name": "vit_tiny_patch16_224", "options": {"embed_dim": 2**16, "num_heads": 1}}, id="wide"),
            pytest.param({"name": "vit_tiny_patch16_224", "options": {"img_size": 2**16}}, id="large pictures"),
            pytest.param({"name": "resnet18", "options": {"in_chans": 2**16}}, id="many colours"),
            pytest.param({"name": "resnet50", "options": {"base_width": 2**12, "cardinality": 2**6}}, id="many groups"),
        ],
    )
    def test_a_model_that_is_far_larger_than_its_file_is_refused(self, backbone, folder):
        forge(folder, lambda config: config["backbone"].update(backbone))
        with pytest.raises(ValueError, match=r"describes a model that is far larger than .*safetensors"):
            FARAMTN.from_pretrained(folder)


HOSTILE = [None, True, 0, -1, 1.5, 2**40, float("nan"), "", "16", "yes", [], [1, 2], {}, {"name": 3}]


class TestHostileValues:
    @pytest.mark.parametrize("value", HOSTILE, ids=repr)
    @pytest.mark.parametrize(
        "key",
        ["channels", "out_channels", "fused_channels", "num_heads", "reduction", "key_channels", "dropout", "spatial",
         "coordinates", "own_shared", "own_heads", "groups", "backbone", "image", "mtattn_version"],
    )  # fmt: skip
    def test_in_the_config_are_refused_or_make_no_difference(self, key, value, folder):
        before = json.loads((folder / "config.json").read_text()).get(key)
        edit(folder / "config.json", lambda config: config.update({key: value}))
        refused = refusal(folder)
        makes_no_difference = {"dropout", "mtattn_version", "image", "own_heads", "own_shared"}
        assert refused.startswith(OURS) if refused else value == before or key in makes_no_difference

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param(
                {"reduction": "16"}, "reduction is a whole number from 1 to 65536, or null, got '16'", id="text"
            ),
            pytest.param({"num_heads": None}, "num_heads is a whole number .*, got None", id="null"),
            pytest.param({"key_channels": 1.5}, "key_channels is a whole number .*, got 1.5", id="broken"),
            pytest.param({"channels": True}, "channels is a whole number .*, got True", id="a boolean"),
            pytest.param({"dropout": "x"}, r"dropout is a number in \[0, 1\), got 'x'", id="dropout"),
            pytest.param({"dropout": 1}, r"dropout is a number in \[0, 1\), got 1", id="all dropped"),
            pytest.param({"spatial": "yes"}, "spatial is true or false, got 'yes'", id="a word"),
            pytest.param({"coordinates": 2}, "coordinates is true or false, got 2", id="axes"),
            pytest.param({"backbone": "resnet18"}, "backbone is an object, got 'resnet18'", id="backbone"),
            pytest.param({"backbone": None}, "backbone is an object, got None", id="no backbone"),
            pytest.param({"image": {"size": [9]}}, r"image\.size is a list of height and width", id="size"),
            pytest.param({"image": {"mean": ["a"]}}, r"image\.mean is a list of numbers .* got \['a'\]", id="mean"),
            pytest.param({"image": {"mean": [1e308, 0, 0]}}, r"image\.mean is .* got \[1e\+308", id="a huge mean"),
            pytest.param({"image": {"std": [1e-308, 1, 1]}}, r"image\.std is .* got \[1e-308", id="a tiny spread"),
            pytest.param({"image": {"crop": [0.5, 2]}}, r"image\.crop is a number in \(0, 1\], or one for", id="crop"),
            pytest.param({"map_centres": 3}, "map_centres is an object, got 3", id="centres"),
            pytest.param(
                {"image": {"std": [0.5, 0.0]}}, r"image\.std is a list of numbers from 0\.001", id="no spread"
            ),
            pytest.param({"image": {"mean": [0.5], "std": [1, 1]}}, r"image\.std has a number for each of 1", id="two"),
            pytest.param({"image": {"size": [2**13] * 2}}, r"image\.size is .* at most 16,777,216", id="endless"),
            pytest.param({"image": {"colour": 1}}, "image has size, mean, std, crop, got 'colour'", id="more"),
            pytest.param({"dropout": 10**400}, r"dropout is a number in \[0, 1\), got 1000", id="of 400 digits"),
            pytest.param({"decisions": [1]}, r"decisions is an object, got \[1\]", id="no decisions"),
            pytest.param({"decisions": {"goal": "f1", "by": 1}}, "decisions have goal, .*, got 'by'", id="unknown"),
            pytest.param({"decisions": {}}, r"decisions\.goal is a text, got nothing", id="no goal"),
            pytest.param(
                {"decisions": {"goal": "f1", "thresholds": {"Goatee": 1}}}, r"decisions\.thresholds is an", id="sure"
            ),
            pytest.param(
                {"decisions": {"goal": "f1", "temperatures": {"nose": 0}}}, r"decisions\.temperatures is an", id="cold"
            ),
            pytest.param(
                {"decisions": {"goal": "f1", "thresholds": {"Goatee": 0.2}, "absent": {"Goatee": 0.3}}},
                r"decisions\.absent is at most the threshold, got 0.3 for 'Goatee', whose threshold is 0.2",
                id="crossed",
            ),
            pytest.param({"groups": {"eyes": ["\ud800"]}}, "AttributeGroups: an attribute is text", id="half a letter"),
            pytest.param({"groups": {"eyes": 3}}, "AttributeGroups: ", id="no list"),
            pytest.param({"groups": {"eyes": "abc"}}, "AttributeGroups: .*string", id="a string"),
            pytest.param({"groups": {"eyes": []}}, "AttributeGroups: .*got none for 'eyes'", id="empty"),
            pytest.param({"groups": {"eyes": [3]}}, "AttributeGroups: .*is a string, got the int 3", id="a number"),
            pytest.param({"groups": {}}, "AttributeGroups: needs at least one group", id="no groups"),
            pytest.param({"mtattn_version": 3}, "mtattn_version is a text, got 3", id="version"),
            pytest.param({"image": "x" * 500}, r"image is an object, got 'x{79}\.\.\.\.$", id="a long one"),
        ],
    )
    def test_are_named_with_the_rule(self, change, message, folder):
        edit(folder / "config.json", lambda config: config.update(change))
        with pytest.raises(ValueError, match=f"from_pretrained: the config of .*model is damaged: {message}"):
            FARAMTN.from_pretrained(folder)

    @pytest.mark.parametrize(
        ("backbone", "message"),
        [
            pytest.param({"name": 3}, r"backbone\.name is the name of a timm model", id="name"),
            pytest.param({"drop_stages": "1"}, r"backbone\.drop_stages is a whole number from 0", id="stages"),
            pytest.param({"options": [1]}, r"backbone\.options is an object", id="options"),
            pytest.param({"options": {"in_chans": {}}}, r"in_chans is a word, a number up to", id="an object"),
            pytest.param({"options": {"act_layer": "os.system"}}, r"act_layer is a word", id="a place in a program"),
            pytest.param({"options": {"in_chans": 2**20}}, r"in_chans is a word, a number up to", id="too many"),
            pytest.param(
                {"options": {"layers": [[1]]}}, r"layers is a word, .* or a list of these", id="lists in lists"
            ),
            pytest.param({"name": "resnet81"}, r"no timm model 'resnet81'; did you mean", id="unknown"),
            pytest.param({"name": "resnet18.foo"}, r"Invalid pretrained tag \(foo\)", id="tag"),
            pytest.param({"options": {"img_size": 64}}, r"does not take these backbone_options", id="not of this one"),
            pytest.param({"options": {"act_layer": "nonsense"}}, r"timm cannot build 'resnet18' with", id="nonsense"),
            pytest.param({"options": {"layers": []}}, r"from_timm: ", id="nothing"),
            pytest.param({"drop_stages": 9}, r"drop_stages is from 0 to 3 for 'resnet18', got 9", id="all stages"),
        ],
    )
    def test_of_the_backbone_are_refused_even_if_the_weights_agree(self, backbone, message, folder):
        forge(folder, lambda config: config["backbone"].update(backbone))
        with pytest.raises(ValueError, match=message):
            FARAMTN.from_pretrained(folder)

    @pytest.mark.parametrize("missing", ["name", "options", "drop_stages"])
    def test_that_are_missing_are_named(self, missing, folder):
        edit(folder / "config.json", lambda config: config["backbone"].pop(missing))
        with pytest.raises(ValueError, match=rf"is damaged: backbone\.{missing} is .*, got nothing"):
            FARAMTN.from_pretrained(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", r".*config\.json is damaged or cut short", id="empty"),
        pytest.param(b"\xff\xfe{}", r".*config\.json is damaged or cut short", id="no text"),
        pytest.param(b"[" * 200_000, r".*config\.json is damaged or cut short", id="nested"),
        pytest.param(b'{"channels": ' + b"9" * 5000 + b"}", r".*config\.json is damaged", id="a long number"),
        pytest.param(b"[]", "the config of a FARAMTN has", id="a list"),
        pytest.param(b"null", "the config of a FARAMTN has", id="null"),
        pytest.param(b" " * (2**24 + 1), r".*config\.json is damaged, it has more than 16,777,216 bytes", id="huge"),
    ],
)
def test_a_config_that_cannot_be_read_is_refused(content, message, folder):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"from_pretrained: {message}"):
        FARAMTN.from_pretrained(folder)


@pytest.mark.parametrize("remembered", ["", "{", "[]", "3", "[" * 200_000, '{"groups": 3}'])
def test_weights_that_remember_nonsense_are_refused_or_trusted_no_further_than_the_config(remembered, folder):
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors", metadata={"config": remembered})
    if remembered in {"[]", "3"}:
        assert FARAMTN.from_pretrained(folder).groups == GROUPS
    else:
        fault = (
            "was saved with another config: groups should be 3" if "groups" in remembered else "is damaged or cut short"
        )
        with pytest.raises(ValueError, match=rf"model\.safetensors {fault}"):
            FARAMTN.from_pretrained(folder)


def places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


def put(config, path, value):
    *way, last = path
    for step in way:
        config = config[step]
    config[last] = value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**17), 2**17) | st.just(10**400) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(data=st.data(), value=JSON, meant=st.booleans())
def test_no_config_makes_anything_but_our_own_error(saved, tmp_path_factory, data, value, meant):
    folder = Path(shutil.copytree(saved, tmp_path_factory.mktemp("fuzz") / "model"))
    config = json.loads((folder / "config.json").read_text())
    path = data.draw(st.sampled_from(list(places(config))[1:]))
    (forge if meant else lambda folder, change: edit(folder / "config.json", change))(
        folder, lambda config: put(config, path, value)
    )
    refused = refusal(folder)
    shutil.rmtree(folder.parent)
    assert refused is None or refused.startswith(OURS)


@given(data=st.data())
def test_no_damage_to_the_weights_makes_anything_but_our_own_error(saved, tmp_path_factory, data):
    content = bytearray((saved / "model.safetensors").read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.sampled_from([len(content), header, len(content) - 1]))]
    folder = Path(shutil.copytree(saved, tmp_path_factory.mktemp("fuzz") / "model"))
    (folder / "model.safetensors").write_bytes(content)
    refused = refusal(folder)
    shutil.rmtree(folder.parent)
    assert refused is None or refused.startswith(OURS)


def test_the_weights_remember_the_config(folder):
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["config"]) == json.loads((folder / "config.json").read_text())


def test_heads_of_ones_own_are_asked_for_again(tmp_path):
    def heads():
        return nn.Sequential(nn.Flatten(), nn.Linear(48, 5))

    model = perturbed(small(heads=heads())).eval()
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["own_heads"] is True
    with pytest.raises(ValueError, match="this model has heads of its own; pass heads="):
        FARAMTN.from_pretrained(tmp_path, trunk=small().trunk)
    loaded = FARAMTN.from_pretrained(tmp_path, trunk=small().trunk, heads=heads())
    assert torch.equal(loaded(IMAGES), model(IMAGES))
    with pytest.raises(ValueError, match=r"does not fit its config.json: heads\.1\.weight should be \(5, 40\)"):
        FARAMTN.from_pretrained(tmp_path, trunk=small().trunk, heads=nn.Sequential(nn.Flatten(), nn.Linear(40, 5)))
