"""Do two segmenters say the same of the same photos? People matched one to one, boxes and masks compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cls.people.identity import box_iou
from cls.people.photos import Person
from cls.people.polygons import mask_of_polygons


@dataclass(frozen=True)
class Agreement:
    """How two lists of people, photo by photo, agree.

    Attributes:
        photos: photos compared.
        pairs: people found by both.
        only_first: people that only the first one found.
        only_second: people that only the second one found.
        box_px: largest difference of a box's side among the pairs, in pixels.
        confidence: largest difference of a confidence among the pairs.
        mask_iou_mean: mean intersection over union of the pairs' masks; 1 without pairs.
        mask_iou_min: the lowest one.
    """

    photos: int
    pairs: int
    only_first: int
    only_second: int
    box_px: float
    confidence: float
    mask_iou_mean: float
    mask_iou_min: float


def compare_people(
    first: Sequence[Sequence[Person]],
    second: Sequence[Sequence[Person]],
    sizes_px: Sequence[tuple[int, int]],
    *,
    borderline: float | None = None,
) -> Agreement:
    """Compares what two segmenters found.

    Two people are a pair when they have the same class and their boxes overlap most, by at least a half.

    Args:
        first: people of each photo.
        second: the same photos' people by the other segmenter.
        sizes_px: height and width of each photo.
        borderline: a confidence threshold; people within 0.001 of it that one alone found count as no difference.
    """
    ious: list[float] = []
    boxes_px, confidences = [0.0], [0.0]
    alone = [0, 0]
    for one, other, (height_px, width_px) in zip(first, second, sizes_px, strict=True):
        rest = list(other)
        for person in one:
            partner = _partner(person, rest)
            if partner is None:
                alone[0] += not _is_borderline(person, borderline)
                continue
            rest.remove(partner)
            difference = np.abs(np.subtract(person.box_xyxy_px, partner.box_xyxy_px))
            boxes_px.append(float(difference.max()))
            confidences.append(abs(person.conf - partner.conf))
            ious.append(mask_iou(person, partner, height_px, width_px))
        alone[1] += sum(not _is_borderline(person, borderline) for person in rest)
    return Agreement(
        photos=len(sizes_px),
        pairs=len(ious),
        only_first=alone[0],
        only_second=alone[1],
        box_px=max(boxes_px),
        confidence=max(confidences),
        mask_iou_mean=float(np.mean(ious)) if ious else 1.0,
        mask_iou_min=min(ious, default=1.0),
    )


def _is_borderline(person: Person, threshold: float | None) -> bool:
    return threshold is not None and abs(person.conf - threshold) < 1e-3


def _partner(person: Person, others: Sequence[Person]) -> Person | None:
    candidates = [other for other in others if other.cls == person.cls and box_iou(person, other) >= 0.5]
    return max(candidates, key=lambda other: box_iou(person, other), default=None)


def mask_iou(first: Person, second: Person, height_px: int, width_px: int) -> float:
    """Intersection over union of two people's masks, drawn at the photo's size."""
    one = mask_of_polygons(first.polygons_xy_rel, height_px, width_px) > 0
    other = mask_of_polygons(second.polygons_xy_rel, height_px, width_px) > 0
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0
