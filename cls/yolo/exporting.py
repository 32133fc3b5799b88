"""A trained checkpoint -> ONNX, proven on photos, and a TensorRT engine where there is a GPU."""

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
from cls.people.photos import read_photo
from cls.segmentation.agreement import Agreement, compare_people
from cls.segmentation.networks import no_foreign_output, quiet_ultralytics
from cls.segmentation.segmenter import load_segmenter
from cls.wording import counted, score

_LOGGER = logging.getLogger("cls.yolo")
_CONFIDENCE = 0.4
_MAX_BOX_PX = 0.5
_MIN_MASK_IOU = 0.99
_FAILURES = (RuntimeError, ValueError, TypeError, KeyError, AttributeError, AssertionError, OSError, ImportError)


@dataclass(frozen=True)
class ExportedModel:
    """What an export made.

    Attributes:
        onnx: the ONNX model.
        agreement: checkpoint and ONNX model on the same photos; None when there was no photo to compare on.
        engine: the TensorRT engine, if one was made.
        no_engine: why there is none.
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
    checkpoint = load_segmenter(source, people_classes={}, confidence=_CONFIDENCE)
    images = _read_photos(photos)
    destination.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=destination) as folder:
        copy = Path(folder) / source.name
        shutil.copyfile(source, copy)
        made = _convert(copy, "onnx", dynamic=True, simplify=True)
        exported = load_segmenter(made, people_classes={}, confidence=_CONFIDENCE)
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
        _LOGGER.warning("%d of %d photos cannot be read and are not compared on", broken, len(paths))
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
