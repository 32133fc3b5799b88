"""Pure outline geometry: smooth curves, tapered limbs, ellipses. Points are float arrays (n, 2), any one frame.

A figure takes hundreds of outlines, each of a handful of points, so a curve is one product with a cached matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Points: TypeAlias = NDArray[np.float64]
PointsLike: TypeAlias = Points | Sequence[Sequence[float]] | Sequence[Points]


def _span_weights(steps: int) -> NDArray[np.float64]:
    """Catmull-Rom weights (steps, 4) of the four control points around a span, at parameters 0, 1/steps, …."""
    t = np.arange(steps) / steps
    t2, t3 = t * t, t * t * t
    return np.asarray(np.stack([-t3 + 2 * t2 - t, 3 * t3 - 5 * t2 + 2, -3 * t3 + 4 * t2 + t, t3 - t2], axis=1) / 2)


@cache
def _closed_matrix(count: int, steps: int) -> NDArray[np.float64]:
    """The matrix (count * steps, count) that turns control points into a smooth closed outline."""
    weights = _span_weights(steps)
    matrix = np.zeros((count * steps, count))
    for span in range(count):
        for offset in range(4):
            matrix[span * steps : (span + 1) * steps, (span + offset - 1) % count] += weights[:, offset]
    return matrix


@cache
def _open_matrix(count: int, steps: int) -> NDArray[np.float64]:
    """The matrix ((count - 1) * steps + 1, count) that turns control points into a smooth line through them."""
    weights = _span_weights(steps)
    matrix = np.zeros(((count - 1) * steps + 1, count))
    for span in range(count - 1):
        for offset in range(4):
            point = min(max(span + offset - 1, 0), count - 1)
            matrix[span * steps : (span + 1) * steps, point] += weights[:, offset]
    matrix[-1, -1] = 1
    return matrix


@cache
def _tangent_matrix(count: int, steps: int) -> NDArray[np.float64]:
    """The matrix that turns control points into the direction of the smooth line at each of its points."""
    return np.asarray(np.gradient(_open_matrix(count, steps), axis=0))


@cache
def _cap(is_end: bool) -> NDArray[np.float64]:
    """Weights (5, 2) of normal and tangent around a limb's rounded end (or start)."""
    angle = np.linspace(0, np.pi, 7)[1:-1]
    sign = 1 if is_end else -1
    return np.asarray(np.stack([np.cos(angle), np.sin(angle)], axis=1) * sign)


@cache
def _unit_circle(count: int) -> NDArray[np.float64]:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def smooth_closed(points: PointsLike, steps: int = 4) -> Points:
    """A smooth closed outline through `points`, (n * steps, 2), without repeating the first point."""
    control = np.asarray(points, dtype=np.float64)
    return np.asarray(_closed_matrix(len(control), steps) @ control)


def smooth_open(points: PointsLike, steps: int = 4) -> Points:
    """A smooth line through `points` from the first to the last, ((n - 1) * steps + 1, 2)."""
    control = np.asarray(points, dtype=np.float64)
    return np.asarray(_open_matrix(len(control), steps) @ control)


def tapered(path: PointsLike, half_widths: Sequence[float], steps: int = 4, *, is_round: bool = True) -> Points:
    """The outline of a limb along `path` whose half-width at each path point is given; ends rounded by default."""
    control = np.asarray(path, dtype=np.float64)
    smooth = _open_matrix(len(control), steps)
    centre = smooth @ control
    half = smooth @ np.asarray(half_widths, dtype=np.float64)
    tangent = _tangent_matrix(len(control), steps) @ control
    length = np.sqrt(tangent[:, 0] ** 2 + tangent[:, 1] ** 2)
    tangent /= np.maximum(length, 1e-9)[:, None]
    aside = np.empty_like(tangent)
    aside[:, 0] = -tangent[:, 1] * half
    aside[:, 1] = tangent[:, 0] * half
    left, right = centre + aside, (centre - aside)[::-1]
    if not is_round:
        return np.concatenate([left, right])
    end = centre[-1] + _cap(True) @ np.stack([aside[-1], tangent[-1] * half[-1]])
    start = centre[0] + _cap(False) @ np.stack([aside[0], tangent[0] * half[0]])
    return np.concatenate([left, end, right, start])


def ellipse(
    centre: Points | Sequence[float], half_x: float, half_y: float, angle_rad: float = 0.0, count: int = 20
) -> Points:
    """An ellipse's outline (count, 2); `angle_rad` turns it clockwise on screen."""
    outline = _unit_circle(count) * (half_x, half_y)
    if angle_rad:
        c, s = np.cos(angle_rad), np.sin(angle_rad)
        outline = outline @ np.array([[c, s], [-s, c]])
    return np.asarray(outline + np.asarray(centre, dtype=np.float64))


def convex_hull(points: PointsLike) -> Points:
    """The convex outline around `points`, without repeated points (monotone chain)."""
    ordered = sorted({(float(x), float(y)) for x, y in np.asarray(points, dtype=np.float64)})
    if len(ordered) < 3:
        return np.array(ordered)

    def half(sequence: list[tuple[float, float]]) -> list[tuple[float, float]]:
        chain: list[tuple[float, float]] = []
        for x, y in sequence:
            while len(chain) >= 2:
                (ax, ay), (bx, by) = chain[-2], chain[-1]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                chain.pop()
            chain.append((x, y))
        return chain[:-1]

    return np.array(half(ordered) + half(ordered[::-1]))


def area(outline: PointsLike) -> float:
    """The area an outline encloses (shoelace), never negative."""
    x, y = np.asarray(outline, dtype=np.float64).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
