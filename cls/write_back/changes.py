"""What would change at the collector, statement by statement: as a table and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict

from cls.collector.payloads import Box, Picset
from cls.write_back.ret_meta import iou
from cls.write_back.statements import Statement, person_of, statements_of

Kind = Literal["added", "changed", "removed", "left"]
KINDS: tuple[Kind, ...] = ("added", "changed", "removed", "left")
_MOST_TELLING_FIRST: tuple[Kind, ...] = ("removed", "changed", "left", "added")
_SAME_PERSON_IOU = 0.5


class ChangeJson(TypedDict):
    """One person and group of a preview written with `--json`; `was` and `becomes` as in `Change`."""

    change: Kind
    picture: str
    person: str | None
    gender: Any
    bbox: Box | None
    group: str
    was: tuple[str, ...] | None
    becomes: tuple[str, ...] | None


class PicsetChangesJson(TypedDict):
    """One picset of a preview; `neural_version`: group -> the run before and after."""

    guid: str
    neural_version: dict[str, tuple[str, str]]
    people: list[ChangeJson]


class PreviewJson(TypedDict):
    """A preview written with `--json`."""

    collector: str
    counts: dict[str, int]
    picsets: list[PicsetChangesJson]


@dataclass(frozen=True)
class Change:
    """One person of one photo, for one group.

    Attributes:
        kind: `left`: somebody else has said something of the group there, and it stays.
        statement: the new one; the old one where it is removed or left.
        was: the labels before; None where nothing was statement.
        becomes: the labels after; None where nothing is said any more.
    """

    kind: Kind
    statement: Statement
    was: tuple[str, ...] | None
    becomes: tuple[str, ...] | None

    def as_json(self) -> ChangeJson:
        """As the JSON preview shows it."""
        statement = self.statement
        return {
            "change": self.kind,
            "picture": statement.picture,
            "person": statement.person or None,
            "gender": statement.gender,
            "bbox": statement.box_xyxy_rel,
            "group": statement.group,
            "was": self.was,
            "becomes": self.becomes,
        }


@dataclass(frozen=True)
class PicsetChanges:
    """What would change in one picset.

    Attributes:
        versions: group -> what `neural_version` says of it before and after, where that differs.
    """

    guid: str
    versions: Mapping[str, tuple[str, str]]
    changes: tuple[Change, ...]

    def as_json(self) -> PicsetChangesJson:
        """As the JSON preview shows it."""
        return {
            "guid": self.guid,
            "neural_version": dict(self.versions),
            "people": [change.as_json() for change in self.changes],
        }


@dataclass(frozen=True)
class PicsetState:
    """A PICSET at one moment."""

    picset: Picset
    sent: Sequence[Statement] = ()

    def statements(self) -> list[Statement]:
        """Every statement, with its person where that is known."""
        return [_named(statement, self.sent) for statement in statements_of(self.picset)]


def changes_between(
    guid: str, before: PicsetState, after: PicsetState, left: Sequence[Statement] = ()
) -> PicsetChanges:
    """Compares a PICSET with what it would become.

    Who is who is told by the ids, and by boxes that overlap by half where one is not known.

    Args:
        guid: the picset.
        before: as the collector has it.
        after: as it would be sent.
        left: statements of others, to be told of.
    """
    old, new = _different(before.statements(), after.statements())
    changes: list[Change] = []
    # Whoever has an id finds the old statement first: a box alone must not take it away.
    for statement in sorted(new, key=lambda one: not one.person):
        twin = max(old, key=lambda other: _closeness(other, statement), default=None)
        if twin is not None and _closeness(twin, statement) >= _SAME_PERSON_IOU:
            old = [other for other in old if other is not twin]
            changes.append(Change("changed", statement, twin.category, statement.category))
        else:
            changes.append(Change("added", statement, None, statement.category))
    changes += [Change("removed", statement, statement.category, None) for statement in old]
    known = [*after.sent, *before.sent]
    changes += [Change("left", _named(statement, known), statement.category, statement.category) for statement in left]
    was, becomes = before.picset.versions, after.picset.versions
    versions = {
        group: (was.get(group, ""), becomes.get(group, ""))
        for group in {**was, **becomes}
        if was.get(group) != becomes.get(group)
    }
    return PicsetChanges(guid, versions, tuple(changes))


def counts_of(picsets: Sequence[PicsetChanges]) -> dict[str, int]:
    """How many statements would be added, changed, removed, and how many are left as others made them."""
    counts = Counter(change.kind for picset in picsets for change in picset.changes)
    return {kind: counts[kind] for kind in KINDS}


def preview_as_json(collector_url: str, picsets: Sequence[PicsetChanges]) -> PreviewJson:
    """The whole preview as JSON values."""
    return {
        "collector": collector_url,
        "counts": counts_of(picsets),
        "picsets": [picset.as_json() for picset in picsets],
    }


def table_of(picsets: Sequence[PicsetChanges], limit: int) -> list[str]:
    """The preview as lines of a table.

    Args:
        picsets: what would change.
        limit: rows shown at most; the last line says how many more there are, and where.

    Returns:
        The lines; none where nothing changes.
    """
    rows = [("change", "picset", "picture", "person", "group", "was", "becomes")]
    # What takes something away comes first: the end of a long table is cut.
    told = sorted(
        ((picset.guid, change) for picset in picsets for change in picset.changes),
        key=lambda row: _MOST_TELLING_FIRST.index(row[1].kind),
    )
    for guid, change in told:
        statement = change.statement
        box = "?" if statement.box_xyxy_rel is None else " ".join(f"{side:.2f}" for side in statement.box_xyxy_rel)
        person = f"{statement.person} {statement.gender} {box}".lstrip()
        rows.append(
            (change.kind, guid, statement.picture, person, statement.group, _text(change.was), _text(change.becomes))
        )
    if len(rows) == 1:
        return []
    shown = rows[: limit + 1]
    widths = [max(len(row[column]) for row in shown) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]
    return lines + (
        [f"… and {len(rows) - len(shown)} more; --json FILE has them all"] if len(rows) > len(shown) else []
    )


def _text(category: tuple[str, ...] | None) -> str:
    return "-" if category is None else ", ".join(category)


def _closeness(one: Statement, two: Statement) -> float:
    if (one.picture, one.group) != (two.picture, two.group):
        return 0.0
    if one.person and two.person:
        return float(one.person == two.person)
    return iou(one.box_xyxy_rel, two.box_xyxy_rel)


def _named(statement: Statement, known: Sequence[Statement]) -> Statement:
    return replace(statement, person=person_of(statement, known))


def _different(old: list[Statement], new: list[Statement]) -> tuple[list[Statement], list[Statement]]:
    """Both without the statements that stand in both."""
    left = list(old)
    fresh: list[Statement] = []
    for statement in new:
        same = next((other for other in left if other == statement or other.is_same(statement)), None)
        if same is None:
            fresh.append(statement)
        else:
            left.remove(same)
    return left, fresh
