"""Where the model of a run lies."""

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
    checkpoints = sorted(folder.glob("checkpoints/epoch-????"), reverse=True)
    for candidate in (folder, folder / "model", *checkpoints):
        if (candidate / CONFIG_FILE).is_file():
            return str(candidate)
    raise FileNotFoundError(
        f"find_model: no model in {folder.absolute()}, neither {CONFIG_FILE} nor model/{CONFIG_FILE} nor a checkpoint "
        f"that has one; give the folder of a run or of a saved model."
    )
