"""Writes predictions to the collector and takes them back: what is ours alone, as it stands there at that moment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from filelock import FileLock, Timeout

from cls.bottle.layout import Bottle
from cls.collector.payloads import Picset
from cls.errors import BottleError, CollectorError
from cls.prediction.changes import PicsetChanges, changes_between
from cls.prediction.ret_meta import with_predictions, without_statements
from cls.prediction.ret_meta_files import PicsetPredictions
from cls.prediction.sent_journal import JOURNAL, Sent, SentJournal
from cls.prediction.statements import Ours, Statement, statements_of, versions_of
from cls.progress import track
from cls.wording import counted

# Read shortly before they are written: what somebody changes in between would be lost.
_PICSETS_A_REQUEST = 20
# So many refusals one after another are not about single picsets.
_REFUSALS_IN_A_ROW = 3


class _Collector(Protocol):
    @property
    def url(self) -> str: ...

    def picsets(self, guids: Sequence[str]) -> Iterator[Picset]: ...

    def post_trained(self, picset: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Step:
    """One picset with what is to become of it.

    Attributes:
        guid: the picset.
        before: as the collector has it.
        after: as it is to be.
        sent: what will be ours in it then.
        left: statements of others about the same groups, which stay.
    """

    guid: str
    before: Mapping[str, Any] = field(repr=False)
    after: Mapping[str, Any] = field(repr=False)
    sent: Sent = field(repr=False)
    left: tuple[Statement, ...] = ()

    @property
    def is_change(self) -> bool:
        """Whether there is anything to send."""
        return self.before != self.after

    def changes(self) -> PicsetChanges:
        """What differs, person by person."""
        return changes_between(self.guid, self.before, self.after, self.left)


@dataclass
class SendSummary:
    """What a sending or a withdrawal did.

    Attributes:
        sent: picsets sent.
        known: picsets whose predictions were sent before.
        unchanged: picsets in which the collector has it all already.
        left: statements of others that stay, by group and the run they stand under.
        missing: picsets that the collector does not have.
    """

    sent: int = 0
    known: int = 0
    unchanged: int = 0
    left: dict[tuple[str, str], int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def waiting(journal: SentJournal, predictions: Sequence[PicsetPredictions]) -> list[PicsetPredictions]:
    """Those that the collector has not been sent in this form."""
    return [picset for picset in predictions if journal.of(picset.guid).digest != picset.digest]


def steps_to_send(
    collector: _Collector,
    journal: SentJournal,
    predictions: Sequence[PicsetPredictions],
    replaced_runs: Collection[str] = (),
) -> Iterator[Step | str]:
    """What is to become of picsets, one after another, each as the collector has it when it is asked for.

    Args:
        collector: where they are.
        journal: what is ours there.
        predictions: what is predicted.
        replaced_runs: runs of other tools whose statements give way too.

    Yields:
        A step a picset; the GUID of one that the collector does not have.

    Raises:
        CollectorError: the collector is gone, or answers nonsense.
    """
    wanted = {picset.guid: picset for picset in predictions}

    def step(guid: str, content: Mapping[str, Any]) -> Step:
        return _step_to_send(content, journal.of(guid), wanted[guid], replaced_runs)

    return _steps(collector, list(wanted), step)


def steps_to_withdraw(
    collector: _Collector, journal: SentJournal, groups: Sequence[str], run: str
) -> Iterator[Step | str]:
    """What is to become of the picsets in which a run's model said something of groups; see `steps_to_send`."""
    guids = list(dict.fromkeys(guid for group in groups for guid in journal.guids_of(group, run)))

    def step(guid: str, content: Mapping[str, Any]) -> Step:
        return _step_to_withdraw(guid, content, journal.of(guid), groups, run)

    return _steps(collector, guids, step)


def carry_out(collector: _Collector, journal: SentJournal, steps: Iterator[Step | str], count: int) -> SendSummary:
    """Sends picsets, one a request; stopped at any moment and run again, it goes on where it was.

    Args:
        collector: logged in.
        journal: what is ours there.
        steps: of `steps_to_send` or `steps_to_withdraw`.
        count: how many there will be.

    Raises:
        CollectorError: some picsets were refused (after the others were sent), or the collector is gone.
    """
    summary = SendSummary()
    refused: list[tuple[str, CollectorError]] = []
    in_a_row = 0
    for step in track(steps, "picsets sent", count):
        if isinstance(step, str):
            summary.missing.append(step)
            continue
        for said in step.left:
            key = (said.group, str(versions_of(step.before).get(said.group, "")))
            summary.left[key] = summary.left.get(key, 0) + 1
        if step.is_change:
            journal.about_to_send(step.guid, step.sent)
            try:
                collector.post_trained(step.after)
            except CollectorError as error:
                refused.append((step.guid, error))
                in_a_row += 1
                if in_a_row == _REFUSALS_IN_A_ROW:
                    raise
                continue
            in_a_row = 0
            summary.sent += 1
        else:
            summary.unchanged += 1
        journal.has_sent(step.guid, step.sent)
    if refused:
        guids = ", ".join(guid for guid, _ in refused[:5])
        raise CollectorError(
            f"{len(refused)} of {counted(count, 'picset')} were refused ({guids}): {refused[0][1].what}",
            where=refused[0][1].where,
            hint=f"{summary.sent} were sent; run the same command again to try the others once more",
        )
    return summary


@contextmanager
def sending(bottle: Bottle, collector_url: str) -> Iterator[SentJournal]:
    """The journal, for the one process that may send at a time.

    Raises:
        BottleError: another process is sending.
    """
    path = bottle.root / JOURNAL
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BottleError("another process is sending predictions", where=path, hint="wait until it is done") from None
    try:
        yield SentJournal(path, collector_url)
    finally:
        lock.release()


def _steps(
    collector: _Collector, guids: Sequence[str], step: Callable[[str, Mapping[str, Any]], Step]
) -> Iterator[Step | str]:
    for start in range(0, len(guids), _PICSETS_A_REQUEST):
        batch = guids[start : start + _PICSETS_A_REQUEST]
        found = {picset.guid: picset.content for picset in collector.picsets(batch)}
        for guid in batch:
            yield step(guid, found[guid]) if guid in found else guid


def _step_to_send(
    before: Mapping[str, Any], known: Sent, predicted: PicsetPredictions, replaced_runs: Collection[str]
) -> Step:
    versions = versions_of(before)
    ours = Ours([said for said, _ in known.statements], versions, replaced_runs)
    after: Mapping[str, Any] = before
    added: list[tuple[Statement, str]] = []
    for layer in predicted.layers:
        merged = with_predictions(after, layer.people, layer.runs, ours)
        after = merged.content
        added += [(said, layer.runs[said.group]) for said in merged.added]
    standing = list(statements_of(after))
    new = [said for said, _ in added]
    kept = [row for row in known.statements if _has(standing, row[0]) and not _has(new, row[0])]
    still_ours = [*new, *(said for said, _ in kept)]
    left = [said for said in standing if said.group in predicted.runs and not _has(still_ours, said)]
    first = {group: str(versions.get(group, "")) for group in predicted.runs if group not in known.before}
    sent = Sent(predicted.digest, (*kept, *added), {**known.before, **first})
    return Step(predicted.guid, before, after, sent, tuple(left))


def _step_to_withdraw(guid: str, before: Mapping[str, Any], known: Sent, groups: Sequence[str], run: str) -> Step:
    rest = tuple(row for row in known.statements if not (row[1] == run and row[0].group in groups))
    staying = [said for said, _ in rest]
    gone = [said for group in groups for said in known.of(group, run) if not _has(staying, said)]
    now = versions_of(before)
    # An empty name says that no run speaks of the group: collectors that merge what they are sent keep names left out.
    versions = {
        group: known.before.get(group, "")
        for group in groups
        if now.get(group) == run and not any(said.group == group for said in staying)
    }
    after = without_statements(before, groups, Ours(gone), versions)
    still = {group: known.before[group] for group in known.before if any(said.group == group for said in staying)}
    left = [said for said in statements_of(after) if said.group in groups and not _has(staying, said)]
    return Step(guid, before, after, Sent("", rest, still), tuple(left))


def _has(statements: Sequence[Statement], wanted: Statement) -> bool:
    return any(wanted.is_same(said) for said in statements)
