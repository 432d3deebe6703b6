"""FARAMTN under fully sharded data parallel (FSDP2): the same model, in pieces."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import in_group
from test_distributed import Still, equal
from test_training import GROUPS
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from mtattn import FARAMTN, DWSLoss

pytestmark = pytest.mark.outside


def new_model():
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.GroupNorm(4, 16), nn.ReLU())
    shared = nn.Conv2d(16, 24, 1)
    return FARAMTN(trunk, 16, GROUPS, shared=shared, out_channels=24, reduction=4, fused_channels=8, num_heads=2)


def sharded(model):
    for part in (model.trunk, model.wsgsa.shared, model):
        fully_shard(part)
    for method in ("forward_features", "attribute_maps", "affinity"):
        register_fsdp_forward_method(model, method)
    return model


def trained(model, data, rank=0, count=1):
    loss = DWSLoss(GROUPS)
    optimizer = torch.optim.SGD(model.parameter_groups(0.1))
    for step in range(6):
        batch = range(8 * step + rank, 8 * step + 8, count)
        loss(model(data.images[batch]), data.targets[batch]).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 2:
            loss.step()
    return loss


def train_sharded(data):
    distributed.init_process_group("gloo")
    model = sharded(new_model())
    loss = trained(model, data, distributed.get_rank(), distributed.get_world_size())
    pieces = all(isinstance(parameter, DTensor) for parameter in model.parameters())
    gap = (model.attribute_maps(data.images).mean((-2, -1)) - model(data.images)).abs().max().item()
    affinity = model.affinity(data.images).sum(-1)
    whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return pieces, gap, affinity, whole, loss.state_dict()


@pytest.mark.parametrize("count", [2, 4])
def test_a_sharded_model_trains_like_a_whole_one_and_its_maps_are_exact(count, tmp_path):
    data, model = Still(), new_model()
    loss = trained(model, data)
    results, _ = in_group(count, tmp_path, train_sharded, data)
    for rank, (pieces, gap, affinity, whole, loss_state) in enumerate(results):
        assert pieces
        assert gap < 1e-5
        torch.testing.assert_close(affinity, torch.ones_like(affinity))
        torch.testing.assert_close(loss_state, loss.state_dict(), rtol=1e-4, atol=1e-5, equal_nan=True)
        if rank == 0:  # the first process gets the whole
            torch.testing.assert_close(whole, dict(model.state_dict()), rtol=1e-4, atol=1e-5)
    assert equal({"": results[0][4]["weighting.weights"]}, {"": results[1][4]["weighting.weights"]})


@pytest.mark.recipe
def test_the_how_to_runs_as_it_stands(tmp_path):
    page = Path(__file__).parents[1] / "docs/how-to/fsdp.md"
    (program,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    (tmp_path / "sharded.py").write_text(program)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "sharded.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.match(r"maps \(4, 40, 2, 2\), weights of the groups \[", done.stdout)
    assert FARAMTN.from_pretrained(tmp_path / "sharded").groups.attributes
