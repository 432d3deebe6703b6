import io
import pickle

import pytest
import torch
from jaxtyping import TypeCheckError

from mtattn import FARAMTN, AttributeGroups, Categorical, DWSLoss, DynamicWeighting, GroupHeads, Number
from mtattn._state import Constants, Float32State
from mtattn.modules import AttributeCenterLoss

GROUPS = AttributeGroups({"a": ["x", "y"], "b": ["z"]})


@pytest.mark.parametrize("build", [lambda: DynamicWeighting(2), lambda: DWSLoss(GROUPS, pos_weight=[1.0, 2.0, 3.0])])
def test_a_state_that_stays_in_float32_moves_to_the_device_all_the_same(build):
    moved = build().to(device="meta", dtype=torch.float16)
    assert {buffer.device.type for buffer in moved.buffers()} == {"meta"}
    assert torch.float16 not in {buffer.dtype for buffer in moved.buffers()}


@pytest.mark.parametrize(
    "build",
    [
        lambda groups: GroupHeads(4, groups),
        lambda groups: DWSLoss(groups, pos_weight=[1.0] * 3),
        lambda groups: AttributeCenterLoss(groups, 4),
        lambda groups: FARAMTN(torch.nn.Identity(), 16, groups),
    ],
    ids=["heads", "loss", "centres", "model"],
)
class TestTheStateOfGroups:
    @pytest.fixture
    def state(self, build):
        file = io.BytesIO()
        torch.save(build(GROUPS).state_dict(), file)
        file.seek(0)
        return torch.load(file, weights_only=True)

    @pytest.mark.parametrize(
        ("others", "message"),
        [
            pytest.param({"a": ["y", "x"], "b": ["z"]}, "got 'x' in 'a' in place of 'y' in 'a'", id="order"),
            pytest.param({"a": ["x", "y"], "b": ["w"]}, "got 'z' in 'b' in place of 'w' in 'b'", id="name"),
            pytest.param({"a": ["x", "y"], "c": ["z"]}, "got 'z' in 'b' in place of 'z' in 'c'", id="group"),
        ],
    )
    def test_is_refused_by_others_of_the_same_sizes(self, build, state, others, message):
        other = pickle.loads(pickle.dumps(build(AttributeGroups(others))))
        for strict in (True, False):
            with pytest.raises(RuntimeError, match=f": takes the state of its own groups, {message}; "):
                other.load_state_dict(state, strict=strict)
        other.load_state_dict(dict(state))

    def test_is_taken_by_equal_ones(self, build, state):
        assert not any(build(AttributeGroups(GROUPS)).load_state_dict(state))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Number("x", mean=0, std=1), "x"),
        (Number("x", mean=0, std=1), Number("x", mean=0, std=2)),
        (Categorical("x", ("a", "b")), Categorical("x", ("b", "a"))),
    ],
)
def test_a_state_of_another_kind_is_refused(one, other):
    ours, theirs = (GroupHeads(4, AttributeGroups({"g": [kind]})) for kind in (one, other))
    with pytest.raises(RuntimeError, match=r"GroupHeads: takes the state of its own groups, got .* in place of"):
        ours.load_state_dict(theirs.state_dict())


def test_heads_start_spread_over_the_whole_range():
    torch.manual_seed(0)
    heads = GroupHeads(16, AttributeGroups({"a": [str(index) for index in range(500)]}))
    for parameter in (heads.weight, heads.bias):
        assert parameter.min() < -0.24
        assert parameter.max() > 0.24
        assert parameter.mean().abs() < 0.02
        assert parameter.std().item() == pytest.approx(0.25 / 3**0.5, rel=0.1)


def test_heads_refuse_a_dict():
    with pytest.raises(
        (TypeError, TypeCheckError), match=r"GroupHeads: groups is an AttributeGroups|^Type-check error"
    ):
        GroupHeads(4, {"a": ["x"]})


def test_a_state_of_fewer_groups_is_told_where_it_ends():
    fewer = GroupHeads(4, AttributeGroups({"a": ["x", "y"]})).state_dict()
    with pytest.raises(RuntimeError, match="got no more in place of 'z' in 'b'; load it"):
        GroupHeads(4, GROUPS).load_state_dict(fewer)


class Fixed(Constants):
    def __init__(self):
        super().__init__()
        self.register_constant("numbers", [1, 2], dtype=torch.float64, device=None)
        self.weight, self.child = torch.nn.Parameter(torch.ones(1)), torch.nn.Linear(1, 1)


class TestConstants:
    def holds(self, module):
        assert module.numbers.dtype == torch.float64
        assert module.numbers.tolist() == [1, 2]
        assert set(module.state_dict()) == {"weight", "child.weight", "child.bias"}

    def test_are_there_again_after_to_empty(self):
        with torch.device("meta"):
            module = Fixed()
        assert module.numbers.is_meta
        self.holds(module.to_empty(device="cpu"))

    def test_go_where_what_is_loaded_goes(self):
        with torch.device("meta"):
            module = Fixed()
        module.load_state_dict({"weight": torch.zeros(1)}, assign=True, strict=False)
        self.holds(module)

    def test_are_not_spoilt_by_what_is_written_into_the_buffer(self):
        module = Fixed().half()
        module.numbers.fill_(7)
        self.holds(module.half())


@pytest.mark.parametrize("build", [Fixed, Float32State], ids=["constants", "float32"])
def test_modules_inside_move_along_unless_told_otherwise(build):
    module = build()
    module.child = torch.nn.Linear(1, 1)
    assert module.half().child.weight.dtype == torch.float16
    assert not module.to_empty(device="meta", recurse=False).child.weight.is_meta
