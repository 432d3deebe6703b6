"""Serve an exported model: pictures in, attributes as JSON out, and a page to try it on."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mtattn._extras import needed_by
from mtattn.serving.answers import as_json, attributes_of, description
from mtattn.serving.pictures import RefusedPicture, as_input, read_picture
from mtattn.serving.session import Batcher, Session
from mtattn.serving.uploads import Upload, Uploads

with needed_by("mtattn.serving", extra="serve"):
    from anyio import CapacityLimiter, to_thread
    from fastapi import FastAPI, HTTPException, Request
    from fastapi.responses import FileResponse
    from fastapi.staticfiles import StaticFiles

PAGE = Path(__file__).parent / "page"
BODY = {"schema": {"type": "string", "format": "binary"}}
FORM = {
    "schema": {
        "type": "object",
        "properties": {"picture": {"type": "array", "items": {"type": "string", "format": "binary"}}},
    }
}
REQUEST = {
    "requestBody": {"required": True, "content": {"application/octet-stream": BODY, "multipart/form-data": FORM}}
}


def build_app(session: Session, *, max_batch: int = 16, max_wait: float = 0.002) -> FastAPI:
    """Make the application around a model.

    Args:
        session: The model.
        max_batch: The most pictures in one call of the model.
        max_wait: Seconds that a picture waits for others to share the call.

    Raises:
        ValueError: The model cannot compute a picture, or gives something else than its file tells of.
    """
    session.try_out()
    batcher, uploads = Batcher(session, max_batch=max_batch, max_wait=max_wait), Uploads()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        app.state.uploads = uploads
        app.state.decoding = CapacityLimiter(os.cpu_count() or 1)  # bounds the memory of decoded pictures too
        running = asyncio.create_task(batcher.run())
        yield
        running.cancel()

    app = FastAPI(title=session.name, version=session.version, lifespan=lifespan, redoc_url=None)
    app.mount("/page", StaticFiles(directory=PAGE))

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Say that the server answers, and with what."""
        return {
            "status": "ok",
            "mtattn": session.version,
            "model": session.name,
            "attributes": len(attributes_of(session.metadata)),
            "image": session.image,
            "maps": session.has_maps,
        }

    @app.get("/model")
    async def model() -> dict[str, Any]:
        """Say what the model answers: kinds, groups, classes, units, thresholds."""
        return {"model": session.name, "mtattn": session.version, **description(session.metadata)}

    async def answer_of(upload: Upload, maps: bool) -> dict[str, Any] | RefusedPicture:
        try:
            image = await to_thread.run_sync(prepare, upload.data, session.image, limiter=app.state.decoding)
        except RefusedPicture as error:
            return error
        answer = as_json(await batcher(image, maps=maps), session.metadata, maps=maps)
        return answer | ({"map_centres": session.map_centres} if maps and session.map_centres else {})

    @app.post("/predict", openapi_extra=REQUEST)
    async def predict(request: Request, maps: bool = False) -> dict[str, Any]:
        """Answer for a picture, sent as the body; or for those of a form, in their order, each with its name."""
        if maps and not session.has_maps:
            raise HTTPException(400, "The model was exported without maps.")
        async with uploads.of(request) as sent:
            answers = await asyncio.gather(*(answer_of(upload, maps) for upload in sent))
        refused = [answer for answer in answers if isinstance(answer, RefusedPicture)]
        if len(refused) == len(sent):
            raise HTTPException(refused[0].status, str(refused[0])) from refused[0]
        told = [{"detail": str(a)} if isinstance(a, RefusedPicture) else a for a in answers]
        if sent[0].name is None:
            return told[0]
        return {"pictures": [{"name": upload.name, **a} for upload, a in zip(sent, told, strict=True)]}

    return app


def prepare(data: bytes, image: dict[str, Any]) -> np.ndarray:
    """Turn an upload into what the model takes."""
    return as_input(read_picture(data), **image)
