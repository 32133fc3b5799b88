"""Finding people in photos: one Protocol, whatever file the model is in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cls.errors import SegmentationError
from cls.people.photos import Person
from cls.segmentation.decode import Letterbox, candidates_of, objects_of, without_doubles
from cls.segmentation.networks import Network, OnnxNetwork, UltralyticsNetwork

DEFAULT_CONFIDENCE = 0.4
_SUFFIXES = (".pt", ".onnx")
_MAX_VERSION_LENGTH = 50  # pictures.model_version is a varchar(50)


class PersonSegmenter(Protocol):
    """Finds people in photos."""

    @property
    def model_version(self) -> str:
        """Stem of the model's file name: what the pictures database calls it."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """People classes it can answer with."""
        ...

    def predict(self, images_rgb: Sequence[NDArray[np.uint8]]) -> list[list[Person]]:
        """Photos as displayed, each uint8 (height, width, 3) of any size -> the people in each, surest first."""
        ...


class YoloSegmenter:
    """A YOLO segmentation network, whatever runs it. Made by `load_segmenter`.

    Attributes:
        model_version: stem of the model's file name.
        image_size_px: the longer side photos are scaled to.
        names: the people class of each class number; None for one that is left out.
    """

    def __init__(
        self,
        network: Network,
        *,
        model_version: str,
        names: Sequence[str | None],
        confidence: float,
        image_size_px: int,
    ) -> None:
        self.model_version = model_version
        self.names = tuple(names)
        self.image_size_px = image_size_px
        self._network = network
        self._confidence = confidence
        self._kept = np.array([number for number, name in enumerate(names) if name is not None], np.int64)

    @property
    def classes(self) -> tuple[str, ...]:
        """People classes it can answer with, in the model's order, each once."""
        return tuple(dict.fromkeys(name for name in self.names if name is not None))

    def predict(self, images_rgb: Sequence[NDArray[np.uint8]]) -> list[list[Person]]:
        """Finds the people in photos.

        Args:
            images_rgb: photos as displayed, each uint8 (height, width, 3), of any size.

        Returns:
            For each photo its people, surest first.

        Raises:
            SegmentationError: the model answers something that cannot be read.
        """
        boxes = [self._letterbox(image) for image in images_rgb]
        by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, box in enumerate(boxes):
            by_shape[box.input_height_px, box.input_width_px].append(index)
        people: list[list[Person]] = [[] for _ in images_rgb]
        for indices in by_shape.values():
            inputs = np.stack([boxes[index].apply(images_rgb[index]) for index in indices])
            outputs, prototypes = self._network.run(inputs)
            for place, index in enumerate(indices):
                people[index] = self._people(outputs[place], prototypes[place], boxes[index])
        return people

    def _letterbox(self, image_rgb: NDArray[np.uint8]) -> Letterbox:
        height_px, width_px = image_rgb.shape[:2]
        if self._network.fixed_input_px is not None:
            return Letterbox(height_px, width_px, *self._network.fixed_input_px)
        return Letterbox.around(height_px, width_px, self.image_size_px, self._network.stride_px)

    def _people(
        self, output: NDArray[np.float32], prototypes: NDArray[np.float32], letterbox: Letterbox
    ) -> list[Person]:
        candidates = candidates_of(output, len(self.names), len(prototypes), confidence=self._confidence)
        candidates = candidates[np.isin(candidates.class_numbers, self._kept)]
        people = []
        for found in objects_of(without_doubles(candidates), prototypes, letterbox):
            name = self.names[found.class_number]
            if name is not None:
                people.append(Person(name, found.score, found.box_xyxy_px, found.polygons_xy_rel))
        return people


def check_model_file(path: Path) -> None:
    """Checks, without loading it, that a model is there and that the pictures database can keep its name.

    Raises:
        SegmentationError: there is no such file, its name is too long or ends otherwise.
    """
    if not path.is_file():
        raise SegmentationError(
            "there is no such model",
            code="not_found",
            where=path,
            hint=f"fetch one, e.g. `scp -P 4000 user@HOST:/storage/other/{path.name} {path}`",
        )
    if path.suffix.lower() not in _SUFFIXES:
        raise SegmentationError(
            "is not named like a segmentation model",
            code="unknown_suffix",
            where=path,
            hint=f"give a file that ends in {' or '.join(_SUFFIXES)}",
        )
    if len(path.stem) > _MAX_VERSION_LENGTH:
        raise SegmentationError(
            f"the name '{path.stem}' has {len(path.stem)} characters, and the pictures database keeps"
            f" {_MAX_VERSION_LENGTH} as model version",
            code="name_too_long",
            where=path,
            hint="rename the file",
        )


def load_segmenter(
    path: Path,
    *,
    people_classes: Mapping[str, str],
    confidence: float = DEFAULT_CONFIDENCE,
    image_size_px: int | None = None,
    classes: Collection[str] | None = None,
    only_mapped: bool = False,
) -> PersonSegmenter:
    """Loads a segmentation model.

    Args:
        path: an ultralytics checkpoint (.pt), or the same exported to ONNX (.onnx), run with ONNX Runtime alone.
        people_classes: the model's class names -> people classes; names not in it keep their own.
        confidence: lowest confidence of a person, 0 to 1.
        image_size_px: longer side photos are scaled to; the size the model was trained at when not given.
        classes: people classes wanted; all when not given.
        only_mapped: leave out the model's classes that `people_classes` does not name.

    Raises:
        SegmentationError: there is no such file, it is not a segmentation model, or its name is too long for the
            pictures database; or no class of it is left.
    """
    check_model_file(path)
    if not 0 < confidence < 1:
        raise SegmentationError(
            f"a confidence of {confidence} cannot be used",
            code="confidence_out_of_range",
            hint="give one between 0 and 1, e.g. 0.4",
        )
    network: Network = OnnxNetwork(path) if path.suffix.lower() == ".onnx" else UltralyticsNetwork(path)
    if image_size_px is not None and image_size_px < network.stride_px:
        raise SegmentationError(
            f"photos cannot be scaled to {image_size_px} pixels",
            code="image_size_out_of_range",
            hint="give --image-size 32 or more",
        )
    names = _people_names(network.names, people_classes, classes, only_mapped=only_mapped)
    if not any(names):
        raise SegmentationError(
            f"none of its classes ({', '.join(network.names)}) is wanted",
            code="no_wanted_class",
            where=path,
            hint="name it under people_classes in the configuration, or leave out --only-mapped and --classes",
        )
    return YoloSegmenter(
        network,
        model_version=path.stem,
        names=names,
        confidence=confidence,
        image_size_px=image_size_px or network.image_size_px,
    )


def _people_names(
    names: Sequence[str], people_classes: Mapping[str, str], classes: Collection[str] | None, *, only_mapped: bool
) -> list[str | None]:
    """The people class of each class of the model; None for one that is left out."""
    people: list[str | None] = []
    for name in names:
        person = people_classes.get(name, None if only_mapped else name)
        people.append(person if classes is None or person in classes else None)
    return people
