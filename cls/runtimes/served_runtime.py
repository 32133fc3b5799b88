"""What a served network is over HTTP and over gRPC alike: batches, patience, and what its configuration says of it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cls.errors import PredictionError
from cls.package.meta import ModelMeta, TensorMeta
from cls.package.triton_config import parse_config_json
from cls.runtimes.served_address import ServedAddress

ANSWER_TIMEOUT_S = 120.0
_ATTEMPTS = 4
_FIRST_WAIT_S = 0.2

_T = TypeVar("_T")


class AwayError(Exception):
    """A connection that was not there, or was cut: nothing else heals by itself.

    Attributes:
        told: what the user is told when it does not heal.
    """

    def __init__(self, told: PredictionError) -> None:
        self.told = told
        super().__init__(told.what)


def patiently(ask: Callable[[], _T]) -> _T:
    """Asks a server that may be restarting, again for 1.5 seconds.

    Raises:
        PredictionError: it stays away; or whatever else `ask` raises, at once.
    """
    wait_s = _FIRST_WAIT_S
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return ask()
        except AwayError as error:
            if attempt == _ATTEMPTS:
                raise error.told from error
        time.sleep(wait_s)
        wait_s *= 2
    raise AssertionError("the last attempt returns or raises")


class ServedRuntime(ABC):
    """A served network. What the model is comes along in its configuration (`cls_meta`).

    Attributes:
        url: where it is.
        meta: its meta.json.
        description: what answers, for users.
    """

    description: str

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
                raise PredictionError(f"the server answered without '{target.name}'", where=self.url)
            parts.append(np.asarray(values, np.float32))
        return np.concatenate(parts)

    @abstractmethod
    def _read_config(self) -> Any:
        """The model's configuration as the server has it, as JSON."""

    @abstractmethod
    def _infer(self, images: NDArray[Any], source: TensorMeta, target: TensorMeta) -> NDArray[Any] | None:
        """What the server answers to one batch."""
