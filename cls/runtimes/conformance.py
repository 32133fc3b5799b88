"""Conformance vectors made for a model, and a package held against those it carries."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cls.package.vectors import Case, CaseJson, Vectors
from cls.people.photos import Person, decode_photo
from cls.people.preprocess import Preprocessing, cut_out, inner_size, on_flat_background
from cls.runtimes.classifier import Classifier

# What resampling and blending in another library may change: a level of the picture and one of the mask.
_LEVELS = 2
# Two decoders of one JPEG besides.
_LEVELS_OF_JPEG = 6
_DIGITS = 6
_EXIF_ORIENTATION = 0x0112
_NO_BOX = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class CaseResult:
    """How a case came out.

    Attributes:
        levels: largest difference of the picture, in levels of 255.
        tensor: largest difference of the model's input.
        probability: largest difference of a probability, the whole way from the photo.
        is_met: whether all are within what the vectors allow.
    """

    name: str
    levels: int
    tensor: float
    probability: float
    is_met: bool


def make_vectors(classifier: Classifier, max_probability_difference: float) -> Vectors:
    """Draws photos, cuts the outlined parts out and asks the model.

    Args:
        classifier: the package's own model, as its users open it.
        max_probability_difference: how far another machine's answer to the same tensor may be off.
    """
    preprocessing = classifier.preprocessing
    cases = []
    for name, photo, person in _drawn(preprocessing):
        is_jpeg = photo[:2] == b"\xff\xd8"
        image_rgb = decode_photo(photo)
        crop, tensor = _input_of(classifier, image_rgb, person)
        probabilities = classifier.probabilities(crop[None])[0]
        record = CaseJson(
            name=name,
            photo=f"vectors/{name}.{'jpg' if is_jpeg else 'png'}",
            polygons_xy_rel=tuple(tuple((x, y) for x, y in polygon.tolist()) for polygon in person.polygons_xy_rel),
            box_xyxy_px=person.box_xyxy_px,
            frame_xyxy_px=_frame_of(image_rgb, person, preprocessing),
            max_level_difference=_LEVELS_OF_JPEG if is_jpeg else _LEVELS,
            # The last bits depend on the number of threads: rounded, the zip is the same on every machine.
            probabilities={
                label: round(prob, _DIGITS)
                for label, prob in zip(classifier.labels, probabilities.tolist(), strict=True)
            },
        )
        cases.append(Case(record, photo, crop, tensor))
    return Vectors(tuple(cases), classifier.runtime.description, max_probability_difference)


def check_vectors(classifier: Classifier, vectors: Vectors) -> list[CaseResult]:
    """Goes the whole way from each case's photo, and holds the picture, the tensor and the answer against the vectors.

    Raises:
        FileError: a photo is damaged.
        PredictionError: the model answers nonsense.
    """
    results = []
    for case in vectors.cases:
        record = case.record
        polygons = tuple(np.array(polygon, np.float64).reshape(-1, 2) for polygon in record.polygons_xy_rel)
        person = Person("", 1.0, record.box_xyxy_px, polygons)
        image_rgb = decode_photo(case.photo, where=record.photo)
        crop, tensor = _input_of(classifier, image_rgb, person)
        expected = np.array([record.probabilities[label] for label in classifier.labels])
        probability = float(np.abs(classifier.probabilities(crop[None])[0] - expected).max())
        if crop.shape != case.crop_rgb.shape or tensor.shape != case.tensor.shape:
            levels, difference = 255, float("inf")
        else:
            levels = int(np.abs(crop.astype(int) - case.crop_rgb).max())
            difference = float(np.abs(tensor.astype(np.float64) - case.tensor).max())
        is_met = (
            levels <= record.max_level_difference
            and difference <= _tensor_limit(classifier, record.max_level_difference)
            and probability <= vectors.max_probability_difference
            and _frame_of(image_rgb, person, classifier.preprocessing) == record.frame_xyxy_px
        )
        results.append(CaseResult(record.name, levels, difference, probability, is_met))
    return results


def _tensor_limit(classifier: Classifier, levels: int) -> float:
    """What a difference in levels makes of the model's input, and a little for float32."""
    if classifier.is_end_to_end:
        return float(levels)
    return levels / 255 / min(classifier.preprocessing.std_rgb) + 1e-5


def _input_of(
    classifier: Classifier, image_rgb: NDArray[np.uint8], person: Person
) -> tuple[NDArray[np.uint8], NDArray[np.float32] | NDArray[np.uint8]]:
    """The picture, uint8 (height, width, 3), and the tensor that the model takes."""
    preprocessing = classifier.preprocessing
    if not classifier.is_end_to_end:
        crop = preprocessing.cut(image_rgb, person)
        return crop, preprocessing.normalise(crop[None])
    cutout = cut_out(image_rgb, person, margin_rel=preprocessing.margin_rel, version=preprocessing.version)
    is_kept = preprocessing.is_background_kept
    crop = np.ascontiguousarray(cutout.image_rgb) if is_kept else on_flat_background(cutout, preprocessing.fill_rgb)
    return crop, crop[None]


def _frame_of(image_rgb: NDArray[np.uint8], person: Person, preprocessing: Preprocessing) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the cut-out in the photo."""
    cutout = cut_out(image_rgb, person, margin_rel=preprocessing.margin_rel, version=preprocessing.version)
    height_px, width_px = cutout.mask.shape
    return cutout.left_px, cutout.top_px, cutout.left_px + width_px, cutout.top_px + height_px


def _drawn(preprocessing: Preprocessing) -> list[tuple[str, bytes, Person]]:
    """Name, photo and person of each case; photo sizes follow the input size, so that they are shrunk and enlarged."""
    large = _pattern(
        _within(preprocessing.height_px * 9 // 5, 64, 640), _within(preprocessing.width_px * 9 // 4, 64, 640)
    )
    small = _pattern(_within(preprocessing.height_px // 3, 24, 200), _within(preprocessing.width_px // 2, 24, 200))
    height_px, width_px = small.shape[:2]
    # Corners on the centres of pixels; upright, level and slanting edges through centres.
    on_centres = (np.array([(5, 3), (14, 3), (18, 7), (18, 15), (11, 22), (5, 16)]) + 0.5) / (width_px, height_px)
    overlapping = [(0.2, 0.15), (0.7, 0.2), (0.6, 0.7), (0.25, 0.6)]
    crossing_itself = [(0.5, 0.3), (0.9, 0.9), (0.35, 0.52), (0.93, 0.5), (0.45, 0.92)]
    upright = [
        (0.43, 0.08), (0.52, 0.06), (0.57, 0.13), (0.55, 0.21), (0.66, 0.29), (0.71, 0.55), (0.63, 0.57),
        (0.61, 0.93), (0.52, 0.94), (0.49, 0.61), (0.45, 0.93), (0.37, 0.91), (0.36, 0.53), (0.29, 0.51), (0.35, 0.27),
    ]  # fmt: skip
    level = [(0.04, 0.41), (0.93, 0.37), (0.97, 0.48), (0.61, 0.55), (0.07, 0.52)]
    beyond = [(0.6, -0.2), (1.2, 0.1), (1.05, 0.8), (0.7, 1.3), (0.45, 0.5)]
    cases: list[tuple[str, NDArray[np.uint8], Person]] = [
        ("shrunk", large, _outlined(upright)),
        ("level", large, _outlined(level)),
        ("enlarged", small, _outlined(on_centres.tolist())),
        ("two_outlines", small, _outlined(overlapping, crossing_itself)),
        ("beyond_the_edge", large, _outlined(beyond)),
        ("box", large, _with_odd_border(large, preprocessing)),
    ]
    drawn = [(name, _as_png(photo), person) for name, photo, person in cases]
    return [*drawn, ("turned_jpeg", _as_turned_jpeg(large), _outlined(upright))]


def _outlined(*polygons: Sequence[Sequence[float]]) -> Person:
    return Person("", 1.0, _NO_BOX, tuple(np.array(polygon, np.float64) for polygon in polygons))


def _with_odd_border(photo: NDArray[np.uint8], preprocessing: Preprocessing) -> Person:
    """A person with a box and no outline, whose letterbox has an odd number of border pixels."""
    height_px, width_px = photo.shape[:2]
    left, top, bottom = width_px * 0.3 + 0.37, height_px * 0.1 + 0.61, height_px * 0.85 + 0.23
    person = Person("", 1.0, (left, top, left + 9.5, bottom), ())
    for across_px in range(9, max(width_px // 3, 10)):
        person = Person("", 1.0, (left, top, left + across_px + 0.5, bottom), ())
        left_px, top_px, right_px, bottom_px = _frame_of(photo, person, preprocessing)
        size = (preprocessing.height_px, preprocessing.width_px)
        inner = inner_size(bottom_px - top_px, right_px - left_px, *size, version=preprocessing.version)
        if (preprocessing.width_px - inner[1]) % 2 or (preprocessing.height_px - inner[0]) % 2:
            break
    return person


def _pattern(height_px: int, width_px: int) -> NDArray[np.uint8]:
    """A drawn photo: slopes of colour, rings and stripes, in whole numbers; uint8 (height, width, 3)."""
    rows, columns = np.indices((height_px, width_px))
    rings = ((rows - height_px // 3) ** 2 + (columns - width_px // 2) ** 2) // 97 % 128
    red = 60 + rows * 120 // height_px + (columns // 5 % 2) * 60
    green = 30 + columns * 150 // width_px + (rows // 7 % 2) * 50
    return np.stack([red, green, 40 + rings], axis=2).astype(np.uint8)


def _as_png(photo: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "PNG", compress_level=9)
    return buffer.getvalue()


def _as_turned_jpeg(photo: NDArray[np.uint8]) -> bytes:
    """As a camera held upright stores it: turned, with the EXIF orientation that turns it back."""
    exif = Image.Exif()
    exif[_EXIF_ORIENTATION] = 6
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.rot90(photo))).save(
        buffer, "JPEG", quality=95, subsampling=0, exif=exif.tobytes()
    )
    return buffer.getvalue()


def _within(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)
