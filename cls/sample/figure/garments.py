"""Clothing on the body: trousers, skirts, tops with sleeves and necklines, scarves."""

# ruff: noqa: RUF005 - a point is an array: adding an offset moves it

from __future__ import annotations

from math import cos, sin

import numpy as np
from numpy.typing import NDArray

from cls.sample.canvas import Cloth, Points, convex_hull, smooth_closed, smooth_open, tapered
from cls.sample.figure import palette
from cls.sample.figure.body import SHIN, THIGH, Frame, leg_path, limb_angle

SKIRTS = frozenset({"mini", "midi", "maxi", "dress"})
_LEG_CUTS = {
    # how much wider than the leg at: hip, mid thigh, low thigh, knee, calf, low shin, hem
    "skinny": (0.95, 1.06, 1.08, 1.12, 1.12, 1.14, 1.2),
    "straight": (0.92, 1.1, 1.18, 1.35, 1.35, 1.62, 1.8),
    "wide": (0.88, 1.16, 1.4, 1.75, 1.9, 2.5, 3.0),
}


def torso_row(
    frame: Frame, height: float, half_width: float, depth: float = 0.42
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Left and right edge of the torso at a height above the pelvis, in head heights."""
    joints = frame.skeleton
    share = height / frame.person.build.torso_length
    centre = joints.pelvis[:2] + (joints.neck[:2] - joints.pelvis[:2]) * share
    width = float(np.hypot(half_width * cos(joints.yaw), depth * sin(joints.yaw)))
    across = np.array([cos(joints.lean), sin(joints.lean)]) * width
    return centre - across, centre + across


def paint_trouser_leg(frame: Frame, side: int) -> None:
    """One trouser leg (or the leg of shorts)."""
    bottom, build, unit = frame.person.bottom, frame.person.build, frame.unit_px
    base = [w * (0.35 + 0.65 * build.limb) for w in (*THIGH, *SHIN[1:])]
    path = leg_path(frame, side)
    joints = frame.skeleton
    if bottom.cut == "shorts":
        widths = [base[0] * 0.9, base[1] * 1.12, base[2] * 1.34]
        path = [path[0], path[1], path[2] + (path[3] - path[2]) * 0.35]
        outline = tapered(path, widths, 4, is_round=False)
    else:
        cut = _LEG_CUTS[bottom.cut]
        outline = tapered(path, [b * c for b, c in zip(base, cut, strict=True)], 3, is_round=bottom.cut == "skinny")
    angle = limb_angle(joints.hips[side], joints.knees[side])
    frame.canvas.paint(frame.outline(outline), frame.cloth(bottom, angle, folds=0.15), 0.24 * unit, drop=0.3)
    if bottom.cut != "shorts" and unit > 22:
        knee = joints.knees[side][:2]
        for offset in (-0.1, 0.1):
            crease = smooth_open([knee + (-0.17, offset - 0.04), knee + (0, offset), knee + (0.16, offset - 0.05)])
            frame.canvas.darken(frame.outline(tapered(crease, [0.018] * len(crease), 2)), 0.22, 0.03 * unit)


def paint_seat(frame: Frame) -> None:
    """The part of the trousers between the legs and the waist, with a fly and a belt line."""
    build, bottom, unit = frame.person.build, frame.person.bottom, frame.unit_px
    waist_left, waist_right = torso_row(frame, 0.78, build.waist * 1.03)
    hip_left, hip_right = torso_row(frame, 0.12, build.hip * 1.02)
    hips = [frame.skeleton.hips[side][:2] for side in (0, 1)]
    low = (hips[0] + hips[1]) / 2
    outline = smooth_closed(
        [
            waist_left, (waist_left + waist_right) / 2 + (0, 0.04), waist_right, hip_right, hip_right + (-0.05, 0.3),
            low + (0.24, 0.42), low + (0, 0.36), low + (-0.24, 0.42), hip_left + (0.05, 0.3), hip_left,
        ]
    )  # fmt: skip
    frame.canvas.paint(frame.outline(outline), frame.cloth(bottom, folds=0.12), 0.26 * unit, relief=0.45)
    if not frame.is_turned_away:
        middle = (waist_left + waist_right) / 2 + (0.14 * sin(frame.skeleton.yaw), 0)
        fly = tapered([middle + (0, 0.1), middle + (0.02, 0.35), low + (0, 0.22)], [0.012, 0.014, 0.01], 2)
        frame.canvas.darken(frame.outline(fly), 0.25)
    belt = tapered(
        [waist_left + (0.02, 0.05), (waist_left + waist_right) / 2 + (0, 0.1), waist_right + (-0.02, 0.05)],
        [0.06, 0.06, 0.06],
        3,
        is_round=False,
    )
    frame.canvas.paint(
        frame.outline(belt), Cloth(palette.scaled(frame.person.shoes.colour, 0.6)), 0.05 * unit, relief=0.5
    )


def paint_skirt(frame: Frame) -> None:
    """A skirt, or the lower half of a dress: cloth stretched round both legs, with pleats."""
    build, bottom, joints, unit = frame.person.build, frame.person.bottom, frame.skeleton, frame.unit_px
    reach = {"mini": 0.62, "midi": 1.08, "maxi": 1.72, "dress": 0.98}[bottom.cut]
    flare = {"mini": 0.3, "midi": 0.36, "maxi": 0.34, "dress": 0.36}[bottom.cut]
    waist_left, waist_right = torso_row(frame, 0.85, build.waist * 1.04)
    hip_left, hip_right = torso_row(frame, 0.15, build.hip * 1.05)
    hem: list[NDArray[np.float64]] = []
    for side in (0, 1):
        hip, knee, ankle = joints.hips[side][:2], joints.knees[side][:2], joints.ankles[side][:2]
        low = hip + (knee - hip) * min(reach, 1.0) + (ankle - knee) * max(reach - 1, 0)
        hem += [
            low + (-flare, -0.02),
            low + (flare, -0.02),
            low + (0.0, 0.1),
            knee + (0.22, -0.1) if reach > 1 else low,
        ]
        hem += [knee + (-0.22, -0.1) if reach > 1 else low]
    hull = convex_hull([waist_left, waist_right, hip_left, hip_right, *hem])
    # The hull runs straight from waist to hem; the smooth curve through it gives the cloth its swing.
    frame.canvas.paint(frame.outline(smooth_closed(hull, 3)), frame.cloth(bottom, tile=2.2), 0.34 * unit, drop=0.35)
    if unit < 18:
        return
    top = (waist_left + waist_right) / 2
    for index, low in enumerate([*hem[:3], *hem[5:8]]):
        start = top + (low - top) * 0.22
        bow = (start + low) / 2 + (0.05 * (-1) ** index, 0)
        pleat = tapered([start, bow, low + (0, -0.05)], [0.01, 0.035, 0.06], 4)
        frame.canvas.darken(frame.outline(pleat), 0.2, 0.05 * unit)


def paint_scarf(frame: Frame) -> None:
    """A scarf wound round the neck, one end hanging on the chest."""
    scarf = frame.person.scarf
    if scarf is None:
        return
    neck, head, unit = frame.skeleton.neck[:2], frame.skeleton.head[:2], frame.unit_px
    cloth = frame.cloth(scarf, 0.5, folds=0.22, tile=1.3)
    up = head - neck
    side = 1 if frame.person.texture_px[0] > 128 else -1
    if not frame.is_turned_away:
        tail: Points = tapered(
            [neck + (side * 0.12, 0.1), neck + (side * 0.2, 0.62), neck + (side * 0.17, 1.25)],
            [0.16, 0.19, 0.21],
            4,
            is_round=False,
        )
        frame.canvas.paint(frame.outline(tail), frame.cloth(scarf, 0.05, folds=0.2, tile=1.3), 0.12 * unit, drop=0.4)
    back = tapered([neck + (-0.42, 0.0), neck + up * 0.28 + (0, 0.03), neck + (0.42, 0.0)], [0.14, 0.15, 0.14], 4)
    frame.canvas.paint(frame.outline(back), cloth, 0.12 * unit, drop=0.2)
    loop = tapered(
        [neck + (-0.46, -0.06), neck + (-0.26, 0.12), neck + (0.02, 0.18), neck + (0.28, 0.1), neck + (0.46, -0.06)],
        [0.12, 0.17, 0.18, 0.17, 0.12],
        4,
    )
    frame.canvas.paint(frame.outline(loop), cloth, 0.14 * unit, drop=0.4)
