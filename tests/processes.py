"""Run a function in fresh processes, alone or as the ranks of one group.

They are forked from a server that has imported torch and the tests already, so each takes a fraction of a second.
"""

import io
import os
import socket
import sys
import traceback
from contextlib import redirect_stdout
from multiprocessing import get_context, set_start_method

import torch

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["test_distributed", "test_interruptions", "datasets"])  # accelerate imports the last


def start(function, *arguments, environment=None):
    """Start a process that calls a function."""
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([os.path.dirname(__file__), before])  # noqa: PTH120  for the server
    try:
        process = CONTEXT.Process(target=_main, args=(function, arguments, environment or {}), daemon=False)
        process.start()
    finally:
        os.environ["PYTHONPATH"] = before
    return process


def _main(function, arguments, environment):
    os.environ.update(environment)
    set_start_method("fork", force=True)  # so that loaders' workers are its own children, and end when it is killed
    torch.set_num_threads(1)
    function(*arguments)


def alone(folder, function, *arguments):
    """Call a function in a process of its own; return what it returns."""
    process = start(_record, folder / "alone.pt", function, arguments)
    process.join()
    result, _, error = torch.load(folder / "alone.pt", weights_only=False)
    assert error is None, error
    return result


def in_group(count, folder, function, *arguments):
    """Call a function in each of several gloo processes; return what each returns, and what each prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    group |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": 1}
    members = []
    for rank in range(count):
        environment = {key: str(value) for key, value in (group | {"RANK": rank, "LOCAL_RANK": rank}).items()}
        members.append(start(_record, folder / f"rank-{rank}.pt", function, arguments, environment=environment))
    for member in members:
        member.join()
    results = [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in range(count)]
    errors = [f"rank {rank}: {error}" for rank, (_, _, error) in enumerate(results) if error]
    assert not errors, "\n".join(errors)
    return [result for result, _, _ in results], [said for _, said, _ in results]


def _record(file, function, arguments):
    result, error, said = None, None, io.StringIO()
    try:
        with redirect_stdout(said):
            result = function(*arguments)
    except BaseException:
        error = traceback.format_exc()
    torch.save((result, said.getvalue(), error), file)
    sys.stdout.flush()
    os._exit(0)  # no waiting for a group whose other members may have failed
