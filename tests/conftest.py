"""What all tests share. It must not import mtattn: jaxtyping's import hook has to come first."""

import functools
import os
import pickle
import socket

import pytest
import torch
from browsing import chromium as open_chromium
from browsing import find_chromium
from hypothesis import HealthCheck, settings

settings.register_profile(
    "mtattn",
    deadline=None,
    derandomize=True,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],  # mutmut runs tests more than once
)
settings.register_profile("brief", settings.get_profile("mtattn"), max_examples=5)  # where only shapes are checked
settings.load_profile("mtattn")
torch.set_num_threads(1)


LONG = ("compile", "recipe", "outside")


def pytest_configure(config):
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # pytest-xdist would begin with the files of most tests


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest, so that no process is left alone with one of them."""
    long = {item.path for item in items if any(item.get_closest_marker(name) for name in LONG)}
    items.sort(key=lambda item: item.path not in long)
    if any(item.get_closest_marker("compile") for item in items):
        _read_the_operators_of_onnx_once()


def _read_the_operators_of_onnx_once():
    """Keep what torch reads from onnxscript's sources for each export: about half of the time of a small one."""
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))
    except (ImportError, AttributeError):
        pass  # another torch: the tests take longer


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def no_figures(monkeypatch):
    """Leave the report's figures out where a run is about something else: they take most of the time of a small run."""
    monkeypatch.setattr("mtattn.report.page.inline_svg", lambda *_: "")


def forbid(*_, **__):
    raise AssertionError("this must not be called")


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", forbid)
    monkeypatch.setattr(socket, "getaddrinfo", forbid)


@pytest.fixture
def no_pickle(monkeypatch):
    import timm  # noqa: F401  before: it brings classes that inherit from Unpickler

    monkeypatch.setattr(torch, "load", forbid)
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, forbid)


@pytest.fixture(scope="session")
def device():
    return torch.device(os.environ.get("MTATTN_TEST_DEVICE", "cpu"))


@pytest.fixture(scope="session")
def chromium():
    pytest.importorskip("selenium", reason="selenium is not installed")
    found = find_chromium()
    if found is None:
        pytest.skip("no chromium with chromedriver on this machine")
    with open_chromium(*found) as page:
        yield page
