"""A network behind an inference server: Triton, or the model storage's own engine (Open Inference Protocol v2)."""

from __future__ import annotations

import re
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

_CONNECT_TIMEOUT_S = 5.0
_ANSWER_TIMEOUT_S = 120.0
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
    """A served network, spoken to with binary tensors.

    Args:
        address: where it is.

    Raises:
        PredictionError: the server cannot be reached, or does not serve the model.
    """

    def __init__(self, address: ServedAddress) -> None:
        import tritonclient.http as client

        self._address = address
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

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Images float32 (batch, 3, height, width), normalised -> logits float32 (batch, labels).

        Raises:
            PredictionError: the server cannot be reached, or refuses.
        """
        import tritonclient.http as client

        name_in, name_out = self.meta.inputs[0].name, self.meta.outputs[0].name
        limit = self._config.max_batch_size or len(images)
        parts = []
        for start in range(0, len(images), limit):
            part = images[start : start + limit]
            tensor: Any = client.InferInput(name_in, list(part.shape), "FP32")
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
        from tritonclient.utils import InferenceServerException

        try:
            return getattr(self._client, method)(*arguments, **options)
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
        except OSError as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise PredictionError(
                f"the inference server cannot be reached: {reason}",
                where=self._address.url,
                hint="start it (`cls storage serve`) or correct the address",
            ) from error
