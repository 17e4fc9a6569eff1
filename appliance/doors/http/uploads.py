"""Files on their way in: bytes go straight to files under the state directory, never through memory whole."""

from __future__ import annotations

import asyncio
import errno
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from appliance.doors.http.bodies import CHUNK_BYTES, Record, body_deadline, check_record, stream_body
from appliance.doors.http.services import services_of
from appliance.errors import InvalidInput, StorageFull, TooLarge

MAX_FIELD_BYTES = 1 << 17  # a transcript of 20 000 Chinese characters takes 60 KB
MAX_PARTS = 20


INCOMING = "incoming"  # folder of the state directory; what lies there belongs to a request
MAX_FILES = 500
MAX_DEPTH = 6


@dataclass(frozen=True)
class Upload(Generic[Record]):
    """A received file (gone when the request ends) and the fields that came with it."""

    path: Path
    asked: Record


@dataclass(frozen=True)
class UploadedFolder:
    """Received files under the names they came with; gone when the request ends, unless somebody moved the folder."""

    path: Path
    fields: dict[str, str]


def sweep_incoming(state_dir: Path) -> None:
    """Remove what requests left that a killed daemon had not finished. Before the doors open only."""
    shutil.rmtree(state_dir / INCOMING, ignore_errors=True)


@asynccontextmanager
async def receive_upload(
    request: web.Request, model: type[Record], *, limit_mb: int = 0
) -> AsyncIterator[Upload[Record]]:
    """The body, multipart or raw, as a file; its fields as `model`, which has a `filename`.

    `limit_mb` is for what may be larger than `http.max_upload_mb`, and take as long as weights may.

    Raises TooLarge, InvalidInput, DeadlineExceeded, StorageFull.
    """
    settings = services_of(request).settings
    folder = settings.state_dir / INCOMING
    path = folder / secrets.token_hex(12)
    try:
        with _storage(folder):
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
            file = await asyncio.to_thread(path.open, "xb")
            try:
                limit_s = settings.models.upload_timeout_s if limit_mb else None
                limit = (limit_mb or settings.http.max_upload_mb) * 1_000_000
                fields = await _receive(request, file, limit, limit_s)
            finally:
                await asyncio.to_thread(file.close)
        yield Upload(path, check_record(model, {**dict(request.query), **fields}))
    finally:
        await asyncio.to_thread(path.unlink, missing_ok=True)


@asynccontextmanager
async def receive_folder(request: web.Request, limit: int, limit_s: float) -> AsyncIterator[UploadedFolder]:
    """Several files of a multipart body, at most `limit` bytes together; their names may lie in folders.

    Raises InvalidInput (model_path_not_allowed, field_missing, request_malformed), TooLarge, DeadlineExceeded,
    StorageFull.
    """
    folder = services_of(request).settings.state_dir / INCOMING / secrets.token_hex(12)
    try:
        with _storage(folder):
            await asyncio.to_thread(folder.mkdir, parents=True, mode=0o700)
            async with body_deadline(request, limit_s):
                if (request.content_length or 0) > limit:
                    raise TooLarge("body_too_large", limit_bytes=limit, received_bytes=request.content_length)
                try:
                    fields = await _receive_files(await request.multipart(), folder, limit)
                except (HttpProcessingError, ValueError, AssertionError, RuntimeError) as error:
                    raise InvalidInput("request_malformed", reason=str(error)[:80]) from error
        yield UploadedFolder(folder, fields)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _receive_files(reader: MultipartReader, folder: Path, limit: int) -> dict[str, str]:
    fields: dict[str, str] = {}
    count = 0
    while (part := await reader.next()) is not None:
        if not isinstance(part, BodyPartReader):
            raise InvalidInput("request_malformed", reason="nested multipart")
        if part.filename is None:
            fields[part.name or ""] = (await _read_field(part)).decode("utf-8", "replace")
            if len(fields) > MAX_PARTS:
                raise InvalidInput("request_malformed", reason=f"more than {MAX_PARTS} fields")
            continue
        count += 1
        if count > MAX_FILES:
            raise InvalidInput("request_malformed", reason=f"more than {MAX_FILES} files")
        path = await asyncio.to_thread(_place, folder, part.filename)
        with await asyncio.to_thread(path.open, "xb") as file:
            limit -= await _copy(part, file, limit)
    if not count:
        raise InvalidInput("field_missing", field="file")
    return fields


def _place(folder: Path, name: str) -> Path:
    """Where a file called `name` goes, below `folder` whatever it is called. Makes the folders in between."""
    parts = name.replace("\\", "/").split("/")
    is_plain = all(part not in {"", ".", ".."} and part.isprintable() and len(part.encode()) <= 200 for part in parts)
    path = folder.joinpath(*parts)
    if not is_plain or len(parts) > MAX_DEPTH or path.exists() or any(up.is_file() for up in path.parents):
        raise InvalidInput("model_path_not_allowed", name=name[:80])
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


class _storage:  # noqa: N801 - reads as a statement where it is used
    """Turns "no space left" into the error that has a remedy."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO}:
            raise StorageFull("upload_not_stored", problem=error.strerror) from error


async def _receive(request: web.Request, file: BinaryIO, limit: int, limit_s: float | None) -> dict[str, str]:
    async with body_deadline(request, limit_s):
        if request.content_type != "multipart/form-data":
            async for piece in stream_body(request, limit):
                await asyncio.to_thread(file.write, piece)
            return {}
        if (request.content_length or 0) > limit:
            raise TooLarge("body_too_large", limit_bytes=limit, received_bytes=request.content_length)
        try:
            return await _receive_parts(await request.multipart(), file, limit)
        except (HttpProcessingError, ValueError, AssertionError, RuntimeError) as error:  # aiohttp: broken frames
            raise InvalidInput("request_malformed", reason=str(error)[:80]) from error


async def _receive_parts(reader: MultipartReader, file: BinaryIO, limit: int) -> dict[str, str]:
    """The one file part goes to `file`; the other parts are fields."""
    fields: dict[str, str] = {}
    has_file = False
    for _ in range(MAX_PARTS):
        part = await reader.next()
        if part is None:
            if not has_file:
                raise InvalidInput("field_missing", field="file")
            return fields
        if not isinstance(part, BodyPartReader):
            raise InvalidInput("request_malformed", reason="nested multipart")
        if part.filename is None and part.name != "file":
            fields[part.name or ""] = (await _read_field(part)).decode("utf-8", "replace")
            continue
        if has_file:
            raise InvalidInput("upload_one_file")
        has_file = True
        fields.setdefault("filename", Path(part.filename or "").name[:200])
        await _copy(part, file, limit)
    raise InvalidInput("request_malformed", reason=f"more than {MAX_PARTS} parts")


async def _read_field(part: BodyPartReader) -> bytes:
    value = bytearray()
    while piece := await part.read_chunk(CHUNK_BYTES):
        value += piece
        if len(value) > MAX_FIELD_BYTES:
            raise TooLarge("body_too_large", limit_bytes=MAX_FIELD_BYTES, received_bytes=len(value))
    return bytes(value)


async def _copy(part: BodyPartReader, file: BinaryIO, limit: int) -> int:
    """Bytes received."""
    received = 0
    while piece := await part.read_chunk(CHUNK_BYTES):
        received += len(piece)
        if received > limit:
            raise TooLarge("body_too_large", limit_bytes=limit, received_bytes=received)
        await asyncio.to_thread(file.write, piece)
    return received
