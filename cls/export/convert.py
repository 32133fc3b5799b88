"""A run's network in every format, each made from the one it is best made from."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import onnx

from cls.bottle.layout import Bottle
from cls.errors import ExportError, PredictionError
from cls.export.formats.calibration_images import CalibrationImages
from cls.export.formats.files import FILES, Format
from cls.export.formats.onnx import add_notes, write_onnx
from cls.export.formats.onnx_fp16 import write_onnx_fp16
from cls.export.formats.onnx_int8 import Quantiser
from cls.export.formats.tensorrt import gpu_in_use
from cls.export.parity.samples import Reference
from cls.package.meta import PlanMeta
from cls.package.packing import REBUILD_ONNX, REBUILD_SAMPLES, CarriedSamples, PackedModel
from cls.package.plans import HEADER_BYTES, version_in_plan
from cls.package.vectors import vectors_as_files
from cls.runtimes.conformance import make_vectors
from cls.runtimes.open import open_classifier
from cls.runtimes.tensorrt import tensorrt_module
from cls.training.runs.run import Run

if TYPE_CHECKING:
    from torch import nn

_log = logging.getLogger("cls.export")


def packed_model(
    name: Format,
    folder: Path,
    onnx: Path,
    samples: bytes | None = None,
    *,
    is_rebuilt: bool = False,
    vectors: Mapping[str, bytes] | None = None,
) -> PackedModel:
    """The files of one format.

    A plan's zip carries the ONNX, since plans are made where they are served; people are carried by the zips that
    `cls package rebuild` starts from, the ONNX's and the plans'. A package that was rebuilt carries what it was rebuilt
    from, so that it can be again.

    Args:
        name: the format.
        folder: holds its files under the names of `FILES`.
        onnx: what a plan is made from on the machine that serves it: the float32 ONNX, or an 8-bit one.
        samples: `rebuild/samples.npz`, where people are carried along.
        is_rebuilt: whether `cls package rebuild` makes it.
        vectors: of `vectors_of_zip`, once the model is proven.
    """
    files = FILES[name]
    contents: dict[str, Path | bytes] = {
        inner: folder / file for inner, file in zip(files.inner, files.files, strict=True)
    }
    is_plan = files.platform == "tensorrt_plan"
    if (is_plan or is_rebuilt) and name != "onnx":
        contents[REBUILD_ONNX] = onnx
    if samples is not None and (is_plan or is_rebuilt or name == "onnx"):
        contents[REBUILD_SAMPLES] = samples
    contents |= vectors or {}
    return PackedModel(name, files.platform, contents, plan_of_this_gpu(folder / files.model) if is_plan else None)


def vectors_of_zip(name: Format, archive: Path, bottle: Bottle) -> dict[str, bytes]:
    """What the model in a zip answers to drawn photos: the files of `vectors/`; none where it has no answer to them.

    Args:
        name: the format.
        archive: the zip, still without vectors.
        bottle: the data folder, whose limits say how far a model's answers may vary from machine to machine.
    """
    limit = bottle.settings.parity_limits[FILES[name].precision].batch
    classifier = open_classifier(str(archive), bottle)
    try:
        vectors = make_vectors(classifier, 1.0 if limit is None else limit)
    except PredictionError as error:
        # It is proven on people; one drawn photo that overflows half precision is no reason to lose every format.
        _log.warning("%s carries no conformance vectors: %s", archive.name, error.what)
        return {}
    return vectors_as_files(vectors)


def plan_of_this_gpu(plan: Path) -> PlanMeta:
    """What a plan that was built just now, on this machine's GPU, needs to run."""
    with plan.open("rb") as source:
        version = version_in_plan(source.read(HEADER_BYTES), plan)
    gpu = gpu_in_use()
    return PlanMeta(
        tensorrt_version=version or str(tensorrt_module().__version__),
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
    )


def people_to_carry(reference: Reference, count: int, *, seed: int = 0) -> CarriedSamples:
    """Some of the people an export is proven on, chosen by a seed; all of them where there are fewer.

    Args:
        reference: the people, and what the trained network says of them.
        count: how many, at least 1.
        seed: of the choice.
    """
    chosen = np.random.default_rng(seed).choice(len(reference), min(count, len(reference)), replace=False)
    order = np.sort(chosen)
    return CarriedSamples(
        crops_rgb=reference.crops_rgb[order],
        # The last bits depend on the number of threads: rounded, the zip is the same on every machine.
        probabilities=np.round(reference.probs[order], 6),
        truth=reference.truth[order].astype(np.float32),
        labels=tuple(reference.trained.labels),
    )


WORK = ".work"
_INT8_OF_PLANS = "int8_of_plans.onnx"


class Conversions:
    """Makes the formats of a run in a folder; what they share is made once.

    Use as a context: its folder of work in between goes when the block ends.

    Args:
        bottle: the data folder.
        run: a finished run.
        folder: where model files go, under the names of `FILES`.
        is_end_to_end: put preprocessing and activation inside.
        first: what writes the float32 ONNX that the others are made from.

    Raises:
        TrainingError: the run's network cannot be read.
    """

    def __init__(
        self,
        bottle: Bottle,
        run: Run,
        folder: Path,
        *,
        is_end_to_end: bool = False,
        first: Callable[..., None] = write_onnx,
    ) -> None:
        self._bottle, self._run, self._folder, self._is_end_to_end = bottle, run, folder, is_end_to_end
        self._work = folder / WORK
        self._cleaning = ExitStack()
        self._cleaning.callback(shutil.rmtree, self._work, ignore_errors=True)
        self._work.mkdir()
        self.plain = self._work / FILES["onnx"].model
        # TorchScript is made without it: whoever asks for another format is told.
        self._failure: ExportError | None = None
        network = self._network
        try:
            first(network, run.preprocessing, run.labels, self.plain)
            add_notes(self.plain, self._notes())
        except ExportError as error:
            self._failure = error

    def __enter__(self) -> Conversions:
        """The conversions themselves."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Removes the work in between."""
        self._cleaning.close()

    def source_of(self, name: Format) -> Path | None:
        """The ONNX a format is made from, normalised images in and logits out; None where there is none."""
        if FILES[name].source is None:
            # What the preprocessing was put into departs from nothing but the network without it.
            return self.plain if name == "onnx" and self._is_end_to_end else None
        return self.plain

    def carried(self, name: Format) -> Path:
        """The ONNX that a format's package carries where it is to be made again on another machine."""
        return self._work / _INT8_OF_PLANS if name == "trt_int8" else self.plain

    def make(self, name: Format, kept_share: float = 0.0) -> tuple[str, ...]:
        """Writes the model files of a format.

        Args:
            name: the format; one that this machine can make.
            kept_share: for half precision and 8 bits: share of the layers that stay in float32.

        Returns:
            The layers that stay in float32.

        Raises:
            ExportError: the network cannot be converted.
        """
        target = self._folder / FILES[name].model
        if name == "torchscript":
            self._write_torchscript(target)
            return ()
        if self._failure is not None:
            raise self._failure
        plain, kept = self._plain_of(name, kept_share)
        if FILES[name].platform == "tensorrt_plan":
            from cls.export.formats.tensorrt import write_plan

            write_plan(plain, self._run.preprocessing, target, self._bottle.cache)
            return kept
        whole = self._finished(plain)
        if FILES[name].platform == "openvino":
            from cls.export.formats.openvino import write_openvino

            write_openvino(whole, target)
        else:
            shutil.copyfile(whole, target)
        return kept

    def _plain_of(self, name: Format, kept_share: float) -> tuple[Path, tuple[str, ...]]:
        """The ONNX in a format's precision, without preprocessing, and the layers that stay in float32 in it."""
        precision = FILES[name].precision
        if name == "trt_int8":
            path = self.carried(name)
            return path, self._quantiser_of_plans.write(path, kept_share=kept_share)
        path = self._work / f"{precision}.onnx"
        if precision == "fp16":
            return path, write_onnx_fp16(self.plain, self._images, path, kept_share=kept_share)
        if precision == "int8":
            return path, self._quantiser.write(path, kept_share=kept_share)
        return self.plain, ()

    def _finished(self, plain: Path) -> Path:
        if not self._is_end_to_end:
            return plain
        from cls.export.formats.end_to_end import write_end_to_end

        path = self._work / f"{plain.stem}_end_to_end.onnx"
        write_end_to_end(plain, self._stage, path)
        return path

    def _write_torchscript(self, path: Path) -> None:
        from cls.export.formats.torchscript import write_torchscript

        if not self._is_end_to_end:
            write_torchscript(self._network, self._run.preprocessing, path)
            return
        from cls.export.formats.end_to_end import EndToEnd, example_crops

        whole = EndToEnd(self._network, self._run.preprocessing)
        write_torchscript(whole, self._run.preprocessing, path, examples=example_crops)

    def _notes(self) -> dict[str, str]:
        thresholds = dict(zip(self._run.labels, self._run.thresholds, strict=True))
        return {
            "thresholds": json.dumps(thresholds, ensure_ascii=False),
            "run": self._run.name,
            "weights": self._run.weights_sha256,
        }

    @cached_property
    def _network(self) -> nn.Module:
        return self._run.load_network()

    @cached_property
    def _images(self) -> CalibrationImages:
        return CalibrationImages.of_run(self._bottle, self._run)

    @cached_property
    def _quantiser(self) -> Quantiser:
        folder = self._work / "int8"
        folder.mkdir()
        return Quantiser(self.plain, self._images, folder)

    @cached_property
    def _quantiser_of_plans(self) -> Quantiser:
        folder = self._work / "int8_of_plans"
        folder.mkdir()
        return Quantiser(self.plain, self._images, folder, is_symmetric=True)

    @cached_property
    def _stage(self) -> onnx.ModelProto:
        from cls.export.formats.end_to_end import input_stage

        return input_stage(self._run.preprocessing)
