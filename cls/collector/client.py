"""The collector's client: one method an endpoint, tokens renewed, what can heal tried again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from cls.collector.listing import ListedPhoto
from cls.collector.payloads import (
    MODES,
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
from cls.collector.retrying import (
    PictureBusyError,
    PictureMissingError,
    RetryableStatusError,
    RetryPolicy,
    json_of,
    redacted_url,
    retry_attempts,
    status_text,
)
from cls.errors import CollectorError
from cls.settings import Settings

_READ_SCHEME = "bearer"
_WRITE_SCHEME = "token"
_GUIDS_A_REQUEST = 200
# A token may expire again while others wait for the new one; more often than this it is a refusal.
_MAX_LOGINS_A_CALL = 3
_LOGGER = logging.getLogger("cls.collector")


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
    """An HTTP client of a collector. Safe to use from several threads; close it, or use `with`.

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

    def set_preparing(self, guids: Iterable[str]) -> None:
        """Moves picsets back to preparation."""
        self._call("POST", self._url + "/v1/picset/preparing", _READ_SCHEME, GuidsPayload(guids=list(guids)))

    def set_checking(self, guids: Iterable[str]) -> None:
        """Moves picsets to checking."""
        self._call("POST", self._url + "/v1/picset/checking", _WRITE_SCHEME, GuidsPayload(guids=list(guids)))

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
            return self._authorised("POST", url, _WRITE_SCHEME, picset.content)

        url = self._url + "/v1/picset/trained"
        try:
            self._checked(url, self._with_retries(url, request))
        except _NothingToSendError:
            return False
        return True

    def picture(self, filepath: str) -> bytes:
        """The bytes of a picture, as they came.

        Raises:
            PictureMissingError: the collector does not give this picture.
            PictureBusyError: it answered with server errors every time.
            CollectorError: the collector cannot be reached any more.
        """
        url = f"{self._static_url}/{quote(filepath)}"
        response = self._with_retries(url, lambda: self._authorised("GET", url, _READ_SCHEME, None), PictureBusyError)
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
        response = self._call("POST", self._url + path, _READ_SCHEME, body)
        return parse(kind, json_of(response, self.url + path), where=self.url + path)

    def _call(self, method: str, url: str, scheme: str, body: BaseModel) -> httpx.Response:
        """One call of the interface; any answer but success is an error."""
        content = body.model_dump(by_alias=True)
        return self._checked(url, self._with_retries(url, lambda: self._authorised(method, url, scheme, content)))

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
                hint="the collector is busy or ill: run the same command later, it goes on from where it stopped",
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
                    _LOGGER.debug("the token has expired; logging in again")
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
