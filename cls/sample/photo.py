"""One photo of a set, drawn: pixels and the masks of the people in it, from the parameters and an index alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.sample.canvas import Canvas
from cls.sample.config import SampleConfig
from cls.sample.figure import palette
from cls.sample.figure.body import BodyFrame
from cls.sample.figure.painting import TOTAL_HEADS, frame_of, paint_figure
from cls.sample.figure.pose import Pose, Skeleton, draw_pose, skeleton
from cls.sample.figure.wardrobe import Person, draw_person
from cls.sample.plan import CATEGORIES, PHOTO, PLACE, Annotation, Plan, main_person
from cls.sample.scene.background import Place, draw_place, view
from cls.sample.scene.light import Light, cast_shadow, contact_shadow, draw_light, finish, lit_rgb, paint_seat

MIN_AREA_PX = 120
_MIN_HOLE_PX = 40
_MIN_PIECE_PX = 20
_MARGIN_HEADS = 1.5
_LARGEST_BYSTANDER = 0.8
_LEAST_SHOWN = 0.3


@dataclass(frozen=True)
class PlacedPerson:
    """One person in a photo: pose, size and where the soles are, in pixels of the photo."""

    person: Person
    pose: Pose
    foot_x_px: float
    foot_y_px: float
    unit_px: float
    is_main: bool


@dataclass(frozen=True)
class Composition:
    """A photo before it is drawn: the camera's view of the place, and the actors from the farthest to the nearest."""

    actors: list[PlacedPerson]
    horizon_y_px: float
    zoom: float
    centre_x: float


def extent_heads(bones: Skeleton) -> float:
    """From the soles to the top of the head or the raised hands, head heights."""
    top = min(float(bones.head[1]) - 0.8, *(float(hand[1]) - 0.05 for hand in bones.hands))
    return bones.ground_y - top


def _full_figure_px(rng: np.random.Generator, height_px: int) -> tuple[float, str]:
    """How tall the main person would be standing, and the framing that gives."""
    framing = str(rng.choice(["full", "knee", "waist"], p=[0.56, 0.28, 0.16]))
    span = {"full": (0.72, 0.88), "knee": (1.02, 1.28), "waist": (1.42, 1.72)}[framing]
    return float(rng.uniform(*span)) * height_px, framing


def stage(rng: np.random.Generator, person: Person, place: Place, width_px: int, height_px: int) -> Composition:
    """Arrange one photo of `person` at `place`."""
    standing_px, framing = _full_figure_px(rng, height_px)
    # Seen from behind, glasses would be a label that nothing in the photo shows.
    pose = draw_pose(rng, can_sit=framing != "waist", can_turn_away=not person.glasses)
    bones = skeleton(pose, person.build)
    unit_px = standing_px / TOTAL_HEADS * person.height
    if framing == "full":
        unit_px = min(unit_px, 0.92 * height_px / extent_heads(bones))
        shown_px = extent_heads(bones) * unit_px
        foot_y_px = float(rng.uniform(shown_px + 0.03 * height_px, 0.975 * height_px))
    else:
        head_top = bones.ground_y - (float(bones.head[1]) - 0.85)
        foot_y_px = head_top * unit_px + float(rng.uniform(0.05, 0.13)) * height_px
    camera = float(rng.uniform(0.64, 0.84))
    horizon_y_px = foot_y_px - camera * standing_px
    zoom = float(np.clip(rng.uniform(0.9, 1.1) * (standing_px / (0.8 * height_px)) ** 0.5, 0.8, 1.6))
    # Nobody stands inside the wall behind: feet stay below the row where the ground begins.
    ground_px = (place.ground_y_px - place.horizon_y_px) * zoom
    zoom = min(zoom, zoom * 0.86 * camera * standing_px / max(ground_px, 1.0))
    zoom = max(zoom, 0.7)
    ground_px = (place.ground_y_px - place.horizon_y_px) * zoom
    main_x = float(rng.uniform(0.3, 0.7)) * width_px
    actors = [PlacedPerson(person, pose, main_x, foot_y_px, unit_px, True)]
    count = int(rng.choice([0, 1, 2, 3], p=[0.42, 0.3, 0.18, 0.1]))
    smallest = max(0.36 * standing_px, (ground_px + 2) / camera)
    largest = 0.86 * standing_px if framing == "full" else 0.72 * standing_px
    for _ in range(count):
        if smallest >= largest:
            break
        other = draw_person(rng)
        other_px = float(rng.uniform(smallest, largest))
        is_close = rng.random() < 0.4
        offset = float(rng.choice([-1, 1]) * rng.uniform(0.08, 0.2)) if is_close else float(rng.uniform(-0.5, 0.5))
        x = main_x + offset * width_px if is_close else width_px * (0.5 + offset)
        other_pose = draw_pose(rng, can_sit=False)
        actors.append(
            PlacedPerson(
                other, other_pose, x, horizon_y_px + camera * other_px, other_px / TOTAL_HEADS * other.height, False
            )
        )
    actors.sort(key=lambda actor: (actor.is_main, actor.foot_y_px))
    return Composition(
        actors=actors,
        horizon_y_px=horizon_y_px,
        zoom=zoom,
        centre_x=float(rng.uniform(0.42, 0.58)),
    )


def _open_holes(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mask with a cut one pixel high from each large hole to the outside, as COCO polygons cannot have holes."""
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return mask
    opened = mask
    for contour, (_, _, _, parent) in zip(contours, hierarchy[0], strict=True):
        if parent < 0 or cv2.contourArea(contour) < _MIN_HOLE_PX:
            continue
        if opened is mask:
            opened = mask.copy()
        x, y = (int(value) for value in contour[len(contour) // 2, 0])
        left, right = np.flatnonzero(mask[y, : x + 1] == 0), np.flatnonzero(mask[y, x:] == 0)
        outer = contours[parent][:, 0, :]
        row = outer[outer[:, 1] == y, 0]
        if len(row) == 0 or (len(left) == 0 and len(right) == 0):
            continue
        nearest = int(row[np.argmin(np.abs(row - x))])
        opened[y, min(nearest, x) : max(nearest, x) + 1] = 0
    return opened


def polygons(mask: NDArray[np.uint8]) -> list[list[float]]:
    """COCO polygons `[x, y, x, y, …]` (pixels) around a mask (h, w) of 0 and 255; small specks are left out."""
    contours, _ = cv2.findContours(_open_holes(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    result = []
    for contour in contours:
        if cv2.contourArea(contour) < _MIN_PIECE_PX:
            continue
        simple = cv2.approxPolyDP(contour, 0.7, True).reshape(-1, 2)
        if len(simple) >= 3:
            result.append([float(value) for value in simple.ravel()])
    return result


def annotation(mask: NDArray[np.uint8], category_id: int) -> Annotation | None:
    """A COCO annotation without ids for a visible mask; None for a person too small or hidden to count."""
    left, top, width, height = cv2.boundingRect(mask)
    # A margin of one pixel, so that no outline touches the edge of what is looked at.
    window = np.pad(mask[top : top + height, left : left + width], 1)
    area_px = int(cv2.countNonZero(window))
    if area_px < MIN_AREA_PX:
        return None
    segmentation = [_moved(polygon, left - 1, top - 1) for polygon in polygons(window)]
    if not segmentation:
        return None
    points = np.concatenate([np.array(polygon).reshape(-1, 2) for polygon in segmentation])
    low, high = points.min(axis=0), points.max(axis=0)
    return Annotation(
        category_id=category_id,
        segmentation=segmentation,
        area=area_px,
        bbox=[float(low[0]), float(low[1]), float(high[0] - low[0] + 1), float(high[1] - low[1] + 1)],
    )


def _moved(polygon: list[float], x: int, y: int) -> list[float]:
    return [value + (y if place % 2 else x) for place, value in enumerate(polygon)]


@dataclass(frozen=True)
class DrawnPhoto:
    """A drawn photo.

    Attributes:
        image_rgb: (h, w, 3) uint8.
        masks: The visible part of each person, (h, w) uint8 of 0 and 255, no two overlapping; the main person first.
        genders: Category name of each mask's person.
    """

    image_rgb: NDArray[np.uint8]
    masks: list[NDArray[np.uint8]]
    genders: list[str]

    def annotations(self) -> list[Annotation]:
        """COCO annotations without ids; people too small or hidden to count are left out."""
        found = (annotation(mask, CATEGORIES[gender]) for mask, gender in zip(self.masks, self.genders, strict=True))
        return [entry for entry in found if entry is not None]


@dataclass
class _Layer:
    """One painted actor and the corner of its layer on the photo."""

    actor: PlacedPerson
    frame: BodyFrame
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


def _painted(actor: PlacedPerson, light: Light, width_px: int, height_px: int) -> _Layer | None:
    """The actor on a layer no larger than the part of the photo they can touch; None when out of sight."""
    probe = frame_of(
        Canvas(1, 1, light.lamp), actor.person, actor.pose, (actor.foot_x_px, actor.foot_y_px), actor.unit_px
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
    frame = frame_of(canvas, actor.person, actor.pose, (actor.foot_x_px - x0, actor.foot_y_px - y0), actor.unit_px)
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


def render_photo(config: SampleConfig, plan: Plan, index: int) -> DrawnPhoto:
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
    image_rgb = view(place, (width_px, height_px), scene.zoom, scene.centre_x, scene.horizon_y_px)
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
        cast_shadow(image_rgb, layer.canvas.alpha, layer.corner_px, layer.actor.foot_y_px, light)
        contact_shadow(image_rgb, layer.frame, layer.corner_px)
        if layer.actor.pose.is_sitting:
            paint_seat(image_rgb, layer.frame, layer.corner_px, seat_colour)
        _compose(image_rgb, layer, light)
    return DrawnPhoto(
        image_rgb=finish(image_rgb, light, rng),
        masks=masks,
        genders=[layer.actor.person.gender for layer in nearest_first],
    )
