"""One photo of a set, drawn: pixels and the masks of the people in it, from the parameters and an index alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cls.sample.canvas import Canvas
from cls.sample.figure import palette
from cls.sample.figure.figure import frame_of, paint_figure
from cls.sample.masks import annotation
from cls.sample.plan import PHOTO, PLACE, Plan, SampleConfig
from cls.sample.scene import shadows
from cls.sample.scene.background import Place, draw_place, view
from cls.sample.scene.light import Light, draw_light, finish, lit_rgb
from cls.sample.staging import Actor, stage
from cls.sample.tags import main_person

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cls.sample.figure.body import Frame

CATEGORIES = {"girl": 1, "man": 2}
_MARGIN_HEADS = 1.5
_LARGEST_BYSTANDER = 0.8
_LEAST_SHOWN = 0.3


@dataclass(frozen=True)
class Photo:
    """A drawn photo.

    Attributes:
        image_rgb: (h, w, 3) uint8.
        masks: The visible part of each person, (h, w) uint8 of 0 and 255, no two overlapping; the main person first.
        genders: Category name of each mask's person.
    """

    image_rgb: NDArray[np.uint8]
    masks: list[NDArray[np.uint8]]
    genders: list[str]

    def annotations(self) -> list[dict[str, Any]]:
        """COCO annotations without ids; people too small or hidden to count are left out."""
        found = (annotation(mask, CATEGORIES[gender]) for mask, gender in zip(self.masks, self.genders, strict=True))
        return [entry for entry in found if entry is not None]


@dataclass
class _Layer:
    """One painted actor and the corner of its layer on the photo."""

    actor: Actor
    frame: Frame
    corner_px: tuple[int, int]

    @property
    def canvas(self) -> Canvas:
        return self.frame.canvas


@lru_cache(maxsize=3)
def _setting(config: SampleConfig, picset: int) -> tuple[Place, Light]:
    """The place and light all photos of a picset share."""
    rng = config.stream(PLACE, picset)
    place = draw_place(rng, config.width_px, config.height_px)
    return place, draw_light(rng, place.mood)


def _painted(actor: Actor, light: Light, width_px: int, height_px: int) -> _Layer | None:
    """The actor on a layer no larger than the part of the photo they can touch; None when out of sight."""
    probe = frame_of(
        Canvas(1, 1, light.lamp), actor.person, actor.pose, actor.foot_x_px, actor.foot_y_px, actor.unit_px
    )
    bones = probe.skeleton
    joints = [bones.head, *bones.hands, *bones.elbows, *bones.knees, *bones.toes, *bones.hips, *bones.ankles]
    points = np.array([probe.at(joint) for joint in joints])
    margin = _MARGIN_HEADS * actor.unit_px
    low, high = points.min(axis=0) - margin, points.max(axis=0) + margin * 0.7
    x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
    x1, y1 = min(int(high[0]) + 1, width_px), min(int(high[1]) + 1, height_px)
    if x1 - x0 < 8 or y1 - y0 < 8:
        return None
    canvas = Canvas(x1 - x0, y1 - y0, light.lamp)
    frame = frame_of(canvas, actor.person, actor.pose, actor.foot_x_px - x0, actor.foot_y_px - y0, actor.unit_px)
    paint_figure(frame)
    return _Layer(actor, frame, (x0, y0))


def _visible_masks(layers: list[_Layer], width_px: int, height_px: int) -> list[NDArray[np.uint8]]:
    """Masks of what shows of each layer, nearest first in, nearest first out."""
    taken = np.zeros((height_px, width_px), np.uint8)
    masks = []
    for layer in layers:
        (x0, y0), canvas = layer.corner_px, layer.canvas
        window = (slice(y0, y0 + canvas.height_px), slice(x0, x0 + canvas.width_px))
        mask = np.zeros((height_px, width_px), np.uint8)
        mask[window] = np.where((canvas.alpha >= 0.5) & (taken[window] == 0), np.uint8(255), np.uint8(0))
        taken[window] |= mask[window]
        masks.append(mask)
    return masks


def _kept(layers: list[_Layer], masks: list[NDArray[np.uint8]]) -> list[int]:
    """Which layers stay in the photo, by place in the list; the first is the main person's.

    The labels are those of the largest person, so a bystander who would come close to that stays away. So does one of
    whom only scraps would show: nobody would outline those.
    """
    areas = [cv2.countNonZero(mask) for mask in masks]
    kept = [0]
    for place, (layer, area) in enumerate(zip(layers, areas, strict=True)):
        whole = np.count_nonzero(layer.canvas.alpha >= 0.5)
        if place and area < _LARGEST_BYSTANDER * areas[0] and area > _LEAST_SHOWN * whole:
            kept.append(place)
    return kept


def _compose(image_rgb: NDArray[np.uint8], layer: _Layer, light: Light) -> None:
    """Lay a figure over the photo, in place, where it covers anything."""
    canvas = layer.canvas
    rows, columns = np.flatnonzero(canvas.alpha.max(axis=1)), np.flatnonzero(canvas.alpha.max(axis=0))
    if len(rows) == 0:
        return
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    left, top = layer.corner_px
    roi = image_rgb[top + y0 : top + y1, left + x0 : left + x1]
    alpha = canvas.alpha[y0:y1, x0:x1]
    lit = lit_rgb(canvas, light, (x0, y0, x1, y1))
    blended = cv2.blendLinear(lit, roi.astype(np.float32), alpha, 1 - alpha)
    roi[:] = cv2.convertScaleAbs(np.maximum(blended, 0))


def render_photo(config: SampleConfig, plan: Plan, index: int) -> Photo:
    """Draw photo `index` of a set."""
    width_px, height_px = config.width_px, config.height_px
    picset = plan.picset_of(index)
    place, shared_light = _setting(config, picset)
    rng = config.stream(PHOTO, index)
    scene = stage(rng, main_person(config, picset), place, width_px, height_px)
    exposure = float(rng.uniform(0.95, 1.05))
    light = replace(
        shared_light,
        gain=(shared_light.gain[0] * exposure, shared_light.gain[1] * exposure, shared_light.gain[2] * exposure),
        noise=shared_light.noise * float(rng.uniform(0.8, 1.3)),
    )
    image_rgb = view(place, width_px, height_px, scene.zoom, scene.centre_x, scene.horizon_y_px)
    nearest_first = [
        layer for actor in reversed(scene.actors) if (layer := _painted(actor, light, width_px, height_px))
    ]
    masks = _visible_masks(nearest_first, width_px, height_px)
    kept = _kept(nearest_first, masks)
    if len(kept) < len(masks):
        nearest_first = [nearest_first[i] for i in kept]
        masks = _visible_masks(nearest_first, width_px, height_px)
    seat_colour = palette.pick(rng, palette.LEATHER)
    for layer in reversed(nearest_first):
        shadows.cast_shadow(image_rgb, layer.canvas.alpha, layer.corner_px, layer.actor.foot_y_px, light)
        shadows.contact_shadow(image_rgb, layer.frame, layer.corner_px)
        if layer.actor.pose.is_sitting:
            shadows.paint_seat(image_rgb, layer.frame, layer.corner_px, seat_colour)
        _compose(image_rgb, layer, light)
    return Photo(
        image_rgb=finish(image_rgb, light, rng),
        masks=masks,
        genders=[layer.actor.person.gender for layer in nearest_first],
    )
