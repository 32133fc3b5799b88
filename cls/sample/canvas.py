"""Outlines (smooth curves, tapered limbs, ellipses; float arrays (n, 2)) and the layer a figure is painted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.sample.scene import textures
from cls.sample.scene.textures import Plane

Points: TypeAlias = NDArray[np.float64]
PointsLike: TypeAlias = Points | Sequence[Sequence[float]] | Sequence[Points]

_SHIFT = 4

_DETAIL_MIN_PX = 1.2
"""Stains and creases smaller than this both ways would not show."""

_KEEP = [np.linspace(1, 1 - percent / 100, 256, dtype=np.float32) for percent in range(101)]
"""For each darkness in percent: what a soft outline (0..255) leaves of the light."""


def _span_weights(steps: int) -> NDArray[np.float64]:
    """Catmull-Rom weights (steps, 4) of the four control points around a span, at parameters 0, 1/steps, …."""
    t = np.arange(steps) / steps
    t2, t3 = t * t, t * t * t
    return np.asarray(np.stack([-t3 + 2 * t2 - t, 3 * t3 - 5 * t2 + 2, -3 * t3 + 4 * t2 + t, t3 - t2], axis=1) / 2)


@cache
def _closed_matrix(count: int, steps: int) -> NDArray[np.float64]:
    """The matrix (count * steps, count) that turns control points into a smooth closed outline."""
    weights = _span_weights(steps)
    matrix = np.zeros((count * steps, count))
    for span in range(count):
        for offset in range(4):
            matrix[span * steps : (span + 1) * steps, (span + offset - 1) % count] += weights[:, offset]
    return matrix


@cache
def _open_matrix(count: int, steps: int) -> NDArray[np.float64]:
    """The matrix ((count - 1) * steps + 1, count) that turns control points into a smooth line through them."""
    weights = _span_weights(steps)
    matrix = np.zeros(((count - 1) * steps + 1, count))
    for span in range(count - 1):
        for offset in range(4):
            point = min(max(span + offset - 1, 0), count - 1)
            matrix[span * steps : (span + 1) * steps, point] += weights[:, offset]
    matrix[-1, -1] = 1
    return matrix


@cache
def _tangent_matrix(count: int, steps: int) -> NDArray[np.float64]:
    """The matrix that turns control points into the direction of the smooth line at each of its points."""
    return np.asarray(np.gradient(_open_matrix(count, steps), axis=0))


@cache
def _cap(is_end: bool) -> NDArray[np.float64]:
    """Weights (5, 2) of normal and tangent around a limb's rounded end (or start)."""
    angle = np.linspace(0, np.pi, 7)[1:-1]
    sign = 1 if is_end else -1
    return np.asarray(np.stack([np.cos(angle), np.sin(angle)], axis=1) * sign)


@cache
def _unit_circle(count: int) -> NDArray[np.float64]:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def smooth_closed(points: PointsLike, steps: int = 4) -> Points:
    """A smooth closed outline through `points`, (n * steps, 2), without repeating the first point."""
    control = np.asarray(points, dtype=np.float64)
    return np.asarray(_closed_matrix(len(control), steps) @ control)


def smooth_open(points: PointsLike, steps: int = 4) -> Points:
    """A smooth line through `points` from the first to the last, ((n - 1) * steps + 1, 2)."""
    control = np.asarray(points, dtype=np.float64)
    return np.asarray(_open_matrix(len(control), steps) @ control)


def tapered(path: PointsLike, half_widths: float | Sequence[float], steps: int = 4, *, is_round: bool = True) -> Points:
    """The outline of a limb along `path`, of one half-width or one at each path point; ends rounded by default."""
    control = np.asarray(path, dtype=np.float64)
    smooth = _open_matrix(len(control), steps)
    centre = smooth @ control
    half = smooth @ np.broadcast_to(np.asarray(half_widths, dtype=np.float64), len(control))
    tangent = _tangent_matrix(len(control), steps) @ control
    length = np.sqrt(tangent[:, 0] ** 2 + tangent[:, 1] ** 2)
    tangent /= np.maximum(length, 1e-9)[:, None]
    aside = np.empty_like(tangent)
    aside[:, 0] = -tangent[:, 1] * half
    aside[:, 1] = tangent[:, 0] * half
    left, right = centre + aside, (centre - aside)[::-1]
    if not is_round:
        return np.concatenate([left, right])
    end = centre[-1] + _cap(True) @ np.stack([aside[-1], tangent[-1] * half[-1]])
    start = centre[0] + _cap(False) @ np.stack([aside[0], tangent[0] * half[0]])
    return np.concatenate([left, end, right, start])


def ellipse(
    centre: Points | Sequence[float], half_x: float, half_y: float, angle_rad: float = 0.0, count: int = 20
) -> Points:
    """An ellipse's outline (count, 2); `angle_rad` turns it clockwise on screen."""
    outline = _unit_circle(count) * (half_x, half_y)
    if angle_rad:
        c, s = np.cos(angle_rad), np.sin(angle_rad)
        outline = outline @ np.array([[c, s], [-s, c]])
    return np.asarray(outline + np.asarray(centre, dtype=np.float64))


def convex_hull(points: PointsLike) -> Points:
    """The convex outline around `points`, without repeated points (monotone chain)."""
    ordered = sorted({(float(x), float(y)) for x, y in np.asarray(points, dtype=np.float64)})
    if len(ordered) < 3:
        return np.array(ordered)

    def half(sequence: list[tuple[float, float]]) -> list[tuple[float, float]]:
        chain: list[tuple[float, float]] = []
        for x, y in sequence:
            while len(chain) >= 2:
                (ax, ay), (bx, by) = chain[-2], chain[-1]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                chain.pop()
            chain.append((x, y))
        return chain[:-1]

    return np.array(half(ordered) + half(ordered[::-1]))


def area(outline: PointsLike) -> float:
    """The area an outline encloses (shoelace), never negative."""
    x, y = np.asarray(outline, dtype=np.float64).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


Colour: TypeAlias = tuple[float, float, float]
Box: TypeAlias = tuple[float, float, float, float]
Window: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True)
class Cloth:
    """What a part is made of: a colour (RGB, 0..255), perhaps a pattern of a second one, folds and grain.

    `strands` is shading over the whole layer (h, w), added to the part's: that of hair.
    """

    colour: Colour
    second: Colour = (255.0, 255.0, 255.0)
    pattern: str = ""
    tile_px: float = 100.0
    angle_rad: float = 0.0
    folds: float = 0.0
    grain: float = 0.0
    origin_px: tuple[float, float] = (0.0, 0.0)
    strands: Plane | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Lamp:
    """The main light as the figure sees it: where it comes from on screen (unit vector) and how hard it is (0..1)."""

    toward_x: float
    toward_y: float
    hardness: float


class Canvas:
    """The layer: `albedo_rgb` (h, w, 3) 0..255, `shade` (h, w) around 1, `alpha` (h, w) 0..1, all float32."""

    def __init__(self, width_px: int, height_px: int, lamp: Lamp) -> None:
        self.width_px = width_px
        self.height_px = height_px
        self.lamp = lamp
        self.albedo_rgb: NDArray[np.float32] = np.zeros((height_px, width_px, 3), np.float32)
        self.shade: Plane = np.ones((height_px, width_px), np.float32)
        self.alpha: Plane = np.zeros((height_px, width_px), np.float32)
        x, y = lamp.toward_x / 2, lamp.toward_y / 2
        self._slope_kernel = np.array([[0, -y, 0], [-x, 0, x], [0, y, 0]], np.float32)

    def _clipped(self, bounds: Window, pad: int) -> Window | None:
        """The part of the layer within bounds (and `pad` pixels around them); None when there is none."""
        x0, y0 = max(bounds[0] - pad, 0), max(bounds[1] - pad, 0)
        x1, y1 = min(bounds[2] + pad + 2, self.width_px), min(bounds[3] + pad + 2, self.height_px)
        return (x0, y0, x1, y1) if x1 - x0 > 1 and y1 - y0 > 1 else None

    def _raster(self, outline: Points, window: Window) -> NDArray[np.uint8]:
        x0, y0, x1, y1 = window
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        fixed = np.rint((outline - (x0, y0)) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, _SHIFT)
        return mask

    def paint(
        self,
        outline: Points,
        cloth: Cloth,
        round_px: float,
        *,
        relief: float = 1.0,
        drop: float = 0.0,
    ) -> None:
        """Paint one part over what is there.

        Args:
            outline: The part's outline, pixels of the layer.
            cloth: What it is made of.
            round_px: How far in from its edge the part curves away: half its thickness for a limb.
            relief: Strength of the volume; 0 is flat.
            drop: Darkness of the soft shadow it leaves on the parts beneath.
        """
        radius = max(int(round_px), 1)
        bounds = _bounds(outline)
        wide, tight = self._clipped(bounds, 2 * radius + 2), self._clipped(bounds, 1)
        if wide is None or tight is None:
            return
        mask = self._raster(outline, wide)
        softened = _softened(mask, radius)
        if drop > 0:
            self._drop_shadow(wide, softened, drop, radius)
        # Outside the outline only its shadow falls: everything else is worked out in the tight window.
        x0, y0, x1, y1 = tight
        inner = (slice(y0 - wide[1], y1 - wide[1]), slice(x0 - wide[0], x1 - wide[0]))
        soft = softened[inner].astype(np.float32)
        soft *= np.float32(1 / 255)
        alpha = mask[inner].astype(np.float32)
        alpha *= np.float32(1 / 255)
        lit: Plane = np.asarray(cv2.filter2D(soft, -1, self._slope_kernel, borderType=cv2.BORDER_REPLICATE), np.float32)
        lit *= np.float32(-relief * radius * (0.55 + 0.6 * self.lamp.hardness))
        soft *= np.float32(0.2 * relief)
        lit += soft
        lit += np.float32(1 - 0.17 * relief)
        self._add_texture(lit, cloth, tight)
        if cloth.strands is not None:
            lit += cloth.strands[y0:y1, x0:x1]
        shade = self.shade[y0:y1, x0:x1]
        lit -= shade
        lit *= alpha
        shade += lit
        albedo = self.albedo_rgb[y0:y1, x0:x1]
        if cloth.pattern:
            weight = _laid_over(textures.pattern(cloth.pattern), cloth, tight)
            change = np.asarray(cv2.transform(weight, _between(cloth)), np.float32)
            change -= albedo
        else:
            change = np.asarray(cloth.colour, np.float32) - albedo
        change *= cv2.merge([alpha, alpha, alpha])
        albedo += change
        total = self.alpha[y0:y1, x0:x1]
        np.maximum(total, alpha, out=total)

    def _drop_shadow(self, window: Window, soft: NDArray[np.uint8], drop: float, radius: int) -> None:
        """Darken what is there by the part's soft outline, moved away from the light by whole pixels."""
        x0, y0, x1, y1 = window
        height, width = soft.shape
        dx = int(-self.lamp.toward_x * min(radius, width) * 0.5)
        dy = int(max(-self.lamp.toward_y, 0.3) * min(radius, height) * 0.5)
        to_x, from_x = slice(max(dx, 0), width + min(dx, 0)), slice(max(-dx, 0), width - max(dx, 0))
        self.shade[y0:y1, x0:x1][dy:, to_x] *= cv2.LUT(soft[: height - dy, from_x], _KEEP[int(drop * 100)])

    def _add_texture(self, lit: Plane, cloth: Cloth, window: Window) -> None:
        x0, y0, x1, y1 = window
        if cloth.folds:
            folds = _laid_over(textures.folds(), cloth, window, zoom=1.6, is_smooth=True)
            folds *= np.float32(cloth.folds)
            lit += folds
        if cloth.grain:
            x, y = x0 - cloth.origin_px[0], y0 - cloth.origin_px[1]
            lit += np.float32(cloth.grain) * textures.cut(textures.weave(), int(x), int(y), x1 - x0, y1 - y0)

    def stain(self, outline: Points, colour: Colour, opacity: float = 1.0, soften_px: float = 0.0) -> None:
        """Colour what is already painted inside an outline (lips, brows, prints); coverage does not change."""
        found = self._soft_mask(outline, opacity, soften_px)
        if found is None:
            return
        weight, (x0, y0, x1, y1) = found
        roi = self.albedo_rgb[y0:y1, x0:x1]
        roi += (np.asarray(colour, np.float32) - roi) * weight[:, :, None]

    def darken(self, outline: Points, amount: float, soften_px: float = 0.0) -> None:
        """Take light away (or give it, for a negative amount) inside an outline; a crease, a socket, a highlight."""
        found = self._soft_mask(outline, amount, soften_px)
        if found is None:
            return
        weight, (x0, y0, x1, y1) = found
        self.shade[y0:y1, x0:x1] *= 1 - weight

    def _soft_mask(self, outline: Points, amount: float, soften_px: float) -> tuple[Plane, Window] | None:
        """An outline's coverage times `amount`, edges softened, and its window; None when it would not show."""
        radius = int(soften_px + 0.5)
        window = self._clipped(_bounds(outline), 2 * radius + 1)
        if window is None:
            return None
        x0, y0, x1, y1 = window
        extent = _DETAIL_MIN_PX + 4 + 4 * radius
        if x1 - x0 < extent and y1 - y0 < extent:
            return None
        mask = self._raster(outline, window)
        if radius:
            mask = _softened(mask, radius)
        weight = mask.astype(np.float32)
        weight *= np.float32(amount / 255)
        return weight, window


def _bounds(outline: Points) -> Window:
    """The whole pixels (x0, y0, x1, y1) an outline lies in."""
    xs, ys = outline.T.tolist()
    return int(min(xs)), int(min(ys)), int(max(xs)), int(max(ys))


def _laid_over(tile: Plane, cloth: Cloth, window: Window, *, zoom: float = 1.0, is_smooth: bool = False) -> Plane:
    """A tile in a window of the layer, from the cloth's origin, in its scale and direction.

    A smooth tile has no edges that need interpolation, which makes it cheaper.
    """
    left, top, right, bottom = window
    x, y = left - cloth.origin_px[0], top - cloth.origin_px[1]
    method = cv2.INTER_NEAREST if is_smooth else cv2.INTER_LINEAR
    scale = textures.TILE_PX / (cloth.tile_px * zoom)
    c, s = np.cos(cloth.angle_rad) * scale, np.sin(cloth.angle_rad) * scale
    matrix = np.array([[c, s, c * x + s * y], [-s, c, -s * x + c * y]])
    # warpAffine counts in 16-bit steps from the source's corner: keep the offset inside one period.
    matrix[:, 2] %= textures.TILE_PX
    sampled = cv2.warpAffine(
        tile, matrix, (right - left, bottom - top), flags=method | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_WRAP
    )
    return np.asarray(sampled, dtype=np.float32)


def _between(cloth: Cloth) -> NDArray[np.float32]:
    """The matrix that turns a pattern's weight into its colour: first + weight * (second - first)."""
    first, second = np.asarray(cloth.colour, np.float32), np.asarray(cloth.second, np.float32)
    return np.stack([second - first, first], axis=1)


def _softened(mask: NDArray[np.uint8], radius: int) -> NDArray[np.uint8]:
    """The mask blurred twice by a box: near a Gaussian, and its cost does not grow with the radius."""
    box = (2 * radius + 1, 2 * radius + 1)
    once = cv2.blur(mask, box, borderType=cv2.BORDER_REPLICATE)
    if radius == 1:
        return np.asarray(once, np.uint8)
    return np.asarray(cv2.blur(once, box, borderType=cv2.BORDER_REPLICATE), np.uint8)
