"""Loads picsets listed by GUID into the bottle: their meta.json and pictures, no dataset."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cls.bottle.layout import Bottle
from cls.collector.listing import MIN_FILEPATH_SIGNS, SkippedPicture, problem_of_filepath
from cls.collector.payloads import Picset
from cls.errors import CollectorError, FileError
from cls.files import read_json
from cls.loading.download import Fate, PicturePool
from cls.loading.load import load_lock
from cls.loading.picset_files import store_picset
from cls.sources import Source
from cls.wording import counted

_GUID = re.compile(r"\{?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\}?", re.IGNORECASE)


@dataclass(frozen=True)
class LoadedPicsets:
    """What a load by GUID made.

    Attributes:
        picsets_by_group: group -> how many picsets now have their meta.json below it.
        stored_count: pictures fetched now.
        kept_count: pictures that were there already.
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

    Raises:
        FileError: the file is missing, is no JSON, or a row holds no GUID; names the row.
    """
    content = read_json(path)
    rows = content.get("picsets") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise FileError('expected {"picsets": [["guid", …], …]}', where=path)
    guids: dict[str, None] = {}
    for number, row in enumerate(rows):
        found = list(_guids_of(row))
        if not found:
            raise FileError(f"picsets.{number} holds no GUID", where=path, hint="correct or remove that row")
        guids.update(dict.fromkeys(found))
    if not guids:
        raise FileError("lists no picsets", where=path)
    return list(guids)


def _guids_of(row: Any) -> Iterator[str]:
    for value in row if isinstance(row, list) else [row]:
        if isinstance(value, str) and _GUID.fullmatch(value.strip()):
            yield value.strip()


def load_picsets(source: Source, bottle: Bottle, guids: Sequence[str], *, workers: int) -> LoadedPicsets:
    """Loads picsets: meta/<group>/<guid>/meta.json for each of a picset's groups, and all their pictures.

    Loading only reads: the picsets stay in the mode annotators left them in. It makes no dataset file, for a picset
    says which categories it was collected for, and not which of them each photo has.

    Args:
        source: where they come from.
        bottle: where they go.
        guids: which ones.
        workers: how many pictures are fetched at once.

    Raises:
        CollectorError: the source cannot be used, or knows none of them.
        FileError: the bottle cannot be written.
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
                where=source.description,
                hint="check that the file's GUIDs belong to this collector",
            )
        outcomes = PicturePool(bottle, source).fetch(filepaths, workers=workers)
    skipped.update((outcome.filepath, outcome.reason) for outcome in outcomes.values() if not outcome.is_usable)
    return LoadedPicsets(
        picsets_by_group=dict(sorted(picsets_by_group.items())),
        stored_count=sum(outcome.fate is Fate.STORED for outcome in outcomes.values()),
        kept_count=sum(outcome.fate is Fate.KEPT for outcome in outcomes.values()),
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
