import subprocess
import sys

import pytest

from mtattn import data
from mtattn.data import (
    CELEBA_ATTRIBUTES,
    CELEBA_GROUPS,
    CELEBA_GROUPS_MCNN,
    CELEBA_GROUPS_PSMCNN,
    CELEBA_MEAN,
    CELEBA_STD,
)

GROUPINGS = [
    pytest.param(CELEBA_GROUPS, 8, id="default"),
    pytest.param(CELEBA_GROUPS_MCNN, 9, id="MCNN"),
    pytest.param(CELEBA_GROUPS_PSMCNN, 4, id="PS-MCNN"),
]


def test_there_are_40_names_in_alphabetical_order_which_is_the_official_one():
    assert len(CELEBA_ATTRIBUTES) == 40
    assert list(CELEBA_ATTRIBUTES) == sorted(CELEBA_ATTRIBUTES)
    assert CELEBA_ATTRIBUTES[0] == "5_o_Clock_Shadow"


@pytest.mark.parametrize(("groups", "num_groups"), GROUPINGS)
def test_every_grouping_covers_the_40_names_exactly_once(groups, num_groups):
    assert len(groups) == num_groups
    assert sorted(groups.attributes) == list(CELEBA_ATTRIBUTES)


def test_colour_statistics_are_shares_of_full_brightness():
    assert all(0 < value < 1 for value in (*CELEBA_MEAN, *CELEBA_STD))


def test_presets_load_neither_torchvision_nor_pil_nor_h5py():
    program = (
        "import sys; from mtattn.data import CELEBA_GROUPS; "
        "print([name for name in ('timm', 'torchvision', 'PIL', 'h5py', 'dicebear') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_dir_lists_what_is_loaded_on_first_use():
    assert set(data.__all__) <= set(dir(data))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'CelebB'"):
        _ = data.CelebB
