"""What the storage asks of an inference server, whichever it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Protocol

from cls.model_storage.names import RefusedError

READY = "READY"
UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True)
class ModelState:
    """One entry of a repository index.

    Attributes:
        name: the model.
        version: its folder's number as text; empty when nothing of the model was ever loaded.
        state: READY, UNAVAILABLE, LOADING, UNLOADING or empty.
        reason: why it is not ready.
    """

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""

    def to_dict(self) -> dict[str, str]:
        """The entry as the Open Inference Protocol writes it: empty parts left out."""
        return {key: value for key, value in asdict(self).items() if value}


class EngineError(RefusedError):
    """The inference server cannot be reached, or refuses to load or unload a model."""


class InferenceEngine(Protocol):
    """An inference server over the model repository. Calls block and may come from any thread."""

    @property
    def description(self) -> str:
        """What it is, in a few words, for people."""

    def load(self, model: str) -> None:
        """Loads what the model's config.pbtxt asks for; on failure what was served stays served.

        Raises:
            EngineError: it cannot; says why.
        """

    def unload(self, model: str) -> None:
        """Stops serving a model.

        Raises:
            EngineError: it cannot; says why.
        """

    def index(self) -> list[ModelState]:
        """Every model of the repository with the state of its versions.

        Raises:
            EngineError: the server cannot be reached.
        """

    def close(self) -> None:
        """Lets go of what it holds."""
