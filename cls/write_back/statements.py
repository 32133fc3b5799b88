"""What a PICSET says of people, one statement a person and group, and which statements are our own (spec section 5)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

# `filepath` entries shorter than this are placeholders.
_SHORTEST_PATH = 5
_PART_KEYS = {"group", "category"}
_ENTRY_KEYS = {"gender", "bbox", "groups"}
# A collector may keep boxes as 32-bit numbers, or to four digits.
_SAME_BOX_TOLERANCE = 1e-3

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Statement:
    """What is said of one person for one group.

    Attributes:
        picture: name of the photo in the pool.
        gender: the person's class, as it stands there.
        box_xyxy_rel: the person's box as fractions; None where none can be read.
        group: e.g. `hair_color`.
        category: the labels, as they stand there; None where none can be read.
        person: the person's id in the pictures database; empty where it is not known. No collector is told.
    """

    picture: str
    gender: Any
    box_xyxy_rel: Box | None
    group: str
    category: tuple[str, ...] | None
    person: str = field(default="", compare=False)

    def is_same(self, other: Statement) -> bool:
        """Whether two statements say the same of the same person."""
        if self.group != other.group or self.category is None or other.category is None:
            return False
        return set(self.category) == set(other.category) and self.is_of_same_entry(other)

    def is_of_same_entry(self, other: Statement) -> bool:
        """Whether two statements are of one entry: of the same photo, with the same class and box."""
        if (self.picture, self.gender) != (other.picture, other.gender):
            return False
        boxes = self.box_xyxy_rel, other.box_xyxy_rel
        if boxes[0] is None or boxes[1] is None:
            return False
        return all(abs(one - two) <= _SAME_BOX_TOLERANCE for one, two in zip(boxes[0], boxes[1], strict=True))

    def to_json(self) -> list[Any]:
        """As a journal keeps it: without the person, who is named beside it."""
        box, category = (None if value is None else list(value) for value in (self.box_xyxy_rel, self.category))
        return [self.picture, self.gender, box, self.group, category]

    @classmethod
    def from_json(cls, value: Any) -> Statement:
        """Reads what `to_json` gave.

        Raises:
            ValueError: it is something else.
        """
        picture, gender, box, group, category = value
        found = cls(picture, gender, box_of(box), group, category_of(category))
        if not isinstance(picture, str) or not isinstance(group, str) or found.box_xyxy_rel is None:
            raise ValueError("not a statement")
        return found


def picture_of_item(item: Any) -> str | None:
    """The name in the pool of an item's photo; None for a placeholder."""
    origin = item.get("origin") if isinstance(item, dict) else None
    filepath = origin.get("filepath") if isinstance(origin, dict) else None
    if not isinstance(filepath, str) or len(filepath) < _SHORTEST_PATH:
        return None
    return PurePosixPath(filepath).name or None


def box_of(value: Any) -> Box | None:
    """A stored box, whatever it is; None when it is not four numbers."""
    if not isinstance(value, (list, tuple)) or len(value) != 4:
        return None
    if not all(isinstance(side, (int, float)) and not isinstance(side, bool) for side in value):
        return None
    x1, y1, x2, y2 = (float(side) for side in value)
    return x1, y1, x2, y2


def category_of(value: Any) -> tuple[str, ...] | None:
    """A stored list of labels; None when it is something else."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(label, str) for label in value):
        return None
    return tuple(value)


def parts_of(entry: Any) -> list[Any]:
    """The `groups` of an entry; empty when it has none that can be read."""
    said = entry.get("groups") if isinstance(entry, dict) else None
    return said if isinstance(said, list) else []


def group_of(part: Any) -> str | None:
    """The group a part of `groups` speaks of; None when it names none."""
    group = part.get("group") if isinstance(part, dict) else None
    return group if isinstance(group, str) else None


def statement_of(picture: str, entry: Mapping[str, Any], part: Any) -> Statement | None:
    """What a part of an entry's `groups` says; None when it names no group."""
    group = group_of(part)
    if group is None:
        return None
    return Statement(picture, entry.get("gender"), box_of(entry.get("bbox")), group, category_of(part.get("category")))


def statements_of(content: Mapping[str, Any]) -> Iterator[Statement]:
    """Every statement of a PICSET, in its order."""
    for item in content.get("items") or []:
        picture = picture_of_item(item)
        trained = item.get("trained") if picture is not None else None
        for entry in trained if isinstance(trained, list) else []:
            for part in parts_of(entry):
                said = statement_of(picture or "", entry, part)
                if said is not None:
                    yield said


class Ours:
    """Tells which statements of one PICSET were written by us and stand as we wrote them.

    A statement counts as ours only while its photo, box, person class, group and labels are those that were sent, and
    nothing was added to it. Whatever somebody changed has become theirs.

    Args:
        sent: what was sent of the PICSET.
        versions: the PICSET's `neural_version`.
        replaced_runs: runs of other tools: what stands under them counts as ours too.
    """

    def __init__(
        self,
        sent: Collection[Statement] = (),
        versions: Mapping[str, Any] | None = None,
        replaced_runs: Collection[str] = (),
    ) -> None:
        self._sent: dict[tuple[str, str], list[Statement]] = {}
        for statement in sent:
            self._sent.setdefault((statement.picture, statement.group), []).append(statement)
        self._replaced_groups = {group for group, run in (versions or {}).items() if run in replaced_runs}

    def has(self, picture: str, entry: Mapping[str, Any], part: Any) -> bool:
        """Whether a part of an entry's `groups` is ours."""
        said = statement_of(picture, entry, part)
        if said is None or not set(part) <= _PART_KEYS:
            return False
        if said.group in self._replaced_groups:
            return True
        return any(said.is_same(known) for known in self._sent.get((picture, said.group), ()))

    def person_of(self, picture: str, entry: Any) -> str:
        """The id of the person whom an entry of ours is about; empty when that is not certain."""
        people = {
            known.person
            for part in parts_of(entry)
            if (said := statement_of(picture, entry, part)) is not None
            for known in self._sent.get((picture, said.group), ())
            if known.person and known.is_same(said)
        }
        return people.pop() if len(people) == 1 else ""


def person_of(said: Statement, known: Collection[Statement]) -> str:
    """The id of the person whom a statement at a collector is about; empty when that is not certain.

    Args:
        said: as it stands there.
        known: statements that were sent, with their people. Whoever changed the labels of an entry did not change its
            person; whoever changed its box or class may have.
    """
    near = [one for one in known if one.person and one.is_of_same_entry(said)]
    people = {one.person for one in near if one.is_same(said)} or {one.person for one in near}
    return people.pop() if len(people) == 1 else ""


def is_bare(entry: Mapping[str, Any]) -> bool:
    """Whether an entry holds nothing but what a prediction holds."""
    return set(entry) <= _ENTRY_KEYS


def versions_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """The `neural_version` of a PICSET: group -> run; groups whose run was withdrawn (an empty name) left out."""
    known = content["picset"].get("neural_version")
    return {group: run for group, run in known.items() if run not in ("", None)} if isinstance(known, dict) else {}
