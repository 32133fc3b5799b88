"""Necklines and closings of tops: collar and buttons, zip, lapels, hood, turtleneck, ribbing."""

# ruff: noqa: RUF005 - a point is an array: adding an offset moves it

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cls.sample.canvas import Cloth
from cls.sample.curves import ellipse, smooth_closed, smooth_open, tapered
from cls.sample.figure import palette

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cls.sample.figure.body import Frame


@dataclass(frozen=True)
class Neckline:
    """Where a neckline is, in head heights: pit of the neck, its lowest point, middle of the hem, half its width."""

    frame: Frame
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
            self.frame.canvas.stain(self.frame.outline(button), palette.scaled(self.frame.person.top.colour, tone), 0.9)

    def opening(self, darkness: float) -> None:
        """The line where the two halves of the front meet."""
        line = tapered([self.middle, (self.middle + self.hem) / 2, self.hem + (0, -0.04)], [0.012, 0.013, 0.012], 3)
        self.frame.canvas.darken(self.frame.outline(line + (0.045, 0)), darkness)


def _collar(line: Neckline) -> None:
    frame, neck, middle, width = line.frame, line.neck, line.middle, line.open_width
    line.opening(0.2)
    for sign in (-1, 1):
        flap = smooth_closed(
            [
                neck + (sign * width * 1.02, -0.12),
                neck + (sign * width * 1.1, 0.06),
                middle + (sign * 0.2, 0.13),
                middle,
            ],
            2,
        )
        cloth = frame.cloth(frame.person.top, sign * 0.8, folds=0)
        frame.canvas.paint(frame.outline(flap), cloth, 0.05 * frame.unit_px, drop=0.3, relief=0.6)
    line.buttons([0.16, 0.34, 0.53, 0.71, 0.9], 0.024, 0.62)


def _zip(line: Neckline) -> None:
    frame, neck, middle, width = line.frame, line.neck, line.middle, line.open_width
    line.opening(0.35)
    for sign in (-1, 1):
        stand = [neck + (sign * width, -0.2), neck + (sign * width * 0.7, 0.02), middle + (sign * 0.02, 0.02)]
        flap = tapered(stand, [0.05, 0.1, 0.06], 3)
        frame.canvas.paint(frame.outline(flap), line.darker(), 0.06 * frame.unit_px, drop=0.3)
    teeth = tapered([middle, line.hem + (0, -0.05)], [0.012, 0.012], 2)
    frame.canvas.stain(frame.outline(teeth), (190, 190, 190), 0.7)


def _lapel(line: Neckline) -> None:
    frame, neck, middle, width = line.frame, line.neck, line.middle, line.open_width
    line.opening(0.35)
    low = middle + (line.hem - middle) * 0.22
    for sign in (-1, 1):
        outer = [neck + (sign * width, -0.14), neck + (sign * width * 1.35, 0.1), middle + (sign * 0.34, 0.24)]
        lapel = smooth_closed([*outer, middle + (sign * 0.2, 0.3), low, middle + (sign * 0.02, 0.0)], 2)
        cloth = frame.cloth(frame.person.top, sign * 0.5, folds=0)
        frame.canvas.paint(frame.outline(lapel), cloth, 0.06 * frame.unit_px, drop=0.35, relief=0.7)
    line.buttons([0.36, 0.58, 0.8], 0.035, 0.5, 0.09)


def _hood(line: Neckline) -> None:
    frame, neck, middle, hem = line.frame, line.neck, line.middle, line.hem
    rim = [neck + (-0.46, -0.1), neck + (-0.36, 0.12), middle + (0, 0.1), neck + (0.36, 0.12), neck + (0.46, -0.1)]
    ring = tapered(rim, [0.07, 0.11, 0.1, 0.11, 0.07], 4)
    frame.canvas.paint(frame.outline(ring), frame.cloth(frame.person.top, folds=0.1), 0.08 * frame.unit_px, drop=0.35)
    for sign in (-1, 1):
        path = [middle + (sign * 0.16, 0.14), middle + (sign * 0.15, 0.38), middle + (sign * 0.17, 0.56)]
        frame.canvas.stain(frame.outline(tapered(path, [0.014, 0.014, 0.018], 3)), (236, 234, 228), 0.95)
    pocket = smooth_closed([hem + (-0.3, -0.58), hem + (0.3, -0.58), hem + (0.44, -0.2), hem + (-0.44, -0.2)], 2)
    frame.canvas.darken(frame.outline(pocket), 0.07, 0.03 * frame.unit_px)


def _turtle(line: Neckline) -> None:
    frame, neck = line.frame, line.neck
    up = frame.skeleton.head[:2] - neck
    roll = tapered([neck + (0, 0.1), neck + up * 0.38], [0.36, 0.33], 3, is_round=False)
    frame.canvas.paint(frame.outline(roll), line.darker(), 0.14 * frame.unit_px, drop=0.2)


def _ribbing(line: Neckline) -> None:
    frame, neck, middle, width = line.frame, line.neck, line.middle, line.open_width
    depth = (middle - neck)[1] * 0.55
    left = [neck + (-width * 0.98, -0.05), neck + (-width * 0.7, depth)]
    right = [neck + (width * 0.7, depth), neck + (width * 0.98, -0.05)]
    rib = smooth_open([*left, middle + (0, 0.01), *right])
    frame.canvas.darken(frame.outline(tapered(rib, [0.03] * len(rib), 2)), 0.12)


_FRONTS: dict[str, Callable[[Neckline], None]] = {
    "collar": _collar,
    "zip": _zip,
    "lapel": _lapel,
    "hood": _hood,
    "turtle": _turtle,
    "crew": _ribbing,
    "vee": _ribbing,
    "scoop": _ribbing,
}


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
        frame.canvas.paint(frame.outline(hood), line.darker(), 0.16 * frame.unit_px, drop=0.3)
    elif style in {"collar", "lapel", "zip"}:
        band = tapered([neck + (-0.34, 0.04), neck, neck + (0.34, 0.04)], [0.08, 0.1, 0.08], 3)
        frame.canvas.paint(frame.outline(band), line.darker(), 0.06 * frame.unit_px)
