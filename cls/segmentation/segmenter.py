"""Person segmenters behind one Protocol, and the decoding of the outputs of YOLO segmentation networks.

For one input a network outputs candidates (box, a score a class, mask coefficients) and mask prototypes; a mask is
the sum of the prototypes weighted by the coefficients, positive inside. Two layouts are known: the dense one of
YOLOv8-seg and YOLO11-seg, `(4 + classes + coefficients, candidates)` with centre boxes and doubles left in, and the
end-to-end one of YOLO26-seg, `(candidates, 6 + coefficients)` with corner boxes, score and class number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.errors import SegmentationError
from cls.people.photos import Person
from cls.people.polygons import polygons_of_mask
from cls.segmentation.config import SegmenterConfig
from cls.segmentation.networks import Network, OnnxNetwork, UltralyticsNetwork

_BORDER = 114  # the grey ultralytics trains with

_MAX_PEOPLE = 300
_NMS_BOX_IOU = 0.7  # ultralytics' default for prediction
_NMS_MASK_IOU = 0.8  # above it, masks of two classes show the same person
_MASK_SIDE_PX = 640  # masks are outlined at the photo's resolution, but not above this
_SUFFIXES = (".pt", ".onnx")
_MAX_VERSION_LENGTH = 50  # pictures.model_version is a varchar(50)


@dataclass(frozen=True)
class Letterbox:
    """How a photo lies in a network's input: scaled by `scale`, then moved by (`left_px`, `top_px`)."""

    photo_height_px: int
    photo_width_px: int
    input_height_px: int
    input_width_px: int

    @classmethod
    def around(cls, photo_height_px: int, photo_width_px: int, size_px: int, stride_px: int) -> Letterbox:
        """The smallest input, in whole strides, for a photo whose longer side becomes `size_px`."""
        scale = size_px / max(photo_height_px, photo_width_px)
        sides = [max(-(-round(side * scale) // stride_px), 1) * stride_px for side in (photo_height_px, photo_width_px)]
        return cls(photo_height_px, photo_width_px, sides[0], sides[1])

    @property
    def scale(self) -> float:
        """Input pixels per photo pixel."""
        return min(self.input_height_px / self.photo_height_px, self.input_width_px / self.photo_width_px)

    @property
    def inner_px(self) -> tuple[int, int]:
        """Height and width of the scaled photo inside the input."""
        return (
            min(max(round(self.photo_height_px * self.scale), 1), self.input_height_px),
            min(max(round(self.photo_width_px * self.scale), 1), self.input_width_px),
        )

    @property
    def offset_px(self) -> tuple[int, int]:
        """Left and top border."""
        height_px, width_px = self.inner_px
        return (self.input_width_px - width_px) // 2, (self.input_height_px - height_px) // 2

    def apply(self, image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Photo uint8 (height, width, 3) -> uint8 (input_height_px, input_width_px, 3)."""
        height_px, width_px = self.inner_px
        left_px, top_px = self.offset_px
        frame = np.full((self.input_height_px, self.input_width_px, 3), _BORDER, np.uint8)
        inner = frame[top_px : top_px + height_px, left_px : left_px + width_px]
        if image_rgb.shape[:2] == inner.shape[:2]:
            inner[:] = image_rgb
        else:
            # Linear also when shrinking: the networks were trained on photos loaded that way.
            inner[:] = cv2.resize(image_rgb, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
        return frame

    def to_photo(self, boxes_xyxy_px: NDArray[np.float32]) -> NDArray[np.float64]:
        """Boxes (n, 4) in input pixels -> float64 (n, 4) in photo pixels, cut off at the photo's edge."""
        left_px, top_px = self.offset_px
        boxes = (boxes_xyxy_px.astype(np.float64) - (left_px, top_px, left_px, top_px)) / self.scale
        limit = (self.photo_width_px, self.photo_height_px, self.photo_width_px, self.photo_height_px)
        return np.clip(boxes, 0.0, limit)


@dataclass(frozen=True)
class Candidates:
    """A network's output for one input after filtering, best score first.

    Attributes:
        boxes_xyxy_px: float32 (n, 4) in input pixels.
        scores: float32 (n,), 0 to 1.
        class_numbers: int64 (n,).
        coefficients: float32 (n, prototypes).
    """

    boxes_xyxy_px: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_numbers: NDArray[np.int64]
    coefficients: NDArray[np.float32]

    def __getitem__(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Candidates:
        return Candidates(
            self.boxes_xyxy_px[chosen], self.scores[chosen], self.class_numbers[chosen], self.coefficients[chosen]
        )


@dataclass(frozen=True)
class DetectedObject:
    """An object detected in a photo, before its class number becomes a people class (`Person`).

    Attributes:
        class_number: position of its class in the model's list.
        score: 0 to 1.
        box_xyxy_px: in photo pixels.
        polygons_xy_rel: outlines, each (points, 2), fractions of the photo's width and height.
    """

    class_number: int
    score: float
    box_xyxy_px: tuple[float, float, float, float]
    polygons_xy_rel: tuple[NDArray[np.float64], ...]


def candidates_of(
    output: NDArray[np.float32], class_count: int, coefficient_count: int, *, confidence: float
) -> Candidates:
    """Reads one input's answer in either layout and keeps what reaches the confidence, best first.

    Args:
        output: (4 + classes + coefficients, candidates) or (candidates, 6 + coefficients).
        class_count: how many classes the model has.
        coefficient_count: how many mask prototypes the model has.
        confidence: lowest score kept.
    """
    if output.shape[0] == 4 + class_count + coefficient_count:
        all_scores = output[4 : 4 + class_count]
        scores = all_scores.max(axis=0)
        chosen = np.flatnonzero(scores >= confidence)
        centre, size = output[0:2, chosen].T, output[2:4, chosen].T
        boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
        numbers = all_scores[:, chosen].argmax(axis=0)
        coefficients = output[4 + class_count :, chosen].T
        scores = scores[chosen]
    elif output.shape[1] == 6 + coefficient_count:
        rows = output[output[:, 4] >= confidence]
        boxes, scores, numbers, coefficients = rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64), rows[:, 6:]
    else:
        raise SegmentationError(
            f"the model answers with shape {output.shape}: neither of the known layouts for {class_count} classes"
            f" and {coefficient_count} mask prototypes",
            code="unknown_output_layout",
        )
    order = np.argsort(-scores, kind="stable")
    return Candidates(boxes, scores, numbers.astype(np.int64), coefficients)[order]


def non_max_suppression(candidates: Candidates) -> Candidates:
    """Drops, class by class, candidates whose box lies on a better one (non-maximum suppression)."""
    if not len(candidates.scores):
        return candidates
    candidates = candidates[np.arange(min(len(candidates.scores), 3000))]
    boxes = candidates.boxes_xyxy_px
    # Classes are moved apart, so that one pass suppresses within each alone.
    apart = boxes + (candidates.class_numbers * (boxes.max() - boxes.min() + 1))[:, None]
    corner_and_size = np.concatenate([apart[:, :2], apart[:, 2:] - apart[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxes(corner_and_size.tolist(), candidates.scores.tolist(), 0.0, _NMS_BOX_IOU)
    return candidates[np.sort(np.asarray(kept, np.int64).ravel())[:_MAX_PEOPLE]]


def objects_of(candidates: Candidates, prototypes: NDArray[np.float32], letterbox: Letterbox) -> list[DetectedObject]:
    """Masks, outlines and boxes in the photo's frame.

    Args:
        candidates: what is kept, in input pixels, best first.
        prototypes: float32 (count, height, width), covering the whole input.
        letterbox: how the photo lies in the input.

    Returns:
        Objects, best first. One whose mask is empty is left out; so is one that shows the same pixels as a better one
        of another class.
    """
    if not len(candidates.scores):
        return []
    boxes = letterbox.to_photo(candidates.boxes_xyxy_px)
    logits = np.tensordot(candidates.coefficients, prototypes, axes=1)
    found: list[DetectedObject] = []
    coarse: list[NDArray[np.bool_]] = []
    for index, box in enumerate(boxes):
        inside = _cropped(logits[index] > 0, candidates.boxes_xyxy_px[index], letterbox)
        number = int(candidates.class_numbers[index])
        if any(
            other.class_number != number and _mask_iou(inside, mask) > _NMS_MASK_IOU
            for other, mask in zip(found, coarse, strict=True)
        ):
            continue
        polygons = _outlines(logits[index], box, letterbox)
        if polygons:
            left, top, right, bottom = (float(value) for value in box)
            found.append(DetectedObject(number, float(candidates.scores[index]), (left, top, right, bottom), polygons))
            coarse.append(inside)
    return found


def _cropped(mask: NDArray[np.bool_], box_xyxy_px: NDArray[np.float32], letterbox: Letterbox) -> NDArray[np.bool_]:
    """A mask at the prototypes' resolution, cut off at its box."""
    height, width = mask.shape
    ratio = (width / letterbox.input_width_px, height / letterbox.input_height_px)
    left, top = np.floor(box_xyxy_px[:2] * ratio).astype(int)
    right, bottom = np.ceil(box_xyxy_px[2:] * ratio).astype(int)
    inside = np.zeros_like(mask)
    area = (slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0)))
    inside[area] = mask[area]
    return inside


def _mask_iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 0.0


def _outlines(
    logits: NDArray[np.float32], box_xyxy_px: NDArray[np.float64], letterbox: Letterbox
) -> tuple[NDArray[np.float64], ...]:
    """Outlines of a mask inside its box, drawn at the photo's resolution (at most `_MASK_SIDE_PX` a side)."""
    left, top = np.floor(box_xyxy_px[:2])
    right, bottom = np.ceil(box_xyxy_px[2:])
    if right - left < 1 or bottom - top < 1:
        return ()
    fineness = min(1.0, _MASK_SIDE_PX / max(right - left, bottom - top))
    width_px, height_px = (max(round((right - left) * fineness), 1), max(round((bottom - top) * fineness), 1))
    fine_x, fine_y = width_px / (right - left), height_px / (bottom - top)
    # Mask pixel -> photo -> input -> prototype pixel; pixel centres lie at +0.5 in each.
    to_x = logits.shape[1] / letterbox.input_width_px
    to_y = logits.shape[0] / letterbox.input_height_px
    offset_x, offset_y = letterbox.offset_px
    scale_x, scale_y = letterbox.scale * to_x / fine_x, letterbox.scale * to_y / fine_y
    matrix = np.array(
        [
            [scale_x, 0.0, 0.5 * scale_x + (left * letterbox.scale + offset_x) * to_x - 0.5],
            [0.0, scale_y, 0.5 * scale_y + (top * letterbox.scale + offset_y) * to_y - 0.5],
        ]
    )
    smooth = cv2.warpAffine(
        logits,
        matrix,
        (width_px, height_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    mask = (smooth > 0).astype(np.uint8)
    origin = np.array([left, top])
    size = np.array([right - left, bottom - top])
    photo = np.array([letterbox.photo_width_px, letterbox.photo_height_px], np.float64)
    return tuple((origin + polygon * size) / photo for polygon in polygons_of_mask(mask))


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
        """Finds the people in photos; returns for each photo its people, surest first.

        Args:
            images_rgb: photos as displayed, each uint8 (height, width, 3), of any size.

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
        for found in objects_of(non_max_suppression(candidates), prototypes, letterbox):
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
    path: Path, *, people_classes: Mapping[str, str], config: SegmenterConfig | None = None
) -> PersonSegmenter:
    """Loads a segmentation model.

    Args:
        path: an ultralytics checkpoint (.pt), or the same exported to ONNX (.onnx), run with ONNX Runtime alone.
        people_classes: the model's class names -> people classes; names not in it keep their own.
        config: which people it finds.

    Raises:
        SegmentationError: there is no such file, it is not a segmentation model, or its name is too long for the
            pictures database; or no class of it is left.
    """
    config = config or SegmenterConfig()
    check_model_file(path)
    network: Network = OnnxNetwork(path) if path.suffix.lower() == ".onnx" else UltralyticsNetwork(path)
    if config.image_size_px is not None and config.image_size_px < network.stride_px:
        raise SegmentationError(
            f"photos cannot be scaled to {config.image_size_px} pixels",
            code="image_size_out_of_range",
            hint="give --image-size 32 or more",
        )
    names = _people_names(network.names, people_classes, config.classes, only_mapped=config.only_mapped)
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
        confidence=config.confidence,
        image_size_px=config.image_size_px or network.image_size_px,
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
