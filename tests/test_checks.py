"""What users pass in place of features: the error tells what came, the likely cause and the line that corrects it."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

import mtattn._version
from mtattn import CGFF, FARAMTN, WSGSA, AttributeGroups, GroupHeads
from mtattn._checks import check_features, check_positive, check_probability
from mtattn._version import installed_version

GROUPS = AttributeGroups({"eyes": ["Eyeglasses"], "mouth": ["Smiling", "Big_Lips"]})
IMAGES = ("batch", "channel")
IMAGES_IN = torch.rand(2, 3, 16, 16)
GROUPED = ("batch", "group", "channel")


class ModelOutput(OrderedDict):
    """As transformers has it: a dict whose values are attributes, too."""


def zeros(*shape):
    return torch.zeros(shape)


@pytest.mark.parametrize(
    ("x", "axes", "message"),
    [
        pytest.param(
            zeros(2, 7, 7, 64), IMAGES,
            "WSGSA: expects 64 channels, got 7 in (2, 7, 7, 64); its channels come last: pass x.movedim(-1, 1).",
            id="Swin's channels last",
        ),
        pytest.param(
            zeros(2, 197, 64), IMAGES,
            "WSGSA: expects 64 channels, got 197 in (2, 197, 64); its channels come last: pass x.movedim(-1, 1), "
            "or the map that these tokens make: x.movedim(-1, 1).unflatten(-1, (height, width)).",
            id="tokens",
        ),
        pytest.param(
            zeros(64, 7, 7), IMAGES,
            "WSGSA: expects 64 channels, got 7 in (64, 7, 7); it has no batch axis: pass x[None].",
            id="one image",
        ),
        pytest.param(
            zeros(64), IMAGES,
            "WSGSA: expects the axes batch, channel and any spatial ones, got (64,); "
            "it has no batch axis: pass x[None].",
            id="one vector",
        ),
        pytest.param(
            zeros(2, 32, 7, 7), IMAGES,
            "WSGSA: expects 64 channels, got 32 in (2, 32, 7, 7); the module was built for 64.",
            id="another width",
        ),
        pytest.param(
            zeros(2, 64, 7, 7), GROUPED,
            "WSGSA: expects 64 channels, got 7 in (2, 64, 7, 7); it has no group axis: "
            "pass what WSGSA gives, or x[:, None] for one group.",
            id="no groups",
        ),
        pytest.param(
            zeros(2, 3, 7, 7, 64), GROUPED,
            "WSGSA: expects 64 channels, got 7 in (2, 3, 7, 7, 64); its channels come last: pass x.movedim(-1, 2).",
            id="groups, channels last",
        ),
        pytest.param(
            zeros(2, 64), GROUPED,
            "WSGSA: expects the axes batch, group, channel and any spatial ones, got (2, 64); it has no group axis: "
            "pass what WSGSA gives, or x[:, None] for one group.",
            id="vectors without groups",
        ),
    ],
)  # fmt: skip
def test_another_shape_is_told_with_its_cause_and_the_way_out(x, axes, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared)
        check_features("WSGSA", x, *axes, channel=64)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("x", "message"),
    [
        pytest.param(
            {"logits": zeros(2, 5), "features": zeros(2, 64, 7, 7)},
            "got a dict with x['logits'] (2, 5), x['features'] (2, 64, 7, 7); pass one of them, such as x['features'].",
            id="dict",
        ),
        pytest.param(
            ModelOutput(last_hidden_state=zeros(2, 197, 64), pooler_output=None),
            "got a ModelOutput with x['last_hidden_state'] (2, 197, 64); "
            "pass one of them, such as x['last_hidden_state'].movedim(-1, 1).",
            id="ModelOutput",
        ),
        pytest.param(
            [zeros(2, 16, 28, 28), zeros(2, 32, 14, 14)],
            "got a list with x[0] (2, 16, 28, 28), x[1] (2, 32, 14, 14); pass one of them, such as x[1].",
            id="levels of a backbone, none of which fits",
        ),
        pytest.param(
            (zeros(2, 64, 7, 7), zeros(2, 8)), "got a tuple with x[0] (2, 64, 7, 7), x[1] (2, 8); "
            "pass one of them, such as x[0].", id="tuple",
        ),
        pytest.param(np.zeros((2, 64, 7, 7)), "got an ndarray; pass torch.as_tensor(x).", id="numpy"),
        pytest.param(None, "got a NoneType.", id="a forward that returns nothing"),
        pytest.param({}, "got a dict.", id="an empty dict"),
    ],
)  # fmt: skip
def test_another_object_is_told_with_what_it_holds_and_the_way_out(x, message):
    with pytest.raises(TypeError) as caught:
        check_features("WSGSA", x, "batch", "channel", channel=64)
    assert str(caught.value) == "WSGSA: expects a tensor (batch, channel, ...), " + message


def test_the_way_out_is_a_way_out():
    x, wsgsa = torch.randn(2, 5, 5, 64), WSGSA(64, 2)
    with pytest.raises(ValueError, match=r"pass x\.movedim\(-1, 1\)"):
        wsgsa(x)
    assert wsgsa(x.movedim(-1, 1)).shape == (2, 2, 64, 5, 5)


MODULES = {
    "WSGSA": WSGSA(64, 2),
    "WSGSA pooled": lambda x: WSGSA(64, 2).pooled(x),
    "WSGSA gates": lambda x: WSGSA(64, 2).gates(x),
    "WSGSA positions": lambda x: WSGSA(64, 2).positions(x),
    "CGFF": CGFF(64),
    "CGFF affinity": lambda x: CGFF(64).affinity(x),
    "GroupHeads": GroupHeads(64, GROUPS),
}


@pytest.mark.parametrize(("owner", "call"), [(name.split()[0], call) for name, call in MODULES.items()], ids=MODULES)
@pytest.mark.parametrize(
    "x", [{"features": zeros(2, 64)}, (zeros(2, 64),), None, [1.0]], ids=["dict", "tuple", "None", "list"]
)
def test_every_module_refuses_what_is_no_tensor(x, owner, call):
    with pytest.raises((TypeError, TypeCheckError), match=rf"^{owner}: expects a tensor \(batch, |^Type-check error"):
        call(x)


class ChannelsLast(nn.Module):
    def forward(self, x):
        return x.movedim(1, -1)


def test_a_shared_module_that_returns_channels_last_is_told_so():
    with pytest.raises(ValueError, match=r"WSGSA, its shared module: expects 16 channels, got 5 .*channels come last"):
        WSGSA(16, 2, shared=ChannelsLast())(zeros(2, 16, 5, 5))


@pytest.mark.parametrize("shared", [nn.ReLU, torch.relu, "relu"], ids=["class", "function", "name"])
def test_a_shared_module_that_is_none_is_refused(shared):
    with pytest.raises((TypeError, TypeCheckError), match=r"WSGSA: shared is an nn\.Module, got|^Type-check error"):
        WSGSA(16, 2, shared=shared)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        pytest.param(GROUPS, "num_groups is a whole number, got an AttributeGroups; pass len", id="groups"),
        pytest.param("8", "num_groups is a whole number, got '8'", id="text"),
        pytest.param(8.0, "num_groups is a whole number, got 8.0", id="float"),
        pytest.param(True, "num_groups is a whole number, got True", id="bool"),
        pytest.param(None, "num_groups is a whole number, got None", id="None"),
    ],
)
def test_a_size_that_is_no_whole_number_is_refused_where_the_module_is_built(size, message):
    with pytest.raises((TypeError, TypeCheckError), match=f"WSGSA: {message}|^Type-check error"):
        WSGSA(64, size)
    with pytest.raises(TypeError, match=message):
        check_positive("WSGSA", num_groups=size)


def test_whole_numbers_of_numpy_become_plain_ones():
    assert [type(size) for size in check_positive("WSGSA", channels=np.int64(64), reduction=np.uint8(4))] == [int, int]


@pytest.mark.parametrize("rate", [1, -0.1, float("nan"), True, "0.5", None])
def test_what_is_no_probability_is_refused(rate):
    with pytest.raises(
        (ValueError, TypeCheckError), match=r"CGFF: dropout is a probability in \[0, 1\), got|^Type-check error"
    ):
        check_probability("CGFF", dropout=rate)


class Returning(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.convolution, self.change = nn.Conv2d(3, 32, 4, stride=4), change

    def forward(self, images):
        return self.change(self.convolution(images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda x: x.movedim(1, -1), r"channels come last: pass x\.movedim\(-1, 1\)", id="channels last"),
        pytest.param(lambda x: x.flatten(2).mT, r"these tokens make", id="tokens"),
        pytest.param(lambda x: (x,), r"a tuple with x\[0\]|^Type-check error", id="tuple"),
        pytest.param(lambda x: {"features": x}, r"x\['features'\]|^Type-check error", id="dict"),
    ],
)
def test_a_trunk_or_a_shared_module_that_returns_something_else_is_told_so(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        FARAMTN(Returning(change), 32, GROUPS)(IMAGES_IN)
    with pytest.raises((ValueError, TypeError), match=message):
        FARAMTN(nn.AvgPool2d(2), 3, GROUPS, shared=Returning(change), out_channels=32, reduction=1)(IMAGES_IN)


@pytest.mark.skipif(hasattr(check_positive, "__wrapped__"), reason="beartype takes an annotation at its word")
@pytest.mark.parametrize("kind", [int, np.int64, np.int32, np.uint8])
def test_whole_numbers_of_numpy_do(kind):
    assert WSGSA(kind(32), kind(2), reduction=kind(4))(torch.rand(2, 32)).shape == (2, 2, 32)
    assert CGFF(kind(32), num_heads=kind(4))(torch.rand(2, 2, 32)).shape == (2, 2, 32)
    assert GroupHeads(kind(32), GROUPS)(torch.rand(2, 2, 32)).shape == (2, 3)
    with pytest.raises(ValueError, match="CGFF: size must be at least 1, got 0"):
        check_positive("CGFF", size=kind(0))


def test_a_copy_that_is_not_installed_works_and_its_version_is_unknown(monkeypatch):
    def missing(package):
        raise mtattn._version.PackageNotFoundError(package)

    assert installed_version("torch") == torch.__version__.partition("+")[0] or "+" in installed_version("torch")
    monkeypatch.setattr(mtattn._version, "version", missing)
    assert FARAMTN(nn.Conv2d(3, 16, 4), 16, GROUPS).config["mtattn_version"] == "unknown"


def test_a_probability_of_numpy_is_one():
    check_probability("CGFF", dropout=np.float32(0.1))
