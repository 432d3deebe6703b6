"""What a release saved, every later version loads, and it computes the same."""

import pytest
import torch
from compatibility import GROUPS, KINDS, MODELS, SAVED, own_parts, write
from safetensors.torch import load_file

from mtattn import FARAMTN

FOLDERS = sorted(folder for version in SAVED.iterdir() for folder in version.iterdir())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
@pytest.mark.usefixtures("no_network", "no_pickle")
def test_a_model_that_a_release_saved_computes_the_same(folder):
    expected = load_file(folder / "expected.safetensors")
    model = FARAMTN.from_pretrained(folder, **(own_parts() if folder.name == "own" else {}))
    images = expected["images"] / 255
    assert model.groups == (KINDS if folder.name == "kinds" else GROUPS)
    with torch.no_grad():
        torch.testing.assert_close(model(images), expected["outputs"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.attribute_maps(images), expected["maps"], rtol=1e-4, atol=1e-5)


def test_the_models_of_every_form_are_there_and_tell_images_apart():
    assert {folder.name for folder in FOLDERS} == set(MODELS)
    for folder in FOLDERS:
        first, second = load_file(folder / "expected.safetensors")["outputs"]
        assert (first - second).abs().max() > 1e-3


def test_they_stay_small():
    for version in SAVED.iterdir():
        assert sum(file.stat().st_size for file in version.rglob("*") if file.is_file()) < 200_000


def test_the_program_writes_what_this_version_loads(tmp_path):
    write(tmp_path)
    for name in MODELS:
        parts = own_parts() if name == "own" else {}
        expected = load_file(tmp_path / name / "expected.safetensors")
        model = FARAMTN.from_pretrained(tmp_path / name, **parts)
        torch.testing.assert_close(model(expected["images"] / 255), expected["outputs"])
