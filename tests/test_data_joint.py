"""Data sets that label different attributes are joined by name, with NaN where one does not know."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
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


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.lists(st.integers(1, 9), min_size=4, max_size=4),
    st.integers(1, 30),
    st.integers(0, 3),
)
def test_any_images_in_a_row_hold_the_stated_shares(sizes, weights, length, seed):
    weights = weights[: len(sizes)]
    shares = [weight / sum(weights) for weight in weights]
    joint = JointDataset(
        *(labelled(("a",), [[1.0]] * size, start=100 * place) for place, size in enumerate(sizes)), shares=shares
    )
    sampler = joint.sampler(seed)
    order = list(sampler)
    assert len(order) == len(sampler) == len(joint)
    owner = [int(joint[index][0].item()) // 100 for index in order]
    for start in range(len(order) - length + 1):
        for place, share in enumerate(shares):
            assert abs(owner[start : start + length].count(place) - share * length) < len(sizes)
    for place, size in enumerate(sizes):  # nothing comes again before all have come
        own = [index for index, which in zip(order, owner, strict=True) if which == place]
        for start in range(0, len(own), size):
            assert len(set(own[start : start + size])) == len(own[start : start + size])


def test_each_epoch_and_seed_has_an_order_of_its_own_and_the_same_again():
    joint = JointDataset(*halves(), shares=(0.25, 0.75))
    orders = []
    for seed in (0, 1):
        sampler = joint.sampler(seed)
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            orders.append(tuple(sampler))
    assert len(set(orders)) == 4
    assert tuple(joint.sampler(0)) == orders[0]


def test_batches_of_a_training_hold_the_stated_shares(tmp_path):
    read = []

    class Noted(JointDataset):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    joint = Noted(*halves(), attributes=GROUPS.attributes, shares=(0.25, 0.75))
    run(
        tmp_path / "run",
        setting(),
        train=joint,
        valid=JointDataset(*halves(), attributes=GROUPS.attributes),
        epochs=2,
        batch_size=8,
    )
    batches = [read[start : start + 8] for start in range(0, len(read), 8)][-12:]
    assert len(batches) == 12
    assert {sum(index < 24 for index in batch) for batch in batches} == {2}
    assert batches[:6] != batches[6:]


def test_a_run_in_shares_is_not_resumed_in_others(tmp_path):
    train = JointDataset(*halves(), attributes=GROUPS.attributes, shares=(0.25, 0.75))
    run(tmp_path / "run", setting(), train=train, epochs=1)
    train.shares = (0.5, 0.5)
    with pytest.raises(ValueError, match=r"begun with shares\[0\]=0.25, got 0.5"):
        run(tmp_path / "run", setting(), train=train, epochs=1, resume=True)


def test_shares_that_do_not_fit_are_refused(parts):
    for shares in ((0.5,), (0.5, 0.6), (1.5, -0.5), (0.0, 1.0), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="JointDataset: shares are a positive number for each"):
            JointDataset(*parts, shares=shares)
    with pytest.raises(ValueError, match="a data set with a share has images, got none in place 1"):
        JointDataset(parts[0], labelled(("c",), torch.empty(0, 1).tolist()), shares=(0.5, 0.5))
    with pytest.raises(ValueError, match=r"JointDataset.sampler: needs shares, got none"):
        JointDataset(*parts).sampler()


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
