"""Hair: what hangs behind the head, the cap of hair over the skull, and locks that fall in front."""

from __future__ import annotations

from math import sin

import cv2
import numpy as np

from cls.sample.canvas import Cloth, Points, ellipse, smooth_closed, tapered
from cls.sample.figure.face import Head
from cls.sample.figure.wardrobe import LONG_HAIR
from cls.sample.scene import textures
from cls.sample.scene.textures import Plane


def _strands(head: Head, *, is_curly: bool, strength: float) -> Plane:
    """Shading of the strands over the whole layer: they run out from the crown, with a band of shine round the head."""
    frame = head.frame
    canvas = frame.canvas
    centre = head.points([(-0.15 * sin(frame.head_yaw) + 0.1, -0.75)])[0]
    radius = max(head.half_y, 4.0)
    reach = 6.0 if frame.person.hair_style in {"long", "wavy", "ponytail"} else 3.2
    low_y = min(int(centre[1] + radius * reach), canvas.height_px)
    x0, x1 = max(int(centre[0] - radius * 1.75), 0), min(int(centre[0] + radius * 1.75), canvas.width_px)
    y0 = max(int(centre[1] - radius * 2), 0)
    whole = np.zeros((canvas.height_px, canvas.width_px), np.float32)
    if x1 <= x0 or low_y <= y0:
        return whole
    y, x = np.mgrid[y0:low_y, x0:x1].astype(np.float32)
    dx, dy = (x - np.float32(centre[0])) / np.float32(radius), (y - np.float32(centre[1])) / np.float32(radius)
    tx, ty = frame.person.texture_px
    # Below the crown strands bend from radial to hanging: the angle is divided by the way down.
    across = dx / (1.0 + 0.9 * np.maximum(dy, 0)) if not is_curly else dx
    along = np.sqrt(dx * dx + dy * dy)
    scale = np.float32(60.0)
    if frame.person.hair_style == "wavy":
        across = across + 0.07 * np.sin(along * 7.5)
    tile = textures.curls() if is_curly else textures.fibres()
    map_x, map_y = (across * scale + np.float32(tx)), ((dy if is_curly else along) * scale + np.float32(ty))
    detail = cv2.remap(tile, np.mod(map_x, 256), np.mod(map_y, 256), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    shine = np.exp(-((along - 0.75) ** 2) * 14) * (0.3 if not is_curly else 0.1)
    whole[y0:low_y, x0:x1] = detail * strength + shine * (0.6 + 0.4 * np.cos(4 * dx)) - 0.05
    return whole


class Hair:
    """One person's hair on one figure; painted in two steps because the head comes in between."""

    def __init__(self, head: Head) -> None:
        frame = head.frame
        self._head = head
        self._style = frame.person.hair_style
        self._is_shown = self._style != "bald" and (not frame.person.hat or self._style in LONG_HAIR)
        self._cloth = Cloth(frame.person.hair)
        if self._is_shown:
            brightness = sum(frame.person.hair) / 3
            strength = 0.34 if brightness < 60 else 0.22
            strands = _strands(head, is_curly=self._style == "curly", strength=strength)
            self._cloth = Cloth(frame.person.hair, strands=strands)

    def _lay(
        self, uv: Points | list[tuple[float, float]], *, drop: float = 0.0, relief: float = 0.8, roundness: float = 0.2
    ) -> None:
        frame = self._head.frame
        outline = self._head.points(uv)
        frame.canvas.paint(outline, self._cloth, roundness * frame.unit_px, drop=drop, relief=relief)

    def paint_behind(self) -> None:
        """What is behind the neck and shoulders: paint it before the body."""
        if not self._is_shown:
            return
        turn = -sin(self._head.frame.head_yaw) * 0.35
        if self._style in {"long", "wavy"}:
            wave = 0.12 if self._style == "wavy" else 0.02
            self._lay(
                smooth_closed(
                    [
                        (turn - 0.9, -0.7), (turn, -1.1), (turn + 0.9, -0.7), (turn + 1.12, 0.1),
                        (turn + 1.12 + wave, 0.9), (turn + 1.2 - wave, 1.6), (turn + 1.02 + wave, 2.3),
                        (turn + 0.4, 2.5), (turn - 0.4, 2.46), (turn - 1.02 - wave, 2.25), (turn - 1.2 + wave, 1.6),
                        (turn - 1.12 - wave, 0.9), (turn - 1.12, 0.1),
                    ]
                ),
                relief=0.9,
                roundness=0.24,
            )  # fmt: skip
        elif self._style == "bob":
            self._lay(
                smooth_closed(
                    [
                        (turn - 0.9, -0.7), (turn, -1.1), (turn + 0.9, -0.7), (turn + 1.16, 0.1), (turn + 1.16, 0.8),
                        (turn + 0.8, 1.12), (turn, 1.16), (turn - 0.8, 1.12), (turn - 1.16, 0.8), (turn - 1.16, 0.1),
                    ]
                )
            )  # fmt: skip
        elif self._style == "ponytail":
            side = 1.0 if self._head.frame.person.texture_px[1] > 128 else -1.0
            tail = tapered(
                [
                    (turn * 1.5 + side * 0.2, -0.7), (turn * 1.6 + side * 0.95, -0.3), (turn * 1.5 + side * 1.2, 0.7),
                    (turn + side * 1.02, 1.9),
                ],
                [0.2, 0.3, 0.33, 0.1],
                5,
            )  # fmt: skip
            self._lay(tail, relief=1.0, roundness=0.12)
        elif self._style == "bun":
            self._lay(ellipse((turn * 1.2, -1.18), 0.42, 0.36), relief=1.2, roundness=0.14)
        elif self._style == "curly":
            self._lay(self._bumps(turn, 1.34, 1.28, -0.28), relief=0.9, roundness=0.2)

    def _bumps(self, turn: float, half_u: float, half_v: float, centre_v: float) -> Points:
        count = 17
        angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
        seed = self._head.frame.person.texture_px[0]
        radius = 1 + 0.07 * np.sin(angle * 5 + seed) + 0.05 * np.cos(angle * 8 + seed * 2)
        points = np.stack(
            [turn * 0.6 + half_u * radius * np.cos(angle), centre_v + half_v * radius * np.sin(angle)], axis=1
        )
        return smooth_closed(points)

    def paint_over(self) -> None:
        """The hair over the skull and beside the face: paint it after the face (and before a hat)."""
        frame = self._head.frame
        if not self._is_shown:
            self._paint_scalp()
            return
        shift = sin(frame.head_yaw) * 0.55
        if frame.is_turned_away:
            self._paint_back_of_head()
            return
        self._paint_cap(shift)
        if self._style in {"long", "wavy", "bob"}:
            self._paint_locks(shift)

    def _paint_scalp(self) -> None:
        """A shine on a bald head; the short hair under a hat stays hidden."""
        person, frame = self._head.frame.person, self._head.frame
        if self._style == "bald" and not person.hat:
            frame.canvas.darken(
                self._head.points(ellipse((frame.canvas.lamp.toward_x * 0.3, -0.62), 0.3, 0.16)),
                -0.16,
                0.08 * frame.unit_px,
            )

    def _paint_back_of_head(self) -> None:
        if self._style == "curly":
            self._lay(self._bumps(0, 1.3, 1.2, -0.2), roundness=0.24)
            return
        length = {"long": 2.5, "wavy": 2.4, "bob": 1.14}.get(self._style, 0.62)
        width = 1.16 if length > 1 else 1.02
        self._lay(
            smooth_closed(
                [
                    (0, -1.1), (0.62, -0.98), (1.0, -0.6), (width, 0.0), (width, length * 0.55),
                    (width * 0.9, length * 0.92), (0, length), (-width * 0.9, length * 0.92), (-width, length * 0.55),
                    (-width, 0.0), (-1.0, -0.6), (-0.62, -0.98),
                ]
            ),
            drop=0.2,
            roundness=0.3,
        )  # fmt: skip
        if self._style == "ponytail":
            self._lay(
                tapered([(0, -0.4), (0.12, 0.4), (0.0, 1.2), (0.06, 2.1)], [0.16, 0.3, 0.3, 0.08], 5),
                drop=0.4,
                relief=1.1,
                roundness=0.12,
            )
        if self._style == "bun":
            self._lay(ellipse((0, -0.7), 0.44, 0.4), drop=0.4, relief=1.2, roundness=0.14)

    def _paint_cap(self, shift: float) -> None:
        """The hair over the forehead and temples; each style has its own hairline."""
        s = shift
        volume = {
            "buzz": 0.03, "short": 0.1, "side part": 0.12, "quiff": 0.12, "pixie": 0.13, "curly": 0.3, "bun": 0.06,
            "ponytail": 0.06,
        }.get(self._style, 0.13)  # fmt: skip
        side = 1.0 if self._head.frame.person.face[2] > 0 else -1.0
        temple = {
            "buzz": -0.1, "short": 0.02, "side part": 0.05, "quiff": -0.02, "pixie": 0.22, "curly": 0.1, "bun": -0.05,
            "ponytail": -0.02,
        }.get(self._style, 0.3)  # fmt: skip
        back = -s * 0.62
        outer = [
            (1.0 + volume * 0.8 + min(back, 0) * 0.15 + max(back, 0), temple), (1.02 + volume + max(back, 0), -0.3),
            (0.86 + volume + back * 0.6, -0.72 - volume * 0.4), (0.45 + back * 0.5, -1.0 - volume),
        ]  # fmt: skip
        outer += [(back * 0.5, -1.07 - volume)]
        outer += [
            (-0.45 + back * 0.5, -1.0 - volume), (-0.86 - volume + back * 0.6, -0.72 - volume * 0.4),
            (-1.02 - volume + min(back, 0), -0.3), (-1.0 - volume * 0.8 + min(back, 0) - max(back, 0) * 0.15, temple),
        ]  # fmt: skip
        line = {
            "buzz": [(-0.9, -0.35), (-0.62, -0.62), (0, -0.7), (0.62, -0.62), (0.9, -0.35)],
            "short": [
                (-0.9, -0.28), (-0.66, -0.5), (-0.3, -0.55), (0.1, -0.5), (0.5, -0.56), (0.76, -0.46), (0.9, -0.28),
            ],
            "side part": [
                (-0.9, -0.25), (-0.72, -0.5), (side * 0.35, -0.72), (-side * 0.1, -0.5), (-side * 0.5, -0.42),
                (0.74, -0.45), (0.9, -0.25),
            ],
            "quiff": [(-0.9, -0.3), (-0.66, -0.58), (-0.2, -0.7), (0.2, -0.7), (0.66, -0.58), (0.9, -0.3)],
            "pixie": [
                (-0.88, 0.05), (-0.7, -0.35), (-side * 0.4, -0.42), (side * 0.1, -0.3), (side * 0.5, -0.38),
                (0.72, -0.35), (0.88, 0.05),
            ],
            "curly": [
                (-0.86, -0.15), (-0.7, -0.46), (-0.35, -0.52), (0, -0.46), (0.35, -0.54), (0.7, -0.44), (0.86, -0.15),
            ],
            "bun": [(-0.92, -0.2), (-0.66, -0.58), (0, -0.72), (0.66, -0.58), (0.92, -0.2)],
            "ponytail": [
                (-0.92, -0.2), (-0.68, -0.52), (-0.25, -0.6), (side * 0.2, -0.66), (0.68, -0.52), (0.92, -0.2),
            ],
        }.get(
            self._style,
            [
                (-0.84, 0.1), (-0.7, -0.36), (side * 0.12 - 0.2, -0.68), (side * 0.12, -0.8),
                (side * 0.12 + 0.2, -0.68), (0.7, -0.36), (0.84, 0.1),
            ],
        )  # fmt: skip
        if self._style in {"side part", "pixie"}:
            line = sorted(line)
        inner = [(u + s * (1 - 0.35 * abs(u)), v) for u, v in line]
        # The far temple slides to the edge of the silhouette and must not cross it.
        inner = [(float(np.clip(u, -0.99, 0.99)), v) for u, v in inner]
        self._lay(smooth_closed([*outer, *inner], 3), drop=0.35, roundness=0.16, relief=0.75)
        if self._style == "quiff":
            self._lay(
                smooth_closed(
                    [
                        (-0.55 + s, -0.68), (-0.5 + s, -1.08), (0 + s, -1.3), (0.5 + s * 0.6, -1.16), (0.6 + s, -0.7),
                        (0.1 + s, -0.78),
                    ]
                ),
                drop=0.2,
                relief=1.1,
                roundness=0.14,
            )  # fmt: skip

    def _paint_locks(self, shift: float) -> None:
        """Locks beside the face that fall on the shoulders."""
        low = {"long": 2.2, "wavy": 2.05, "bob": 1.0}[self._style]
        wave = 0.1 if self._style == "wavy" else 0.0
        for sign in (-1, 1):
            far = 1 - 0.4 * max(sign * shift, 0)
            path = [
                (sign * 0.9 * far + shift * 0.3, -0.5), (sign * 1.02 * far + shift * 0.1, 0.15),
                (sign * (1.03 + wave) * far, 0.15 + (low - 0.15) * 0.4),
                (sign * (1.02 - wave) * far, 0.15 + (low - 0.15) * 0.75), (sign * (0.9 + wave) * far, low),
            ]  # fmt: skip
            self._lay(
                tapered(path, [0.14, 0.17, 0.24, 0.25, 0.1 if self._style != "bob" else 0.18], 4),
                drop=0.3,
                relief=0.9,
                roundness=0.1,
            )
