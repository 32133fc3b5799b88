"""Who is who in a photo: the id of a person, and the same people in two segmentations of one photo."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from cls.people.photos import Person
from cls.people.polygons import draw_polygons

_BOX_DECIMALS = 2
_POLYGON_DECIMALS = 6
# Above one half, a mask overlaps at most one of several that do not overlap each other (Kirillov et al., Panoptic
# Segmentation, CVPR 2019, section 4.1): nobody can be taken for two people.
SAME_PERSON_IOU = 0.5
_IOU_CELLS = 256
_ID_DIGITS = 15
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_id(value: object) -> TypeGuard[str]:
    """Whether a value can be a person's id: 1 to 64 ASCII letters, digits, `-` and `_`."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def identified(path: str, people: Sequence[Person], taken: Collection[str] = ()) -> tuple[Person, ...]:
    """The people of a photo, each with an id; who has one keeps it.

    Other ids are derived from the picture's name and the person's box and outlines: the same stored row gives the same
    ids at any time and on any machine, and two people never share one, however alike their outlines are. An id is `p`
    and 15 hexadecimal digits, so that no spreadsheet takes it for a number.

    Args:
        path: the picture's name.
        people: everyone in it. Of several with one id, the first one keeps it.
        taken: ids that nobody else may get.
    """
    given = [person.id for person in people]
    used = {*taken, *given}
    result = []
    for place, person in enumerate(people):
        is_kept = person.id and person.id not in given[:place]
        one = person if is_kept else replace(person, id=_derived_id(path, person, used))
        used.add(one.id)
        result.append(one)
    return tuple(result)


def _derived_id(path: str, person: Person, used: Collection[str]) -> str:
    digest = hashlib.sha256(path.encode(errors="surrogatepass") + b"\0")
    digest.update(_bytes_of(rounded_box(person)))
    for polygon in person.polygons_xy_rel:
        digest.update(b"%d " % len(polygon) + _bytes_of(rounded_polygon(polygon)))
    number = 0
    while True:  # people with the same outline are distinguished by their order
        numbered = digest.copy()
        numbered.update(b"%d" % number)
        found = f"p{numbered.hexdigest()[:_ID_DIGITS]}"
        if found not in used:
            return found
        number += 1


def rounded_box(person: Person) -> list[float]:
    """A person's box as it is stored: left, top, right, bottom in pixels, to 2 decimals."""
    return [round(float(value), _BOX_DECIMALS) for value in person.box_xyxy_px]


def rounded_polygon(polygon_xy_rel: NDArray[np.float64]) -> NDArray[np.float64]:
    """An outline as it is stored, float64 (points, 2): to 6 decimals, a hundredth of a pixel in the largest photo."""
    return np.round(np.asarray(polygon_xy_rel, np.float64).reshape(-1, 2), _POLYGON_DECIMALS)


def _bytes_of(values: Sequence[float] | NDArray[np.float64]) -> bytes:
    return (np.asarray(values, np.float64) + 0.0).astype("<f8").tobytes()  # + 0.0: -0.0 and 0.0 are one number


def same_people(before: Sequence[Person], after: Sequence[Person]) -> dict[int, int]:
    """Who of a photo's people was there before, by the overlap of masks.

    Pairs with the highest intersection over union find each other first; it must be above one half. Between equal ones,
    those of the same class go first, then the earlier ones. Where one of two people has no outline, their boxes are
    compared.

    Returns:
        Place in `after` -> place in `before`, each at most once.
    """
    overlaps = []
    for new, person in enumerate(after):
        for old, other in enumerate(before):
            iou = person_iou(person, other)
            if iou > SAME_PERSON_IOU:
                overlaps.append((-iou, person.cls != other.cls, new, old))
    pairs: dict[int, int] = {}
    for _, _, new, old in sorted(overlaps):
        if new not in pairs and old not in pairs.values():
            pairs[new] = old
    return pairs


def person_iou(first: Person, second: Person) -> float:
    """Intersection over union of two people's masks, 0 to 1; of their boxes where one of them has no outline."""
    outlines = [person.polygons_xy_rel for person in (first, second)]
    if not all(outlines):
        return box_iou(first, second)
    corners = [(np.min([p.min(0) for p in parts], 0), np.max([p.max(0) for p in parts], 0)) for parts in outlines]
    low, high = np.minimum(corners[0][0], corners[1][0]), np.maximum(corners[0][1], corners[1][1])
    if (np.maximum(corners[0][0], corners[1][0]) > np.minimum(corners[0][1], corners[1][1])).any():
        return 0.0
    # Drawn where the two are: small people are compared as finely as large ones.
    scale = _IOU_CELLS / np.maximum(high - low, 1e-9)
    one, two = (
        draw_polygons([(polygon - low) * scale for polygon in parts], _IOU_CELLS, _IOU_CELLS) > 0 for parts in outlines
    )
    union = np.count_nonzero(one | two)
    return np.count_nonzero(one & two) / union if union else 0.0


def box_iou(first: Person, second: Person) -> float:
    """Intersection over union of two people's boxes; 0.0 where one has none."""
    left, top = np.maximum(first.box_xyxy_px[:2], second.box_xyxy_px[:2])
    right, bottom = np.minimum(first.box_xyxy_px[2:], second.box_xyxy_px[2:])
    common = max(right - left, 0.0) * max(bottom - top, 0.0)
    union = first.box_area_px + second.box_area_px - common
    return float(common / union) if union > 0 else 0.0
