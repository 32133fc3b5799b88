"""What an HTTP answer of a collector says, for our own messages."""

from __future__ import annotations

from typing import Any

import httpx

from cls.errors import CollectorError


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


def shown_url(url: str) -> str:
    """An address fit for a message: without login and password."""
    return str(httpx.URL(url).copy_with(userinfo=b""))
