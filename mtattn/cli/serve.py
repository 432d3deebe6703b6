"""mtattn serve."""

import os
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from mtattn._arguments import HelpFormatter, at_least, positive
from mtattn._extras import needed_by


def parser(prog: str) -> ArgumentParser:
    """Make the parser of the subcommand."""
    parser = ArgumentParser(
        prog,
        description="Answer with a trained model over HTTP, on the CPU, with a page to try it on. "
        'curl --data-binary @photo.jpg "http://127.0.0.1:8000/predict"',
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="what mtattn export wrote, which needs no torch here; or a run or a saved model, which is exported first",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0 lets other machines in; put a proxy with TLS before it"
    )
    parser.add_argument("--port", type=at_least(0), default=8000, help="0 takes any free port and prints it")
    parser.add_argument("--threads", type=at_least(1), default=os.cpu_count() or 1, help="threads of the model")
    parser.add_argument("--max-batch", type=at_least(1), default=16, help="the most pictures in one call of the model")
    parser.add_argument("--max-wait", type=positive, default=2.0, help="milliseconds that a picture waits for others")
    return parser


def main(options: Namespace) -> None:
    """Serve until stopped."""
    with needed_by("mtattn serve", extra="serve"):
        import uvicorn  # noqa: PLC0415

        from mtattn.serving.server import build_app  # noqa: PLC0415
        from mtattn.serving.session import Session  # noqa: PLC0415
    with exported(options.model) as file:
        session = Session(file, threads=options.threads)
    app = build_app(session, max_batch=options.max_batch, max_wait=options.max_wait / 1000)
    # more connections than this are answered 503 at once, so that memory stays bounded
    uvicorn.run(app, host=options.host, port=options.port, access_log=False, limit_concurrency=256)


@contextmanager
def exported(model: Path) -> Generator[Path]:
    """Give the ONNX file of a model; what is none is exported for as long as this lasts."""
    if model.suffix == ".onnx":
        yield model
        return
    from mtattn.export import export_onnx  # noqa: PLC0415  brings torch
    from mtattn.models import FARAMTN, find_model  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"{model.absolute().name}.onnx")
        loaded = FARAMTN.from_pretrained(find_model(model))
        try:
            export_onnx(loaded, file)
        except ValueError:  # its trunk takes images of one size
            export_onnx(loaded, file, dynamic_size=False)
        yield file
