"""The collector's client: one method an endpoint, tokens renewed, what can heal tried again."""

from __future__ import annotations

import email.utils
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Self, cast
from urllib.parse import quote

import httpx
import stamina
from pydantic import BaseModel
from stamina.instrumentation import set_on_retry_hooks

from cls.collector.listing import ListedPhoto, Listing, merge_categories
from cls.collector.payloads import (
    MODES,
    READ_SCHEME,
    WRITE_SCHEME,
    GuidsPayload,
    LoginPayload,
    Payload,
    Picset,
    PicsetsPayload,
    PicturesPayload,
    PicturesQueryPayload,
    TokenPayload,
    categories_of,
    parse,
    picset_of,
)
from cls.errors import CollectorError
from cls.settings import Settings

_log = logging.getLogger("cls.collector")

_MAX_ATTEMPTS_AT_FIRST = 3
_GUIDS_A_REQUEST = 200

# A token may expire again while others wait for the new one; more often than this it is a refusal.
_MAX_LOGINS_A_CALL = 3


class PictureMissingError(CollectorError):
    """A source cannot give one picture: it is gone, refused, or cannot be read."""


class PictureBusyError(PictureMissingError):
    """A source answered with server errors for one picture, also when asked again."""


def json_of(response: httpx.Response, where: str) -> Any:
    """The JSON of an answer.

    Raises:
        CollectorError: it is not JSON.
    """
    try:
        return response.json()
    except ValueError as error:
        raise CollectorError(
            "answered something that is not JSON",
            code="not_json",
            where=where,
            hint="check that collector_url is the address of a collector",
        ) from error


def status_text(response: httpx.Response) -> str:
    """Status and the collector's own words, if it gave any in a short JSON answer."""
    text = f"HTTP {response.status_code}"
    if response.headers.get("content-type", "").startswith("application/json") and len(response.content) < 2000:
        try:
            detail = response.json().get("detail")
        except (ValueError, AttributeError):
            detail = None
        if isinstance(detail, str):
            text = f"{text} ({detail})"
    return text


def redacted_url(url: str) -> str:
    """An address fit for a message: without login and password."""
    return str(httpx.URL(url).copy_with(userinfo=b""))


@dataclass(frozen=True)
class RetryPolicy:
    """Bounds of patience for one request.

    Attributes:
        attempts: how often it is sent at most.
        timeout_s: no further attempt after this long.
        wait_initial_s: wait before the second attempt; doubled for each further one, plus jitter.
        wait_max_s: longest wait of our own choice.
        retry_after_max_s: longest wait a collector may ask for with Retry-After; more is taken as a refusal.
        connect_timeout_s: bound of making a connection.
        request_timeout_s: bound of waiting for the next bytes.
    """

    attempts: int = 7
    timeout_s: float = 180.0
    wait_initial_s: float = 0.2
    wait_max_s: float = 10.0
    retry_after_max_s: float = 60.0
    connect_timeout_s: float = 5.0
    request_timeout_s: float = 30.0


class RetryableStatusError(Exception):
    """An answer that may be better next time: 429 or a server error."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        super().__init__(f"HTTP {response.status_code}")

    @property
    def retry_after_s(self) -> float | None:
        """How long the collector asks to wait: seconds or a date; None when it does not say, or nothing readable."""
        text = self.response.headers.get("retry-after", "").strip()
        if not text:
            return None
        if text.isdigit():
            return float(text)
        try:
            return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
        except (ValueError, OverflowError):
            return None


def retry_attempts(policy: RetryPolicy, has_answered: Callable[[], bool]) -> Iterator[AbstractContextManager[object]]:
    """Attempts of one request: use each in a `with`; the last error comes through.

    Args:
        policy: the bounds.
        has_answered: whether this collector has ever answered. One that never has is more likely down or misspelt than
            restarting, so its user is told after a few attempts.
    """
    # stamina's own hooks log every retry to a logger of theirs; what matters is said when patience ends.
    set_on_retry_hooks([])
    tried = 0

    def wait_s(error: Exception) -> bool | float:
        nonlocal tried
        tried += 1
        if isinstance(error, RetryableStatusError):
            asked_s = error.retry_after_s
            return True if asked_s is None else asked_s if 0 < asked_s <= policy.retry_after_max_s else asked_s == 0
        if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
            return False
        if isinstance(error, httpx.TransportError):
            return has_answered() or tried < _MAX_ATTEMPTS_AT_FIRST
        return False

    return cast(
        "Iterator[AbstractContextManager[object]]",
        iter(
            stamina.retry_context(
                on=wait_s,
                attempts=policy.attempts,
                timeout=policy.timeout_s,
                wait_initial=policy.wait_initial_s,
                wait_max=policy.wait_max_s,
                wait_jitter=policy.wait_initial_s,
            )
        ),
    )


class _NothingToSendError(Exception):
    """Ends the attempts at a request for which there is no need any more."""


@dataclass(frozen=True)
class Login:
    """Who logs in to a collector.

    Attributes:
        name: of the user.
        password: never shown in messages.
    """

    name: str = ""
    password: str = field(default="", repr=False)


class CollectorClient:
    """An HTTP client of a collector, and a `Source`. Safe to use from several threads; close it, or use `with`.

    Args:
        url: the collector's address.
        static_url: where pictures are fetched from; the same address when empty.
        login: who logs in; nobody when not given.
        policy: what is tried again, and how long.
        connections: how many requests run at once at most.
    """

    def __init__(
        self,
        url: str,
        *,
        static_url: str = "",
        login: Login | None = None,
        policy: RetryPolicy | None = None,
        connections: int = 8,
    ) -> None:
        self._url = url.rstrip("/")
        self._static_url = (static_url or url).rstrip("/")
        self._login = login or Login()
        self._policy = policy or RetryPolicy()
        self._http = httpx.Client(
            timeout=httpx.Timeout(self._policy.request_timeout_s, connect=self._policy.connect_timeout_s),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            follow_redirects=True,
        )
        self._token: str | None = None
        self._login_lock = threading.Lock()
        self._has_answered = False

    @classmethod
    def from_settings(cls, settings: Settings, *, connections: int = 8) -> Self:
        """A client for the configured collector."""
        return cls(
            settings.collector_url,
            static_url=settings.static_url,
            login=Login(settings.collector_login, settings.collector_password),
            connections=connections,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections."""
        self._http.close()

    @property
    def url(self) -> str:
        """The collector's address, without login and password if it holds any."""
        return redacted_url(self._url)

    def login(self) -> None:
        """Logs in. Other calls do so by themselves; calling it first tells early of a wrong password.

        Raises:
            CollectorError: the collector is down, or refuses login and password.
        """
        self._renew_token(None)

    @property
    def description(self) -> str:
        """The collector, as a dataset's source."""
        return f"collector {self.url}"

    def listing(self, group: str) -> Listing:
        """The photos and labels of a group.

        Raises:
            CollectorError: the collector knows nothing of the group, the call fails, or a category cannot be a label.
        """
        return merge_categories(group, self.list_pictures(group))

    def list_pictures(self, group: str, modes: Sequence[str] = MODES) -> dict[str, list[ListedPhoto]]:
        """Lists a group's photos by category, as the collector has them.

        Raises:
            CollectorError: the collector knows nothing of the group, or the call fails.
        """
        query = PicturesQueryPayload(listBy=0, groups=[group], mode=list(modes))
        payload = self._post_json(PicturesPayload, "/v1/meta/pictures", query)
        if not any(category.pictures for category in payload.data.values()):
            raise CollectorError(
                f"lists no photos for group '{group}' (modes {', '.join(modes)})",
                code="no_photos",
                where=self.url,
                hint=payload.message or "check the spelling of --group against the groups of the collector",
            )
        return categories_of(payload)

    def picsets(self, guids: Sequence[str]) -> Iterator[Picset]:
        """What the collector says of picsets, asked for in batches; unknown ones are missing.

        Raises:
            CollectorError: the call fails, or an entry is no PICSET.
        """
        for start in range(0, len(guids), _GUIDS_A_REQUEST):
            batch = GuidsPayload(guids=list(guids[start : start + _GUIDS_A_REQUEST]))
            payload = self._post_json(PicsetsPayload, "/v1/meta/picsets", batch)
            for number, content in enumerate(payload.data):
                yield picset_of(content, where=f"{self.url}/v1/meta/picsets data.{number}")

    def change_trained(self, build: Callable[[], Picset | None]) -> bool:
        """Writes a PICSET back that is built for every attempt again, so that each follows a fresh reading of it.

        Args:
            build: what to send; None when there is nothing (more) to send.

        Returns:
            Whether it was sent.
        """

        def request() -> httpx.Response:
            picset = build()
            if picset is None:
                raise _NothingToSendError
            return self._authorised("POST", url, WRITE_SCHEME, picset.content)

        url = self._url + "/v1/picset/trained"
        try:
            self._checked(url, self._with_retries(url, request))
        except _NothingToSendError:
            return False
        return True

    def read(self, filepath: str) -> bytes:
        """The bytes of a picture, as they came.

        Raises:
            PictureMissingError: the collector does not give this picture.
            PictureBusyError: it answered with server errors every time.
            CollectorError: the collector cannot be reached any more.
        """
        url = f"{self._static_url}/{quote(filepath)}"
        response = self._with_retries(url, lambda: self._authorised("GET", url, READ_SCHEME, None), PictureBusyError)
        if response.status_code == 401:
            raise CollectorError(
                f"answered {status_text(response)}, also to a fresh token",
                code="token_refused",
                where=redacted_url(url),
                hint="check that collector_static_url belongs to the collector that is logged in to",
            )
        if response.status_code != 200:
            raise PictureMissingError(
                f"answered {status_text(response)}", code="picture_missing", where=redacted_url(url)
            )
        return response.content

    def _post_json(self, kind: type[Payload], path: str, body: BaseModel) -> Payload:
        url, content = self._url + path, body.model_dump(by_alias=True)
        response = self._with_retries(url, lambda: self._authorised("POST", url, READ_SCHEME, content))
        return parse(kind, json_of(self._checked(url, response), self.url + path), where=self.url + path)

    def _checked(self, url: str, response: httpx.Response) -> httpx.Response:
        if not response.is_success:
            raise CollectorError(
                f"answered {status_text(response)}",
                code="unexpected_status",
                where=redacted_url(url),
                hint="check that collector_url is the address of a collector",
            )
        return response

    def _with_retries(
        self, url: str, request: Callable[[], httpx.Response], busy: type[CollectorError] = CollectorError
    ) -> httpx.Response:
        """Runs a request until it is answered, as often and as long as the policy allows."""
        try:
            for attempt in retry_attempts(self._policy, lambda: self._has_answered):
                with attempt:
                    response = self._answer(request)
        except RetryableStatusError as error:
            raise busy(
                f"answered {status_text(error.response)}, also when asked again",
                code="busy",
                where=redacted_url(url),
                hint="run the same command again later: it goes on from where it stopped",
            ) from error
        except (httpx.TransportError, httpx.TooManyRedirects, httpx.DecodingError) as error:
            raise CollectorError(
                f"the collector cannot be reached: {str(error) or type(error).__name__}",
                code="unreachable",
                where=redacted_url(url),
                hint="check that it runs and that collector_url is its address, then run the same command again",
            ) from error
        return response

    def _answer(self, request: Callable[[], httpx.Response]) -> httpx.Response:
        """Runs a request once; an answer that may be better next time is a `RetryableStatusError`."""
        response = request()
        self._has_answered = True
        if response.status_code == 429 or response.status_code >= 500:
            raise RetryableStatusError(response)
        return response

    def _authorised(self, method: str, url: str, scheme: str, body: Any, logins: int = 0) -> httpx.Response:
        """One request with a token; a refused token is renewed."""
        token = self._token or self._renew_token(None)
        response = self._http.request(method, url, json=body, headers={"Authorization": f"{scheme} {token}"})
        if response.status_code != 401 or logins == _MAX_LOGINS_A_CALL:
            return response
        self._renew_token(token)
        return self._authorised(method, url, scheme, body, logins + 1)

    def _renew_token(self, refused: str | None) -> str:
        """A token other than the refused one; of several threads, one logs in and the others wait for its token."""
        with self._login_lock:
            if self._token is None or self._token == refused:
                if refused is not None:
                    _log.debug("the token has expired; logging in again")
                self._token = self._ask_for_token()
            return self._token

    def _ask_for_token(self) -> str:
        url = self._url + "/v1/login"
        body = LoginPayload(login=self._login.name, password=self._login.password).model_dump()
        response = self._with_retries(url, lambda: self._http.post(url, json=body))
        if response.status_code in (400, 401, 403, 422):
            raise CollectorError(
                f"refuses login '{self._login.name}'",
                code="login_refused",
                where=redacted_url(url),
                hint="check collector_login in the configuration and CLS_COLLECTOR_PASSWORD in the environment",
            )
        answer = json_of(self._checked(url, response), redacted_url(url))
        token = parse(TokenPayload, answer, where=redacted_url(url)).token
        if not token.isascii() or not token.isprintable():
            raise CollectorError(
                "answered a token that no request can carry", code="unusable_token", where=redacted_url(url)
            )
        return token
