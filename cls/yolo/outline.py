"""Several outlines of one person as the single closed line that YOLO's label files hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def joined_outline(polygons: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """One closed line through all parts: each is joined by a bridge of no width between the nearest points.

    Filling the line fills exactly the parts.

    Args:
        polygons: outlines, each (points, 2), at least one.

    Returns:
        float64 (points, 2).
    """
    parts = sorted((part for part in polygons if len(part) >= 3), key=len, reverse=True)
    line = parts[0]
    for part in parts[1:]:
        distances = ((line[:, None] - part[None]) ** 2).sum(axis=2)
        here, there = np.unravel_index(int(distances.argmin()), distances.shape)
        detour = np.concatenate([np.roll(part, -int(there), axis=0), part[there : there + 1]])
        line = np.concatenate([line[: here + 1], detour, line[here:]])
    return line
