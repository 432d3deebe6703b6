"""Predictor: the attributes of pictures, by name."""

import csv
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mtattn._checks import check_positive
from mtattn.decisions import Decisions, decisions_of
from mtattn.functional import Centres
from mtattn.groups import Attribute, AttributeGroups, Categorical, Ordinal
from mtattn.models import FARAMTN
from mtattn.prediction.engines import WithMirrorImages, open_engine
from mtattn.prediction.pictures import preparation, read_ahead


@dataclass(frozen=True)
class Prediction:
    """What a model says about a picture.

    Args:
        source: The path that was given, or the picture's place among those given, from 0.
        logits: What the model put out, in the order of ``groups.columns.attributes``.
        groups: The attributes.
        decisions: The temperatures and thresholds that were chosen for the model, if any were.
        maps: Where each logit comes from, if asked for; they average to the logits.
        image: The picture as the model saw it, in [0, 1], if maps were asked for.
        centres: Where the cells of the maps look, if maps were asked for and it is known;
            :func:`mtattn.functional.draw_maps` draws with them.
    """

    source: Any
    logits: Float[Tensor, " attribute"]
    groups: AttributeGroups
    decisions: Decisions | None = None
    maps: Float[Tensor, "attribute h w"] | None = None
    image: Float[Tensor, "color height width"] | None = None
    centres: Centres | None = None

    @property
    def probabilities(self) -> dict[str, float | dict[str, float]]:
        """The probability of each binary attribute, and of each class and level of the others; numbers have none."""
        shares = self.groups.probabilities(self._calibrated)
        kinds = dict(zip(self.groups.attributes, self.groups.kinds, strict=True))
        return {name: _by_choice(kinds[name], share[0].tolist()) for name, share in shares.items()}

    @property
    def answers(self) -> dict[str, bool | str | float | None]:
        """What the model says of each attribute, yes or no, None for uncertain, a class, a level, or a number."""
        decoded, decisions = self.groups.decode(self._calibrated), self.decisions or Decisions("one half")
        kinds = zip(self.groups.attributes, self.groups.kinds, strict=True)
        return {name: _answer(kind, decoded[name][0], decisions) for name, kind in kinds}

    @property
    def texts(self) -> dict[str, str]:
        """The same for people, such as "88 %", "happy (91 %)" or "53.4 years"."""
        return {name: texts[0] for name, texts in self.groups.texts(self._calibrated).items()}

    @property
    def _calibrated(self) -> Float[Tensor, "1 column"]:
        logits = self.logits[None]
        return logits if self.decisions is None else self.decisions.calibrated(self.groups, logits)


def _by_choice(kind: Attribute, share: float | list[float]) -> float | dict[str, float]:
    if not isinstance(share, list):
        return share
    choices = kind.classes if isinstance(kind, Categorical) else kind.levels if isinstance(kind, Ordinal) else ()
    return dict(zip(choices, share, strict=True))


def _answer(kind: Attribute, value: Tensor | str, decisions: Decisions) -> bool | str | float | None:
    if isinstance(value, str):
        return value
    return decisions.answer(kind, float(value)) if isinstance(kind, str) else float(value)


class Predictor:
    """A trained model that takes pictures as they come and answers by name, in batches, in their order.

    Args:
        model: A :class:`~mtattn.FARAMTN`, its folder, the folder of its run, its name on the hub, or an ONNX file. A
            run that was stopped is taken with the best weights that it had.
        device: Where to compute; a GPU where there is one if None, but for an ONNX file the CPU.
        batch_size: How many pictures are computed at once.
        workers: How many threads read pictures ahead; as many as there are cores if None.
        mirror: Whether to answer with the mean of the logits of each picture and its mirror image, in twice the time;
            not for attributes that tell left from right.

    Attributes:
        groups: The attributes, in the order of the logits.
        decisions: The temperatures and thresholds that were chosen for the model; None: one half.
        skipped: Why each picture that could not be read was passed over, since :meth:`predict` was last called.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: The model is damaged, or says nothing about its images.

    Example:
        >>> from PIL import Image
        >>> model = FARAMTN(torch.nn.Conv2d(3, 16, 4), 16, AttributeGroups({"mouth": ["Smiling"]}))
        >>> model.config["image"] = {"size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}
        >>> predictor = Predictor(model)
        >>> (prediction,) = predictor.predict([Image.new("RGB", (178, 218))])
        >>> list(prediction.answers)
        ['Smiling']
    """

    def __init__(
        self,
        model: FARAMTN | str | os.PathLike[str],
        *,
        device: str | torch.device | None = None,
        batch_size: int = 32,
        workers: int | None = None,
        mirror: bool = False,
    ) -> None:
        check_positive("Predictor", batch_size=batch_size, workers=1 if workers is None else workers)
        engine = open_engine(model, device)
        self._engine = WithMirrorImages(engine) if mirror else engine
        self.groups = self._engine.groups
        self.batch_size, self.workers = batch_size, workers or os.cpu_count() or 1
        self.skipped: list[OSError] = []
        self.decisions = decisions_of(self._engine.config)
        self._prepare = preparation(**self._engine.config["image"])

    def predict(self, pictures: Iterable[Any], *, maps: bool = False) -> Iterator[Prediction]:
        """Predict pictures one after the other, as they are asked for; those that cannot be read are passed over.

        Args:
            pictures: Paths, PIL images, tensors that are transformed already, or a data set; any iterator will do.
            maps: Whether to compute where each answer comes from.

        Yields:
            A prediction for each picture that can be read, in their order.
        """
        self.skipped = []
        prepared = read_ahead(pictures, self._prepare, workers=self.workers, ahead=2 * self.batch_size)
        batch: list[tuple[Any, Tensor]] = []
        for source, image in prepared:
            if isinstance(image, OSError):
                self.skipped.append(image)
                continue
            batch.append((source, image))
            if len(batch) == self.batch_size:
                yield from self._compute(batch, maps)
                batch = []
        if batch:
            yield from self._compute(batch, maps)

    def write_csv(self, file: str | os.PathLike[str], pictures: Iterable[Any]) -> int:
        """Write a row for each picture that can be read, with the probability of each attribute.

        Returns:
            The number of rows.

        Raises:
            FileExistsError: The file is there already.
        """
        return write_csv(file, self.groups, self.predict(pictures))

    def _compute(self, batch: list[tuple[Any, Tensor]], maps: bool) -> Iterator[Prediction]:
        logits, found = self._engine(torch.stack([image for _, image in batch]), maps=maps)
        centres = None if found is None else self._engine.map_centres(batch[0][1].shape[-2:])
        for index, (source, image) in enumerate(batch):
            more: dict[str, Any] = {}
            if found is not None:
                more = {"maps": found[index], "image": self._as_seen(image), "centres": centres}
            yield Prediction(source, logits[index], self.groups, self.decisions, **more)

    def _as_seen(self, image: Float[Tensor, "color height width"]) -> Float[Tensor, "color height width"]:
        mean, std = (image.new_tensor(self._engine.config["image"][key])[:, None, None] for key in ("mean", "std"))
        return (image * std + mean).clamp(0, 1)


def write_csv(file: str | os.PathLike[str], groups: AttributeGroups, predictions: Iterable[Prediction]) -> int:
    """Write a row for each prediction; return the number of rows.

    A binary attribute has its probability, another its class, level or number.

    Raises:
        FileExistsError: The file is there already.
    """
    if Path(file).exists():
        raise FileExistsError(f"write_csv: {file} exists already; move it away, or give another file.")
    with Path(file).open("x", newline="", encoding="utf-8") as opened:
        rows = csv.writer(opened)
        rows.writerow(["image", *groups.attributes])
        num_rows = 0
        for prediction in predictions:
            said = prediction.answers | {
                name: share for name, share in prediction.probabilities.items() if isinstance(share, float)
            }
            cells = (f"{value:.4f}" if isinstance(value, float) else value for value in said.values())
            rows.writerow([prediction.source, *cells])
            num_rows += 1
    return num_rows
