"""What torchmetrics asks of every metric, which its own test suite, not in its wheel, checks."""

import copy
import pickle

import pytest
import torch
from torchmetrics import MetricCollection

from mtattn import AttributeGroups
from mtattn.metrics import AttributeMetrics, Baselines
from mtattn.verification import VerificationMetrics

GROUPS = AttributeGroups({"eyes": ["Glasses"], "mouth": ["Smiling", "Open"]})
RATES = Baselines(GROUPS, torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]))


def attributes(seed):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 2, (9, 3), generator=generator).float()
    targets[torch.rand(9, 3, generator=generator) < 0.2] = torch.nan
    return torch.randn(9, 3, generator=generator), targets


def pairs(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(40, generator=generator), torch.rand(40, generator=generator) < 0.5, torch.arange(40) % 4


METRICS = {
    "AttributeMetrics": (lambda: AttributeMetrics(GROUPS, RATES), attributes),
    "VerificationMetrics": (lambda: VerificationMetrics((0.1,)), pairs),
}


@pytest.fixture(params=METRICS)
def make(request):
    return METRICS[request.param][0]


@pytest.fixture
def batches(request):
    return list(map(METRICS[request.node.callspec.params["make"]][1], range(4)))


def seen(make, batches):
    metric = make()
    for batch in batches:
        metric.update(*batch)
    return metric


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12, equal_nan=True)


def test_reset_leaves_nothing(make, batches):
    metric = seen(make, batches[:2])
    metric.compute()
    metric.reset()
    assert metric.update_count == 0
    metric.update(*batches[2])
    same(metric.compute(), seen(make, batches[2:3]).compute())


def test_forward_gives_the_batch_and_keeps_all(make, batches):
    metric = make()
    for batch in batches:
        same(metric(*batch), seen(make, [batch]).compute())
    same(metric.compute(), seen(make, batches).compute())


def test_the_result_is_kept_until_the_next_update(make, batches):
    metric = seen(make, batches[:1])
    first = metric.compute()
    assert metric.compute() is first
    metric.update(*batches[1])
    same(metric.compute(), seen(make, batches[:2]).compute())


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_parts_that_are_merged_are_the_whole(make, batches, cut):
    metric = seen(make, batches[:cut])
    metric.merge_state(seen(make, batches[cut:]))
    same(metric.compute(), seen(make, batches).compute())


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_ranks_with_any_share_of_the_batches_say_what_one_process_says(make, batches, cut):
    parts = [seen(make, batches[:cut]), seen(make, batches[cut:])]
    states = iter([[part._copy_state_dict()[name] for part in parts] for name in parts[0]._defaults])

    def gathered(_, group=None):
        return [torch.cat(list(state)) if isinstance(state, list) else state for state in next(states)]

    metric = parts[0]
    metric.dist_sync_fn, metric.distributed_available_fn = gathered, lambda: True
    same(metric.compute(), seen(make, batches).compute())
    assert next(states, None) is None
    metric.distributed_available_fn, metric._computed = (lambda: False), None
    same(metric.compute(), seen(make, batches[:cut]).compute())  # its own state is back


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda metric: pickle.loads(pickle.dumps(metric)), lambda metric: metric.clone()],
    ids=["deepcopy", "pickle", "clone"],
)
def test_a_copy_goes_on_by_itself(make, batches, copied):
    metric = seen(make, batches[:2])
    other = copied(metric)
    other.update(*batches[2])
    same(other.compute(), seen(make, batches[:3]).compute())
    same(metric.compute(), seen(make, batches[:2]).compute())


def test_a_collection_says_the_same(make, batches):
    collection = MetricCollection([make()], prefix="test_")
    for batch in batches:
        collection.update(*batch)
    expected = seen(make, batches).compute()
    same(collection.compute(), {f"test_{name}": value for name, value in expected.items()})


def test_half_precision_gives_finite_numbers_of_the_same_type(make, batches):
    halves = [tuple(x.half() if x.is_floating_point() else x for x in batch) for batch in batches]
    again = [tuple(x.float() if x.is_floating_point() else x for x in batch) for batch in halves]
    same(seen(make, halves).compute(), seen(make, again).compute())


def test_it_moves_with_its_state(make, batches, device):
    metric = make().to(device)
    for batch in batches:
        metric.update(*(x.to(device) for x in batch))
    assert metric.device.type == device.type
    moved = metric.cpu().compute()
    same(moved, seen(make, batches).compute())


def test_the_flags_are_told_and_no_gradient_flows(make, batches):
    kind = type(make())
    assert (kind.is_differentiable, kind.higher_is_better, kind.full_state_update) == (False, True, False)
    outputs = batches[0][0].clone().requires_grad_()
    metric = make()
    metric.update(outputs, *batches[0][1:])
    values = [value for value in metric.compute().values() if isinstance(value, torch.Tensor)]
    assert not any(value.requires_grad for value in values)
