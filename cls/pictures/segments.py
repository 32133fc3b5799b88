"""The `segments` and `status` of a row <-> people and a status; whatever older tools wrote is read as far as it goes.

Each reader takes a list that problems are added to, and never raises on foreign data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from cls.errors import DatabaseFault
from cls.people.photos import Person
from cls.people.polygons import identified, is_id, rounded_box, rounded_polygon

if TYPE_CHECKING:
    from pydantic import JsonValue

_CONF_DECIMALS = 6

# Outlines may leave the picture a little; values beyond this cannot be fractions (they are pixels, or broken).
_MAX_FRACTION = 2.0
_NO_CLASS = "person"
_NO_BOX = (0.0, 0.0, 0.0, 0.0)
_KNOWN_KEYS = ("cls", "conf", "bbox", "segments", "id")


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
        model_version: stem of the segmentation model's file name; empty where no model has looked.
        status: one of `Status`; an older tool's other text is kept as it is.
        people: who was found; empty = looked at, nobody; None = not looked at.
    """

    path: str
    model_version: str
    status: str
    people: tuple[Person, ...] | None


class PersonObject(TypedDict):
    """A person of a `segments` column, as CLS writes it."""

    cls: str
    conf: float
    bbox: list[float]
    segments: list[list[float]]
    id: NotRequired[str]


@dataclass(frozen=True)
class Segments:
    """What a row's `segments` hold.

    Attributes:
        people: None where the column is NULL. Each has an id: the stored one, or the one derived from the row.
        status: a status carried inside the object, if there is one.
        is_readable: False where nothing of a non-empty value could be read.
        rejected: people marked rejected inside the object; they are not among `people`.
        further: id of somebody of either -> what else the row says of that person, under keys that are not ours.
        beside: what stands beside the people: a status, values under other names than numbers that are no objects.
    """

    people: tuple[Person, ...] | None
    status: str | None = None
    is_readable: bool = True
    rejected: tuple[Person, ...] = ()
    further: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    beside: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _ReadPerson:
    """A person of a row, whether it is marked rejected there, and what else the row says under keys not ours."""

    person: Person
    is_rejected: bool
    others: Mapping[str, JsonValue]


def segments_of_people(people: tuple[Person, ...] | None) -> dict[str, PersonObject] | None:
    """People as the plain JSON object of the `segments` column; None for None, `{}` for nobody.

    Coordinates are rounded: fractions to 6 decimals (a hundredth of a pixel in the largest photo), boxes to 2.

    Raises:
        ValueError: a number is not finite, or an id has other signs than ids have.
    """
    if people is None:
        return None
    return {str(number): _object_of_person(person) for number, person in enumerate(people)}


def _object_of_person(person: Person) -> PersonObject:
    polygons = [np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in person.polygons_xy_rel]
    numbers = [person.conf, *person.box_xyxy_px, *(float(polygon.sum()) for polygon in polygons)]
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError("a person holds a number that is not finite")
    if person.id and not is_id(person.id):
        raise ValueError(f"{person.id[:80]!r} cannot be a person's id")
    entry: PersonObject = {
        "cls": str(person.cls),
        "conf": round(float(person.conf), _CONF_DECIMALS),
        "bbox": rounded_box(person),
        "segments": [rounded_polygon(polygon).ravel().tolist() for polygon in polygons if len(polygon) >= 3],
    }
    if person.id:
        entry["id"] = person.id
    return entry


def read_segments(text: str | None, problems: list[DatabaseFault], path: str = "") -> Segments:
    """Reads the JSON text of a `segments` column.

    Known forms besides the documented one: JSON within a JSON string, a list of people, a status beside or inside the
    people, a flat polygon. A person inside marked rejected is left out.

    Args:
        text: the column as text; None for NULL.
        problems: what could not be read is added here.
        path: the row's path, from which ids of people without one are derived.
    """
    if text is None:
        return Segments(None)
    try:
        value = json.loads(text)
        if isinstance(value, str):
            value = json.loads(value)
    except (ValueError, RecursionError):
        problems.append(DatabaseFault("segments are not JSON", code="segments_not_json"))
        return Segments(None, is_readable=False)
    if value is None:
        return Segments(None)
    if isinstance(value, list):
        value = {str(number): entry for number, entry in enumerate(value)}
    if not isinstance(value, dict):
        problems.append(DatabaseFault(f"segments are {_kind(value)}, not an object", code="segments_not_an_object"))
        return Segments(None, is_readable=False)
    status = _status_in(value.get("status"))
    entries = {key: entry for key, entry in value.items() if key != "status"}
    if not entries and status is not None:
        # An object that holds nothing but a status says nothing about people.
        return Segments(None, status, beside=_beside(value))
    read: list[_ReadPerson] = []
    is_any_rejected = False
    for key, entry in entries.items():
        is_rejected = isinstance(entry, dict) and _status_in(entry.get("status")) == Status.REJECTED
        is_any_rejected = is_any_rejected or is_rejected
        person = _read_person(key, entry, [] if is_rejected else problems)
        if person is not None:
            others = {key: said for key, said in entry.items() if key not in _KNOWN_KEYS}
            read.append(_ReadPerson(person, is_rejected, others))
    # Every entry unreadable: not the same as "nobody there". People left out on purpose count as read.
    if entries and not read and not is_any_rejected:
        return Segments(None, status, is_readable=False, beside=_beside(value))
    return replace(_segments_of(read, problems, path), status=status, beside=_beside(value))


def _beside(value: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    return {
        key: said
        for key, said in value.items()
        if key == "status" or not (key.isdigit() or isinstance(said, (dict, list)) or said is None)
    }


def _segments_of(read: Sequence[_ReadPerson], problems: list[DatabaseFault], path: str) -> Segments:
    """The people, each with an id."""
    people: list[Person] = []
    rejected: list[Person] = []
    further: dict[str, Mapping[str, JsonValue]] = {}
    everybody = identified(path, [one.person for one in read])
    for one, person in zip(read, everybody, strict=True):
        if one.person.id not in ("", person.id):
            problems.append(
                DatabaseFault(
                    f"two people have the id {one.person.id!r}: the second one is given another",
                    code="duplicate_person_id",
                )
            )
        (rejected if one.is_rejected else people).append(person)
        if one.others:
            further[person.id] = one.others
    return Segments(tuple(people), rejected=tuple(rejected), further=further)


def _read_person(key: str, entry: Any, problems: list[DatabaseFault]) -> Person | None:
    """One person, without an id where the row has none; None when there is neither a box nor an outline."""
    where = f"person {key[:20]!r}"
    if not isinstance(entry, dict):
        problems.append(DatabaseFault(f"{where} is {_kind(entry)}, not an object", code="person_not_an_object"))
        return None
    polygons = _read_polygons(entry.get("segments"), where, problems)
    box = _read_box(entry.get("bbox"), where, problems)
    if box is None and not polygons:
        problems.append(DatabaseFault(f"{where} has neither a box nor an outline", code="no_box_nor_outline"))
        return None
    name = entry.get("cls")
    if not isinstance(name, str) or not name:
        problems.append(DatabaseFault(f"{where} has no class", code="no_class"))
        name = _NO_CLASS
    conf = _finite(entry.get("conf"))
    if conf is None:
        problems.append(DatabaseFault(f"{where} has no confidence", code="no_confidence"))
        conf = 1.0
    known = entry.get("id")
    if known is not None and not is_id(known):
        problems.append(
            DatabaseFault(
                f"{where} has an id that is not 1 to 64 ASCII letters, digits, '-' and '_'", code="invalid_person_id"
            )
        )
    box = _NO_BOX if box is None else box
    return Person(name, min(max(conf, 0.0), 1.0), box, tuple(polygons), known if is_id(known) else "")


def _read_box(value: Any, where: str, problems: list[DatabaseFault]) -> tuple[float, float, float, float] | None:
    """A box with an area, or None."""
    numbers = [_finite(part) for part in value] if isinstance(value, list) and len(value) == 4 else []
    left, top, right, bottom = numbers if numbers else (None,) * 4
    if left is None or top is None or right is None or bottom is None or right <= left or bottom <= top:
        problems.append(DatabaseFault(f"{where} has no usable box", code="no_usable_box"))
        return None
    return left, top, right, bottom


def _read_polygons(value: Any, where: str, problems: list[DatabaseFault]) -> list[NDArray[np.float64]]:
    """Outlines of at least three points each."""
    if not isinstance(value, list):
        problems.append(DatabaseFault(f"{where} has no outline", code="no_outline"))
        return []
    if value and (not any(isinstance(part, list) for part in value) or _is_list_of_pairs(value)):
        value = [value]
    polygons = []
    for outline in value:
        polygon = _read_polygon(outline, where, problems)
        if polygon is not None:
            polygons.append(polygon)
    return polygons


def _is_list_of_pairs(value: list[Any]) -> bool:
    """[[x, y], [x, y], [x, y], ...]: one outline written as points."""
    return len(value) >= 3 and all(isinstance(part, list) and len(part) == 2 for part in value)


def _read_polygon(outline: Any, where: str, problems: list[DatabaseFault]) -> NDArray[np.float64] | None:
    """One outline, or None when it holds something else than fractions or fewer than three points."""
    if isinstance(outline, list) and _is_list_of_pairs(outline):
        outline = [value for pair in outline for value in pair]
    coordinates = _coordinates(outline)
    if coordinates is None:
        problems.append(DatabaseFault(f"{where} has an outline that is not a list of fractions", code="not_fractions"))
        return None
    if len(coordinates) % 2:
        problems.append(
            DatabaseFault(
                f"{where} has an outline of an odd number of coordinates: the last one is left out",
                code="odd_coordinates",
            )
        )
        coordinates = coordinates[:-1]
    if len(coordinates) < 6:
        problems.append(DatabaseFault(f"{where} has an outline of fewer than three points", code="too_few_points"))
        return None
    return coordinates.reshape(-1, 2)


def _coordinates(outline: Any) -> NDArray[np.float64] | None:
    """A list of fractions as float64 (numbers,), or None when it holds anything else."""
    if not isinstance(outline, list):
        return None
    if set(map(type, outline)) <= {float, int}:
        numbers = outline
    else:  # numbers written as text are read, too
        read = [_finite(part) for part in outline]
        numbers = [number for number in read if number is not None]
        if len(numbers) != len(read):
            return None
    try:
        coordinates = np.array(numbers, np.float64)
    except OverflowError:
        return None
    # Written this way, the comparison is also false for NaN and infinity.
    return coordinates if bool(np.all(np.abs(coordinates) <= _MAX_FRACTION)) else None


def read_status(text: str, problems: list[DatabaseFault]) -> str:
    """Reads the `status` column: plain text, JSON text, or an object that carries a status.

    Args:
        text: the column.
        problems: a status nobody knows is added here.

    Returns:
        One of `Status`, or the text as it stands when it is none of them.
    """
    status = _status_in(text)
    if status is None and text.strip()[:1] in ("{", '"', "["):
        try:
            status = _status_in(json.loads(text))
        except (ValueError, RecursionError):
            status = None
    if status is None:
        problems.append(
            DatabaseFault(f"status {text[:40]!r} is not one of {', '.join(Status.ALL)}", code="unknown_status")
        )
        return text
    return status


def _status_in(value: Any) -> str | None:
    """The known status a value is or carries, if any."""
    if isinstance(value, dict):
        value = value.get("status")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str) and value.strip().lower() in Status.ALL:
        return value.strip().lower()
    return None


def _finite(value: Any) -> float | None:
    """A finite number (also one written as text), or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _kind(value: Any) -> str:
    return {"list": "a list", "str": "a text", "NoneType": "null"}.get(type(value).__name__, type(value).__name__)
