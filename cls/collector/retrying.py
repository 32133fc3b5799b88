"""Errors of single pictures, and which failures of the collector are tried again, how often and how long."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import httpx
import stamina
from stamina.instrumentation import set_on_retry_hooks

from cls.errors import CollectorError


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


_MAX_ATTEMPTS_AT_FIRST = 3


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
