from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cls.people.polygons import mask_of_polygons
from cls.yolo.dataset import joined_outline


def star(centre: tuple[float, float], radii: list[float]) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array(radii)[:, None] + centre


stars = st.lists(st.lists(st.floats(0.05, 0.14), min_size=5, max_size=14), min_size=1, max_size=4)


@given(stars)
def test_the_line_fills_what_the_parts_fill(radii: list[list[float]]) -> None:
    centres = [(0.2, 0.2), (0.8, 0.25), (0.25, 0.8), (0.75, 0.75)]
    parts = [star(centre, one) for centre, one in zip(centres, radii, strict=False)]
    truth = mask_of_polygons(parts, 200, 300) > 0
    line = mask_of_polygons([joined_outline(parts)], 200, 300) > 0
    # Bridges have no width, but their own pixels are drawn.
    assert (truth & ~line).sum() == 0
    assert (line & ~truth).sum() <= 300 * (len(parts) - 1)


def test_one_part_stays_as_it_is() -> None:
    part = star((0.5, 0.5), [0.1] * 6)
    assert (joined_outline([part]) == part).all()
