"""Clothing on the body: tops with sleeves and necklines, trousers, skirts, scarves."""

# ruff: noqa: RUF005 - a point is an array: adding an offset moves it

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, sin

import numpy as np
from numpy.typing import NDArray

from cls.sample.canvas import Cloth, Points, convex_hull, ellipse, smooth_closed, smooth_open, tapered
from cls.sample.figure import palette
from cls.sample.figure.body import FOREARM, SHIN, THIGH, UPPER_ARM, BodyFrame, leg_path, limb_angle, limb_points

SKIRTS = frozenset({"mini", "midi", "maxi", "dress"})
_LEG_CUTS = {
    # how much wider than the leg at: hip, mid thigh, low thigh, knee, calf, low shin, hem
    "skinny": (0.95, 1.06, 1.08, 1.12, 1.12, 1.14, 1.2),
    "straight": (0.92, 1.1, 1.18, 1.35, 1.35, 1.62, 1.8),
    "wide": (0.88, 1.16, 1.4, 1.75, 1.9, 2.5, 3.0),
}

_SLEEVE_WIDTH = {
    "coat": 1.32, "jacket": 1.27, "hoodie": 1.32, "sweater": 1.24, "blouse": 1.2, "shirt": 1.16, "polo": 1.14,
}  # fmt: skip
"""How much wider than the arm a sleeve is."""


def torso_row(
    frame: BodyFrame, height: float, half_width: float, depth: float = 0.42
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Left and right edge of the torso at a height above the pelvis, in head heights."""
    joints = frame.skeleton
    share = height / frame.person.build.torso_length
    centre = joints.pelvis[:2] + (joints.neck[:2] - joints.pelvis[:2]) * share
    width = float(np.hypot(half_width * cos(joints.yaw), depth * sin(joints.yaw)))
    across = np.array([cos(joints.lean), sin(joints.lean)]) * width
    return centre - across, centre + across


def paint_trouser_leg(frame: BodyFrame, side: int) -> None:
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
    frame.paint(outline, frame.cloth(bottom, angle, folds=0.15), 0.24, drop=0.3)
    if bottom.cut != "shorts" and unit > 22:
        knee = joints.knees[side][:2]
        for offset in (-0.1, 0.1):
            crease = smooth_open([knee + (-0.17, offset - 0.04), knee + (0, offset), knee + (0.16, offset - 0.05)])
            frame.darken(tapered(crease, 0.018, 2), 0.22, 0.03)


def paint_seat(frame: BodyFrame) -> None:
    """The part of the trousers between the legs and the waist, with a fly and a belt line."""
    build, bottom = frame.person.build, frame.person.bottom
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
    frame.paint(outline, frame.cloth(bottom, folds=0.12), 0.26, relief=0.45)
    if not frame.is_turned_away:
        middle = (waist_left + waist_right) / 2 + (0.14 * sin(frame.skeleton.yaw), 0)
        fly = tapered([middle + (0, 0.1), middle + (0.02, 0.35), low + (0, 0.22)], [0.012, 0.014, 0.01], 2)
        frame.darken(fly, 0.25)
    belt = tapered(
        [waist_left + (0.02, 0.05), (waist_left + waist_right) / 2 + (0, 0.1), waist_right + (-0.02, 0.05)],
        0.06,
        3,
        is_round=False,
    )
    frame.paint(belt, Cloth(palette.scaled(frame.person.shoes.colour, 0.6)), 0.05, relief=0.5)


def paint_skirt(frame: BodyFrame) -> None:
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
    frame.paint(smooth_closed(hull, 3), frame.cloth(bottom, tile=2.2), 0.34, drop=0.35)
    if unit < 18:
        return
    top = (waist_left + waist_right) / 2
    for index, low in enumerate([*hem[:3], *hem[5:8]]):
        start = top + (low - top) * 0.22
        bow = (start + low) / 2 + (0.05 * (-1) ** index, 0)
        pleat = tapered([start, bow, low + (0, -0.05)], [0.01, 0.035, 0.06], 4)
        frame.darken(pleat, 0.2, 0.05)


def paint_scarf(frame: BodyFrame) -> None:
    """A scarf wound round the neck, one end hanging on the chest."""
    scarf = frame.person.scarf
    if scarf is None:
        return
    neck, head = frame.skeleton.neck[:2], frame.skeleton.head[:2]
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
        frame.paint(tail, frame.cloth(scarf, 0.05, folds=0.2, tile=1.3), 0.12, drop=0.4)
    back = tapered([neck + (-0.42, 0.0), neck + up * 0.28 + (0, 0.03), neck + (0.42, 0.0)], [0.14, 0.15, 0.14], 4)
    frame.paint(back, cloth, 0.12, drop=0.2)
    loop = tapered(
        [neck + (-0.46, -0.06), neck + (-0.26, 0.12), neck + (0.02, 0.18), neck + (0.28, 0.1), neck + (0.46, -0.06)],
        [0.12, 0.17, 0.18, 0.17, 0.12],
        4,
    )
    frame.paint(loop, cloth, 0.14, drop=0.4)


@dataclass(frozen=True)
class Neckline:
    """Where a neckline is, in head heights: pit of the neck, its lowest point, middle of the hem, half its width."""

    frame: BodyFrame
    neck: NDArray[np.float64]
    middle: NDArray[np.float64]
    hem: NDArray[np.float64]
    open_width: float

    def darker(self) -> Cloth:
        """The top's cloth a little darker, as a doubled edge looks."""
        return Cloth(palette.scaled(self.frame.person.top.colour, 0.9), grain=0.03)

    def buttons(self, shares: list[float], radius: float, tone: float, aside: float = 0.0) -> None:
        """Buttons at shares of the way from the neckline to the hem."""
        for share in shares:
            button = ellipse(self.middle + (self.hem - self.middle) * share + (aside, 0), radius, radius)
            self.frame.stain(button, palette.scaled(self.frame.person.top.colour, tone), 0.9)

    def opening(self, darkness: float) -> None:
        """The line where the two halves of the front meet."""
        line = tapered([self.middle, (self.middle + self.hem) / 2, self.hem + (0, -0.04)], [0.012, 0.013, 0.012], 3)
        self.frame.darken(line + (0.045, 0), darkness)


def _collar(line: Neckline) -> None:
    frame, neck, middle, width = line.frame, line.neck, line.middle, line.open_width
    line.opening(0.2)
    for sign in (-1, 1):
        flap = smooth_closed(
            [
                neck + (sign * width * 1.02, -0.12), neck + (sign * width * 1.1, 0.06), middle + (sign * 0.2, 0.13),
                middle,
            ],
            2,
        )  # fmt: skip
        cloth = frame.cloth(frame.person.top, sign * 0.8, folds=0)
        frame.paint(flap, cloth, 0.05, drop=0.3, relief=0.6)
    line.buttons([0.16, 0.34, 0.53, 0.71, 0.9], 0.024, 0.62)


def _zip(line: Neckline) -> None:
    frame, neck, middle, width = line.frame, line.neck, line.middle, line.open_width
    line.opening(0.35)
    for sign in (-1, 1):
        stand = [neck + (sign * width, -0.2), neck + (sign * width * 0.7, 0.02), middle + (sign * 0.02, 0.02)]
        flap = tapered(stand, [0.05, 0.1, 0.06], 3)
        frame.paint(flap, line.darker(), 0.06, drop=0.3)
    teeth = tapered([middle, line.hem + (0, -0.05)], 0.012, 2)
    frame.stain(teeth, (190, 190, 190), 0.7)


def _lapel(line: Neckline) -> None:
    frame, neck, middle, width = line.frame, line.neck, line.middle, line.open_width
    line.opening(0.35)
    low = middle + (line.hem - middle) * 0.22
    for sign in (-1, 1):
        outer = [neck + (sign * width, -0.14), neck + (sign * width * 1.35, 0.1), middle + (sign * 0.34, 0.24)]
        lapel = smooth_closed([*outer, middle + (sign * 0.2, 0.3), low, middle + (sign * 0.02, 0.0)], 2)
        cloth = frame.cloth(frame.person.top, sign * 0.5, folds=0)
        frame.paint(lapel, cloth, 0.06, drop=0.35, relief=0.7)
    line.buttons([0.36, 0.58, 0.8], 0.035, 0.5, 0.09)


def _hood(line: Neckline) -> None:
    frame, neck, middle, hem = line.frame, line.neck, line.middle, line.hem
    rim = [neck + (-0.46, -0.1), neck + (-0.36, 0.12), middle + (0, 0.1), neck + (0.36, 0.12), neck + (0.46, -0.1)]
    ring = tapered(rim, [0.07, 0.11, 0.1, 0.11, 0.07], 4)
    frame.paint(ring, frame.cloth(frame.person.top, folds=0.1), 0.08, drop=0.35)
    for sign in (-1, 1):
        path = [middle + (sign * 0.16, 0.14), middle + (sign * 0.15, 0.38), middle + (sign * 0.17, 0.56)]
        frame.stain(tapered(path, [0.014, 0.014, 0.018], 3), (236, 234, 228), 0.95)
    pocket = smooth_closed([hem + (-0.3, -0.58), hem + (0.3, -0.58), hem + (0.44, -0.2), hem + (-0.44, -0.2)], 2)
    frame.darken(pocket, 0.07, 0.03)


def _turtle(line: Neckline) -> None:
    frame, neck = line.frame, line.neck
    up = frame.skeleton.head[:2] - neck
    roll = tapered([neck + (0, 0.1), neck + up * 0.38], [0.36, 0.33], 3, is_round=False)
    frame.paint(roll, line.darker(), 0.14, drop=0.2)


def _ribbing(line: Neckline) -> None:
    frame, neck, middle, width = line.frame, line.neck, line.middle, line.open_width
    depth = (middle - neck)[1] * 0.55
    left = [neck + (-width * 0.98, -0.05), neck + (-width * 0.7, depth)]
    right = [neck + (width * 0.7, depth), neck + (width * 0.98, -0.05)]
    rib = smooth_open([*left, middle + (0, 0.01), *right])
    frame.darken(tapered(rib, 0.03, 2), 0.12)


_FRONTS: dict[str, Callable[[Neckline], None]] = {
    "collar": _collar, "zip": _zip, "lapel": _lapel, "hood": _hood, "turtle": _turtle, "crew": _ribbing,
    "vee": _ribbing, "scoop": _ribbing,
}  # fmt: skip


def paint_front(line: Neckline) -> None:
    """What the neckline calls for, seen from the front."""
    if line.frame.person.top.cut != "tank":
        _FRONTS[line.frame.person.neckline](line)


def paint_back(line: Neckline) -> None:
    """What shows of the neckline from behind."""
    frame, neck, style = line.frame, line.neck, line.frame.person.neckline
    if style == "turtle":
        _turtle(line)
    elif style == "hood":
        hood = ellipse(neck + (0, 0.2), 0.5, 0.36)
        frame.paint(hood, line.darker(), 0.16, drop=0.3)
    elif style in {"collar", "lapel", "zip"}:
        band = tapered([neck + (-0.34, 0.04), neck, neck + (0.34, 0.04)], [0.08, 0.1, 0.08], 3)
        frame.paint(band, line.darker(), 0.06)


def paint_top(frame: BodyFrame) -> None:
    """The body of the top, without sleeves: outline through shoulders, chest, waist and hem, then the neckline."""
    person, build, joints = frame.person, frame.person.build, frame.skeleton
    loose = {
        "coat": 1.16, "jacket": 1.12, "hoodie": 1.14, "sweater": 1.08, "blouse": 1.04, "shirt": 1.05, "tank": 0.98,
    }.get(person.top.cut, 1.02)  # fmt: skip
    hem_height = {"coat": -1.0, "hoodie": -0.02, "sweater": 0.05, "jacket": 0.12, "blouse": 0.3, "tank": 0.35}.get(
        person.top.cut, 0.02
    )
    if person.is_tucked or person.bottom.cut in SKIRTS:
        hem_height = max(hem_height, 0.74) if person.top.cut != "coat" else hem_height
    if person.top.cut == "coat" and joints.is_seated:
        hem_height = -0.1
    left, right = frame.shoulders
    neck = joints.neck[:2]
    open_width = 0.36 if person.gender == "man" else 0.31
    chest_left, chest_right = torso_row(frame, 1.66, build.chest * loose * 1.05)
    bust_left, bust_right = torso_row(frame, 1.35, build.chest * loose * (0.98 if person.gender == "man" else 1.0))
    waist_left, waist_right = torso_row(
        frame, 0.82, build.waist * loose * (1.0 if person.top.cut in {"tank", "blouse"} else 1.08)
    )
    hip_left, hip_right = torso_row(frame, min(max(hem_height, 0.1), 0.4), build.hip * loose)
    shoulder_drop = np.array([0.0, 0.02])
    strap = 0.42 if person.top.cut == "tank" else 0.0
    outer_left = left + (left - right) * 0.04 * (loose - 0.5) + (strap, 0.0)
    outer_right = right + (right - left) * 0.04 * (loose - 0.5) - (strap, 0.0)
    upper_right = [
        neck + (open_width, -0.02), (neck + right) / 2 + (0.12, -0.08), outer_right + (0, -0.12),
        outer_right + (0.03, 0.14) + shoulder_drop,
    ]  # fmt: skip
    upper_left = [
        outer_left + (-0.03, 0.14) + shoulder_drop, outer_left + (0, -0.12), (neck + left) / 2 + (-0.12, -0.08),
        neck + (-open_width, -0.02),
    ]  # fmt: skip
    sides_right = [chest_right, bust_right, waist_right]
    sides_left = [waist_left, bust_left, chest_left]
    if hem_height < 0.6:
        sides_right.append(hip_right)
        sides_left.insert(0, hip_left)
    if hem_height < 0:
        low_left, low_right = torso_row(frame, hem_height, build.hip * loose * 1.12, 0.5)
        sides_right.append(low_right)
        sides_left.insert(0, low_left)
    hem_middle = (sides_right[-1] + sides_left[0]) / 2 + (0, 0.08)
    neckline_y = {"turtle": 0.0, "collar": 0.16, "vee": 0.42, "scoop": 0.3, "zip": 0.1, "hood": 0.12, "lapel": 0.3}.get(
        person.neckline, 0.17
    )
    if frame.is_turned_away:
        neckline_y = 0.02
    face = 0.12 * sin(joints.yaw)
    middle = neck + (face, neckline_y)
    shape = 0.35 if person.neckline in {"vee", "lapel", "collar"} else 0.75
    necks = [neck + (-open_width * shape, neckline_y * 0.6), middle, neck + (open_width * shape, neckline_y * 0.6)]
    if person.neckline in {"vee", "lapel", "collar"}:
        necks = [middle + (-0.02, 0), middle, middle + (0.02, 0)]
    outline = smooth_closed([*upper_right, *sides_right, hem_middle, *sides_left, *upper_left, *necks], 4)
    cloth = frame.cloth(person.top, joints.lean, folds=0.14 if person.top.cut != "tank" else 0.1)
    frame.paint(outline, cloth, 0.3, drop=0.35, relief=1.0)
    line = Neckline(frame, neck, middle, hem_middle, open_width)
    (paint_back if frame.is_turned_away else paint_front)(line)
    _paint_creases(frame, chest_left, chest_right, waist_left, waist_right)
    if person.top.cut in {"sweater", "hoodie"} and hem_height < 0.6:
        band = tapered(
            [sides_left[0] + (0.02, -0.02), hem_middle + (0, -0.05), sides_right[-1] + (-0.02, -0.02)],
            0.08,
            3,
            is_round=False,
        )
        frame.paint(band, Cloth(palette.scaled(person.top.colour, 0.93)), 0.06, relief=0.7)


def _paint_creases(
    frame: BodyFrame,
    chest_left: NDArray[np.float64],
    chest_right: NDArray[np.float64],
    waist_left: NDArray[np.float64],
    waist_right: NDArray[np.float64],
) -> None:
    """Creases from the armpits and across the waist; the soft shadow under a bust."""
    if frame.unit_px < 22:
        return
    for pit, inward in ((chest_left, 1.0), (chest_right, -1.0)):
        for length, fall in ((0.4, 0.16), (0.32, 0.42)):
            line = smooth_open(
                [pit + (0, 0.02), pit + (inward * length * 0.5, fall * 0.35), pit + (inward * length, fall)]
            )
            frame.darken(tapered(line, np.linspace(0.045, 0.01, len(line)).tolist(), 2), 0.24, 0.04)
    for side, inward, rise in ((waist_left, 1.0, 0.1), (waist_right, -1.0, -0.06)):
        line = smooth_open([side, side + (inward * 0.2, 0.09), side + (inward * 0.42, 0.08 + rise)])
        frame.darken(tapered(line, np.linspace(0.04, 0.012, len(line)).tolist(), 2), 0.2, 0.04)
    if frame.person.gender == "girl" and not frame.is_turned_away:
        middle = (chest_left + chest_right) / 2 + (0.1 * sin(frame.skeleton.yaw), 0.3)
        for sign in (-1, 1):
            cup = ellipse(middle + (sign * 0.25 * cos(frame.skeleton.yaw), 0.02), 0.22, 0.1)
            frame.darken(cup, 0.16, 0.09)
            frame.darken(cup + (0.0, -0.24), -0.07, 0.1)


def paint_sleeve(frame: BodyFrame, side: int) -> None:
    """One sleeve as long as the top's; nothing for a sleeveless one."""
    person, joints, limb = frame.person, frame.skeleton, frame.person.build.limb
    if person.sleeves == "none":
        return
    loose = _SLEEVE_WIDTH.get(person.top.cut, 1.12)
    shoulder, elbow, wrist = joints.shoulders[side], joints.elbows[side], joints.wrists[side]
    upper, lower = limb_points(shoulder, elbow), limb_points(elbow, wrist)
    # The sleeve begins on the slope of the shoulder, so that it grows out of the top instead of being stuck on.
    root = shoulder[:2] + (joints.neck[:2] + (0, 0.1) - shoulder[:2]) * 0.42
    angle = limb_angle(shoulder, elbow)
    cloth = frame.cloth(person.top, angle, folds=0.17, tile=2.0)
    if person.sleeves == "short":
        path = [root, *upper[:3]]
        widths = [0.1, UPPER_ARM[0] * limb * 1.06, UPPER_ARM[1] * limb * loose, UPPER_ARM[2] * limb * loose * 1.14]
        frame.paint(tapered(path, widths, 4, is_round=False), cloth, 0.16, drop=0.3)
        return
    end = 2 if person.sleeves == "half" else 4
    path = [root, *upper, *lower[1:end]]
    widths = [w * limb * loose for w in (*UPPER_ARM, *FOREARM[1:])][: len(path) - 1]
    widths = [0.1, UPPER_ARM[0] * limb * 1.06, *widths[1:]]
    frame.paint(tapered(path, widths, 4), cloth, 0.16, drop=0.32)
    for offset, sign in ((-0.05, 1), (0.08, -1)):
        at = elbow[:2] + (upper[3] - upper[2]) * offset * 4
        crease = smooth_open([at + (-0.15, 0.03 * sign), at, at + (0.14, -0.03 * sign)])
        frame.darken(tapered(crease, 0.02, 2), 0.26, 0.025)
    cuff = path[-1] + (path[-1] - path[-2]) * 0.02
    band = tapered(
        [cuff - (path[-1] - path[-2]) * 0.3, cuff], [widths[-1] * 1.04, widths[-1] * 1.04], 2, is_round=False
    )
    frame.paint(band, Cloth(palette.scaled(person.top.colour, 0.9)), 0.08, relief=0.8)
