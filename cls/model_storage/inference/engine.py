"""What the storage asks of an inference server, and how it asks Triton."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from typing import Protocol
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from cls.model_storage.names import RefusedError
from cls.records import faults_of

_log = logging.getLogger("cls.model_storage")

READY = "READY"
UNAVAILABLE = "UNAVAILABLE"

_LOAD_TIMEOUT_S = 300.0
_UNLOAD_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class ModelState:
    """One entry of a repository index.

    Attributes:
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


_INDEX = TypeAdapter(list[ModelState])


class TritonServer:
    """Triton's repository API over HTTP. It must run in explicit model control mode, over the same model repository.

    Args:
        url: e.g. `http://triton:8000`.
    """

    description = "Triton Inference Server"

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.Client(base_url=self.url, timeout=httpx.Timeout(_LOAD_TIMEOUT_S, connect=5.0))

    def load(self, model: str) -> None:
        """Loads what the model's config.pbtxt asks for; Triton keeps the old version when the new one fails.

        It answers when the new version is ready, before the old one is gone: requests that run are answered by that.
        """
        try:
            self._post(f"/v2/repository/models/{quote(model, safe='')}/load", f"does not load {model}")
        except EngineError:
            self._warn_if_not_ready()
            raise

    def _warn_if_not_ready(self) -> None:
        """Warns where a load that failed has made the whole server "not ready" until it is started again."""
        try:
            if self._client.get("/v2/health/ready").status_code == httpx.codes.OK:
                return
            # Versions that failed to load, of which it forgets none; as it counts them (InferenceServer::IsReady).
            down = [state for state in self.index() if state.state == UNAVAILABLE]
            failed = [state for state in down if state.reason not in ("", "unloaded")]
        except (httpx.HTTPError, EngineError) as error:
            _log.debug("Triton does not say whether it is ready: %s", error)
            return
        if failed:
            _log.warning(
                "Triton serves on, but calls itself not ready (/v2/health/ready) until it is started again, for %s did "
                "not load; started with --strict-readiness=false it would not",
                ", ".join(f"{state.name} {state.version}" for state in failed),
            )

    def unload(self, model: str) -> None:
        """Stops serving a model. Triton answers before it is done, so the index is asked until it is."""
        self._post(f"/v2/repository/models/{quote(model, safe='')}/unload", f"does not unload {model}")
        give_up_s = time.monotonic() + _UNLOAD_TIMEOUT_S
        while any(state.name == model and state.state in (READY, "UNLOADING") for state in self.index()):
            if time.monotonic() > give_up_s:
                raise EngineError(
                    502,
                    f"Triton still serves {model} {_UNLOAD_TIMEOUT_S:.0f} s after it was asked to stop",
                    code="unload_timeout",
                )
            time.sleep(0.05)

    def index(self) -> list[ModelState]:
        """Every model of the repository with the state of its versions."""
        answer = self._post("/v2/repository/index", "does not answer the repository index")
        try:
            return _INDEX.validate_json(answer.content)
        except ValidationError as error:
            raise EngineError(
                502,
                f"Triton answers the repository index with something else: {faults_of(error)}",
                code="triton_unexpected_answer",
            ) from error

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _post(self, path: str, failure: str) -> httpx.Response:
        try:
            response = self._client.post(path, json={})
        except httpx.HTTPError as error:
            raise EngineError(
                502,
                f"Triton at {self.url} cannot be reached: {error or type(error).__name__}",
                code="triton_unreachable",
                hint="start it, or correct --triton",
            ) from error
        if response.status_code != 200:
            # With a reason, the model cannot be served (a config.pbtxt it cannot read is a 500 too); without, Triton or
            # something before it has a problem.
            reason = _reason(response)
            if reason is None:
                raise EngineError(
                    502,
                    f"Triton {failure}: HTTP status {response.status_code} without a reason",
                    code="triton_unexpected_answer",
                )
            raise EngineError(422, f"Triton {failure}: {reason}", code="triton_refused")
        return response


def _reason(response: httpx.Response) -> str | None:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return None
