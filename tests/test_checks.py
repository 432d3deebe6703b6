"""What the modules refuse, each with the shape that came, the likely cause and the way out; and the version's name."""

import numpy as np
import pytest
import torch
from torch import nn

import mtattn._version
from mtattn import CGFF, FARAMTN, WSGSA, AttributeGroups, GroupHeads
from mtattn._checks import check_features, check_positive
from mtattn._version import installed_version

GROUPS = AttributeGroups({"eyes": ["Eyeglasses"], "mouth": ["Smiling", "Big_Lips"]})
IMAGES = torch.rand(2, 3, 16, 16)


class ModelOutput(dict):
    """As transformers return it."""


@pytest.mark.parametrize(
    ("features", "message"),
    [
        pytest.param(
            torch.rand(2, 7, 5, 768),
            r"got 7 in \(2, 7, 5, 768\): channels come last, pass x\.movedim\(-1, 1\)\.$",
            id="Swin",
        ),
        pytest.param(
            torch.rand(2, 4, 4, 4, 768), r"got 4 in .*: channels come last, pass x\.movedim\(-1, 1\)", id="video"
        ),
        pytest.param(
            torch.rand(2, 50, 768), r"got 50 in \(2, 50, 768\): these are tokens, pass x\.movedim\(-1, 1\)", id="tokens"
        ),
        pytest.param(torch.rand(2, 512, 7, 7), r"got 512 in \(2, 512, 7, 7\)\.$", id="other channels"),
        pytest.param(torch.rand(2, 768), None, id="vectors"),
        pytest.param(torch.rand(768, 7, 768), r"got 7 in .*tokens", id="as many images as channels"),
        pytest.param(torch.rand(768), r"the axes batch, channel .*got \(768,\)", id="one axis"),
    ],
)
def test_features_of_another_form_are_refused_with_the_likely_cause(features, message):
    if message is None:
        check_features("WSGSA", features, 768)
    else:
        with pytest.raises(ValueError, match=f"WSGSA: expects .*{message}"):
            check_features("WSGSA", features, 768)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        pytest.param((torch.rand(2, 8), 1), r"a tuple of 2; pass one of its tensors, say x\[-1\]", id="tuple"),
        pytest.param([torch.rand(2, 8)], r"a list of 1; pass one", id="list"),
        pytest.param({"feat": torch.rand(2, 8)}, r"a dict with feat; .* say x\['feat'\]", id="dict"),
        pytest.param(
            ModelOutput(last_hidden_state=1, pooler_output=2), r"a ModelOutput with last_hidden_state, poo", id="output"
        ),
        pytest.param({}, r"a dict with nothing", id="empty"),
        pytest.param(np.zeros((2, 8)), r"a ndarray", id="array"),
        pytest.param(None, r"a NoneType", id="nothing returned"),
    ],
)
def test_what_is_no_tensor_is_refused_with_what_came(features, message):
    with pytest.raises(TypeError, match=rf"WSGSA: expects a tensor \(batch, 8 channels, any .*\), got {message}"):
        check_features("WSGSA", features, 8)


class Returning(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.convolution, self.change = nn.Conv2d(3, 32, 4, stride=4), change

    def forward(self, images):
        return self.change(self.convolution(images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda x: x.movedim(1, -1), r"channels come last, pass x\.movedim\(-1, 1\)", id="channels last"),
        pytest.param(lambda x: x.flatten(2).mT, r"these are tokens", id="tokens"),
        pytest.param(lambda x: (x,), r"a tuple of 1|parameter 'x'", id="tuple"),
        pytest.param(lambda x: {"features": x}, r"x\['features'\]|parameter 'x'", id="dict"),
    ],
)
def test_a_trunk_or_a_shared_module_that_returns_something_else_is_told_so(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        FARAMTN(Returning(change), 32, GROUPS)(IMAGES)
    with pytest.raises((ValueError, TypeError), match=message.replace("'x'", "'(x|features|shared)'")):
        FARAMTN(nn.AvgPool2d(2), 3, GROUPS, shared=Returning(change), out_channels=32, reduction=1)(IMAGES)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        pytest.param(1.5, "size is a whole number, got a float, 1.5", id="broken"),
        pytest.param("16", "size is a whole number, got a str, '16'", id="text"),
        pytest.param(None, "size is a whole number, got a NoneType", id="none"),
        pytest.param(True, "size is a whole number, got a bool", id="yes"),
        pytest.param(GROUPS, r"size is a whole number, got a AttributeGroups, .*; pass len\(\.\.\.\), 2", id="groups"),
        pytest.param([1, 2, 3], r"size is a whole number, got a list, .*; pass len\(\.\.\.\), 3", id="list"),
    ],
)
def test_a_size_is_a_whole_number(size, message):
    with pytest.raises(TypeError, match=f"CGFF: {message}|parameter 'sizes'"):
        check_positive("CGFF", size=size)


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
