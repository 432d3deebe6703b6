"""A saved model on disk: safetensors and a readable config.json, checked before anything is built from them."""

import json
import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from torch import nn

from mtattn.groups import AttributeGroups
from mtattn.models.card import CARD_FILE, is_unchanged

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
_PARTS = {"groups", "channels", "out_channels", "coordinates", "own_shared"}  # what a config cannot do without
_DECIDES = {"groups", "num_heads", "backbone", "reduction", "spatial", "coordinates"}  # what the predictions depend on
_DOWNLOAD_OPTIONS = ("revision", "cache_dir", "force_download", "local_files_only", "token")


def checked_place(place: "str | PathLike[str]", options: Mapping[str, Any]) -> str:
    """Return the path of a local folder with a readable config, or the name of a repository on the hub.

    Raises:
        FileNotFoundError: There is no such folder, or no config in it.
        ValueError: The config is damaged or not that of a FARAMTN, or the options want other groups.
    """
    if "groups" in options:
        raise ValueError("FARAMTN.from_pretrained: the groups belong to the saved model; leave groups= out.")
    folder = Path(place).expanduser().absolute()
    if not folder.is_dir():
        if _is_name_on_the_hub(place):
            return str(place)
        raise FileNotFoundError(f"FARAMTN.from_pretrained: no folder {folder}.")
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise FileNotFoundError(f"FARAMTN.from_pretrained: no {CONFIG_FILE} in {folder}.")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"FARAMTN.from_pretrained: {file} is damaged or cut short ({error}).") from error
    checked_config(config, file)
    return str(folder)


def checked_config(config: Any, place: object) -> dict[str, Any]:
    """Refuse what is not the config of a FARAMTN.

    Raises:
        ValueError: It is not.
    """
    if isinstance(config, dict) and config.keys() >= _PARTS and isinstance(config["groups"], dict):
        return config
    raise ValueError(
        f"FARAMTN.from_pretrained: the config of a FARAMTN has {', '.join(sorted(_PARTS))}; "
        f"that of {place} is something else, or of an earlier mtattn."
    )


def rebuilt(kind: Any, config: Mapping[str, Any], **options: Any) -> Any:
    """Build a FARAMTN, without its weights, from its config and the options it had.

    Raises:
        ValueError: It takes a module that no config can hold: the trunk, or a shared module of the user's own.
    """
    groups: Mapping[str, Sequence[str]] = options.pop("groups")
    if "trunk" not in options and "backbone" not in config:
        raise ValueError(
            "FARAMTN.from_pretrained: this model was not made by from_timm, so its config names no backbone; "
            "pass trunk= (and shared= if it had one)."
        )
    if config["own_shared"] and "shared" not in options:
        raise ValueError("FARAMTN.from_pretrained: this model has a shared module of its own; pass shared=.")
    if "trunk" in options:
        return kind(groups=AttributeGroups(groups), **options)
    backbone = config["backbone"]
    del options["channels"]
    if not config["own_shared"]:
        del options["out_channels"]
    return kind.from_timm(
        backbone["name"],
        AttributeGroups(groups),
        backbone_options=backbone["options"],
        drop_stages=backbone["drop_stages"],
        **options,
    )


def _is_name_on_the_hub(place: "str | PathLike[str]") -> bool:
    return (
        isinstance(place, str)
        and re.fullmatch(r"[\w.-]+/[\w.-]+", place) is not None
        and not Path(place).parent.is_dir()
    )


def weights_file(place: str, options: dict[str, Any]) -> Path:
    """Find the weights in a local folder, or fetch them from the hub.

    Args:
        place: The folder, or the name of a repository on the hub.
        options: huggingface_hub's options are taken out of these.

    Raises:
        FileNotFoundError: The folder lacks the file.
    """
    download = {key: options.pop(key) for key in _DOWNLOAD_OPTIONS if key in options}
    options.pop("strict", None)  # always strict
    folder = Path(place).absolute()
    if not folder.is_dir():
        return Path(hf_hub_download(place, WEIGHTS_FILE, **download))
    if not (folder / WEIGHTS_FILE).is_file():
        raise FileNotFoundError(f"FARAMTN.from_pretrained: no {WEIGHTS_FILE} in {folder}.")
    return folder / WEIGHTS_FILE


def load_exactly(model: nn.Module, file: Path, map_location: str | torch.device, config: Mapping[str, Any]) -> None:
    """Load weights that have exactly the model's names and shapes, and were saved with its config.

    Raises:
        ValueError: They have not, or the file is damaged.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    try:
        with safe_open(file, framework="pt", device=str(map_location)) as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  it is no mapping
            saved = json.loads((opened.metadata() or {}).get("config", "{}"))
    except SafetensorError as error:
        raise ValueError(f"FARAMTN.from_pretrained: {file} is damaged or cut short ({error}).") from error
    state = model.state_dict()
    stored = {state[name].data_ptr() for name in tensors if name in state}
    expected = {
        name: tuple(tensor.shape)
        for name, tensor in state.items()
        if name in tensors or tensor.data_ptr() not in stored  # safetensors stores a module used twice only once
    }
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"FARAMTN.from_pretrained: {file} does not fit its {CONFIG_FILE}: "
                f"{name} should be {expected.get(name, 'absent')}, got {found.get(name, 'nothing')}."
            )
    for key in _DECIDES & saved.keys() & config.keys():
        if json.dumps(saved[key]) != json.dumps(config[key]):  # as text: the order of groups counts
            raise ValueError(
                f"FARAMTN.from_pretrained: {file} was saved with another config: "
                f"{key} should be {saved[key]}, got {config[key]}."
            )
    model.load_state_dict(tensors, strict=False)


def save(model: nn.Module, folder: Path, config: Mapping[str, Any]) -> None:
    """Write weights and config; the weights remember the config, so that later changes to it can be told."""
    from safetensors.torch import save_model  # noqa: PLC0415

    # one entry only: safetensors writes several in no fixed order, and the same model shall give the same bytes
    save_model(model, str(folder / WEIGHTS_FILE), metadata={"config": json.dumps(config)})
    # written here because huggingface_hub sorts the keys, and the order of the groups is the order of the columns
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    # huggingface_hub writes a card where there is none: ours gives way to a newer one, a person's own stays
    if (folder / CARD_FILE).is_file() and is_unchanged(folder / CARD_FILE):
        (folder / CARD_FILE).unlink()
