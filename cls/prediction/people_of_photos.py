"""Who is in a photo: the pictures database where it knows, a segmentation model where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cls.bottle.layout import Bottle
from cls.errors import FileError, PredictionError
from cls.people.photos import Person, read_photo
from cls.people.polygons import largest_first
from cls.prediction.video import Every, frames_of
from cls.settings import REPOSITORY
from cls.wording import counted

DEFAULT_SEGMENTER = Path("person_models") / "best.pt"
WHOLE_CLASS = "whole photo"
NOT_SEGMENTED = "not segmented yet: run `cls segment`, or give a model with --segmenter"


class _Segmenter(Protocol):
    def predict(self, images_rgb: Sequence[NDArray[np.uint8]]) -> list[list[Person]]: ...


@dataclass
class PeopleFinder:
    """Finds the people of photos. Made by `people_finder`.

    Attributes:
        known: people by file, for the photos that the pictures database knows.
        segmenter: looks at the other photos; None when there is none.
        is_whole: every photo is one person, whole.
        segmenter_file: the segmentation model's file.
    """

    known: dict[Path, tuple[Person, ...]]
    segmenter: _Segmenter | None
    is_whole: bool = False
    segmenter_file: Path | None = None

    def find(self, files: Sequence[Path], images_rgb: Sequence[NDArray[np.uint8]]) -> list[tuple[Person, ...] | None]:
        """The people of each photo; None where nobody can say. Those whom the segmenter finds come largest first.

        Args:
            files: the photos' files.
            images_rgb: the same photos as displayed, uint8 (height, width, 3).
        """
        if self.is_whole:
            return [(whole_photo(image),) for image in images_rgb]
        found: list[tuple[Person, ...] | None] = [self.known.get(file) for file in files]
        unknown = [number for number, people in enumerate(found) if people is None]
        if unknown and self.segmenter is not None:
            answers = self.segmenter.predict([images_rgb[number] for number in unknown])
            for number, people in zip(unknown, answers, strict=True):
                found[number] = largest_first(people)
        return found


def people_finder(
    bottle: Bottle,
    files: Sequence[Path],
    *,
    segmenter_path: Path | None = None,
    is_whole: bool = False,
    videos: Sequence[Path] = (),
    is_whole_offered: bool = True,
) -> PeopleFinder:
    """Looks up what is known of the photos and loads a segmentation model when some are unknown.

    Args:
        bottle: the data folder; its database is asked about photos that lie in its pool, and about no others.
        files: the photos.
        segmenter_path: the segmentation model; `person_models/best.pt` when not given, if that is there.
        is_whole: every photo is one person, whole; nothing is looked up.
        videos: frames of them will be looked at too; nobody knows who is in them.
        is_whole_offered: whether the user may choose `is_whole`, for the hint.

    Raises:
        PredictionError: no photo's people are known, and there is no segmentation model; or nothing can be opened.
        SegmentationError: the segmentation model cannot be loaded.
        DatabaseError: the pictures database cannot be used.
    """
    if is_whole:
        return PeopleFinder({}, None, is_whole=True)
    known = known_people(bottle, files)
    if segmenter_path is None and len(known) == len(files) and not videos:
        return PeopleFinder(known, None)
    path = segmenter_path or default_segmenter()
    what = counted(len(files), "photo") if files else "videos"
    if path is None and (not known or videos):
        _refuse_unreadable(files, videos)
        raise PredictionError(
            f"it is not known who is in the {what}, and there is no segmentation model",
            code="no_segmentation_model",
            where=DEFAULT_SEGMENTER,
            hint="fetch one there, give one with --segmenter, "
            + ("run `cls segment`, or take whole photos with --whole" if is_whole_offered else "or run `cls segment`"),
        )
    if path is None:
        return PeopleFinder(known, None)
    from cls.segmentation.segmenter import load_segmenter

    segmenter = load_segmenter(path, people_classes=bottle.settings.people_classes)
    return PeopleFinder(known, segmenter, segmenter_file=path)


def _refuse_unreadable(photos: Sequence[Path], videos: Sequence[Path]) -> None:
    """Tells of photos and videos of which none can be opened: no segmentation model would help."""
    first: FileError | None = None
    for file in (*photos, *videos):
        try:
            next(frames_of(file, Every()), None) if file in videos else read_photo(file)
        except FileError as error:
            first = first or error
        else:
            return
    if first is not None:
        count = len(photos) + len(videos)
        what = "photos" if not videos else "videos" if not photos else "photos and videos"
        which = f"none of the {count} {what} can be opened; the first one " if count > 1 else ""
        raise PredictionError(
            f"{which}{first.what}", code="no_usable_photo", where=first.where, hint=first.hint or "check the files"
        )


def known_people(bottle: Bottle, files: Sequence[Path]) -> dict[Path, tuple[Person, ...]]:
    """What the pictures database knows of the photos that lie in the bottle's pool."""
    pool = bottle.pictures.resolve()
    pooled = {file.name: file for file in files if file.parent.resolve() == pool}
    if not pooled:
        return {}
    from cls.pictures.database import PicturesDatabase

    with PicturesDatabase.open_for_reading(bottle.database_url) as database:
        records = database.records(pooled)
    return {pooled[name]: record.people for name, record in records.items() if record.people is not None}


def whole_photo(image_rgb: NDArray[np.uint8]) -> Person:
    """A whole photo as one person."""
    height_px, width_px = image_rgb.shape[:2]
    frame = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
    return Person(WHOLE_CLASS, 1.0, (0.0, 0.0, float(width_px), float(height_px)), (frame,))


def default_segmenter() -> Path | None:
    """The segmentation model that is taken when none is named; None where there is none."""
    for folder in (Path.cwd(), REPOSITORY):
        if (folder / DEFAULT_SEGMENTER).is_file():
            return folder / DEFAULT_SEGMENTER
    return None
