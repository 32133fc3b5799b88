"""The frame a figure is painted in, and its bare parts: arms, hands, legs, neck."""

# ruff: noqa: RUF005 - a point is an array: adding an offset moves it

from __future__ import annotations

from dataclasses import dataclass
from math import hypot

import numpy as np
from numpy.typing import NDArray

from cls.sample.canvas import Canvas, Cloth, Colour, Points, PointsLike, smooth_closed, smooth_open, tapered
from cls.sample.figure import palette
from cls.sample.figure.pose import Point3, Skeleton
from cls.sample.figure.wardrobe import Garment, Person

UPPER_ARM = (0.235, 0.225, 0.2, 0.165)
FOREARM = (0.165, 0.175, 0.14, 0.1)
THIGH = (0.4, 0.37, 0.3, 0.22)
SHIN = (0.22, 0.225, 0.17, 0.125)


@dataclass(frozen=True)
class BodyFrame:
    """One figure being painted: who, in what pose, where on the layer and how big."""

    canvas: Canvas
    person: Person
    skeleton: Skeleton
    origin_px: tuple[float, float]
    unit_px: float
    head_yaw: float
    head_roll: float
    is_turned_away: bool

    def at(self, joint: Point3 | tuple[float, float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """A joint's place on the layer, pixels."""
        return np.array([self.origin_px[0] + joint[0] * self.unit_px, self.origin_px[1] + joint[1] * self.unit_px])

    def outline(self, points: PointsLike) -> Points:
        """Points in head heights to pixels of the layer."""
        return np.asarray(np.asarray(points, dtype=np.float64) * self.unit_px + np.asarray(self.origin_px))

    def cloth(
        self, garment: Garment, angle_rad: float = 0.0, *, folds: float = 0.13, tile: float = 2.0, grain: float = 0.05
    ) -> Cloth:
        """The cloth of a garment on this figure, its pattern turned by an angle; `tile` is a period in head heights."""
        scale = {"knit": 0.8, "denim": 1.4, "bold stripes": 0.9, "patches": 0.6}.get(garment.pattern, 1.0)
        tx, ty = self.person.texture_px
        return Cloth(
            colour=garment.colour,
            second=garment.second,
            pattern=garment.pattern,
            tile_px=tile * scale * self.unit_px,
            angle_rad=angle_rad,
            folds=folds,
            grain=grain,
            origin_px=(self.origin_px[0] + tx, self.origin_px[1] + ty),
        )

    def skin(self) -> Cloth:
        """Bare skin."""
        return Cloth(colour=self.person.skin)

    @property
    def shoulders(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The left and the right shoulder on the picture (x, y), head heights."""
        first, second = (shoulder[:2] for shoulder in self.skeleton.shoulders)
        return (second, first) if first[0] > second[0] else (first, second)

    def paint(
        self, outline: PointsLike, cloth: Cloth, thickness: float, *, relief: float = 1.0, drop: float = 0.0
    ) -> None:
        """`Canvas.paint` in head heights: the outline, and how far in from its edge the part curves away."""
        self.canvas.paint(self.outline(outline), cloth, thickness * self.unit_px, relief=relief, drop=drop)

    def stain(self, outline: PointsLike, colour: Colour, opacity: float = 1.0) -> None:
        """`Canvas.stain` in head heights."""
        self.canvas.stain(self.outline(outline), colour, opacity)

    def darken(self, outline: PointsLike, amount: float, soften: float = 0.0) -> None:
        """`Canvas.darken` in head heights."""
        self.canvas.darken(self.outline(outline), amount, soften * self.unit_px)


def limb_angle(start: Point3, end: Point3) -> float:
    """How far a limb is turned from hanging straight down, radians, for a pattern that follows it."""
    return float(np.arctan2(-(end[0] - start[0]), end[1] - start[1]))


def limb_points(start: Point3, end: Point3, count: int = 4) -> list[NDArray[np.float64]]:
    """Evenly spaced points (x, y) from one joint to the next."""
    return [start[:2] + (end[:2] - start[:2]) * t for t in np.linspace(0, 1, count)]


def leg_path(frame: BodyFrame, side: int) -> list[NDArray[np.float64]]:
    """Hip to ankle over the knee: seven points, three to the knee, the knee, three from it."""
    joints = frame.skeleton
    return limb_points(joints.hips[side], joints.knees[side]) + limb_points(joints.knees[side], joints.ankles[side])[1:]


def paint_bare_arm(frame: BodyFrame, side: int) -> None:
    """Arm and hand, skin; only the hand where a long sleeve covers the rest."""
    joints, limb = frame.skeleton, frame.person.build.limb
    shoulder, elbow, wrist = joints.shoulders[side], joints.elbows[side], joints.wrists[side]
    path = limb_points(shoulder, elbow) + limb_points(elbow, wrist)[1:]
    widths = [w * limb for w in (*UPPER_ARM, *FOREARM[1:])]
    if frame.person.sleeves == "none":
        # A bare arm grows out of the slope of the shoulder.
        path = [shoulder[:2] + (joints.neck[:2] + (0, 0.14) - shoulder[:2]) * 0.4, *path]
        widths = [0.1, *widths]
    paint_hand(frame, side)
    if frame.person.sleeves == "long":
        return
    frame.paint(tapered(path, widths, 3), frame.skin(), 0.16, drop=0.25)


def paint_hand(frame: BodyFrame, side: int) -> None:
    """A relaxed hand: palm with fingers together and a thumb, darker lines between the fingers."""
    joints = frame.skeleton
    wrist, tip = joints.wrists[side][:2], joints.hands[side][:2]
    along = tip - wrist
    length = max(hypot(*along), 0.34)
    along = along / max(hypot(*along), 1e-6)
    across = np.array([-along[1], along[0]])
    body_x = float(joints.pelvis[0])
    inward = -1.0 if np.dot(across, [body_x - wrist[0], 0.35]) < 0 else 1.0
    size = frame.person.build.limb * (0.94 if frame.person.gender == "girl" else 1.05)
    bend = inward * 0.07
    path = [
        wrist + along * length * t + across * bend * b
        for t, b in ((-0.05, 0), (0.25, 0.1), (0.5, 0.4), (0.75, 1.0), (0.97, 2.0))
    ]
    thumb = [wrist + along * length * t + across * inward * b for t, b in ((0.12, 0.06), (0.36, 0.19), (0.56, 0.2))]
    skin, unit = frame.skin(), frame.unit_px
    frame.paint(
        tapered(path, [0.09 * size, 0.145 * size, 0.15 * size, 0.12 * size, 0.055 * size], 3), skin, 0.1, drop=0.2
    )
    frame.paint(tapered(thumb, [0.06, 0.055, 0.035], 2), skin, 0.05, relief=0.7)
    if unit > 26:
        for offset in (-0.055, 0.0, 0.055):
            line = [
                wrist + along * length * t + across * (offset * size + bend * b)
                for t, b in ((0.55, 0.5), (0.78, 1.1), (0.93, 1.8))
            ]
            frame.darken(tapered(line, [0.008, 0.011, 0.009], 2), 0.3)


def paint_bare_leg(frame: BodyFrame, side: int) -> None:
    """A leg, skin, from hip to ankle."""
    limb = frame.person.build.limb
    widths = [w * (0.35 + 0.65 * limb) for w in (*THIGH, *SHIN[1:])]
    frame.paint(tapered(leg_path(frame, side), widths, 3), frame.skin(), 0.22, drop=0.2)


def paint_neck(frame: BodyFrame) -> None:
    """The neck and the slope of the bare shoulders under it; clothing covers what it covers."""
    joints, build = frame.skeleton, frame.person.build
    neck, head = joints.neck[:2], joints.head[:2]
    width = 0.255 if frame.person.gender == "girl" else 0.32
    left, right = frame.shoulders
    base = neck + (0, 0.12)
    slope = smooth_closed(
        [
            base + (-width * 0.95, -0.36), base + (-width * 1.2, -0.12), (left + base) / 2 + (-0.05, -0.02),
            left + (0.1, 0.1), base + (0, 0.75 * build.chest), right + (-0.1, 0.1), (right + base) / 2 + (0.05, -0.02),
            base + (width * 1.2, -0.12), base + (width * 0.95, -0.36),
        ]
    )  # fmt: skip
    frame.paint(slope, frame.skin(), 0.2, relief=0.5)
    column = tapered(
        [head + (0, 0.25), (head + neck) / 2 + (0, 0.14), neck + (0, 0.12)],
        [width, width * 0.95, width * 1.15],
        3,
        is_round=False,
    )
    frame.paint(column, frame.skin(), 0.2, relief=0.8)
    if frame.unit_px > 20 and not frame.is_turned_away:
        for sign in (-1, 1):
            line = smooth_open([base + (sign * 0.08, 0.13), base + (sign * 0.3, 0.06), base + (sign * 0.5, 0.04)])
            frame.darken(tapered(line, 0.012, 2), 0.16, 0.03)


def paint_foot(frame: BodyFrame, side: int) -> None:
    """A shoe (with a sock above it, if any shows) on one foot."""
    joints, shoes, unit = frame.skeleton, frame.person.shoes, frame.unit_px
    ankle, toe = joints.ankles[side][:2], joints.toes[side][:2]
    size = 1.0 if frame.person.gender == "man" else 0.88
    forward = toe - ankle
    heel = ankle + (-0.35 * forward[0] * 0.6, 0.17)
    toe = ankle + forward * (0.95 + 0.2 * size)
    foot = smooth_closed(
        [
            ankle + (-0.15 * size, -0.12), heel + (-0.16 * size * np.sign(forward[0] or 1), -0.02), heel + (0, 0.1),
            (heel + toe) / 2 + (0, 0.09), toe + (0.16 * np.sign(forward[0] or 1) * size, 0.0),
            toe + (0.05 * np.sign(forward[0] or 1), -0.1), (ankle + toe) / 2 + (0.08 * np.sign(forward[0] or 1), -0.12),
            ankle + (0.15 * size, -0.12),
        ]
    )  # fmt: skip
    front = tapered(
        [ankle + (0, -0.06), ankle + forward * 0.5 + (0, 0.04), toe], [0.155 * size, 0.19 * size, 0.165 * size], 3
    )
    if shoes.cut == "boots":
        shaft = tapered(
            [ankle + (joints.knees[side][:2] - ankle) * 0.3, ankle + (0, 0.1)], [0.2, 0.17], 3, is_round=False
        )
        frame.paint(shaft, Cloth(shoes.colour, folds=0.12, tile_px=unit), 0.16)
    elif shoes.cut == "trainers":
        sock = tapered(
            [ankle + (joints.knees[side][:2] - ankle) * 0.12, ankle + (0, 0.08)], [0.145, 0.15], 3, is_round=False
        )
        frame.paint(sock, Cloth(frame.person.socks), 0.12)
    if shoes.cut != "flats":
        sole_colour = (232.0, 230.0, 224.0) if shoes.cut == "trainers" else palette.scaled(shoes.colour, 0.5)
        frame.paint(foot + (0, 0.05), Cloth(sole_colour), 0.05, relief=0.4)
        frame.paint(front + (0, 0.05), Cloth(sole_colour), 0.05, relief=0.4)
    leather = Cloth(shoes.colour, grain=0.03)
    if shoes.cut == "flats":
        frame.paint(tapered([ankle, ankle + forward * 0.6], [0.13, 0.14], 2), frame.skin(), 0.12)
        front = tapered([ankle + forward * 0.62, toe], [0.15 * size, 0.15 * size], 3)
    else:
        frame.paint(foot, leather, 0.14)
    frame.paint(front, leather, 0.14)
    if shoes.cut == "trainers" and unit > 24:
        for share in (0.35, 0.55, 0.75):
            middle = ankle + forward * share
            lace = tapered([middle + (-0.08, 0.0), middle + (0.08, -0.015)], 0.014, 2)
            frame.stain(lace, (240, 240, 236), 0.8)
