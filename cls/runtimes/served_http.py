"""A network behind an inference server, spoken to over HTTP with binary tensors (Open Inference Protocol v2)."""

from __future__ import annotations

from http.client import HTTPException
from typing import Any

from numpy.typing import NDArray

from cls.errors import PredictionError
from cls.package.meta import TensorMeta
from cls.runtimes.served_address import ServedAddress
from cls.runtimes.served_runtime import ANSWER_TIMEOUT_S, AwayError, ServedRuntime, patiently

_CONNECT_TIMEOUT_S = 5.0


class HttpRuntime(ServedRuntime):
    """A served network over HTTP. A server that is restarting is asked again for a few seconds.

    Args:
        address: where it is.
        token: sent as `Authorization: bearer TOKEN`; empty for none.

    Raises:
        PredictionError: the server cannot be reached, or does not serve the model.
    """

    def __init__(self, address: ServedAddress, token: str = "") -> None:
        import tritonclient.http as client

        self._headers = {"Authorization": f"bearer {token}"} if token else None
        self._client: Any = client.InferenceServerClient(
            address.base,
            ssl=address.is_tls,
            connection_timeout=_CONNECT_TIMEOUT_S,
            network_timeout=ANSWER_TIMEOUT_S,
        )
        self.description = f"Open Inference Protocol server {address.base}"
        super().__init__(address)

    def _read_config(self) -> Any:
        return self._ask("get_model_config", self._address.model, self._address.version)

    def _infer(self, images: NDArray[Any], source: TensorMeta, target: TensorMeta) -> NDArray[Any] | None:
        import tritonclient.http as client

        tensor: Any = client.InferInput(source.name, list(images.shape), source.datatype)
        tensor.set_data_from_numpy(images, binary_data=True)
        wanted: Any = client.InferRequestedOutput(target.name, binary_data=True)
        model, version = self._address.model, self._address.version
        answer = self._ask("infer", model, [tensor], outputs=[wanted], model_version=version)
        values: NDArray[Any] | None = answer.as_numpy(target.name)
        return values

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        return patiently(lambda: self._ask_once(method, *arguments, **options))

    def _ask_once(self, method: str, *arguments: Any, **options: Any) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return getattr(self._client, method)(*arguments, headers=self._headers, **options)
        except InferenceServerException as error:
            if "decoding the response" in error.message():
                raise PredictionError(
                    "answers something that is not the Open Inference Protocol",
                    where=self.url,
                    hint="give the address of an inference server: port 8100 of `cls storage serve`, 8000 of Triton",
                ) from error
            raise PredictionError(
                f"the inference server refuses: {error.message()}",
                where=self.url,
                hint="publish the model with `cls push`, or correct the name",
            ) from error
        except (HTTPException, ValueError) as error:
            raise PredictionError(
                f"answers something that is not the Open Inference Protocol: {error or type(error).__name__}",
                where=self.url,
                hint="check the address, and whether the server was stopped in the middle",
            ) from error
        except ConnectionError as error:
            raise AwayError(self._unreached(error)) from error
        except OSError as error:
            raise self._unreached(error) from error

    def _unreached(self, error: OSError) -> PredictionError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return PredictionError(
            f"the inference server cannot be reached: {reason}",
            where=self.url,
            hint="start it (`cls storage serve`) or correct the address",
        )
