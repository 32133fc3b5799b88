"""The cut-out cache: every person decoded, cut out and resized once, kept in large shards in the bottle's cache."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.bottle.layout import Bottle
from cls.dataset.cache import FolderUse, RecordRequest, RecordSize, load_records
from cls.dataset.samples import Sample
from cls.dataset.shards import RecordKey
from cls.dataset.split.signatures import content_digests
from cls.people.photos import Person
from cls.people.preprocess import Preprocessing, cut_out, in_frame, inner_size, resize_cutout

# Version of the records' layout; records of another one are not read.
_LAYOUT = 4

STORAGES = ("raw", "jpeg", "png")
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 4)
_BOX_BYTES = 8
# A compressed record begins with the lengths of its three parts and both boxes; a raw one ends with the boxes.
_LENGTHS_BYTES = 12


@dataclass(frozen=True)
class CutoutFormat:
    """What the cache keeps of one person, as two uint8 pictures in one record.

    `rgb_and_mask` is the cut-out with the photo's own background at `scale` times the input size and the person's mask
    as a fourth channel: augmentation starts from it. `input_rgb` is what `Preprocessing.cut` gives: validation uses it.

    Attributes:
        preprocessing: the network's input.
        scale: size of `rgb_and_mask` in input sizes.
        storage: `raw` pixels; `jpeg`: `rgb_and_mask` loses a little, takes a tenth of the space; `png`: loses nothing.
    """

    preprocessing: Preprocessing
    scale: float = 1.25
    storage: str = "raw"

    @property
    def rgb_and_mask_shape(self) -> tuple[int, int, int]:
        """(height, width, 4): RGB and mask."""
        return round(self.preprocessing.height_px * self.scale), round(self.preprocessing.width_px * self.scale), 4

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, 3)."""
        return self.preprocessing.height_px, self.preprocessing.width_px, 3

    @property
    def record_bytes(self) -> int:
        """Size of one record; about, where it is compressed."""
        raw_bytes = int(np.prod(self.rgb_and_mask_shape) + np.prod(self.input_shape)) + 16
        return raw_bytes if self.storage == "raw" else raw_bytes // (5 if self.storage == "jpeg" else 2)

    @property
    def digest(self) -> str:
        """Changes with everything that changes a record's pixels (not with mean and deviation).

        Besides the settings, it is made of the records of test pictures: another version of the code or of OpenCV
        that cuts out differently does not find the older cache.
        """
        values = asdict(self.preprocessing)
        unused = ("mean_rgb", "std_rgb", *(("version",) if self.preprocessing.version == 1 else ()))
        values = {key: value for key, value in values.items() if key not in unused}
        digest = hashlib.sha256(json.dumps([_LAYOUT, values, self.scale, self.storage], sort_keys=True).encode())
        outline = np.array([(0.3, 0.1), (0.7, 0.2), (0.6, 0.9), (0.35, 0.8)])
        for height_px, width_px in ((90, 60), (1200, 900)):
            pixels = np.random.default_rng(0).integers(0, 256, (height_px, width_px, 3), np.uint8)
            digest.update(self.make(pixels, Person("", 1.0, (0, 0, width_px, height_px), (outline,))).data)
        return digest.hexdigest()[:16]

    def make(self, image_rgb: NDArray[np.uint8], person: Person) -> NDArray[np.uint8]:
        """One person's record, uint8 (record_bytes,).

        Raw: pixels of `rgb_and_mask`, of `input_rgb`, both boxes. Else: the lengths of three parts, both boxes, then
        picture and mask of `rgb_and_mask` without its borders, and `input_rgb`; only the picture of `jpeg` is lossy.
        """
        preprocessing = self.preprocessing
        cutout = cut_out(image_rgb, person, margin_rel=preprocessing.margin_rel, version=preprocessing.version)
        height_px, width_px, _ = self.rgb_and_mask_shape
        source_height_px, source_width_px = cutout.mask.shape
        inner = inner_size(source_height_px, source_width_px, height_px, width_px, version=preprocessing.version)
        resized = resize_cutout(cutout, *inner, version=preprocessing.version)
        image = in_frame(resized.image_rgb, height_px, width_px, preprocessing.fill_rgb)
        mask = in_frame(np.repeat(resized.mask[..., None], 3, axis=2), height_px, width_px, (0, 0, 0))[..., :1]
        input_rgb = preprocessing.fit(cutout)
        left, top = (width_px - inner[1]) // 2, (height_px - inner[0]) // 2
        right, bottom = left + inner[1], top + inner[0]
        person_box = _box_of(mask, is_whole=preprocessing.is_background_kept)
        boxes = np.array([*person_box, left, top, right, bottom], np.int16).view(np.uint8)
        if self.storage == "raw":
            return np.concatenate([np.concatenate([image, mask], axis=2).reshape(-1), input_rgb.reshape(-1), boxes])
        suffix, options = (".jpg", _JPEG) if self.storage == "jpeg" else (".png", _PNG)
        image, mask = image[top:bottom, left:right], np.ascontiguousarray(mask[top:bottom, left:right])
        parts = [
            cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1],
            np.frombuffer(zlib.compress(mask.data, 6), np.uint8),
            cv2.imencode(".png", cv2.cvtColor(input_rgb, cv2.COLOR_RGB2BGR), _PNG)[1],
        ]
        lengths = np.array([len(part) for part in parts], np.uint32).view(np.uint8)
        return np.concatenate([lengths, boxes, *(np.asarray(part, np.uint8).reshape(-1) for part in parts)])

    def rgb_and_mask(self, record: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The `rgb_and_mask` picture of a record, uint8 (height, width, 4); a view where it is raw."""
        shape = self.rgb_and_mask_shape
        if self.storage == "raw":
            return record[: int(np.prod(shape))].reshape(shape)
        image, mask, _ = _parts(record)
        left, top, right, bottom = self.photo_box(record)
        photo = np.asarray(cv2.cvtColor(_decoded(image), cv2.COLOR_RGB2RGBA), np.uint8)
        cv2.insertChannel(np.frombuffer(zlib.decompress(mask.data), np.uint8).reshape(photo.shape[:2]), photo, 3)
        borders = (top, shape[0] - bottom, left, shape[1] - right)
        fill_rgba = (*map(float, self.preprocessing.fill_rgb), 0.0)
        return np.asarray(cv2.copyMakeBorder(photo, *borders, cv2.BORDER_CONSTANT, value=fill_rgba), np.uint8)

    def input_rgb(self, record: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The `input_rgb` picture of a record, uint8 (height, width, 3); a view where it is raw."""
        if self.storage != "raw":
            return _decoded(_parts(record)[2])
        end = -2 * _BOX_BYTES
        return record[end - int(np.prod(self.input_shape)) : end].reshape(self.input_shape)

    def box(self, record: NDArray[np.uint8]) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the person in the `rgb_and_mask` picture; outside, the mask is 0."""
        return self._box_at(record, 0)

    def photo_box(self, record: NDArray[np.uint8]) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the photo in the `rgb_and_mask` picture of a record; around it are borders."""
        return self._box_at(record, 1)

    def _box_at(self, record: NDArray[np.uint8], place: int) -> tuple[int, int, int, int]:
        first = len(record) - 2 * _BOX_BYTES if self.storage == "raw" else _LENGTHS_BYTES
        start = first + place * _BOX_BYTES
        left, top, right, bottom = record[start : start + _BOX_BYTES].copy().view(np.int16).tolist()
        return left, top, right, bottom


def _parts(record: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The compressed picture, mask and input of a record."""
    lengths = record[:_LENGTHS_BYTES].copy().view(np.uint32).astype(np.int64)
    return np.split(record[_LENGTHS_BYTES + 2 * _BOX_BYTES :], np.cumsum(lengths)[:2])


def _decoded(content: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB), np.uint8)


def _box_of(mask: NDArray[np.uint8], *, is_whole: bool) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the person with a rim of a pixel."""
    height_px, width_px = mask.shape[:2]
    left, top, across_px, down_px = (0, 0, width_px, height_px) if is_whole else cv2.boundingRect(mask)
    right, bottom = left + across_px + 1, top + down_px + 1
    return max(left - 1, 0), max(top - 1, 0), min(right, width_px), min(bottom, height_px)


@dataclass(frozen=True)
class Cutouts:
    """Cut-outs of samples, read from memory-mapped shards (small sets stay in the page cache).

    Attributes:
        format: what a record holds.
        records: one a sample, in the samples' order; uint8 (bytes,) each.
        keys: of each record, a digest of what it was made of: picture, its content, outline.
        use: keeps the records from being removed to make room for others.
    """

    format: CutoutFormat
    records: Sequence[NDArray[np.uint8]]
    keys: Sequence[str] = ()
    use: FolderUse | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.records)

    def rgb_and_mask(self, index: int) -> NDArray[np.uint8]:
        """Picture and mask for augmentation, uint8 (height, width, 4)."""
        return self.format.rgb_and_mask(self.records[index])

    def input_rgb(self, index: int) -> NDArray[np.uint8]:
        """The network's input before normalisation, uint8 (height, width, 3)."""
        return self.format.input_rgb(self.records[index])

    def box(self, index: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the person in the `rgb_and_mask` picture."""
        return self.format.box(self.records[index])

    def photo(self, index: int) -> NDArray[np.uint8]:
        """The `rgb_and_mask` picture without the borders around the photo, uint8 (height, width, 4); a view."""
        left, top, right, bottom = self.format.photo_box(self.records[index])
        return self.rgb_and_mask(index)[top:bottom, left:right]

    def take(self, indices: Sequence[int]) -> Cutouts:
        """The cut-outs of some samples."""
        keys = [self.keys[index] for index in indices] if self.keys else ()
        return Cutouts(self.format, [self.records[index] for index in indices], keys, self.use)


@dataclass(frozen=True)
class Subset:
    """Samples and their cut-outs, in the same order."""

    samples: Sequence[Sample]
    cutouts: Cutouts

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def units(self) -> list[str]:
        """Of each sample, what a split keeps together."""
        return [sample.split_unit for sample in self.samples]

    def take(self, indices: Sequence[int]) -> Subset:
        """Some of them."""
        return Subset([self.samples[index] for index in indices], self.cutouts.take(indices))


def load_cutouts(
    bottle: Bottle, samples: Sequence[Sample], format_: CutoutFormat, *, workers: int
) -> tuple[Cutouts, list[str]]:
    """Cut-outs of samples: those in the cache from there, the others made and stored (see `load_records`).

    Args:
        bottle: the data folder.
        samples: the people to cut out.
        format_: what to keep of each.
        workers: how many threads decode.

    Returns:
        Cut-outs of the samples whose picture can be decoded, in order, and the names of the pictures that cannot.

    Raises:
        FileError: the cache cannot be written (no space, no permission), or would grow above its limit.
    """
    contents = content_digests(bottle, (sample.path for sample in samples), workers=workers)
    wanted = [
        RecordRequest(_entry_of(sample, contents.get(sample.path, "")), partial(format_.make, person=sample.person))
        for sample in samples
    ]
    loaded = load_records(
        bottle,
        bottle.cache / "cutouts" / format_.digest,
        wanted,
        RecordSize(format_.record_bytes, is_exact=format_.storage == "raw"),
        workers=workers,
    )
    gone = set(loaded.broken)
    keys = [one.entry.key for one in wanted if one.entry.picture not in gone]
    return Cutouts(format_, [loaded.records[key] for key in keys], keys, loaded.use), loaded.broken


def _entry_of(sample: Sample, content: str) -> RecordKey:
    """The name of a sample's record: a digest of the picture's name and content, the box and the outlines."""
    digest = hashlib.sha256(f"{sample.path}\n{content}".encode())
    digest.update(np.asarray(sample.person.box_xyxy_px, np.float64).tobytes())
    for polygon in sample.person.polygons_xy_rel:
        digest.update(str(polygon.shape).encode())
        digest.update(np.ascontiguousarray(polygon, np.float64).tobytes())
    return RecordKey(digest.hexdigest()[:32], sample.path, content)
