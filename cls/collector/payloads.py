"""The collector's wire format (JSON) <-> our own types. Foreign JSON is parsed here, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cls.collector.listing import ListedPhoto
from cls.errors import CollectorError

MODES = ("PREPARING", "CHECKING", "VALIDATED")


class LoginPayload(BaseModel):
    """Body of POST /v1/login."""

    login: str
    password: str


class TokenPayload(BaseModel):
    """Answer of POST /v1/login."""

    token: str = Field(min_length=1)


class PicturesQueryPayload(BaseModel):
    """Body of POST /v1/meta/pictures."""

    model_config = ConfigDict(populate_by_name=True)

    list_by: int = Field(0, alias="listBy")
    categories: list[str] = []
    groups: list[str] = []
    mode: list[str] = list(MODES)


class PicturePayload(BaseModel):
    """One entry of a category; further fields are left alone."""

    # A placeholder may carry null or nothing where an address belongs.
    filepath: str | None = None
    picset_guid: str | None = Field(None, alias="picsetGuid")


class CategoryPayload(BaseModel):
    """One category of an answer of POST /v1/meta/pictures."""

    pictures: list[PicturePayload] = []


class PicturesPayload(BaseModel):
    """Answer of POST /v1/meta/pictures; `message` is our own collector's word on an empty answer."""

    data: dict[str, CategoryPayload]
    message: str | None = None


class GuidsPayload(BaseModel):
    """Body of POST /v1/meta/picsets, /v1/picset/preparing and /v1/picset/checking."""

    guids: list[str]


class GroupOfPicsetPayload(BaseModel):
    """One entry of a picset's `group`."""

    model_config = ConfigDict(extra="allow")

    group: str


class PicsetHeadPayload(BaseModel):
    """The `picset` part of a PICSET; unknown fields are kept."""

    model_config = ConfigDict(extra="allow")

    guid: str = Field(min_length=1)
    group: list[GroupOfPicsetPayload] = []


class OriginPayload(BaseModel):
    """The `origin` of an item."""

    model_config = ConfigDict(extra="allow")

    filepath: str | None = None


class ItemPayload(BaseModel):
    """One picture of a PICSET."""

    model_config = ConfigDict(extra="allow")

    origin: OriginPayload | None = None
    trained: list[dict[str, Any]] | None = None


class PicsetPayload(BaseModel):
    """A PICSET: the head and its items; unknown fields are kept."""

    model_config = ConfigDict(extra="allow")

    picset: PicsetHeadPayload
    items: list[ItemPayload] = []


class PicsetsPayload(BaseModel):
    """Answer of POST /v1/meta/picsets. Entries are checked one by one, so that one odd picset does not hide others."""

    data: list[Any]


@dataclass(frozen=True)
class Picset:
    """A picset as the collector tells of it.

    Attributes:
        guid: its GUID.
        groups: groups it was collected for, as annotators typed them.
        filepaths: addresses of its photos, in the collector's order, placeholders included.
        content: the whole PICSET as it came.
    """

    guid: str
    groups: tuple[str, ...]
    filepaths: tuple[str, ...]
    content: Mapping[str, Any]


Payload = TypeVar("Payload", bound=BaseModel)


def parse(kind: type[Payload], value: Any, *, where: object) -> Payload:
    """Parses an answer.

    Raises:
        CollectorError: the answer is not what the interface says; names the first field that is not.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise CollectorError(
            f"answered something that is not the collector's interface: {place}: {first['msg']}",
            code="unexpected_answer",
            where=where,
            hint="check that collector_url is the address of a collector",
        ) from error


def categories_of(payload: PicturesPayload) -> dict[str, list[ListedPhoto]]:
    """The categories of a listing in our own type."""
    return {
        category: [ListedPhoto(photo.filepath or "", photo.picset_guid or "") for photo in entry.pictures]
        for category, entry in payload.data.items()
    }


def picset_of(content: Any, *, where: object) -> Picset:
    """A PICSET in our own type; the content is kept as it came.

    Raises:
        CollectorError: it is no PICSET.
    """
    payload = parse(PicsetPayload, content, where=where)
    filepaths = (item.origin.filepath for item in payload.items if item.origin is not None)
    return Picset(
        guid=payload.picset.guid,
        groups=tuple(dict.fromkeys(entry.group for entry in payload.picset.group)),
        filepaths=tuple(path or "" for path in filepaths),
        content=content,
    )
