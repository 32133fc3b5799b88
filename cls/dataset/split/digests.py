"""Digests of pictures' contents: what tells a changed picture from one that was only touched or copied."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock

from cls.bottle.layout import Bottle
from cls.dataset.split.picture_memory import Memory, read_memory, stamp_of
from cls.files import remove_parts, sha256_of_file, write_json_atomic

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
        stamps = {name: stamp for name in asked if (stamp := stamp_of(bottle.picture(name)))}
        found = {name: known[name][1] for name, stamp in stamps.items() if name in known and known[name][0] == stamp}
        unknown = [name for name in stamps if name not in found]
        # Of pictures that are gone nothing is remembered, whoever asks for what.
        kept = {name: entry for name, entry in known.items() if name in stamps or bottle.picture(name).exists()}
        if unknown or len(kept) < len(known):
            with ThreadPoolExecutor(max(workers, 1)) as pool:
                digests = pool.map(lambda name: _digest(bottle.picture(name)), unknown)
                found.update((name, digest) for name, digest in zip(unknown, digests, strict=True) if digest)
            kept.update((name, (stamps[name], found[name])) for name in unknown if name in found)
            write_json_atomic(file, kept, indent=None)
    return found


def _remembered(file: Path) -> Memory:
    """What is remembered; nothing where the file is damaged: all is then read again."""
    known = read_memory(file)
    if known is None:
        _log.warning("%s cannot be read; pictures are read again", file)
    return known or {}


def _digest(path: Path) -> str:
    """Empty for a file that cannot be read: whoever decodes it says why."""
    try:
        return sha256_of_file(path)
    except OSError:
        return ""
