"""The settings of a sample set. An option is declared once, at its field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cls.options import check_options, option, options_of

if TYPE_CHECKING:
    import numpy as np

_SIDES_PX = range(96, 4097)
_SIZE = re.compile(r"(\d{1,4})[xX](\d{1,4})")


@dataclass(frozen=True)
class SampleConfig:
    """One set's parameters. Two sets with the same parameters hold the same bytes, however many workers draw them.

    Raises:
        UsageError: parameters are out of range; lists them all.
    """

    photos: int = option(200, "", "how many photos", ge=1)
    seed: int = option(0, "", "same seed and options, same bytes", ge=0)
    size: str = option(
        "640x480",
        "",
        "width and height of the photos in pixels",
        metavar="WxH",
        pattern=_SIZE.pattern,
        values=f"WIDTHxHEIGHT, each from {_SIDES_PX[0]} to {_SIDES_PX[-1]}",
    )
    wrong_labels: float = option(0.0, "", "share of photos with a wrong label", ge=0, le=1)
    corrupt: float = option(0.0, "", "share of broken image files", ge=0, le=1)
    archives: bool = option(
        False, "", "also write archives/part_NNN.zip, the shape of a CVAT export (COCO 1.0)", is_switch=True
    )
    workers: int | None = option(None, "", "processes that draw", ge=1, unset="all cores")

    def __post_init__(self) -> None:
        size = options_of(SampleConfig)["size"]
        is_out_of_range = size.takes(self.size) and not {self.width_px, self.height_px} <= set(_SIDES_PX)
        check_options(self, "cls sample make", [size.fault(self.size)] if is_out_of_range else [])

    @property
    def width_px(self) -> int:
        """Width of the photos."""
        return self._side_px(1)

    @property
    def height_px(self) -> int:
        """Height of the photos."""
        return self._side_px(2)

    def _side_px(self, group: int) -> int:
        found = _SIZE.fullmatch(self.size)
        return 0 if found is None else int(found[group])

    def stream(self, *key: int) -> np.random.Generator:
        """A source of random numbers for one purpose (and index) of this set."""
        import numpy as np

        return np.random.default_rng([self.seed, *key])
