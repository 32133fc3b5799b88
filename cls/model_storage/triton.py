"""A real Triton Inference Server, spoken to by its address."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import httpx

from cls.model_storage.engine import READY, EngineError, ModelState

_LOAD_TIMEOUT_S = 300.0
_UNLOAD_TIMEOUT_S = 60.0


class TritonServer:
    """Triton's repository API over HTTP. It must run in explicit model control mode, over the same model repository.

    Args:
        url: e.g. `http://triton:8000`.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.Client(base_url=self.url, timeout=httpx.Timeout(_LOAD_TIMEOUT_S, connect=5.0))

    @property
    def description(self) -> str:
        """What it is, in a few words, for people."""
        return "Triton Inference Server"

    def load(self, model: str) -> None:
        """Loads what the model's config.pbtxt asks for; Triton keeps the old version when the new one fails."""
        self._post(f"/v2/repository/models/{quote(model, safe='')}/load", {}, f"does not load {model}")

    def unload(self, model: str) -> None:
        """Stops serving a model. Triton answers before it is done, so the index is asked until it is."""
        self._post(f"/v2/repository/models/{quote(model, safe='')}/unload", {}, f"does not unload {model}")
        give_up_s = time.monotonic() + _UNLOAD_TIMEOUT_S
        while any(state.name == model and state.state in (READY, "UNLOADING") for state in self.index()):
            if time.monotonic() > give_up_s:
                raise EngineError(
                    502, f"Triton still serves {model} {_UNLOAD_TIMEOUT_S:.0f} s after it was told to stop"
                )
            time.sleep(0.05)

    def index(self) -> list[ModelState]:
        """Every model of the repository with the state of its versions."""
        entries: Any = self._post("/v2/repository/index", {}, "does not answer the repository index").json()
        return [
            ModelState(
                str(entry["name"]),
                str(entry.get("version", "")),
                str(entry.get("state", "")),
                str(entry.get("reason", "")),
            )
            for entry in entries
        ]

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _post(self, path: str, body: dict[str, Any], failure: str) -> httpx.Response:
        try:
            response = self._client.post(path, json=body)
        except httpx.HTTPError as error:
            raise EngineError(
                502,
                f"Triton at {self.url} cannot be reached: {error or type(error).__name__}",
                hint="start it, or correct --triton",
            ) from error
        if response.status_code != 200:
            # With a reason, the model cannot be served (a config.pbtxt it cannot read is a 500 too); without, Triton or
            # something before it has a problem.
            reason = _reason(response)
            if reason is None:
                raise EngineError(502, f"Triton {failure}: HTTP status {response.status_code} without a reason")
            raise EngineError(422, f"Triton {failure}: {reason}")
        return response


def _reason(response: httpx.Response) -> str | None:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return None
