"""A trained model with other groups: what it knows is kept by name, in memory and from a folder."""

import copy
import itertools
import logging

import pytest
import torch
from settings import GROUPS, IMAGES, perturbed, small, tiny
from torch import nn

from mtattn import FARAMTN, AttributeGroups, Categorical, Number, Ordinal

NEW = AttributeGroups({"hair": ["Bald"], "eyes": ["Eyeglasses", "Lashes"], "face": ["Goatee"], "nose": ["Big_Nose"]})
PER_GROUP = ("down_weight", "down_bias", "up_weight", "up_bias", "queries", "place_weight")
AGE = Number("age", unit="years", mean=33, std=20)
MOOD = Categorical("mood", ("angry", "happy", "sad"))
MIXED = AttributeGroups({"age": [AGE, Ordinal("stage", ("child", "young", "old"))], "mouth": ["Smiling", MOOD]})


def rows(model, name):
    """The rows of a group's parameters, by the name of the group."""
    return dict(zip(model.groups, getattr(model.wsgsa, name), strict=True))


def head_rows(model):
    columns = model.groups.columns.attributes
    return {c: (w, b) for c, w, b in zip(columns, model.heads.weight, model.heads.bias, strict=True)}


class TestNewGroups:
    @pytest.mark.parametrize(
        "options",
        [{}, {"spatial": False}, {"coordinates": False}, {"reduction": None}],
        ids=["all", "plain", "flat", "fixed gates"],
    )
    def test_keep_gates_and_heads_by_name_and_all_that_knows_no_groups(self, options):
        model = perturbed(small(fused_channels=8, num_heads=2, **options))
        before = copy.deepcopy(model)
        assert model.reset_groups(NEW) is model
        assert model.groups == model.heads.groups == NEW
        assert model.wsgsa.num_groups == 4
        for name in PER_GROUP:
            if getattr(model.wsgsa, name) is not None:
                for group in ("eyes", "nose"):
                    assert torch.equal(rows(model, name)[group], rows(before, name)[group]), name
        old, new = head_rows(before), head_rows(model)
        for attribute in ("Eyeglasses", "Goatee", "Big_Nose"):
            assert torch.equal(new[attribute][0], old[attribute][0])
            assert new[attribute][1] == old[attribute][1]
        state = model.state_dict()
        dependent = {f"wsgsa.{name}" for name in PER_GROUP} | {"heads.weight", "heads.bias"}
        rest = {name: value for name, value in before.state_dict().items() if name not in dependent}
        assert all(torch.equal(value, state[name]) for name, value in rest.items())
        assert state.keys() == before.state_dict().keys()

    @pytest.mark.parametrize("affinity", ["pairs", "both"])
    def test_keep_the_learned_pairs_of_groups_that_stay(self, affinity, tmp_path):
        model = perturbed(small(fused_channels=8, num_heads=2, affinity=affinity))
        before, old = list(model.groups), model.cgff.prior.clone()
        model.save_pretrained(tmp_path)
        again = {"trunk": copy.deepcopy(model.trunk), "shared": copy.deepcopy(model.wsgsa.shared)}
        for changed in (model.reset_groups(NEW), FARAMTN.from_pretrained(tmp_path, groups=NEW, **again)):
            after = list(changed.groups)
            for head, listener, speaker in itertools.product(range(2), after, after):
                pair = changed.cgff.prior[head, after.index(listener), after.index(speaker)]
                stays = {listener, speaker} <= set(before)
                assert pair == (old[head, before.index(listener), before.index(speaker)] if stays else 0)
            assert changed(IMAGES).shape == (len(IMAGES), len(NEW.attributes))

    def test_start_what_is_new_as_a_new_model_does(self):
        model = perturbed(small()).reset_groups(NEW)
        assert not rows(model, "queries")["hair"].any()
        assert not rows(model, "up_bias")["face"].any()
        assert 0 < head_rows(model)["Bald"][0].abs().max() <= 1 / 4

    def test_are_those_of_predictions_maps_and_config(self, tmp_path):
        model = perturbed(tiny()).reset_groups(NEW).eval()
        torch.testing.assert_close(model.attribute_maps(IMAGES).mean((-2, -1)), model(IMAGES))
        model.save_pretrained(tmp_path)
        loaded = FARAMTN.from_pretrained(tmp_path)
        assert loaded.groups == NEW
        assert torch.equal(loaded(IMAGES), model(IMAGES))

    def test_that_are_the_old_ones_change_no_prediction(self):
        model = perturbed(small()).eval()
        expected = model(IMAGES)
        assert torch.equal(model.reset_groups(GROUPS)(IMAGES), expected)
        assert not model.training

    def test_in_another_order_permute_the_predictions(self):
        model = perturbed(small()).eval()
        expected = dict(zip(GROUPS.attributes, model(IMAGES).unbind(1), strict=True))
        other = AttributeGroups({"chin": GROUPS["chin"], "eyes": GROUPS["eyes"][::-1], "nose": GROUPS["nose"]})
        got = model.reset_groups(other)(IMAGES)
        torch.testing.assert_close(got, torch.stack([expected[name] for name in other.attributes], 1))

    @pytest.mark.parametrize("training", [True, False])
    def test_keep_mode_type_and_what_is_frozen(self, training):
        model = small().bfloat16().train(training).freeze().reset_groups(NEW)
        model.reset_groups(AttributeGroups({"shoes": ["Laces"]}))
        assert model.training == training
        assert not model.trunk.training
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
        assert model.unfreeze().trunk.training == training

    def test_leave_the_modes_of_what_stays(self):
        model = small().train()
        model.trunk.eval()
        model.wsgsa.shared.eval()
        model.cgff.eval()
        model.reset_groups(NEW)
        modes = {name: part.training for name, part in model.named_modules() if name.count(".") <= 1}
        still = {name for name, training in modes.items() if not training}
        assert {"trunk", "wsgsa.shared", "cgff"} <= still
        assert not still & {"", "wsgsa", "heads"}

    def test_come_to_the_device_of_the_model(self):
        model = tiny().to("meta").reset_groups(NEW)
        assert {value.device.type for value in (*model.parameters(), *model.buffers())} == {"meta"}

    def test_learn(self):
        model = small().reset_groups(NEW)
        before = copy.deepcopy(model.state_dict())
        optimizer = torch.optim.SGD(model.parameter_groups(0.1), lr=0.1)
        model(IMAGES).square().sum().backward()
        optimizer.step()
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert {"heads.weight", "wsgsa.up_bias", "wsgsa.queries", "trunk.0.weight"} <= changed

    def test_are_told_in_one_line(self, caplog):
        with caplog.at_level(logging.WARNING, "mtattn"):
            small().reset_groups(NEW)
        (line,) = caplog.messages
        assert line == (
            "FARAMTN.reset_groups: kept by name 2 groups (eyes, nose) and 3 attributes (Eyeglasses, Goatee, Big_Nose); "
            "fresh are 2 groups (hair, face) and 2 attributes (Bald, Lashes)."
        )

    def test_that_are_a_plain_dict_are_refused(self):
        with pytest.raises(
            TypeError, match=r"reset_groups: groups is an AttributeGroups, got a dict|^Type-check error"
        ):
            small().reset_groups({"eyes": ["Bald"]})


class TestOtherKinds:
    def test_keep_the_columns_of_attributes_of_the_same_kind(self):
        model = perturbed(small(MIXED))
        old = {name: value[0].clone() for name, value in head_rows(model).items()}
        other = AttributeGroups(
            {
                "mouth": [Categorical("mood", ("happy", "calm", "angry")), "Smiling"],
                "age": [Ordinal("stage", ("child", "young", "old")), "age"],
            }
        )
        new = {name: value[0] for name, value in head_rows(model.reset_groups(other)).items()}
        same = {name for name in new if name in old and torch.equal(new[name], old[name])}
        assert same == {"mood=happy", "mood=angry", "Smiling", "stage>child", "stage>young"}  # age is yes or no now

    @pytest.mark.parametrize(
        ("levels", "kept"),
        [
            pytest.param(("young", "child", "old"), set(), id="another order"),
            pytest.param(("old", "young", "child"), set(), id="the other way round"),
            pytest.param(("child", "old", "young"), {"stage>child"}, id="the same first level"),
            pytest.param(("baby", "child", "young", "old"), set(), id="a new first level"),
            pytest.param(("child", "young", "middle", "old"), {"stage>child", "stage>young"}, id="a level between"),
            pytest.param(("child", "young"), {"stage>child"}, id="a level less"),
        ],
    )
    def test_keep_a_threshold_where_the_levels_up_to_it_are_the_same(self, levels, kept, caplog):
        model = perturbed(small(MIXED))
        old = {name: value[0].clone() for name, value in head_rows(model).items()}
        model.reset_groups(AttributeGroups({"age": [Ordinal("stage", levels)]}))
        new = {name: value[0] for name, value in head_rows(model).items()}
        assert {name for name in new if name in old and torch.equal(new[name], old[name])} == kept
        assert ("1 attribute (stage)" if kept else "0 attributes;") in caplog.messages[-1]

    def test_with_classes_in_another_order_predict_the_same_class(self):
        model = perturbed(small(MIXED)).eval()
        expected = model.groups.decode(model(IMAGES))["mood"]
        moved = Categorical("mood", MOOD.classes[::-1])
        other = AttributeGroups(
            {name: [moved if k == MOOD else k for k in MIXED.only([*m]).kinds] for name, m in MIXED.items()}
        )
        assert other.decode(model.reset_groups(other)(IMAGES))["mood"] == expected

    def test_in_another_scale_say_the_same_number(self):
        model = perturbed(small(MIXED)).eval()
        expected = model.groups.decode(model(IMAGES))["age"]
        other = AttributeGroups({"age": [Number("age", unit="years", mean=50, std=8)], "mouth": ["Smiling"]})
        alone = copy.deepcopy(model).reset_groups(AttributeGroups({"age": [AGE], "mouth": ["Smiling"]}))
        torch.testing.assert_close(alone.groups.decode(alone(IMAGES))["age"], expected)
        model.reset_groups(other)
        torch.testing.assert_close(other.decode(model(IMAGES))["age"], expected)

    def test_in_another_unit_start_fresh(self):
        model = perturbed(small(MIXED))
        before = head_rows(model)["age"][0].clone()
        model.reset_groups(AttributeGroups({"age": [Number("age", unit="months", mean=33, std=20)]}))
        assert not torch.equal(head_rows(model)["age"][0], before)


class TestFromAFolder:
    def test_the_groups_can_be_others(self, tmp_path):
        model = perturbed(tiny())
        model.save_pretrained(tmp_path)
        loaded = FARAMTN.from_pretrained(tmp_path, groups=NEW)
        assert loaded.groups == NEW
        assert not loaded.training
        assert torch.equal(head_rows(loaded)["Goatee"][0], head_rows(model)["Goatee"][0])
        assert torch.equal(loaded.trunk(IMAGES), model.eval().trunk(IMAGES))

    def test_heads_of_ones_own_can_take_their_place(self, tmp_path):
        perturbed(tiny()).save_pretrained(tmp_path)
        heads = nn.Sequential(nn.Flatten(), nn.Linear(4 * 32, 5))
        loaded = FARAMTN.from_pretrained(tmp_path, groups=NEW, heads=heads)
        assert loaded.heads is heads
        assert loaded(IMAGES).shape == (2, 5)
        assert loaded.config["own_heads"] is True

    def test_heads_of_ones_own_are_asked_for(self, tmp_path):
        def heads(num_groups, num_columns):
            return nn.Sequential(nn.Flatten(), nn.Linear(num_groups * 32, num_columns))

        tiny(heads=heads(3, 5)).save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=r"reset_groups: this model has heads of its own.*pass heads= for the new"):
            FARAMTN.from_pretrained(tmp_path, groups=NEW)
        loaded = FARAMTN.from_pretrained(tmp_path, groups=NEW, heads=heads(4, 5))
        in_two_steps = FARAMTN.from_pretrained(tmp_path, heads=heads(3, 5)).reset_groups(NEW, heads=loaded.heads)
        assert not loaded.training
        assert torch.equal(loaded.wsgsa.key_weight, in_two_steps.wsgsa.key_weight)
        assert loaded(IMAGES).shape == (2, 5)
