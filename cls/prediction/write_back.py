"""Sends ret_meta.json files to the collector, each version once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from cls.bottle.layout import Bottle
from cls.collector.payloads import picset_of
from cls.errors import BottleError, CollectorError
from cls.files import read_json, sha256_of_bytes
from cls.prediction.ret_meta import RET_META_NAME
from cls.progress import track
from cls.wording import counted

JOURNAL = Path("journals") / "ret_meta_sent.jsonl"
# So many refusals one after another are not about single picsets.
_REFUSALS_IN_A_ROW = 3


class _Collector(Protocol):
    @property
    def url(self) -> str: ...

    def post_trained(self, picset: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class RetMeta:
    """A ret_meta.json.

    Attributes:
        file: where it is.
        guid: its picset.
        digest: of its content, however it is laid out.
        content: the PICSET.
    """

    file: Path
    guid: str
    digest: str
    content: Mapping[str, Any] = field(repr=False)

    def summary(self) -> str:
        """The picset with what was predicted, on one line."""
        entries = [entry for item in self.content.get("items") or [] for entry in item.get("trained") or []]
        runs = self.content["picset"].get("neural_version") or {}
        versions = ", ".join(f"{group}: {run}" for group, run in runs.items())
        photos = counted(len(self.content.get("items") or []), "photo")
        return f"{self.guid}: {counted(len(entries), 'person')} in {photos} ({versions})"


@dataclass
class SendSummary:
    """What a sending did.

    Attributes:
        sent: picsets sent.
        known: files whose content the collector has been sent before.
    """

    sent: int = 0
    known: int = 0


class SentJournal:
    """What was sent, one line each, appended after the collector said yes; a line cut off by a kill does not count.

    Args:
        path: the file.
        collector_url: other collectors' lines are passed over.
    """

    def __init__(self, path: Path, collector_url: str) -> None:
        self._path = path
        self._collector_url = collector_url
        self._digests: dict[str, str] = {}
        self._is_cut = False
        if not path.exists():
            return
        text = path.read_text(encoding="utf-8", errors="replace")
        self._is_cut = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                if entry["collector"] == collector_url:
                    self._digests[entry["guid"]] = entry["sha256"]
            except (ValueError, KeyError, TypeError):
                continue  # cut off by a kill: that picset is sent again, which changes nothing there

    def has(self, ret_meta: RetMeta) -> bool:
        """Whether this content is what the collector was last sent of the picset."""
        return self._digests.get(ret_meta.guid) == ret_meta.digest

    def add(self, ret_meta: RetMeta) -> None:
        """Remembers that this content was sent."""
        entry = {"collector": self._collector_url, "guid": ret_meta.guid, "sha256": ret_meta.digest}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(("\n" if self._is_cut else "") + json.dumps(entry, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        self._is_cut = False
        self._digests[ret_meta.guid] = ret_meta.digest


def read_ret_metas(bottle: Bottle, groups: Sequence[str]) -> list[RetMeta]:
    """The ret_meta.json files of groups, one a picset: of several, the newest file counts.

    Raises:
        BottleError: a group has none; the hint says how to make them.
        FileError: one is not JSON.
        CollectorError: one is not a PICSET.
    """
    newest: dict[str, tuple[float, RetMeta]] = {}
    for group in groups:
        files = sorted(bottle.meta(group).glob(f"*/{RET_META_NAME}"))
        if not files:
            raise BottleError(
                f"group '{group}' has no {RET_META_NAME}",
                where=bottle.meta(group),
                hint=f'run `cls segment-meta --groups "{group}"` first',
            )
        for file in files:
            picset = picset_of(read_json(file), where=file)
            text = json.dumps(picset.content, ensure_ascii=False, sort_keys=True)
            ret_meta = RetMeta(file, picset.guid, sha256_of_bytes(text.encode()), picset.content)
            changed_s = file.stat().st_mtime
            if picset.guid not in newest or changed_s > newest[picset.guid][0]:
                newest[picset.guid] = (changed_s, ret_meta)
    return [ret_meta for _, ret_meta in newest.values()]


def unsent(bottle: Bottle, collector_url: str, ret_metas: Sequence[RetMeta]) -> list[RetMeta]:
    """Those that the collector has not been sent in this form."""
    journal = SentJournal(bottle.root / JOURNAL, collector_url)
    return [ret_meta for ret_meta in ret_metas if not journal.has(ret_meta)]


def send(bottle: Bottle, collector: _Collector, ret_metas: Sequence[RetMeta]) -> SendSummary:
    """Sends what has not been sent, one picset a request; run again, it goes on from where it stopped.

    Args:
        bottle: the data folder; holds the journal.
        collector: logged in.
        ret_metas: what to send.

    Raises:
        CollectorError: some picsets were refused (after the others were sent), or the collector is gone.
        BottleError: another process is sending.
    """
    path = bottle.root / JOURNAL
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_suffix(".lock")).acquire(timeout=0):
            return _send(SentJournal(path, collector.url), collector, ret_metas)
    except Timeout:
        raise BottleError("another process is sending predictions", where=path, hint="wait until it is done") from None


def _send(journal: SentJournal, collector: _Collector, ret_metas: Sequence[RetMeta]) -> SendSummary:
    summary = SendSummary()
    refused: list[tuple[RetMeta, CollectorError]] = []
    in_a_row = 0
    for ret_meta in track(ret_metas, "picsets sent"):
        if journal.has(ret_meta):
            summary.known += 1
            continue
        try:
            collector.post_trained(ret_meta.content)
        except CollectorError as error:
            refused.append((ret_meta, error))
            in_a_row += 1
            if in_a_row == _REFUSALS_IN_A_ROW:
                raise
            continue
        in_a_row = 0
        journal.add(ret_meta)
        summary.sent += 1
    if refused:
        guids = ", ".join(ret_meta.guid for ret_meta, _ in refused[:5])
        raise CollectorError(
            f"{len(refused)} of {counted(len(ret_metas), 'picset')} were refused ({guids}): {refused[0][1].what}",
            where=refused[0][1].where,
            hint=f"{summary.sent} were sent; run the same command again to try the others once more",
        )
    return summary
