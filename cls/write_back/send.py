"""Writes predictions to the collector and takes them back: what is ours alone, as it stands there at that moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from cls.bottle.layout import Bottle
from cls.collector.payloads import Picset
from cls.errors import BottleError, CollectorError
from cls.files import locked, sha256_of_bytes, write_json_atomic
from cls.progress import track
from cls.wording import counted
from cls.write_back.picset_updates import Collector, PicsetUpdate, PlannedUpdates
from cls.write_back.statements import JOURNAL, SentJournal

FOLDER = "previews"
_DIGESTS = TypeAdapter(dict[str, str])

# So many refusals one after another are not about single picsets.
_REFUSALS_IN_A_ROW = 3


class PreviewMemory:
    """A file of the bottle's cache, one a collector, which may be deleted."""

    def __init__(self, bottle: Bottle, collector_url: str) -> None:
        self._path = bottle.cache / FOLDER / f"{sha256_of_bytes(collector_url.encode())[:16]}.json"
        self._others: dict[str, str] = {}
        # Nothing was previewed; or it is damaged, and then nobody can compare.
        with suppress(OSError, ValidationError):
            self._others = _DIGESTS.validate_json(self._path.read_bytes())

    def keep(self, updates: Iterable[PicsetUpdate]) -> None:
        """Remembers what others say in picsets that were shown."""
        self._others |= {update.guid: update.others for update in updates}
        write_json_atomic(self._path, self._others)

    def is_changed(self, update: PicsetUpdate) -> bool:
        """Whether others have changed something in a picset since it was shown; false when it never was."""
        return self._others.get(update.guid, update.others) != update.others

    def forget(self, guids: Iterable[str]) -> None:
        """What was sent has been compared; the next preview is another one."""
        known = set(self._others)
        for guid in guids:
            self._others.pop(guid, None)
        if known != set(self._others):
            write_json_atomic(self._path, self._others)


@dataclass
class SendSummary:
    """What a sending or a withdrawal did.

    Attributes:
        known: picsets whose predictions were sent before.
        unchanged: picsets in which the collector has it all already.
        left: statements of others that stay, by group and the run they stand under.
        missing: picsets that the collector does not have.
        changed_since: picsets in which others have changed something since the preview.
    """

    sent: int = 0
    known: int = 0
    unchanged: int = 0
    left: dict[tuple[str, str], int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    changed_since: list[str] = field(default_factory=list)

    def enter(self, update: PicsetUpdate, *, is_sent: bool) -> None:
        """Counts a picset that the collector has."""
        self.sent += is_sent
        self.unchanged += not is_sent
        for statement in update.left:
            key = (statement.group, update.before.versions.get(statement.group, ""))
            self.left[key] = self.left.get(key, 0) + 1


def send_updates(
    collector: Collector, journal: SentJournal, plan: PlannedUpdates, previewed: PreviewMemory | None = None
) -> SendSummary:
    """Sends picsets, one a request; stopped at any moment and run again, it goes on where it was.

    Each is read right before it is sent, and again before every further attempt: what somebody changed there until
    then is kept.

    Args:
        collector: logged in.
        journal: what is ours there.
        plan: of `plan_sending` or `plan_withdrawal`.
        previewed: what a preview saw; the summary tells where others have changed something since.

    Raises:
        CollectorError: some picsets were refused (after the others were sent), or the collector is gone.
    """
    summary = SendSummary()
    refused: list[tuple[str, CollectorError]] = []
    in_a_row = 0
    for guid in track(plan.guids, "picsets sent", len(plan.guids)):
        try:
            update, is_sent = _send_one(collector, journal, plan, guid)
        except CollectorError as error:
            refused.append((guid, error))
            in_a_row += 1
            if in_a_row == _REFUSALS_IN_A_ROW:
                raise
            continue
        in_a_row = 0
        if update is None:
            summary.missing.append(guid)
            continue
        summary.enter(update, is_sent=is_sent)
        if previewed is not None and previewed.is_changed(update):
            summary.changed_since.append(guid)
    if refused:
        guids = ", ".join(guid for guid, _ in refused[:5])
        raise CollectorError(
            f"{len(refused)} of {counted(len(plan.guids), 'picset')} were refused ({guids}): {refused[0][1].what}",
            code="picsets_refused",
            where=refused[0][1].where,
            hint=f"{summary.sent} were sent; run the same command again to try the others once more",
        )
    return summary


def _send_one(
    collector: Collector, journal: SentJournal, plan: PlannedUpdates, guid: str
) -> tuple[PicsetUpdate | None, bool]:
    """Sends a picset; returns the last update (None: the collector does not have it), and whether anything was sent."""
    update: PicsetUpdate | None = None
    is_sent = False

    def build() -> Picset | None:
        nonlocal update, is_sent
        found = next((picset for picset in collector.picsets([guid]) if picset.guid == guid), None)
        update = plan.update(found) if found is not None else None
        # An attempt that was cut off may have arrived: then there is nothing more to change.
        if update is None or not update.is_change:
            return None
        journal.about_to_send(guid, update.sent)
        is_sent = True
        return update.after

    collector.change_trained(build)
    if update is not None:
        journal.has_sent(guid, update.sent)
    return update, is_sent


@contextmanager
def locked_journal(bottle: Bottle, collector_url: str) -> Iterator[SentJournal]:
    """The journal, for the one process that may send at a time.

    Raises:
        BottleError: another process is sending.
    """
    path = bottle.root / JOURNAL
    busy = BottleError(
        "another process is sending predictions", code="in_use", where=path, hint="wait until it is done"
    )
    with locked(path.with_suffix(".lock"), busy):
        yield SentJournal(path, collector_url)
