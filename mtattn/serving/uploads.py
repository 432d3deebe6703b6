"""What a request brings: the bytes of a picture, or a form with several, never more than a stated number of bytes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NamedTuple

from mtattn._extras import needed_by
from mtattn.serving.pictures import MAX_BYTES

with needed_by("mtattn.serving", extra="serve"):
    import python_multipart  # noqa: F401  starlette looks for it only when the first form comes
    from fastapi import HTTPException, Request
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser
    from starlette.requests import ClientDisconnect

UPLOAD_SECONDS = 30.0
MAX_PICTURES = 32  # of a form
MAX_FORM_BYTES = 2 * MAX_BYTES
MAX_HELD_BYTES = 512 * 2**20  # of all requests together


class Upload(NamedTuple):
    """A picture that was sent, with the name that its sender gave it; None: it was the body."""

    name: str | None
    data: bytes


class Uploads:
    """Reads requests, and counts the bytes that all of them hold."""

    def __init__(self) -> None:
        self.held = 0

    @asynccontextmanager
    async def of(self, request: Request) -> AsyncGenerator[list[Upload]]:
        """Read the pictures of a request; their bytes count until this is left.

        Raises:
            HTTPException: It is too much, too slow, or a form that cannot be read.
        """
        is_form = request.headers.get("content-type", "").lower().startswith("multipart/")
        most, less = (MAX_FORM_BYTES, "fewer pictures") if is_form else (MAX_BYTES, "a smaller picture")
        count = 0

        async def arriving() -> AsyncGenerator[bytes]:
            nonlocal count
            async for part in request.stream():
                count, self.held = count + len(part), self.held + len(part)
                if count > most:
                    raise HTTPException(413, f"The body has more than {most // 2**20} MB; send {less}.")
                if self.held > MAX_HELD_BYTES:
                    raise HTTPException(429, "Too many pictures are on their way; send this again in a moment.")
                yield part

        try:
            try:
                async with asyncio.timeout(UPLOAD_SECONDS):
                    found = await (_of_form(request, arriving()) if is_form else _of_body(arriving()))
            except TimeoutError as error:
                raise HTTPException(408, f"The picture did not arrive within {UPLOAD_SECONDS:.0f} seconds.") from error
            except ClientDisconnect as error:  # nobody will read this
                raise HTTPException(400, "The sender went away.") from error
            yield found
        finally:
            self.held -= count


async def _of_body(arriving: AsyncGenerator[bytes]) -> list[Upload]:
    return [Upload(None, b"".join([part async for part in arriving]))]


async def _of_form(request: Request, arriving: AsyncGenerator[bytes]) -> list[Upload]:
    """Read all files of a form, in their order, whatever their fields are called; texts are passed over."""
    parser = MultiPartParser(request.headers, arriving, max_files=MAX_PICTURES, max_fields=MAX_PICTURES)
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError, LookupError) as error:  # what starlette and its parser raise
        raise HTTPException(400, f"The form cannot be read ({error}); curl -F picture=@photo.jpg sends one.") from error
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    uploads = [Upload(file.filename or "", await file.read()) for file in files]
    await form.close()
    if not uploads:
        raise HTTPException(400, "The form holds no picture; curl -F picture=@photo.jpg sends one.")
    return uploads
