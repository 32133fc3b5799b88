"""What was sent to collectors: what is ours there, what need not be sent again, what can be withdrawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from cls.collector.payloads import Box
from cls.collector.retrying import shown_url
from cls.records import JsonLines
from cls.write_back.statements import Statement

JOURNAL = Path("journals") / "ret_meta_sent.jsonl"


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
    def said(self) -> tuple[Statement, ...]:
        """The statements alone."""
        return tuple(said for said, _ in self.statements)

    def of(self, group: str, run: str) -> tuple[Statement, ...]:
        """What a run's model said of a group."""
        return tuple(said for said, by in self.statements if said.group == group and by == run)


class _Row(NamedTuple):
    """A statement as the journal keeps it; lines of older versions name no person."""

    picture: str
    gender: Any
    box_xyxy_rel: Box
    group: str
    category: tuple[str, ...] | None
    run: str
    person: str = ""


class _Line(BaseModel):
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
        self._lines = JsonLines(path, _Line)
        self.collector_url = collector_url
        self._picsets: dict[str, Sent] = {}
        self._ever: dict[str, list[Statement]] = {}
        for line in self._lines.read():  # a picset whose line was cut off is sent again, which changes nothing there
            self._take(line)

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
        found = (by for sent in self._picsets.values() for said, by in sent.statements if said.group == group)
        return list(dict.fromkeys(found))

    def about_to_send(self, guid: str, sent: Sent) -> None:
        """Remembers what will be ours, before it is sent."""
        self._add("sending", guid, sent)

    def has_sent(self, guid: str, sent: Sent) -> None:
        """Remembers that the collector took it."""
        self._add("sent", guid, sent)

    def _add(self, state: Literal["sending", "sent"], guid: str, sent: Sent) -> None:
        rows = [
            [said.picture, said.gender, said.box_xyxy_rel, said.group, said.category, run, said.person]
            for said, run in sent.statements
        ]
        line = _Line.model_validate(
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
        self._take(line)

    def _take(self, line: _Line) -> None:
        if line.collector != self.collector_url:
            return
        statements = tuple((Statement(*row[:5], person=row.person), row.run) for row in line.statements)
        self._ever.setdefault(line.guid, []).extend(said for said, _ in statements)
        if line.state != "sending":
            self._picsets[line.guid] = Sent(line.sha256 if line.state else "", statements, line.before)
            return
        # What stood there before or what is sent now: either may be found.
        known = self.of(line.guid)
        new = tuple(row for row in statements if row not in known.statements)
        self._picsets[line.guid] = Sent("", (*known.statements, *new), {**line.before, **known.before})


def read_journal(root: Path, collector_url: str) -> SentJournal:
    """The journal of a bottle for a collector, however its address is written in the configuration."""
    return SentJournal(root / JOURNAL, shown_url(collector_url.rstrip("/")))
