"""Where a served model is: addresses over HTTP and over gRPC, read and written in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urlsplit

from cls.errors import PredictionError
from cls.package.model_name import model_name_of_group

_HTTP, _GRPC = ("http", "https"), ("grpc", "grpcs")
SERVED_SCHEMES = tuple(f"{scheme}://" for scheme in (*_HTTP, *_GRPC))
GRPC_HINT = "give grpc://HOST:PORT/NAME"
_HTTP_HINT = "give http://HOST:PORT/v2/models/NAME"
_HTTP_PATH = re.compile(r"^(?P<prefix>.*?)/v2/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?(/\w+)?/?$")


@dataclass(frozen=True)
class ServedAddress:
    """Where a served model is.

    Attributes:
        scheme: `http`, `https`, `grpc` or `grpcs`; those with an s are encrypted.
        base: `host:port`; over HTTP with a path in front of `/v2` if there is one.
        model: the model's name on the server.
        version: folder number, or empty for the version the server serves.
        is_of_group: nobody wrote the model's name: it is that of the group's model.
    """

    scheme: str
    base: str
    model: str
    version: str = ""
    is_of_group: bool = False

    @property
    def is_grpc(self) -> bool:
        """Whether it is spoken to over gRPC."""
        return self.scheme in _GRPC

    @property
    def is_tls(self) -> bool:
        """Whether it is encrypted."""
        return self.scheme.endswith("s")

    @property
    def url(self) -> str:
        """The whole address."""
        model = quote(self.model, safe="")
        if self.is_grpc:
            return f"{self.scheme}://{self.base}/{model}" + (f"/{self.version}" if self.version else "")
        version = f"/versions/{self.version}" if self.version else ""
        return f"{self.scheme}://{self.base}/v2/models/{model}{version}"


def parse_address(url: str, group: str | None = None) -> ServedAddress:
    """Reads the address of a served model.

    Args:
        url: `http://HOST:PORT/v2/models/NAME[/versions/N]` or `grpc://HOST:PORT/NAME[/N]`; without a name, the model
            named like the group. `https` and `grpcs` are encrypted.
        group: see there.

    Raises:
        PredictionError: it is none of these.
    """
    parts = urlsplit(url)
    return _grpc_address(url, parts, group) if parts.scheme in _GRPC else _http_address(url, parts, group)


def _http_address(url: str, parts: SplitResult, group: str | None) -> ServedAddress:
    found = _HTTP_PATH.match(parts.path)
    if parts.scheme not in _HTTP or not parts.hostname:
        raise PredictionError("is not the address of a served model", where=url, hint=_HTTP_HINT)
    if found:
        base = parts.netloc + found["prefix"]
        return ServedAddress(parts.scheme, base, unquote(found["model"]), found["version"] or "")
    if group is None or "/v2" in parts.path:
        raise PredictionError("names no model", where=url, hint=f"{_HTTP_HINT}, or the group")
    base = parts.netloc + parts.path.rstrip("/")
    return ServedAddress(parts.scheme, base, model_name_of_group(group), is_of_group=True)


def _grpc_address(url: str, parts: SplitResult, group: str | None) -> ServedAddress:
    try:
        is_whole = bool(parts.hostname) and parts.port is not None
    except ValueError:
        is_whole = False
    if not is_whole:
        raise PredictionError("is not the address of a served model", where=url, hint=GRPC_HINT)
    names = [unquote(name) for name in parts.path.split("/") if name]
    if not names and group is not None:
        return ServedAddress(parts.scheme, parts.netloc, model_name_of_group(group), is_of_group=True)
    if not names:
        raise PredictionError("names no model", where=url, hint=f"{GRPC_HINT}, or the group")
    if len(names) > 2 or (len(names) == 2 and not names[1].isdigit()):
        raise PredictionError("is not the address of a served model", where=url, hint=f"{GRPC_HINT}[/VERSION]")
    return ServedAddress(parts.scheme, parts.netloc, names[0], names[1] if len(names) == 2 else "")
