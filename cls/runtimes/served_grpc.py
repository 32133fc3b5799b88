"""A network behind an inference server, spoken to over gRPC: Triton, or the model storage's own engine."""

from __future__ import annotations

import os
from typing import Any

from numpy.typing import NDArray

from cls.errors import PredictionError
from cls.package.meta import TensorMeta
from cls.runtimes.served_address import GRPC_HINT, ServedAddress
from cls.runtimes.served_runtime import ANSWER_TIMEOUT_S, AwayError, ServedRuntime, patiently

# By its own default gRPC does not try a server that was down again before a second or more, and refuses meanwhile.
_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
)


class GrpcRuntime(ServedRuntime):
    """A served network over gRPC.

    A server that is restarting is asked again for a few seconds; a request that no answer came to is not.

    Args:
        address: where it is.
        token: sent as `authorization: bearer TOKEN`; empty for none.

    Raises:
        PredictionError: the server cannot be reached, or does not serve the model.
    """

    def __init__(self, address: ServedAddress, token: str = "") -> None:
        # Its own C library would write to the terminal.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        import tritonclient.grpc as client

        self._headers = {"authorization": f"bearer {token}"} if token else None
        try:
            self._client: Any = client.InferenceServerClient(
                address.base, ssl=address.is_tls, channel_args=list(_CHANNEL_OPTIONS)
            )
        except ValueError as error:
            raise PredictionError(f"is not an address: {error}", where=address.url, hint=GRPC_HINT) from error
        self.description = f"Open Inference Protocol server {address.base} (gRPC)"
        super().__init__(address)

    def _read_config(self) -> Any:
        answer = self._ask("get_model_config", self._address.model, self._address.version, as_json=True)
        return answer.get("config")

    def _infer(self, images: NDArray[Any], source: TensorMeta, target: TensorMeta) -> NDArray[Any] | None:
        import tritonclient.grpc as client

        tensor: Any = client.InferInput(source.name, list(images.shape), source.datatype)
        tensor.set_data_from_numpy(images)
        wanted: Any = client.InferRequestedOutput(target.name)
        model, version = self._address.model, self._address.version
        answer = self._ask("infer", model, [tensor], outputs=[wanted], model_version=version)
        values: NDArray[Any] | None = answer.as_numpy(target.name)
        return values

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        return patiently(lambda: self._ask_once(method, *arguments, **options))

    def _ask_once(self, method: str, *arguments: Any, **options: Any) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return getattr(self._client, method)(
                *arguments, headers=self._headers, client_timeout=ANSWER_TIMEOUT_S, **options
            )
        except InferenceServerException as error:
            status = str(error.status() or "").removeprefix("StatusCode.")
            told = self._explained(status, error.message())
            raise (AwayError(told) if status == "UNAVAILABLE" else told) from error
        except ValueError as error:
            raise PredictionError(f"cannot be asked: {error}", where=self.url) from error

    def _explained(self, status: str, message: str) -> PredictionError:
        """The error as its user can act on it."""
        where, first = self.url, " ".join(message.split())
        if status == "UNAVAILABLE":
            return PredictionError(
                f"the inference server cannot be reached over gRPC: {first}",
                where=where,
                hint="start it (`cls storage serve`), or correct the address: gRPC has a port of its own, mostly 8101",
            )
        if status == "DEADLINE_EXCEEDED":
            return PredictionError(
                f"the inference server gave no answer in {ANSWER_TIMEOUT_S:.0f} s", where=where, hint="ask it later"
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
