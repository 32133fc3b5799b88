"""The embedded engine over HTTP and gRPC: the Open Inference Protocol v2 with binary tensors, as Triton speaks it."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from cls import __version__
from cls.errors import StorageError
from cls.model_storage.inference.embedded import EmbeddedEngine
from cls.model_storage.inference.engine import READY
from cls.model_storage.inference.loaded_version import metadata_of
from cls.model_storage.inference.tensors import (
    HEADER_LENGTH,
    ProtocolError,
    build_answer,
    build_message,
    parse_message,
    parse_request,
)
from cls.model_storage.names import RefusedError
from cls.model_storage.storage import ModelStorage

if TYPE_CHECKING:
    # grpc and the generated messages come without annotations.
    Message = Any
    Server = Any
    Context = Any

Result = TypeVar("Result")

SERVICE = "inference.GRPCInferenceService"
_OPEN_METHODS = ("ServerLive", "ServerReady")
_STATUS_NAMES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 413: "RESOURCE_EXHAUSTED"}

SERVER_NAME = "cls-embedded"
EXTENSIONS = ["binary_tensor_data", "model_configuration", "model_repository", "statistics"]
MAX_BODY_BYTES = 1 << 30


def start_grpc(
    storage: ModelStorage, engine: EmbeddedEngine, *, host: str, port: int, token: str
) -> tuple[Server, int]:
    """Starts answering gRPC; returns the server, to be stopped, and its port: any free one for port 0.

    Load and unload go through the storage, so that they wait for a publication that is under way. A token, where there
    is one, is asked of every call but health checks.

    Raises:
        StorageError: the port cannot be listened on.
    """
    # Its own C library would write to the terminal.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    import grpc

    pool = ThreadPoolExecutor(max(2, os.cpu_count() or 2), "infer-grpc")
    server = grpc.server(
        pool,
        interceptors=[_token_guard(token)] if token else [],
        options=[
            ("grpc.max_receive_message_length", MAX_BODY_BYTES),
            ("grpc.max_send_message_length", -1),
            # A port that somebody else listens on is an error, as it is for HTTP.
            ("grpc.so_reuseport", 0),
        ],
    )
    handlers = {name: _handler(name, call) for name, call in _grpc_calls(storage, engine).items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    try:
        bound = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError as error:
        raise StorageError(
            f"port {port} of {host} cannot be used for gRPC",
            code="port_unusable",
            hint="give another with --infer-grpc-port",
        ) from error
    server.start()
    return server, int(bound)


def _grpc_calls(storage: ModelStorage, engine: EmbeddedEngine) -> dict[str, Callable[[Message], object]]:
    """Name -> the call: its answer as JSON values, or as the message itself. Others are refused as not implemented."""
    calls = _Calls(storage, engine)
    return {
        "ServerLive": lambda _: {"live": True},
        "ServerReady": lambda _: {"ready": True},
        "ServerMetadata": lambda _: calls.server(),
        "ModelReady": lambda asked: {"ready": calls.why_not_ready(asked.name, asked.version) is None},
        "ModelMetadata": lambda asked: calls.metadata(asked.name, asked.version),
        "ModelConfig": lambda asked: {"config": json.loads(engine.version(asked.name, asked.version).config_json)},
        "ModelStatistics": lambda asked: calls.statistics(asked.name, asked.version),
        "ModelInfer": lambda asked: engine.version(asked.model_name, asked.model_version).infer(
            parse_message(asked), build_message
        ),
        "RepositoryIndex": lambda asked: {"models": calls.index(is_ready_only=asked.ready)},
        "RepositoryModelLoad": lambda asked: calls.load(asked.model_name, asked.parameters),
        "RepositoryModelUnload": lambda asked: calls.unload(asked.model_name),
    }


def _handler(name: str, call: Callable[[Message], object]) -> Any:
    """A call as gRPC wants it: messages from and to bytes, and our errors as its status codes."""
    import grpc
    from google.protobuf import json_format
    from tritonclient.grpc import service_pb2 as pb

    method = pb.DESCRIPTOR.services_by_name[SERVICE.rpartition(".")[2]].methods_by_name[name]
    request_type, answer_type = getattr(pb, method.input_type.name), getattr(pb, method.output_type.name)

    def answer(request: Message, context: Context) -> Message:
        try:
            content = call(request)
        except ProtocolError as error:
            status, text = _STATUS_NAMES.get(error.status, "INTERNAL"), str(error)
        except RefusedError as error:
            # Triton answers whatever the repository refuses so.
            status, text = "INVALID_ARGUMENT", str(error)
        else:
            if isinstance(content, answer_type):
                return content
            return json_format.Parse(json.dumps(content), answer_type(), ignore_unknown_fields=True)
        return context.abort(getattr(grpc.StatusCode, status), text)

    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=request_type.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


def is_bearer(header: bytes, token: str) -> bool:
    """Whether the value of an `Authorization` header is `bearer TOKEN`."""
    scheme, _, sent = header.partition(b" ")
    return hmac.compare_digest(sent.strip(), token.encode()) and scheme.lower() == b"bearer"


def _token_guard(token: str) -> Any:
    """Refuses calls without the token, before their message is read."""
    import grpc

    def abort(_: Iterable[Message], context: Context) -> None:
        context.abort(
            grpc.StatusCode.UNAUTHENTICATED, "a valid token is needed; send the metadata 'authorization: bearer TOKEN'"
        )

    class TokenGuard(grpc.ServerInterceptor):  # type: ignore[misc]
        def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
            """The call's handler, or one that refuses."""
            if details.method.rpartition("/")[2] in _OPEN_METHODS:
                return continuation(details)
            given = [value for key, value in details.invocation_metadata if key == "authorization"]
            if given and is_bearer(given[0].encode(), token):
                return continuation(details)
            # A handler of a stream does not read what it is not asked to read.
            return grpc.stream_unary_rpc_method_handler(abort)

    return TokenGuard()


class _Calls:
    """The calls that both protocols answer alike, as JSON values; see `EmbeddedEngine.versions` for their errors."""

    def __init__(self, storage: ModelStorage, engine: EmbeddedEngine) -> None:
        self._storage, self._engine = storage, engine

    def server(self) -> object:
        return {"name": SERVER_NAME, "version": __version__, "extensions": EXTENSIONS}

    def why_not_ready(self, model: str, number: str = "") -> str | None:
        try:
            self._engine.version(model, number)
        except ProtocolError as error:
            return str(error)
        return None

    def metadata(self, model: str, number: str = "") -> object:
        return asdict(metadata_of(self._engine.versions(model, number)))

    def statistics(self, model: str = "", number: str = "") -> object:
        models = [model] if model else self._engine.models()
        entries = []
        for version in [version for name in models for version in self._engine.versions(name, number)]:
            with version.counts.guard:
                entries.append({"name": version.model, "version": str(version.number), **asdict(version.counts)})
        return {"model_stats": entries}

    def index(self, *, is_ready_only: bool) -> object:
        return [state.to_dict() for state in self._engine.index() if state.state == READY or not is_ready_only]

    def load(self, model: str, parameters: object = None) -> object:
        if parameters:
            raise ProtocolError(400, "loading with a config or files of the request is not supported here")
        self._storage.load(model)
        return {}

    def unload(self, model: str) -> object:
        self._storage.unload(model)
        return {}


def build_inference_app(storage: ModelStorage, engine: EmbeddedEngine, pool: ThreadPoolExecutor) -> Starlette:
    """The application on the inference port. Models run in threads of the pool; the event loop only moves bytes."""
    endpoints = _Endpoints(storage, engine, pool)
    model = "/v2/models/{model}"
    version = model + "/versions/{number}"
    routes = [
        Route("/v2", endpoints.server),
        Route("/v2/health/live", endpoints.healthy),
        Route("/v2/health/ready", endpoints.healthy),
        Route("/v2/models/stats", endpoints.statistics),
        Route("/v2/repository/index", endpoints.index, methods=["POST"]),
        Route("/v2/repository/models/{model}/load", endpoints.load, methods=["POST"]),
        Route("/v2/repository/models/{model}/unload", endpoints.unload, methods=["POST"]),
    ]
    for base in (model, version):
        routes += [
            Route(base, endpoints.metadata),
            Route(base + "/ready", endpoints.ready),
            Route(base + "/config", endpoints.config),
            Route(base + "/stats", endpoints.statistics),
            Route(base + "/infer", endpoints.infer, methods=["POST"]),
        ]
    return Starlette(
        routes=routes,
        exception_handlers={
            ProtocolError: _answer_error,
            RefusedError: _answer_error,
            404: _answer_unknown_path,
            405: _answer_unknown_path,
        },
    )


class _Endpoints:
    def __init__(self, storage: ModelStorage, engine: EmbeddedEngine, pool: ThreadPoolExecutor) -> None:
        self._calls = _Calls(storage, engine)
        self._engine = engine
        self._pool = pool

    async def server(self, _: Request) -> Response:
        return _json(self._calls.server())

    async def healthy(self, _: Request) -> Response:
        return Response(status_code=200)

    async def metadata(self, request: Request) -> Response:
        return _json(self._calls.metadata(**request.path_params))

    async def ready(self, request: Request) -> Response:
        reason = self._calls.why_not_ready(**request.path_params)
        return Response(status_code=200) if reason is None else _json({"error": reason}, 400)

    async def config(self, request: Request) -> Response:
        return Response(self._engine.version(**request.path_params).config_json, media_type="application/json")

    async def statistics(self, request: Request) -> Response:
        return _json(self._calls.statistics(**request.path_params))

    async def index(self, request: Request) -> Response:
        is_ready_only = _parsed(await _body(request)).ready is True
        return _json(await self._in_thread(partial(self._calls.index, is_ready_only=is_ready_only)))

    async def load(self, request: Request) -> Response:
        parameters = _parsed(await _body(request)).parameters
        await self._in_thread(partial(self._calls.load, request.path_params["model"], parameters))
        return Response(status_code=200)

    async def unload(self, request: Request) -> Response:
        await _body(request)
        await self._in_thread(partial(self._calls.unload, request.path_params["model"]))
        return Response(status_code=200)

    async def infer(self, request: Request) -> Response:
        version = self._engine.version(**request.path_params)
        body = await _body(request)
        header_length = request.headers.get(HEADER_LENGTH)

        def run() -> tuple[bytes, int | None]:
            return version.infer(parse_request(body, header_length), build_answer)

        content, json_length = await self._in_thread(run)
        if json_length is None:
            return Response(content, media_type="application/json")
        return Response(content, media_type="application/octet-stream", headers={HEADER_LENGTH: str(json_length)})

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)


async def _body(request: Request) -> bytes:
    """The request's body, unpacked where the client packed it.

    Raises:
        ProtocolError: 413, it is too big; 400, it is not packed as it says, or was cut off.
    """
    chunks: list[bytes] = []
    size_bytes = 0
    try:
        async for chunk in request.stream():
            size_bytes += len(chunk)
            if size_bytes > MAX_BODY_BYTES:
                raise ProtocolError(413, f"the request is bigger than {MAX_BODY_BYTES} bytes")
            chunks.append(chunk)
    except ClientDisconnect as error:
        raise ProtocolError(400, "the request was cut off") from error
    body = b"".join(chunks)
    encoding = request.headers.get("content-encoding", "identity")
    if encoding == "identity":
        return body
    if encoding not in ("gzip", "deflate"):
        raise ProtocolError(400, f"content encoding '{encoding}' is not supported")
    try:
        # 32: gzip or zlib, by its first bytes.
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
        unpacked = unpacker.decompress(body, MAX_BODY_BYTES)
    except zlib.error as error:
        raise ProtocolError(400, f"the request cannot be unpacked: {error}") from error
    if not unpacker.eof:
        raise ProtocolError(400, f"the request is cut off, or unpacks to more than {MAX_BODY_BYTES} bytes")
    return unpacked


class _RepositoryRequest(BaseModel):
    """Body of a call of the repository: `ready` of its index, `parameters` of a load."""

    ready: JsonValue = None
    parameters: JsonValue = None


def _parsed(body: bytes) -> _RepositoryRequest:
    """The JSON object of a request; nothing is an empty one."""
    try:
        return _RepositoryRequest.model_validate_json(body.strip() or b"{}")
    except ValidationError as error:
        raise ProtocolError(400, f"failed to parse the request JSON buffer: {error.errors()[0]['msg']}") from error


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content), status, media_type="application/json")


async def _answer_error(_: Request, error: Exception) -> Response:
    # Triton answers whatever the repository refuses with 400.
    return _json({"error": str(error)}, error.status if isinstance(error, ProtocolError) else 400)


async def _answer_unknown_path(request: Request, _: Exception) -> Response:
    return _json({"error": f"there is no {request.method} {request.url.path}"}, 404)
