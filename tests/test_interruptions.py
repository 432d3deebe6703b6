"""A run that is killed, stopped, or out of disk goes on from its last whole checkpoint and ends as if nothing had been.

``MTATTN_KILLS=200 pytest tests/test_interruptions.py -k kill`` kills as many runs as you like.
"""

import os
import random
import re
import resource
import signal
import sys
import time
from argparse import Namespace
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import alone, start
from safetensors.torch import load_file
from test_training import Squares, run, without_times

from mtattn.recipes import run_recipe
from mtattn.training import checkpoints

pytestmark = pytest.mark.outside

KILLS = int(os.environ.get("MTATTN_KILLS", "8"))
FILE_EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "shutil.copyfile"}
OPTIONS = {"averaging": 0.9, "epochs": 4, "resume": True}


def train(folder, options, kill_at=None):
    """Train to the end, or until the file operation of that number on checkpoints; return the time and that number."""
    started, count = time.monotonic(), [0]

    def count_or_die(event, arguments):
        if event in FILE_EVENTS and "checkpoints" in str(arguments[0]):
            count[0] += 1
            if count[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count_or_die)
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        run(folder, **OPTIONS | options)
    return time.monotonic() - started, count[0]


def ending(folder):
    """Read everything that the last checkpoint holds, the times apart."""
    last = folder / "checkpoints/epoch-0004"
    read = {".safetensors": load_file, ".bin": load, ".pkl": load}
    state = {file.name: read[file.suffix](file) for file in sorted(last.iterdir()) if file.suffix in read}
    return state | {"history": without_times(checkpoints.read_history(last))}


def load(file):
    return torch.load(file, weights_only=False)


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """By number of workers, how long a run takes that nothing disturbs, its file operations, and what it ends with."""
    folder, found = tmp_path_factory.mktemp("undisturbed"), {}
    for workers in (0, 1):
        place = folder / str(workers)
        place.mkdir()
        found[workers] = alone(place, train, place, {"workers": workers}), ending(place)
    return found


@pytest.mark.parametrize("kill", range(KILLS))
def test_a_run_killed_at_any_moment_resumes_and_ends_as_if_it_never_was(kill, undisturbed, tmp_path):
    chance = random.Random(kill)
    workers = int(kill % 8 == 7)
    (seconds, num_operations), expected = undisturbed[workers]
    if kill % 2:  # at a moment
        killed = start(train, tmp_path, {"workers": workers})
        killed.join(chance.uniform(0, seconds))
        killed.kill()
    else:  # just before something happens to a file
        killed = start(train, tmp_path, {"workers": workers}, chance.randint(1, num_operations))
    killed.join()
    assert killed.exitcode == -signal.SIGKILL or (killed.exitcode == 0 and kill % 2)
    left = sorted(path.name for path in tmp_path.glob("checkpoints/*"))
    alone(tmp_path, train, tmp_path, {"workers": workers})
    assert same(ending(tmp_path), expected), left
    assert sorted(path.name for path in tmp_path.glob("checkpoints/*")) == ["epoch-0003", "epoch-0004"]
    print(f"killed when there were {left}")


def slow_recipe(folder, said):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs the tests in the background ignores it

    def main(options):
        options.output.mkdir()
        run(options.output, train=Squares(disturb=slowly), epochs=1000)

    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            run_recipe(main, Namespace(output=folder, resume=False))
    except SystemExit as stopped:
        said.write_text(stopped.code)


def slowly(num_read, image):
    time.sleep(0.005)
    return image


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("epochs", [0, 2])
def test_a_stopped_run_says_in_one_line_where_it_can_go_on(epochs, number, tmp_path):
    said, checkpoints = tmp_path / "said.txt", tmp_path / "run/checkpoints"
    process = start(slow_recipe, tmp_path / "run", said)
    while len(list(checkpoints.glob("epoch-*"))) < epochs or not checkpoints.parent.exists():
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, number)
    process.join()
    last = max(checkpoints.glob("epoch-*"), default=None)
    where = f" The last whole checkpoint is {last}; go on from there with --resume." if last else ""
    assert said.read_text().endswith(f": stopped.{where}")
    assert bool(last) == bool(epochs)


def train_on_small_disk(folder, limit):
    def shrink(num_read, image):
        if num_read == 2 * 48 + 1:  # in the third epoch
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return image

    try:
        run(folder, train=Squares(disturb=shrink), **OPTIONS)
    except OSError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return str(error), sorted(path.name for path in folder.glob("checkpoints/*"))


@pytest.mark.parametrize("limit", [0, 1000, 10_000, 14_000, 20_000])
def test_a_full_disk_stops_the_run_in_one_line_and_the_checkpoints_before_stay(limit, undisturbed, tmp_path):
    said, left = alone(tmp_path, train_on_small_disk, tmp_path, limit)
    assert re.match(
        rf"fit: cannot write the checkpoint of epoch 3 to {tmp_path}/checkpoints, \d+ MB were free \(", said
    )
    assert said.endswith(f"). The last good checkpoint is {tmp_path}/checkpoints/epoch-0002; make room and resume.")
    assert "\n" not in said
    assert left == ["epoch-0001", "epoch-0002"]
    alone(tmp_path, train, tmp_path, {})
    assert same(ending(tmp_path), undisturbed[0][1])
