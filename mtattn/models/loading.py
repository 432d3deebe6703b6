"""Read a saved model: everything is checked before anything is built, and nothing is unpickled or fetched."""

import json
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mtattn._files import read_json
from mtattn._rules import check_image
from mtattn.groups import AttributeGroups
from mtattn.models.config import OPTIONS, check_config
from mtattn.models.saving import BEST_FILE, CONFIG_FILE, WEIGHTS_FILE

DOWNLOAD_OPTIONS = ("revision", "cache_dir", "force_download", "local_files_only", "token")
_DECIDES = ("groups", "backbone", "num_heads", "reduction", "spatial")  # what predictions depend on, beside the shapes
_MODULES = ("trunk", "shared", "heads")  # what no config can hold
_OF_THE_BACKBONE = {"backbone", "backbone_options", "backbone_weights", "drop_stages", "name", "pretrained"}
_LARGEST_CONFIG = 2**24  # bytes
_SPARE_ELEMENTS = 2**26  # what may be built beside what is loaded, tables of positions for example
_DROPPED_ELEMENTS = 2**30  # and where stages are dropped


@dataclass(frozen=True)
class Saved:
    """A saved model that has been looked at and not yet built.

    Attributes:
        place: Where it lies, as it was named.
        weights: The file of the weights.
        config: What ``config.json`` says.
        groups: The attributes of each group.
        shapes: The shape of each tensor in the file.
        remembered: The config that the weights were saved with.
    """

    place: str
    weights: Path
    config: dict[str, Any]
    groups: AttributeGroups
    shapes: dict[str, tuple[int, ...]]
    remembered: dict[str, Any]


def find(place: "str | PathLike[str]", download: Mapping[str, Any]) -> Saved:
    """Look at a saved model in a local folder, or fetch one from the hub.

    Raises:
        FileNotFoundError: There is no such folder, or it lacks a file.
        ValueError: A file is damaged, or not that of a FARAMTN.
    """
    folder = Path(place).expanduser().absolute()
    if folder.is_dir():
        files = {name: folder / name for name in (CONFIG_FILE, WEIGHTS_FILE)}
        if not files[WEIGHTS_FILE].is_file() and (folder / BEST_FILE).is_file():  # a checkpoint of a run
            files[WEIGHTS_FILE] = folder / BEST_FILE
        for name, file in files.items():
            if not file.is_file():
                raise FileNotFoundError(f"FARAMTN.from_pretrained: no {name} in {folder}.")
    elif _is_name_on_the_hub(place):
        files = {name: Path(hf_hub_download(str(place), name, **download)) for name in (CONFIG_FILE, WEIGHTS_FILE)}
    else:
        raise FileNotFoundError(f"FARAMTN.from_pretrained: no folder {folder}.")
    config = _read_config(files[CONFIG_FILE])
    shapes, remembered = _read_header(files[WEIGHTS_FILE])
    return Saved(str(place), files[WEIGHTS_FILE], config, check_config(config, place), shapes, remembered)


def load(
    kind: Any,
    saved: Saved,
    map_location: str | torch.device,
    options: Mapping[str, Any],
    *,
    without_own_heads: bool = False,
) -> Any:
    """Build a saved FARAMTN and give it its weights; what disagrees is refused before anything large is built.

    Args:
        kind: The class.
        saved: What lies on disk.
        map_location: The device.
        options: The modules that no config can hold, and options that are to differ from the saved ones.
        without_own_heads: Whether heads of the model's own are left out, because others are to take their place.

    Raises:
        TypeError: There is no such option.
        ValueError: Config, weights and options disagree, or a module is missing.
    """
    own = {name: options[name] for name in _MODULES if options.get(name) is not None}
    if without_own_heads and saved.config.get("own_heads", False):
        own["heads"] = nn.Identity()
        saved = replace(saved, shapes={name: shape for name, shape in saved.shapes.items() if name[:6] != "heads."})
    changed = {name: value for name, value in options.items() if name not in _MODULES}
    _check_options(changed)
    _check_modules(saved.config, own)
    config = saved.config | changed
    _check_remembered(saved, config)
    arguments = {name: float(config[name]) if name == "dropout" else config[name] for name in OPTIONS if name in config}
    try:
        _check_parts(kind, saved, own, arguments)
        with _Limited(saved):
            model = _built(kind, saved, own, arguments)
    except ValueError as error:
        if str(error).startswith("FARAMTN.from_pretrained: "):
            raise
        raise ValueError(f"FARAMTN.from_pretrained: the model in {saved.place} cannot be built: {error}") from error
    model.config |= {name: value for name, value in saved.config.items() if name not in changed}
    _check_shapes(saved, model.state_dict())
    if "trunk" not in own:
        num_colors = saved.config["backbone"]["options"].get("in_chans", 3)
        owner = f"FARAMTN.from_pretrained: the config of {saved.place} is damaged"
        check_image(owner, model.config["image"], num_colors=num_colors)
    with _opened(saved.weights, map_location) as opened:
        model.load_state_dict({name: opened.get_tensor(name) for name in saved.shapes}, strict=False)
    return model.to(map_location).eval()


def _check_parts(kind: Any, saved: Saved, own: Mapping[str, nn.Module], arguments: Mapping[str, Any]) -> None:
    """Compare all but the backbone, built where it costs no memory, with what the file holds."""
    with torch.device("meta"):
        modules = {"shared": nn.Identity(), "heads": nn.Identity() if "heads" in own else None}
        parts = kind(nn.Identity(), groups=saved.groups, **modules, **arguments)
    _check_shapes(saved, parts.state_dict(), "trunk.", "wsgsa.shared.", *(["heads."] if "heads" in own else []))


def _built(kind: Any, saved: Saved, own: Mapping[str, nn.Module], arguments: dict[str, Any]) -> Any:
    if "trunk" in own:
        return kind(groups=saved.groups, **own, **arguments)
    del arguments["channels"]
    if "shared" not in own:
        del arguments["out_channels"]
    backbone = saved.config["backbone"]
    return kind.from_timm(
        backbone["name"],
        saved.groups,
        backbone_options=backbone["options"],
        drop_stages=backbone["drop_stages"],
        **own,
        **arguments,
    )


class _Limited(TorchFunctionMode):
    """Refuse to build what is far larger than the file that it is built for."""

    _MAKE = frozenset({torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn})

    def __init__(self, saved: Saved) -> None:
        super().__init__()
        drops = saved.config.get("backbone", {}).get("drop_stages", 0) > 0
        self.left = 4 * sum(map(prod, saved.shapes.values())) + (_DROPPED_ELEMENTS if drops else _SPARE_ELEMENTS)
        self.saved = saved

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self._MAKE:
            self.left -= prod(args if args and isinstance(args[0], int) else args[0] if args else ())
            if self.left < 0:
                raise ValueError(
                    f"FARAMTN.from_pretrained: the config of {self.saved.place} describes a model that is far larger "
                    f"than {self.saved.weights}."
                )
        return func(*args, **(kwargs or {}))


def _check_options(changed: Mapping[str, Any]) -> None:
    for name in changed:
        if name in _OF_THE_BACKBONE:
            raise ValueError(f"FARAMTN.from_pretrained: the backbone belongs to the saved model; leave {name}= out.")
        if name not in OPTIONS:
            raise TypeError(f"FARAMTN.from_pretrained: got an unexpected keyword argument {name!r}.")


def _check_modules(config: Mapping[str, Any], own: Mapping[str, nn.Module]) -> None:
    if "trunk" not in own and "backbone" not in config:
        raise ValueError(
            "FARAMTN.from_pretrained: this model was not made by from_timm, so its config names no backbone; "
            "pass trunk= (and shared= if it had one)."
        )
    for part, words in (("shared", "a shared module"), ("heads", "heads")):
        if config.get(f"own_{part}", False) and part not in own:
            raise ValueError(f"FARAMTN.from_pretrained: this model has {words} of its own; pass {part}=.")


def _check_remembered(saved: Saved, config: Mapping[str, Any]) -> None:
    for key in _DECIDES:
        if key not in saved.remembered or key not in config:
            continue
        before, now = saved.remembered[key], config[key]
        if json.dumps(before) != json.dumps(now):  # as text: the order of groups counts
            raise ValueError(
                f"FARAMTN.from_pretrained: {saved.weights} was saved with another config: "
                f"{key} should be {before}, got {now}."
            )


def _check_shapes(saved: Saved, state: Mapping[str, Tensor], *elsewhere: str) -> None:
    stored = {state[name].data_ptr() for name in saved.shapes if name in state}
    expected = {
        name: tuple(tensor.shape)
        for name, tensor in state.items()
        if name in saved.shapes or tensor.is_meta or tensor.data_ptr() not in stored  # what is used twice is there once
    }
    for name in sorted(expected.keys() | saved.shapes.keys()):
        if not name.startswith(elsewhere or ("\n",)) and expected.get(name) != saved.shapes.get(name):
            raise ValueError(
                f"FARAMTN.from_pretrained: {saved.weights} does not fit its {CONFIG_FILE}: "
                f"{name} should be {expected.get(name, 'absent')}, got {saved.shapes.get(name, 'nothing')}."
            )


def _is_name_on_the_hub(place: "str | PathLike[str]") -> bool:
    return (
        isinstance(place, str)
        and re.fullmatch(r"[\w.-]+/[\w.-]+", place) is not None
        and not Path(place).parent.is_dir()
    )


def _read_config(file: Path) -> Any:
    if file.stat().st_size > _LARGEST_CONFIG:
        raise ValueError(f"FARAMTN.from_pretrained: {file} is damaged, it has more than {_LARGEST_CONFIG:,} bytes.")
    return read_json("FARAMTN.from_pretrained", file)


def _read_header(file: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    with _opened(file) as opened:
        shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118  no mapping
        remembered = json.loads((opened.metadata() or {}).get("config", "{}"))
    return shapes, remembered if isinstance(remembered, dict) else {}


@contextmanager
def _opened(file: Path, device: str | torch.device = "cpu") -> Generator[Any]:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    try:
        with safe_open(file, framework="pt", device=str(device)) as opened:
            yield opened
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(f"FARAMTN.from_pretrained: {file} is damaged or cut short ({error}).") from error
