"""What a PICSET says of people, one statement a person and group, and which statements are our own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cls.collector.payloads import Box, GroupLabels, Picset, TrainedEntry

# A collector may keep boxes as 32-bit numbers, or to four digits.
_SAME_BOX_TOLERANCE = 1e-3


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


def statement_of(picture: str, entry: TrainedEntry, labels: GroupLabels) -> Statement | None:
    """What an entry says of a group; None when it names none."""
    if labels.group is None:
        return None
    return Statement(picture, entry.gender, entry.box_xyxy_rel, labels.group, labels.category)


def statements_of(picset: Picset) -> Iterator[Statement]:
    """Every statement of a PICSET, in its order."""
    for item in picset.items:
        if item.picture is not None:
            for entry in item.trained or ():
                yield from statements_of_entry(item.picture, entry)


def statements_of_entry(picture: str, entry: TrainedEntry) -> Iterator[Statement]:
    """Every statement of an entry, in its order."""
    for labels in entry.groups or ():
        said = statement_of(picture, entry, labels)
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
        versions: Mapping[str, str] | None = None,
        replaced_runs: Collection[str] = (),
    ) -> None:
        self._sent: dict[tuple[str, str], list[Statement]] = {}
        for statement in sent:
            self._sent.setdefault((statement.picture, statement.group), []).append(statement)
        self._replaced_groups = {group for group, run in (versions or {}).items() if run in replaced_runs}

    def has(self, picture: str, entry: TrainedEntry, labels: GroupLabels) -> bool:
        """Whether what an entry says of a group is ours."""
        said = statement_of(picture, entry, labels)
        if said is None or not labels.is_bare:
            return False
        if said.group in self._replaced_groups:
            return True
        return any(said.is_same(known) for known in self._sent.get((picture, said.group), ()))

    def person_of(self, picture: str, entry: TrainedEntry) -> str:
        """The id of the person whom an entry of ours is about; empty when that is not certain."""
        people = {
            known.person
            for said in statements_of_entry(picture, entry)
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
