"""Loads from the configured collector or from a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cls.bottle.layout import Bottle, read_forgotten
from cls.collector.client import CollectorClient
from cls.collector.listing import MIN_FILEPATH_SIGNS, SkippedPicture, problem_of_filepath
from cls.collector.payloads import Picset
from cls.errors import CollectorError, FileError, UsageError
from cls.files import read_json
from cls.loading.config import LoadConfig
from cls.loading.load import DownloadStatus, LoadedGroup, PicturePool, load_group, load_lock, store_picset
from cls.options import noted, refuse_all
from cls.sources import Source
from cls.sources.folders import group_of_layout, open_photo_set
from cls.sources.without_forgotten import CollectorSource, SourceWithoutForgotten
from cls.wording import counted

_GUID = re.compile(r"\{?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\}?", re.IGNORECASE)


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
    picsets_by_group: dict[str, int] = {}
    skipped: dict[str, str] = {}
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
                store_picset(bottle, group, picset)
                picsets_by_group[group] = picsets_by_group.get(group, 0) + 1
            placeholder_count += _sort_out(picset, filepaths, skipped)
        if not known:
            raise CollectorError(
                f"knows none of the {counted(len(guids), 'picset')}, e.g. {guids[0]}",
                code="picsets_not_found",
                where=source.description,
                hint="check that the file's GUIDs belong to this collector",
            )
        results = PicturePool(bottle, source).fetch(filepaths, workers=workers)
    skipped.update((result.filepath, result.reason) for result in results.values() if not result.is_usable)
    return LoadedPicsets(
        picsets_by_group=dict(sorted(picsets_by_group.items())),
        stored_count=sum(result.status is DownloadStatus.STORED for result in results.values()),
        kept_count=sum(result.status is DownloadStatus.KEPT for result in results.values()),
        skipped=tuple(SkippedPicture(path, reason) for path, reason in sorted(skipped.items())),
        placeholder_count=placeholder_count,
        unknown_guids=tuple(guid for guid in guids if guid not in known),
        groupless_guids=tuple(groupless),
    )


def _sort_out(picset: Picset, filepaths: set[str], skipped: dict[str, str]) -> int:
    """Adds a picset's addresses to those that are fetched or to those that cannot be; returns its placeholders."""
    placeholder_count = 0
    for filepath in picset.filepaths:
        if len(filepath) < MIN_FILEPATH_SIGNS:
            placeholder_count += 1
        elif problem := problem_of_filepath(filepath):
            skipped[filepath] = problem
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
        yield SourceWithoutForgotten(CollectorSource(client), forgotten)
