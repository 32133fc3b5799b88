"""The settings of the built-in collector. An option is declared once, at its field."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cls.options import check_options, option


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """What is served, where, and to whom. Checked when made: all problems are listed at once.

    Attributes:
        folder: labelled photos.
    """

    folder: Path
    group: str | None = option(
        None,
        "",
        "the folders in DIR are the categories of this one group",
        metavar="GROUP",
        pattern=r"(?s).*\S.*",
        values="the name of a group",
    )
    limit: int | None = option(None, "", "serve N of the photos, spread evenly over the set", ge=1)
    host: str = option("127.0.0.1", "", "address to listen on", metavar="HOST")
    port: int = option(8200, "", "port to listen on; 0: a free one", ge=0, le=65535)
    login: str = option("", "", "the login that is let in", metavar="LOGIN", unset="any")
    state: Path | None = option(None, "", "where predictions and modes are kept", metavar="DIR", unset="DIR/.collector")
    token_ttl_s: float = option(3600.0, "", "seconds a token lives", gt=0, metavar="S")

    def __post_init__(self) -> None:
        check_options(self, "cls collector serve")
