"""Write a model whole: safetensors, a readable config.json and a card, or nothing at all."""

import json
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from mtattn.models.card import CARD_FILE, is_unchanged

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
BEST_FILE = "best.safetensors"  # the weights in a checkpoint of a run


@contextmanager
def written_whole(folder: Path) -> Generator[Path]:
    """Give a folder to write a model into that takes the place of the one before only when it is complete.

    Where anything fails, the model that was there is there again. A card that a person wrote stays.

    Raises:
        OSError: The model cannot be written.
    """
    owner = f"FARAMTN.save_pretrained: {folder}"
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{owner} is a file; give a folder.")
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder, prefix=".unfinished-"))
    try:
        yield unfinished
        _move_in(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


def _move_in(unfinished: Path, folder: Path) -> None:
    card = folder / CARD_FILE
    names = [WEIGHTS_FILE, CONFIG_FILE, *([CARD_FILE] if not card.exists() or is_unchanged(card) else [])]
    before = unfinished / "before"
    before.mkdir()
    try:
        for name in names:
            if (folder / name).exists():
                (folder / name).replace(before / name)
        for name in names:
            (unfinished / name).replace(folder / name)
    except BaseException:
        for name in names:
            if not (unfinished / name).exists():  # it was moved in
                (folder / name).unlink()
        for file in before.iterdir():
            file.replace(folder / file.name)
        raise


def save(model: nn.Module, folder: Path, config: Mapping[str, Any]) -> None:
    """Write weights and config; the weights remember the config, so that later changes to it can be told.

    Raises:
        OSError: The disk is full, or does not take the files for another reason.
        ValueError: The config holds what JSON cannot.
    """
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.torch import save_model  # noqa: PLC0415

    try:
        remembered, text = json.dumps(config), json.dumps(config, indent=2)
    except (TypeError, ValueError) as error:
        raise ValueError(f"FARAMTN.save_pretrained: model.config is saved as JSON: {error}.") from error
    weights, file = folder / WEIGHTS_FILE, folder / CONFIG_FILE
    try:
        # one entry only: safetensors writes several in no fixed order, and the same model has to give the same bytes
        save_model(model, str(weights), metadata={"config": remembered})
        # written here because huggingface_hub sorts the keys, and the order of the groups is the order of the columns
        file.write_text(text + "\n", encoding="utf-8")
    except (SafetensorError, OSError) as error:
        raise OSError(
            f"FARAMTN.save_pretrained: the model cannot be written into {folder.parent} ({error}); "
            f"what was there stays as it was."
        ) from error
    shutil.copymode(file, weights)  # safetensors lets nobody else read its files
