"""What the pictures database says of one photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cls.people.person import Person


class Status:
    """The review statuses of a picture."""

    UNCHECKED: Final = "unchecked"
    APPROVED: Final = "approved"
    REJECTED: Final = "rejected"

    ALL: Final = (UNCHECKED, APPROVED, REJECTED)


@dataclass(frozen=True)
class PictureRecord:
    """One photo.

    Attributes:
        path: file name in pictures/.
        model_version: stem of the segmentation model's file name; empty where no model has looked.
        status: one of `Status`; an older tool's other text is kept as it is.
        people: who was found; empty = looked at, nobody; None = not looked at.
    """

    path: str
    model_version: str
    status: str
    people: tuple[Person, ...] | None
