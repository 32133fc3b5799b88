"""The cache of what is made of pictures once: found by digest, made in parallel, bounded, and gone with its picture."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from cls.bottle.layout import Bottle
from cls.dataset.cutouts.cache_room import GIB, FolderUse, make_room, record_folders
from cls.dataset.cutouts.shards import Entry, drop_broken_shards, drop_records, new_shard, open_shards
from cls.dataset.split.digests import content_digests
from cls.dataset.split.picture_signatures import forget_signatures
from cls.errors import FileError
from cls.files import remove_parts
from cls.people.photos import read_photo
from cls.progress import progress
from cls.wording import counted

_log = logging.getLogger("cls.dataset")

# A killed build loses at most the work of one shard; a large set has no more shards than a process may open files.
_PICTURES_PER_SHARD, _SHARDS_PER_BUILD = 256, 256
# So many compressed records are made to see how large they are: their mean is right within some percent.
_MEASURED = 16
Record = NDArray[np.uint8]


class Wanted(NamedTuple):
    """A record that is asked for.

    Attributes:
        entry: its name and the picture it is made of.
        make: photo, uint8 (height, width, 3) RGB -> the record, uint8 (bytes,).
    """

    entry: Entry
    make: Callable[[NDArray[np.uint8]], Record]


class Loaded(NamedTuple):
    """What `load_records` gives.

    Attributes:
        records: key -> record; those of broken pictures are missing.
        broken: names of pictures that cannot be decoded.
        use: keeps the records from being removed while it is held.
    """

    records: dict[str, Record]
    broken: list[str]
    use: FolderUse


def load_records(
    bottle: Bottle, folder: Path, wanted: Sequence[Wanted], *, record_bytes: int, workers: int, is_size_exact: bool
) -> Loaded:
    """Records: those in the cache from there, the others made, in parallel, and stored.

    A killed build loses at most one shard's work. A broken shard is dropped and its records made again. Records whose
    picture has been removed from the bottle, or changed, are dropped from the whole cache first. Two trainings at once
    build one after the other, so that nothing is made twice.

    Args:
        bottle: the data folder.
        folder: where in its cache.
        wanted: what is asked for.
        record_bytes: size of a record; where it is not exact, what is taken for it while no picture can be measured.
        workers: how many threads decode.
        is_size_exact: whether it is exact; else a few records are made to measure how large they are.

    Raises:
        FileError: the cache cannot be written (no space, no permission), or would grow above its limit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys = {one.entry.key for one in wanted}
    with FileLock(bottle.cache / ".lock"):
        remove_parts(folder)
        for name in drop_broken_shards(folder):
            _log.warning("cut-out cache: shard %s is broken and is made again", name)
        forget_removed(bottle, workers=workers)
        stored = {entry.key for shard in open_shards(folder) for entry in shard.entries}
        missing = {one.entry.key: one for one in wanted if one.entry.key not in stored}
        broken: list[str] = []
        if missing:
            if not is_size_exact:
                record_bytes = _measured_bytes(bottle, list(missing.values())) or record_bytes
            needed_bytes = len(missing) * record_bytes
            limit_bytes = int(bottle.settings.cache_limit_gb * GIB)
            make_room(bottle.cache, folder, keys, needed_bytes, limit_bytes)
            _check_space(folder, needed_bytes)
            broken = _build(bottle, folder, list(missing.values()), needed_bytes, workers)
        records: dict[str, Record] = {}
        for shard in open_shards(folder):
            if not keys.isdisjoint(entry.key for entry in shard.entries):
                os.utime(shard.index_file)
                records.update((key, record) for key, record in shard.records().items() if key in keys)
        return Loaded(records, broken, FolderUse(folder))


def _measured_bytes(bottle: Bottle, missing: Sequence[Wanted]) -> int | None:
    """Mean size of a few records spread over those that are missing; None where their pictures cannot be decoded.

    How far a picture can be compressed depends on the photos alone: nothing but trying tells.
    """
    sizes = []
    for one in missing[:: max(len(missing) // _MEASURED, 1)][:_MEASURED]:
        try:
            sizes.append(one.make(read_photo(bottle.picture(one.entry.picture))).nbytes)
        except FileError:
            continue  # Said when it is cut out.
    return round(sum(sizes) / len(sizes)) if sizes else None


def forget_removed(bottle: Bottle, *, workers: int) -> int:
    """Drops what was made of pictures that have been removed from the bottle or changed; the cache's lock is held.

    What tells their near duplicates goes too.

    Returns:
        How many records were dropped.
    """
    shards = [shard for folder in record_folders(bottle.cache) for shard in open_shards(folder)]
    names = {entry.picture for shard in shards for entry in shard.entries}
    digests = content_digests(bottle, sorted(names), workers=workers)
    forget_signatures(bottle)
    dropped = drop_records(shards, lambda entry: digests.get(entry.picture) == entry.content)
    if dropped:
        _log.info("cache: %s dropped, of pictures removed or changed since", counted(dropped, "record"))
    return dropped


def _check_space(folder: Path, needed_bytes: int) -> None:
    """Refuses before the work what will not fit after it."""
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise _no_space(folder, needed_bytes, f"{free_bytes:,} bytes are free")


def _no_space(folder: Path, needed_bytes: int, why: str) -> FileError:
    return FileError(
        f"the cut-out cache needs about {needed_bytes:,} bytes more: {why}",
        where=folder,
        hint="free space and run again (what is stored is kept), or train with --cache jpeg or a smaller --size",
    )


def _build(bottle: Bottle, folder: Path, missing: Sequence[Wanted], needed_bytes: int, workers: int) -> list[str]:
    """Makes and stores records shard by shard; returns the names of pictures that cannot be decoded."""
    by_picture: dict[str, list[Wanted]] = {}
    for one in missing:
        by_picture.setdefault(one.entry.picture, []).append(one)
    _log.info("cutting out %s of %s", counted(len(missing), "person"), counted(len(by_picture), "picture"))
    broken: list[str] = []

    def make(picture: str) -> list[tuple[Entry, Record]] | FileError:
        try:
            image_rgb = read_photo(bottle.picture(picture))
        except FileError as error:
            # One broken picture must not end the others: it is reported by whoever asked.
            return error
        return [(one.entry, one.make(image_rgb)) for one in by_picture[picture]]

    stored_bytes = 0
    with ThreadPoolExecutor(max(workers, 1)) as pool, progress("pictures cut out", len(by_picture)) as ticker:
        for pictures in _chunks(list(by_picture)):
            shard_bytes = 0
            try:
                with new_shard(folder) as add:
                    for picture, made in zip(pictures, pool.map(make, pictures), strict=True):
                        ticker.advance()
                        if isinstance(made, FileError):
                            _log.warning("left out: %s", made.line())
                            broken.append(picture)
                            continue
                        for entry, record in made:
                            add(entry, record)
                            shard_bytes += record.nbytes
            except FileError as error:
                raise _no_space(folder, max(needed_bytes - stored_bytes, 1), error.what) from error
            stored_bytes += shard_bytes
    return broken


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    size = max(_PICTURES_PER_SHARD, -(-len(names) // _SHARDS_PER_BUILD))
    for start in range(0, len(names), size):
        yield names[start : start + size]
