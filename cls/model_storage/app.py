"""The storage service's HTTP interface, port 8300."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema
from starlette.exceptions import HTTPException

from cls import __version__
from cls.errors import ClsError
from cls.model_storage.client import ListedVersion, VersionAnswer, VersionsAnswer
from cls.model_storage.names import RefusedError
from cls.model_storage.storage import ModelStorage, Published
from cls.model_storage.uploads import Upload, UploadRoom, receive_upload
from cls.pages.render import render

OPEN_PATHS = ("/", "/docs", "/openapi.json", "/health")
_log = logging.getLogger("cls.model_storage")


@dataclass(frozen=True)
class AppOptions:
    """What the interface needs to know of the service around it.

    Attributes:
        inference_url: address of the inference server, with `{host}` for the name the client used for this service.
    """

    max_upload_bytes: int
    inference_url: str


class HealthAnswer(BaseModel):
    """Answer of GET /health."""

    status: str


class LatestVersionAnswer(BaseModel):
    """Answer of GET /latest_semantic_version/{model}."""

    latest_version: str


class StateAnswer(BaseModel):
    """Answer of POST /load_model/{model} and /unload_model/{model}."""

    model: str
    state: str


def build_app(storage: ModelStorage, options: AppOptions, pool: ThreadPoolExecutor) -> FastAPI:
    """The application on the storage port."""
    app = FastAPI(
        title="CLS model storage",
        version=__version__,
        description="Keeps published models, versions them, and chooses what the inference server serves.",
        docs_url=None,
        redoc_url=None,
    )
    _add_pages(app)
    _add_uploads(app, storage, options, pool)
    _add_versions(app, storage, options)
    _add_serving(app, storage)
    app.add_exception_handler(ClsError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_unexpected)
    return app


def _add_pages(app: FastAPI) -> None:
    page = render("model_storage/docs.html", {})

    @app.get("/docs", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(page)

    @app.get("/health", tags=["service"], summary="Whether the service is up")
    def health() -> HealthAnswer:
        return HealthAnswer(status="ok")


_Zip = Annotated[bytes, Field(description="the package, a zip")]
_ModelName = Annotated[str, Field(description="name of the model's folder")]


class NewVersionForm(BaseModel):
    """Form of POST /upload_new_version/; it is read as a stream, and this describes it in the OpenAPI document."""

    src_file: _Zip
    model_name: _ModelName
    model_version: str = Field(description="such as 0.0.2")


class NumberedVersionForm(BaseModel):
    """Form of POST /upload_model; likewise."""

    file: _Zip
    model_name: _ModelName
    version: SkipJsonSchema[None] | int = Field(None, description="number of the version folder; the next one")


def _described(form: type[BaseModel]) -> dict[str, Any]:
    """A form as part of the OpenAPI document."""
    content = {"multipart/form-data": {"schema": form.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def _add_uploads(app: FastAPI, storage: ModelStorage, options: AppOptions, pool: ThreadPoolExecutor) -> None:
    async def publish(request: Request, file_field: str, work: Callable[[Upload], Published]) -> Published:
        repository = storage.repository
        stage = repository.new_stage()
        room = UploadRoom(options.max_upload_bytes, repository.free_bytes())
        try:
            upload = await receive_upload(request, stage / "upload.zip", file_field=file_field, room=room, pool=pool)
        except BaseException:
            repository.drop_stage(stage)
            raise

        def work_and_clean() -> Published:
            # From here on the thread owns the stage: it goes on when the sender goes away or the service is stopped.
            try:
                return work(upload)
            finally:
                repository.drop_stage(stage)

        return await asyncio.get_running_loop().run_in_executor(pool, work_and_clean)

    @app.post(
        "/upload_new_version/",
        tags=["publish"],
        summary="Publish a package under a semantic version and serve it",
        openapi_extra=_described(NewVersionForm),
    )
    async def upload_new_version(request: Request) -> VersionAnswer:
        def work(upload: Upload) -> Published:
            name, version = _field(upload, "model_name"), _field(upload, "model_version")
            return storage.publish(upload.path, upload.sha256, name, version)

        return VersionAnswer(version=str((await publish(request, "src_file", work)).version))

    @app.post(
        "/upload_model",
        tags=["publish"],
        summary="The older upload: publish a package as a numbered version and serve it",
        openapi_extra=_described(NumberedVersionForm),
    )
    async def upload_model(request: Request) -> VersionAnswer:
        def work(upload: Upload) -> Published:
            name, text = _field(upload, "model_name"), upload.fields.get("version", "")
            number = _version_number(text) if text else None
            return storage.publish_numbered(upload.path, upload.sha256, name, number)

        return VersionAnswer(version=str((await publish(request, "file", work)).number))


def _field(upload: Upload, name: str) -> str:
    if not upload.fields.get(name):
        raise RefusedError(422, f"the form has no {name}", code="missing_field", hint=f"send it with -F '{name}=…'")
    return upload.fields[name]


def _version_number(text: str) -> int:
    # Triton reads folder names as 64-bit numbers and leaves out those with a leading zero.
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and text[0] != "0"):
        raise RefusedError(
            422,
            f"version {text[:40]!r} is not the number of a version folder",
            code="invalid_version_number",
            hint="give a number from 1 on",
        )
    return int(text)


def _add_versions(app: FastAPI, storage: ModelStorage, options: AppOptions) -> None:
    @app.post("/set_semantic_version/", tags=["versions"], summary="Serve this semantic version")
    def set_semantic_version(
        model_name: Annotated[str, Query(description="name of the model's folder, or its group")],
        semantic_version: Annotated[str, Query(description="such as 0.0.2")],
    ) -> VersionAnswer:
        return VersionAnswer(version=str(storage.serve_semantic(model_name, semantic_version)))

    @app.get("/latest_semantic_version/{model}", tags=["versions"], summary="The highest semantic version")
    def latest_semantic_version(model: str) -> LatestVersionAnswer:
        return LatestVersionAnswer(latest_version=storage.latest_semantic_version(model))

    @app.get("/get_meta/{model}", tags=["versions"], summary="meta.json of the served version, or of a semantic one")
    def get_meta(
        model: str, semantic_version: Annotated[str | None, Query(description="of this version, such as 0.0.2")] = None
    ) -> JSONResponse:
        return JSONResponse(storage.meta(model, semantic_version).content)

    @app.get("/get_version/{model}", tags=["versions"], summary="Number of the served version folder")
    def get_version(model: str) -> VersionAnswer:
        return VersionAnswer(version=str(storage.served_number(model)))

    @app.post("/set_version/{model}", tags=["versions"], summary="Serve this version folder")
    def set_version(
        model: str, version: Annotated[str, Query(description="number of a version folder")]
    ) -> VersionAnswer:
        return VersionAnswer(version=str(storage.serve_number(model, _version_number(version))))

    @app.get("/versions/{model}", tags=["versions"], summary="Every version, and where the served one answers")
    def versions(model: str, request: Request) -> VersionsAnswer:
        stored, served = storage.versions(model)
        return VersionsAnswer(
            model=storage.repository.model_named(model),
            served=str(served),
            engine=storage.engine.description,
            inference_url=options.inference_url.replace("{host}", _host_in_url(request)),
            versions=[
                ListedVersion(
                    version=str(item.number),
                    semantic_version=str(item.semantic) if item.semantic else None,
                    sha256=item.sha256 or None,
                )
                for item in stored
            ],
        )


def _host_in_url(request: Request) -> str:
    host = request.url.hostname or "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _add_serving(app: FastAPI, storage: ModelStorage) -> None:
    @app.post("/load_model/{model}", tags=["serving"], summary="Make the inference server load a model")
    def load_model(model: str) -> StateAnswer:
        storage.load(model)
        return StateAnswer(model=model, state="READY")

    @app.post("/unload_model/{model}", tags=["serving"], summary="Make the inference server stop serving a model")
    def unload_model(model: str) -> StateAnswer:
        storage.unload(model)
        return StateAnswer(model=model, state="UNAVAILABLE")

    @app.get("/index/", tags=["serving"], summary="What the inference server says of every model")
    def index() -> list[dict[str, str]]:
        return [state.to_dict() for state in storage.index()]


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    """An expected error, with the codes that stay when its words change."""
    assert isinstance(error, ClsError)  # noqa: S101 - what it is registered for; likewise below
    status = error.status if isinstance(error, RefusedError) else 500
    if status == 500:
        _log.error("%s", error)
    elif request.method != "GET":  # Reading what is not there is no event; what somebody tried to change is.
        _log.warning("%s %s refused with %d: %s", request.method, request.url.path, status, error)
    code, *faults = error.codes
    return JSONResponse({"detail": str(error), "code": code, **({"faults": faults} if faults else {})}, status)


async def _answer_validation(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    text = "; ".join(f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in error.errors())
    return JSONResponse({"detail": text or "the request cannot be read"}, 422)


async def _answer_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    return JSONResponse({"detail": str(error.detail)}, error.status_code)


async def _answer_unexpected(request: Request, _: Exception) -> JSONResponse:
    _log.error("%s %s failed; see the traceback above or below", request.method, request.url.path)
    return JSONResponse({"detail": "the service failed; its log says more"}, 500)
