"""An exported model in onnxruntime, and the queue that lets requests share its calls."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from mtattn._metadata import num_columns, read_metadata


class Prediction(NamedTuple):
    """The logits (attribute,) of one picture and, if asked for, its maps (attribute, h, w)."""

    logits: np.ndarray
    maps: np.ndarray | None


class Session:
    """A file that ``mtattn.export.export_onnx`` wrote, ready to run.

    Args:
        file: The file.
        threads: How many threads compute; onnxruntime decides if None.
        device: "cpu", or "cuda" where an onnxruntime for GPUs is installed.

    Raises:
        ValueError: The file is missing, damaged, says nothing about its model, or the device is not there.
    """

    def __init__(self, file: Path, *, threads: int | None = None, device: str = "cpu") -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self._what_is_asked_for = onnxruntime.RunOptions()
        self._what_is_asked_for.add_run_config_entry("only_execute_path_to_fetches", "1")
        providers = _providers(device)
        try:
            self.session = onnxruntime.InferenceSession(file, options, providers=providers)
            told = self.session.get_modelmeta().custom_metadata_map  # text that is no UTF-8 is an error here
            tensors = {each.name: each.shape for each in (*self.session.get_inputs(), *self.session.get_outputs())}
        except Exception as error:  # onnxruntime's own, which share no class
            raise ValueError(f"{file} is missing, damaged or no ONNX file.") from error
        if "mtattn" not in told:
            raise ValueError(f"{file} says nothing about its model; write it with mtattn export.")
        self.metadata = read_metadata(told["mtattn"], file)
        self._check_fits(file, tensors)
        self.file, self.name = file, file.stem
        self.groups: dict[str, list[Any]] = self.metadata["groups"]
        self.image: dict[str, Any] = self.metadata["image"]
        self.version: str = self.metadata["mtattn_version"]
        self.map_centres: dict[str, list[float]] | None = self.metadata.get("map_centres")  # earlier files have none
        self.has_maps = "maps" in tensors

    def _check_fits(self, file: Path, tensors: dict[str, list[Any]]) -> None:
        """Refuse a file whose inputs and outputs are not those that it tells of."""
        if list(tensors) not in (["images", "logits"], ["images", "logits", "maps"]):
            got = ", ".join(tensors)
            raise ValueError(f"{file} takes images and gives logits and maps, got {got}; export it again.")
        counts = {"colours": len(self.metadata["image"]["mean"]), "columns": num_columns(self.metadata)}
        for (what, count), shape in zip(counts.items(), (tensors["images"], tensors["logits"]), strict=True):
            known = shape[1] if len(shape) > 1 else None
            if known != count and isinstance(known, int):
                raise ValueError(f"{file} has {known} {what}, but tells of {count}; export the model again.")

    def try_out(self) -> None:
        """Compute a blank picture, so that what would fail at the first request is told before any comes.

        Raises:
            ValueError: As :meth:`run`.
        """
        blank = np.zeros((1, len(self.image["mean"]), *self.image["size"]), np.float32)
        self.run(blank, maps=self.has_maps)

    def run(self, images: np.ndarray, *, maps: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Compute the logits (batch, attribute) and, if asked for, the maps (batch, attribute, h, w).

        Raises:
            ValueError: The file does not take such images, or gives something else than it tells of.
        """
        names = ["logits", "maps"] if maps else ["logits"]
        try:
            outputs: Any = self.session.run(names, {"images": images}, self._what_is_asked_for)
        except Exception as error:  # onnxruntime's own, which share no class
            raise ValueError(f"{self.file} cannot compute images of shape {images.shape}: {error}") from error
        self._check_outputs(images, *outputs)
        return outputs[0], outputs[1] if maps else None

    def _check_outputs(self, images: np.ndarray, logits: np.ndarray, maps: np.ndarray | None = None) -> None:
        expected = (len(images), num_columns(self.metadata))
        if logits.shape != expected or (maps is not None and (maps.ndim != 4 or maps.shape[:2] != expected)):
            got = " and ".join(str(each.shape) for each in (logits, maps) if each is not None)
            raise ValueError(
                f"{self.file} tells of {expected[1]} columns, got outputs of shape {got} for {expected[0]} images; "
                f"export the model again."
            )
        if maps is None or self.map_centres is None or list(images.shape[2:]) != list(self.image["size"]):
            return
        told = tuple(len(self.map_centres[axis]) for axis in ("rows", "columns"))
        if maps.shape[2:] != told:
            raise ValueError(
                f"{self.file} tells where {told[0]} x {told[1]} cells look, got maps of "
                f"{maps.shape[2]} x {maps.shape[3]}; export the model again."
            )

    def __call__(self, images: np.ndarray, *, maps: bool) -> list[Prediction]:
        """Predict a batch; without ``maps`` theirs is the time saved."""
        logits, found = self.run(images, maps=maps)
        return [Prediction(row, None if found is None else found[index]) for index, row in enumerate(logits)]


def _providers(device: str) -> list[str]:
    if device == "cpu":
        return ["CPUExecutionProvider"]
    if device.startswith("cuda") and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return ["CUDAExecutionProvider"]
    raise ValueError(f"this onnxruntime computes on cpu, got device {device!r}; on GPUs onnxruntime-gpu computes.")


class Batcher:
    """Predict single pictures in batches: those that come close together, or while the model computes, share a call.

    Args:
        predict: The model, from a batch to a prediction each; runs in a thread.
        max_batch: The most pictures in a call.
        max_wait: Seconds that a picture waits for others.
    """

    def __init__(self, predict: Callable[..., list[Prediction]], *, max_batch: int, max_wait: float) -> None:
        self.predict, self.max_batch, self.max_wait = predict, max_batch, max_wait
        self.waiting: asyncio.Queue[tuple[np.ndarray, bool, asyncio.Future[Prediction]]] = asyncio.Queue()

    async def __call__(self, image: np.ndarray, *, maps: bool) -> Prediction:
        """Predict one picture."""
        result: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        self.waiting.put_nowait((image, maps, result))
        return await result

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            images, wants_maps, results = zip(*await self._next_batch(), strict=True)
            try:
                answers: list[Any] = await asyncio.to_thread(self.predict, np.stack(images), maps=any(wants_maps))
            except Exception as error:  # it belongs to these requests; the next ones go on
                answers = [error] * len(images)
            for result, answer in zip(results, answers, strict=True):
                if result.done():  # cancelled: nobody waits any more
                    continue
                if isinstance(answer, Exception):
                    result.set_exception(answer)
                else:
                    result.set_result(answer)

    async def _next_batch(self) -> list[tuple[np.ndarray, bool, asyncio.Future[Prediction]]]:
        batch = [await self.waiting.get()]
        try:
            async with asyncio.timeout(self.max_wait):
                while len(batch) < self.max_batch:
                    batch.append(await self.waiting.get())
        except TimeoutError:
            pass
        return batch
