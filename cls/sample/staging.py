"""Who stands where in a photo: framing, camera, poses and the bystanders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cls.sample.figure.figure import TOTAL_HEADS
from cls.sample.figure.pose import Pose, Skeleton, draw_pose, skeleton
from cls.sample.figure.wardrobe import Person, draw_person

if TYPE_CHECKING:
    from cls.sample.scene.background import Place


@dataclass(frozen=True)
class Actor:
    """One person in a photo: pose, size and where the soles are, in pixels of the photo."""

    person: Person
    pose: Pose
    foot_x_px: float
    foot_y_px: float
    unit_px: float
    is_main: bool


@dataclass(frozen=True)
class Staging:
    """A photo before it is drawn: the camera's view of the place, and the actors from the farthest to the nearest."""

    actors: list[Actor]
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


def stage(rng: np.random.Generator, person: Person, place: Place, width_px: int, height_px: int) -> Staging:
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
    actors = [Actor(person, pose, main_x, foot_y_px, unit_px, True)]
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
            Actor(other, other_pose, x, horizon_y_px + camera * other_px, other_px / TOTAL_HEADS * other.height, False)
        )
    actors.sort(key=lambda actor: (actor.is_main, actor.foot_y_px))
    return Staging(
        actors=actors,
        horizon_y_px=horizon_y_px,
        zoom=zoom,
        centre_x=float(rng.uniform(0.42, 0.58)),
    )
