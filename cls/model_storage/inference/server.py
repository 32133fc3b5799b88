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
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, JsonValue, ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from cls import __version__
from cls.errors import StorageError
from cls.model_storage.inference.embedded import EmbeddedEngine
from cls.model_storage.inference.engine import READY
from cls.model_storage.inference.loaded_version import LoadedVersion, metadata_of
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
    handlers = {name: _handler(name, function) for name, function in _Methods(storage, engine).by_name().items()}
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


class _Methods:
    """One method a call of the service: request message -> answer message."""

    def __init__(self, storage: ModelStorage, engine: EmbeddedEngine) -> None:
        from tritonclient.grpc import service_pb2

        self._storage = storage
        self._engine = engine
        self._pb: Any = service_pb2

    def by_name(self) -> dict[str, Callable[[Message], Message]]:
        """The calls that are answered; any other is refused as not implemented."""
        return {
            "ServerLive": lambda _: self._pb.ServerLiveResponse(live=True),
            "ServerReady": lambda _: self._pb.ServerReadyResponse(ready=True),
            "ServerMetadata": lambda _: self._pb.ServerMetadataResponse(
                name=SERVER_NAME, version=__version__, extensions=EXTENSIONS
            ),
            "ModelReady": self.ready,
            "ModelMetadata": self.metadata,
            "ModelConfig": self.config,
            "ModelStatistics": self.statistics,
            "ModelInfer": self.infer,
            "RepositoryIndex": self.index,
            "RepositoryModelLoad": self.load,
            "RepositoryModelUnload": self.unload,
        }

    def ready(self, request: Message) -> Message:
        try:
            self._engine.version(request.name, request.version)
        except ProtocolError:
            return self._pb.ModelReadyResponse(ready=False)
        return self._pb.ModelReadyResponse(ready=True)

    def metadata(self, request: Message) -> Message:
        versions = self._engine.versions(request.name, request.version)
        return self._pb.ModelMetadataResponse(**asdict(metadata_of(versions)))

    def config(self, request: Message) -> Message:
        from google.protobuf import json_format

        config = self._engine.version(request.name, request.version).config_json
        answer = self._pb.ModelConfigResponse()
        json_format.Parse(config, answer.config, ignore_unknown_fields=True)
        return answer

    def statistics(self, request: Message) -> Message:
        from google.protobuf import json_format

        answer = self._pb.ModelStatisticsResponse()
        for model in [request.name] if request.name else self._engine.models():
            for version in self._engine.versions(model, request.version):
                entry = answer.model_stats.add(name=model, version=str(version.number))
                json_format.ParseDict(version.counts.as_json(), entry)
        return answer

    def infer(self, request: Message) -> Message:
        version = self._engine.version(request.model_name, request.model_version)
        return version.infer(parse_message(request), build_message)

    def index(self, request: Message) -> Message:
        answer = self._pb.RepositoryIndexResponse()
        for state in self._engine.index():
            if state.state == READY or not request.ready:
                answer.models.add(**state.to_dict())
        return answer

    def load(self, request: Message) -> Message:
        if request.parameters:
            raise ProtocolError(400, "loading with a config or files of the request is not supported here")
        self._storage.load(request.model_name)
        return self._pb.RepositoryModelLoadResponse()

    def unload(self, request: Message) -> Message:
        self._storage.unload(request.model_name)
        return self._pb.RepositoryModelUnloadResponse()


def _handler(name: str, function: Callable[[Message], Message]) -> Any:
    """A call as gRPC wants it: messages from and to bytes, and our errors as its status codes."""
    import grpc
    from tritonclient.grpc import service_pb2 as pb

    messages = pb.DESCRIPTOR.services_by_name[SERVICE.rpartition(".")[2]].methods_by_name[name]
    request_type = getattr(pb, messages.input_type.name)

    def answer(request: Message, context: Context) -> Message:
        try:
            return function(request)
        except ProtocolError as error:
            status, text = _STATUS_NAMES.get(error.status, "INTERNAL"), str(error)
        except RefusedError as error:
            # Triton answers whatever the repository refuses so.
            status, text = "INVALID_ARGUMENT", str(error)
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


def build_inference_app(storage: ModelStorage, engine: EmbeddedEngine, pool: ThreadPoolExecutor) -> Starlette:
    """The application on the inference port. Models run in threads of the pool; the event loop only moves bytes."""
    endpoints = _Endpoints(storage, engine, pool)
    model = "/v2/models/{model}"
    version = model + "/versions/{number}"
    routes = [
        Route("/v2", endpoints.server),
        Route("/v2/health/live", endpoints.healthy),
        Route("/v2/health/ready", endpoints.healthy),
        Route("/v2/models/stats", endpoints.all_statistics),
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
        self._storage = storage
        self._engine = engine
        self._pool = pool

    async def server(self, _: Request) -> Response:
        return _json({"name": SERVER_NAME, "version": __version__, "extensions": EXTENSIONS})

    async def healthy(self, _: Request) -> Response:
        return Response(status_code=200)

    async def metadata(self, request: Request) -> Response:
        return _json(asdict(metadata_of(self._engine.versions(**request.path_params))))

    async def ready(self, request: Request) -> Response:
        try:
            self._engine.version(**request.path_params)
        except ProtocolError as error:
            return _json({"error": str(error)}, 400)
        return Response(status_code=200)

    async def config(self, request: Request) -> Response:
        return Response(self._engine.version(**request.path_params).config_json, media_type="application/json")

    async def statistics(self, request: Request) -> Response:
        return _statistics(self._engine.versions(**request.path_params))

    async def all_statistics(self, _: Request) -> Response:
        return _statistics([one for model in self._engine.models() for one in self._engine.versions(model)])

    async def index(self, request: Request) -> Response:
        wanted = _parsed(await _body(request))
        states = await self._in_thread(self._engine.index)
        return _json([state.to_dict() for state in states if state.state == READY or wanted.ready is not True])

    async def load(self, request: Request) -> Response:
        if _parsed(await _body(request)).parameters:
            raise ProtocolError(400, "loading with a config or files of the request is not supported here")
        await self._in_thread(self._storage.load, request.path_params["model"])
        return Response(status_code=200)

    async def unload(self, request: Request) -> Response:
        await _body(request)
        await self._in_thread(self._storage.unload, request.path_params["model"])
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

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


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


def _statistics(versions: Iterable[LoadedVersion]) -> Response:
    entries = [{"name": one.model, "version": str(one.number), **one.counts.as_json()} for one in versions]
    return _json({"model_stats": entries})


async def _answer_error(_: Request, error: Exception) -> Response:
    # Triton answers whatever the repository refuses with 400.
    return _json({"error": str(error)}, error.status if isinstance(error, ProtocolError) else 400)


async def _answer_unknown_path(request: Request, _: Exception) -> Response:
    return _json({"error": f"there is no {request.method} {request.url.path}"}, 404)
