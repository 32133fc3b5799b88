"""Copies of photos as people make them, and different people before one backdrop: pictures in, pictures out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.people.photos import Person, decode_photo
from cls.people.polygons import mask_of_polygons

Image = NDArray[np.uint8]
Change = Callable[[Image, np.random.Generator], Image]
_BACKDROP_PX = (600, 800)
# The largest height and width of a person before it.
_HEIGHT_PX, _WIDTH_PX = 680, 560


def saved(image_rgb: Image, quality: int = 85) -> bytes:
    """The picture as a JPEG."""
    bgr = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def unchanged(image: Image, _: np.random.Generator) -> Image:
    return image


def mirrored(image: Image, _: np.random.Generator) -> Image:
    return np.ascontiguousarray(image[:, ::-1])


def resized(factor: float) -> Change:
    def change(image: Image, _: np.random.Generator) -> Image:
        return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)

    return change


def padded(image: Image, rng: np.random.Generator) -> Image:
    """A square, filled up with white, black, a grey, or the photo itself, blurred."""
    height_px, width_px = image.shape[:2]
    side = max(height_px, width_px)
    top, left = (side - height_px) // 2, (side - width_px) // 2
    kind = int(rng.integers(4))
    square = np.full((side, side, 3), (255, 0, int(rng.integers(30, 220)), 0)[kind], np.uint8)
    if kind == 3:
        square = np.asarray(cv2.GaussianBlur(cv2.resize(image, (side, side)), (0, 0), side / 25), np.uint8).copy()
    square[top : top + height_px, left : left + width_px] = image
    return square


def _write(bar: Image, rng: np.random.Generator) -> None:
    """White or black, with a line of text."""
    color = 255 * int(rng.integers(2))
    bar[:] = color
    text = "".join(chr(code) for code in rng.integers(97, 123, 20))
    scale = bar.shape[0] / 60
    place = (int(bar.shape[1] * 0.05), int(bar.shape[0] * 0.7))
    cv2.putText(bar, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255 - color,) * 3, max(1, round(2 * scale)))


def bar_below(image: Image, rng: np.random.Generator) -> Image:
    height_px = image.shape[0]
    longer = np.vstack([image, image[: round(height_px * 0.12)]])
    _write(longer[height_px:], rng)
    return longer


def bar_above(image: Image, rng: np.random.Generator) -> Image:
    bar_px = round(image.shape[0] * 0.12)
    longer = np.vstack([image[:bar_px], image])
    _write(longer[:bar_px], rng)
    return longer


def captioned_low(image: Image, rng: np.random.Generator) -> Image:
    image = image.copy()
    _write(image[-round(image.shape[0] * 0.08) :], rng)
    return image


def captioned_high(image: Image, rng: np.random.Generator) -> Image:
    image = image.copy()
    _write(image[: round(image.shape[0] * 0.08)], rng)
    return image


def cropped(left: float, top: float, right: float, bottom: float) -> Change:
    def change(image: Image, _: np.random.Generator) -> Image:
        height_px, width_px = image.shape[:2]
        rows = slice(round(height_px * top), height_px - round(height_px * bottom))
        return np.ascontiguousarray(image[rows, round(width_px * left) : width_px - round(width_px * right)])

    return change


def levels(contrast: float, brightness: float) -> Change:
    def change(image: Image, _: np.random.Generator) -> Image:
        return np.asarray(cv2.convertScaleAbs(image, alpha=contrast, beta=brightness), np.uint8)

    return change


def grey(image: Image, _: np.random.Generator) -> Image:
    return np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


def in_turn(*changes: Change) -> Change:
    def change(image: Image, rng: np.random.Generator) -> Image:
        for one in changes:
            image = one(image, rng)
        return image

    return change


# Kind of copy -> what is done to the photo, and the JPEG quality it is saved at.
COPIES: dict[str, tuple[Change, int]] = {
    "mirrored": (mirrored, 85),
    "mirrored, half the size": (in_turn(resized(0.5), mirrored), 60),
    "padded to a square (white, black, grey, blurred)": (padded, 85),
    "caption in a bar below, 12 percent": (bar_below, 85),
    "caption in a bar above, 12 percent": (bar_above, 85),
    "caption over the lowest 8 percent": (captioned_low, 85),
    "cropped by 5 percent on each side": (cropped(0.05, 0.05, 0.05, 0.05), 85),
    "saved at quality 30": (unchanged, 30),
    "half the size": (resized(0.5), 85),
}
# Kinds that the rule was not chosen on.
KEPT_ASIDE: dict[str, tuple[Change, int]] = {
    "padded to a square and mirrored": (in_turn(padded, mirrored), 85),
    "caption over the highest 8 percent": (captioned_high, 85),
    "cropped by 5 percent, left and top": (cropped(0.05, 0.05, 0, 0), 85),
    "cropped by 5 percent, right and bottom": (cropped(0, 0, 0.05, 0.05), 85),
    "bar below, mirrored, 70 percent of the size": (in_turn(bar_below, mirrored, resized(0.7)), 75),
    "saved at quality 40": (unchanged, 40),
    "60 percent of the size": (resized(0.6), 85),
    "brighter by 10 percent": (levels(1.1, 0), 85),
    "less contrast, by 15 percent": (levels(0.85, 19), 85),
    "grey": (grey, 85),
}


def before_backdrop(
    photos: Sequence[tuple[bytes, Person]], backdrop: Image, rng: np.random.Generator, *, is_moving: bool
) -> list[bytes]:
    """The people of photos, cut out, in the middle of one backdrop; of a scene that is seen a little differently."""
    made = []
    width_px, height_px = _BACKDROP_PX
    for content, person in photos:
        image = decode_photo(content)
        mask = mask_of_polygons(person.polygons_xy_rel, *image.shape[:2])
        left, top, across, down = cv2.boundingRect(mask)
        factor = min(_HEIGHT_PX / down, _WIDTH_PX / across)
        new_px = (max(round(across * factor), 4), max(round(down * factor), 4))
        inner = (slice(top, top + down), slice(left, left + across))
        pixels, alpha = (cv2.resize(one[inner], new_px, interpolation=cv2.INTER_AREA) for one in (image, mask))
        scene = backdrop.copy()
        if is_moving:
            edges = rng.integers(0, 20, 4)
            part = backdrop[edges[0] : height_px - edges[1], edges[2] : width_px - edges[3]]
            scene = levels(rng.uniform(0.9, 1.1), rng.uniform(0, 10))(np.asarray(cv2.resize(part, _BACKDROP_PX)), rng)
        x, y = (width_px - new_px[0]) // 2, height_px - new_px[1] - 30
        place = scene[y : y + new_px[1], x : x + new_px[0]]
        weight = alpha[..., None] / 255.0
        place[:] = (place * (1 - weight) + pixels * weight).astype(np.uint8)
        made.append(saved(scene))
    return made


def flat(level: int) -> Image:
    """A backdrop of one grey value."""
    return np.full((_BACKDROP_PX[1], _BACKDROP_PX[0], 3), level, np.uint8)


def empty_scene(content: bytes, person: Person) -> Image:
    """A photo without its person, whose place is filled from around it."""
    image = decode_photo(content)
    mask = cv2.dilate(mask_of_polygons(person.polygons_xy_rel, *image.shape[:2]), np.ones((25, 25), np.uint8))
    return np.asarray(cv2.resize(cv2.inpaint(image, mask, 5, cv2.INPAINT_TELEA), _BACKDROP_PX), np.uint8)
