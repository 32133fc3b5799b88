"""Pure outline geometry: smooth curves, tapered limbs, ellipses. Points are float arrays (n, 2), any one frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Points: TypeAlias = "NDArray[np.float64]"
    PointsLike: TypeAlias = "Points | Sequence[Sequence[float]] | Sequence[Points]"


def _catmull_rom_weights(steps: int) -> NDArray[np.float64]:
    """Weights (steps, 4) of the four control points around a span, for parameters 0, 1/steps, …"""
    t = np.arange(steps) / steps
    t2, t3 = t * t, t * t * t
    return np.stack([-t3 + 2 * t2 - t, 3 * t3 - 5 * t2 + 2, -3 * t3 + 4 * t2 + t, t3 - t2], axis=1) / 2


_WEIGHTS = {steps: _catmull_rom_weights(steps) for steps in (2, 3, 4, 5, 6, 8)}


def smooth_closed(points: PointsLike, steps: int = 4) -> Points:
    """A smooth closed outline through `points`, (n * steps, 2), without repeating the first point."""
    control = np.asarray(points, dtype=np.float64)
    window = np.stack([np.roll(control, 1, 0), control, np.roll(control, -1, 0), np.roll(control, -2, 0)])
    return np.einsum("sk,knd->nsd", _WEIGHTS[steps], window).reshape(-1, 2)


def smooth_open(points: PointsLike, steps: int = 4) -> Points:
    """A smooth line through `points` from the first to the last, ((n - 1) * steps + 1, 2)."""
    control = np.asarray(points, dtype=np.float64)
    padded = np.concatenate([control[:1], control, control[-1:]])
    window = np.stack([padded[:-3], padded[1:-2], padded[2:-1], padded[3:]])
    line = np.einsum("sk,knd->nsd", _WEIGHTS[steps], window).reshape(-1, control.shape[1])
    return np.concatenate([line, control[-1:]])


def tapered(path: PointsLike, half_widths: Sequence[float], steps: int = 4, *, is_round: bool = True) -> Points:
    """The outline of a limb along `path` whose half-width at each path point is given; ends rounded by default."""
    spine = np.concatenate(
        [np.asarray(path, dtype=np.float64), np.asarray(half_widths, dtype=np.float64)[:, None]], axis=1
    )
    line = smooth_open(spine, steps)
    centre, half = line[:, :2], line[:, 2:]
    tangent = np.gradient(centre, axis=0)
    tangent /= np.maximum(np.hypot(tangent[:, :1], tangent[:, 1:]), 1e-9)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    left, right = centre + normal * half, centre - normal * half
    if not is_round:
        return np.concatenate([left, right[::-1]])
    angle = np.linspace(0, np.pi, 7)[1:-1, None]
    end = centre[-1] + half[-1] * (np.cos(angle) * normal[-1] + np.sin(angle) * tangent[-1])
    start = centre[0] - half[0] * (np.cos(angle) * normal[0] + np.sin(angle) * tangent[0])
    return np.concatenate([left, end, right[::-1], start])


def ellipse(
    centre: PointsLike | Sequence[float], half_x: float, half_y: float, angle_rad: float = 0.0, count: int = 20
) -> Points:
    """An ellipse's outline (count, 2); `angle_rad` turns it clockwise on screen."""
    t = np.linspace(0, 2 * np.pi, count, endpoint=False)
    x, y = half_x * np.cos(t), half_y * np.sin(t)
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.stack([x * c - y * s, x * s + y * c], axis=1) + np.asarray(centre, dtype=np.float64)


def convex_hull(points: PointsLike) -> Points:
    """The convex outline around `points`, without repeated points (monotone chain)."""
    ordered = sorted({(float(x), float(y)) for x, y in np.asarray(points, dtype=np.float64)})
    if len(ordered) < 3:
        return np.array(ordered)

    def half(sequence: list[tuple[float, float]]) -> list[tuple[float, float]]:
        chain: list[tuple[float, float]] = []
        for p in sequence:
            while len(chain) >= 2 and (
                (chain[-1][0] - chain[-2][0]) * (p[1] - chain[-2][1])
                - (chain[-1][1] - chain[-2][1]) * (p[0] - chain[-2][0])
                <= 0
            ):
                chain.pop()
            chain.append(p)
        return chain[:-1]

    return np.array(half(ordered) + half(ordered[::-1]))


def area(outline: PointsLike) -> float:
    """The area an outline encloses (shoelace), never negative."""
    x, y = np.asarray(outline, dtype=np.float64).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
