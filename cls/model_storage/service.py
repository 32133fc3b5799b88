"""The model storage service: starts its parts, says where they are, stops them."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import signal
import socket
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from cls.errors import StorageError, UsageError
from cls.machine import is_loopback
from cls.model_storage.app import OPEN_PATHS, AppOptions, build_app
from cls.model_storage.config import ServiceOptions
from cls.model_storage.inference.embedded import EmbeddedEngine
from cls.model_storage.inference.engine import EngineError, InferenceEngine, TritonServer
from cls.model_storage.inference.server import build_inference_app, is_bearer, start_grpc
from cls.model_storage.repository import ModelRepository
from cls.model_storage.ssh import AUTHORIZED_KEYS_FILE_NAME, serve_files
from cls.model_storage.storage import ModelStorage
from cls.package.plans import Gpu, PlanHost, gpus_of_this_machine

_log = logging.getLogger("cls.model_storage")

_HEALTH_PATHS = ("/v2/health/live", "/v2/health/ready")
_STOP_TIMEOUT_S = 1
_UPLOAD_THREADS = 8
_LAST_PORT = 65535
_RETRY_S = 5.0


class AccessGuard:
    """Lets requests through that may pass; answers the others itself, before their body is read.

    With a token, every path but the open ones needs `Authorization: bearer TOKEN`. Without one the service is bound to
    loopback, and anyone on this machine may ask, but not a web page that a browser on this machine happens to show: its
    requests carry another origin, or (after DNS rebinding) another host name.

    Its answers name the error as the guarded interface does: `error_key` is `detail` or `error`.
    """

    def __init__(self, app: ASGIApp, *, token: str, open_paths: Collection[str], error_key: str) -> None:
        self._app = app
        self._token = token
        self._open_paths = frozenset(open_paths)
        self._error_key = error_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes it on."""
        if scope["type"] == "http":
            refused = self._refused(scope)
            if refused is not None:
                await self._answer(send, *refused)
                return
        await self._app(scope, receive, send)

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        headers = dict(scope["headers"])
        if self._token:
            if scope["path"] in self._open_paths:
                return None
            if is_bearer(headers.get(b"authorization", b""), self._token):
                return None
            return 401, "a valid token is needed; send the header 'Authorization: bearer TOKEN'"
        host = headers.get(b"host", b"").decode("latin-1")
        if not is_loopback(_host_name(host)):
            return (
                403,
                f"host {host[:80]!r} is not this machine; set CLS_MODEL_STORAGE_TOKEN to be reached by other names",
            )
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower() != f"http://{host.lower()}":
            return 403, "requests of other web pages are refused"
        return None

    async def _answer(self, send: Send, status: int, text: str) -> None:
        body = json.dumps({self._error_key: text}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _host_name(host: str) -> str:
    """`[::1]:8300` -> `::1`, `localhost:8300` -> `localhost`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def run_service(options: ServiceOptions) -> None:
    """Runs the service until SIGINT or SIGTERM.

    Raises:
        UsageError: the address needs a token and there is none.
        StorageError: the root is in use or cannot be used, or a port is taken.
    """
    if not is_loopback(options.host) and not options.token:
        raise UsageError(
            f"other machines can reach {options.host}, and no token is set up",
            code="missing_token",
            hint="set the environment variable CLS_MODEL_STORAGE_TOKEN, or leave --host at 127.0.0.1",
        )
    repository = ModelRepository(options.root)
    repository.lock()
    try:
        for line in repository.recover():
            _log.warning("taken back: %s", line)
        asyncio.run(_serve(options, repository))
    finally:
        repository.unlock()


async def _serve(options: ServiceOptions, repository: ModelRepository) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_bound(options.host, options.port, "--port"))
        ssh_listener = stack.enter_context(_bound(options.host, options.ssh_port, "--ssh-port"))
        infer_listener: socket.socket | None = None
        grpc_port = 0
        engine: InferenceEngine
        if options.triton_url:
            engine, inference_url = TritonServer(options.triton_url), options.triton_url
        else:
            infer_listener = stack.enter_context(_bound(options.host, options.infer_port, "--infer-port"))
            engine, inference_url = EmbeddedEngine(repository), f"http://{{host}}:{_port(infer_listener)}"
            grpc_port = _grpc_port(options, _port(infer_listener))
        stack.callback(engine.close)
        storage = ModelStorage(repository, engine, plan_host_of(options))
        servers = _Servers(stack)
        app_options = AppOptions(options.max_upload_mb << 20, inference_url)
        app: ASGIApp = build_app(storage, app_options, _threads(stack, _UPLOAD_THREADS, "upload"))
        app = AccessGuard(app, token=options.token, open_paths=OPEN_PATHS, error_key="detail")
        await servers.start(listener, app)
        if isinstance(engine, EmbeddedEngine) and infer_listener is not None:
            await _load_now(storage)
            app = build_inference_app(storage, engine, _threads(stack, max(2, os.cpu_count() or 2), "infer"))
            app = AccessGuard(app, token=options.token, open_paths=_HEALTH_PATHS, error_key="error")
            await servers.start(infer_listener, app)
            server, bound_port = start_grpc(storage, engine, host=options.host, port=grpc_port, token=options.token)
            stack.push_async_callback(lambda: asyncio.to_thread(server.stop(_STOP_TIMEOUT_S).wait))
            shown_url = f"{inference_url} and grpc://{{host}}:{bound_port}"
        else:
            shown_url = inference_url
            stack.callback(loop.create_task(_load_when_up(storage)).cancel)
        acceptor = await serve_files(
            ssh_listener, root=repository.root, ssh_folder=repository.ssh_folder, token=options.token
        )
        stack.callback(acceptor.close)
        has_keys = (repository.ssh_folder / AUTHORIZED_KEYS_FILE_NAME).is_file()
        login = (
            "password: the token" if options.token else "a key of ssh/authorized_keys" if has_keys else "no password"
        )
        host = f"[{options.host}]" if ":" in options.host else options.host
        print(
            f"model storage  http://{host}:{_port(listener)}/docs",
            f"inference      {shown_url.replace('{host}', host)}  ({engine.description})",
            f"files          scp -P {_port(ssh_listener)} user@{host}:/storage/other/FILE .  ({login})",
            f"storage root   {options.root}",
            sep="\n",
            flush=True,
        )
        await stop.wait()
        _log.info("stopping")


def plan_host_of(options: ServiceOptions) -> PlanHost | None:
    """The machine that plans must be for: Triton's by the options, else this one's GPUs where Triton runs here.

    Triton does not report its TensorRT: the version is known only from the options. None without a Triton, since the
    embedded engine runs no plans.
    """
    if not options.triton_url:
        return None
    is_here = is_loopback(urlsplit(options.triton_url).hostname or "")
    if options.gpu:
        gpus: tuple[Gpu, ...] = (Gpu("", options.gpu),)
        source = "as --gpu says"
    else:
        gpus = gpus_of_this_machine() if is_here else ()
        source = "by nvidia-smi" if gpus else "of which no GPU is known: name it with --gpu"
    host = PlanHost(gpus, options.tensorrt, f"Triton's machine ({source})")
    for what, is_known, option in (("GPU", bool(gpus), "--gpu"), ("TensorRT", bool(options.tensorrt), "--tensorrt")):
        if not is_known:
            _log.info("plans are not checked against Triton's %s: it is not known here (%s)", what, option)
    return host


def _threads(stack: AsyncExitStack, count: int, name: str) -> ThreadPoolExecutor:
    """Threads that are waited for at the end: a publication under way is finished."""
    pool = ThreadPoolExecutor(count, name)
    stack.callback(pool.shutdown)
    return pool


def _grpc_port(options: ServiceOptions, http_port: int) -> int:
    """The port the gRPC side is to take, found to be free before anything is started; 0 for any."""
    port = options.infer_grpc_port
    if port is not None:
        _bound(options.host, port, "--infer-grpc-port").close()
        return port
    port = http_port + 1 if options.infer_port and http_port < _LAST_PORT else 0
    try:
        _bound(options.host, port, "--infer-grpc-port").close()
    except StorageError as error:
        # No port was asked for: another one will do.
        _log.warning("%s; gRPC takes any free one", error.line())
        return 0
    return port


def _bound(host: str, port: int, option: str) -> socket.socket:
    """A socket that listens, or an error that names the option to change."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        # asyncio sends small answers at once (TCP_NODELAY) only on sockets whose protocol is named: 40 ms a request.
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StorageError(
            f"{host} is not an address: {error.strerror}", code="invalid_address", hint="give another with --host"
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise StorageError(
                f"port {port} of {host} is in use",
                code="port_in_use",
                hint=f"stop what uses it, or give another with {option}",
            ) from error
        raise StorageError(
            f"port {port} of {host} cannot be used: {error.strerror}",
            code="port_unusable",
            hint=f"give another with {option} or --host",
        ) from error
    return listener


def _port(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: three servers share this process, and one place stops them all."""

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await self._serve(sockets)


class _Servers:
    """HTTP servers on bound sockets; when the stack unwinds, all of them are asked to stop before one is awaited."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._servers: list[_Server] = []
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

    async def start(self, listener: socket.socket, app: ASGIApp) -> None:
        """Starts one more, and returns when it accepts connections."""
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=_STOP_TIMEOUT_S,
                timeout_keep_alive=30,
            )
        )
        self._servers.append(server)
        task = asyncio.create_task(server.serve([listener]))
        self._stack.push_async_callback(self._stop, task)
        while not server.started:
            if task.done():
                task.result()
                raise StorageError("the HTTP server ended before it started", code="server_ended")
            await asyncio.sleep(0.01)

    async def _stop(self, task: asyncio.Task[None]) -> None:
        for server in self._servers:
            server.should_exit = True
        with suppress(asyncio.CancelledError):
            await task


async def _load_now(storage: ModelStorage) -> None:
    for fault in await asyncio.to_thread(storage.load_missing):
        _log.warning("%s", fault)


async def _load_when_up(storage: ModelStorage) -> None:
    """A real Triton may start after us: models are loaded as soon as it answers."""
    is_warned = False
    while True:
        try:
            return await _load_now(storage)
        except EngineError as error:
            if not is_warned:
                _log.warning("%s; asking again every %.0f s", error.line(), _RETRY_S)
            is_warned = True
            await asyncio.sleep(_RETRY_S)
