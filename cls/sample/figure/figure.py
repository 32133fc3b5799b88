"""One person painted whole: every part in the order that puts what is nearer on top."""

from __future__ import annotations

from math import cos, pi
from typing import TYPE_CHECKING

from cls.sample.figure import body, extras, garments, tops
from cls.sample.figure.body import Frame
from cls.sample.figure.face import Head, paint_glasses, paint_head
from cls.sample.figure.hair import Hair
from cls.sample.figure.pose import skeleton

if TYPE_CHECKING:
    from cls.sample.canvas import Canvas
    from cls.sample.figure.pose import Pose
    from cls.sample.figure.wardrobe import Person

TOTAL_HEADS = 7.3
"""Height of a standing figure of average build, in head heights."""


def frame_of(canvas: Canvas, person: Person, pose: Pose, foot_x_px: float, foot_y_px: float, unit_px: float) -> Frame:
    """The frame of a person standing (or sitting) with the soles on (foot_x_px, foot_y_px)."""
    bones = skeleton(pose, person.build)
    away = cos(pose.yaw) < -0.5
    return Frame(
        canvas=canvas,
        person=person,
        skeleton=bones,
        origin_px=(foot_x_px, foot_y_px - bones.ground_y * unit_px),
        unit_px=unit_px,
        head_yaw=pose.head_yaw - (pi if away else 0.0),
        head_roll=pose.head_roll + pose.lean,
        is_turned_away=away,
    )


def _paint_arm(frame: Frame, side: int) -> None:
    body.paint_bare_arm(frame, side)
    tops.paint_sleeve(frame, side)


def _paint_legs(frame: Frame) -> None:
    """Legs, feet and what is worn on them, the farther leg first."""
    joints, cut = frame.skeleton, frame.person.bottom.cut
    is_skirt = cut in garments.SKIRTS
    # Seated, the thighs come towards the viewer over the lap; standing, the hips close over the legs.
    is_seated = joints.is_seated
    if not is_skirt and is_seated:
        garments.paint_seat(frame)
    for side in sorted((0, 1), key=lambda side: float(joints.knees[side][2] + joints.ankles[side][2])):
        if is_skirt or cut == "shorts":
            body.paint_bare_leg(frame, side)
        body.paint_foot(frame, side)
        if not is_skirt:
            garments.paint_trouser_leg(frame, side)
    if is_skirt:
        garments.paint_skirt(frame)
    elif not is_seated:
        garments.paint_seat(frame)


def _is_behind(frame: Frame, side: int) -> bool:
    """Whether an arm is behind the body, by the depth of its shoulder, elbow and wrist."""
    joints = frame.skeleton
    return float(joints.shoulders[side][2] + 0.8 * joints.wrists[side][2] + 0.8 * joints.elbows[side][2]) < -0.42


def paint_figure(frame: Frame) -> None:
    """Paint the person on the frame's canvas."""
    head = Head(frame)
    hair = Hair(head)
    behind = [side for side in (0, 1) if _is_behind(frame, side)]
    if not frame.is_turned_away:
        extras.paint_backpack(frame)
        extras.paint_hat_behind(head)
        hair.paint_behind()
    for side in behind:
        _paint_arm(frame, side)
    _paint_legs(frame)
    body.paint_neck(frame)
    tops.paint_top(frame)
    if frame.is_turned_away:
        extras.paint_backpack(frame)
    extras.paint_straps(frame)
    garments.paint_scarf(frame)
    for side in (0, 1):
        if side not in behind:
            _paint_arm(frame, side)
    if frame.is_turned_away:
        extras.paint_hat_behind(head)
    paint_head(head)
    hair.paint_over()
    paint_glasses(head)
    extras.paint_hat(head)
    extras.paint_bag(frame)
