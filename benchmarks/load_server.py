"""What serving costs: the server under load, a tenth of it bad, beside the bare onnxruntime session.

python benchmarks/load_server.py face.onnx --json load.json

Clients, server and model share the machine's cores, so read the ratios. A request has failed when the connection is
lost, the answer takes over a minute or has a 5xx status, a picture is refused, or a bad upload is not.
"""

import http.client
import json
import re
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mtattn.serving.pictures import MAX_BYTES, as_input, read_picture
from mtattn.serving.session import Session

parser = ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("model", type=Path, help="what mtattn export wrote")
parser.add_argument("--requests", type=int, default=10_000)
parser.add_argument("--connections", type=int, default=16, help="clients that ask at the same time")
parser.add_argument("--threads", type=int, default=1, help="of the model, in the server and in the bare session")
parser.add_argument("--json", type=Path, help="keep the numbers in this file")


def draw_pictures(count: int) -> list[bytes]:
    """Make JPEG files of CelebA's size and about its weight, 10 kB."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, 28, 22, 3), dtype=np.uint8)
    return [encode(Image.fromarray(pixels).resize((178, 218), Image.Resampling.BICUBIC), "JPEG") for pixels in coarse]


def encode(picture: Image.Image, form: str, **options: Any) -> bytes:
    stream = BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def bad_requests(picture: bytes) -> dict[str, tuple[str, str, bytes]]:
    """Method, path and body of what must be refused."""
    frames = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]
    animated = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    return {
        "zero bytes": ("POST", "/predict", b""),
        "text": ("POST", "/predict", b"no picture" * 200),
        "cut short": ("POST", "/predict", picture[: len(picture) // 2]),
        "animated": ("POST", "/predict", animated),
        "too many pixels": ("POST", "/predict", encode(Image.new("1", (9000, 9000)), "PNG")),
        "too many bytes": ("POST", "/predict", bytes(MAX_BYTES + 2**20)),
        "wrong method": ("PUT", "/predict", picture),
        "wrong path": ("POST", "/predictions", picture),
        "wrong option": ("POST", "/predict?maps=perhaps", picture),
        "goes away": ("", "", picture),
    }


@contextmanager
def running_server(model: Path, threads: int) -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "mtattn", "serve", str(model), "--port=0", f"--threads={threads}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"http://([\d.]+):(\d+)", line):
                break
        else:
            sys.exit("load_server.py: the server did not start.")
        reading = ThreadPoolExecutor(1).submit(process.stderr.read)  # else a full pipe stops the server
        yield found[1], int(found[2])
        alive = process.poll() is None
        process.terminate()
        print(f"server alive at the end: {alive}; it complained of: {complaints(reading.result())}")


def complaints(log: str) -> list[str]:
    return [line for line in log.splitlines() if not line.startswith("INFO:")]


def ask_all(address: tuple[str, int], requests: Iterable[tuple[str, str, str, bytes]], connections: int) -> list[Any]:
    """Send requests over some connections; return kind, status (or what went wrong) and seconds of each."""
    shared = iter(list(requests))

    def client(_: int) -> list[tuple[str, int | str, float]]:
        connection, results = http.client.HTTPConnection(*address, timeout=60), []
        for kind, method, path, body in iter(lambda: next(shared, ("", "", "", b"")), ("", "", "", b"")):
            start = time.perf_counter()
            results.append((kind, ask(connection, method, path, body), time.perf_counter() - start))
        return results

    with ThreadPoolExecutor(connections) as pool:
        return [result for results in pool.map(client, range(connections)) for result in results]


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes) -> int | str:
    try:
        if not method:  # goes away in the middle of its upload
            connection.putrequest("POST", "/predict")
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body[:100])
            connection.close()
            return 400
        connection.request(method, path, body)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return type(error).__name__
    return answer.status


def has_failed(kind: str, status: int | str) -> bool:
    return status != 200 if kind == "good" else isinstance(status, str) or not 400 <= status < 500


def timed(calls: Iterable[Callable[[], object]]) -> list[float]:
    seconds = []
    for call in calls:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def row(name: str, seconds: list[float], pictures_per_second: float) -> dict[str, Any]:
    quantiles = statistics.quantiles(seconds, n=100)
    milliseconds = {label: 1000 * quantiles[rank - 1] for label, rank in (("p50", 50), ("p99", 99))}
    return {"name": name, "pictures_per_second": pictures_per_second, **milliseconds}


def measure_session(model: Path, threads: int, pictures: list[bytes]) -> list[dict[str, Any]]:
    """Time the model without a server: alone, and with the decoding that a server has to do."""
    predictor = Session(model, threads=threads)
    images = np.stack([as_input(read_picture(picture), **predictor.image) for picture in pictures])

    def whole(picture: bytes) -> None:
        predictor(as_input(read_picture(picture), **predictor.image)[None], maps=False)

    rows = []
    for name, size, calls in (
        ("session, one picture", 1, [lambda i=i: predictor(images[i : i + 1], maps=False) for i in range(64)] * 16),
        ("session, 16 pictures", 16, [lambda: predictor(images[:16], maps=False)] * 150),
        ("decode and session, one picture", 1, [lambda p=p: whole(p) for p in pictures] * 16),
    ):
        timed(calls[:20])
        seconds = timed(calls)
        rows.append(row(name, seconds, size * len(seconds) / sum(seconds)))
    return rows


if __name__ == "__main__":
    options = parser.parse_args()
    pictures = draw_pictures(64)
    bad = [(kind, *request) for kind, request in bad_requests(pictures[0]).items()]
    good = [("good", "POST", "/predict", pictures[index % len(pictures)]) for index in range(options.requests)]
    mixed = [bad[index // 10 % len(bad)] if index % 10 == 9 else request for index, request in enumerate(good)]
    rows = measure_session(options.model, options.threads, pictures)
    with running_server(options.model, options.threads) as address:
        ask_all(address, good[:64], options.connections)  # warms up
        for name, requests, connections in (
            ("server, 1 connection", good[: options.requests // 20], 1),
            (f"server, {options.connections} connections", good[: options.requests // 5], options.connections),
            (f"server, {options.connections} connections, a tenth bad", mixed, options.connections),
        ):
            start = time.perf_counter()
            results = ask_all(address, requests, connections)
            rate = len(results) / (time.perf_counter() - start)
            failures = Counter((kind, status) for kind, status, _ in results if has_failed(kind, status))
            answered = [seconds for kind, _, seconds in results if kind == "good"]
            rows.append({**row(name, answered, rate), "requests": len(results), "failures": sum(failures.values())})
            print(f"{name}: {len(results)} requests, failures: {dict(failures)}")
            print("  ", dict(Counter(f"{kind}: {status}" for kind, status, _ in results)))
    rows += measure_session(options.model, options.threads, pictures)  # again: tells how steady the machine was
    for line in rows:
        print(
            f"{line['name']:40} {line['pictures_per_second']:8.0f}/s  p50 {line['p50']:7.2f}  p99 {line['p99']:7.2f} ms"
        )
    if options.json is not None:
        options.json.write_text(json.dumps({"threads": options.threads, "rows": rows}, indent=2) + "\n")
    if any(line.get("failures") for line in rows):
        sys.exit("load_server.py: there were failures.")
