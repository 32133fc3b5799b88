"""Loads a group, or picsets listed by GUID, into the bottle: meta.json of picsets, pictures, the dataset file."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from cls.bottle.dataset_file import GroupDataset, LabelledRow, write_dataset_if_changed
from cls.bottle.layout import Bottle, read_forgotten
from cls.collector.client import CollectorClient
from cls.collector.listing import MIN_FILEPATH_SIGNS, Listing, SkippedPicture, problem_of_filepath
from cls.collector.payloads import Picset
from cls.errors import CollectorError, FileError, UsageError
from cls.files import json_text, read_json, remove_parts, safe_name, write_text_atomic
from cls.loading.config import LoadConfig
from cls.loading.download import DownloadStatus, PicturePool
from cls.options import noted, refuse_all
from cls.records import Record, write_record
from cls.sources import Source
from cls.sources.folders import group_of_layout, open_photo_set
from cls.sources.without_forgotten import SourceWithoutForgotten
from cls.wording import counted

_log = logging.getLogger("cls.collector")

_WRITERS = 8
_LEDGER_KEY = "ledger"
_GUID = re.compile(r"\{?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\}?", re.IGNORECASE)


def _store_picsets(bottle: Bottle, group: str, picsets: Iterable[Picset]) -> set[str]:
    """Writes each picset's PICSET as it came, unknown fields included; returns their GUIDs.

    Raises:
        FileError: a file cannot be written.
    """
    # Making a small file durable is nearly all waiting, and several can wait at once.
    written: dict[str, Future[None]] = {}
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="picset") as executor:
        for picset in picsets:
            if picset.guid not in written:
                written[picset.guid] = executor.submit(_store_picset, bottle, group, picset)
        for future in written.values():
            future.result()
    return set(written)


def _store_picset(bottle: Bottle, group: str, picset: Picset) -> None:
    """Writes one picset's meta.json, unless it would not change."""
    file = bottle.meta_file(group, picset.guid)
    # Other steps keep files of their own in this folder and may be writing one.
    remove_parts(file.parent, file.name)
    text = json_text(picset.content, indent=2) + "\n"
    if not file.exists() or file.read_bytes() != text.encode():
        write_text_atomic(file, text)


class LoadReport(Record):
    """ledger/load/<group>.json: what the last load of a group did.

    Attributes:
        group: the group's name as annotators typed it.
        source: where photos and labels came from.
        loaded_at: ISO 8601, in UTC.
        pictures_stored: pictures fetched by this load.
        pictures_kept: pictures that were there already.
        placeholders: entries without a picture.
        skipped: pictures left out, with the reason.
        contradictory: addresses under trash and under a label at once; the label counts.
        empty_labels: labels without a usable photo; they are no part of the dataset.
        unknown_picsets: picsets that are listed and that the source then knows nothing of.
    """

    group: str
    source: str
    loaded_at: str
    photos: int
    pictures_stored: int
    pictures_kept: int
    picsets: int
    placeholders: int
    skipped: tuple[SkippedPicture, ...] = ()
    contradictory: tuple[str, ...] = ()
    empty_labels: tuple[str, ...] = ()
    unknown_picsets: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadedGroup:
    """A loaded group and its report.

    Attributes:
        dataset: the group's labelled photos.
        dataset_file: where it is kept.
        is_changed: whether that file was written; an equal one is left alone.
        report: what was loaded and left out.
        report_file: where the report is kept.
    """

    dataset: GroupDataset
    dataset_file: Path
    is_changed: bool
    report: LoadReport
    report_file: Path

    def __repr__(self) -> str:
        """The dataset, and how many pictures were left out."""
        return f"LoadedGroup({self.dataset!r}, {counted(len(self.report.skipped), 'picture')} left out)"

    def _repr_html_(self) -> str:
        """The dataset in a notebook, and how many pictures were left out."""
        left_out = f"<p>{counted(len(self.report.skipped), 'picture')} left out: {escape(str(self.report_file))}</p>"
        return self.dataset._repr_html_() + (left_out if self.report.skipped else "")


@contextmanager
def load_lock(bottle: Bottle) -> Iterator[None]:
    """Lets one load at a time work on a bottle; a second one waits, and says so."""
    from filelock import FileLock, Timeout

    bottle.ledger.mkdir(parents=True, exist_ok=True)
    lock = FileLock(bottle.ledger / ".load.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _log.warning("another load is working on this bottle; waiting for it to end")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def load_group(source: Source, bottle: Bottle, group: str, *, workers: int) -> LoadedGroup:
    """Loads one group: nothing is lost or doubled when it is killed and run again.

    Raises:
        CollectorError: the source cannot be used, has no such group, or not one usable photo of it. An older dataset
            file of the group stays as it is.
        FileError: the bottle cannot be written.
    """
    listing = source.listing(group)
    if not listing.labels:
        raise CollectorError(
            f"group '{group}' has no category besides trash",
            code="no_labels",
            where=source.description,
            hint="a group needs at least one label; add one in the collector",
        )
    with load_lock(bottle):
        photos, picsets = counted(len(listing.pictures), "photo"), counted(len(listing.picsets), "picset")
        _log.info("group '%s': %s in %s listed", group, photos, picsets)
        guids = _store_picsets(bottle, group, source.picsets(listing.picsets))
        downloads = PicturePool(bottle, source).fetch(
            (picture.filepath for picture in listing.pictures), workers=workers
        )
        rows = _rows(listing, downloads.statuses)
        skipped = (*listing.skipped, *downloads.skipped)
        used = {label for labels, _ in rows.values() for label in labels}
        if not used:
            raise CollectorError(
                f"not one labelled photo of group '{group}' could be loaded ({len(skipped)} left out"
                + (f", e.g. {skipped[0].filepath}: {skipped[0].reason})" if skipped else ")"),
                code="no_usable_photos",
                where=source.description,
            )
        dataset = _dataset(listing, rows, tuple(label for label in listing.labels if label in used), source)
        report = LoadReport(
            group=group,
            source=source.description,
            loaded_at=_now(),
            photos=len(dataset.rows),
            pictures_stored=downloads.count(DownloadStatus.STORED),
            pictures_kept=downloads.count(DownloadStatus.KEPT),
            picsets=len(guids & set(listing.picsets)),
            placeholders=listing.placeholder_count,
            skipped=skipped,
            contradictory=listing.contradictory,
            empty_labels=tuple(label for label in listing.labels if label not in used),
            unknown_picsets=tuple(guid for guid in listing.picsets if guid not in guids),
        )
        file, report_file = bottle.dataset_file(group), bottle.ledger / "load" / f"{safe_name(group)}.json"
        for path in (file, report_file):
            remove_parts(path.parent, path.name)
        is_changed = write_dataset_if_changed(file, dataset, ignoring=[_LEDGER_KEY])
        write_record(report_file, report)
    return LoadedGroup(dataset, file, is_changed, report, report_file)


def _rows(listing: Listing, usable: Mapping[str, DownloadStatus]) -> dict[str, tuple[set[str], str]]:
    """File name -> labels and picset of every usable photo; addresses of one file share a row."""
    rows: dict[str, tuple[set[str], str]] = {}
    for picture in listing.pictures:
        if picture.filepath in usable:
            labels, picset = rows.setdefault(picture.name, (set(), picture.picset))
            labels.update(picture.labels)
            rows[picture.name] = (labels, min(filter(None, (picset, picture.picset)), default=""))
    return rows


def _dataset(
    listing: Listing, rows: Mapping[str, tuple[set[str], str]], labels: tuple[str, ...], source: Source
) -> GroupDataset:
    """The dataset of the usable photos, in stable order."""
    return GroupDataset(
        group=listing.group,
        labels=labels,
        rows=tuple(
            LabelledRow(name, tuple(float(label in found) for label in labels), picset)
            for name, (found, picset) in sorted(rows.items())
        ),
        extra={_LEDGER_KEY: {"source": source.description, "loaded_at": _now()}},
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class LoadedPicsets:
    """What a load by GUID made.

    Attributes:
        picsets_by_group: group -> how many picsets now have their meta.json below it.
        skipped: pictures left out, with the reason.
        placeholder_count: items without a picture.
        unknown_guids: GUIDs the source knows nothing of.
        groupless_guids: picsets without a group: no folder is theirs, so nothing of them was loaded.
    """

    picsets_by_group: dict[str, int]
    stored_count: int
    kept_count: int
    skipped: tuple[SkippedPicture, ...]
    placeholder_count: int
    unknown_guids: tuple[str, ...]
    groupless_guids: tuple[str, ...]


def read_guids(path: Path) -> list[str]:
    """The GUIDs of a file `{"picsets": [["guid", …], …]}`, each once, in order.

    Every GUID of every row counts; what else a row holds (a name, a count) is left alone.
    """
    content = read_json(path)
    rows = content.get("picsets") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise FileError('expected {"picsets": [["guid", …], …]}', code="unexpected_content", where=path)
    guids: dict[str, None] = {}
    for number, row in enumerate(rows):
        found = list(_guids_of(row))
        if not found:
            raise FileError(
                f"picsets.{number} holds no GUID",
                code="row_without_guid",
                where=path,
                hint="correct or remove that row",
            )
        guids.update(dict.fromkeys(found))
    if not guids:
        raise FileError("lists no picsets", code="no_picsets", where=path)
    return list(guids)


def _guids_of(row: Any) -> Iterator[str]:
    for value in row if isinstance(row, list) else [row]:
        if isinstance(value, str) and _GUID.fullmatch(value.strip()):
            yield value.strip()


def load_picsets(source: Source, bottle: Bottle, guids: Sequence[str], *, workers: int) -> LoadedPicsets:
    """Loads picsets: meta/<group>/<guid>/meta.json for each of a picset's groups, and all their pictures.

    Loading only reads: the picsets stay in the mode annotators left them in. It makes no dataset file, for a picset
    says which categories it was collected for, and not which of them each photo has.
    """
    picsets_by_group: Counter[str] = Counter()
    skipped: dict[str, SkippedPicture] = {}
    filepaths: set[str] = set()
    known: set[str] = set()
    groupless: list[str] = []
    placeholder_count = 0
    with load_lock(bottle):
        for picset in source.picsets(guids):
            known.add(picset.guid)
            groups = [group for group in picset.groups if group.strip()]
            if not groups:
                groupless.append(picset.guid)
                continue
            for group in groups:
                _store_picset(bottle, group, picset)
            picsets_by_group.update(groups)
            placeholder_count += _sort_out(picset, filepaths, skipped)
        if not known:
            raise CollectorError(
                f"knows none of the {counted(len(guids), 'picset')}, e.g. {guids[0]}",
                code="picsets_not_found",
                where=source.description,
                hint="check that the file's GUIDs belong to this collector",
            )
        downloads = PicturePool(bottle, source).fetch(filepaths, workers=workers)
    skipped.update((picture.filepath, picture) for picture in downloads.skipped)
    return LoadedPicsets(
        picsets_by_group=dict(sorted(picsets_by_group.items())),
        stored_count=downloads.count(DownloadStatus.STORED),
        kept_count=downloads.count(DownloadStatus.KEPT),
        skipped=tuple(picture for _, picture in sorted(skipped.items())),
        placeholder_count=placeholder_count,
        unknown_guids=tuple(guid for guid in guids if guid not in known),
        groupless_guids=tuple(groupless),
    )


def _sort_out(picset: Picset, filepaths: set[str], skipped: dict[str, SkippedPicture]) -> int:
    """Adds a picset's addresses to those that are fetched or to those that cannot be; returns its placeholders."""
    placeholder_count = 0
    for filepath in picset.filepaths:
        if len(filepath) < MIN_FILEPATH_SIGNS:
            placeholder_count += 1
        elif problem := problem_of_filepath(filepath):
            skipped[filepath] = SkippedPicture(filepath, problem)
        else:
            filepaths.add(filepath)
    return placeholder_count


def load_group_from(bottle: Bottle, group: str, *, folder: Path | None, workers: int) -> LoadedGroup:
    """Loads a group, from a folder when one is given, else from the collector.

    Raises:
        UsageError: an option's value cannot be used.
        CollectorError, FileError: see `load_group`.
    """
    errors: list[UsageError] = []
    if not isinstance(group, str) or not group.strip():
        what = f"--group: expected the name of a group, found {group!r}"
        errors.append(UsageError(what, code="empty_option_value"))
    if folder is not None and not folder.is_dir():
        errors.append(UsageError(f"--source: there is no folder {folder}", code="folder_not_found"))
    with noted(errors):
        LoadConfig(workers=workers)
    refuse_all(errors, "cls load-group")
    with _source(bottle, group, folder, workers) as source:
        return load_group(source, bottle, group, workers=workers)


def load_picsets_of_file(bottle: Bottle, json_path: Path, *, workers: int) -> LoadedPicsets:
    """Loads the picsets a file lists by GUID.

    Raises:
        UsageError: an option's value cannot be used.
        CollectorError, FileError: see `load_picsets`.
    """
    LoadConfig(workers=workers)
    guids = read_guids(json_path)
    with _source(bottle, None, None, workers) as source:
        return load_picsets(source, bottle, guids, workers=workers)


@contextmanager
def _source(bottle: Bottle, group: str | None, folder: Path | None, workers: int) -> Iterator[Source]:
    forgotten = read_forgotten(bottle)
    if folder is not None:
        yield SourceWithoutForgotten(open_photo_set(folder, group_of_layout(folder, group)), forgotten)
        return
    with CollectorClient.from_settings(bottle.settings, connections=workers) as client:
        client.login()
        yield SourceWithoutForgotten(client, forgotten)
