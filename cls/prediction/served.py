"""A network behind an inference server: Triton, or the model storage's own engine (Open Inference Protocol v2)."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from cls.errors import PredictionError
from cls.package.meta import ModelMeta
from cls.package.model_name import model_name_of_group
from cls.package.triton_config import parse_config_json
from cls.prediction.served_grpc import GRPC_SCHEMES, GrpcRuntime, parse_grpc_address
from cls.settings import Settings

_CONNECT_TIMEOUT_S = 5.0
_ANSWER_TIMEOUT_S = 120.0
_ATTEMPTS = 4
_FIRST_WAIT_S = 0.2
_MODEL_PATH = re.compile(r"^(?P<prefix>.*?)/v2/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?(/\w+)?/?$")


@dataclass(frozen=True)
class ServedAddress:
    """Where a served model is.

    Attributes:
        base: `host:port`, with a path in front of `/v2` if there is one.
        is_tls: whether it is https.
        model: the model's name on the server; empty when the address names none.
        version: folder number, or empty for the version the server serves.
    """

    base: str
    is_tls: bool
    model: str
    version: str = ""

    @property
    def url(self) -> str:
        """The whole address."""
        version = f"/versions/{self.version}" if self.version else ""
        return f"{'https' if self.is_tls else 'http'}://{self.base}/v2/models/{quote(self.model, safe='')}{version}"


SERVED_SCHEMES = tuple(f"{scheme}://" for scheme in ("http", "https", *GRPC_SCHEMES))


def open_served(url: str, group: str | None, settings: Settings) -> ServedRuntime | GrpcRuntime:
    """The network behind an address, over HTTP or gRPC.

    Args:
        url: see `parse_address` and `parse_grpc_address`.
        group: names the model where the address does not.
        settings: the model storage's token is sent to its own host and to that of `inference_url`, and to no other.

    Raises:
        PredictionError: it is no such address, the server cannot be reached, or does not serve the model.
    """
    known = {urlsplit(one).hostname for one in (settings.model_storage_url, settings.inference_url) if one}
    token = settings.model_storage_token if urlsplit(url).hostname in known else ""
    if url.startswith(tuple(f"{scheme}://" for scheme in GRPC_SCHEMES)):
        return GrpcRuntime(parse_grpc_address(url, group), token)
    return ServedRuntime(parse_address(url, group), token)


def parse_address(url: str, group: str | None = None) -> ServedAddress:
    """Reads `http://HOST:PORT/v2/models/NAME[/versions/N]`, or `http://HOST:PORT` for the model named like the group.

    Raises:
        PredictionError: it is neither.
    """
    parts = urlsplit(url)
    found = _MODEL_PATH.match(parts.path)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PredictionError(
            "is not the address of a served model", where=url, hint="give http://HOST:PORT/v2/models/NAME"
        )
    if found:
        base = parts.netloc + found["prefix"]
        return ServedAddress(base, parts.scheme == "https", unquote(found["model"]), found["version"] or "")
    if group is None or "/v2" in parts.path:
        raise PredictionError("names no model", where=url, hint="give http://HOST:PORT/v2/models/NAME, or --group")
    return ServedAddress(parts.netloc + parts.path.rstrip("/"), parts.scheme == "https", model_name_of_group(group))


class ServedRuntime:
    """A served network, spoken to over HTTP with binary tensors.

    A server that is restarting is asked again for a few seconds.

    Args:
        address: where it is.
        token: sent as `Authorization: bearer TOKEN`; empty for none.

    Raises:
        PredictionError: the server cannot be reached, or does not serve the model.
    """

    def __init__(self, address: ServedAddress, token: str = "") -> None:
        import tritonclient.http as client

        self.url = address.url
        self._address = address
        self._headers = {"Authorization": f"bearer {token}"} if token else None
        self._client: Any = client.InferenceServerClient(
            address.base,
            ssl=address.is_tls,
            connection_timeout=_CONNECT_TIMEOUT_S,
            network_timeout=_ANSWER_TIMEOUT_S,
        )
        self.description = f"Open Inference Protocol server {address.base}"
        content = self._ask("get_model_config", address.model, address.version)
        self._config = parse_config_json(content, address.url)
        self.meta: ModelMeta = self._config.meta(address.url)

    def logits(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """What the network answers to images, float32 (batch, labels).

        Args:
            images: as the model's input has them: float32 (batch, 3, height, width), normalised; for an end-to-end
                model uint8 (batch, height, width, 3).

        Raises:
            PredictionError: the server cannot be reached, or refuses.
        """
        import tritonclient.http as client

        name_in, name_out = self.meta.inputs[0].name, self.meta.outputs[0].name
        limit = self._config.max_batch_size or len(images)
        parts = []
        for start in range(0, len(images), limit):
            part = images[start : start + limit]
            tensor: Any = client.InferInput(name_in, list(part.shape), self.meta.inputs[0].datatype)
            tensor.set_data_from_numpy(part, binary_data=True)
            wanted: Any = client.InferRequestedOutput(name_out, binary_data=True)
            answer = self._ask(
                "infer", self._address.model, [tensor], outputs=[wanted], model_version=self._address.version
            )
            logits = answer.as_numpy(name_out)
            if logits is None:
                raise PredictionError(f"the server answered without '{name_out}'", where=self._address.url)
            parts.append(np.asarray(logits, np.float32))
        return np.concatenate(parts)

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        wait_s = _FIRST_WAIT_S
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._ask_once(method, *arguments, **options)
            except ConnectionError as error:
                # Nothing but a connection that was not there, or was cut, heals by itself.
                if attempt == _ATTEMPTS:
                    raise self._unreached(error) from error
            time.sleep(wait_s)
            wait_s *= 2
        raise AssertionError("the last attempt returns or raises")

    def _ask_once(self, method: str, *arguments: Any, **options: Any) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return getattr(self._client, method)(*arguments, headers=self._headers, **options)
        except InferenceServerException as error:
            raise PredictionError(
                f"the inference server refuses: {error.message()}",
                where=self._address.url,
                hint="publish the model with `cls push`, or correct the name",
            ) from error
        except (HTTPException, ValueError) as error:
            raise PredictionError(
                f"answers something that is not the Open Inference Protocol: {error or type(error).__name__}",
                where=self._address.url,
                hint="check the address, and whether the server was stopped in the middle",
            ) from error
        except ConnectionError:
            raise
        except OSError as error:
            raise self._unreached(error) from error

    def _unreached(self, error: OSError) -> PredictionError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return PredictionError(
            f"the inference server cannot be reached: {reason}",
            where=self._address.url,
            hint="start it (`cls storage serve`) or correct the address",
        )
