"""Augmentation: the random changes of a cut-out, and the backgrounds that people are put on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.dataset.cache import FolderUse, RecordRequest, RecordSize, load_records
from cls.dataset.cutouts import Cutouts
from cls.dataset.shards import RecordKey
from cls.dataset.split.signatures import content_digests
from cls.files import sha256_of_bytes
from cls.machine import cores
from cls.people.preprocess import Preprocessing
from cls.pictures.database import PicturesDatabase, Status
from cls.wording import counted

_log = logging.getLogger("cls.dataset")

_STEP = np.uint64(0x9E3779B97F4A7C15)

# Rec. 601 luma: what a colour becomes when its saturation is taken away.
_LUMA = np.array([0.299, 0.587, 0.114])

# Background: the flat colour of inference, another flat colour, or a picture.
SAME, FLAT, PICTURE = 0, 1, 2
_COLUMNS = 20
BACKGROUND_GROUP = "background"

# Most scenes of other photos kept in memory; they are chosen evenly over all.
_SCENES = 256

# Version of the backgrounds in the cache.
_LAYOUT = 1


def uniforms(seed: int, epoch: int, indices: Sequence[int], count: int) -> NDArray[np.float64]:
    """Random numbers by SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), with a stream for each seed, epoch and sample.

    A generator object for each sample would take longer than the arithmetic of its view.

    Returns:
        float64 (samples, count), 0 <= value < 1. A sample's row does not depend on the other indices.
    """
    state = _mixed(np.array([seed % 2**64], np.uint64) + _STEP)
    state = _mixed(state + np.array([epoch], np.uint64) + _STEP)
    state = _mixed(state + np.asarray(indices, np.uint64) + _STEP)
    streams = state[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _STEP
    return np.asarray((_mixed(streams) >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finisher: every bit of the input changes about half of the output's."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@dataclass(frozen=True)
class Augmentation:
    """The strength of augmentation. Ranges are half-widths around "unchanged"; `p_` are probabilities.

    Attributes:
        p_flip: mirrored left to right.
        zoom: relative change of size.
        stretch: relative change of proportions.
        shift: shift, fraction of the input's size.
        brightness: factor on all channels.
        contrast: factor around mid grey.
        saturation: factor on the distance from grey.
        p_erase: a rectangle of the background's colour covers a part.
        erase_area: largest part covered, fraction of the input.
        p_flat: another flat colour behind the person than the one at inference.
        p_picture: a picture behind the person: of the group `background`, or another photo's scene.
    """

    p_flip: float = 0.5
    zoom: float = 0.12
    stretch: float = 0.06
    rotation_deg: float = 8.0
    shift: float = 0.05
    brightness: float = 0.15
    contrast: float = 0.15
    saturation: float = 0.15
    p_erase: float = 0.15
    erase_area: float = 0.08
    p_flat: float = 0.1
    p_picture: float = 0.2


@dataclass(frozen=True)
class Views:
    """The random changes of a batch's cut-outs; each array has one entry for each view.

    Attributes:
        matrices: float64 (batch, 2, 3), a pixel of the `rgb_and_mask` picture -> a pixel of the view.
        colours: float32 (batch, 3, 4), RGB and 1 -> RGB.
        grounds: int64 (batch,), SAME, FLAT or PICTURE.
        flat_rgb: uint8 (batch, 3), the colour behind the person where it is flat.
        pictures: float64 (batch, 2), 0..1: which source of pictures, and which of its pictures.
        is_picture_flipped: bool (batch,), the picture is mirrored.
        boxes_yxhw_px: int64 (batch, 4), the rectangle that is covered: top, left, height, width; height 0: none.
    """

    matrices: NDArray[np.float64]
    colours: NDArray[np.float32]
    grounds: NDArray[np.int64]
    flat_rgb: NDArray[np.uint8]
    pictures: NDArray[np.float64]
    is_picture_flipped: NDArray[np.bool_]
    boxes_yxhw_px: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.matrices)


class BatchKey(NamedTuple):
    """Epoch and samples of a batch; a sample's view depends on seed, epoch and sample alone."""

    epoch: int
    indices: tuple[int, ...]


def draw_views(
    settings: Augmentation,
    preprocessing: Preprocessing,
    rgb_and_mask_shape: tuple[int, int, int],
    key: BatchKey,
    *,
    seed: int,
) -> Views:
    """Draws the changes of a batch; a sample's view does not depend on the batch it is in.

    Args:
        settings: strength of the augmentation.
        preprocessing: size of the view, colour around the person.
        rgb_and_mask_shape: (height, width, 4) of the cut-outs.
        key: epoch and samples.
        seed: of the random numbers.
    """
    chance = uniforms(seed, key.epoch, key.indices, _COLUMNS)
    is_picture, is_other = chance[:, 9] < settings.p_picture, chance[:, 9] < settings.p_picture + settings.p_flat
    grounds = np.where(is_picture, PICTURE, np.where(is_other, FLAT, SAME))
    flat = np.where((grounds == FLAT)[:, None], chance[:, 12:15] * 256, preprocessing.fill_rgb)
    return Views(
        matrices=_matrices(chance[:, :6], settings, preprocessing, rgb_and_mask_shape),
        colours=_colours(chance[:, 6:9], settings),
        grounds=grounds,
        flat_rgb=flat.astype(np.uint8),
        pictures=chance[:, 10:12],
        is_picture_flipped=chance[:, 19] < 0.5,
        boxes_yxhw_px=_boxes(chance[:, 15:19], settings, preprocessing),
    )


def _matrices(
    chance: NDArray[np.float64],
    settings: Augmentation,
    preprocessing: Preprocessing,
    rgb_and_mask_shape: tuple[int, int, int],
) -> NDArray[np.float64]:
    """Affine matrices around the centre: flip, zoom, stretch, rotation and shift; (batch, 2, 3)."""
    zoom, stretch, angle, shift_x, shift_y = (2 * chance[:, :5] - 1).T
    mirror = np.where(chance[:, 5] < settings.p_flip, -1.0, 1.0)
    scale = preprocessing.height_px / rgb_and_mask_shape[0] * (1 + settings.zoom) ** zoom
    half_stretch = (1 + settings.stretch) ** (stretch / 2)
    radians = np.deg2rad(angle * settings.rotation_deg)
    cosine, sine = np.cos(radians) * scale, np.sin(radians) * scale
    across, down = mirror * half_stretch, 1 / half_stretch
    matrices = np.empty((len(chance), 2, 3))
    matrices[:, 0, 0], matrices[:, 0, 1] = cosine * across, -sine * down
    matrices[:, 1, 0], matrices[:, 1, 1] = sine * across, cosine * down
    size = np.array([preprocessing.width_px, preprocessing.height_px])
    target = (size - 1) / 2 + np.stack([shift_x, shift_y], axis=1) * size * settings.shift
    centre = np.array([(rgb_and_mask_shape[1] - 1) / 2, (rgb_and_mask_shape[0] - 1) / 2])
    matrices[:, :, 2] = target - matrices[:, :, :2] @ centre
    return matrices


def _colours(chance: NDArray[np.float64], settings: Augmentation) -> NDArray[np.float32]:
    """Brightness, contrast and saturation as one matrix a view; (batch, 3, 4)."""
    strength = np.array([settings.brightness, settings.contrast, settings.saturation])
    brightness, contrast, saturation = (1 + (2 * chance - 1) * strength).T
    grey = np.tile(_LUMA, (3, 1))
    colours = np.empty((len(chance), 3, 4), np.float32)
    colours[:, :, :3] = grey + (np.eye(3) - grey) * saturation[:, None, None]
    colours[:, :, :3] *= (brightness * contrast)[:, None, None]
    colours[:, :, 3] = (127.5 * (1 - contrast))[:, None]
    return colours


def _boxes(chance: NDArray[np.float64], settings: Augmentation, preprocessing: Preprocessing) -> NDArray[np.int64]:
    """Rectangles to cover (Zhong et al., Random Erasing, AAAI 2020): top, left, height, width; (batch, 4)."""
    height_px, width_px = preprocessing.height_px, preprocessing.width_px
    # The first number decides whether to erase, and below `p_erase` also how large the rectangle is.
    is_erased = chance[:, 0] < settings.p_erase
    size = chance[:, 0] / max(settings.p_erase, 1e-9)
    area = (0.02 + size * (max(settings.erase_area, 0.02) - 0.02)) * height_px * width_px
    ratio = np.exp(1.4 * chance[:, 1] - 0.7)
    boxes = np.empty((len(chance), 4), np.int64)
    boxes[:, 2] = np.where(is_erased, np.minimum(np.sqrt(area * ratio), height_px), 0)
    boxes[:, 3] = np.where(is_erased, np.minimum(np.sqrt(area / ratio), width_px), 0)
    boxes[:, 0] = chance[:, 2] * (height_px - boxes[:, 2] + 1)
    boxes[:, 1] = chance[:, 3] * (width_px - boxes[:, 3] + 1)
    return boxes


@dataclass(frozen=True)
class Backgrounds:
    """Pictures without people at the size of the network's input.

    Attributes:
        pictures: each uint8 (height, width, 3), RGB.
        origin: where they come from, for reports.
        digest: of their sources, for those of the cache; else None.
        use: keeps them in the cache while they are used.
    """

    pictures: Sequence[NDArray[np.uint8]]
    origin: str
    digest: str | None = None
    use: FolderUse | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.pictures)

    def picture(self, index: int) -> NDArray[np.uint8]:
        """A background, uint8 (preprocessing.height_px, preprocessing.width_px, 3)."""
        return self.pictures[index]

    @property
    def identity(self) -> str:
        """A digest that differs for other pictures: the cache's, or one of some pixels of every picture."""
        if self.digest is not None:
            return self.digest
        flat = (picture.reshape(-1) for picture in self.pictures)
        return sha256_of_bytes(b"".join(pixels[:: max(len(pixels) // 4096, 1)].tobytes() for pixels in flat))


def background_sources(bottle: Bottle, cutouts: Cutouts, preprocessing: Preprocessing) -> tuple[Backgrounds, ...]:
    """Backgrounds for training: the pictures of the group `background` where the bottle has it, and scenes.

    Args:
        bottle: the data folder.
        cutouts: of the training subset, whose scenes are used.
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
    """File names of the pictures of the group `background`, of any label, in order; none where it is not loaded.

    A picture that a reviewer rejected is left out, and so is one with a person in it, who might have other labels.
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
