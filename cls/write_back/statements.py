"""What a PICSET says of people, which statements are our own, and the journal of what was sent to collectors."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from cls.collector.client import redacted_url
from cls.collector.payloads import Box, GroupLabels, Picset, TrainedEntry
from cls.records import JsonLines

# A collector may keep boxes as 32-bit numbers, or to four digits.
_SAME_BOX_TOLERANCE = 1e-3

JOURNAL = Path("journals") / "ret_meta_sent.jsonl"


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
        statement = statement_of(picture, entry, labels)
        if statement is not None:
            yield statement


class OwnStatements:
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
        statement = statement_of(picture, entry, labels)
        if statement is None or not labels.is_bare:
            return False
        if statement.group in self._replaced_groups:
            return True
        return any(statement.is_same(known) for known in self._sent.get((picture, statement.group), ()))

    def person_of(self, picture: str, entry: TrainedEntry) -> str:
        """The id of the person whom an entry of ours is about; empty when that is not certain."""
        people = {
            known.person
            for statement in statements_of_entry(picture, entry)
            for known in self._sent.get((picture, statement.group), ())
            if known.person and known.is_same(statement)
        }
        return people.pop() if len(people) == 1 else ""


def person_of(statement: Statement, known: Collection[Statement]) -> str:
    """The id of the person whom a statement at a collector is about; empty when that is not certain.

    Args:
        statement: as it stands there.
        known: statements that were sent, with their people. Whoever changed the labels of an entry did not change its
            person; whoever changed its box or class may have.
    """
    near = [one for one in known if one.person and one.is_of_same_entry(statement)]
    people = {one.person for one in near if one.is_same(statement)} or {one.person for one in near}
    return people.pop() if len(people) == 1 else ""


@dataclass(frozen=True)
class Sent:
    """What a collector has of ours in one picset.

    Attributes:
        digest: of the predictions last sent; empty after a withdrawal, or when they are not known to have arrived.
        statements: statement and the run that made it.
        before: group -> what `neural_version` said of it before our first sending.
    """

    digest: str = ""
    statements: tuple[tuple[Statement, str], ...] = ()
    before: Mapping[str, str] = field(default_factory=dict)

    @property
    def statements_alone(self) -> tuple[Statement, ...]:
        """The statements alone."""
        return tuple(statement for statement, _ in self.statements)

    def of(self, group: str, run: str) -> tuple[Statement, ...]:
        """What a run's model said of a group."""
        return tuple(statement for statement, by in self.statements if statement.group == group and by == run)


class _Row(NamedTuple):
    """A statement as the journal keeps it; lines of older versions name no person."""

    picture: str
    gender: Any
    box_xyxy_rel: Box
    group: str
    category: tuple[str, ...] | None
    run: str
    person: str = ""


class _JournalLine(BaseModel):
    """A line of the journal; those of older versions have no state, the oldest no statements either."""

    model_config = ConfigDict(frozen=True)

    collector: str
    guid: str
    state: Literal["sending", "sent"] | None = None
    sha256: str
    statements: tuple[_Row, ...] = ()
    before: dict[str, str] = {}


class SentJournal:
    """What one collector was sent, by picset.

    A line is written before a picset is sent and another one after the collector said yes. What a process killed in
    between may have sent counts as ours, and is sent again. A line cut off by a kill does not count; lines of older
    versions, which name no statements, say nothing of what is ours.

    Args:
        path: the file.
        collector_url: other collectors' lines are passed over.
    """

    def __init__(self, path: Path, collector_url: str) -> None:
        self._lines = JsonLines(path, _JournalLine)
        self.collector_url = collector_url
        self._picsets: dict[str, Sent] = {}
        self._ever: dict[str, list[Statement]] = {}
        for line in self._lines.read():  # a picset whose line was cut off is sent again, which changes nothing there
            self._apply(line)

    def of(self, guid: str) -> Sent:
        """What the collector has of ours in a picset."""
        return self._picsets.get(guid, Sent())

    def was_ever_sent(self, guid: str, statement: Statement) -> bool:
        """Whether a statement was ours at any time, also one that was withdrawn since."""
        return any(statement.is_same(known) for known in self._ever.get(guid, ()))

    def guids_of(self, group: str, run: str) -> list[str]:
        """The picsets in which a run's model said something of a group."""
        return [guid for guid, sent in self._picsets.items() if sent.of(group, run)]

    def runs_of(self, group: str) -> list[str]:
        """The runs whose models said something of a group."""
        found = (by for sent in self._picsets.values() for statement, by in sent.statements if statement.group == group)
        return list(dict.fromkeys(found))

    def about_to_send(self, guid: str, sent: Sent) -> None:
        """Remembers what will be ours, before it is sent."""
        self._add("sending", guid, sent)

    def has_sent(self, guid: str, sent: Sent) -> None:
        """Remembers that the collector took it."""
        self._add("sent", guid, sent)

    def _add(self, state: Literal["sending", "sent"], guid: str, sent: Sent) -> None:
        rows = [
            [
                statement.picture,
                statement.gender,
                statement.box_xyxy_rel,
                statement.group,
                statement.category,
                run,
                statement.person,
            ]
            for statement, run in sent.statements
        ]
        line = _JournalLine.model_validate(
            {
                "collector": self.collector_url,
                "guid": guid,
                "state": state,
                "sha256": sent.digest,
                "statements": rows,
                "before": sent.before,
            }
        )
        self._lines.append(line, is_durable=True)
        self._apply(line)

    def _apply(self, line: _JournalLine) -> None:
        if line.collector != self.collector_url:
            return
        statements = tuple((Statement(*row[:5], person=row.person), row.run) for row in line.statements)
        self._ever.setdefault(line.guid, []).extend(statement for statement, _ in statements)
        if line.state != "sending":
            self._picsets[line.guid] = Sent(line.sha256 if line.state else "", statements, line.before)
            return
        # What stood there before or what is sent now: either may be found.
        known = self.of(line.guid)
        new = tuple(row for row in statements if row not in known.statements)
        self._picsets[line.guid] = Sent("", (*known.statements, *new), {**line.before, **known.before})


def read_journal(root: Path, collector_url: str) -> SentJournal:
    """The journal of a bottle for a collector, however its address is written in the configuration."""
    return SentJournal(root / JOURNAL, redacted_url(collector_url.rstrip("/")))
