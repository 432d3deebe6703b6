"""Distillation: what trained models say of the training images, beside their labels."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mtattn.data.dataset import AttributeImages, AttributeImagesT
from mtattn.groups import check_known
from mtattn.groups.kinds import name_of
from mtattn.models import FARAMTN
from mtattn.prediction import Predictor
from mtattn.training import processes


def taught_by(
    teachers: Sequence[FARAMTN | str | Path] | None, data: AttributeImagesT, *, share: float = 0.5
) -> AttributeImagesT:
    """Return the same images with softer targets: the labels, mixed with the mean probabilities of trained models.

    The mean of several models is better than each of them, and says which labels are doubtful; one model that learns
    from it keeps a part of that. A label that is missing is what the teachers say. A teacher sees each image and its
    mirror image, in the size and crop that it was trained with. It must not have seen those that you validate or test
    on: the training part of the same split is fine. Not for attributes that tell left from right.

    Args:
        teachers: Models, their folders, the folders of their runs or their names on the hub. Without any,
            ``data`` come back.
        data: Images with binary attributes.
        share: How much the teachers count, in (0, 1]; at 1 the labels are not looked at.

    Raises:
        ValueError: The share is out of range, an attribute is not binary, or a teacher does not know it.
        FileNotFoundError: There is no such teacher.
        UnreadableImage: An image cannot be read.

    Source: distillation (arXiv 1503.02531).

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from mtattn import AttributeGroups
        >>> teacher = FARAMTN(torch.nn.Conv2d(3, 16, 4), 16, AttributeGroups({"mouth": ["Smiling"]}))
        >>> teacher.config["image"] = {"size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}
        >>> folder = tempfile.mkdtemp()
        >>> for name in ("ann.png", "bob.png"):
        ...     Image.new("RGB", (8, 8)).save(f"{folder}/{name}")
        >>> faces = AttributeImages(folder, ["ann.png", "bob.png"], [[1], [-1]], ["Smiling"])
        >>> targets = taught_by([teacher], faces).targets
        taught_by: asking a trained model about 2 images
        >>> targets.min() < 0.5 < targets.max()
        tensor(True)
    """
    if not 0 < share <= 1:
        raise ValueError(f"taught_by: share is in (0, 1], got {share}.")
    if not teachers:
        return data
    if other := [name_of(kind) for kind in data.kinds if not isinstance(kind, str)]:
        raise ValueError(f"taught_by: teachers soften binary labels, got {other[0]!r} of another kind; leave them out.")
    predictors = [Predictor(teacher, mirror=True) for teacher in teachers]
    for teacher, predictor in zip(teachers, predictors, strict=True):
        binary = [kind for kind in predictor.groups.kinds if isinstance(kind, str)]
        who = "the teacher" if isinstance(teacher, FARAMTN) else str(teacher)
        check_known(f"taught_by: {who}", "binary attribute", data.attributes, binary)
    models = "a trained model" if len(predictors) == 1 else f"{len(predictors)} trained models"
    processes().print(f"taught_by: asking {models} about {len(data):,} images")
    said = torch.stack([_said(predictor, data) for predictor in predictors]).mean(0)
    labels = data.targets
    return data.with_targets(torch.where(labels.isnan(), said, labels.lerp(said, share)))


def _said(predictor: Predictor, data: AttributeImages) -> Tensor:
    rows = [prediction.probabilities for prediction in predictor.predict(map(data.path, range(len(data))))]
    if predictor.skipped:
        raise predictor.skipped[0]
    return torch.tensor([[row[name] for name in data.attributes] for row in rows])
