"""Photos in, people with probabilities out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cls.errors import FileError
from cls.people.photos import Person, read_photo
from cls.prediction.people_of_photos import NOT_SEGMENTED, PeopleFinder
from cls.runtimes.classifier import Classifier
from cls.runtimes.local import available_cores

CHUNK = 8


@dataclass(frozen=True)
class PictureSource:
    """What one picture is read from.

    Attributes:
        file: a photo, or a video.
        frame: number of the video's frame, from 0; None for a photo.
        time_s: when in the video.
    """

    file: Path
    frame: int | None = None
    time_s: float | None = None


@dataclass(frozen=True)
class PhotoPrediction:
    """What was found in one photo.

    Attributes:
        file: the photo, or the video.
        height_px: height as displayed.
        width_px: width as displayed.
        people: who is in it.
        probs: for each classifier, float32 (people, labels).
        crops_rgb: what the first classifier looked at, uint8 (people, height, width, 3).
        source: the file with the frame.
    """

    file: Path
    height_px: int
    width_px: int
    people: tuple[Person, ...]
    probs: tuple[NDArray[np.float32], ...]
    crops_rgb: NDArray[np.uint8] = field(repr=False)
    source: PictureSource


Read = tuple[PictureSource, NDArray[np.uint8] | FileError]


def predict_photos(
    files: Sequence[Path], classifiers: Sequence[Classifier], finder: PeopleFinder, skipped: dict[Path, str]
) -> Iterator[PhotoPrediction]:
    """Runs classifiers on every person in photos.

    Photos are read ahead in threads while the networks run; people of several photos go through a network together.

    Args:
        files: the photos.
        classifiers: at least one.
        finder: says who is in a photo.
        skipped: filled with photos that could not be used, and why.

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
    probs: list[NDArray[np.float32]] = []
    first_crops: NDArray[np.uint8] | None = None
    for classifier in classifiers:
        prepare = classifier.preprocessing
        crops = [prepare.cut(image, person) for _, image, people in pictures for person in people]
        stacked = np.stack(crops) if crops else np.zeros((0, prepare.height_px, prepare.width_px, 3), np.uint8)
        first_crops = stacked if first_crops is None else first_crops
        probs.append(classifier.probabilities(stacked))
    for number, (source, image, people) in enumerate(pictures):
        part = slice(places[number], places[number + 1])
        crops_rgb = first_crops[part] if first_crops is not None else np.zeros((0, 1, 1, 3), np.uint8)
        own_probs = tuple(table[part] for table in probs)
        yield PhotoPrediction(source.file, image.shape[0], image.shape[1], people, own_probs, crops_rgb, source)


def _read(file: Path) -> Read:
    try:
        return PictureSource(file), read_photo(file)
    except FileError as error:
        return PictureSource(file), error
