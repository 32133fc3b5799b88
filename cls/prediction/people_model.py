"""The Python interface: open a model, give it photos, get the people in them with their labels.

import cls

model = cls.open_model("model_onnx.zip")
people = model("photo.jpg")
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from cls.bottle.layout import Bottle
from cls.errors import FileError, PredictionError, UsageError
from cls.options import settings_of
from cls.package.keys import trusted_keys
from cls.pages.render import picture_url
from cls.people.photos import decode_photo, photo_of_array, photo_of_pil, read_photo
from cls.prediction.config import PredictConfig
from cls.prediction.predict import (
    CHUNK,
    DEFAULT_SEGMENTER,
    PeopleFinder,
    PictureSource,
    finder_with_segmenter,
    predict_chunk,
)
from cls.runtimes.classifier import Classifier
from cls.runtimes.open import open_classifier
from cls.settings import load_settings
from cls.training.runs.run import FinishedRun

if TYPE_CHECKING:
    from PIL.Image import Image

    from cls import Run
    from cls.option_types import PredictOptions

    # A file, a file's bytes, an array (RGB) or a Pillow picture.
    Photo = str | os.PathLike[str] | bytes | NDArray[np.uint8] | NDArray[np.uint16] | Image

_SHOWN_PX = 480  # width of a photo in a notebook


class PersonJson(TypedDict):
    """A `LabelledPerson` as plain JSON values; each outline is a list of points."""

    box_xyxy_px: list[float]
    outline_xy_rel: list[list[list[float]]]
    person_class: str
    conf: float
    labels: list[str]
    probabilities: dict[str, float]


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

    def to_dict(self) -> PersonJson:
        """Plain JSON values."""
        outlines: list[list[list[float]]] = [part.tolist() for part in self.outline_xy_rel]
        return {
            "box_xyxy_px": list(self.box_xyxy_px),
            "outline_xy_rel": outlines,
            "person_class": self.person_class,
            "conf": self.conf,
            "labels": list(self.labels),
            "probabilities": dict(self.probabilities),
        }


class People(list[LabelledPerson]):
    """The people of one photo, surest first; a notebook shows them in their photo."""

    def __init__(self, people: Iterable[LabelledPerson], photo: Photo) -> None:
        super().__init__(people)
        self.photo = photo

    def _repr_html_(self) -> str:
        """The photo with everybody's outline and number, and a table of their labels."""
        try:
            picture = _picture_html(_image_of(self.photo), self)
        except FileError as error:
            picture = f"<p>{escape(error.line())}</p>"  # it was moved or removed since
        rows = []
        for number, person in enumerate(self, 1):
            labels = ", ".join(f"{label} {person.probabilities[label]:.2f}" for label in person.labels) or "-"
            cells = (str(number), f"{person.person_class} {person.conf:.2f}", labels)
            rows.append(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>")
        return f"{picture}<table><tr><th></th><th>person</th><th>labels</th></tr>{''.join(rows)}</table>"


class PeopleModel:
    """A classifier with whatever finds the people. Made by `open_model`."""

    def __init__(self, classifier: Classifier, finder: PeopleFinder) -> None:
        self.classifier = classifier
        self._finder = finder

    def __repr__(self) -> str:
        """Its model and labels."""
        return f"PeopleModel({self.classifier.name!r}, labels={self.labels!r})"

    @property
    def labels(self) -> tuple[str, ...]:
        """In output order."""
        return self.classifier.labels

    @overload
    def __call__(self, photos: Photo) -> People: ...  # type: ignore[overload-overlap]  # a path is a sequence too

    @overload
    def __call__(self, photos: Sequence[Photo]) -> list[People]: ...

    def __call__(self, photos: Photo | Sequence[Photo]) -> People | list[People]:
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

    def each(self, photos: Iterable[Photo]) -> Iterator[People]:
        """The people of each photo, one photo after another, for more photos than memory holds; see `__call__`."""
        numbered = enumerate(photos)
        while chunk := list(islice(numbered, CHUNK)):
            read = [(PictureSource(Path(), number), _image_of(photo)) for number, photo in chunk]
            predictions = predict_chunk(read, [self.classifier], self._finder, {})
            for (_, photo), prediction in zip(chunk, predictions, strict=True):
                people = (
                    LabelledPerson(
                        person.box_xyxy_px,
                        person.polygons_xy_rel,
                        person.cls,
                        person.conf,
                        self.classifier.chosen(probs),
                        dict(zip(self.labels, probs.tolist(), strict=True)),
                    )
                    for person, probs in zip(prediction.people, prediction.probs[0], strict=True)
                )
                yield People(people, photo)


def open_model(
    model: str | os.PathLike[str] | Run,
    config: PredictConfig | None = None,
    *,
    group: str | None = None,
    trust: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    cfg: str | os.PathLike[str] | None = None,
    **options: Unpack[PredictOptions],
) -> PeopleModel:
    """Opens a package, a training run or a served model for predictions.

    Args:
        model: a package's zip, its folder or a model file in it, a training run or its folder, or a served model's URL.
        config: all options at once.
        group: what the model must be of; also names the model on a server when the URL does not.
        trust: use the model only if its zip is signed by one of these public keys: files with a key a line, folders of
            `*.pub`; by default `package_trust` of the configuration.
        cfg: configuration file; the run's where a run is given, else the project's by default.
        options: `segmenter`, the segmentation model that finds the people (`person_models/best.pt` by default);
            `whole`, for photos of one person each, which need none; `threshold`, one for all labels instead of each
            label's own.

    Raises:
        SignatureError: no trusted key signed it, or it was changed since.
        PredictionError: the model or the segmentation model is not there or cannot be used, or the model is of another
            group.
        PackageError: the package is broken.
        UsageError: options hold values they cannot take; lists them all. Or `model` is none of these.
    """
    config = settings_of(PredictConfig, config, options)
    if isinstance(model, FinishedRun):
        cfg = model.bottle.settings.file if cfg is None else cfg
        model = model.folder
    if not isinstance(model, str | os.PathLike):
        raise UsageError(f"model: expected a path, a URL or a run, found {model!r}", code="invalid_argument")
    settings = load_settings(Path(cfg) if cfg is not None else None)
    paths = [trust] if isinstance(trust, str | os.PathLike) else trust
    keys = trusted_keys([Path(path) for path in paths], settings)
    classifier = open_classifier(os.fspath(model), Bottle(settings), group=group, trust=keys)
    if config.threshold is not None:
        classifier = classifier.with_threshold(config.threshold)
    if config.whole:
        return PeopleModel(classifier, PeopleFinder({}, None, is_whole=True))
    finder = finder_with_segmenter({}, config, settings)
    if finder is None:
        raise PredictionError(
            "there is no segmentation model that finds the people",
            code="no_segmentation_model",
            where=DEFAULT_SEGMENTER,
            hint="fetch one there, give one as segmenter=, or take whole photos with whole=True",
        )
    return PeopleModel(classifier, finder)


def _picture_html(image_rgb: NDArray[np.uint8], people: Sequence[LabelledPerson]) -> str:
    """A small picture with the outlines over it, all inside the text."""
    height_px, width_px = image_rgb.shape[:2]
    shown_px = min(width_px, _SHOWN_PX)
    scale = width_px / shown_px
    shapes = []
    for number, person in enumerate(people, 1):
        left, top, right, bottom = person.box_xyxy_px
        outlines = [outline * (width_px, height_px) for outline in person.outline_xy_rel] or [
            np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        ]
        shapes += [f'<polygon points="{" ".join(f"{x:.0f},{y:.0f}" for x, y in outline)}"/>' for outline in outlines]
        shapes.append(f'<text x="{left:.0f}" y="{top:.0f}" dy="1em" stroke="none" fill="#fff">{number}</text>')
    return (
        f'<svg viewBox="0 0 {width_px} {height_px}" width="{shown_px}" fill="none" stroke="#fff"'
        f' stroke-width="{2 * scale:.1f}" font-size="{16 * scale:.0f}">'
        f'<image href="{picture_url(image_rgb, shown_px)}" width="{width_px}" height="{height_px}"/>'
        f"{''.join(shapes)}</svg>"
    )


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
