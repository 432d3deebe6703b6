"""Pictures on their way to a model: read ahead in threads, in order, whatever they come as."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mtattn.data import UnreadableImage, image_transform, read_image

Prepared = Float[Tensor, "color height width"] | UnreadableImage
Prepare = Callable[[Any], Prepared]


def preparation(**image: Any) -> Prepare:
    """Make the function that brings a picture to what a model takes; it returns what is wrong with an unreadable one.

    A tensor, and the image of a data set's item, is taken as it is, unless it is a picture.

    Args:
        image: What the model's config says of its images, all of it: what :func:`mtattn.data.image_transform` takes.
    """
    transform = image_transform(**image)

    def prepare(picture: Any) -> Prepared:
        if isinstance(picture, Tensor):
            return picture
        if isinstance(picture, tuple | list):  # an item of a data set: its image comes first
            return prepare(picture[0])
        try:
            if isinstance(picture, str | Path):
                picture = read_image(picture)
            elif not isinstance(picture, Image.Image):
                raise TypeError(
                    f"Predictor: a picture is a path, a PIL image, a tensor or an item of a data set, "
                    f"got a {type(picture).__name__}."
                )
            result: Tensor = transform(picture)
        except UnreadableImage as error:
            return error
        return result

    return prepare


def read_ahead(
    pictures: Iterable[Any], prepare: Prepare, *, workers: int, ahead: int
) -> Iterator[tuple[Any, Prepared]]:
    """Prepare pictures in threads, no more than ``ahead`` before they are asked for, and give them in their order."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[Any, Future[Prepared]]] = deque()
        try:
            for source, get in _sources(pictures):
                waiting.append((source, pool.submit(_prepared, get, prepare)))
                if len(waiting) >= ahead:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _sources(pictures: Iterable[Any]) -> Iterator[tuple[Any, Callable[[], Any]]]:
    """Give each picture's name, its index where it has none, and how to get it."""
    if isinstance(pictures, Dataset):
        path = getattr(pictures, "path", None)
        for index in range(len(cast("Sized", pictures))):
            yield path(index) if path else index, partial(pictures.__getitem__, index)
        return
    for index, picture in enumerate(pictures):
        yield picture if isinstance(picture, str | Path) else index, partial(_itself, picture)


def _itself(picture: Any) -> Any:
    return picture


def _prepared(get: Callable[[], Any], prepare: Prepare) -> Prepared:
    try:
        return prepare(get())
    except UnreadableImage as error:  # a data set reads its own
        return error
