"""One person found in a photo."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Person:
    """A person as a segmentation model found it.

    Attributes:
        cls: people class, e.g. `female`, `male`, `person`.
        conf: confidence, 0 to 1.
        box_xyxy_px: left, top, right, bottom in pixels of the photo as displayed (EXIF orientation applied); four zeros
            where a stored person has outlines and no box.
        polygons_xy_rel: outlines of the visible parts, each float64 of shape (points, 2), as fractions of width and
            height.
        id: stable name of the person, unique in the photo (`cls.people.identity`); empty where nobody has given one.
    """

    cls: str
    conf: float
    box_xyxy_px: tuple[float, float, float, float]
    polygons_xy_rel: tuple[NDArray[np.float64], ...] = field(repr=False)
    id: str = ""

    @property
    def box_area_px(self) -> float:
        """Area of the box in square pixels."""
        left, top, right, bottom = self.box_xyxy_px
        return max(right - left, 0.0) * max(bottom - top, 0.0)
