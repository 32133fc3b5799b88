"""A folder that takes the place of another in one step."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cls.errors import FileError

_PART = ".part"
_OLD = ".old"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` that takes its place when the block ends well, and vanishes when it does not.

    Call it with a lock held: it removes what killed processes left behind.

    Args:
        folder: the final folder; an older one is replaced as a whole.

    Yields:
        Where to write.

    Raises:
        FileError: the folder cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise FileError(
            "is a file, where a folder is to be written",
            code="not_a_folder",
            where=folder,
            hint="move it somewhere else",
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _settle(folder)
        staged = folder.with_name(f".{folder.name}.{os.getpid()}-{secrets.token_hex(4)}{_PART}")
        staged.mkdir()
    except OSError as error:
        raise FileError(
            f"cannot be written: {error.strerror}",
            code="no_space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "unwritable",
            where=folder,
            hint="check space and permissions",
        ) from error
    try:
        yield staged
        _swap(staged, folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _settle(folder: Path) -> None:
    """Puts back an old folder that was moved aside by a process killed in the middle, and removes leftovers."""
    old = folder.with_name(f".{folder.name}{_OLD}")
    if old.exists() and not folder.exists():
        old.rename(folder)
    for left in (old, *folder.parent.glob(f".{folder.name}.*{_PART}")):
        shutil.rmtree(left, ignore_errors=True)


def _swap(staged: Path, folder: Path) -> None:
    if not folder.exists():
        staged.rename(folder)
    elif not _exchange(staged, folder):
        # Two steps where the system has no exchange: `_settle` mends what a kill between them leaves.
        old = folder.with_name(f".{folder.name}{_OLD}")
        folder.rename(old)
        staged.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    with suppress(OSError):
        descriptor = os.open(folder.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _exchange(first: Path, second: Path) -> bool:
    """Exchanges two folders in one step (Linux); False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    names = (_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return bool(renameat2(*names) == 0)
