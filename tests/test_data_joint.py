"""Data sets that label different attributes are joined by name, with NaN where one does not know."""

import math

import pytest
import torch
from test_training import GROUPS, Squares, run, setting, without_times
from torch.utils.data import Subset, TensorDataset

from mtattn.data import JointDataset
from mtattn.training import evaluate


def labelled(names, targets, start=0):
    images = torch.arange(start, start + len(targets)).float()[:, None]
    data = TensorDataset(images, torch.tensor(targets))
    data.attributes, data.targets = names, data.tensors[1]
    return data


@pytest.fixture
def parts():
    return labelled(("a", "b"), [[1.0, 0.0], [0.0, math.nan]]), labelled(("c", "a"), [[53.0, 1.0]], start=2)


def test_each_image_has_its_own_labels_by_name_and_nan_elsewhere(parts):
    joint = JointDataset(*parts)
    nan = math.nan
    expected = torch.tensor([[1, 0, nan], [0, nan, nan], [1, nan, 53]])
    assert joint.attributes == ("a", "b", "c")
    assert len(joint) == 3
    torch.testing.assert_close(joint.targets, expected, equal_nan=True)
    for index in (0, 1, 2, -1):
        image, targets = joint[index]
        assert image.item() == index % 3
        torch.testing.assert_close(targets, expected[index], equal_nan=True)


def test_the_order_asked_for_is_that_of_the_columns(parts):
    joint = JointDataset(*parts, attributes=("c", "a"))
    torch.testing.assert_close(joint[2][1], torch.tensor([53.0, 1.0]))
    torch.testing.assert_close(joint[0][1], torch.tensor([math.nan, 1.0]), equal_nan=True)


def test_what_cannot_be_joined_is_refused(parts):
    with pytest.raises(ValueError, match="JointDataset: joins at least one data set, got none"):
        JointDataset()
    with pytest.raises(TypeError, match="got a Subset without in place 1; set both on it"):
        JointDataset(parts[0], Subset(parts[1], [0]))
    with pytest.raises(ValueError, match="JointDataset: no attribute 'd'; there are a, b, c"):
        JointDataset(*parts, attributes=("a", "d"))
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"JointDataset: has 3 images, got index {index}"):
            JointDataset(*parts)[index]


def halves(size=24):
    """Two data sets, one that knows Left only and one that knows the others, in another order."""
    data = []
    for seed, names in ((0, ("Left",)), (1, ("Never", "Bright"))):
        part = Squares(size, seed)
        part.targets = part.targets[:, [GROUPS.attributes.index(name) for name in names]]
        part.attributes = names
        data.append(part)
    return data


def test_a_model_trains_on_both_as_on_one_data_set_with_missing_labels(tmp_path):
    joint = JointDataset(*halves(), attributes=GROUPS.attributes)
    one = Squares(48)
    one.images = torch.cat([part.images for part in joint.datasets])
    one.targets = joint.targets
    first, second = setting(), setting()
    history = run(tmp_path / "joint", first, train=joint, epochs=2)
    assert without_times(run(tmp_path / "one", second, train=one, epochs=2)) == without_times(history)
    assert torch.equal(first[0].heads.weight, second[0].heads.weight)
    assert math.isfinite(evaluate(first[0], joint, first[3])["mean_accuracy"])


def test_columns_in_the_order_of_the_sets_are_refused_where_groups_have_another(tmp_path):
    left, others = halves()
    with pytest.raises(ValueError, match=r"fit: the columns of train_data are .*got Left, Never, Bright"):
        run(tmp_path, train=JointDataset(left, others))
