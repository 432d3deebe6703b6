"""What int8 costs and gains: an exported model quantised in several ways, scored on CelebA and timed against float32.

python benchmarks/int8.py runs/celeba/model path/to/celeba --json int8.json

The ways are timed by turns in one process, so that all meet the same noise; read the ratios, not the milliseconds.
"""

import json
import platform
import statistics
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from mtattn import FARAMTN
from mtattn.data import CelebA, image_transform
from mtattn.export import export_onnx, quantize_onnx
from mtattn.metrics import AttributeMetrics, train_rates

NUM_CALIBRATION, BATCH_SIZE = 512, 16
METHODS = quantization.CalibrationMethod
OURS = {"op_types_to_quantize": ["Conv"], "per_channel": True, "activation_type": quantization.QuantType.QUInt8}
WAYS: dict[str, dict[str, Any]] = {  # beside float32 and ours; all static, QDQ, calibrated on the same images
    "signed activations": OURS | {"activation_type": quantization.QuantType.QInt8},
    "one scale a tensor": OURS | {"per_channel": False},
    "99.99 % of the activations": OURS
    | {"calibrate_method": METHODS.Percentile, "extra_options": {"CalibPercentile": 99.99}},
    "all operators": {key: OURS[key] for key in ("per_channel", "activation_type")},
}

parser = ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("model", type=Path, help="the folder of a saved model")
parser.add_argument("root", type=Path, help="CelebA")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--rounds", type=int, default=60)
parser.add_argument("--json", type=Path, help="keep the numbers in this file")


class Reader:
    """Hand out batches as onnxruntime's quantization asks for them."""

    def __init__(self, batches: torch.Tensor) -> None:
        self.feeds = iter([{"images": batch.numpy()} for batch in batches])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.feeds, None)


def write_all(model: FARAMTN, batches: torch.Tensor, folder: Path) -> dict[str, Path]:
    files = {name: folder / f"{index}.onnx" for index, name in enumerate(["float32", "ours", *WAYS])}
    export_onnx(model, files["float32"])
    quantize_onnx(files["float32"], files["ours"], batches)
    quant_pre_process(str(files["float32"]), str(folder / "simplified.onnx"), skip_symbolic_shape=True)
    for name, way in WAYS.items():
        quantization.quantize_static(str(folder / "simplified.onnx"), str(files[name]), Reader(batches), **way)
    return files


def open_session(file: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def time_by_turns(sessions: dict[str, Any], images: np.ndarray, rounds: int) -> dict[str, list[float]]:
    """Seconds of float32 over seconds of each way, turn by turn: quartiles and median."""
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(["logits"], {"images": images})
            seconds[name].append(time.perf_counter() - start)
    return {
        name: statistics.quantiles(map(lambda a, b: a / b, seconds["float32"], values), n=4)
        for name, values in seconds.items()
    }


if __name__ == "__main__":
    options = parser.parse_args()
    model = FARAMTN.from_pretrained(options.model)
    transform = image_transform(**model.config["image"])
    train, test = (
        CelebA(options.root, split, attributes=model.groups.attributes, transform=transform)
        for split in ("train", "test")
    )
    chosen = [index * len(train) // NUM_CALIBRATION for index in range(NUM_CALIBRATION)]
    batches = torch.stack([train[index][0] for index in chosen]).unflatten(0, (-1, BATCH_SIZE))
    images, targets = map(torch.stack, zip(*test, strict=True))
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = write_all(model, batches, Path(folder))
        sessions = {name: open_session(file, options.threads) for name, file in files.items()}
        faster = {size: time_by_turns(sessions, images[:size].numpy(), options.rounds) for size in (1, 16)}
        for name, session in sessions.items():
            logits, maps = map(torch.from_numpy, session.run(["logits", "maps"], {"images": images.numpy()}))
            metrics = AttributeMetrics(model.groups, train_rates(train.targets))
            metrics.update(logits, targets)
            scores = metrics.compute()
            rows[name] = {
                **{
                    score: 100 * scores[f"mean_{score}"]
                    for score in ("accuracy", "balanced_accuracy", "average_precision")
                },
                "maps_off_by": float((maps.mean((-2, -1)) - logits).abs().max()),
                "megabytes": files[name].stat().st_size / 1e6,
                **{f"faster_at_batch_{size}": quartiles[name] for size, quartiles in faster.items()},
            }
    for name, row in rows.items():
        shown = [
            f"{value:.2g}"
            if key == "maps_off_by"
            else f"{value:.2f}"
            if isinstance(value, float)
            else "{1:.2f} [{0:.2f}, {2:.2f}]".format(*value)
            for key, value in row.items()
        ]
        print(f"{name:28}", *shown, sep=" | ")
    if options.json is not None:
        machine = {"cpu": platform.processor(), "threads": options.threads, "onnxruntime": onnxruntime.__version__}
        options.json.write_text(json.dumps({"machine": machine, "num_test": len(test), "rows": rows}, indent=2) + "\n")
