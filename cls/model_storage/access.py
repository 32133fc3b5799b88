"""Who may ask: a token where one is set up, and no strange web pages where none is."""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class AccessGuard:
    """Lets requests through that may pass; answers the others itself, before their body is read.

    With a token, every path but the open ones needs `Authorization: bearer TOKEN`. Without one the service is bound to
    loopback, and anyone on this machine may ask, but not a web page that a browser on this machine happens to show: its
    requests carry another origin, or (after DNS rebinding) another host name.

    Args:
        app: what is guarded.
        token: the token; empty for none.
        open_paths: paths that need no token.
        error_key: `detail` or `error`, the word the guarded interface uses.
    """

    def __init__(self, app: ASGIApp, *, token: str, open_paths: Collection[str], error_key: str) -> None:
        self._app = app
        self._token = token.encode()
        self._open_paths = frozenset(open_paths)
        self._error_key = error_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes it on."""
        if scope["type"] == "http":
            refused = self._refused(scope)
            if refused is not None:
                await self._answer(send, *refused)
                return
        await self._app(scope, receive, send)

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        headers = dict(scope["headers"])
        if self._token:
            if scope["path"] in self._open_paths:
                return None
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            is_known = hmac.compare_digest(given.strip(), self._token)
            if scheme.lower() == b"bearer" and is_known:
                return None
            return 401, "a valid token is needed; send the header 'Authorization: bearer TOKEN'"
        host = headers.get(b"host", b"").decode("latin-1")
        if not is_loopback(_host_name(host)):
            return (
                403,
                f"host {host[:80]!r} is not this machine; set CLS_MODEL_STORAGE_TOKEN to be reached by other names",
            )
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower() != f"http://{host.lower()}":
            return 403, "requests of other web pages are refused"
        return None

    async def _answer(self, send: Send, status: int, text: str) -> None:
        body = json.dumps({self._error_key: text}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _host_name(host: str) -> str:
    """`[::1]:8300` -> `::1`, `localhost:8300` -> `localhost`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
