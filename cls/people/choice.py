"""Whom in a photo a label, or a prediction, is about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cls.errors import UsageError
from cls.people.person import Person

LARGEST = "largest"
SINGLE = "single"
ALL = "all"
CHOICES = (LARGEST, SINGLE, ALL)


def choose_people(
    found: Sequence[Person], /, people: str = LARGEST, *, subject: str | None = None
) -> tuple[Person, ...]:
    """Chooses among the people found in a photo.

    Args:
        found: everyone in one photo.
        people: `largest`: the one whose visible outline covers most of the photo (the box's area counts where somebody
            has no outline); of equals the most confident, then the first. `single`: the only one, nobody where there
            are several. `all`: everyone, in the given order.
        subject: a people class, e.g. `female`: others are not looked at. Everyone when None.

    Returns:
        The chosen, maybe nobody.

    Raises:
        UsageError: `people` is none of the three.
    """
    if people not in CHOICES:
        raise UsageError(f"nobody can be chosen by '{people}'", hint=f"use one of {', '.join(CHOICES)}")
    candidates = tuple(person for person in found if subject is None or person.cls == subject)
    if people == ALL or not candidates:
        return candidates
    if people == SINGLE:
        return candidates if len(candidates) == 1 else ()
    return largest_first(candidates)[:1]


def largest_first(people: Sequence[Person]) -> tuple[Person, ...]:
    """The people of a photo, the largest first, as `choose_people` compares them."""
    # Fractions and pixels do not compare: one measure for the whole photo.
    is_outlined = all(outline_area(person) > 0 for person in people)
    areas = [outline_area(person) if is_outlined else person.box_area_px for person in people]
    order = sorted(range(len(people)), key=lambda index: (-areas[index], -people[index].conf, index))
    return tuple(people[index] for index in order)


def outline_area(person: Person) -> float:
    """Area inside a person's outlines as a fraction of the photo; 0.0 without an outline."""
    return sum(_polygon_area(polygon) for polygon in person.polygons_xy_rel)


def _polygon_area(polygon_xy: NDArray[np.float64]) -> float:
    """Area of a simple polygon (shoelace formula)."""
    if len(polygon_xy) < 3:
        return 0.0
    x, y = (polygon_xy - polygon_xy[0]).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
