"""A trained checkpoint -> ONNX, compared with it on photos, and a TensorRT engine where there is a GPU."""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cls.errors import ExportError, FileError, ParityError
from cls.files import atomic_path, sha256_of_file, write_json_atomic
from cls.people.photos import Person, read_photo
from cls.people.polygons import box_iou, mask_of_polygons
from cls.segmentation.config import SegmenterConfig
from cls.segmentation.networks import no_foreign_output, quiet_ultralytics
from cls.segmentation.segmenter import load_segmenter
from cls.wording import counted, score

_log = logging.getLogger("cls.yolo")

_CONFIDENCE = 0.4
_MAX_BOX_PX = 0.5
_MIN_MASK_IOU = 0.99
_FAILURES = (RuntimeError, ValueError, TypeError, KeyError, AttributeError, AssertionError, OSError, ImportError)


@dataclass(frozen=True)
class Agreement:
    """How two lists of people, photo by photo, agree.

    Attributes:
        pairs: people found by both.
        only_first: people that only the first one found.
        only_second: people that only the second one found.
        box_px: largest difference of a box's side among the pairs, in pixels.
        confidence: largest difference of a confidence among the pairs.
        mask_iou_mean: mean intersection over union of the pairs' masks; 1 without pairs.
        mask_iou_min: the lowest one.
    """

    photos: int
    pairs: int
    only_first: int
    only_second: int
    box_px: float
    confidence: float
    mask_iou_mean: float
    mask_iou_min: float


def compare_people(
    first: Sequence[Sequence[Person]],
    second: Sequence[Sequence[Person]],
    sizes_px: Sequence[tuple[int, int]],
    *,
    borderline: float | None = None,
) -> Agreement:
    """Compares what two segmenters found.

    Two people are a pair when they have the same class and their boxes overlap most, by at least a half.

    Args:
        first: people of each photo.
        second: the same photos' people by the other segmenter.
        sizes_px: height and width of each photo.
        borderline: a confidence threshold; people within 0.001 of it that one alone found count as no difference.
    """
    ious: list[float] = []
    boxes_px, confidences = [0.0], [0.0]
    alone = [0, 0]
    for one, other, (height_px, width_px) in zip(first, second, sizes_px, strict=True):
        rest = list(other)
        for person in one:
            partner = _partner(person, rest)
            if partner is None:
                alone[0] += not _is_borderline(person, borderline)
                continue
            rest.remove(partner)
            difference = np.abs(np.subtract(person.box_xyxy_px, partner.box_xyxy_px))
            boxes_px.append(float(difference.max()))
            confidences.append(abs(person.conf - partner.conf))
            ious.append(mask_iou(person, partner, height_px, width_px))
        alone[1] += sum(not _is_borderline(person, borderline) for person in rest)
    return Agreement(
        photos=len(sizes_px),
        pairs=len(ious),
        only_first=alone[0],
        only_second=alone[1],
        box_px=max(boxes_px),
        confidence=max(confidences),
        mask_iou_mean=float(np.mean(ious)) if ious else 1.0,
        mask_iou_min=min(ious, default=1.0),
    )


def _is_borderline(person: Person, threshold: float | None) -> bool:
    return threshold is not None and abs(person.conf - threshold) < 1e-3


def _partner(person: Person, others: Sequence[Person]) -> Person | None:
    candidates = [other for other in others if other.cls == person.cls and box_iou(person, other) >= 0.5]
    return max(candidates, key=lambda other: box_iou(person, other), default=None)


def mask_iou(first: Person, second: Person, height_px: int, width_px: int) -> float:
    """Intersection over union of two people's masks, drawn at the photo's size."""
    one = mask_of_polygons(first.polygons_xy_rel, height_px, width_px) > 0
    other = mask_of_polygons(second.polygons_xy_rel, height_px, width_px) > 0
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0


@dataclass(frozen=True)
class ExportedModel:
    """What an export made.

    Attributes:
        agreement: checkpoint and ONNX model on the same photos; None when there was no photo to compare on.
        engine: the TensorRT engine, if one was made.
    """

    onnx: Path
    agreement: Agreement | None
    engine: Path | None
    no_engine: str


def export_model(source: Path, destination: Path, photos: Sequence[Path], *, is_engine_required: bool) -> ExportedModel:
    """Exports a checkpoint; nothing is written when the ONNX model disagrees with it.

    Args:
        source: an ultralytics segmentation checkpoint.
        destination: folder for `<stem>.onnx`, `<stem>.onnx.json` (what was compared) and `<stem>.engine`.
        photos: photos to compare the two on.
        is_engine_required: a missing TensorRT engine is an error.

    Raises:
        SegmentationError: the source is not a segmentation checkpoint.
        ParityError: the ONNX model finds other people, or other masks.
        ExportError: the conversion failed, or the engine is required and cannot be made.
    """
    no_engine = reason_for_no_engine()
    if is_engine_required and no_engine:
        raise ExportError(f"the TensorRT engine cannot be made: {no_engine}", code="no_engine", where=source)
    checkpoint = load_segmenter(source, people_classes={}, config=SegmenterConfig(confidence=_CONFIDENCE))
    images = _read_photos(photos)
    destination.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=destination) as folder:
        copy = Path(folder) / source.name
        shutil.copyfile(source, copy)
        made = _convert(copy, "onnx", dynamic=True, simplify=True)
        exported = load_segmenter(made, people_classes={}, config=SegmenterConfig(confidence=_CONFIDENCE))
        agreement = None
        if images:
            agreement = compare_people(
                checkpoint.predict(images),
                exported.predict(images),
                [image.shape[:2] for image in images],
                borderline=_CONFIDENCE,
            )
            _check(agreement, source)
        onnx = destination / f"{source.stem}.onnx"
        with atomic_path(onnx) as part:
            shutil.copyfile(made, part)
        write_json_atomic(
            onnx.with_suffix(".onnx.json"),
            {
                "source": source.name,
                "source_sha256": sha256_of_file(source),
                "onnx_sha256": sha256_of_file(onnx),
                "agreement": None if agreement is None else asdict(agreement),
            },
        )
        engine = None
        if not no_engine:
            made = _convert(copy, "engine", dynamic=True, device=0)
            engine = destination / f"{source.stem}.engine"
            with atomic_path(engine) as part:
                shutil.copyfile(made, part)
    return ExportedModel(onnx, agreement, engine, no_engine)


def reason_for_no_engine() -> str:
    """Why a TensorRT engine cannot be made here; empty when it can."""
    import torch

    if not torch.cuda.is_available():
        return "there is no GPU that torch can use"
    return "" if find_spec("tensorrt") else "the package tensorrt is not installed"


def _read_photos(paths: Sequence[Path]) -> list[NDArray[np.uint8]]:
    """The photos that can be read; the others are counted in the log."""
    images, broken = [], 0
    for path in paths:
        try:
            images.append(read_photo(path))
        except FileError:
            broken += 1
    if broken:
        _log.warning("%d of %d photos cannot be read and are not compared on", broken, len(paths))
    return images


def _convert(checkpoint: Path, target: str, **arguments: object) -> Path:
    """Runs ultralytics' exporter, which writes beside the checkpoint."""
    with quiet_ultralytics(), no_foreign_output(), warnings.catch_warnings():
        from ultralytics.models import YOLO

        warnings.simplefilter("ignore", DeprecationWarning)  # of torch, about the exporter ultralytics calls

        try:
            return Path(YOLO(str(checkpoint), task="segment").export(format=target, verbose=False, **arguments))
        except _FAILURES as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ExportError(
                f"cannot be converted to {target}: {reason[:300]}", code="conversion_failed", where=checkpoint.name
            ) from error


def _check(agreement: Agreement, source: Path) -> None:
    if (
        agreement.only_first
        or agreement.only_second
        or agreement.box_px > _MAX_BOX_PX
        or agreement.mask_iou_min < _MIN_MASK_IOU
    ):
        raise ParityError(
            f"the ONNX model disagrees with the checkpoint on {counted(agreement.photos, 'photo')}:"
            f" {counted(agreement.pairs, 'person')} found by both, {agreement.only_first} and"
            f" {agreement.only_second} found by one alone, boxes off by up to {agreement.box_px:.2f} px, lowest mask"
            f" IoU {score(agreement.mask_iou_min)}",
            code="outputs_differ",
            where=source,
            hint="nothing was written",
        )
