"""The collector's wire format (JSON) <-> our own types. Foreign JSON is parsed here, once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from cls.collector.listing import MIN_FILEPATH_SIGNS, ListedPhoto, picture_name
from cls.errors import CollectorError
from cls.records import fault_text

Mode = Literal["PREPARING", "CHECKING", "VALIDATED"]
MODES: tuple[Mode, ...] = get_args(Mode)

# What stands before the token in `Authorization`.
READ_SCHEME = "bearer"
WRITE_SCHEME = "token"

_LABELS_KEYS = {"group", "category"}
_ENTRY_KEYS = {"gender", "bbox", "groups"}


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
    # Not looked into here: there may be a million of them.
    trained: list[dict[str, Any]] | None = None


class PicsetPayload(BaseModel):
    """A PICSET: the head and its items; unknown fields are kept."""

    model_config = ConfigDict(extra="allow")

    picset: PicsetHeadPayload
    items: list[ItemPayload] = []


class PicsetsPayload(BaseModel):
    """Answer of POST /v1/meta/picsets. Entries are checked one by one, so that one odd picset does not hide others."""

    data: list[Any]


class ServedPicture(BaseModel):
    """One entry of a category, as our own collector answers it."""

    filepath: str
    picset_guid: str = Field(alias="picsetGuid")
    filename: str


class ServedCategory(BaseModel):
    """One category, as our own collector answers it."""

    pictures: list[ServedPicture]


class ServedPictures(BaseModel):
    """Our own collector's answer of POST /v1/meta/pictures; `message` says why it is empty."""

    data: dict[str, ServedCategory]
    message: str | None = None


class ServedOrigin(BaseModel):
    """The `origin` of a photo of our own collector; the size is 0 where the file is no picture."""

    filename: str
    filepath: str
    width: int
    height: int


class ServedItem(BaseModel):
    """One photo of our own collector's PICSET."""

    origin: ServedOrigin
    trained: list[dict[str, JsonValue]]


class ServedHead(BaseModel):
    """The head of our own collector's PICSET; mode and runs are its state, and unset without one."""

    guid: str
    name: str
    group: list[GroupOfPicsetPayload]
    category: list[str]
    mode: str | None = None
    neural_version: dict[str, JsonValue] | None = None


class ServedPicset(BaseModel):
    """A PICSET of our own collector."""

    picset: ServedHead
    items: list[ServedItem]


class ServedPicsets(BaseModel):
    """Our own collector's answer of POST /v1/meta/picsets."""

    data: list[ServedPicset]


Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class GroupLabels:
    """What an entry of `trained` says of one group.

    Attributes:
        group: the group; None where none is named.
        category: the labels; None where none can be read.
        is_bare: whether it holds nothing but these two.
        source: the JSON as it came.
    """

    group: str | None
    category: tuple[str, ...] | None
    is_bare: bool
    source: Any = field(repr=False)


@dataclass(frozen=True)
class TrainedEntry:
    """One entry of an item's `trained`: a person and what is said of it.

    Attributes:
        gender: the person's class, as it stands there.
        box_xyxy_rel: the person's box as fractions; None where none can be read.
        groups: what is said; None where that is no list.
        is_bare: whether it holds nothing but these three.
        source: the JSON as it came.
    """

    gender: Any
    box_xyxy_rel: Box | None
    groups: tuple[GroupLabels, ...] | None
    is_bare: bool
    source: Any = field(repr=False)

    def with_groups(self, groups: Iterable[GroupLabels]) -> TrainedEntry:
        """The same with other groups; further fields stay as they are."""
        kept = tuple(groups)
        return replace(self, groups=kept, source={**self.source, "groups": [one.source for one in kept]})


@dataclass(frozen=True)
class PicsetItem:
    """One photo of a PICSET.

    Attributes:
        picture: name of the photo in the pool; None for a placeholder.
        trained: its entries; None where the field is missing or null.
    """

    picture: str | None
    trained: tuple[TrainedEntry, ...] | None


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
    content: Mapping[str, Any] = field(repr=False)

    @cached_property
    def items(self) -> tuple[PicsetItem, ...]:
        """Its photos."""
        return tuple(
            PicsetItem(
                _picture_of((item.get("origin") or {}).get("filepath") or ""),
                None if item.get("trained") is None else tuple(map(entry_of, item["trained"])),
            )
            for item in self.content.get("items", ())
        )

    @cached_property
    def versions(self) -> dict[str, str]:
        """Its `neural_version`, group -> run; groups whose run was withdrawn (an empty name) left out."""
        known = self.content["picset"].get("neural_version")
        known = known if isinstance(known, dict) else {}
        return {group: str(run) for group, run in known.items() if run not in ("", None)}

    def without_photos(self, is_kept: Callable[[str], bool]) -> Picset:
        """The same without some photos.

        Args:
            is_kept: tells by the address (empty for a placeholder without one) whether a photo stays.
        """
        filepaths = tuple(path for path in self.filepaths if is_kept(path))
        if len(filepaths) == len(self.filepaths):
            return self
        items = [item for item in self.content["items"] if is_kept((item.get("origin") or {}).get("filepath") or "")]
        return replace(self, filepaths=filepaths, content={**self.content, "items": items})

    def with_trained(self, trained: Mapping[int, Sequence[TrainedEntry]], versions: Mapping[str, str]) -> Picset:
        """The same with other entries; everything else stays as it came.

        Args:
            trained: position of the photo in `items` -> its entries.
            versions: group -> what `neural_version` says of it from now on; groups not named are left as they are.
        """
        content = dict(self.content)
        if "items" in content:
            content["items"] = [
                {**item, "trained": [entry.source for entry in trained[place]]} if place in trained else item
                for place, item in enumerate(content["items"])
            ]
        if versions:
            known = content["picset"].get("neural_version")
            known = known if isinstance(known, dict) else {}
            content["picset"] = {**content["picset"], "neural_version": {**known, **versions}}
        return replace(self, content=content)


def entry_of(source: dict[str, Any]) -> TrainedEntry:
    """An entry of `trained` in our own type."""
    groups = source.get("groups")
    return TrainedEntry(
        source.get("gender"),
        _box_of(source.get("bbox")),
        tuple(map(_labels_of, groups)) if isinstance(groups, list) else None,
        set(source) <= _ENTRY_KEYS,
        source,
    )


def _labels_of(source: Any) -> GroupLabels:
    if not isinstance(source, dict):
        return GroupLabels(None, None, is_bare=False, source=source)
    group, category = source.get("group"), source.get("category")
    return GroupLabels(
        group if isinstance(group, str) else None,
        tuple(category) if isinstance(category, list) and all(isinstance(one, str) for one in category) else None,
        set(source) <= _LABELS_KEYS,
        source,
    )


def _picture_of(filepath: str) -> str | None:
    return (picture_name(filepath) or None) if len(filepath) >= MIN_FILEPATH_SIGNS else None


def _box_of(value: Any) -> Box | None:
    """A box, whatever it is; None when it is not four numbers."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    if not all(isinstance(side, (int, float)) and not isinstance(side, bool) for side in value):
        return None
    try:
        x1, y1, x2, y2 = (float(side) for side in value)
    except OverflowError:  # JSON's whole numbers have no end
        return None
    return x1, y1, x2, y2


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
            f"answered something that is not the collector's interface: {place}: {fault_text(first)}",
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
