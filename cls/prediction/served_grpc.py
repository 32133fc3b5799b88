"""A network behind an inference server, spoken to over gRPC: Triton, or the model storage's own engine."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from cls.errors import PredictionError
from cls.package.meta import ModelMeta
from cls.package.model_name import model_name_of_group
from cls.package.triton_config import parse_config_json

GRPC_SCHEMES = ("grpc", "grpcs")
_ANSWER_TIMEOUT_S = 120.0
_ATTEMPTS = 4
_FIRST_WAIT_S = 0.2
# By its own default gRPC does not try a server that was down again before a second or more, and refuses meanwhile.
_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
)
_HINT = "give grpc://HOST:PORT/NAME"


@dataclass(frozen=True)
class GrpcAddress:
    """Where a served model is.

    Attributes:
        host: `host:port`.
        is_tls: whether it is grpcs.
        model: the model's name on the server.
        version: folder number, or empty for the version the server serves.
    """

    host: str
    is_tls: bool
    model: str
    version: str = ""

    @property
    def url(self) -> str:
        """The whole address."""
        version = f"/{self.version}" if self.version else ""
        return f"{'grpcs' if self.is_tls else 'grpc'}://{self.host}/{quote(self.model, safe='')}{version}"


def parse_grpc_address(url: str, group: str | None = None) -> GrpcAddress:
    """Reads `grpc://HOST:PORT/NAME[/VERSION]`, or `grpc://HOST:PORT` for the model named like the group.

    Raises:
        PredictionError: it is neither.
    """
    parts = urlsplit(url)
    try:
        is_whole = bool(parts.hostname) and parts.port is not None
    except ValueError:
        is_whole = False
    if parts.scheme not in GRPC_SCHEMES or not is_whole:
        raise PredictionError("is not the address of a served model", where=url, hint=_HINT)
    names = [unquote(name) for name in parts.path.split("/") if name]
    if not names and group is not None:
        names = [model_name_of_group(group)]
    if not names:
        raise PredictionError("names no model", where=url, hint=f"{_HINT}, or --group")
    if len(names) > 2 or (len(names) == 2 and not names[1].isdigit()):
        raise PredictionError("is not the address of a served model", where=url, hint=f"{_HINT}[/VERSION]")
    return GrpcAddress(parts.netloc, parts.scheme == "grpcs", names[0], names[1] if len(names) == 2 else "")


class GrpcRuntime:
    """A served network, spoken to over gRPC. What the model is comes along in its configuration (`cls_meta`).

    A server that is restarting is asked again for a few seconds; a request that no answer came to is not.

    Args:
        address: where it is.
        token: sent as `authorization: bearer TOKEN`; empty for none.

    Raises:
        PredictionError: the server cannot be reached, or does not serve the model.
    """

    def __init__(self, address: GrpcAddress, token: str = "") -> None:
        # Its own C library would write to the terminal.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        import tritonclient.grpc as client

        self.url = address.url
        self._address = address
        self._headers = {"authorization": f"bearer {token}"} if token else None
        try:
            self._client: Any = client.InferenceServerClient(
                address.host, ssl=address.is_tls, channel_args=list(_CHANNEL_OPTIONS)
            )
        except ValueError as error:
            raise PredictionError(f"is not an address: {error}", where=address.url, hint=_HINT) from error
        self.description = f"Open Inference Protocol server {address.host} (gRPC)"
        answer = self._ask("get_model_config", address.model, address.version, as_json=True)
        self._config = parse_config_json(answer.get("config"), address.url)
        self.meta: ModelMeta = self._config.meta(address.url)

    def logits(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """What the network answers to images, float32 (batch, labels).

        Args:
            images: as the model's input has them: float32 (batch, 3, height, width), normalised; for an end-to-end
                model uint8 (batch, height, width, 3).

        Raises:
            PredictionError: the server cannot be reached, or refuses.
        """
        import tritonclient.grpc as client

        source, target = self.meta.inputs[0], self.meta.outputs[0]
        limit = self._config.max_batch_size or len(images)
        parts = []
        for start in range(0, len(images), limit):
            part = images[start : start + limit]
            tensor: Any = client.InferInput(source.name, list(part.shape), source.datatype)
            tensor.set_data_from_numpy(np.ascontiguousarray(part))
            wanted: Any = client.InferRequestedOutput(target.name)
            answer = self._ask(
                "infer", self._address.model, [tensor], outputs=[wanted], model_version=self._address.version
            )
            values = answer.as_numpy(target.name)
            if values is None:
                raise PredictionError(f"the server answered without '{target.name}'", where=self._address.url)
            parts.append(np.asarray(values, np.float32))
        return np.concatenate(parts)

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        from tritonclient.utils import InferenceServerException

        wait_s = _FIRST_WAIT_S
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return getattr(self._client, method)(
                    *arguments, headers=self._headers, client_timeout=_ANSWER_TIMEOUT_S, **options
                )
            except InferenceServerException as error:
                status = str(error.status() or "").removeprefix("StatusCode.")
                # Nothing but a connection that was not there heals by itself.
                if status != "UNAVAILABLE" or attempt == _ATTEMPTS:
                    raise self._explained(status, error.message()) from error
            except ValueError as error:
                raise PredictionError(f"cannot be asked: {error}", where=self._address.url) from error
            time.sleep(wait_s)
            wait_s *= 2
        raise AssertionError("the last attempt returns or raises")

    def _explained(self, status: str, message: str) -> PredictionError:
        """The error as its user can act on it."""
        where, first = self._address.url, " ".join(message.split())
        if status == "UNAVAILABLE":
            return PredictionError(
                f"the inference server cannot be reached over gRPC: {first}",
                where=where,
                hint="start it (`cls storage serve`), or correct the address: gRPC has a port of its own, mostly 8101",
            )
        if status == "DEADLINE_EXCEEDED":
            return PredictionError(
                f"the inference server gave no answer in {_ANSWER_TIMEOUT_S:.0f} s", where=where, hint="ask it later"
            )
        if status == "UNAUTHENTICATED":
            return PredictionError(
                f"the inference server lets nobody in without its token: {first}",
                where=where,
                hint="set CLS_MODEL_STORAGE_TOKEN, and model_storage_url or inference_url to the server's host",
            )
        if status in ("UNIMPLEMENTED", "UNKNOWN", ""):
            return PredictionError(
                f"answers something that is not the Open Inference Protocol over gRPC: {first or status}",
                where=where,
                hint="check the address",
            )
        return PredictionError(
            f"the inference server refuses: {first}",
            where=where,
            hint="publish the model with `cls push`, or correct the name",
        )
