"""Predicts the labels of people in photos; people come from the pictures database or a segmentation model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cls.bottle.layout import Bottle
from cls.errors import FileError, PredictionError
from cls.people.photos import Person, read_photo, whole_photo
from cls.people.polygons import largest_first
from cls.prediction.config import PredictConfig
from cls.prediction.sources import FrameInterval, frames_of
from cls.runtimes.classifier import Classifier
from cls.runtimes.local import available_cores
from cls.settings import Settings, project_folder
from cls.wording import counted

DEFAULT_SEGMENTER = Path("person_models") / "best.pt"
NOT_SEGMENTED = "not segmented yet: run `cls segment`, or give a model with --segmenter"

CHUNK = 8


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
        """The people of each photo; None where they are not known. Those whom the segmenter finds come largest first.

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
    config: PredictConfig,
    *,
    videos: Sequence[Path] = (),
    is_whole_offered: bool = True,
) -> PeopleFinder:
    """Looks up what is known of the photos and loads a segmentation model when some are unknown.

    Args:
        bottle: the data folder; its database is asked about photos that lie in its pool, and about no others.
        files: the photos.
        config: which segmentation model, or whether every photo is one person, whole: then nothing is looked up.
        videos: frames of them will be looked at too; nobody knows who is in them.
        is_whole_offered: whether the user may choose whole photos, for the hint.

    Raises:
        PredictionError: no photo's people are known, and there is no segmentation model; or nothing can be opened.
        SegmentationError: the segmentation model cannot be loaded.
        DatabaseError: the pictures database cannot be used.
    """
    if config.whole:
        return PeopleFinder({}, None, is_whole=True)
    known = known_people(bottle, files)
    if config.segmenter is None and len(known) == len(files) and not videos:
        return PeopleFinder(known, None)
    if finder := finder_with_segmenter(known, config, bottle.settings):
        return finder
    if known and not videos:
        return PeopleFinder(known, None)
    _refuse_unreadable(files, videos)
    what = counted(len(files), "photo") if files else "videos"
    raise PredictionError(
        f"it is not known who is in the {what}, and there is no segmentation model",
        code="no_segmentation_model",
        where=DEFAULT_SEGMENTER,
        hint="fetch one there, give one with --segmenter, "
        + ("run `cls segment`, or take whole photos with --whole" if is_whole_offered else "or run `cls segment`"),
    )


def finder_with_segmenter(
    known: dict[Path, tuple[Person, ...]], config: PredictConfig, settings: Settings
) -> PeopleFinder | None:
    """A finder that asks the segmentation model about other photos; None where there is no model.

    Raises:
        SegmentationError: the segmentation model cannot be loaded.
    """
    path = Path(config.segmenter) if config.segmenter is not None else default_segmenter()
    if path is None:
        return None
    from cls.segmentation.segmenter import load_segmenter

    segmenter = load_segmenter(path, people_classes=settings.people_classes)
    return PeopleFinder(known, segmenter, segmenter_file=path)


def _refuse_unreadable(photos: Sequence[Path], videos: Sequence[Path]) -> None:
    """Refuses photos and videos of which none can be opened: no segmentation model would help."""
    first: FileError | None = None
    for file in (*photos, *videos):
        try:
            next(frames_of(file, FrameInterval()), None) if file in videos else read_photo(file)
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


def outlines_json(people: Sequence[Person]) -> str:
    """All of people that their predictions depend on, as text."""
    return json.dumps(
        [[one.cls, one.conf, one.box_xyxy_px, [line.tolist() for line in one.polygons_xy_rel]] for one in people],
        default=float,
    )


def default_segmenter() -> Path | None:
    """The segmentation model that is taken when none is named; None where there is none."""
    for folder in (Path.cwd(), project_folder()):
        if (folder / DEFAULT_SEGMENTER).is_file():
            return folder / DEFAULT_SEGMENTER
    return None


@dataclass(frozen=True)
class PictureSource:
    """What one picture is read from.

    Attributes:
        file: a photo, or a video.
        frame: number of the video's frame, from 0; None for a photo.
    """

    file: Path
    frame: int | None = None
    time_s: float | None = None


@dataclass(frozen=True)
class PhotoPrediction:
    """What was found in one photo.

    Attributes:
        source: the photo, or the video's frame.
        height_px: height as displayed.
        width_px: width as displayed.
        probs: for each classifier, float32 (people, labels).
        crops_rgb: what the first classifier looked at, uint8 (people, height, width, 3).
    """

    source: PictureSource
    height_px: int
    width_px: int
    people: tuple[Person, ...]
    probs: tuple[NDArray[np.float32], ...]
    crops_rgb: NDArray[np.uint8] = field(repr=False)


Read = tuple[PictureSource, NDArray[np.uint8] | FileError]


def predict_photos(
    files: Sequence[Path], classifiers: Sequence[Classifier], finder: PeopleFinder, skipped: dict[Path, str]
) -> Iterator[PhotoPrediction]:
    """Runs classifiers on every person in photos.

    Photos are read ahead in threads while the networks run; people of several photos go through a network together.
    Photos that could not be used are entered into `skipped`, with the reason.

    Yields:
        Predictions in the photos' order, skipped ones left out; a photo with nobody in it has no people.

    Raises:
        PredictionError: a network cannot be run.
    """
    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    for read in read_ahead(chunks):
        missed: dict[PictureSource, str] = {}
        yield from predict_chunk(read, classifiers, finder, missed)
        skipped.update((source.file, reason) for source, reason in missed.items())


def predict_chunk(
    read: Sequence[Read], classifiers: Sequence[Classifier], finder: PeopleFinder, skipped: dict[PictureSource, str]
) -> Iterator[PhotoPrediction]:
    """Runs classifiers on the people of a few pictures that were read; see `predict_photos`."""
    pictures: list[tuple[PictureSource, NDArray[np.uint8]]] = []
    for source, image in read:
        if isinstance(image, FileError):
            skipped[source] = image.what
        else:
            pictures.append((source, image))
    found = finder.find([source.file for source, _ in pictures], [image for _, image in pictures])
    known: list[tuple[PictureSource, NDArray[np.uint8], tuple[Person, ...]]] = []
    for (source, image), people in zip(pictures, found, strict=True):
        if people is None:
            skipped[source] = NOT_SEGMENTED
        else:
            known.append((source, image, people))
    return _of_known(known, classifiers)


def read_ahead(chunks: Sequence[Sequence[Path]]) -> Iterator[list[Read]]:
    """Chunks of decoded photos; the next chunk is read while the caller works on this one."""
    with ThreadPoolExecutor(available_cores()) as pool:
        pending: list[Future[Read]] = []
        for number, chunk in enumerate(chunks):
            futures = pending or [pool.submit(_read, file) for file in chunk]
            following = chunks[number + 1] if number + 1 < len(chunks) else []
            pending = [pool.submit(_read, file) for file in following]
            yield [future.result() for future in futures]


def _of_known(
    pictures: Sequence[tuple[PictureSource, NDArray[np.uint8], tuple[Person, ...]]], classifiers: Sequence[Classifier]
) -> Iterator[PhotoPrediction]:
    """The predictions of a few pictures, their people batched together."""
    places = np.cumsum([0, *(len(people) for _, _, people in pictures)])
    crops_rgb: list[NDArray[np.uint8]] = []
    for prepare in (classifier.preprocessing for classifier in classifiers):
        crops = [prepare.cut(image, person) for _, image, people in pictures for person in people]
        crops_rgb.append(np.stack(crops) if crops else np.zeros((0, prepare.height_px, prepare.width_px, 3), np.uint8))
    probs = [classifier.probabilities(crops) for classifier, crops in zip(classifiers, crops_rgb, strict=True)]
    for number, (source, image, people) in enumerate(pictures):
        part = slice(places[number], places[number + 1])
        own_probs = tuple(table[part] for table in probs)
        yield PhotoPrediction(source, image.shape[0], image.shape[1], people, own_probs, crops_rgb[0][part])


def _read(file: Path) -> Read:
    try:
        return PictureSource(file), read_photo(file)
    except FileError as error:
        return PictureSource(file), error
