"""One person painted whole: every part in the order that puts what is nearer on top."""

from __future__ import annotations

# ruff: noqa: RUF005 - a point is an array: adding an offset moves it
from math import cos, pi, sin

import numpy as np

from cls.sample.canvas import Canvas, Cloth, ellipse, smooth_closed, smooth_open, tapered
from cls.sample.figure import body, clothes, palette
from cls.sample.figure.body import BodyFrame, limb_points
from cls.sample.figure.face import Head, headgear_cloth, paint_glasses, paint_head
from cls.sample.figure.hair import Hair
from cls.sample.figure.pose import Pose, skeleton
from cls.sample.figure.wardrobe import Person

TOTAL_HEADS = 7.3
"""Height of a standing figure of average build, in head heights."""


def paint_hat_behind(head: Head) -> None:
    """The part of a wide brim that is behind the head."""
    if head.frame.person.hat == "wide-brim hat":
        brim = head.points(ellipse((0, -0.5), 2.0, 0.42))
        head.frame.canvas.paint(brim, headgear_cloth(head.frame, 0.72), 0.1 * head.frame.unit_px, relief=0.5)


def paint_hat(head: Head) -> None:
    """A cap, a beanie or a wide-brimmed hat, over hair and face."""
    frame = head.frame
    hat, canvas, unit = frame.person.hat, frame.canvas, frame.unit_px
    turn = sin(frame.head_yaw) if not frame.is_turned_away else 0.0
    back = -turn * 0.25
    if hat == "beanie":
        dome = smooth_closed(
            [
                (-1.06 + back, -0.32), (-1.06 + back, -0.8), (-0.66 + back, -1.26), (back, -1.46), (0.66 + back, -1.26),
                (1.06 + back, -0.8), (1.06 + back, -0.32), (0.0, -0.28),
            ]
        )  # fmt: skip
        cloth = headgear_cloth(frame)
        ribbed = Cloth(
            cloth.colour, palette.scaled(cloth.colour, 0.72), "knit", 1.1 * unit, 0.0, 0.05, 0.04, cloth.origin_px
        )
        canvas.paint(head.points(dome), ribbed, 0.26 * unit, relief=1.0, drop=0.3)
        cuff = tapered([(-1.05 + back * 0.8, -0.48), (0.1 * turn, -0.4), (1.05 + back * 0.8, -0.48)], 0.19, 5)
        canvas.paint(head.points(cuff), ribbed, 0.09 * unit, relief=0.9, drop=0.35)
        if frame.person.texture_px[0] > 150:
            canvas.paint(head.points(ellipse((back, -1.54), 0.26, 0.22)), ribbed, 0.1 * unit, relief=1.2)
    elif hat == "cap":
        dome = smooth_closed(
            [
                (-1.04 + back, -0.42), (-1.02 + back, -0.82), (-0.62 + back, -1.2), (back, -1.32), (0.62 + back, -1.2),
                (1.02 + back, -0.82), (1.04 + back, -0.42), (0.0, -0.48),
            ]
        )  # fmt: skip
        canvas.paint(head.points(dome), headgear_cloth(frame), 0.26 * unit, relief=1.0, drop=0.2)
        for bend in (-0.42, 0.0, 0.42):
            seam = smooth_open([(back, -1.31), (back + bend * 0.9, -0.95), (turn * 0.5 + bend * 1.1, -0.5)])
            canvas.darken(head.points(tapered(seam, 0.012, 2)), 0.2)
        if not frame.is_turned_away:
            m = turn * 0.95
            peak = smooth_closed(
                [
                    (m * 0.6 - 0.86, -0.5), (m * 0.8 - 0.45, -0.62), (m * 0.8, -0.66), (m * 0.8 + 0.45, -0.62),
                    (m * 0.6 + 0.86, -0.5), (m + 0.72, -0.26), (m, -0.16), (m - 0.72, -0.26),
                ]
            )  # fmt: skip
            canvas.paint(head.points(peak), headgear_cloth(frame, 0.84), 0.1 * unit, relief=0.9, drop=0.5)
            canvas.stain(
                head.points(ellipse((m * 0.7, -0.9), 0.17, 0.14)),
                palette.mixed(frame.person.hat_colour, (250, 248, 240), 0.75),
                0.85,
            )
    elif hat == "wide-brim hat":
        crown = smooth_closed(
            [
                (-0.98, -0.56), (-0.94, -1.0), (-0.72, -1.5), (-0.2, -1.52), (0.2, -1.52), (0.72, -1.5), (0.94, -1.0),
                (0.98, -0.56), (0, -0.46),
            ]
        )  # fmt: skip
        front = smooth_closed(
            [
                (-2.0, -0.52), (-1.4, -0.66), (-0.95, -0.66), (0, -0.58), (0.95, -0.66), (1.4, -0.66), (2.0, -0.52),
                (1.3, -0.3), (0, -0.2), (-1.3, -0.3),
            ]
        )  # fmt: skip
        canvas.paint(head.points(crown), headgear_cloth(frame), 0.24 * unit, relief=1.0, drop=0.2)
        band = tapered([(-0.97, -0.74), (0, -0.64), (0.97, -0.74)], 0.11, 5, is_round=False)
        canvas.paint(head.points(band), Cloth(palette.scaled(frame.person.hat_colour, 0.35)), 0.06 * unit, relief=0.7)
        canvas.paint(head.points(front), headgear_cloth(frame, 0.95), 0.08 * unit, relief=0.8, drop=0.55)


def paint_backpack(frame: BodyFrame) -> None:
    """The sack of a backpack, which shows beside the body from the front and covers it from behind."""
    bag = frame.person.bag
    if bag is None or bag.cut != "backpack":
        return
    joints, build = frame.skeleton, frame.person.build
    centre = joints.pelvis[:2] * 0.4 + joints.neck[:2] * 0.6 + np.array([-0.55 * sin(joints.yaw), 0.0])
    half = build.shoulder * 0.88
    outline = smooth_closed(
        centre
        + [
            (-half * 0.8, -1.05), (half * 0.8, -1.05), (half, -0.4), (half, 0.75), (half * 0.7, 1.0),
            (-half * 0.7, 1.0), (-half, 0.75), (-half, -0.4),
        ]
    )  # fmt: skip
    cloth = frame.cloth(bag, folds=0.08)
    frame.paint(outline, cloth, 0.22, drop=0.3)
    if frame.is_turned_away:
        pocket = smooth_closed(
            [
                centre + (-half * 0.7, 0.1), centre + (half * 0.7, 0.1), centre + (half * 0.72, 0.8),
                centre + (-half * 0.72, 0.8),
            ]
        )  # fmt: skip
        frame.paint(pocket, cloth, 0.1, drop=0.25, relief=0.8)


def paint_straps(frame: BodyFrame) -> None:
    """The straps that lie on the chest: backpack, crossbody or tote; painted after the top, before the near arms."""
    bag = frame.person.bag
    if bag is None:
        return
    joints = frame.skeleton
    leather = Cloth(palette.scaled(bag.colour, 0.85), grain=0.03)
    left, right = frame.shoulders
    neck, pelvis = joints.neck[:2], joints.pelvis[:2]
    if bag.cut == "backpack" and not frame.is_turned_away:
        for shoulder in (left, right):
            top = neck + (shoulder - neck) * 0.62 + (0, -0.14)
            strap = tapered(
                [top, top + (0.04 * np.sign(neck[0] - shoulder[0]), 0.6), top + ((shoulder - neck)[0] * 0.18, 1.25)],
                [0.1, 0.1, 0.08],
                4,
                is_round=False,
            )
            frame.paint(strap, leather, 0.06, drop=0.3)
    elif bag.cut == "crossbody":
        shoulder, hip = (left, pelvis + (0.55, 0.1)) if frame.person.bag_side > 0 else (right, pelvis + (-0.55, 0.1))
        top = neck + (shoulder - neck) * 0.6 + (0, -0.12)
        middle = (top + hip) / 2 + (0.0, 0.03)
        frame.paint(tapered([top, middle, hip], 0.065, 4, is_round=False), leather, 0.04, drop=0.3)
    elif bag.cut == "tote":
        shoulder = right if frame.person.bag_side > 0 else left
        top = neck + (shoulder - neck) * 0.8 + (0, -0.14)
        end = pelvis + (np.sign((shoulder - neck)[0]) * (frame.person.build.hip + 0.16), -0.42)
        for offset in (-0.1, 0.1):
            frame.paint(
                tapered(
                    [top + (offset * 0.4, 0), (top + end) / 2 + (offset * 0.7, 0), end + (offset * 1.6, 0)],
                    0.04,
                    4,
                    is_round=False,
                ),
                leather,
                0.03,
                drop=0.3,
            )


def paint_bag(frame: BodyFrame) -> None:
    """The bag itself, at the hip or in the hand; painted last."""
    bag = frame.person.bag
    if bag is None or bag.cut == "backpack":
        return
    joints, unit, build = frame.skeleton, frame.unit_px, frame.person.build
    pelvis = joints.pelvis[:2]
    side = frame.person.bag_side
    cloth = Cloth(bag.colour, folds=0.07, grain=0.05, tile_px=1.6 * unit, origin_px=frame.person.texture_px)
    if bag.cut == "tote":
        centre = pelvis + (side * (build.hip + 0.16), 0.14)
        half_x, half_y = 0.44 * max(cos(joints.yaw), 0.55), 0.56
        shape = smooth_closed(
            [
                centre + (-half_x * 0.9, -half_y), centre + (half_x * 0.9, -half_y), centre + (half_x * 1.05, 0),
                centre + (half_x, half_y), centre + (-half_x, half_y), centre + (-half_x * 1.05, 0),
            ],
            3,
        )  # fmt: skip
        frame.paint(shape, cloth, 0.14, drop=0.4)
        frame.darken(
            tapered(
                [centre + (-half_x * 0.85, -half_y + 0.1), centre + (half_x * 0.85, -half_y + 0.1)],
                0.012,
                2,
            ),
            0.3,
        )
    elif bag.cut == "crossbody":
        centre = pelvis + (side * 0.56, 0.18)
        shape = smooth_closed(
            [centre + (-0.36, -0.24), centre + (0.36, -0.24), centre + (0.38, 0.22), centre + (-0.38, 0.22)], 3
        )
        flap = smooth_closed(
            [
                centre + (-0.37, -0.26), centre + (0.37, -0.26), centre + (0.34, 0.02), centre + (0, 0.1),
                centre + (-0.34, 0.02),
            ],
            3,
        )  # fmt: skip
        frame.paint(shape, cloth, 0.1, drop=0.4)
        frame.paint(flap, cloth, 0.07, drop=0.3)
        frame.stain(ellipse(centre + (0, 0.05), 0.04, 0.04), (216, 186, 110), 0.95)
    else:
        index = 1 if joints.wrists[1][1] > joints.wrists[0][1] else 0
        grip = joints.wrists[index][:2] + (joints.hands[index][:2] - joints.wrists[index][:2]) * 0.6
        centre = grip + (0, 0.72)
        handle = smooth_open(
            [
                centre + (-0.22, -0.32), grip + (-0.16, 0.06), grip + (0, -0.02), grip + (0.16, 0.06),
                centre + (0.22, -0.32),
            ]
        )  # fmt: skip
        frame.paint(tapered(handle, 0.032, 2), Cloth(palette.scaled(bag.colour, 0.7)), 0.03)
        shape = smooth_closed(
            [
                centre + (-0.3, -0.36), centre + (0.3, -0.36), centre + (0.46, 0.0), centre + (0.46, 0.3),
                centre + (-0.46, 0.3), centre + (-0.46, 0.0),
            ],
            3,
        )  # fmt: skip
        frame.paint(shape, cloth, 0.14, drop=0.4)
        for point in limb_points(np.append(centre + (-0.2, -0.2), 0), np.append(centre + (0.2, -0.2), 0), 2):
            frame.stain(ellipse(point, 0.035, 0.035), (216, 186, 110), 0.95)


def frame_of(canvas: Canvas, person: Person, pose: Pose, foot_px: tuple[float, float], unit_px: float) -> BodyFrame:
    """The frame of a person standing (or sitting) with the soles at `foot_px`."""
    bones = skeleton(pose, person.build)
    away = cos(pose.yaw) < -0.5
    return BodyFrame(
        canvas=canvas,
        person=person,
        skeleton=bones,
        origin_px=(foot_px[0], foot_px[1] - bones.ground_y * unit_px),
        unit_px=unit_px,
        head_yaw=pose.head_yaw - (pi if away else 0.0),
        head_roll=pose.head_roll + pose.lean,
        is_turned_away=away,
    )


def _paint_arm(frame: BodyFrame, side: int) -> None:
    body.paint_bare_arm(frame, side)
    clothes.paint_sleeve(frame, side)


def _paint_legs(frame: BodyFrame) -> None:
    """Legs, feet and what is worn on them, the farther leg first."""
    joints, cut = frame.skeleton, frame.person.bottom.cut
    is_skirt = cut in clothes.SKIRTS
    # Seated, the thighs come towards the viewer over the lap; standing, the hips close over the legs.
    is_seated = joints.is_seated
    if not is_skirt and is_seated:
        clothes.paint_seat(frame)
    for side in sorted((0, 1), key=lambda side: float(joints.knees[side][2] + joints.ankles[side][2])):
        if is_skirt or cut == "shorts":
            body.paint_bare_leg(frame, side)
        body.paint_foot(frame, side)
        if not is_skirt:
            clothes.paint_trouser_leg(frame, side)
    if is_skirt:
        clothes.paint_skirt(frame)
    elif not is_seated:
        clothes.paint_seat(frame)


def _is_behind(frame: BodyFrame, side: int) -> bool:
    """Whether an arm is behind the body, by the depth of its shoulder, elbow and wrist."""
    joints = frame.skeleton
    return float(joints.shoulders[side][2] + 0.8 * joints.wrists[side][2] + 0.8 * joints.elbows[side][2]) < -0.42


def paint_figure(frame: BodyFrame) -> None:
    """Paint the person on the frame's canvas."""
    head = Head(frame)
    hair = Hair(head)
    behind = [side for side in (0, 1) if _is_behind(frame, side)]
    if not frame.is_turned_away:
        paint_backpack(frame)
        paint_hat_behind(head)
        hair.paint_behind()
    for side in behind:
        _paint_arm(frame, side)
    _paint_legs(frame)
    body.paint_neck(frame)
    clothes.paint_top(frame)
    if frame.is_turned_away:
        paint_backpack(frame)
    paint_straps(frame)
    clothes.paint_scarf(frame)
    for side in (0, 1):
        if side not in behind:
            _paint_arm(frame, side)
    if frame.is_turned_away:
        paint_hat_behind(head)
    paint_head(head)
    hair.paint_over()
    paint_glasses(head)
    paint_hat(head)
    paint_bag(frame)
