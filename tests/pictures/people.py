"""People to store in tests."""

from __future__ import annotations

import numpy as np

from cls.people.photos import Person
from cls.pictures.database import PictureRecord, Status


def person(cls: str = "female", conf: float = 0.9, n_points: int = 5, seed: int = 0) -> Person:
    """A person with one outline of fractions."""
    polygon = np.random.default_rng(seed).uniform(0.2, 0.8, (n_points, 2)).round(6)
    return Person(cls, conf, (10.0, 20.0, 110.5, 220.25), (polygon,))


def record(path: str, *people: Person, status: str = Status.UNCHECKED, model_version: str = "best") -> PictureRecord:
    """A picture that was looked at."""
    return PictureRecord(path, model_version, status, people)


def same(a: Person, b: Person) -> bool:
    """Whether two people are equal, arrays included."""
    return (
        (a.cls, a.conf, a.box_xyxy_px) == (b.cls, b.conf, b.box_xyxy_px)
        and len(a.polygons_xy_rel) == len(b.polygons_xy_rel)
        and all(np.array_equal(p, q) for p, q in zip(a.polygons_xy_rel, b.polygons_xy_rel, strict=True))
    )
