"""Where the checkpoints and the model of a run lie."""

import os
from pathlib import Path

from mtattn.models.saving import CONFIG_FILE


def find_model(place: "str | os.PathLike[str]") -> str:
    """Find the model in what a user names: the folder of a run or of a model, an ONNX file, or a name on the hub.

    A run that was stopped has no model yet: its last checkpoint holds the best weights until then.

    Returns:
        What :meth:`mtattn.FARAMTN.from_pretrained` takes, or the ONNX file.

    Raises:
        FileNotFoundError: The folder holds no model.

    Example:
        >>> import tempfile
        >>> run = Path(tempfile.mkdtemp())
        >>> FARAMTN(nn.Conv2d(3, 16, 4), 16, AttributeGroups({"mouth": ["Smiling"]})).save_pretrained(run / "model")
        >>> find_model(run) == str(run / "model")
        True
    """
    folder = Path(place).expanduser()
    if not folder.is_dir():
        return str(place)
    checkpoints = reversed(complete_checkpoints(folder / "checkpoints"))
    for candidate in (folder, folder / "model", *checkpoints):
        if (candidate / CONFIG_FILE).is_file():
            return str(candidate)
    raise FileNotFoundError(
        f"find_model: no model in {folder.absolute()}, neither {CONFIG_FILE} nor model/{CONFIG_FILE} nor a checkpoint "
        f"that has one; give the folder of a run or of a saved model."
    )


def checkpoint_of(checkpoints: Path, epoch: int) -> Path:
    """Name the checkpoint that is written at the end of an epoch."""
    return checkpoints / f"epoch-{epoch:04d}"


def complete_checkpoints(checkpoints: Path) -> list[Path]:
    """List the checkpoints that were finished, the oldest first."""
    return sorted(filter(epoch_of, checkpoints.glob("epoch-*")), key=epoch_of)


def last_checkpoint(checkpoints: Path) -> Path | None:
    """Find the last checkpoint that was finished."""
    return max(complete_checkpoints(checkpoints), key=epoch_of, default=None)


def epoch_of(checkpoint: Path) -> int:
    """Read from a checkpoint's name after which epoch it was written; 0 for what is no finished checkpoint."""
    number = checkpoint.name.removeprefix("epoch-")
    return int(number) if number.isdecimal() else 0
