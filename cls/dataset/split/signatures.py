"""Signatures of people (small grey pictures) that reveal copies of a photo, kept in the bottle's cache."""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from cls.bottle.layout import Bottle
from cls.dataset.samples import Sample
from cls.errors import FileError
from cls.files import atomic_path, locked, read_json, remove_parts, sha256_of_file, write_json_atomic
from cls.people.photos import Person, decode_photo_reduced
from cls.people.polygons import draw_polygons, outline_area
from cls.progress import progress

_log = logging.getLogger("cls.dataset")

Image = NDArray[np.uint8]

# Raised with every change of what a signature holds: signatures of other versions are computed again.
VERSION = 3
SIDE_PX = 32
SIZE = (SIDE_PX, SIDE_PX)
_PIXELS = SIDE_PX * SIDE_PX
VIEW_BYTES = _PIXELS + _PIXELS // 8
# What a signature holds: the person's upper body, and the whole photo.
PERSON, PHOTO = VIEWS = 0, 1
# In square roots of the outline's area: the frame's side, and how far it begins above the top of the outline.
FRAME, ABOVE = 1.2, 0.08
# Rows above the one where this share of the outline is reached are a raised hand or a flaw.
_TOP_SHARE = 0.02
# The outermost line of a border has one grey value (97 percent of it, within 6 levels); 60 percent of its other lines.
_EDGE_SHARE, _BORDER_SHARE, _BORDER_SPREAD = 0.97, 0.6, 6
# Lines of text may lie between: together at most this share of all lines.
_TEXT_SHARE = 0.1
# A border ends within 3 lines, after which at most 40 percent of a line has its value; a plain wall ends gradually.
_END_LINES, _BEHIND_SHARE = 3, 0.4
# Borders within borders: a caption's bar in a padded photo.
_BORDERS = 2
# Where less of the outline is left, the border is a plain wall behind the person, and is kept.
_LEAST_LEFT = 0.7
# A person whose grey values spread less than this is a shadow or a blank.
_LEAST_SPREAD = 4.0
_LEAST_AREA_PX = 16

# The rows of the file of signatures: picture, digest of the outline, the picture's stamp, whether there is a signature.
_ROWS = TypeAdapter(list[tuple[str, str, str, bool]])
_DIGESTS_FILE = "picture_digests.json"
_FILE = "person_signatures.npz"

# Signatures of whole pictures, of earlier versions; removed.
_OLDER = "picture_signatures.json"

# A killed first training loses at most this many pictures' work.
_PICTURES_A_SAVE = 5000


def person_signature(image_rgb: Image, person: Person) -> Image | None:
    """Two small grey pictures of a person, each with the outline, to be compared with those of others.

    The first shows the upper body, as captions cover feet and crops cut them off. Its frame hangs on the top of the
    outline and is as large as the root of the outline's area demands, which changes less than the box. The second is
    the whole photo. Borders of one grey value, such as bars with a caption, are cut off first, with the part of the
    outline that a segmentation model found in them.

    Args:
        image_rgb: uint8 (height, width, 3); a small version will do, see `min_longer_side_px`.
        person: the person to describe.

    Returns:
        uint8 (2, VIEW_BYTES): grey values row by row, then a bit a pixel that is set inside the outline. None for a
        person without an outline, of fewer than 16 pixels, or with hardly any contrast: they resemble too many others.
    """
    height_px, width_px = image_rgb.shape[:2]
    scale = np.array([width_px, height_px], np.float64)
    outlines = [polygon * scale for polygon in person.polygons_xy_rel if len(polygon) >= 3]
    grey = np.asarray(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    mask = draw_polygons(outlines, height_px, width_px)
    content = _content(grey)
    if cv2.countNonZero(mask[content]) >= _LEAST_LEFT * cv2.countNonZero(mask):
        grey, mask = grey[content], mask[content]
    rows, columns = (
        cv2.reduce(mask, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel().astype(np.int64) // 255 for axis in (1, 0)
    )
    area_px = int(columns.sum())
    if area_px < _LEAST_AREA_PX:
        return None
    unit_px = float(np.sqrt(area_px))
    side = round(FRAME * unit_px)
    left = round(float(columns @ np.arange(len(columns))) / area_px + 0.5 - side / 2)
    top = round(int(np.searchsorted(np.cumsum(rows), _TOP_SHARE * area_px)) - ABOVE * unit_px)
    views = (
        (_framed(grey, (left, top, side), cv2.BORDER_REPLICATE), _framed(mask, (left, top, side), cv2.BORDER_CONSTANT)),
        (_small(grey), _small(mask)),
    )
    pixels, is_inside = views[PERSON][0], views[PERSON][1] > 127
    if not is_inside.any() or float(pixels[is_inside].std()) < _LEAST_SPREAD:
        return None
    return np.stack([np.concatenate([pixels.reshape(-1), np.packbits(inside > 127)]) for pixels, inside in views])


def min_longer_side_px(person: Person) -> int:
    """The longer side of the smallest version of a photo from which a person's signature can be computed."""
    return int(np.clip(1.5 * SIDE_PX / (FRAME * np.sqrt(max(outline_area(person), 1e-6))), 128, 8192))


def _content(grey: Image) -> tuple[slice, slice]:
    """Rows and columns of a photo without borders of one grey value, such as padding, or bars with a caption."""
    rows, columns = [0, grey.shape[0]], [0, grey.shape[1]]
    for _ in range(_BORDERS):
        before = (*rows, *columns)
        for edges, is_turned in ((rows, False), (columns, True)):
            for end in (0, 1):
                inner = grey[rows[0] : rows[1], columns[0] : columns[1]]
                lines = inner.T if is_turned else inner
                width_px = _border_px(lines[::-1] if end else lines)
                edges[end] += -width_px if end else width_px
        if before == (*rows, *columns):
            break
    is_wide = rows[1] - rows[0] >= grey.shape[0] / 4 and columns[1] - columns[0] >= grey.shape[1] / 4
    return (slice(*rows), slice(*columns)) if is_wide else (slice(None), slice(None))


def _border_px(lines: Image) -> int:
    """How many of the first lines are a border, with lines of text in it or without; 0 where all are, or none is."""
    ordered = np.sort(lines[0])
    value = (int(ordered[(len(ordered) - 1) // 2]) + int(ordered[len(ordered) // 2])) // 2
    # Most photos have no border, as their outermost line shows.
    same = np.searchsorted(ordered, (value - _BORDER_SPREAD, value + _BORDER_SPREAD + 1))
    if same[1] - same[0] < _EDGE_SHARE * len(ordered):
        return 0
    shares = (np.abs(lines.astype(np.int16) - value) <= _BORDER_SPREAD).mean(axis=1)
    borders = np.flatnonzero(shares >= _BORDER_SHARE)
    gaps = np.flatnonzero(np.diff(borders) > 1 + _TEXT_SHARE * len(lines))
    width_px = int(borders[gaps[0] if len(gaps) else -1]) + 1
    behind = shares[width_px : width_px + _END_LINES]
    return width_px if len(behind) and behind.min() <= _BEHIND_SHARE else 0


def _framed(image: Image, frame: tuple[int, int, int], border: int) -> Image:
    """A square of a picture (left, top, side), which may stick out of it, in small."""
    left, top, side = frame
    height_px, width_px = image.shape
    inner = image[max(top, 0) : top + side, max(left, 0) : left + side]
    beyond = (max(-top, 0), max(top + side - height_px, 0), max(-left, 0), max(left + side - width_px, 0))
    return _small(np.asarray(cv2.copyMakeBorder(inner, *beyond, border, value=(0,)), np.uint8))


def _small(image: Image) -> Image:
    interpolation = cv2.INTER_AREA if min(image.shape) >= SIDE_PX else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, SIZE, interpolation=interpolation), np.uint8)


def unpack_signatures(views: NDArray[np.uint8]) -> tuple[Image, Image]:
    """Grey values, and 255 inside of the outline: both uint8 (people, SIDE_PX, SIDE_PX)."""
    shape = (len(views), SIDE_PX, SIDE_PX)
    bits = np.unpackbits(views[:, _PIXELS:], axis=1)
    return views[:, :_PIXELS].reshape(shape), (bits * np.uint8(255)).reshape(shape)


# Picture -> its stamp, and SHA-256.
_Digests = dict[str, tuple[str, str]]
_DIGESTS = TypeAdapter(_Digests)


def _stamp(path: Path) -> str:
    """Size and time of change of a file; empty when there is none."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def content_digests(bottle: Bottle, names: Iterable[str], *, workers: int) -> dict[str, str]:
    """SHA-256 of pictures' bytes, by name; a picture that is missing or cannot be read has none.

    They are cached together with size and time of change, and a file is read again only when one of these differs. A
    file that is changed with both kept as they were (a clock set back on purpose) is taken for unchanged.

    Raises:
        FileError: the cache cannot be written.
    """
    file = bottle.cache / _DIGESTS_FILE
    with locked(file.with_name(f".{_FILE}.lock")):
        remove_parts(file.parent, file.name)
        known = _cached_digests(file)
        asked = list(dict.fromkeys(names))
        stamps = {name: stamp for name in asked if (stamp := _stamp(bottle.picture(name)))}
        found = {name: known[name][1] for name, stamp in stamps.items() if name in known and known[name][0] == stamp}
        unknown = [name for name in stamps if name not in found]
        # Digests of deleted pictures are dropped, whichever pictures are asked for.
        kept = {name: entry for name, entry in known.items() if name in stamps or bottle.picture(name).exists()}
        if unknown or len(kept) < len(known):
            with ThreadPoolExecutor(max(workers, 1)) as pool:
                digests = pool.map(lambda name: _digest(bottle.picture(name)), unknown)
                found.update((name, digest) for name, digest in zip(unknown, digests, strict=True) if digest)
            kept.update((name, (stamps[name], found[name])) for name in unknown if name in found)
            write_json_atomic(file, kept, indent=None)
    return found


def _cached_digests(file: Path) -> _Digests:
    """The digests in the cache; none where the file is missing or damaged: pictures are then read again."""
    try:
        return _DIGESTS.validate_python(read_json(file)) if file.exists() else {}
    except (FileError, ValidationError):
        _log.warning("%s cannot be read; pictures are read again", file)
        return {}


def _digest(path: Path) -> str:
    """SHA-256 of a file; empty where it cannot be read: decoding it reports why."""
    try:
        return sha256_of_file(path)
    except OSError:
        return ""


Signature = NDArray[np.uint8] | None
# (picture, digest of the outline) -> size and time of change of the picture, and the signature.
_Signatures = dict[tuple[str, str], tuple[str, Signature]]


def signatures_of(bottle: Bottle, samples: Sequence[Sample], *, workers: int) -> list[Signature]:
    """Signatures of people, in order; None for those without structure and of pictures that cannot be decoded.

    They are cached together with the picture's size and time of change and with the person's outline; a picture is
    decoded again only when one of these differs. A cached signature of a deleted picture is returned once more and
    dropped: the file keeps nothing of deleted pictures, nor of outlines that a picture had earlier.

    Raises:
        FileError: the cache cannot be written.
    """
    file = bottle.cache / _FILE
    keys = [(sample.path, _outline_digest(sample.person)) for sample in samples]
    people = dict(zip(keys, (sample.person for sample in samples), strict=True))
    stamps = {name: _stamp(bottle.picture(name)) for name, _ in people}
    with locked(file.with_name(f".{_FILE}.lock")):
        remove_parts(file.parent, file.name)
        (bottle.cache / _OLDER).unlink(missing_ok=True)
        known = _cached_signatures(file)
        unknown: dict[str, dict[tuple[str, str], Person]] = {}
        for key, person in people.items():
            if stamps[key[0]] and known.get(key, ("",))[0] != stamps[key[0]]:
                unknown.setdefault(key[0], {})[key] = person
        kept = {
            key: entry
            for key, entry in _of_existing_pictures(bottle, known).items()
            if key[0] not in stamps or (key in people and entry[0] == stamps[key[0]])
        }
        if unknown:
            _compute(bottle, unknown, stamps, kept, workers)
        elif len(kept) < len(known):
            _write(file, kept)
        known |= kept
    return [known[key][1] if key in known else None for key in keys]


def drop_stale_signatures(bottle: Bottle) -> None:
    """Drops the signatures of deleted pictures, for trainings that compute none.

    Raises:
        FileError: the cache cannot be written.
    """
    file = bottle.cache / _FILE
    (bottle.cache / _OLDER).unlink(missing_ok=True)
    if not file.exists():
        return
    with locked(file.with_name(f".{_FILE}.lock")):
        known = _cached_signatures(file)
        kept = _of_existing_pictures(bottle, known)
        if len(kept) < len(known):
            _write(file, kept)


def _of_existing_pictures(bottle: Bottle, known: _Signatures) -> _Signatures:
    existing = {name for name in {name for name, _ in known} if bottle.picture(name).exists()}
    return {key: entry for key, entry in known.items() if key[0] in existing}


def _compute(
    bottle: Bottle,
    unknown: dict[str, dict[tuple[str, str], Person]],
    stamps: dict[str, str],
    known: _Signatures,
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
            _write(bottle.cache / _FILE, known)


def _signatures(path: Path, people: Collection[Person]) -> list[Signature]:
    """Signatures of people in a picture; none where it cannot be decoded, which cutting people out reports."""
    try:
        return signatures_in(path.read_bytes(), people, where=path)
    except (FileError, OSError):
        return [None] * len(people)


def signatures_in(content: bytes, people: Collection[Person], *, where: object = None) -> list[Signature]:
    """Signatures of people in the bytes of a photo, in order; None for those without structure."""
    image_rgb, size_px = decode_photo_reduced(content, max(map(min_longer_side_px, people)), where=where)
    return [person_signature(image_rgb, _outlined(person, size_px)) for person in people]


def _outlined(person: Person, size_px: tuple[int, int]) -> Person:
    """The person, with an outline around the box where there is none; `size_px`: height and width of the photo."""
    if any(len(polygon) >= 3 for polygon in person.polygons_xy_rel):
        return person
    left, top, right, bottom = person.box_xyxy_px
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    return replace(person, polygons_xy_rel=(corners / (size_px[1], size_px[0]),))


def _outline_digest(person: Person) -> str:
    """A digest of box and outlines: what a signature is made of besides pixels."""
    digest = hashlib.sha256(np.asarray(person.box_xyxy_px, np.float64).tobytes())
    for polygon in person.polygons_xy_rel:
        digest.update(f"{polygon.shape}".encode() + np.ascontiguousarray(polygon, np.float64).tobytes())
    return digest.hexdigest()[:16]


def _write(file: Path, known: _Signatures) -> None:
    """Writes rows in JSON, and the signatures of those that have one, in the same order."""
    rows = [[*key, stamp, signature is not None] for key, (stamp, signature) in known.items()]
    signatures = [signature for _, signature in known.values() if signature is not None]
    with atomic_path(file) as part, part.open("wb") as target:
        np.savez(
            target,
            version=np.array(VERSION),
            people=np.frombuffer(json.dumps(rows).encode(), np.uint8),
            signatures=np.array(signatures, np.uint8).reshape(-1, len(VIEWS), VIEW_BYTES),
        )


def _cached_signatures(file: Path) -> _Signatures:
    """The signatures in the cache; none where the file is of another version, or damaged: all are computed again."""
    if not file.exists():
        return {}
    try:
        with np.load(file, allow_pickle=False) as content:
            if content["version"].tolist() != VERSION:
                _log.info("%s is of another version; pictures are compared again", file)
                return {}
            rows, signatures = _ROWS.validate_json(content["people"].tobytes()), content["signatures"]
        found = iter(np.asarray(signatures, np.uint8).reshape(-1, len(VIEWS), VIEW_BYTES))
        known: _Signatures = {
            (name, outline): (stamp, next(found) if is_signed else None) for name, outline, stamp, is_signed in rows
        }
    except (OSError, ValueError, KeyError, TypeError, EOFError, StopIteration, zipfile.BadZipFile) as error:
        _log.warning("%s cannot be read (%s); pictures are compared again", file, error)
        return {}
    return known
