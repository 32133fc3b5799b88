"""The cut-out cache: every person decoded, cut out and resized once, kept in large shards in the bottle's cache."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from cls.bottle.layout import Bottle
from cls.dataset.samples import Sample
from cls.dataset.shards import Shard, drop_broken_shards, open_shards, write_shard
from cls.errors import FileError
from cls.files import remove_parts
from cls.people.cutout import cut_out, resize_cutout
from cls.people.person import Person
from cls.people.photos import read_photo
from cls.people.preprocess import Preprocessing, in_frame, inner_size
from cls.progress import progress

_log = logging.getLogger("cls.dataset")

_PICTURES_PER_SHARD = 256
_BOX_BYTES = 8


@dataclass(frozen=True)
class CutoutFormat:
    """What the cache keeps of one person, as two uint8 pictures side by side in one record.

    `wide` is the cut-out with the photo's own background at `scale` times the input size and the person's mask as a
    fourth channel: augmentation starts from it. `exact` is what `Preprocessing.cut` gives: validation uses it.

    Attributes:
        preprocessing: the network's input.
        scale: size of `wide` in input sizes.
    """

    preprocessing: Preprocessing
    scale: float = 1.25

    @property
    def wide_shape(self) -> tuple[int, int, int]:
        """(height, width, 4): RGB and mask."""
        return round(self.preprocessing.height_px * self.scale), round(self.preprocessing.width_px * self.scale), 4

    @property
    def exact_shape(self) -> tuple[int, int, int]:
        """(height, width, 3)."""
        return self.preprocessing.height_px, self.preprocessing.width_px, 3

    @property
    def record_bytes(self) -> int:
        """Size of one record."""
        return int(np.prod(self.wide_shape) + np.prod(self.exact_shape)) + _BOX_BYTES

    @property
    def digest(self) -> str:
        """Changes with everything that changes a record's pixels (not with mean and deviation).

        Besides the settings, it is made of the records of test pictures: another version of the code or of OpenCV
        that cuts out differently does not find the older cache.
        """
        values = asdict(self.preprocessing)
        values = {key: value for key, value in values.items() if key not in ("mean_rgb", "std_rgb")}
        digest = hashlib.sha256(json.dumps([values, self.scale], sort_keys=True).encode())
        outline = np.array([(0.3, 0.1), (0.7, 0.2), (0.6, 0.9), (0.35, 0.8)])
        for height_px, width_px in ((90, 60), (1200, 900)):
            pixels = np.random.default_rng(0).integers(0, 256, (height_px, width_px, 3), np.uint8)
            digest.update(self.make(pixels, Person("", 1.0, (0, 0, width_px, height_px), (outline,))).data)
        return digest.hexdigest()[:16]

    def make(self, image_rgb: NDArray[np.uint8], person: Person) -> NDArray[np.uint8]:
        """One person's record, uint8 (record_bytes,)."""
        preprocessing = self.preprocessing
        cutout = cut_out(image_rgb, person, margin_rel=preprocessing.margin_rel)
        height_px, width_px, _ = self.wide_shape
        source_height_px, source_width_px = cutout.mask.shape
        inner = inner_size(source_height_px, source_width_px, height_px, width_px)
        resized = resize_cutout(cutout, *inner)
        image = in_frame(resized.image_rgb, height_px, width_px, preprocessing.fill_rgb)
        mask = in_frame(np.repeat(resized.mask[..., None], 3, axis=2), height_px, width_px, (0, 0, 0))[..., :1]
        wide = np.concatenate([image, mask], axis=2)
        box = _box_of(mask, is_whole=preprocessing.is_background_kept).view(np.uint8)
        return np.concatenate([wide.reshape(-1), preprocessing.fit(cutout).reshape(-1), box])

    def wide(self, record: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The `wide` picture of a record, uint8 (height, width, 4); a view."""
        return record[: int(np.prod(self.wide_shape))].reshape(self.wide_shape)

    def exact(self, record: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The `exact` picture of a record, uint8 (height, width, 3); a view."""
        return record[int(np.prod(self.wide_shape)) : -_BOX_BYTES].reshape(self.exact_shape)

    def box(self, record: NDArray[np.uint8]) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of what matters in the `wide` picture of a record; outside, the mask is 0."""
        left, top, right, bottom = record[-_BOX_BYTES:].view(np.int16).tolist()
        return left, top, right, bottom


def _box_of(mask: NDArray[np.uint8], *, is_whole: bool) -> NDArray[np.int16]:
    """Left, top, right, bottom of the person with a rim of a pixel; int16 (4,)."""
    height_px, width_px = mask.shape[:2]
    left, top, across_px, down_px = (0, 0, width_px, height_px) if is_whole else cv2.boundingRect(mask)
    right, bottom = left + across_px + 1, top + down_px + 1
    return np.array([max(left - 1, 0), max(top - 1, 0), min(right, width_px), min(bottom, height_px)], np.int16)


@dataclass(frozen=True)
class Cutouts:
    """Cut-outs of samples, read from memory-mapped shards (small sets stay in the page cache).

    Attributes:
        format: what a record holds.
        records: one a sample, in the samples' order; uint8 (record_bytes,) each.
    """

    format: CutoutFormat
    records: Sequence[NDArray[np.uint8]]

    def __len__(self) -> int:
        return len(self.records)

    def wide(self, index: int) -> NDArray[np.uint8]:
        """Picture and mask for augmentation, uint8 (height, width, 4)."""
        return self.format.wide(self.records[index])

    def exact(self, index: int) -> NDArray[np.uint8]:
        """The network's input before normalisation, uint8 (height, width, 3)."""
        return self.format.exact(self.records[index])

    def box(self, index: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the person in the `wide` picture."""
        return self.format.box(self.records[index])

    def take(self, indices: Sequence[int]) -> Cutouts:
        """The cut-outs of some samples."""
        return Cutouts(self.format, [self.records[index] for index in indices])


def load_cutouts(
    bottle: Bottle, samples: Sequence[Sample], format_: CutoutFormat, *, workers: int
) -> tuple[Cutouts, list[str]]:
    """Cut-outs of samples: those in the cache from there, the others made, in parallel, and stored.

    A killed build loses at most one shard's work. A broken shard is dropped and its cut-outs made again. Two trainings
    at once build one after the other, so that nothing is made twice.

    Args:
        bottle: the data folder.
        samples: whom to cut out.
        format_: what to keep of each.
        workers: how many threads decode.

    Returns:
        Cut-outs of the samples whose picture can be decoded, in order, and the names of the pictures that cannot.

    Raises:
        FileError: the cache cannot be written (no space, no permission).
    """
    folder = bottle.cache / "cutouts" / format_.digest
    folder.mkdir(parents=True, exist_ok=True)
    keys = _keys_of(bottle, samples)
    with FileLock(folder / ".lock"):
        remove_parts(folder)
        for name in drop_broken_shards(folder, format_.record_bytes):
            _log.warning("cut-out cache: shard %s is broken and is made again", name)
        known = _by_key(open_shards(folder, format_.record_bytes))
        missing = {key: sample for sample, key in zip(samples, keys, strict=True) if key not in known}
        broken = _build(bottle, folder, missing, format_, workers) if missing else []
        known = _by_key(open_shards(folder, format_.record_bytes))
    gone = set(broken)
    used = [known[key] for sample, key in zip(samples, keys, strict=True) if sample.path not in gone]
    return Cutouts(format_, used), broken


def _by_key(shards: Sequence[Shard]) -> dict[str, NDArray[np.uint8]]:
    return {key: shard.records[index] for shard in shards for index, key in enumerate(shard.keys)}


def _keys_of(bottle: Bottle, samples: Sequence[Sample]) -> list[str]:
    """A key for every sample: changes with the picture file (size and time of change) and with the person's outline."""
    stamps: dict[str, str] = {}
    keys = []
    for sample in samples:
        if sample.path not in stamps:
            try:
                status = bottle.picture(sample.path).stat()
                stamps[sample.path] = f"{sample.path}\n{status.st_size}\n{status.st_mtime_ns}"
            except OSError:
                stamps[sample.path] = f"{sample.path}\nmissing"
        digest = hashlib.sha256(stamps[sample.path].encode())
        digest.update(np.asarray(sample.person.box_xyxy_px, np.float64).tobytes())
        for polygon in sample.person.polygons_xy_rel:
            digest.update(str(polygon.shape).encode())
            digest.update(np.ascontiguousarray(polygon, np.float64).tobytes())
        keys.append(digest.hexdigest()[:32])
    return keys


def _build(
    bottle: Bottle, folder: Path, missing: Mapping[str, Sample], format_: CutoutFormat, workers: int
) -> list[str]:
    """Makes and stores cut-outs shard by shard; returns the names of pictures that cannot be decoded."""
    by_picture: dict[str, dict[str, Person]] = {}
    for key, sample in missing.items():
        by_picture.setdefault(sample.path, {})[key] = sample.person
    _log.info("cutting out %d people of %d pictures", len(missing), len(by_picture))
    broken: list[str] = []

    def cut_picture(path: str) -> dict[str, NDArray[np.uint8]] | FileError:
        try:
            image_rgb = read_photo(bottle.picture(path))
        except FileError as error:
            # One broken picture must not end the others: it is reported by whoever asked.
            return error
        return {key: format_.make(image_rgb, person) for key, person in by_picture[path].items()}

    with ThreadPoolExecutor(max(workers, 1)) as pool, progress("pictures cut out", len(by_picture)) as ticker:
        for paths in _chunks(list(by_picture), _PICTURES_PER_SHARD):
            stored: dict[str, NDArray[np.uint8]] = {}
            for path, made in zip(paths, pool.map(cut_picture, paths), strict=True):
                ticker.advance()
                if isinstance(made, FileError):
                    _log.warning("left out: %s", made.line())
                    broken.append(path)
                else:
                    stored.update(made)
            if stored:
                write_shard(folder, stored)
    return broken


def _chunks(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]
