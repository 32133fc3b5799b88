"""The embedded engine over gRPC: the Open Inference Protocol v2 as Triton speaks it, beside the HTTP side."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from cls import __version__
from cls.errors import StorageError
from cls.model_storage.inference.embedded import EmbeddedEngine
from cls.model_storage.inference.engine import READY
from cls.model_storage.inference.grpc_tensors import build_message, parse_message
from cls.model_storage.inference.http_app import EXTENSIONS, MAX_BODY_BYTES, SERVER_NAME
from cls.model_storage.inference.loaded_version import LoadedVersion
from cls.model_storage.inference.tensors import ProtocolError
from cls.model_storage.refusal import RefusedError
from cls.model_storage.storage import ModelStorage

if TYPE_CHECKING:
    # grpc and the generated messages come without annotations.
    Message = Any
    Server = Any
    Context = Any

SERVICE = "inference.GRPCInferenceService"
_OPEN_METHODS = ("ServerLive", "ServerReady")
_STATUS_NAMES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 413: "RESOURCE_EXHAUSTED"}


def start_grpc(
    storage: ModelStorage, engine: EmbeddedEngine, *, host: str, port: int, token: str
) -> tuple[Server, int]:
    """Starts answering gRPC.

    Args:
        storage: load and unload go through it, so that they wait for a publication that is under way.
        engine: answers everything else.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        token: asked of every client but for its health checks; empty for none.

    Returns:
        The server, to be stopped, and its port.

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
            f"port {port} of {host} cannot be used for gRPC", hint="give another with --infer-grpc-port"
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
            self._version(request.name, request.version)
        except ProtocolError:
            return self._pb.ModelReadyResponse(ready=False)
        return self._pb.ModelReadyResponse(ready=True)

    def metadata(self, request: Message) -> Message:
        version = self._version(request.name, request.version)
        numbers = [version.number] if request.version else self._engine.numbers(version.model)
        return self._pb.ModelMetadataResponse(**version.metadata(numbers))

    def config(self, request: Message) -> Message:
        from google.protobuf import json_format

        config = self._version(request.name, request.version).config_json
        answer = self._pb.ModelConfigResponse()
        json_format.ParseDict(config, answer.config, ignore_unknown_fields=True)
        return answer

    def statistics(self, request: Message) -> Message:
        from google.protobuf import json_format

        answer = self._pb.ModelStatisticsResponse()
        for model in [request.name] if request.name else self._engine.models():
            first = self._version(model, request.version)
            for number in [first.number] if request.version else self._engine.numbers(first.model):
                counts = self._engine.version(first.model, number).counts.to_dict()
                entry = answer.model_stats.add(name=first.model, version=str(number))
                json_format.ParseDict(counts, entry)
        return answer

    def infer(self, request: Message) -> Message:
        version = self._version(request.model_name, request.model_version)
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

    def _version(self, model: str, text: str) -> LoadedVersion:
        if text and not (text.isascii() and text.isdigit()):
            raise ProtocolError(400, f"failed to get model version from specified version string '{text}'")
        return self._engine.version(model, int(text) if text else None)


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
            scheme, _, sent = (given[0] if given else "").partition(" ")
            is_known = hmac.compare_digest(sent.strip().encode(), token.encode())
            if scheme.lower() == "bearer" and is_known:
                return continuation(details)
            # A handler of a stream does not read what it is not asked to read.
            return grpc.stream_unary_rpc_method_handler(abort)

    return TokenGuard()
