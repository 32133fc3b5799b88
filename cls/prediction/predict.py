"""Photos in, people with probabilities out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cls.errors import FileError
from cls.people.person import Person
from cls.people.photos import read_photo
from cls.prediction.local import available_cores
from cls.prediction.people_of_photos import NOT_SEGMENTED, PeopleFinder
from cls.prediction.runtime import Classifier

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_CHUNK = 8


@dataclass(frozen=True)
class PhotoPrediction:
    """What was found in one photo.

    Attributes:
        file: the photo.
        height_px: height as displayed.
        width_px: width as displayed.
        people: who is in it.
        probs: for each classifier, float32 (people, labels).
        crops_rgb: what the first classifier looked at, uint8 (people, height, width, 3).
    """

    file: Path
    height_px: int
    width_px: int
    people: tuple[Person, ...]
    probs: tuple[NDArray[np.float32], ...]
    crops_rgb: NDArray[np.uint8] = field(repr=False)


def photos_below(source: Path) -> list[Path]:
    """The photos in a folder and the folders below, in order of their names; a single file stands for itself.

    Raises:
        FileError: there is no such folder, or no photo in it.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise FileError("there is no such folder", where=source, hint="give a folder of photos with --source")
    files = sorted(
        file
        for file in source.rglob("*")
        if file.suffix.lower() in PHOTO_SUFFIXES and not file.name.startswith(".") and file.is_file()
    )
    if not files:
        raise FileError(f"holds no photo ({', '.join(PHOTO_SUFFIXES)})", where=source, hint="give another --source")
    return files


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
    for read in _read_ahead(files):
        photos: list[tuple[Path, NDArray[np.uint8]]] = []
        for file, image in read:
            if isinstance(image, FileError):
                skipped[file] = image.what
            else:
                photos.append((file, image))
        found = finder.find([file for file, _ in photos], [image for _, image in photos])
        known: list[tuple[Path, NDArray[np.uint8], tuple[Person, ...]]] = []
        for (file, image), people in zip(photos, found, strict=True):
            if people is None:
                skipped[file] = NOT_SEGMENTED
            else:
                known.append((file, image, people))
        yield from _of_chunk(known, classifiers)


def _of_chunk(
    photos: Sequence[tuple[Path, NDArray[np.uint8], tuple[Person, ...]]], classifiers: Sequence[Classifier]
) -> Iterator[PhotoPrediction]:
    """The predictions of a few photos, their people batched together."""
    places = np.cumsum([0, *(len(people) for _, _, people in photos)])
    probs: list[NDArray[np.float32]] = []
    first_crops: NDArray[np.uint8] | None = None
    for classifier in classifiers:
        prepare = classifier.preprocessing
        crops = [prepare.cut(image, person) for _, image, people in photos for person in people]
        stacked = np.stack(crops) if crops else np.zeros((0, prepare.height_px, prepare.width_px, 3), np.uint8)
        first_crops = stacked if first_crops is None else first_crops
        probs.append(classifier.probabilities(stacked))
    for number, (file, image, people) in enumerate(photos):
        part = slice(places[number], places[number + 1])
        crops_rgb = first_crops[part] if first_crops is not None else np.zeros((0, 1, 1, 3), np.uint8)
        yield PhotoPrediction(
            file, image.shape[0], image.shape[1], people, tuple(table[part] for table in probs), crops_rgb
        )


def _read(file: Path) -> tuple[Path, NDArray[np.uint8] | FileError]:
    try:
        return file, read_photo(file)
    except FileError as error:
        return file, error


def _read_ahead(files: Sequence[Path]) -> Iterator[list[tuple[Path, NDArray[np.uint8] | FileError]]]:
    """Chunks of decoded photos; the next chunk is read while the caller works on this one."""
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    with ThreadPoolExecutor(available_cores()) as pool:
        pending: list[Future[tuple[Path, NDArray[np.uint8] | FileError]]] = []
        for number, chunk in enumerate(chunks):
            futures = pending or [pool.submit(_read, file) for file in chunk]
            following = chunks[number + 1] if number + 1 < len(chunks) else []
            pending = [pool.submit(_read, file) for file in following]
            yield [future.result() for future in futures]
