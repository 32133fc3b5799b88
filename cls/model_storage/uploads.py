"""A multipart upload, written to disk while it arrives: no second copy, no more memory than a chunk."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from cls.model_storage.names import RefusedError

_CHUNK_BYTES = 1 << 20
_MAX_FIELD_BYTES = 1 << 14
_MAX_PARTS = 20
# Beside the file a form holds some boundaries, headers and short fields.
_FORM_OVERHEAD_BYTES = 1 << 20
_DRAIN_S = 20.0


@dataclass(frozen=True)
class Upload:
    """An upload on disk."""

    path: Path
    sha256: str
    fields: dict[str, str]


class _Form:
    """Receives what the parser finds: the file goes to disk, fields to a mapping."""

    def __init__(self, path: Path, file_field: str, limit_bytes: int) -> None:
        self._path = path
        self._file_field = file_field
        self._limit_bytes = limit_bytes
        self._header = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._field: bytearray | None = None
        self._file: BinaryIO | None = None
        self._parts = 0
        self.size_bytes = 0
        self.digest = hashlib.sha256()
        self.fields: dict[str, str] = {}
        self.has_file = False
        self.is_complete = False

    def begin(self) -> None:
        self._parts += 1
        self._headers = {}
        if self._parts > _MAX_PARTS:
            raise RefusedError(422, f"the form has more than {_MAX_PARTS} parts", code="too_many_parts")

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def header_end(self) -> None:
        self._headers[bytes(self._header[0]).lower()] = bytes(self._header[1])
        self._header = (bytearray(), bytearray())

    def headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._field = None
        if self._name == self._file_field:
            if self.has_file:
                raise RefusedError(422, f"the form has more than one {self._file_field}", code="duplicate_file")
            self._file = self._path.open("wb")
            self.has_file = True
        else:
            self._field = bytearray()

    def data(self, data: bytes, start: int, end: int) -> None:
        chunk = memoryview(data)[start:end]
        if self._file is not None:
            self.size_bytes += len(chunk)
            if self.size_bytes > self._limit_bytes:
                raise RefusedError(
                    413,
                    f"the file is bigger than {self._limit_bytes >> 20} MB",
                    code="too_large",
                    hint="start the service with a higher --max-upload-mb",
                )
            self._file.write(chunk)
            self.digest.update(chunk)
        elif self._field is not None:
            if len(self._field) + len(chunk) > _MAX_FIELD_BYTES:
                raise RefusedError(422, f"field {self._name!r} of the form is too long", code="field_too_long")
            self._field.extend(chunk)

    def part_end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        elif self._field is not None:
            try:
                self.fields[self._name] = self._field.decode("utf-8").strip()
            except UnicodeDecodeError as error:
                raise RefusedError(
                    422, f"field {self._name!r} of the form is not UTF-8", code="field_not_utf8"
                ) from error

    def end(self) -> None:
        self.is_complete = True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class _Body:
    """The body of a request: its chunks, and the rest of them when nobody wants it."""

    def __init__(self, request: Request) -> None:
        self._receive = request.receive
        self._is_read = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yields what arrives.

        Raises:
            ClientDisconnect: the sender went away.
        """
        while not self._is_read:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._is_read = True
                raise ClientDisconnect
            self._is_read = not message.get("more_body", False)
            yield message.get("body", b"")

    async def drop_rest(self) -> None:
        """Reads what the sender still sends: a connection closed on unread data would lose our answer."""
        with suppress(ClientDisconnect, TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                async for _ in self.chunks():
                    pass


class UploadRoom(NamedTuple):
    """How big an upload may be.

    Attributes:
        limit_bytes: at most, by the options.
        free_bytes: the space there is.
    """

    limit_bytes: int
    free_bytes: int


async def receive_upload(
    request: Request, path: Path, *, file_field: str, room: UploadRoom, pool: ThreadPoolExecutor
) -> Upload:
    """Writes the file of a multipart form, whose body must not have been read, to disk, in threads of the pool.

    Raises:
        RefusedError: 413 it is too big; 422 it is not such a form, or was cut off; 507 there is no space. The rest of
            the body is read and dropped first, so that the sender gets to see the answer.
    """
    form = _Form(path, file_field, room.limit_bytes)
    body = _Body(request)
    try:
        try:
            _check_announced_size(request, room)
            parser = _parser_for(request, form)
            await _feed(body, parser.write, pool)
        finally:
            form.close()
    except ClientDisconnect as error:
        raise RefusedError(422, "the upload was cut off", code="cut_short") from error
    except FormParserError as error:
        await body.drop_rest()
        raise RefusedError(422, f"the body is not a multipart form: {error}", code="invalid_form") from error
    except OSError as error:
        await body.drop_rest()
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise RefusedError(507, "no space is left for the upload", code="no_space") from error
        raise
    except RefusedError:
        await body.drop_rest()
        raise
    if not form.is_complete:
        raise RefusedError(422, "the upload was cut off: the multipart form has no end", code="cut_short")
    if not form.has_file:
        raise RefusedError(
            422,
            f"the form has no file {file_field!r}",
            code="missing_file",
            hint=f"send it with -F '{file_field}=@FILE.zip'",
        )
    return Upload(path, form.digest.hexdigest(), form.fields)


def _check_announced_size(request: Request, room: UploadRoom) -> None:
    text = request.headers.get("content-length", "")
    announced_bytes = int(text) if text.isascii() and text.isdigit() else 0
    if announced_bytes > room.limit_bytes + _FORM_OVERHEAD_BYTES:
        raise RefusedError(
            413,
            f"the upload has {announced_bytes >> 20} MB, at most {room.limit_bytes >> 20} MB are taken",
            code="too_large",
            hint="start the service with a higher --max-upload-mb",
        )
    if announced_bytes > room.free_bytes:
        raise RefusedError(
            507, f"the upload has {announced_bytes >> 20} MB, and {room.free_bytes >> 20} MB are free", code="no_space"
        )


def _parser_for(request: Request, form: _Form) -> MultipartParser:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise RefusedError(
            422, "the body is not a multipart form with a boundary", code="not_a_form", hint="send it with curl -F"
        )
    return MultipartParser(
        boundary,
        {
            "on_part_begin": form.begin,
            "on_header_field": form.header_field,
            "on_header_value": form.header_value,
            "on_header_end": form.header_end,
            "on_headers_finished": form.headers_finished,
            "on_part_data": form.data,
            "on_part_end": form.part_end,
            "on_end": form.end,
        },
    )


async def _feed(body: _Body, write: Callable[[bytes], int], pool: ThreadPoolExecutor) -> None:
    """Hands the body on in big chunks: a change of thread costs more than parsing a small one."""
    loop = asyncio.get_running_loop()
    chunks: list[bytes] = []
    size_bytes = 0
    async for chunk in body.chunks():
        chunks.append(chunk)
        size_bytes += len(chunk)
        if size_bytes >= _CHUNK_BYTES:
            await loop.run_in_executor(pool, write, b"".join(chunks))
            chunks, size_bytes = [], 0
    if chunks:
        await loop.run_in_executor(pool, write, b"".join(chunks))
