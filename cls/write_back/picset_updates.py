"""What is to become of picsets at the collector: predictions put in, or taken back; what others made stays."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cls.collector.payloads import Picset
from cls.files import sha256_of_bytes
from cls.write_back.changes import PicsetChanges, Side, changes_between
from cls.write_back.ret_meta import PicsetPredictions, with_predictions, without_statements
from cls.write_back.sent_journal import Sent, SentJournal
from cls.write_back.statements import Ours, Statement, statements_of

# So many at a time for a preview; what is sent is read one by one, right before it is sent.
_PICSETS_A_REQUEST = 20


class _Collector(Protocol):
    def picsets(self, guids: Sequence[str]) -> Iterator[Picset]: ...


@dataclass(frozen=True)
class PicsetUpdate:
    """One picset with what is to become of it.

    Attributes:
        guid: the picset.
        before: as the collector has it.
        after: as it is to be.
        sent: what will be ours in it then.
        known: what is ours in it now.
        others: a digest of what others say in it of people.
        left: statements of others about the same groups, which stay.
    """

    guid: str
    before: Picset = field(repr=False)
    after: Picset = field(repr=False)
    sent: Sent = field(repr=False)
    known: Sent = field(repr=False)
    others: str
    left: tuple[Statement, ...] = ()

    @property
    def is_change(self) -> bool:
        """Whether there is anything to send."""
        return self.before.content != self.after.content

    def changes(self) -> PicsetChanges:
        """What differs, person by person."""
        before, after = Side(self.before, self.known.said), Side(self.after, self.sent.said)
        return changes_between(self.guid, before, after, self.left)


@dataclass(frozen=True)
class PlannedUpdates:
    """What is to be done to picsets.

    Attributes:
        guids: which ones.
        update: the picset as the collector has it -> what is to become of it.
    """

    guids: tuple[str, ...]
    update: Callable[[Picset], PicsetUpdate] = field(repr=False)


def plan_sending(
    journal: SentJournal, predictions: Sequence[PicsetPredictions], replaced_runs: Collection[str] = ()
) -> PlannedUpdates:
    """Puts predictions in.

    Args:
        journal: what is ours at the collector.
        predictions: what is predicted.
        replaced_runs: runs of other tools whose statements give way too.
    """
    wanted = {picset.guid: picset for picset in predictions}

    def update(before: Picset) -> PicsetUpdate:
        return _update_to_send(before, journal.of(before.guid), wanted[before.guid], replaced_runs)

    return PlannedUpdates(tuple(wanted), update)


def plan_withdrawal(journal: SentJournal, runs: Mapping[str, str]) -> PlannedUpdates:
    """Takes back what runs' models said.

    Args:
        journal: what is ours at the collector.
        runs: group -> the run whose words about it go.
    """
    guids = dict.fromkeys(guid for group, run in runs.items() for guid in journal.guids_of(group, run))

    def update(before: Picset) -> PicsetUpdate:
        return _update_to_withdraw(before, journal.of(before.guid), runs)

    return PlannedUpdates(tuple(guids), update)


def unsent(journal: SentJournal, predictions: Sequence[PicsetPredictions]) -> list[PicsetPredictions]:
    """Those that the collector has not been sent in this form."""
    return [picset for picset in predictions if journal.of(picset.guid).digest != picset.digest]


def updates_of(collector: _Collector, plan: PlannedUpdates) -> Iterator[PicsetUpdate | str]:
    """What would become of picsets as the collector has them now.

    Yields:
        One update for each picset; the GUID of one that the collector does not have.

    Raises:
        CollectorError: the collector is gone, or answers nonsense.
    """
    for start in range(0, len(plan.guids), _PICSETS_A_REQUEST):
        batch = plan.guids[start : start + _PICSETS_A_REQUEST]
        found = {picset.guid: picset for picset in collector.picsets(batch)}
        for guid in batch:
            yield plan.update(found[guid]) if guid in found else guid


def _update_to_send(
    before: Picset, known: Sent, predicted: PicsetPredictions, replaced_runs: Collection[str]
) -> PicsetUpdate:
    after = before
    added: list[tuple[Statement, str]] = []
    for layer in predicted.layers:
        # What the layers before have added tells whose entries they are.
        ours = Ours([*known.said, *(said for said, _ in added)], before.versions, replaced_runs)
        merged = with_predictions(after, layer.people, layer.runs, ours)
        after = merged.picset
        added += [(said, layer.runs[said.group]) for said in merged.added]
    standing = list(statements_of(after))
    new = [said for said, _ in added]
    kept = [row for row in known.statements if _has(standing, row[0]) and not _has(new, row[0])]
    still_ours = [*new, *(said for said, _ in kept)]
    left = [said for said in standing if said.group in predicted.runs and not _has(still_ours, said)]
    first = {group: before.versions.get(group, "") for group in predicted.runs if group not in known.before}
    sent = Sent(predicted.digest, (*kept, *added), {**known.before, **first})
    return PicsetUpdate(predicted.guid, before, after, sent, known, _others_digest(before, known), tuple(left))


def _update_to_withdraw(before: Picset, known: Sent, runs: Mapping[str, str]) -> PicsetUpdate:
    rest = tuple(row for row in known.statements if runs.get(row[0].group) != row[1])
    staying = [said for said, _ in rest]
    gone = [said for group, run in runs.items() for said in known.of(group, run) if not _has(staying, said)]
    # An empty name says that no run speaks of the group: collectors that merge what they are sent keep names left out.
    versions = {
        group: known.before.get(group, "")
        for group, run in runs.items()
        if before.versions.get(group) == run and not any(said.group == group for said in staying)
    }
    after = without_statements(before, runs, Ours(gone), versions)
    still = {group: known.before[group] for group in known.before if any(said.group == group for said in staying)}
    left = [said for said in statements_of(after) if said.group in runs and not _has(staying, said)]
    return PicsetUpdate(
        before.guid, before, after, Sent("", rest, still), known, _others_digest(before, known), tuple(left)
    )


def _others_digest(picset: Picset, known: Sent) -> str:
    """The same as long as others say the same, whatever becomes of what is ours."""
    rest = without_statements(picset, {said.group for said in known.said}, Ours(known.said), {})
    trained = [[item.picture, [entry.source for entry in item.trained or ()]] for item in rest.items]
    return sha256_of_bytes(json.dumps(trained, sort_keys=True, default=str).encode())[:32]


def _has(statements: Sequence[Statement], wanted: Statement) -> bool:
    return any(wanted.is_same(said) for said in statements)
