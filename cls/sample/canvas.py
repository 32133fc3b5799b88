"""A layer one figure is painted on: reflectance, shading and coverage, with soft volume from each part's own outline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from cls.sample import textures

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cls.sample.curves import Points
    from cls.sample.textures import Plane

    Colour: TypeAlias = "tuple[float, float, float]"

_SHIFT = 4


@dataclass(frozen=True)
class Cloth:
    """What a part is made of: a colour (RGB, 0..255), perhaps a pattern of a second one, folds and grain."""

    colour: Colour
    second: Colour = (255.0, 255.0, 255.0)
    pattern: str = ""
    tile_px: float = 100.0
    angle_rad: float = 0.0
    folds: float = 0.0
    grain: float = 0.0
    origin_px: tuple[float, float] = (0.0, 0.0)


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
        self.albedo_rgb = np.zeros((height_px, width_px, 3), np.float32)
        self.shade = np.ones((height_px, width_px), np.float32)
        self.alpha = np.zeros((height_px, width_px), np.float32)

    def _window(self, outline: Points, pad: int) -> tuple[int, int, int, int] | None:
        low, high = outline.min(axis=0), outline.max(axis=0)
        x0, y0 = max(int(low[0]) - pad, 0), max(int(low[1]) - pad, 0)
        x1, y1 = min(int(high[0]) + pad + 2, self.width_px), min(int(high[1]) + pad + 2, self.height_px)
        return (x0, y0, x1, y1) if x1 - x0 > 1 and y1 - y0 > 1 else None

    def _raster(self, outline: Points, window: tuple[int, int, int, int]) -> NDArray[np.uint8]:
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
        detail: Plane | None = None,
        clip: Plane | None = None,
    ) -> Plane | None:
        """Paint one part over what is there.

        Args:
            outline: The part's outline, pixels of the layer.
            cloth: What it is made of.
            round_px: How far in from its edge the part curves away: half its thickness for a limb.
            relief: Strength of the volume; 0 is flat.
            drop: Darkness of the soft shadow it leaves on the parts beneath.
            detail: Extra shading over the whole layer (h, w), added to the shade (hair strands).
            clip: A mask over the whole layer (h, w) 0..1 that limits where the part is painted.

        Returns:
            The part's coverage over the whole layer when it had to be kept apart, otherwise None.
        """
        radius = max(int(round_px), 1)
        window = self._window(outline, 2 * radius + 2)
        if window is None:
            return None
        x0, y0, x1, y1 = window
        mask = self._raster(outline, window)
        if clip is not None:
            mask = (mask * clip[y0:y1, x0:x1]).astype(np.uint8)
        box = (2 * radius + 1, 2 * radius + 1)
        soft = cv2.blur(
            cv2.blur(mask, box, borderType=cv2.BORDER_REPLICATE), box, borderType=cv2.BORDER_REPLICATE
        ).astype(np.float32)
        soft *= 1 / 255
        alpha = mask.astype(np.float32)
        alpha *= 1 / 255
        lamp = self.lamp
        shade_roi = self.shade[y0:y1, x0:x1]
        if drop > 0:
            step_x, step_y = -lamp.toward_x * radius * 0.5, max(-lamp.toward_y, 0.3) * radius * 0.5
            moved = cv2.warpAffine(
                soft, np.array([[1, 0, step_x], [0, 1, step_y]]), (x1 - x0, y1 - y0), borderMode=cv2.BORDER_REPLICATE
            )
            shade_roi *= 1 - drop * moved
        slope = cv2.filter2D(soft, -1, self._kernel())
        slope *= -relief * radius * (0.55 + 0.6 * lamp.hardness)
        slope += soft * (0.2 * relief) + (1 - 0.17 * relief)
        albedo: NDArray[np.float32] | None = None
        ox, oy = cloth.origin_px
        if cloth.folds:
            slope += cloth.folds * textures.sample(
                textures.folds(), x0 - ox, y0 - oy, x1 - x0, y1 - y0, cloth.tile_px * 1.6, cloth.angle_rad
            )
        if cloth.grain:
            slope += cloth.grain * textures.sample(
                textures.weave(), x0 - ox, y0 - oy, x1 - x0, y1 - y0, 256, cloth.angle_rad
            )
        if detail is not None:
            slope += detail[y0:y1, x0:x1]
        shade_roi += (slope - shade_roi) * alpha
        albedo_roi = self.albedo_rgb[y0:y1, x0:x1]
        alpha3 = cv2.merge([alpha, alpha, alpha])
        if cloth.pattern:
            weight = textures.sample(
                textures.pattern(cloth.pattern), x0 - ox, y0 - oy, x1 - x0, y1 - y0, cloth.tile_px, cloth.angle_rad
            )
            albedo = cv2.merge([weight * (b - a) + a for a, b in zip(cloth.colour, cloth.second, strict=True)])
            albedo_roi += (albedo - albedo_roi) * alpha3
        else:
            albedo_roi += (np.array(cloth.colour, np.float32) - albedo_roi) * alpha3
        alpha_roi = self.alpha[y0:y1, x0:x1]
        np.maximum(alpha_roi, alpha, out=alpha_roi)
        return None

    def stain(self, outline: Points, colour: Colour, opacity: float = 1.0, soften_px: float = 0.0) -> None:
        """Colour what is already painted inside an outline (lips, brows, prints); coverage does not change."""
        pad = int(2 * soften_px) + 1
        window = self._window(outline, pad)
        if window is None:
            return
        x0, y0, x1, y1 = window
        mask = self._raster(outline, window)
        if soften_px >= 0.7:
            mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), soften_px), np.uint8)
        weight = mask.astype(np.float32) * np.float32(opacity / 255)
        roi = self.albedo_rgb[y0:y1, x0:x1]
        roi += (np.array(colour, np.float32) - roi) * weight[:, :, None]

    def darken(self, outline: Points, amount: float, soften_px: float = 0.0) -> None:
        """Take light away (or give it, for a negative amount) inside an outline; a crease, a socket, a highlight."""
        pad = int(2 * soften_px) + 1
        window = self._window(outline, pad)
        if window is None:
            return
        x0, y0, x1, y1 = window
        mask = self._raster(outline, window)
        if soften_px >= 0.7:
            mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), soften_px), np.uint8)
        roi = self.shade[y0:y1, x0:x1]
        roi *= 1 - mask.astype(np.float32) * np.float32(amount / 255)

    def coverage(self, outline: Points) -> Plane:
        """The coverage of an outline over the whole layer, 0..1."""
        mask = self._raster(outline, (0, 0, self.width_px, self.height_px))
        return mask.astype(np.float32) / np.float32(255)

    def _kernel(self) -> NDArray[np.float32]:
        x, y = self.lamp.toward_x / 2, self.lamp.toward_y / 2
        return np.array([[0, -y, 0], [-x, 0, x], [0, y, 0]], np.float32)
