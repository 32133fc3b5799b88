"""Publishing from this side: sends a package to a model storage and finds out what became of it."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from cls.errors import StorageError
from cls.files import sha256_of_file

_CONNECT_TIMEOUT_S = 5.0
# The answer to an upload comes when the model was checked and the inference server has loaded it.
_ANSWER_TIMEOUT_S = 600.0
_ATTEMPTS = 4
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_HEALING_STATUSES = (429, 503, 504)
_CASE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_log = logging.getLogger("cls.model_storage")


@dataclass(frozen=True)
class PublishedVersion:
    """What became of a publication.

    Attributes:
        number: its folder, which the inference server calls the version.
        is_served: whether it is the one that answers.
        url: where it answers.
    """

    version: str
    number: str
    is_served: bool
    url: str


class VersionAnswer(BaseModel):
    """Answer of calls that publish or select a version."""

    version: str


class ListedVersion(BaseModel):
    """One version of `GET /versions/{model}`.

    Attributes:
        semantic_version: None where its meta.json has none.
        sha256: of the zip it came in; None where it was put there by hand.
    """

    version: str
    semantic_version: str | None
    sha256: str | None


class VersionsAnswer(BaseModel):
    """Answer of `GET /versions/{model}`.

    Attributes:
        model: name of its folder.
        served: number of the version folder that is served.
    """

    model: str
    served: str
    engine: str
    inference_url: str
    versions: list[ListedVersion]


class RefusalAnswer(BaseModel):
    """Answer of a call that was refused; older storages, and other services, send no code."""

    detail: JsonValue
    code: JsonValue = ""


Answer = TypeVar("Answer", bound=BaseModel)


class StorageClient:
    """A model storage by its address. Use it in a `with` block."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"bearer {token}"} if token else {}
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            # A proxy for the internet may not reach a storage on this machine or network.
            trust_env=False,
            timeout=httpx.Timeout(_ANSWER_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S),
        )

    def __enter__(self) -> StorageClient:
        """Enters the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the connections."""
        self._http.close()

    def publish(self, zip_path: Path, model: str, version: str) -> PublishedVersion:
        """Uploads a package as a semantic version of a model (`cls.package.model_name`), which is served from then on.

        When the connection is cut, the storage is asked whether the package arrived before it is sent again, so it is
        published once.

        Raises:
            StorageError: the storage cannot be reached, or refuses; nothing was changed there.
        """
        digest = sha256_of_file(zip_path)

        def send() -> PublishedVersion:
            with zip_path.open("rb") as stream:
                self._answer_of(
                    self._http.post(
                        "/upload_new_version/",
                        data={"model_name": model, "model_version": version},
                        files={"src_file": (zip_path.name, stream, "application/x-zip-compressed")},
                    ),
                    VersionAnswer,
                )
            return self._published(self._versions(model), version)

        def find() -> PublishedVersion | None:
            stored = self._versions(model)
            if stored and any(one.semantic_version == version and one.sha256 == digest for one in stored.versions):
                _log.info("the connection was cut after the storage had taken version %s", version)
                return self._published(stored, version)
            return None

        return self._sent_once(send, find)

    def _published(self, stored: VersionsAnswer | None, version: str) -> PublishedVersion:
        """What the storage lists of a version it took."""
        numbers = [one.version for one in stored.versions if one.semantic_version == version] if stored else []
        if stored is None or not numbers:
            raise StorageError(
                f"the storage took version {version} and does not list it", code="version_not_listed", where=self.url
            )
        url = f"{stored.inference_url}/v2/models/{quote(stored.model, safe='')}"
        return PublishedVersion(version, numbers[0], stored.served == numbers[0], url)

    def _versions(self, model: str) -> VersionsAnswer | None:
        """What is stored of a model; None where there is no such model."""
        response = self._http.get(f"/versions/{quote(model, safe='')}")
        return None if response.status_code == 404 else self._answer_of(response, VersionsAnswer)

    def _sent_once(
        self, send: Callable[[], PublishedVersion], find: Callable[[], PublishedVersion | None]
    ) -> PublishedVersion:
        """Sends until it arrives, and asks before sending again whether it did; what cannot heal is raised at once."""
        pause_s = _FIRST_PAUSE_S
        reason = ""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                found = find() if attempt > 1 else None
                return found or send()
            except httpx.TransportError as error:
                if attempt == 1 and isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                    raise StorageError(
                        f"the model storage cannot be reached: {error or type(error).__name__}",
                        code="unreachable",
                        where=self.url,
                        hint="start it with `cls storage serve`, or correct model_storage_url",
                    ) from error
                reason = f"the connection was cut: {error or type(error).__name__}"
                wanted_pause_s = 0.0
            except _BusyError as busy:
                reason, wanted_pause_s = str(busy), busy.pause_s
            _log.warning("%s; attempt %d of %d", reason, attempt, _ATTEMPTS)
            # The jitter spreads retries; it keeps no secret.
            time.sleep(wanted_pause_s or pause_s * random.uniform(0.8, 1.2))  # noqa: S311
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        with suppress(httpx.TransportError, _BusyError):
            found = find()
            if found is not None:
                return found
        raise StorageError(
            f"the upload failed {_ATTEMPTS} times, at last since {reason}",
            code="upload_failed",
            where=self.url,
            hint="see the storage's log, then run the same command again",
        )

    def _answer_of(self, response: httpx.Response, kind: type[Answer]) -> Answer:
        """A good answer."""
        if response.status_code in _HEALING_STATUSES:
            raise _BusyError(f"the storage is busy: HTTP status {response.status_code}", _retry_after_s(response))
        if response.status_code == 401:
            raise StorageError(
                "the model storage asks for a token",
                code="unauthorized",
                where=self.url,
                hint="set CLS_MODEL_STORAGE_TOKEN to the token it was started with",
            )
        try:
            if response.status_code == 200:
                return kind.model_validate_json(response.content)
            refusal = RefusalAnswer.model_validate_json(response.content) if response.status_code >= 400 else None
        except ValidationError:
            refusal = None
        if refusal is not None:
            raise StorageError(f"the model storage refuses: {refusal.detail}", code=_case_of(refusal), where=self.url)
        raise StorageError(
            f"answered HTTP status {response.status_code} with something that is not a model storage's answer",
            code="unexpected_answer",
            where=self.url,
            hint="check model_storage_url",
        )


def _case_of(refusal: RefusalAnswer) -> str:
    """The case a refusal's code names; that of any refusal where an older storage, or another service, sent none."""
    area, _, case = str(refusal.code).partition(".")
    return case if area == StorageError.area and _CASE.fullmatch(case) else "refused"


class _BusyError(Exception):
    """The storage may take the upload later."""

    def __init__(self, text: str, pause_s: float) -> None:
        self.pause_s = pause_s
        super().__init__(text)


def _retry_after_s(response: httpx.Response) -> float:
    """How long the storage asks to wait, at most our longest pause; 0 when it does not say."""
    text = response.headers.get("retry-after", "")
    return min(float(text), _LONGEST_PAUSE_S) if text.isascii() and text.isdigit() else 0.0
