"""Records made of pictures once and kept on disk: found by digest, made in parallel, removed with their picture."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from cls.bottle.layout import Bottle
from cls.dataset.shards import RecordKey, Shard, drop_broken_shards, drop_records, new_shard, open_shards
from cls.dataset.split.signatures import content_digests, drop_stale_signatures
from cls.errors import FileError
from cls.files import locked, remove_parts
from cls.people.photos import read_photo
from cls.progress import progress
from cls.wording import counted

_log = logging.getLogger("cls.dataset")

GIB = 1 << 30
_MARK = ".in-use"

# A killed build loses at most the work of one shard; a large set has no more shards than a process may open files.
_PICTURES_PER_SHARD, _SHARDS_PER_BUILD = 256, 256

# So many compressed records are made to see how large they are: their mean is right within some percent.
_MEASURED = 16


class FolderUse:
    """A shared lock: a folder's shards are not removed until it is closed or deleted, or the process ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = os.open(folder / _MARK, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def close(self) -> None:
        """Releases the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[FolderUse], tuple[Path]]:
        return FolderUse, (self._folder,)


def is_used(folder: Path) -> bool:
    """Whether a process, maybe this one, holds a `FolderUse` of a folder."""
    descriptor = os.open(folder / _MARK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def record_folders(cache: Path) -> list[Path]:
    """The folders of the cache that hold shards."""
    return sorted(path for kind in ("cutouts", "backgrounds") for path in (cache / kind).glob("*") if path.is_dir())


def make_room(cache: Path, own: Path, wanted: Collection[str], needed_bytes: int, limit_bytes: int) -> None:
    """Removes shards, the longest unused first, until `needed_bytes` more fit under the limit.

    Args:
        cache: the bottle's cache; its lock is held.
        own: the folder that is about to be written.
        wanted: keys of records that are needed now.
        needed_bytes: size of what will be written.
        limit_bytes: how large the cache's shards may be together.
    """
    folders = {folder: open_shards(folder) for folder in record_folders(cache)}
    total = sum(shard.size_bytes for shards in folders.values() for shard in shards)
    if total + needed_bytes <= limit_bytes:
        return
    idle: list[Shard] = []
    for folder, shards in folders.items():
        if not is_used(folder):
            needed = wanted if folder == own else ()
            idle += [shard for shard in shards if not any(entry.key in needed for entry in shard.entries)]
    for shard in sorted(idle, key=lambda one: one.index_file.stat().st_mtime_ns):
        if total + needed_bytes <= limit_bytes:
            break
        total -= shard.size_bytes
        shard.remove()
        _log.info("cache: %s removed as the longest unused", shard.index_file.stem)
    if total + needed_bytes > limit_bytes:
        raise FileError(
            f"{needed_bytes:,} bytes more do not fit under the cache's limit of {limit_bytes / GIB:g} GiB "
            f"({total:,} bytes are in use)",
            code="cache_limit",
            where=own,
            hint="raise `cache_limit_gb` in the configuration, or train with --cache jpeg or a smaller --size",
        )


class RecordRequest(NamedTuple):
    """A record that is asked for.

    Attributes:
        entry: its name and the picture it is made of.
        make: photo, uint8 (height, width, 3) RGB -> the record, uint8 (bytes,).
    """

    entry: RecordKey
    make: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


class LoadedRecords(NamedTuple):
    """What `load_records` gives.

    Attributes:
        records: key -> record; those of broken pictures are missing.
        broken: names of pictures that cannot be decoded.
        use: keeps the records from being removed while it is held.
    """

    records: dict[str, NDArray[np.uint8]]
    broken: list[str]
    use: FolderUse


class RecordSize(NamedTuple):
    """How large a record is.

    Attributes:
        record_bytes: where it is not exact, what is taken for it while no picture can be measured.
        is_exact: whether it is; else a few records are made to measure how large they are.
    """

    record_bytes: int
    is_exact: bool


def load_records(
    bottle: Bottle, folder: Path, wanted: Sequence[RecordRequest], size: RecordSize, *, workers: int
) -> LoadedRecords:
    """Records: those in the cache from there, the others made, in parallel, and stored.

    A killed build loses at most one shard's work. A broken shard is dropped and its records made again. Records whose
    picture has been removed from the bottle, or changed, are dropped from the whole cache first. Of two trainings
    started together, the second waits for the first one's records.

    Args:
        bottle: the data folder.
        folder: where in its cache.
        wanted: what is asked for.
        size: of a record.
        workers: how many threads decode.

    Raises:
        FileError: the cache cannot be written (no space, no permission), or would grow above its limit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys = {one.entry.key for one in wanted}
    with locked(bottle.cache / ".lock"):
        remove_parts(folder)
        for name in drop_broken_shards(folder):
            _log.warning("cut-out cache: shard %s is broken and is made again", name)
        drop_stale_records(bottle, workers=workers)
        stored = {entry.key for shard in open_shards(folder) for entry in shard.entries}
        missing = {one.entry.key: one for one in wanted if one.entry.key not in stored}
        broken: list[str] = []
        if missing:
            record_bytes = size.record_bytes
            if not size.is_exact:
                record_bytes = _measured_bytes(bottle, list(missing.values())) or record_bytes
            needed_bytes = len(missing) * record_bytes
            limit_bytes = int(bottle.settings.cache_limit_gb * GIB)
            make_room(bottle.cache, folder, keys, needed_bytes, limit_bytes)
            if needed_bytes > (free_bytes := shutil.disk_usage(folder).free):
                raise _no_space(folder, needed_bytes, f"{free_bytes:,} bytes are free")
            broken = _build(bottle, folder, list(missing.values()), needed_bytes, workers)
        records: dict[str, NDArray[np.uint8]] = {}
        for shard in open_shards(folder):
            if not keys.isdisjoint(entry.key for entry in shard.entries):
                os.utime(shard.index_file)
                records.update((key, record) for key, record in shard.records().items() if key in keys)
        return LoadedRecords(records, broken, FolderUse(folder))


def _measured_bytes(bottle: Bottle, missing: Sequence[RecordRequest]) -> int | None:
    """Mean size of a few records spread over those that are missing; None where their pictures cannot be decoded.

    How far a picture can be compressed depends on the photos: it has to be measured.
    """
    sizes = []
    for one in missing[:: max(len(missing) // _MEASURED, 1)][:_MEASURED]:
        try:
            sizes.append(one.make(read_photo(bottle.picture(one.entry.picture))).nbytes)
        except FileError:
            continue  # Logged when it is cut out.
    return round(sum(sizes) / len(sizes)) if sizes else None


def drop_stale_records(bottle: Bottle, *, workers: int) -> int:
    """Drops records and signatures of pictures removed from the bottle or changed; returns how many records.

    The caller holds the cache's lock.
    """
    shards = [shard for folder in record_folders(bottle.cache) for shard in open_shards(folder)]
    names = {entry.picture for shard in shards for entry in shard.entries}
    digests = content_digests(bottle, sorted(names), workers=workers)
    drop_stale_signatures(bottle)
    dropped = drop_records(shards, lambda entry: digests.get(entry.picture) == entry.content)
    if dropped:
        _log.info("cache: %s dropped, of pictures removed or changed since", counted(dropped, "record"))
    return dropped


def _no_space(folder: Path, needed_bytes: int, why: str) -> FileError:
    return FileError(
        f"the cut-out cache needs about {needed_bytes:,} bytes more: {why}",
        code="no_space",
        where=folder,
        hint="free space and run again (what is stored is kept), or train with --cache jpeg or a smaller --size",
    )


def _build(
    bottle: Bottle, folder: Path, missing: Sequence[RecordRequest], needed_bytes: int, workers: int
) -> list[str]:
    """Makes and stores records shard by shard; returns the names of pictures that cannot be decoded."""
    by_picture: dict[str, list[RecordRequest]] = {}
    for one in missing:
        by_picture.setdefault(one.entry.picture, []).append(one)
    _log.info("cutting out %s of %s", counted(len(missing), "person"), counted(len(by_picture), "picture"))
    broken: list[str] = []

    def make(picture: str) -> list[tuple[RecordKey, NDArray[np.uint8]]] | FileError:
        try:
            image_rgb = read_photo(bottle.picture(picture))
        except FileError as error:
            return error  # One broken picture must not end the others: the caller reports it.
        return [(one.entry, one.make(image_rgb)) for one in by_picture[picture]]

    stored_bytes = 0
    names = list(by_picture)
    per_shard = max(_PICTURES_PER_SHARD, -(-len(names) // _SHARDS_PER_BUILD))
    with ThreadPoolExecutor(max(workers, 1)) as pool, progress("pictures cut out", len(names)) as ticker:
        for start in range(0, len(names), per_shard):
            pictures = names[start : start + per_shard]
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
