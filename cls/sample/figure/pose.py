"""Poses: joint angles, the skeleton they give in space, and where it lands on the picture.

Space is measured in head heights (about 0.23 m), origin at the pelvis, x to the figure's left as the viewer sees a
figure facing them (screen right), y down, z towards the viewer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import cos, pi, sin
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Point3: TypeAlias = NDArray[np.float64]

CAMERA_TILT = 0.14
"""How far down on the picture a point moves for each unit nearer to the viewer."""

_STANDING_ARMS = [
    ("hanging", "hanging"), ("hanging", "bent"), ("on hip", "hanging"), ("on hip", "on hip"),
    ("in pocket", "in pocket"), ("in pocket", "hanging"), ("waving", "hanging"), ("up", "up"), ("phone", "hanging"),
    ("folded", "folded"), ("out", "out"), ("waving", "on hip"), ("phone", "in pocket"), ("behind", "behind"),
]  # fmt: skip


@dataclass(frozen=True)
class Build:
    """Body proportions, head heights; every width is half a width."""

    shoulder: float
    chest: float
    waist: float
    hip: float
    limb: float
    leg_scale: float
    head: float

    @property
    def torso_length(self) -> float:
        """From the pelvis to the pit of the neck."""
        return 2.5


@dataclass(frozen=True)
class Bone:
    """A limb segment's direction: turned outward (abduct) and forward (flex) from hanging down, radians."""

    abduct: float
    flex: float


@dataclass(frozen=True)
class Pose:
    """All joint angles of a figure; pairs are (screen left, screen right) when facing the viewer."""

    name: str
    yaw: float
    lean: float
    head_yaw: float
    head_roll: float
    upper_arms: tuple[Bone, Bone]
    forearms: tuple[Bone, Bone]
    thighs: tuple[Bone, Bone]
    shins: tuple[Bone, Bone]

    @property
    def is_sitting(self) -> bool:
        """Whether the figure needs a seat under it."""
        return self.thighs[0].flex > 1.1


@dataclass(frozen=True)
class Skeleton:
    """Joints as (x, y, z): x, y on the picture in head heights from the pelvis, z towards the viewer."""

    pelvis: Point3
    neck: Point3
    head: Point3
    shoulders: tuple[Point3, Point3]
    elbows: tuple[Point3, Point3]
    wrists: tuple[Point3, Point3]
    hands: tuple[Point3, Point3]
    hips: tuple[Point3, Point3]
    knees: tuple[Point3, Point3]
    ankles: tuple[Point3, Point3]
    toes: tuple[Point3, Point3]
    yaw: float
    lean: float

    @property
    def is_seated(self) -> bool:
        """Whether both thighs lie more than they hang."""
        return all(float(knee[1] - hip[1]) < 1.0 for hip, knee in zip(self.hips, self.knees, strict=True))

    @property
    def ground_y(self) -> float:
        """The lowest point of the soles."""
        return max(max(float(a[1]) + 0.27, float(t[1]) + 0.1) for a, t in zip(self.ankles, self.toes, strict=True))


def _direction(bone: Bone, side: int) -> Point3:
    return np.array([side * sin(bone.abduct), cos(bone.abduct) * cos(bone.flex), cos(bone.abduct) * sin(bone.flex)])


def skeleton(pose: Pose, build: Build) -> Skeleton:
    """Put the joints of `pose` where they belong for a body of these proportions."""
    cy, sy = cos(pose.yaw), sin(pose.yaw)

    def seen(point: Point3) -> Point3:
        x, y, z = point[0] * cy + point[2] * sy, point[1], -point[0] * sy + point[2] * cy
        return np.array([x, y + CAMERA_TILT * z, z])

    def tilted(x: float, y: float, z: float = 0.0) -> Point3:
        c, s = cos(pose.lean), sin(pose.lean)
        return np.array([x * c - y * s, x * s + y * c, z])

    neck = tilted(0, -build.torso_length)
    head = neck + np.array([sin(pose.lean * 0.5) * 0.7, -0.76 * build.head**0.5, 0.1])

    def limbs(index: int, side: int) -> list[Point3]:
        upper, fore = pose.upper_arms[index], pose.forearms[index]
        raise_up = max(0.0, -cos(upper.abduct) * cos(upper.flex)) * 0.28 + max(0.0, sin(upper.abduct)) * 0.05
        shoulder = tilted(side * build.shoulder * (1 - 0.12 * raise_up), -build.torso_length + 0.4 - raise_up)
        elbow = shoulder + 1.28 * _direction(upper, side)
        wrist = elbow + 1.12 * _direction(fore, side)
        hand = wrist + 0.62 * _direction(fore, side)
        hip = np.array([side * build.hip * 0.56, 0.1, 0.0])
        thigh, shin = pose.thighs[index], pose.shins[index]
        knee = hip + 1.78 * build.leg_scale * _direction(thigh, side)
        ankle = knee + 1.68 * build.leg_scale * _direction(shin, side)
        lift = 0.5 * max(0.0, -shin.flex - 0.25)
        toe = ankle + np.array([side * 0.16, 0.16 + lift, 0.52])
        return [seen(joint) for joint in (shoulder, elbow, wrist, hand, hip, knee, ankle, toe)]

    pairs = zip(limbs(0, -1), limbs(1, 1), strict=True)
    shoulders, elbows, wrists, hands, hips, knees, ankles, toes = pairs
    return Skeleton(
        seen(np.zeros(3)), seen(neck), seen(head), shoulders, elbows, wrists, hands, hips, knees, ankles, toes,
        pose.yaw, pose.lean,
    )  # fmt: skip


_ARMS: dict[str, tuple[Bone, Bone]] = {
    # name: (upper arm, forearm) of one side
    "hanging": (Bone(0.16, 0.0), Bone(0.06, 0.16)),
    "bent": (Bone(0.2, -0.1), Bone(-0.12, 0.75)),
    "on hip": (Bone(0.78, -0.12), Bone(-0.88, 0.25)),
    "in pocket": (Bone(0.34, -0.2), Bone(-0.2, 0.2)),
    "waving": (Bone(1.75, 0.1), Bone(2.75, 0.15)),
    "up": (Bone(2.55, 0.1), Bone(2.85, 0.1)),
    "phone": (Bone(0.18, 0.25), Bone(-0.45, 1.75)),
    "folded": (Bone(0.12, 0.12), Bone(-1.25, 0.9)),
    "out": (Bone(1.1, 0.1), Bone(1.0, 0.5)),
    "behind": (Bone(0.22, -0.35), Bone(-0.5, -0.5)),
    "forward": (Bone(0.12, 0.45), Bone(0.02, 0.7)),
    "backward": (Bone(0.14, -0.45), Bone(0.08, -0.15)),
    "on lap": (Bone(0.14, 0.35), Bone(-0.2, 1.15)),
    "resting": (Bone(0.3, 0.05), Bone(0.12, 0.75)),
}


def _jitter(bone: Bone, rng: np.random.Generator, amount: float) -> Bone:
    a, f = rng.normal(0, amount, 2)
    return Bone(bone.abduct + float(a), bone.flex + float(f))


def draw_pose(rng: np.random.Generator, *, can_sit: bool = True, can_turn_away: bool = True) -> Pose:
    """A natural pose at random: standing most of the time, walking, sitting, now and then seen from behind."""
    kind = str(rng.choice(["standing", "walking", "sitting"], p=[0.58, 0.28, 0.14] if can_sit else [0.66, 0.34, 0.0]))
    yaw = float(np.clip(rng.normal(0, 0.38), -0.85, 0.85))
    if kind == "walking":
        yaw = float(rng.choice([-1, 1]) * rng.uniform(0.1, 0.95))
        swing = float(rng.uniform(0.28, 0.5) * rng.choice([-1, 1]))
        arms = ("forward", "backward") if swing < 0 else ("backward", "forward")
        thighs = (Bone(0.02, swing), Bone(0.02, -swing * 0.75))
        shins = (
            Bone(0.0, swing * 0.55 if swing > 0 else swing * 1.5),
            Bone(0.0, -swing * (1.3 if swing > 0 else 0.45)),
        )
        if rng.random() < 0.3:
            arms = ("phone", arms[1])
    elif kind == "sitting":
        yaw = float(rng.choice([-1, 1]) * rng.uniform(0.25, 0.85))
        arms = ("on lap", str(rng.choice(["on lap", "resting"])))
        spread = float(rng.uniform(0.02, 0.2))
        thighs = (Bone(spread, 1.42), Bone(spread, 1.42))
        shins = (Bone(0.02, float(rng.uniform(-0.2, 0.25))), Bone(0.02, float(rng.uniform(-0.2, 0.3))))
    else:
        left, right = _STANDING_ARMS[int(rng.integers(len(_STANDING_ARMS)))]
        arms = (left, right) if rng.random() < 0.5 else (right, left)
        stance = float(rng.uniform(0.02, 0.16))
        relaxed = int(rng.integers(2))
        thighs = (
            Bone(stance + 0.05 * relaxed, 0.14 * relaxed),
            Bone(stance + 0.05 * (1 - relaxed), 0.14 * (1 - relaxed)),
        )
        shins = (Bone(stance * 0.3, -0.16 * relaxed), Bone(stance * 0.3, -0.16 * (1 - relaxed)))
    pose = Pose(
        name=kind,
        yaw=yaw,
        lean=float(rng.normal(0, 0.035)),
        head_yaw=float(np.clip(yaw * 0.7 + rng.normal(0, 0.22), -0.8, 0.8)),
        head_roll=float(rng.normal(0, 0.07)),
        upper_arms=(_jitter(_ARMS[arms[0]][0], rng, 0.06), _jitter(_ARMS[arms[1]][0], rng, 0.06)),
        forearms=(_jitter(_ARMS[arms[0]][1], rng, 0.07), _jitter(_ARMS[arms[1]][1], rng, 0.07)),
        thighs=thighs,
        shins=shins,
    )
    if can_turn_away and kind != "sitting" and rng.random() < 0.08:
        turned = pi + yaw * 0.6
        pose = replace(pose, yaw=turned, head_yaw=turned)
    return pose
