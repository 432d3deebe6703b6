"""README.md is true: its Python trains, and it holds the commands that CI runs. test_documentation.py does the rest."""

import re
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.outside

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_its_python_runs_and_trains(block):
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["loss"].weights.tolist() != [1, 1]
    assert all(parameter.grad is None for parameter in names["model"].parameters())  # zero_grad was the last
    assert names["model"](torch.rand(2, 3, 64, 64)).shape == (2, 5)


def test_twenty_lines_are_about_twenty():
    lines = [line for line in BLOCKS[0].splitlines() if line.strip()]
    assert len(lines) <= 24


def test_it_holds_the_two_commands_that_ci_runs():
    commands = re.findall(r"^pip install -e .*&&.*$", README, re.MULTILINE)
    main_job, test_job = "python examples/celeba.py --synthetic", "pytest -n auto --dist loadfile"
    assert [command.partition(" && ")[2] for command in commands] == [main_job, test_job]
