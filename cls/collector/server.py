"""The own small collector: the collector's HTTP interface over a folder of labelled photos."""

from __future__ import annotations

import hmac
import logging
import mimetypes
import secrets
import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from cls.collector.payloads import (
    MODES,
    READ_SCHEME,
    WRITE_SCHEME,
    GuidsPayload,
    LoginPayload,
    Mode,
    PicsetPayload,
    PicturesQueryPayload,
    ServedCategory,
    ServedPicset,
    ServedPicsets,
    ServedPicture,
    ServedPictures,
)
from cls.collector.photo_set import Photo, PhotoSet
from cls.errors import CollectorError, FileError
from cls.files import read_json, safe_name, write_json_atomic
from cls.records import faults_of
from cls.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_MODE = "VALIDATED"
STATE_FOLDER = ".collector"
_MODES_FILE = TypeAdapter(dict[str, Mode])

# The collector is one category list a group; no other way of listing is known of it.
_LIST_BY_CATEGORY = 0


class TrainedFile(BaseModel):
    """What `trained/<guid>.json` keeps of a picset: address -> entries of that photo, and group -> run."""

    items: dict[str, list[dict[str, JsonValue]]] = {}
    neural_version: dict[str, JsonValue] = {}


class CollectorState:
    """Modes and predictions by picset, kept in a folder: `modes.json` and `trained/<guid>.json`.

    Args:
        folder: where they are kept; made at the first write.

    Raises:
        FileError: what is kept there cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        modes_file = folder / "modes.json"
        try:
            self._modes = _MODES_FILE.validate_python(read_json(modes_file) if modes_file.exists() else {})
        except ValidationError as error:
            raise FileError(
                f"expected {{guid: one of {', '.join(MODES)}}}", code="unexpected_content", where=modes_file
            ) from error

    def mode(self, guid: str) -> str:
        """The mode of a picset; photos of a folder count as validated until someone says otherwise."""
        return self._modes.get(guid, DEFAULT_MODE)

    def set_mode(self, guids: Iterable[str], mode: Mode) -> None:
        """Moves picsets into a mode.

        Raises:
            FileError: the state cannot be written; nothing has changed.
        """
        with self._lock:
            modes = {**self._modes, **dict.fromkeys(guids, mode)}
            write_json_atomic(self._folder / "modes.json", modes)
            self._modes = modes

    def set_trained(self, posted: PicsetPayload) -> None:
        """Keeps the predictions of a picset, in place of earlier ones for the same photos.

        Raises:
            FileError: the state cannot be written; nothing has changed.
        """
        guid = posted.picset.guid
        versions = (posted.picset.model_extra or {}).get("neural_version")
        items = {
            item.origin.filepath: item.trained
            for item in posted.items
            if item.origin is not None and item.origin.filepath and item.trained is not None
        }
        with self._lock:
            kept = self._read_trained(guid) or TrainedFile()
            new = TrainedFile(
                items={**kept.items, **items},
                neural_version={**kept.neural_version, **(versions if isinstance(versions, dict) else {})},
            )
            write_json_atomic(self._trained_file(guid), new.model_dump())

    def with_state(self, picset: ServedPicset) -> ServedPicset:
        """Adds mode and predictions to a PICSET of a photo set."""
        picset.picset.mode = self.mode(picset.picset.guid)
        kept = self._read_trained(picset.picset.guid)
        if kept is not None:
            picset.picset.neural_version = kept.neural_version
            for item in picset.items:
                item.trained = kept.items.get(item.origin.filepath, [])
        return picset

    def _trained_file(self, guid: str) -> Path:
        return self._folder / "trained" / f"{safe_name(guid)}.json"

    def _read_trained(self, guid: str) -> TrainedFile | None:
        file = self._trained_file(guid)
        try:
            return TrainedFile.model_validate(read_json(file)) if file.exists() else None
        except ValidationError as error:
            raise FileError(
                f"holds no predictions of a picset: {faults_of(error)}", code="unexpected_content", where=file
            ) from error


class Tokens:
    """Gives tokens for logins, and tells whether one is still good.

    Args:
        login: the one login that is accepted; empty: any.
        password: its password; empty: any login and password are accepted.
        ttl_s: seconds a token lives.
    """

    def __init__(self, login: str, password: str, ttl_s: float) -> None:
        self._login = login
        self._password = password
        self._ttl_s = ttl_s
        self._ends_s: dict[str, float] = {}
        self._lock = threading.Lock()

    @property
    def is_protected(self) -> bool:
        """Whether a password is needed."""
        return bool(self._password)

    def issue(self, login: str, password: str) -> str | None:
        """A new token, or None when login or password are wrong."""
        # Compared in bytes and both always, so that the time taken says nothing.
        is_login_right = not self._login or hmac.compare_digest(login.encode(), self._login.encode())
        is_password_right = not self._password or hmac.compare_digest(password.encode(), self._password.encode())
        if not (is_login_right and is_password_right):
            return None
        now_s = time.monotonic()
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._ends_s = {known: end_s for known, end_s in self._ends_s.items() if end_s > now_s}
            self._ends_s[token] = now_s + self._ttl_s
        return token

    def is_valid(self, token: str) -> bool:
        """Whether a token was given and has not expired."""
        with self._lock:
            end_s = self._ends_s.get(token)
        return end_s is not None and end_s > time.monotonic()


class _AnnouncingServer(uvicorn.Server):
    """Prints one line when requests are answered."""

    line = ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(self.line, flush=True)


def serve_until_stopped(photo_set: PhotoSet, state: CollectorState, tokens: Tokens, host: str, port: int) -> None:
    """Serves a set until SIGINT or SIGTERM.

    Args:
        photo_set: what is served.
        state: where modes and predictions are kept.
        tokens: who is let in.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.

    Raises:
        CollectorError: the address is taken or cannot be listened on.
    """
    listener = _bind(host, port)
    server = _AnnouncingServer(
        uvicorn.Config(create_app(photo_set, state, tokens), log_level="warning", access_log=False, lifespan="off")
    )
    shown_host = f"[{host}]" if ":" in host else host
    groups = len(photo_set.groups)
    server.line = (
        f"collector: {counted(len(photo_set.photos), 'photo')}, {counted(groups, 'group')} "
        f"({', '.join(photo_set.groups)}) at http://{shown_host}:{listener.getsockname()[1]}"
    )
    missing = sum(not photo.file.is_file() for photo in photo_set.photos)
    if missing:
        logging.getLogger("cls.collector").warning("%d listed photos are not in the folder", missing)
    with listener:
        server.run(sockets=[listener])


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(512)
    except OSError as error:
        raise CollectorError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            code="cannot_listen",
            hint="stop what uses the port, or choose another with --port",
        ) from error
    return listener


def create_app(photo_set: PhotoSet, state: CollectorState, tokens: Tokens) -> FastAPI:
    """The collector as an ASGI application."""
    app = FastAPI(title="CLS collector", description="A small collector over a folder of labelled photos.")
    _add_login(app, tokens)
    _add_meta(app, photo_set, state, _authorised(tokens, READ_SCHEME))
    _add_picsets(app, photo_set, state, tokens)
    _add_photos(app, photo_set, tokens)

    @app.exception_handler(FileError)
    def on_file_error(_request: Request, error: FileError) -> JSONResponse:
        # The state's folder is read-only or full: the caller is told what, not where on this machine.
        return JSONResponse({"detail": f"the collector's state {error.what}; start it with --state DIR"}, 507)

    return app


def _authorised(tokens: Tokens, scheme: str) -> Callable[[Request], None]:
    """A dependency that lets in requests with a good `Authorization: <scheme> TOKEN`."""

    def check(request: Request) -> None:
        given, _, token = request.headers.get("authorization", "").partition(" ")
        if given.lower() != scheme or not tokens.is_valid(token.strip()):
            raise HTTPException(401, f"log in, then send 'Authorization: {scheme} TOKEN'")

    return check


def _add_login(app: FastAPI, tokens: Tokens) -> None:
    @app.post("/v1/login")
    def login(body: LoginPayload) -> dict[str, str]:
        """Gives a token for a login and its password."""
        token = tokens.issue(body.login, body.password)
        if token is None:
            raise HTTPException(401, "wrong login or password")
        return {"token": token}


def _add_meta(app: FastAPI, photo_set: PhotoSet, state: CollectorState, check: Callable[[Request], None]) -> None:
    @app.post("/v1/meta/pictures", dependencies=[Depends(check)], response_model_exclude_unset=True)
    def pictures(body: PicturesQueryPayload) -> ServedPictures:
        """Lists the photos of groups by category; no group: of all groups; no category: all categories."""
        if body.list_by != _LIST_BY_CATEGORY:
            raise HTTPException(400, "this collector lists by category alone: listBy 0")
        unknown_modes = sorted(set(body.mode) - set(MODES))
        if unknown_modes:
            raise HTTPException(400, f"unknown mode {unknown_modes[0]}; modes are {', '.join(MODES)}")
        data: dict[str, ServedCategory] = {}
        for group in body.groups or photo_set.groups:
            for category, photos in photo_set.categories(group).items():
                if not body.categories or category in body.categories:
                    entries = [_entry(photo) for photo in photos if state.mode(photo.picset) in body.mode]
                    data.setdefault(category, ServedCategory(pictures=[])).pictures += entries
        unknown_groups = [group for group in body.groups if group not in photo_set.groups]
        answer = ServedPictures(data=data)
        if unknown_groups:
            answer.message = f"there is no group '{unknown_groups[0]}'; {photo_set.groups_hint()}"
        return answer

    @app.post("/v1/meta/picsets", dependencies=[Depends(check)], response_model_exclude_unset=True)
    def picsets(body: GuidsPayload) -> ServedPicsets:
        """Tells what is known of picsets; unknown GUIDs are missing from the answer."""
        contents = (photo_set.served_picset(guid) for guid in dict.fromkeys(body.guids))
        return ServedPicsets(data=[state.with_state(content) for content in contents if content is not None])


def _entry(photo: Photo) -> ServedPicture:
    return ServedPicture(filepath=photo.filepath, picsetGuid=photo.picset, filename=photo.name)


def _add_picsets(app: FastAPI, photo_set: PhotoSet, state: CollectorState, tokens: Tokens) -> None:
    def known(guids: list[str]) -> list[str]:
        unknown = [guid for guid in guids if guid not in photo_set.by_picset]
        if unknown:
            raise HTTPException(404, f"there is no picset {unknown[0]} ({len(unknown)} unknown)")
        return guids

    @app.post("/v1/picset/preparing", dependencies=[Depends(_authorised(tokens, READ_SCHEME))])
    def preparing(body: GuidsPayload) -> dict[str, str]:
        """Moves picsets back to preparation."""
        state.set_mode(known(body.guids), "PREPARING")
        return {}

    @app.post("/v1/picset/checking", dependencies=[Depends(_authorised(tokens, WRITE_SCHEME))])
    def checking(body: GuidsPayload) -> dict[str, str]:
        """Moves picsets to checking."""
        state.set_mode(known(body.guids), "CHECKING")
        return {}

    @app.post("/v1/picset/trained", dependencies=[Depends(_authorised(tokens, WRITE_SCHEME))])
    def trained(body: PicsetPayload) -> dict[str, str]:
        """Keeps the predictions of a picset; they are shown back in /v1/meta/picsets."""
        known([body.picset.guid])
        own = {photo.filepath for photo in photo_set.by_picset[body.picset.guid]}
        posted = (item.origin.filepath for item in body.items if item.origin is not None)
        # Items without an address are placeholders, and go along as they came.
        strange = [filepath for filepath in posted if filepath and filepath not in own]
        if strange:
            raise HTTPException(422, f"picset {body.picset.guid} has no photo {strange[0]}")
        state.set_trained(body)
        return {}


def _add_photos(app: FastAPI, photo_set: PhotoSet, tokens: Tokens) -> None:
    check = _authorised(tokens, READ_SCHEME)

    # Last of all routes: it takes every address that is no call of the interface.
    @app.api_route("/{filepath:path}", methods=["GET", "HEAD"], include_in_schema=False)
    def photo(filepath: str, request: Request) -> FileResponse:
        """One photo. Addresses are looked up in the set, never on the disk: none leads out of it."""
        # Without a password everyone is let in anyway, and a photo's address can be opened in a browser.
        if tokens.is_protected or "authorization" in request.headers:
            check(request)
        found = photo_set.by_filepath.get(filepath)
        if found is None or not found.file.is_file():
            raise HTTPException(404, "there is no such photo")
        content_type = mimetypes.guess_type(found.name)[0] or "application/octet-stream"
        return FileResponse(found.file, media_type=content_type)
