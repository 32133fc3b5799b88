"""The settings of segmentation and of the mask gallery. An option is declared once, at its field."""

from __future__ import annotations

from dataclasses import dataclass

from cls.options import check_options, option
from cls.people import CHOICES, LARGEST


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """Which people a segmentation model finds. Checked when made: all problems are listed at once."""

    confidence: float = option(0.4, "", "lowest confidence of a person", gt=0, lt=1, metavar="C")
    image_size_px: int | None = option(
        None,
        "",
        "longer side that photos are scaled to",
        flag="--image-size",
        ge=1,
        metavar="PX",
        unset="the training size",
    )
    only_mapped: bool = option(
        False, "", "leave out classes that people_classes of the configuration lacks", is_switch=True
    )
    classes: tuple[str, ...] | None = option(
        None, "", "leave out people classes other than these, e.g. female male", metavar="NAME", unset="all classes"
    )

    def __post_init__(self) -> None:
        check_options(self, "cls segment")


@dataclass(frozen=True, kw_only=True)
class SegmentConfig(SegmenterConfig):
    """How the photos of a bottle are segmented. Checked when made: all problems are listed at once."""

    process_all: bool = option(False, "", "also do pictures again that have a row", is_switch=True)
    mark_approved: bool = option(False, "", "write status approved instead of unchecked", is_switch=True)
    batch: int = option(16, "", "photos predicted and written at a time", ge=1)


@dataclass(frozen=True)
class GalleryConfig:
    """What a gallery shows. Checked when made: all problems are listed at once."""

    people: str = option(LARGEST, "", "people used of each photo: the largest, the only one, or all", choices=CHOICES)
    subject: str | None = option(None, "", "people of this class only, e.g. female", metavar="CLASS", unset="everyone")
    size_px: int = option(
        512, "", "longest side of a cut-out, at most; smaller ones are not enlarged", flag="--size", ge=32, metavar="PX"
    )
    format: str = option("png", "", "png: transparent; jpg: on grey", choices=("png", "jpg"))

    def __post_init__(self) -> None:
        check_options(self, "cls masks")
