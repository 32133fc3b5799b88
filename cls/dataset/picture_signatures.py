"""Signatures of the pool's pictures, each computed once and remembered in the bottle's cache."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from cls.bottle.layout import Bottle
from cls.dataset.near_duplicates import picture_signature
from cls.dataset.picture_memory import Memory, read_memory, stamp_of
from cls.errors import FileError
from cls.files import remove_parts, write_json_atomic
from cls.people.photos import decode_photo_reduced
from cls.progress import progress

_log = logging.getLogger("cls.dataset")

_FILE = "picture_signatures.json"
# A picture decoded to this has all that a signature looks at.
_ENOUGH_PX = 128
# A killed first training loses at most this many pictures' work.
_PICTURES_A_SAVE = 5000

Signature = NDArray[np.uint64] | None


def signatures_of(bottle: Bottle, names: Iterable[str], *, workers: int) -> dict[str, Signature]:
    """Signatures of pictures by name; None for flat pictures and for those that cannot be decoded.

    They are remembered together with size and time of change; a picture is decoded again only when one of these
    differs. Of a picture that was deleted, what is remembered is given this once more, and forgotten: the file keeps
    nothing of pictures that are gone.

    Args:
        bottle: the data folder.
        names: file names in pictures/.
        workers: how many threads decode.

    Raises:
        FileError: the cache cannot be written.
    """
    file = bottle.cache / _FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    asked = list(dict.fromkeys(names))
    stamps = {name: stamp_of(bottle.picture(name)) for name in asked}
    with FileLock(file.with_name(f".{_FILE}.lock")):
        remove_parts(file.parent, file.name)
        known = _remembered(file)
        unknown = [name for name in asked if stamps[name] and known.get(name, ("",))[0] != stamps[name]]
        kept = _there(bottle, known)
        if unknown:
            _compute(bottle, unknown, stamps, kept, file, workers)
        elif len(kept) < len(known):
            write_json_atomic(file, kept, indent=None)
        known |= kept
    return {name: _signature_of_text(known[name][1]) if name in known else None for name in asked}


def forget_signatures(bottle: Bottle) -> None:
    """Forgets the signatures of pictures that are gone; where a training joins nothing, nobody else would.

    Raises:
        FileError: the cache cannot be written.
    """
    file = bottle.cache / _FILE
    if not file.exists():
        return
    with FileLock(file.with_name(f".{_FILE}.lock")):
        known = _remembered(file)
        kept = _there(bottle, known)
        if len(kept) < len(known):
            write_json_atomic(file, kept, indent=None)


def _there(bottle: Bottle, known: Memory) -> Memory:
    """What is remembered of pictures that are still in the bottle."""
    return {name: entry for name, entry in known.items() if bottle.picture(name).exists()}


def _compute(
    bottle: Bottle,
    names: Sequence[str],
    stamps: dict[str, str],
    known: Memory,
    file: Path,
    workers: int,
) -> None:
    """Computes signatures and enters them into `known` and the file."""
    with ThreadPoolExecutor(max(workers, 1)) as pool, progress("pictures compared", len(names)) as ticker:
        for start in range(0, len(names), _PICTURES_A_SAVE):
            part = names[start : start + _PICTURES_A_SAVE]
            for name, text in zip(part, pool.map(lambda name: _text(bottle.picture(name)), part), strict=True):
                known[name] = (stamps[name], text)
                ticker.advance()
            write_json_atomic(file, known, indent=None)


def _text(path: Path) -> str:
    """A picture's signature in hexadecimal; empty where it has none (whoever cuts people out says what is broken)."""
    try:
        image_rgb, _ = decode_photo_reduced(path.read_bytes(), _ENOUGH_PX, where=path)
    except (FileError, OSError):
        return ""
    signature = picture_signature(image_rgb)
    return "" if signature is None else signature.tobytes().hex()


def _signature_of_text(text: str) -> Signature:
    return np.frombuffer(bytes.fromhex(text), np.uint64) if text else None


def _remembered(file: Path) -> Memory:
    """What is remembered; nothing where the file is damaged: all is computed again."""
    known = read_memory(file)
    if known is None or not all(_is_signature(text) for _, text in known.values()):
        _log.warning("%s cannot be read; pictures are compared anew", file)
        return {}
    return known


def _is_signature(text: str) -> bool:
    try:
        return len(bytes.fromhex(text)) in (0, 32)
    except ValueError:
        return False
