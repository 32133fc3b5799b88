"""Served networks, over HTTP and gRPC: their addresses, batches, patience, and what their configuration says."""

from __future__ import annotations

import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from cls.errors import PredictionError
from cls.package.meta import ModelMeta, TensorMeta
from cls.package.model_name import model_name_of_group
from cls.package.triton_config import parse_config_json
from cls.settings import Settings

_HTTP, _GRPC = ("http", "https"), ("grpc", "grpcs")
SERVED_SCHEMES = tuple(f"{scheme}://" for scheme in (*_HTTP, *_GRPC))
GRPC_HINT = "give grpc://HOST:PORT/NAME"
_HTTP_HINT = "give http://HOST:PORT/v2/models/NAME"
_HTTP_PATH = re.compile(r"^(?P<prefix>.*?)/v2/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?(/\w+)?/?$")

ANSWER_TIMEOUT_S = 120.0
_ATTEMPTS = 4
_FIRST_WAIT_S = 0.2
_T = TypeVar("_T")
_CONNECT_TIMEOUT_S = 5.0

# By its own default gRPC does not try a server that was down again before a second or more, and refuses until then.
_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
)


@dataclass(frozen=True)
class ServedAddress:
    """Where a served model is.

    Attributes:
        scheme: `http`, `https`, `grpc` or `grpcs`; those with an s are encrypted.
        base: `host:port`; over HTTP with a path in front of `/v2` if there is one.
        version: folder number, or empty for the version the server serves.
        is_of_group: nobody wrote the model's name: it is that of the group's model.
    """

    scheme: str
    base: str
    model: str
    version: str = ""
    is_of_group: bool = False

    @property
    def is_grpc(self) -> bool:
        """Whether it is spoken to over gRPC."""
        return self.scheme in _GRPC

    @property
    def is_tls(self) -> bool:
        """Whether it is encrypted."""
        return self.scheme.endswith("s")

    @property
    def url(self) -> str:
        """The whole address."""
        model = quote(self.model, safe="")
        if self.is_grpc:
            return f"{self.scheme}://{self.base}/{model}" + (f"/{self.version}" if self.version else "")
        version = f"/versions/{self.version}" if self.version else ""
        return f"{self.scheme}://{self.base}/v2/models/{model}{version}"


def parse_address(url: str, group: str | None = None) -> ServedAddress:
    """Reads the address of a served model.

    Args:
        url: `http://HOST:PORT/v2/models/NAME[/versions/N]` or `grpc://HOST:PORT/NAME[/N]`; without a name, the model
            named like the group. `https` and `grpcs` are encrypted.
        group: see there.

    Raises:
        PredictionError: it is none of these.
    """
    parts = urlsplit(url)
    return _grpc_address(url, parts, group) if parts.scheme in _GRPC else _http_address(url, parts, group)


def _http_address(url: str, parts: SplitResult, group: str | None) -> ServedAddress:
    found = _HTTP_PATH.match(parts.path)
    if parts.scheme not in _HTTP or not parts.hostname:
        raise PredictionError(
            "is not the address of a served model", code="invalid_address", where=url, hint=_HTTP_HINT
        )
    if found:
        base = parts.netloc + found["prefix"]
        return ServedAddress(parts.scheme, base, unquote(found["model"]), found["version"] or "")
    if group is None or "/v2" in parts.path:
        raise PredictionError("names no model", code="no_model_name", where=url, hint=f"{_HTTP_HINT}, or the group")
    base = parts.netloc + parts.path.rstrip("/")
    return ServedAddress(parts.scheme, base, model_name_of_group(group), is_of_group=True)


def _grpc_address(url: str, parts: SplitResult, group: str | None) -> ServedAddress:
    try:
        is_whole = bool(parts.hostname) and parts.port is not None
    except ValueError:
        is_whole = False
    if not is_whole:
        raise PredictionError("is not the address of a served model", code="invalid_address", where=url, hint=GRPC_HINT)
    names = [unquote(name) for name in parts.path.split("/") if name]
    if not names and group is not None:
        return ServedAddress(parts.scheme, parts.netloc, model_name_of_group(group), is_of_group=True)
    if not names:
        raise PredictionError("names no model", code="no_model_name", where=url, hint=f"{GRPC_HINT}, or the group")
    if len(names) > 2 or (len(names) == 2 and not names[1].isdigit()):
        raise PredictionError(
            "is not the address of a served model", code="invalid_address", where=url, hint=f"{GRPC_HINT}[/VERSION]"
        )
    return ServedAddress(parts.scheme, parts.netloc, names[0], names[1] if len(names) == 2 else "")


class UnreachableError(Exception):
    """A connection was refused or cut: the only failure worth a retry. `error` is raised after the last attempt."""

    def __init__(self, error: PredictionError) -> None:
        self.error = error
        super().__init__(error.what)


def retry_while_unreachable(ask: Callable[[], _T]) -> _T:
    """Asks a server that may be restarting, again for 1.5 seconds."""
    wait_s = _FIRST_WAIT_S
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return ask()
        except UnreachableError as failure:
            if attempt == _ATTEMPTS:
                raise failure.error from failure
        time.sleep(wait_s)
        wait_s *= 2
    raise AssertionError("the last attempt returns or raises")


class ServedRuntime(ABC):
    """A served network. What the model is comes along in its configuration (`cls_meta`).

    Attributes:
        url: where it is.
        description: what answers, for users.
    """

    description: str
    _client: Any
    _protocol: Any  # tritonclient's module

    def __init__(self, address: ServedAddress) -> None:
        self.url = address.url
        self._address = address
        self._config = parse_config_json(self._read_config(), address.url)
        self.meta: ModelMeta = self._config.meta(address.url)

    def logits(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """What the network answers to images, float32 (batch, labels).

        Args:
            images: as the model's input has them: float32 (batch, 3, height, width), normalised; for an end-to-end
                model uint8 (batch, height, width, 3).

        Raises:
            PredictionError: the server cannot be reached, or refuses.
        """
        source, target = self.meta.inputs[0], self.meta.outputs[0]
        limit = self._config.max_batch_size or len(images)
        parts = []
        for start in range(0, len(images), limit):
            values = self._infer(np.ascontiguousarray(images[start : start + limit]), source, target)
            if values is None:
                raise PredictionError(
                    f"the server answered without '{target.name}'", code="missing_output", where=self.url
                )
            parts.append(np.asarray(values, np.float32))
        return np.concatenate(parts)

    @abstractmethod
    def _read_config(self) -> Any:
        """The model's configuration as the server has it, as JSON."""

    def _infer(self, images: NDArray[Any], source: TensorMeta, target: TensorMeta) -> NDArray[Any] | None:
        """What the server answers to one batch."""
        tensor = self._protocol.InferInput(source.name, list(images.shape), source.datatype)
        tensor.set_data_from_numpy(images)
        wanted = self._protocol.InferRequestedOutput(target.name)
        model, version = self._address.model, self._address.version
        answer = self._ask("infer", model, [tensor], outputs=[wanted], model_version=version)
        values: NDArray[Any] | None = answer.as_numpy(target.name)
        return values

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        return retry_while_unreachable(lambda: self._ask_once(method, *arguments, **options))

    @abstractmethod
    def _ask_once(self, method: str, *arguments: Any, **options: Any) -> Any:
        """What a method of the client answers."""


class HttpRuntime(ServedRuntime):
    """A served network over HTTP. A server that is restarting is asked again for a few seconds.

    Args:
        address: where it is.
        token: sent as `Authorization: bearer TOKEN`; empty for none.
    """

    def __init__(self, address: ServedAddress, token: str = "") -> None:
        import tritonclient.http as client

        self._headers, self._protocol = {"Authorization": f"bearer {token}"} if token else None, client
        self._client = client.InferenceServerClient(
            address.base,
            ssl=address.is_tls,
            connection_timeout=_CONNECT_TIMEOUT_S,
            network_timeout=ANSWER_TIMEOUT_S,
        )
        self.description = f"Open Inference Protocol server {address.base}"
        super().__init__(address)

    def _read_config(self) -> Any:
        return self._ask("get_model_config", self._address.model, self._address.version)

    def _ask_once(self, method: str, *arguments: Any, **options: Any) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return getattr(self._client, method)(*arguments, headers=self._headers, **options)
        except InferenceServerException as error:
            if "decoding the response" in error.message():
                raise PredictionError(
                    "answers something that is not the Open Inference Protocol",
                    code="invalid_response",
                    where=self.url,
                    hint="give the address of an inference server: port 8100 of `cls storage serve`, 8000 of Triton",
                ) from error
            raise PredictionError(
                f"the inference server refuses: {error.message()}",
                code="unauthorized" if error.status() == "401" else "refused",
                where=self.url,
                hint="publish the model with `cls push`, or correct the name",
            ) from error
        except (HTTPException, ValueError) as error:
            raise PredictionError(
                f"answers something that is not the Open Inference Protocol: {error or type(error).__name__}",
                code="invalid_response",
                where=self.url,
                hint="check the address, and whether the server was stopped in the middle",
            ) from error
        except ConnectionError as error:
            raise UnreachableError(self._unreached(error)) from error
        except OSError as error:
            raise self._unreached(error) from error

    def _unreached(self, error: OSError) -> PredictionError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return PredictionError(
            f"the inference server cannot be reached: {reason}",
            code="unreachable",
            where=self.url,
            hint="start it (`cls storage serve`) or correct the address",
        )


class GrpcRuntime(ServedRuntime):
    """A served network over gRPC.

    A server that is restarting is asked again for a few seconds; a request that no answer came to is not.

    Args:
        address: where it is.
        token: sent as `authorization: bearer TOKEN`; empty for none.
    """

    def __init__(self, address: ServedAddress, token: str = "") -> None:
        # Its own C library would write to the terminal.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        import tritonclient.grpc as client

        self._headers, self._protocol = {"authorization": f"bearer {token}"} if token else None, client
        try:
            self._client = client.InferenceServerClient(
                address.base, ssl=address.is_tls, channel_args=list(_CHANNEL_OPTIONS)
            )
        except ValueError as error:
            raise PredictionError(
                f"is not an address: {error}", code="invalid_address", where=address.url, hint=GRPC_HINT
            ) from error
        self.description = f"Open Inference Protocol server {address.base} (gRPC)"
        super().__init__(address)

    def _read_config(self) -> Any:
        answer = self._ask("get_model_config", self._address.model, self._address.version, as_json=True)
        return answer.get("config")

    def _ask_once(self, method: str, *arguments: Any, **options: Any) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return getattr(self._client, method)(
                *arguments, headers=self._headers, client_timeout=ANSWER_TIMEOUT_S, **options
            )
        except InferenceServerException as error:
            status = str(error.status() or "").removeprefix("StatusCode.")
            explained = self._explained(status, error.message())
            raise (UnreachableError(explained) if status == "UNAVAILABLE" else explained) from error
        except ValueError as error:
            raise PredictionError(f"cannot be asked: {error}", code="invalid_request", where=self.url) from error

    def _explained(self, status: str, message: str) -> PredictionError:
        """The error as its user can act on it."""
        where, first = self.url, " ".join(message.split())
        if status == "UNAVAILABLE":
            return PredictionError(
                f"the inference server cannot be reached over gRPC: {first}",
                code="unreachable",
                where=where,
                hint="start it (`cls storage serve`), or correct the address: gRPC has a port of its own, mostly 8101",
            )
        if status == "DEADLINE_EXCEEDED":
            return PredictionError(
                f"the inference server gave no answer in {ANSWER_TIMEOUT_S:.0f} s",
                code="timeout",
                where=where,
                hint="ask it later",
            )
        if status == "UNAUTHENTICATED":
            return PredictionError(
                f"the inference server lets nobody in without its token: {first}",
                code="unauthorized",
                where=where,
                hint="set CLS_MODEL_STORAGE_TOKEN, and model_storage_url or inference_url to the server's host",
            )
        if status in ("UNIMPLEMENTED", "UNKNOWN", ""):
            return PredictionError(
                f"answers something that is not the Open Inference Protocol over gRPC: {first or status}",
                code="invalid_response",
                where=where,
                hint="check the address",
            )
        return PredictionError(
            f"the inference server refuses: {first}",
            code="refused",
            where=where,
            hint="publish the model with `cls push`, or correct the name",
        )


def open_served(address: ServedAddress, settings: Settings) -> ServedRuntime:
    """The network behind an address, over HTTP or gRPC.

    Args:
        address: where it is.
        settings: the model storage's token is sent to its own host and to that of `inference_url`, and to no other.

    Raises:
        PredictionError: the server cannot be reached, or does not serve the model.
    """
    known = {urlsplit(one).hostname for one in (settings.model_storage_url, settings.inference_url) if one}
    token = settings.model_storage_token if urlsplit(address.url).hostname in known else ""
    if address.is_grpc:
        return GrpcRuntime(address, token)

    return HttpRuntime(address, token)
