"""The Python interface: open a model, give it photos, get the people in them with their labels.

import cls

model = cls.open_model("model_onnx.zip")
people = model("photo.jpg")
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from cls.bottle.layout import Bottle
from cls.errors import FileError, PredictionError
from cls.package.keys import trusted_keys
from cls.people.photos import decode_photo, photo_of_array, photo_of_pil, read_photo
from cls.prediction.people_of_photos import DEFAULT_SEGMENTER, PeopleFinder, default_segmenter
from cls.prediction.predict import CHUNK, Shot, predict_chunk
from cls.runtimes.classifier import Classifier
from cls.runtimes.open import open_classifier
from cls.settings import load_settings

if TYPE_CHECKING:
    from PIL.Image import Image

    # A file, a file's bytes, an array (RGB) or a Pillow picture.
    Photo = str | os.PathLike[str] | bytes | NDArray[np.uint8] | NDArray[np.uint16] | Image


@dataclass(frozen=True)
class LabelledPerson:
    """One person of a photo.

    Attributes:
        box_xyxy_px: left, top, right, bottom in pixels of the photo as displayed.
        outline_xy_rel: the visible parts, each float64 (points, 2), as fractions of the photo's width and height.
        person_class: e.g. `female`.
        conf: confidence that it is a person, 0 to 1.
        labels: the labels chosen, in the model's order.
        probabilities: label -> probability, in the model's order.
    """

    box_xyxy_px: tuple[float, float, float, float]
    outline_xy_rel: tuple[NDArray[np.float64], ...] = field(repr=False)
    person_class: str
    conf: float
    labels: tuple[str, ...]
    probabilities: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "box_xyxy_px": list(self.box_xyxy_px),
            "outline_xy_rel": [part.tolist() for part in self.outline_xy_rel],
            "person_class": self.person_class,
            "conf": self.conf,
            "labels": list(self.labels),
            "probabilities": dict(self.probabilities),
        }


class PeopleModel:
    """A classifier with whatever finds the people. Made by `open_model`.

    Attributes:
        classifier: group, labels, thresholds, preprocessing, runtime.
    """

    def __init__(self, classifier: Classifier, finder: PeopleFinder) -> None:
        self.classifier = classifier
        self._finder = finder

    @property
    def labels(self) -> tuple[str, ...]:
        """In output order."""
        return self.classifier.labels

    @overload
    def __call__(self, photos: Photo) -> list[LabelledPerson]: ...  # type: ignore[overload-overlap]  # a path is a sequence too

    @overload
    def __call__(self, photos: Sequence[Photo]) -> list[list[LabelledPerson]]: ...

    def __call__(self, photos: Photo | Sequence[Photo]) -> list[LabelledPerson] | list[list[LabelledPerson]]:
        """Finds the people of a photo, or of each of several.

        Args:
            photos: a path, a file's bytes, an array uint8 or uint16 (height, width, 3) RGB (also grey, and with
                alpha), or a Pillow picture; or a list of these.

        Returns:
            The people of the photo, surest first; for a list, such a list for each photo.

        Raises:
            FileError: a photo cannot be read.
            PredictionError: the network cannot be run.
        """
        if isinstance(photos, Sequence) and not isinstance(photos, str | bytes):
            return list(self.each(photos))
        return next(self.each([photos]))

    def each(self, photos: Iterable[Photo]) -> Iterator[list[LabelledPerson]]:
        """The people of each photo, one photo after another, for more photos than memory holds; see `__call__`."""
        numbered = enumerate(photos)
        while chunk := list(islice(numbered, CHUNK)):
            read = [(Shot(Path(), number), _image_of(photo)) for number, photo in chunk]
            for prediction in predict_chunk(read, [self.classifier], self._finder, {}):
                yield [
                    LabelledPerson(
                        person.box_xyxy_px,
                        person.polygons_xy_rel,
                        person.cls,
                        person.conf,
                        self.classifier.chosen(probs),
                        dict(zip(self.labels, probs.tolist(), strict=True)),
                    )
                    for person, probs in zip(prediction.people, prediction.probs[0], strict=True)
                ]


def open_model(
    model: str | os.PathLike[str],
    *,
    segmenter: str | os.PathLike[str] | None = None,
    whole: bool = False,
    threshold: float | None = None,
    group: str | None = None,
    trust: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    cfg: str | os.PathLike[str] | None = None,
) -> PeopleModel:
    """Opens a model.

    Args:
        model: a package's zip, its folder or a model file in it, a training run's folder, or a served model's URL.
        segmenter: the segmentation model that finds the people; `person_models/best.pt` by default.
        whole: every photo is one person, whole; no segmentation model is needed.
        threshold: one for all labels, instead of each label's own.
        group: what the model must be of; also names the model on a server when the URL does not.
        trust: use the model only if its zip is signed by one of these public keys: files with a key a line, folders of
            `*.pub`; by default `package_trust` of the configuration.
        cfg: configuration file; the project's by default.

    Raises:
        SignatureError: no trusted key signed it, or it was changed since.
        PredictionError: the model or the segmentation model is not there or cannot be used, or the model is of another
            group.
        PackageError: the package is broken.
        UsageError: the threshold is not a number from 0 to 1.
    """
    settings = load_settings(Path(cfg) if cfg is not None else None)
    paths = [trust] if isinstance(trust, str | os.PathLike) else trust
    keys = trusted_keys([Path(path) for path in paths], settings)
    classifier = open_classifier(os.fspath(model), Bottle(settings), group=group, trust=keys)
    if threshold is not None:
        classifier = classifier.with_threshold(threshold)
    if whole:
        return PeopleModel(classifier, PeopleFinder({}, None, is_whole=True))
    path = Path(segmenter) if segmenter is not None else default_segmenter()
    if path is None:
        raise PredictionError(
            "there is no segmentation model that finds the people",
            code="no_segmentation_model",
            where=DEFAULT_SEGMENTER,
            hint="fetch one there, give one as segmenter=, or take whole photos with whole=True",
        )
    from cls.segmentation.segmenter import load_segmenter

    found = load_segmenter(path, people_classes=settings.people_classes)
    return PeopleModel(classifier, PeopleFinder({}, found, segmenter_file=path))


def _image_of(photo: Photo) -> NDArray[np.uint8]:
    if isinstance(photo, str | os.PathLike):
        return read_photo(Path(photo))
    if isinstance(photo, bytes):
        return decode_photo(photo, where="the bytes given")
    if isinstance(photo, np.ndarray):
        return photo_of_array(photo)
    if not hasattr(photo, "getexif"):
        raise FileError(
            f"a {type(photo).__name__} is no photo",
            code="not_a_photo",
            hint="give a path, a file's bytes, an array of RGB values or a Pillow picture",
        )
    return photo_of_pil(photo)
