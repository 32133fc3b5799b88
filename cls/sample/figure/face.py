"""The head and the face on it: skull, ears, eyes, brows, nose, mouth, beard, glasses."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, sin

import numpy as np

from cls.sample.canvas import Cloth, Points, ellipse, smooth_closed, smooth_open, tapered
from cls.sample.figure import palette
from cls.sample.figure.body import BodyFrame

_OUTLINE = [(0.0, -1.0), (0.5, -0.9), (0.84, -0.6), (0.97, -0.2), (0.95, 0.18), (0.86, 0.5), (0.62, 0.8), (0.3, 0.97)]
_JAW = {"girl": 0.96, "man": 1.06}


@dataclass(frozen=True)
class Head:
    """Where the head is: u runs -1..1 across the face, v -1 (crown) to 1 (chin); turned by the head's yaw and roll."""

    frame: BodyFrame

    @property
    def half_x(self) -> float:
        """Half the face's width, pixels."""
        return 0.385 * self.frame.person.build.head * self.frame.unit_px

    @property
    def half_y(self) -> float:
        """Half the face's height, pixels."""
        return 0.5 * self.frame.person.build.head * self.frame.unit_px

    def points(self, uv: list[tuple[float, float]] | Points) -> Points:
        """Flat points (u, v) of the head's silhouette to pixels: rolled, not turned."""
        c, s = cos(self.frame.head_roll), sin(self.frame.head_roll)
        matrix = np.array([[c * self.half_x, s * self.half_x], [-s * self.half_y, c * self.half_y]])
        return np.asarray(np.asarray(uv, dtype=np.float64) @ matrix + self.frame.at(self.frame.skeleton.head))

    def surface(self, uv: list[tuple[float, float]] | Points) -> Points:
        """Points of the face's surface to pixels: turned with the head, then rolled."""
        flat = np.asarray(uv, dtype=np.float64)
        u, v = flat[:, 0], flat[:, 1]
        depth = np.sqrt(np.maximum(1 - u * u - 0.25 * v * v, 0.0))
        yaw = self.frame.head_yaw
        turned = flat.copy()
        turned[:, 0] = u * cos(yaw) + depth * (sin(yaw) * 0.92)
        return self.points(turned)

    def spot(self, u: float, v: float, half_u: float, half_v: float, count: int = 14) -> Points:
        """An ellipse on the face's surface, narrowed as the head turns."""
        return self.surface(ellipse((u, v), half_u, half_v, count=count))


def paint_head(head: Head) -> None:
    """The head without hair: skull and jaw, ears, and the face when it can be seen."""
    frame = head.frame
    canvas, person, unit = frame.canvas, frame.person, frame.unit_px
    yaw = 0.0 if frame.is_turned_away else frame.head_yaw
    skin = frame.skin()
    shift = sin(yaw)
    for sign in (-1, 1):
        if sign * shift > 0.45:
            continue
        u = sign * cos(yaw) * 0.99 - shift * 0.12
        ear = smooth_closed(
            [
                (u, -0.12), (u + sign * 0.12, -0.14), (u + sign * 0.15, 0.04), (u + sign * 0.06, 0.26),
                (u - sign * 0.04, 0.28),
            ]
        )  # fmt: skip
        canvas.paint(head.points(ear), skin, 0.05 * unit, relief=0.8)
        canvas.darken(head.points(ellipse((u + sign * 0.05, 0.04), 0.045, 0.11)), 0.22, 0.015 * unit)
    if abs(shift) > 0.15:
        canvas.paint(head.points(ellipse((-shift * 0.34, -0.26), 0.9, 0.72)), skin, 0.3 * unit)
    jaw = _JAW[person.gender] + 0.02 * person.face[0]
    right = [(u * (jaw if v > 0.3 else 1.0) + shift * (0.16 if v > 0.3 else 0.04), v) for u, v in _OUTLINE]
    left = [(-u * (jaw if v > 0.3 else 1.0) + shift * (0.16 if v > 0.3 else 0.04), v) for u, v in _OUTLINE[:0:-1]]
    outline = smooth_closed([*right, (shift * 0.18, 1.0), *left])
    canvas.paint(head.points(outline), skin, 0.24 * unit, drop=0.45, relief=0.8)
    if not frame.is_turned_away:
        _paint_features(head)


def _paint_features(head: Head) -> None:
    frame = head.frame
    canvas, person, unit = frame.canvas, frame.person, frame.unit_px
    f0, f1, f2, f3 = (float(np.clip(value, -1.5, 1.5)) for value in person.face)
    skin = person.skin
    shadow, blush = palette.scaled(skin, 0.62), palette.mixed(skin, (214, 84, 70), 0.35)
    is_woman = person.gender == "girl"
    for sign in (-1, 1):
        canvas.darken(head.spot(sign * 0.4, 0.02, 0.24, 0.12), 0.14, 0.05 * unit)
        canvas.stain(head.spot(sign * 0.52, 0.4, 0.26, 0.16), blush, 0.4 if is_woman else 0.24, 0.07 * unit)
        canvas.darken(head.spot(sign * 0.78, 0.5, 0.16, 0.32), 0.1, 0.08 * unit)
    canvas.darken(head.spot(0, 0.86, 0.3, 0.08), 0.08, 0.05 * unit)
    canvas.darken(head.spot(0, -0.5, 0.45, 0.22), -0.05, 0.09 * unit)
    lid_colour = (54, 36, 30) if person.hair_label != "blonde hair" else (92, 66, 46)
    brow = (
        palette.mixed(palette.scaled(person.hair, 0.7), shadow, 0.3)
        if person.hair_label
        else palette.scaled(shadow, 0.6)
    )
    eye_x, eye_y = 0.4 + 0.015 * f1, 0.07
    half_u, half_v = 0.185, 0.085 + 0.006 * f2 + (0.012 if is_woman else 0)
    for sign in (-1, 1):
        if sign * sin(frame.head_yaw) > 0.72:
            continue
        u = sign * eye_x
        white = smooth_closed(
            [
                (u - half_u, eye_y + 0.01), (u - 0.06, eye_y - half_v), (u + 0.07, eye_y - half_v), (u + half_u, eye_y),
                (u + 0.05, eye_y + half_v * 0.8), (u - 0.07, eye_y + half_v * 0.8),
            ]
        )  # fmt: skip
        canvas.stain(head.surface(white), (244, 240, 236))
        gaze = u + 0.025 * f3
        canvas.stain(head.spot(gaze, eye_y - 0.005, 0.092, half_v * 0.98), person.eyes)
        canvas.stain(head.spot(gaze, eye_y - 0.005, 0.048, half_v * 0.55, 10), (16, 12, 12))
        canvas.stain(head.spot(gaze + 0.035, eye_y - 0.04, 0.026, 0.022, 8), (255, 255, 255))
        lid = smooth_open(
            [
                (u - half_u - 0.02, eye_y + 0.005), (u - 0.07, eye_y - half_v - 0.01),
                (u + 0.07, eye_y - half_v - 0.01), (u + half_u + 0.03 * sign, eye_y - 0.01),
            ],
            3,
        )  # fmt: skip
        canvas.stain(head.surface(tapered(lid, 0.022 if is_woman else 0.015, 2)), lid_colour, 0.95)
        crease = smooth_open([(u - half_u, eye_y - 0.06), (u, eye_y - half_v - 0.065), (u + half_u, eye_y - 0.07)], 3)
        canvas.stain(head.surface(tapered(crease, 0.01, 2)), shadow, 0.5)
        thickness = 0.03 if is_woman else 0.046
        rise = 0.02 * f2
        line = smooth_open(
            [
                (u - sign * 0.21, -0.13), (u - sign * 0.02, -0.19 - rise), (u + sign * 0.17, -0.17 - rise),
                (u + sign * 0.27, -0.11),
            ],
            3,
        )  # fmt: skip
        taper = np.interp(np.linspace(0, 1, len(line)), [0, 0.3, 0.75, 1], [0.7, 1, 0.8, 0.2]) * thickness
        canvas.stain(head.surface(tapered(line, taper.tolist(), 2)), brow, 0.88)
    _paint_nose_and_mouth(head, shadow, is_woman, f0, f1)
    _paint_beard(head)


def _paint_nose_and_mouth(head: Head, shadow: tuple[float, float, float], is_woman: bool, f0: float, f1: float) -> None:
    frame = head.frame
    canvas, unit = frame.canvas, frame.unit_px
    side = -1.0 if canvas.lamp.toward_x > 0 else 1.0
    width = 0.125 + 0.012 * f0 + (0 if is_woman else 0.02)
    bridge = [(side * 0.09, 0.0), (side * 0.1, 0.2), (side * width * 1.1, 0.36), (0.0, 0.4), (side * 0.03, 0.15)]
    canvas.darken(head.surface(bridge), 0.13, 0.025 * unit)
    canvas.darken(head.spot(-side * 0.02, 0.32, 0.07, 0.07), -0.1, 0.03 * unit)
    under = smooth_open([(-width, 0.37), (-width * 0.55, 0.415), (0, 0.425), (width * 0.55, 0.415), (width, 0.37)], 3)
    canvas.stain(head.surface(tapered(under, 0.014, 2)), shadow, 0.75)
    for sign in (-1, 1):
        canvas.stain(head.spot(sign * width * 0.5, 0.405, 0.036, 0.016, 8), palette.scaled(shadow, 0.55), 0.75)
    lips = palette.mixed(frame.person.skin, (186, 58, 66) if is_woman else (168, 84, 76), 0.62 if is_woman else 0.38)
    half, smile = 0.27 + 0.02 * f1, 0.035 + 0.02 * f0
    y = 0.635
    upper = smooth_closed(
        [
            (-half, y - smile), (-0.1, y - 0.055), (0, y - 0.04), (0.1, y - 0.055), (half, y - smile), (0.1, y + 0.012),
            (-0.1, y + 0.012),
        ],
        3,
    )  # fmt: skip
    lower = smooth_closed(
        [
            (-half * 0.92, y - smile * 0.8), (0, y + 0.01), (half * 0.92, y - smile * 0.8), (0.13, y + 0.085),
            (-0.13, y + 0.085),
        ],
        3,
    )  # fmt: skip
    canvas.stain(head.surface(lower), lips, 0.95)
    canvas.stain(head.surface(upper), palette.scaled(lips, 0.86), 0.95)
    if f1 > 0.6:
        teeth = smooth_closed(
            [(-half * 0.7, y - smile * 0.4), (0, y - 0.012), (half * 0.7, y - smile * 0.4), (0, y + 0.04)], 3
        )
        canvas.stain(head.surface(teeth), (242, 238, 232), 0.95)
    line = smooth_open([(-half, y - smile), (-0.1, y + 0.004), (0.1, y + 0.004), (half, y - smile)], 3)
    canvas.stain(head.surface(tapered(line, 0.011, 2)), palette.scaled(lips, 0.5), 0.8)
    canvas.darken(head.spot(0, y + 0.14, 0.14, 0.03), 0.14, 0.025 * unit)


def _paint_beard(head: Head) -> None:
    person, unit, canvas = head.frame.person, head.frame.unit_px, head.frame.canvas
    if not person.beard:
        return
    colour = palette.scaled(person.hair, 0.85) if person.hair_label else palette.scaled(person.skin, 0.4)
    moustache = smooth_closed(
        [(-0.33, 0.62), (-0.18, 0.5), (0, 0.47), (0.18, 0.5), (0.33, 0.62), (0.12, 0.575), (0, 0.565), (-0.12, 0.575)],
        3,
    )
    jaw = [
        (-0.97, 0.08), (-0.84, 0.3), (-0.6, 0.52), (-0.34, 0.56), (-0.3, 0.74), (0, 0.78), (0.3, 0.74), (0.34, 0.56),
        (0.6, 0.52), (0.84, 0.3), (0.97, 0.08), (0.93, 0.5), (0.66, 0.86), (0.3, 1.04), (0, 1.07), (-0.3, 1.04),
        (-0.66, 0.86), (-0.93, 0.5),
    ]  # fmt: skip
    opacity = {"stubble": 0.3, "beard": 0.92, "moustache": 0.0}[person.beard]
    if opacity:
        # The jaw keeps to the silhouette, so it is only half turned.
        turn = sin(head.frame.head_yaw) * 0.3
        canvas.stain(
            head.points(smooth_closed([(u + turn * (1 - abs(u) * 0.5), v) for u, v in jaw], 3)),
            colour,
            opacity,
            0.02 * unit,
        )
    canvas.stain(
        head.surface(moustache),
        colour,
        max(opacity, 0.9 if person.beard == "moustache" else 0.3),
        0.012 * unit,
    )


def paint_glasses(head: Head) -> None:
    """Glasses or sunglasses on the nose, with the temple that shows."""
    frame = head.frame
    kind = frame.person.glasses
    if not kind or frame.is_turned_away:
        return
    canvas, unit = frame.canvas, frame.unit_px
    is_dark = kind == "sunglasses"
    rim = (24.0, 22.0, 24.0) if is_dark or frame.person.face[3] > -0.3 else (120.0, 66.0, 36.0)
    half_u, half_v = (0.34, 0.2) if is_dark else (0.3, 0.185)
    thickness = max(0.035, 0.6 / max(head.half_x, 1e-6))
    for sign in (-1, 1):
        u, v = sign * 0.41, 0.09
        shape = smooth_closed(
            [
                (u - half_u, v - half_v * 0.75), (u, v - half_v), (u + half_u, v - half_v * 0.75),
                (u + half_u * 0.92, v + half_v * 0.5), (u, v + half_v), (u - half_u * 0.92, v + half_v * 0.5),
            ],
            3,
        )  # fmt: skip
        lens = head.surface(shape)
        middle = lens.mean(axis=0)
        if is_dark:
            canvas.stain(lens, (30, 30, 36), 0.96)
            canvas.stain(
                middle + (lens - middle) * (0.5, 0.28) + (0, -0.22 * head.half_y * half_v),
                (120, 126, 140),
                0.45,
                0.02 * unit,
            )
        else:
            canvas.stain(lens, (232, 240, 246), 0.14)
        loop = np.concatenate([lens, lens[:1]])
        _stroke(frame, loop, rim, thickness * head.half_x)
        temple = (
            head.surface([(sign * 0.72, v - 0.06)])[0],
            head.points([(sign * cos(frame.head_yaw) - 0.2 * sin(frame.head_yaw), 0.0)])[0],
        )
        if sign * sin(frame.head_yaw) < 0.3:
            _stroke(frame, np.stack(temple), rim, thickness * head.half_x * 0.9)
    _stroke(frame, head.surface([(-0.12, 0.06), (0, 0.02), (0.12, 0.06)]), rim, thickness * head.half_x)


def _stroke(frame: BodyFrame, line_px: Points, colour: tuple[float, float, float], half_px: float) -> None:
    """A line of even thickness drawn over what is painted."""
    tangent = np.gradient(line_px, axis=0)
    tangent /= np.maximum(np.hypot(tangent[:, :1], tangent[:, 1:]), 1e-9)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1) * half_px
    band = np.concatenate([line_px + normal, (line_px - normal)[::-1]])
    if np.allclose(line_px[0], line_px[-1]):
        for start in range(0, len(line_px) - 1, 3):
            part = slice(start, start + 4)
            frame.canvas.stain(np.concatenate([(line_px + normal)[part], (line_px - normal)[part][::-1]]), colour, 0.95)
        return
    frame.canvas.stain(band, colour, 0.95)


def headgear_cloth(frame: BodyFrame, share: float = 1.0) -> Cloth:
    """The cloth of this person's hat, made darker by `share`."""
    tx, ty = frame.person.texture_px
    return Cloth(
        palette.scaled(frame.person.hat_colour, share),
        folds=0.06,
        grain=0.06,
        tile_px=1.2 * frame.unit_px,
        origin_px=(tx, ty),
    )
