"""A model saved and loaded: the same, whole or not at all, and refused where its files disagree."""

import copy
import json
import os
import resource
import signal
import stat
from pathlib import Path

import pytest
import timm
import torch
from settings import GROUPS, IMAGES, VIT, built, edit, perturbed, small, tiny
from torch import nn

from mtattn import FARAMTN


class TestSaving:
    @pytest.fixture
    def folder(self, tmp_path):
        perturbed(tiny(reduction=8, num_heads=4)).save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            pytest.param(
                "resnet18", {"reduction": 32, "spatial": True, "fused_channels": 64, "num_heads": 4}, id="resnet18"
            ),
            pytest.param("resnet18", {"drop_stages": 1}, id="resnet18 short"),
            pytest.param("tf_efficientnet_lite0", {"dropout": 0.1}, id="efficientnet"),
            pytest.param(VIT, {"reduction": 8, "key_channels": 16, "spatial": True}, id="vit"),
        ],
    )
    @pytest.mark.usefixtures("no_network", "no_pickle")
    def test_a_loaded_model_is_the_saved_one(self, name, options, tmp_path):
        model = perturbed(built(name, **options)).eval()
        model.save_pretrained(tmp_path)
        loaded = FARAMTN.from_pretrained(tmp_path)
        assert loaded.groups == model.groups
        assert list(loaded.groups) == ["nose", "eyes", "chin"]
        assert not loaded.training
        assert repr(loaded) == repr(model)
        with torch.no_grad():
            assert torch.equal(loaded(IMAGES), model(IMAGES))
            assert torch.equal(loaded.attribute_maps(IMAGES), model.attribute_maps(IMAGES))

    def test_a_loaded_model_saves_the_same_files(self, folder, tmp_path):
        FARAMTN.from_pretrained(folder).save_pretrained(tmp_path / "again")
        for file in ("config.json", "model.safetensors"):
            assert (tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes()

    def test_what_others_added_to_the_config_stays(self, folder, tmp_path):
        edit(folder / "config.json", lambda config: config.update(image={"size": [9, 9]}, note="mine"))
        model = FARAMTN.from_pretrained(folder)
        assert (model.config["image"], model.config["note"]) == ({"size": [9, 9]}, "mine")
        custom = small()
        custom.config["image"] = {"size": [8, 8]}
        custom.save_pretrained(tmp_path / "custom")
        trunk = nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.BatchNorm2d(16), nn.ReLU())
        assert FARAMTN.from_pretrained(tmp_path / "custom", trunk=trunk).config["image"] == {"size": [8, 8]}

    def test_an_option_given_on_loading_is_saved_again(self, folder):
        model = FARAMTN.from_pretrained(folder, dropout=0.5)
        assert model.cgff.dropout.p == model.config["dropout"] == 0.5

    def test_a_module_used_twice_is_saved_once_and_loaded(self, tmp_path):
        def build():
            twice = nn.Conv2d(16, 16, 1)
            return nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), twice), twice

        trunk, twice = build()
        model = perturbed(FARAMTN(trunk, 16, GROUPS, shared=twice)).eval()
        model.save_pretrained(tmp_path)
        trunk, twice = build()
        loaded = FARAMTN.from_pretrained(tmp_path, trunk=trunk, shared=twice)
        assert torch.equal(loaded(IMAGES), model(IMAGES))

    @pytest.mark.usefixtures("no_network")
    @pytest.mark.parametrize("place", ["runs/model", Path("runs/model"), Path("model"), "~/no/model"])
    def test_a_missing_folder_is_never_looked_for_on_the_hub(self, place, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("runs").mkdir()
        with pytest.raises(FileNotFoundError, match=r"FARAMTN\.from_pretrained: no folder .*model"):
            FARAMTN.from_pretrained(place)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param(lambda config: config.clear(), "a FARAMTN has channels", id="empty"),
            pytest.param(lambda config: config.pop("groups"), "a FARAMTN has channels", id="no groups"),
            pytest.param(lambda config: config.pop("out_channels"), "a FARAMTN has channels", id="no channels"),
            pytest.param(
                lambda config: config.update(backbone={}), ".*: backbone.name is .*, got nothing", id="backbone"
            ),
            pytest.param(
                lambda config: config.update(groups=["eyes"]), "a FARAMTN has channels", id="groups as a list"
            ),
        ],
    )
    def test_the_config_of_something_else_is_refused(self, change, message, folder):
        edit(folder / "config.json", change)
        with pytest.raises(ValueError, match=rf"FARAMTN\.from_pretrained: the config of {message}"):
            FARAMTN.from_pretrained(folder)

    def test_a_string_names_a_folder_as_well(self, folder, monkeypatch):
        assert FARAMTN.from_pretrained(str(folder)).groups == GROUPS
        monkeypatch.chdir(folder.parent)
        assert FARAMTN.from_pretrained("model").groups == GROUPS

    def test_the_config_can_be_read(self, folder):
        config = json.loads((folder / "config.json").read_text())
        assert config["backbone"]["name"] == "resnet18"
        assert config["reduction"] == 8
        assert config["spatial"] is True
        assert list(config["groups"].items()) == [(name, list(attributes)) for name, attributes in GROUPS.items()]
        assert len(config["image"]["mean"]) == len(config["image"]["std"]) == 3

    def test_no_pickle_is_written(self, folder):
        assert {path.suffix for path in folder.iterdir()} <= {".safetensors", ".json", ".md"}

    @pytest.mark.usefixtures("no_network", "no_pickle")
    def test_a_custom_trunk_is_given_again(self, tmp_path):
        model = perturbed(small(shared=nn.Conv2d(16, 24, 1), out_channels=24)).eval()
        model.save_pretrained(tmp_path)
        trunk, shared = copy.deepcopy(small().trunk), nn.Conv2d(16, 24, 1)
        loaded = FARAMTN.from_pretrained(tmp_path, trunk=trunk, shared=shared)
        assert torch.equal(loaded(IMAGES), model(IMAGES))

    def test_a_shared_module_without_parameters_is_not_forgotten(self, tmp_path):
        model = perturbed(small(shared=nn.MaxPool2d(2))).eval()
        model.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="has a shared module of its own; pass shared="):
            FARAMTN.from_pretrained(tmp_path, trunk=small().trunk)
        loaded = FARAMTN.from_pretrained(tmp_path, trunk=small().trunk, shared=nn.MaxPool2d(2))
        assert torch.equal(loaded(IMAGES), model(IMAGES))

    def test_the_device_is_a_name_or_a_device(self, tmp_path):
        model = perturbed(small()).eval()
        model.save_pretrained(tmp_path)
        for device in ("cpu", torch.device("cpu")):
            loaded = FARAMTN.from_pretrained(tmp_path, trunk=small().trunk, map_location=device)
            assert torch.equal(loaded(IMAGES), model(IMAGES))

    def test_an_option_that_changes_predictions_but_no_shape_is_refused(self, tmp_path):
        small(spatial=False).save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="was saved with another config: num_heads should be 8, got 4"):
            FARAMTN.from_pretrained(tmp_path, trunk=small().trunk, num_heads=4)

    @pytest.mark.parametrize("part", ["coordinates", "own_shared", "groups"])
    def test_a_config_that_lacks_a_part_is_refused_with_what_may_be_the_cause(self, part, tmp_path):
        small().save_pretrained(tmp_path)
        edit(tmp_path / "config.json", lambda config: config.pop(part))
        with pytest.raises(ValueError, match=rf"has .*{part}.*; that of .* is something else, or of an earlier mtattn"):
            FARAMTN.from_pretrained(tmp_path, trunk=small().trunk)

    def test_a_custom_trunk_that_is_not_given_is_asked_for(self, tmp_path):
        small().save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="names no backbone; pass trunk="):
            FARAMTN.from_pretrained(tmp_path)

    def test_a_custom_trunk_of_another_form_is_refused(self, tmp_path):
        small().save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=r"does not fit its config.json: trunk\."):
            FARAMTN.from_pretrained(tmp_path, trunk=nn.Conv2d(3, 16, 4, stride=4))

    @pytest.mark.usefixtures("no_network")
    def test_a_shared_module_of_ones_own_on_timm_is_given_again_or_asked_for(self, tmp_path):
        model = perturbed(built("resnet18", shared=nn.Conv2d(512, 32, 1), out_channels=32)).eval()
        model.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="has a shared module of its own; pass shared="):
            FARAMTN.from_pretrained(tmp_path)
        loaded = FARAMTN.from_pretrained(tmp_path, shared=nn.Conv2d(512, 32, 1))
        assert torch.equal(loaded(IMAGES), model(IMAGES))

    def test_weights_fetched_for_training_are_not_fetched_for_loading(self, folder, monkeypatch):
        asked, create = [], timm.create_model
        monkeypatch.setattr(timm, "create_model", lambda *a, **k: asked.append(k["pretrained"]) or create(*a, **k))
        FARAMTN.from_pretrained(folder)
        assert asked == [False]

    @pytest.mark.usefixtures("no_network")
    def test_a_folder_that_is_not_there_is_refused_with_its_path(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=f"FARAMTN.from_pretrained: no folder {tmp_path}/model"):
            FARAMTN.from_pretrained(tmp_path / "model")

    @pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
    @pytest.mark.usefixtures("no_network")
    def test_a_folder_that_lacks_a_file_is_refused_with_its_path(self, file, folder):
        (folder / file).unlink()
        with pytest.raises(FileNotFoundError, match=f"FARAMTN.from_pretrained: no {file} in {folder}"):
            FARAMTN.from_pretrained(folder)

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda config: config.update(fused_channels=8), id="narrower"),
            pytest.param(lambda config: config.update(key_channels=8), id="keys"),
            pytest.param(lambda config: config.update(coordinates=False), id="no places"),
            pytest.param(lambda config: config.update(channels=64, reduction=8), id="channels"),
            pytest.param(lambda config: config.update(out_channels=16), id="other channels"),
        ],
    )
    def test_weights_that_disagree_with_the_config_are_refused(self, change, folder):
        edit(folder / "config.json", change)
        with pytest.raises(ValueError, match=f"{folder}/model.safetensors does not fit its config.json: .* should be"):
            FARAMTN.from_pretrained(folder)

    @pytest.mark.parametrize(
        ("change", "key"),
        [
            pytest.param(
                lambda config: config.update(
                    groups={"nose": ["Big_Nose", "Narrow_Eyes"], "eyes": ["Eyeglasses", "Bags"], "chin": ["Goatee"]}
                ),
                "groups",
                id="an attribute in another group",
            ),
            pytest.param(lambda config: config["groups"]["eyes"].reverse(), "groups", id="attributes in another order"),
            pytest.param(
                lambda config: config.update(
                    groups={name: config["groups"][name] for name in ("chin", "eyes", "nose")}
                ),
                "groups",
                id="groups in another order",
            ),
            pytest.param(lambda config: config["groups"]["eyes"].append("Bushy"), "groups", id="one more attribute"),
            pytest.param(lambda config: config["groups"].update(hair=["Bald"]), "groups", id="one more group"),
            pytest.param(lambda config: config.update(spatial=False), "spatial", id="not spatial"),
            pytest.param(lambda config: config.update(reduction=16), "reduction", id="reduction"),
            pytest.param(lambda config: config.update(num_heads=8), "num_heads", id="heads"),
            pytest.param(lambda config: config["backbone"].update(name="resnet34"), "backbone", id="backbone"),
            pytest.param(lambda config: config["backbone"].update(drop_stages=1), "backbone", id="stages"),
            pytest.param(
                lambda config: config["backbone"]["options"].update(act_layer="silu"), "backbone", id="activation"
            ),
        ],
    )
    def test_a_config_that_fits_but_is_not_the_one_saved_is_refused(self, change, key, folder):
        edit(folder / "config.json", change)
        with pytest.raises(ValueError, match=rf"model\.safetensors was saved with another config: {key} should be"):
            FARAMTN.from_pretrained(folder)

    def test_other_heads_fit_where_nobody_looks_and_are_refused_all_the_same(self, tmp_path):
        built("resnet18", spatial=False).save_pretrained(tmp_path)
        edit(tmp_path / "config.json", lambda config: config.update(num_heads=4))
        with pytest.raises(ValueError, match=r"was saved with another config: num_heads should be"):
            FARAMTN.from_pretrained(tmp_path)

    @pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
    def test_a_truncated_file_is_refused_with_its_path(self, file, folder):
        path = folder / file
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(ValueError, match=f"FARAMTN.from_pretrained: .*{file}"):
            FARAMTN.from_pretrained(folder)

    def test_a_misspelt_option_is_a_type_error(self, folder):
        with pytest.raises(TypeError, match="trunck"):
            FARAMTN.from_pretrained(folder, trunck=nn.Identity())

    def test_what_belongs_to_the_saved_model_is_refused_as_an_option(self, folder):
        for name in ("drop_stages", "backbone_options", "backbone_weights", "pretrained"):
            with pytest.raises(ValueError, match=f"the backbone belongs to the saved model; leave {name}= out"):
                FARAMTN.from_pretrained(folder, **{name: 1})

    def test_what_changes_predictions_is_refused_as_an_option(self, folder):
        for name, value in {"num_heads": 2, "reduction": 4, "spatial": False}.items():
            with pytest.raises(ValueError, match=rf"was saved with another config: {name} should be .*, got {value}"):
                FARAMTN.from_pretrained(folder, **{name: value})
        with pytest.raises(
            ValueError, match=r"does not fit its config\.json: cgff\.key\.weight should be \(8, 32\), got"
        ):
            FARAMTN.from_pretrained(folder, key_channels=8)

    def test_a_model_saved_in_half_precision_is_loaded_with_the_same_numbers(self, tmp_path):
        model = perturbed(tiny()).bfloat16()
        model.save_pretrained(tmp_path)
        loaded = FARAMTN.from_pretrained(tmp_path)
        assert {p.dtype for p in loaded.parameters()} == {torch.float32}
        state = loaded.bfloat16().state_dict()
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())

    def test_a_home_folder_is_found_again(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        tiny().save_pretrained("~/model")
        assert (tmp_path / "model/config.json").is_file()
        assert FARAMTN.from_pretrained("~/model").groups == GROUPS

    def test_options_of_the_hub_without_the_hub_are_refused(self, tmp_path):
        with pytest.raises(TypeError, match="private are for push_to_hub=True"):
            small().save_pretrained(tmp_path / "model", private=True)

    def test_sizes_from_numpy_are_saved(self, tmp_path):
        np = pytest.importorskip("numpy")
        if hasattr(FARAMTN.__init__, "__wrapped__"):
            pytest.skip("beartype takes an annotation at its word")
        sizes = {"reduction": np.int64(4), "fused_channels": np.uint8(8), "num_heads": np.int32(4)}
        rest = {"dropout": np.float64(0.25), "spatial": np.bool_(True), "key_channels": np.uint8(64)}
        model = FARAMTN(small().trunk, np.int64(16), GROUPS, **sizes, **rest)
        model.save_pretrained(tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        assert (config["channels"], config["dropout"], config["spatial"]) == (16, 0.25, True)
        assert torch.equal(FARAMTN.from_pretrained(tmp_path, trunk=model.trunk)(IMAGES), model.eval()(IMAGES))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fail_in_the_weights(monkeypatch):
    def fail(model, file, **_):
        Path(file).write_bytes(b"half a mod")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_model", fail)


def fail_in_the_config(monkeypatch):
    def fail(self, *_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)


def fail_in_the_card(monkeypatch):
    def fail(self, **_):
        raise KeyError("mean_accuracy")

    monkeypatch.setattr(FARAMTN, "generate_model_card", fail)


def interrupt_at_move(number):
    def fail_at(monkeypatch):
        moves, replace = [], Path.replace

        def fail(self, target):
            moves.append(self)
            if len(moves) == number:
                raise KeyboardInterrupt
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", fail)

    return fail_at


FAILURES = pytest.mark.parametrize(
    "fail",
    [
        pytest.param(fail_in_the_weights, id="in the weights"),
        pytest.param(fail_in_the_config, id="in the config"),
        pytest.param(fail_in_the_card, id="in the card"),
        *(pytest.param(interrupt_at_move(number), id=f"at move {number}") for number in range(1, 7)),
    ],
)


class TestASaveThatFails:
    @pytest.fixture
    def folder(self, tmp_path):
        perturbed(tiny()).save_pretrained(tmp_path / "model")
        (tmp_path / "model/notes.txt").write_text("mine")
        return tmp_path / "model"

    @FAILURES
    def test_leaves_the_model_that_was_there(self, fail, folder, monkeypatch):
        before, other = contents(folder), perturbed(tiny(reduction=8))
        with monkeypatch.context() as patch:
            fail(patch)
            with pytest.raises((OSError, KeyError, KeyboardInterrupt)):
                other.save_pretrained(folder)
        assert contents(folder) == before

    @FAILURES
    def test_leaves_no_folder_where_none_was(self, fail, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:
            fail(patch)
            try:
                tiny().save_pretrained(tmp_path / "model")
            except (OSError, KeyError, KeyboardInterrupt):
                assert not (tmp_path / "model").exists()
            else:
                assert FARAMTN.from_pretrained(tmp_path / "model").groups == GROUPS  # there were fewer moves

    def test_because_the_disk_is_full_says_so(self, folder):
        before = contents(folder)
        (soft, hard), handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        try:
            with pytest.raises(OSError, match=r"cannot be written into .*model .*File too large.*stays as it was"):
                tiny().save_pretrained(folder)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)
        assert contents(folder) == before

    def test_because_of_a_config_that_json_cannot_hold_says_so(self, folder):
        before, model = contents(folder), tiny()
        model.config["note"] = {1, 2}
        with pytest.raises(ValueError, match=r"save_pretrained: model\.config is saved as JSON: .*set"):
            model.save_pretrained(folder)
        assert contents(folder) == before

    def test_because_a_file_is_in_the_way_says_so(self, tmp_path):
        (tmp_path / "model").write_text("mine")
        with pytest.raises(NotADirectoryError, match=r"save_pretrained: .*model is a file; give a folder"):
            tiny().save_pretrained(tmp_path / "model")
        assert (tmp_path / "model").read_text() == "mine"


class TestTheFiles:
    def test_can_be_read_by_whoever_reads_other_new_files(self, tmp_path):
        before = os.umask(0o022)
        try:
            tiny().save_pretrained(tmp_path / "model")
        finally:
            os.umask(before)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "model").iterdir()}
        assert modes == dict.fromkeys(("README.md", "config.json", "model.safetensors"), 0o644)
        assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o755

    def test_of_another_person_stay_beside_a_model_saved_again(self, tmp_path):
        tiny().save_pretrained(tmp_path)
        (tmp_path / "face.jpg").write_bytes(b"mine")
        tiny(reduction=8).save_pretrained(tmp_path)
        assert (tmp_path / "face.jpg").read_bytes() == b"mine"
        assert FARAMTN.from_pretrained(tmp_path).config["reduction"] == 8

    def test_behind_a_link_are_not_written_through(self, tmp_path):
        tiny().save_pretrained(tmp_path / "first")
        before = (tmp_path / "first/model.safetensors").read_bytes()
        (tmp_path / "second").mkdir()
        (tmp_path / "second/model.safetensors").symlink_to(tmp_path / "first/model.safetensors")
        perturbed(tiny()).save_pretrained(tmp_path / "second")
        assert (tmp_path / "first/model.safetensors").read_bytes() == before
