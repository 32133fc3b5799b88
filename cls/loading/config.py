"""The settings of a load. An option is declared once, at its field."""

from __future__ import annotations

from dataclasses import dataclass

from cls.options import check_options, option


@dataclass(frozen=True, kw_only=True)
class LoadConfig:
    """How pictures are fetched. Checked when made."""

    workers: int = option(8, "", "pictures fetched at once", ge=1, le=128)

    def __post_init__(self) -> None:
        check_options(self, "cls load-group")
