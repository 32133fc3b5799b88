"""Signatures of the pool's people, each computed once and remembered in the bottle's cache."""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from cls.bottle.layout import Bottle
from cls.dataset.samples import Sample
from cls.dataset.split.person_signature import VERSION, VIEW_BYTES, VIEWS, enough_px, person_signature
from cls.dataset.split.picture_memory import stamp_of
from cls.errors import FileError
from cls.files import atomic_path, remove_parts
from cls.people.person import Person
from cls.people.photos import decode_photo_reduced
from cls.progress import progress

_log = logging.getLogger("cls.dataset")

_FILE = "person_signatures.npz"
# What earlier versions remembered: of whole pictures, whoever was in them.
_OLDER = "picture_signatures.json"
# A killed first training loses at most this many pictures' work.
_PICTURES_A_SAVE = 5000

Signature = NDArray[np.uint8] | None
# (picture, digest of the outline) -> size and time of change of the picture, and the signature.
_Memory = dict[tuple[str, str], tuple[str, Signature]]


def signatures_of(bottle: Bottle, samples: Sequence[Sample], *, workers: int) -> list[Signature]:
    """Signatures of people, in order; None for those without structure and of pictures that cannot be decoded.

    They are remembered together with the picture's size and time of change and with the person's outline; a picture is
    decoded again only when one of these differs. Of a picture that was deleted, what is remembered is given this once
    more, and forgotten: the file keeps nothing of pictures that are gone, nor of outlines that a picture had earlier.

    Args:
        bottle: the data folder.
        samples: whose signatures.
        workers: how many threads decode.

    Raises:
        FileError: the cache cannot be written.
    """
    file = bottle.cache / _FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    keys = [(sample.path, _outline_digest(sample.person)) for sample in samples]
    people = dict(zip(keys, (sample.person for sample in samples), strict=True))
    stamps = {name: stamp_of(bottle.picture(name)) for name, _ in people}
    with FileLock(file.with_name(f".{_FILE}.lock")):
        remove_parts(file.parent, file.name)
        _forget_older(bottle)
        known = _remembered(file)
        unknown: dict[str, dict[tuple[str, str], Person]] = {}
        for key, person in people.items():
            if stamps[key[0]] and known.get(key, ("",))[0] != stamps[key[0]]:
                unknown.setdefault(key[0], {})[key] = person
        kept = {
            key: entry
            for key, entry in _there(bottle, known).items()
            if key[0] not in stamps or (key in people and entry[0] == stamps[key[0]])
        }
        if unknown:
            _compute(bottle, unknown, stamps, kept, file, workers)
        elif len(kept) < len(known):
            _write(file, kept)
        known |= kept
    return [known[key][1] if key in known else None for key in keys]


def forget_signatures(bottle: Bottle) -> None:
    """Forgets the signatures of pictures that are gone; where a training joins nothing, nobody else would.

    Raises:
        FileError: the cache cannot be written.
    """
    file = bottle.cache / _FILE
    _forget_older(bottle)
    if not file.exists():
        return
    with FileLock(file.with_name(f".{_FILE}.lock")):
        known = _remembered(file)
        kept = _there(bottle, known)
        if len(kept) < len(known):
            _write(file, kept)


def _forget_older(bottle: Bottle) -> None:
    (bottle.cache / _OLDER).unlink(missing_ok=True)


def _there(bottle: Bottle, known: _Memory) -> _Memory:
    """What is remembered of pictures that are still in the bottle."""
    names = {name for name, _ in known}
    there = {name for name in names if bottle.picture(name).exists()}
    return {key: entry for key, entry in known.items() if key[0] in there}


def _compute(
    bottle: Bottle,
    unknown: dict[str, dict[tuple[str, str], Person]],
    stamps: dict[str, str],
    known: _Memory,
    file: Path,
    workers: int,
) -> None:
    """Computes signatures, picture by picture, and enters them into `known` and the file."""
    names = list(unknown)
    with ThreadPoolExecutor(max(workers, 1)) as pool, progress("pictures compared", len(names)) as ticker:
        for start in range(0, len(names), _PICTURES_A_SAVE):
            part = names[start : start + _PICTURES_A_SAVE]
            found = pool.map(lambda name: _signatures(bottle.picture(name), unknown[name].values()), part)
            for name, signatures in zip(part, found, strict=True):
                known.update((key, (stamps[name], one)) for key, one in zip(unknown[name], signatures, strict=True))
                ticker.advance()
            _write(file, known)


def _signatures(path: Path, people: Collection[Person]) -> list[Signature]:
    """Signatures of people in a picture; whoever cuts people out says what is broken."""
    try:
        return signatures_in(path.read_bytes(), people, where=path)
    except (FileError, OSError):
        return [None] * len(people)


def signatures_in(content: bytes, people: Collection[Person], *, where: object = None) -> list[Signature]:
    """Signatures of people in the bytes of a photo, in order; None for those without structure.

    Raises:
        FileError: the photo cannot be decoded.
    """
    image_rgb, size_px = decode_photo_reduced(content, max(map(enough_px, people)), where=where)
    return [person_signature(image_rgb, _outlined(person, size_px)) for person in people]


def _outlined(person: Person, size_px: tuple[int, int]) -> Person:
    """The person; where there is no outline, with one around the box. Height and width of the whole photo in pixels."""
    if any(len(polygon) >= 3 for polygon in person.polygons_xy_rel):
        return person
    left, top, right, bottom = person.box_xyxy_px
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    return replace(person, polygons_xy_rel=(corners / (size_px[1], size_px[0]),))


def _outline_digest(person: Person) -> str:
    """Tells apart people of a picture, and outlines of one person: what a signature is made of besides pixels."""
    digest = hashlib.sha256(np.asarray(person.box_xyxy_px, np.float64).tobytes())
    for polygon in person.polygons_xy_rel:
        digest.update(f"{polygon.shape}".encode() + np.ascontiguousarray(polygon, np.float64).tobytes())
    return digest.hexdigest()[:16]


def _write(file: Path, known: _Memory) -> None:
    """Writes what is remembered: whose, in JSON, and the signatures of those who have one, in the same order."""
    rows = [[*key, stamp, signature is not None] for key, (stamp, signature) in known.items()]
    signatures = [signature for _, signature in known.values() if signature is not None]
    with atomic_path(file) as part, part.open("wb") as target:
        np.savez(
            target,
            version=np.array(VERSION),
            people=np.frombuffer(json.dumps(rows).encode(), np.uint8),
            signatures=np.array(signatures, np.uint8).reshape(-1, len(VIEWS), VIEW_BYTES),
        )


def _remembered(file: Path) -> _Memory:
    """What is remembered; nothing where it is of another version, or damaged: all is computed again."""
    if not file.exists():
        return {}
    try:
        with np.load(file, allow_pickle=False) as content:
            if content["version"].tolist() != VERSION:
                _log.info("%s is of another version; pictures are compared anew", file)
                return {}
            rows, signatures = json.loads(content["people"].tobytes()), content["signatures"]
        found = iter(np.asarray(signatures, np.uint8).reshape(-1, len(VIEWS), VIEW_BYTES))
        known: _Memory = {
            (str(name), str(outline)): (str(stamp), next(found) if is_signed else None)
            for name, outline, stamp, is_signed in rows
        }
    except (OSError, ValueError, KeyError, TypeError, EOFError, StopIteration, zipfile.BadZipFile) as error:
        _log.warning("%s cannot be read (%s); pictures are compared anew", file, error)
        return {}
    return known
