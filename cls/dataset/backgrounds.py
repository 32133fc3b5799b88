"""What is put behind a person: pictures of the group `background`, or other photos' scenes, their person filled in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.dataset.cutouts.cache import FolderUse, RecordRequest, RecordSize, load_records
from cls.dataset.cutouts.cutouts import Cutouts
from cls.dataset.cutouts.shards import RecordKey
from cls.dataset.split.signatures import content_digests
from cls.files import sha256_of_bytes
from cls.machine import cores
from cls.people.preprocess import Preprocessing
from cls.pictures.database import PicturesDatabase, Status
from cls.wording import counted

_log = logging.getLogger("cls.dataset")

BACKGROUND_GROUP = "background"
# How many scenes of other photos are kept in memory at most; they are chosen evenly over all.
_SCENES = 256
# Another way of making them is another cache.
_LAYOUT = 1


@dataclass(frozen=True)
class Backgrounds:
    """Pictures without people at the size of the network's input.

    Attributes:
        pictures: each uint8 (height, width, 3), RGB.
        origin: where they come from, for reports.
        digest: of what they were made of, where the cache knows it; else None.
        use: keeps them from being removed from the cache to make room for others.
    """

    pictures: Sequence[NDArray[np.uint8]]
    origin: str
    digest: str | None = None
    use: FolderUse | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.pictures)

    def picture(self, index: int) -> NDArray[np.uint8]:
        """One background, uint8 (preprocessing.height_px, preprocessing.width_px, 3)."""
        return self.pictures[index]

    @property
    def identity(self) -> str:
        """Another one for other pictures: the cache's digest, or one of some pixels of every picture in memory."""
        if self.digest is not None:
            return self.digest
        flat = (picture.reshape(-1) for picture in self.pictures)
        return sha256_of_bytes(b"".join(pixels[:: max(len(pixels) // 4096, 1)].tobytes() for pixels in flat))


def background_sources(bottle: Bottle, cutouts: Cutouts, preprocessing: Preprocessing) -> tuple[Backgrounds, ...]:
    """What may be put behind people: the pictures of the group `background` where the bottle has it, and scenes.

    Args:
        bottle: the data folder.
        cutouts: whose scenes may be used: those of the training subset, never those of validation.
        preprocessing: size of the network's input.
    """
    group = _group_backgrounds(bottle, preprocessing, workers=cores())
    scenes = scenes_of(cutouts, preprocessing)
    return (group, scenes) if len(group) else (scenes,)


def _group_backgrounds(bottle: Bottle, preprocessing: Preprocessing, *, workers: int) -> Backgrounds:
    """The pictures of the group `background`, kept in the cache as cut-outs are."""
    origin = f"group '{BACKGROUND_GROUP}'"
    names = background_pictures(bottle)
    if not names:
        return Backgrounds([], origin)
    shape = (preprocessing.height_px, preprocessing.width_px, 3)
    size = f"{_LAYOUT}-{shape[0]}x{shape[1]}"
    contents = content_digests(bottle, names, workers=workers)
    wanted = [
        RecordRequest(
            RecordKey(sha256_of_bytes(f"{name}\n{contents.get(name)}".encode())[:32], name, contents.get(name, "")),
            partial(_cover_record, preprocessing=preprocessing),
        )
        for name in names
    ]
    record_size = RecordSize(int(np.prod(shape)), is_exact=True)
    loaded = load_records(bottle, bottle.cache / "backgrounds" / size, wanted, record_size, workers=workers)
    keys = [one.entry.key for one in wanted if one.entry.key in loaded.records]
    pictures = [loaded.records[key].reshape(shape) for key in keys]
    return Backgrounds(pictures, origin, sha256_of_bytes(" ".join([size, *keys]).encode()), loaded.use)


def _cover_record(image_rgb: NDArray[np.uint8], *, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    return crop_to_fill(image_rgb, preprocessing).reshape(-1)


def background_pictures(bottle: Bottle) -> list[str]:
    """File names of the pictures of the group `background`, of any category, in order; none where it is not loaded.

    A picture that a reviewer rejected, or in which a person was found, is left out: a person in the background would
    be somebody without the label.
    """
    file = bottle.dataset_file(BACKGROUND_GROUP)
    if not file.exists():
        return []
    names = sorted(row.path for row in read_dataset(file).rows)
    with PicturesDatabase.open_for_reading(bottle.database_url) as database:
        records = database.records(names)
    unfit = {name for name, record in records.items() if record.people or record.status == Status.REJECTED}
    if unfit:
        left_out = counted(len(unfit), "picture")
        _log.warning("%s of group '%s' left out: people in them, or rejected", left_out, BACKGROUND_GROUP)
    return [name for name in names if name not in unfit]


def scenes_of(cutouts: Cutouts, preprocessing: Preprocessing) -> Backgrounds:
    """Scenes of cut-outs with the person filled in; at most a few hundred, evenly over all."""
    indices = np.unique(np.linspace(0, len(cutouts) - 1, min(len(cutouts), _SCENES)).round().astype(int))
    scenes = [scene_without_person(cutouts.photo(int(index)), preprocessing) for index in indices]
    return Backgrounds(scenes, "other photos, person filled in")


def put_on_background(
    rgb_and_mask: NDArray[np.uint8], background_rgb: NDArray[np.uint8], preprocessing: Preprocessing
) -> NDArray[np.uint8]:
    """A person on a background, where and as large as in the `input_rgb` picture of the cut-out cache.

    Args:
        rgb_and_mask: uint8 (height, width, 4), picture and mask of the cut-out cache.
        background_rgb: uint8 (preprocessing.height_px, preprocessing.width_px, 3).
        preprocessing: size of the network's input.

    Returns:
        uint8 (preprocessing.height_px, preprocessing.width_px, 3), a new array.
    """
    size = (preprocessing.width_px, preprocessing.height_px)
    resized = np.asarray(cv2.resize(rgb_and_mask, size, interpolation=cv2.INTER_AREA), np.uint8)
    return blend(resized, background_rgb)


def blend(person: NDArray[np.uint8], background_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Picture and mask, uint8 (height, width, 4), over a background of the same size; uint8 (height, width, 3)."""
    mask = np.asarray(cv2.cvtColor(np.ascontiguousarray(person[..., 3]), cv2.COLOR_GRAY2RGB), np.uint8)
    front = cv2.multiply(cv2.cvtColor(person, cv2.COLOR_RGBA2RGB), mask, scale=1 / 255)
    back = cv2.multiply(background_rgb, cv2.bitwise_not(mask), scale=1 / 255)
    return np.asarray(cv2.add(front, back), np.uint8)


def crop_to_fill(image_rgb: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The middle of a picture in the input's proportions, resized to it; uint8 (height_px, width_px, 3)."""
    height_px, width_px = image_rgb.shape[:2]
    scale = min(height_px / preprocessing.height_px, width_px / preprocessing.width_px)
    inner_height_px = min(max(round(preprocessing.height_px * scale), 1), height_px)
    inner_width_px = min(max(round(preprocessing.width_px * scale), 1), width_px)
    top_px, left_px = (height_px - inner_height_px) // 2, (width_px - inner_width_px) // 2
    inner = image_rgb[top_px : top_px + inner_height_px, left_px : left_px + inner_width_px]
    interpolation = cv2.INTER_AREA if scale >= 1 else cv2.INTER_LINEAR
    resized = cv2.resize(inner, (preprocessing.width_px, preprocessing.height_px), interpolation=interpolation)
    return np.asarray(resized, np.uint8)


def scene_without_person(photo: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The surroundings of a cut-out, stretched to the size of the input: sharp, and smooth where the person was.

    Args:
        photo: uint8 (height, width, 4), picture and mask of the cut-out cache, without borders.
        preprocessing: size of the network's input.

    Returns:
        uint8 (preprocessing.height_px, preprocessing.width_px, 3).
    """
    height_px, width_px = preprocessing.height_px, preprocessing.width_px
    scene = np.asarray(cv2.resize(photo, (width_px, height_px), interpolation=cv2.INTER_LINEAR), np.uint8)
    # An outline is seldom exact: a rim around the person goes with it, so that no silhouette is left.
    rim_px = max(width_px // 24, 1) | 1
    person = cv2.dilate(np.ascontiguousarray(scene[..., 3]), np.ones((2 * rim_px + 1, 2 * rim_px + 1), np.uint8))
    person = cv2.blur(person, (rim_px, rim_px))
    small_px = (max(width_px // 8, 24), max(height_px // 8, 24))
    small = np.asarray(cv2.resize(scene[..., :3], small_px, interpolation=cv2.INTER_AREA), np.float32)
    hole = np.asarray(cv2.resize(person, small_px, interpolation=cv2.INTER_AREA), np.uint8)
    weight = np.where(hole[..., None] < 2, np.float32(1), np.float32(1e-6))
    sigma = max(small_px[0] / 6, 1.0)
    known = cv2.GaussianBlur(small * weight, (0, 0), sigma)
    share = cv2.GaussianBlur(np.repeat(weight, 3, axis=2), (0, 0), sigma)
    filling = np.clip(known / share, 0, 255).astype(np.uint8)
    filled = np.asarray(cv2.resize(filling, (width_px, height_px), interpolation=cv2.INTER_LINEAR), np.uint8)
    sharp = np.dstack([scene[..., :3], np.asarray(cv2.bitwise_not(person), np.uint8)])
    return blend(sharp, filled)
