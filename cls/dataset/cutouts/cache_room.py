"""The cache's bound on disk: what was used longest ago goes first, and nothing that a training reads now."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

from cls.dataset.cutouts.shards import Shard, open_shards
from cls.errors import FileError

_log = logging.getLogger("cls.dataset")

GIB = 1 << 30
_MARK = ".in-use"


class FolderUse:
    """Says that a folder's shards are being read, until it is closed or forgotten, or the process ends.

    Args:
        folder: holds shards.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = os.open(folder / _MARK, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def close(self) -> None:
        """Gives the folder free."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[FolderUse], tuple[Path]]:
        return FolderUse, (self._folder,)


def is_used(folder: Path) -> bool:
    """Whether anybody, this process included, is reading a folder's shards."""
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

    Raises:
        FileError: they do not fit even so.
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
        _log.info("cache: %s removed, it was not used for longest", shard.index_file.stem)
    if total + needed_bytes > limit_bytes:
        raise FileError(
            f"{needed_bytes:,} bytes more do not fit under the cache's limit of {limit_bytes / GIB:g} GiB "
            f"({total:,} bytes are in use)",
            where=own,
            hint="raise `cache_limit_gb` in the configuration, or train with --cache jpeg or a smaller --size",
        )
