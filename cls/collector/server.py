"""The own small collector: the collector's HTTP interface (spec section 5) over a folder of labelled photos."""

from __future__ import annotations

import mimetypes
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse

from cls.collector.payloads import MODES, GuidsPayload, LoginPayload, PicsetPayload, PicturesQueryPayload
from cls.collector.photo_set import Photo, PhotoSet
from cls.collector.state import CollectorState
from cls.collector.tokens import Tokens
from cls.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable

READ_SCHEME = "bearer"
WRITE_SCHEME = "token"
# The collector is one category list a group; no other way of listing is known of it.
_LIST_BY_CATEGORY = 0


def create_app(photo_set: PhotoSet, state: CollectorState, tokens: Tokens) -> FastAPI:
    """The collector as an ASGI application.

    Args:
        photo_set: what is served.
        state: where modes and predictions are kept.
        tokens: who is let in.
    """
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
        if given.lower() != scheme or not tokens.is_good(token.strip()):
            raise HTTPException(401, f"log in, then send 'Authorization: {scheme} TOKEN'")

    return check


def _add_login(app: FastAPI, tokens: Tokens) -> None:
    @app.post("/v1/login")
    def login(body: LoginPayload) -> dict[str, str]:
        """Gives a token for a login and its password."""
        token = tokens.give(body.login, body.password)
        if token is None:
            raise HTTPException(401, "wrong login or password")
        return {"token": token}


def _add_meta(app: FastAPI, photo_set: PhotoSet, state: CollectorState, check: Callable[[Request], None]) -> None:
    @app.post("/v1/meta/pictures", dependencies=[Depends(check)])
    def pictures(body: PicturesQueryPayload) -> dict[str, Any]:
        """Lists the photos of groups by category; no group: of all groups; no category: all categories."""
        if body.list_by != _LIST_BY_CATEGORY:
            raise HTTPException(400, "this collector lists by category alone: listBy 0")
        unknown_modes = sorted(set(body.mode) - set(MODES))
        if unknown_modes:
            raise HTTPException(400, f"unknown mode {unknown_modes[0]}; modes are {', '.join(MODES)}")
        data: dict[str, dict[str, list[dict[str, str]]]] = {}
        for group in body.groups or photo_set.groups:
            for category, photos in photo_set.categories(group).items():
                if not body.categories or category in body.categories:
                    entries = [_entry(photo) for photo in photos if state.mode(photo.picset) in body.mode]
                    data.setdefault(category, {"pictures": []})["pictures"] += entries
        unknown_groups = [group for group in body.groups if group not in photo_set.groups]
        answer: dict[str, Any] = {"data": data}
        if unknown_groups:
            answer["message"] = f"there is no group '{unknown_groups[0]}'; {photo_set.groups_hint()}"
        return answer

    @app.post("/v1/meta/picsets", dependencies=[Depends(check)])
    def picsets(body: GuidsPayload) -> dict[str, Any]:
        """Tells what is known of picsets; unknown GUIDs are missing from the answer."""
        contents = (photo_set.picset_content(guid) for guid in dict.fromkeys(body.guids))
        return {"data": [state.decorate(content) for content in contents if content is not None]}


def _entry(photo: Photo) -> dict[str, str]:
    return {"filepath": photo.filepath, "picsetGuid": photo.picset, "filename": photo.name}


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
