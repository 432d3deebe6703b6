"""Serve an exported model: pictures in, attributes as JSON out, and a page to try it on."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mtattn._extras import needed_by
from mtattn.serving.answers import as_json, attributes_of
from mtattn.serving.pictures import MAX_BYTES, RefusedPicture, as_input, read_picture
from mtattn.serving.session import Batcher, Session

with needed_by("mtattn.serving", extra="serve"):
    from anyio import CapacityLimiter, to_thread
    from fastapi import FastAPI, HTTPException, Request
    from fastapi.responses import FileResponse
    from fastapi.staticfiles import StaticFiles
    from starlette.requests import ClientDisconnect

PAGE = Path(__file__).parent / "page"
UPLOAD_SECONDS = 30.0


def build_app(session: Session, *, max_batch: int = 16, max_wait: float = 0.002) -> FastAPI:
    """Make the application around a model.

    Args:
        session: The model.
        max_batch: The most pictures in one call of the model.
        max_wait: Seconds that a picture waits for others to share the call.
    """
    batcher = Batcher(session, max_batch=max_batch, max_wait=max_wait)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        app.state.decoding = CapacityLimiter(os.cpu_count() or 1)  # bounds the memory of decoded pictures too
        running = asyncio.create_task(batcher.run())
        yield
        running.cancel()

    app = FastAPI(title="mtattn", lifespan=lifespan, docs_url=None, redoc_url=None)  # those pages load from elsewhere
    app.mount("/page", StaticFiles(directory=PAGE))

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {
            "status": "ok",
            "mtattn": session.version,
            "attributes": len(attributes_of(session.metadata)),
            "image": session.image,
            "maps": session.has_maps,
        }

    @app.post("/predict")
    async def predict(request: Request, maps: bool = False) -> dict[str, Any]:
        if maps and not session.has_maps:
            raise HTTPException(400, "The model was exported without maps.")
        data = await read_body(request)
        try:
            image = await to_thread.run_sync(prepare, data, session.image, limiter=app.state.decoding)
        except RefusedPicture as error:
            raise HTTPException(error.status, str(error)) from error
        answer = as_json(await batcher(image, maps=maps), session.metadata, maps=maps)
        return answer | ({"map_centres": session.map_centres} if maps and session.map_centres else {})

    return app


async def read_body(request: Request) -> bytes:
    """Read a picture's bytes, but never more than allowed, and not for ever."""
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise HTTPException(415, "Send the picture itself as the body, not a form: curl --data-binary @photo.jpg.")
    data = bytearray()
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            async for part in request.stream():
                data += part
                if len(data) > MAX_BYTES:
                    raise HTTPException(413, f"The body has more than {MAX_BYTES // 2**20} MB; send a smaller picture.")
    except TimeoutError as error:
        raise HTTPException(408, f"The picture did not arrive within {UPLOAD_SECONDS:.0f} seconds.") from error
    except ClientDisconnect as error:  # nobody will read this
        raise HTTPException(400, "The sender went away.") from error
    return bytes(data)


def prepare(data: bytes, image: dict[str, Any]) -> np.ndarray:
    """Turn an upload into what the model takes."""
    return as_input(read_picture(data), **image)
