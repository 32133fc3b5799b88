"""Digests of pictures' contents: what tells a changed picture from one that was only touched or copied."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock

from cls.bottle.layout import Bottle
from cls.errors import FileError
from cls.files import read_json, remove_parts, sha256_of_file, write_json_atomic

_log = logging.getLogger("cls.dataset")

_FILE = "picture_digests.json"


def content_digests(bottle: Bottle, names: Iterable[str], *, workers: int) -> dict[str, str]:
    """SHA-256 of pictures' bytes, by name; a picture that is missing or cannot be read has none.

    They are remembered in the cache together with size and time of change, and a file is read again only when one of
    these differs. A file that is changed with both kept as they were (a clock set back on purpose) is taken for
    unchanged.

    Args:
        bottle: the data folder.
        names: file names in pictures/.
        workers: how many threads read.

    Raises:
        FileError: the cache cannot be written.
    """
    file = bottle.cache / _FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{_FILE}.lock")):
        remove_parts(file.parent, file.name)
        known = _remembered(file)
        asked = list(dict.fromkeys(names))
        stamps = {name: stamp for name in asked if (stamp := _stamp(bottle.picture(name)))}
        found = {name: known[name][1] for name, stamp in stamps.items() if name in known and known[name][0] == stamp}
        unknown = [name for name in stamps if name not in found]
        is_gone = any(name in known and name not in stamps for name in asked)
        if unknown or is_gone:
            with ThreadPoolExecutor(max(workers, 1)) as pool:
                digests = pool.map(lambda name: _digest(bottle.picture(name)), unknown)
                found.update((name, digest) for name, digest in zip(unknown, digests, strict=True) if digest)
            # Pictures that are gone are forgotten here too.
            kept = {name: entry for name, entry in known.items() if name in stamps or bottle.picture(name).exists()}
            kept.update((name, (stamps[name], found[name])) for name in unknown if name in found)
            write_json_atomic(file, kept, indent=None)
    return found


def _remembered(file: Path) -> dict[str, tuple[str, str]]:
    """Name -> stamp and digest; nothing where the file is missing or damaged: all is then read again."""
    try:
        content = read_json(file) if file.exists() else {}
        return {str(name): (str(stamp), str(digest)) for name, (stamp, digest) in content.items()}
    except (FileError, TypeError, ValueError, AttributeError):
        _log.warning("%s cannot be read; pictures are read again", file)
        return {}


def _stamp(path: Path) -> str:
    """Size and time of change of a file; empty when there is none."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def _digest(path: Path) -> str:
    """Empty for a file that cannot be read: whoever decodes it says why."""
    try:
        return sha256_of_file(path)
    except OSError:
        return ""
