"""The only way a cut-out becomes a network's input: used by training, export, inference and the packages' meta.json."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, JsonValue, ValidationError

from cls.errors import PackageError
from cls.people.photos import Person
from cls.people.polygons import UNITS_PER_PX, draw_polygons, fill_outlines, in_units

# What new runs are made with; runs and packages that name none keep version 1.
PREPROCESSING_VERSION = 2

# By version. A new name, so that a CLS that knows version 1 alone refuses what it would do otherwise.
_RESIZE = {1: "letterbox", 2: "letterbox-2"}

_INTERPOLATION = {
    1: "area when shrinking, linear when enlarging",
    2: "mean of the covered area when shrinking, linear between pixel centres when enlarging",
}


@dataclass(frozen=True)
class Cutout:
    """Pixels around one person.

    Attributes:
        image_rgb: uint8 (height, width, 3).
        mask: uint8 (height, width), 255 where the person is.
        left_px: column of the photo that the first column is.
        top_px: row of the photo that the first row is.
    """

    image_rgb: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    left_px: int = 0
    top_px: int = 0


def cut_out(
    image_rgb: NDArray[np.uint8], person: Person, *, margin_rel: float = 0.05, version: int = PREPROCESSING_VERSION
) -> Cutout:
    """Cuts a person out of a photo.

    The frame is the box around the person's polygons (the model's box where there are none), widened on each side by
    `margin_rel` of its longer side, rounded outwards to whole pixels and cut off at the photo's edge. The mask is what
    `fill_outlines` says, in whole units of 1/256 pixel. Version 1 counts in floating point, and its mask holds the
    pixels that the outline touches besides, as OpenCV's fillPoly draws them.

    Args:
        image_rgb: uint8 (height, width, 3), the photo as displayed.
        person: the person to cut out.
        margin_rel: how much of the surroundings is kept, as a fraction of the longer side.
        version: of the preprocessing.

    Returns:
        The cut-out, at the photo's resolution, at least 1x1 pixels; its pixels may be a view of the photo's. A person
        without a usable polygon gets a mask of the whole box.
    """
    height_px, width_px = image_rgb.shape[:2]
    scale = np.array([width_px, height_px], np.float64)
    outlines = [polygon * scale for polygon in person.polygons_xy_rel if len(polygon) >= 3]
    if not outlines:
        left, top, right, bottom = person.box_xyxy_px
        outlines = [np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)]
    if version == 1:
        x0, y0, x1, y1 = _frame_of_floats(outlines, height_px, width_px, margin_rel)
        # Drawn in the frame alone: a person is often a small part of a large photo.
        mask = draw_polygons([outline - (x0, y0) for outline in outlines], y1 - y0, x1 - x0)
    else:
        units = [in_units(outline) for outline in outlines]
        x0, y0, x1, y1 = _frame(units, height_px, width_px, margin_rel)
        offset = np.array([x0, y0], np.int64) * UNITS_PER_PX
        mask = fill_outlines([outline - offset for outline in units], y1 - y0, x1 - x0)
    return Cutout(image_rgb[y0:y1, x0:x1], mask, x0, y0)


def _frame(
    outlines: list[NDArray[np.int64]], height_px: int, width_px: int, margin_rel: float
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the cut-out in pixels, of outlines in units."""
    points = np.concatenate(outlines)
    left, top = points.min(axis=0).tolist()
    right, bottom = points.max(axis=0).tolist()
    margin = math.floor(margin_rel * max(right - left, bottom - top) + 0.5)
    x0 = min(max((left - margin) // UNITS_PER_PX, 0), width_px - 1)
    y0 = min(max((top - margin) // UNITS_PER_PX, 0), height_px - 1)
    x1 = min(max(-(-(right + margin) // UNITS_PER_PX), x0 + 1), width_px)
    y1 = min(max(-(-(bottom + margin) // UNITS_PER_PX), y0 + 1), height_px)
    return x0, y0, x1, y1


def _frame_of_floats(
    outlines: list[NDArray[np.float64]], height_px: int, width_px: int, margin_rel: float
) -> tuple[int, int, int, int]:
    """The same of version 1, of outlines in pixels."""
    points = np.concatenate(outlines)
    left, top = points.min(axis=0)
    right, bottom = points.max(axis=0)
    margin_px = margin_rel * max(right - left, bottom - top)
    x0 = int(np.clip(np.floor(left - margin_px), 0, width_px - 1))
    y0 = int(np.clip(np.floor(top - margin_px), 0, height_px - 1))
    x1 = int(np.clip(np.ceil(right + margin_px), x0 + 1, width_px))
    y1 = int(np.clip(np.ceil(bottom + margin_px), y0 + 1, height_px))
    return x0, y0, x1, y1


def resize_cutout(cutout: Cutout, height_px: int, width_px: int, *, version: int = PREPROCESSING_VERSION) -> Cutout:
    """Picture and mask at another size; the mask's edge becomes soft (0..255).

    Shrinking averages over areas, enlarging interpolates linearly between the pixels' centres and rounds halves
    upwards. Version 1 interpolates with OpenCV's weights of 11 bits, which other libraries do not have.
    """
    source_height_px, source_width_px = cutout.mask.shape
    is_shrunk = height_px <= source_height_px and width_px <= source_width_px
    resized = [
        _shrunk(levels, height_px, width_px) if is_shrunk else _enlarged(levels, height_px, width_px, version)
        for levels in (cutout.image_rgb, cutout.mask)
    ]
    return Cutout(resized[0], resized[1])


def _shrunk(levels: NDArray[np.uint8], height_px: int, width_px: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(levels, (width_px, height_px), interpolation=cv2.INTER_AREA), np.uint8)


def _enlarged(levels: NDArray[np.uint8], height_px: int, width_px: int, version: int) -> NDArray[np.uint8]:
    source = levels if version == 1 else levels.astype(np.float32)
    enlarged = cv2.resize(source, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged if version == 1 else enlarged + np.float32(0.5), np.uint8)


def on_flat_background(cutout: Cutout, color_rgb: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The person on a flat colour, blended by the mask: a half-transparent edge stays soft.

    Returns:
        uint8 (height, width, 3): (pixel * mask + colour * (255 - mask)) / 255, rounded.
    """
    # Three equal channels and work in place: twice as fast as broadcasting one mask.
    mask = cv2.cvtColor(cutout.mask, cv2.COLOR_GRAY2RGB).astype(np.uint16)
    blended = cutout.image_rgb * mask
    flat = np.empty_like(mask)
    flat[:] = color_rgb
    flat *= np.subtract(255, mask, out=mask)
    blended += flat
    # x / 255 rounded, in whole numbers: exact for all that occur, and the same on every machine.
    blended += 128
    blended += blended >> 8
    blended >>= 8
    return blended.astype(np.uint8)


class _Rules(BaseModel):
    """The rules of a preprocessing as they stand there; what earlier versions do not say is as here."""

    resize: Any = None
    colour_order: Any = "RGB"
    layout: Any = "NCHW"
    scale: Any = "1/255"
    version: Any = 1


class _Numbers(BaseModel):
    """The numbers of a preprocessing as they stand there."""

    height_px: int
    width_px: int
    mean_rgb: tuple[float, float, float]
    std_rgb: tuple[float, float, float]
    fill_rgb: tuple[int, int, int]
    margin_rel: float
    is_background_kept: bool


@dataclass(frozen=True)
class Preprocessing:
    """How a person in a photo becomes a network's input.

    Version 2 is exact in whole numbers where version 1 counts in floating point: the frame, the size within the
    letterbox, and the mask, which holds the pixels whose centre is inside the outline or on it.
    `cls.package.processing_steps` has the rule of each step.

    Attributes:
        height_px: height of the input.
        width_px: width of the input.
        mean_rgb: subtracted after scaling to 0..1, per channel.
        std_rgb: divided by, per channel.
        fill_rgb: colour put around the person and into the letterbox's borders.
        margin_rel: surroundings kept around the person, fraction of the longer side.
        is_background_kept: the photo's own background stays (no mask is applied).
        version: of the rules, 1 or 2.
    """

    height_px: int = 256
    width_px: int = 192
    mean_rgb: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std_rgb: tuple[float, float, float] = (0.229, 0.224, 0.225)
    fill_rgb: tuple[int, int, int] = (124, 116, 104)
    margin_rel: float = 0.05
    is_background_kept: bool = False
    version: int = PREPROCESSING_VERSION

    def cut(self, image_rgb: NDArray[np.uint8], person: Person) -> NDArray[np.uint8]:
        """Photo and person -> uint8 (height_px, width_px, 3): cut out, background replaced, letterboxed."""
        return self.fit(cut_out(image_rgb, person, margin_rel=self.margin_rel, version=self.version))

    def fit(self, cutout: Cutout) -> NDArray[np.uint8]:
        """Cut-out -> uint8 (height_px, width_px, 3): letterboxed, background replaced.

        Resized first, picture and mask alike, and blended after: the cost is that of the output's pixels.
        """
        height_px, width_px = cutout.mask.shape
        inner = inner_size(height_px, width_px, self.height_px, self.width_px, version=self.version)
        resized = resize_cutout(cutout, *inner, version=self.version)
        person_rgb = resized.image_rgb if self.is_background_kept else on_flat_background(resized, self.fill_rgb)
        return in_frame(person_rgb, self.height_px, self.width_px, self.fill_rgb)

    def normalise(self, images_rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (batch, height, width, 3) RGB -> float32 (batch, 3, height, width), normalised."""
        batch, height_px, width_px, channels = images_rgb.shape
        normal = np.empty((batch, channels, height_px, width_px), np.float32)
        tables = _normalised_values(self.mean_rgb, self.std_rgb)
        # Looked up plane by plane: the same bits as the arithmetic on every pixel, in a tenth of its time.
        for image_rgb, planes in zip(images_rgb, normal, strict=True):
            for channel, table in enumerate(tables):
                cv2.LUT(cv2.extractChannel(image_rgb, channel), table, planes[channel])
        return normal

    def to_dict(self) -> dict[str, JsonValue]:
        """Plain values for args.yaml and meta.json; `from_dict` reads them back."""
        return {
            "resize": _RESIZE[self.version],
            "interpolation": _INTERPOLATION[self.version],
            "colour_order": "RGB",
            "layout": "NCHW",
            "scale": "1/255",
            "background": "kept" if self.is_background_kept else "fill_rgb, blended by the mask after resizing",
            **{key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()},
        }

    @classmethod
    def from_dict(cls, values: object) -> Preprocessing:
        """Reads what `to_dict` wrote.

        Raises:
            PackageError: a value is missing or describes a preprocessing this version does not know.
        """
        try:
            rules = _Rules.model_validate(values)
            version = rules.version
            if type(version) is not int or version not in _RESIZE:
                raise PackageError(
                    f"preprocessing version {version!r} is not known (known: 1, 2)",
                    code="unknown_preprocessing_version",
                    hint="update CLS",
                )
            known = _Rules(resize=_RESIZE[version], version=version)
            for (key, value), (_, expected) in zip(rules, known, strict=True):
                if value != expected and not (key == "resize" and value is None):
                    raise PackageError(
                        f"preprocessing {key} '{value}' is not known (known: {expected})", code="unknown_preprocessing"
                    )
            numbers = _Numbers.model_validate(values)
        except ValidationError as error:
            fault = error.errors()[0]
            raise PackageError(
                f"preprocessing cannot be read: {'.'.join(map(str, fault['loc']))!r}: {fault['msg']}",
                code="invalid_preprocessing",
            ) from error
        return cls(**dict(numbers), version=version)


@lru_cache(maxsize=16)
def _normalised_values(mean_rgb: tuple[float, ...], std_rgb: tuple[float, ...]) -> NDArray[np.float32]:
    """What every value of a pixel becomes: float32 (3, 256)."""
    scaled = np.arange(256, dtype=np.float32)[:, None] / 255
    normal = (scaled - np.array(mean_rgb, np.float32)) / np.array(std_rgb, np.float32)
    return np.ascontiguousarray(normal.T)


def inner_size(
    source_height_px: int, source_width_px: int, height_px: int, width_px: int, *, version: int = PREPROCESSING_VERSION
) -> tuple[int, int]:
    """(height, width) of a picture resized to fit a frame, its proportions kept; at least 1x1.

    The side that fills the frame is the frame's, the other is rounded, halves upwards. Version 1 calculates in floating
    point and rounds halves to even numbers.
    """
    if version == 1:
        scale = min(height_px / source_height_px, width_px / source_width_px)
        inner_height_px = min(max(round(source_height_px * scale), 1), height_px)
        inner_width_px = min(max(round(source_width_px * scale), 1), width_px)
        return inner_height_px, inner_width_px
    if height_px * source_width_px <= width_px * source_height_px:
        return height_px, max(_rounded_ratio(source_width_px * height_px, source_height_px), 1)
    return max(_rounded_ratio(source_height_px * width_px, source_width_px), 1), width_px


def _rounded_ratio(dividend: int, divisor: int) -> int:
    """The whole number nearest to a ratio of positive ones, halves upwards."""
    return (2 * dividend + divisor) // (2 * divisor)


def in_frame(
    inner_rgb: NDArray[np.uint8], height_px: int, width_px: int, fill_rgb: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """A picture in the middle of a frame of a flat colour that is at least as large; uint8 (height_px, width_px, 3)."""
    inner_height_px, inner_width_px = inner_rgb.shape[:2]
    top_px = (height_px - inner_height_px) // 2
    left_px = (width_px - inner_width_px) // 2
    bottom_px = height_px - inner_height_px - top_px
    right_px = width_px - inner_width_px - left_px
    frame = cv2.copyMakeBorder(
        inner_rgb, top_px, bottom_px, left_px, right_px, cv2.BORDER_CONSTANT, value=tuple(map(float, fill_rgb))
    )
    return np.asarray(frame, np.uint8)
