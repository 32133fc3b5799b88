"""Converts a run's network to every export format."""

from __future__ import annotations

import json
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from cls.bottle.layout import Bottle
from cls.errors import ClsError, ExportError, first_line
from cls.exporting.formats.calibration_images import CalibrationImages
from cls.exporting.formats.files import FILES, Format
from cls.exporting.formats.onnx import add_notes, check_model_files, write_onnx
from cls.exporting.formats.onnx_fp16 import write_onnx_fp16
from cls.exporting.formats.onnx_int8 import Quantiser
from cls.exporting.formats.torchscript import write_torchscript
from cls.files import write_bytes_atomic
from cls.people.preprocess import Preprocessing
from cls.runtimes.local import openvino_core, openvino_module
from cls.training.runs.run import FinishedRun

if TYPE_CHECKING:
    from torch import nn

_log = logging.getLogger("cls.exporting")

_WORK = ".work"
_INT8_OF_PLANS = "int8_of_plans.onnx"


def write_openvino(source: Path, xml_path: Path) -> None:
    """Converts an ONNX network, float32 or quantised, with its numbers as they are.

    The ONNX is read by `Core.read_model`, not by `convert_model`: that one reports its use to Intel's analytics
    (openvino-telemetry), this one to nobody. The ONNX's metadata stand in the file under `rt_info/framework`.

    Args:
        source: the ONNX.
        xml_path: the graph to write; the weights go beside it, under the same name with `.bin`.

    Raises:
        ExportError: OpenVINO does not know the network.
    """
    openvino = openvino_module()
    check_model_files([source])
    with tempfile.TemporaryDirectory(dir=xml_path.parent, prefix=".openvino-") as folder:
        made = Path(folder) / "model.xml"
        try:
            model = openvino_core().read_model(str(source))
            _name_by_place(model)
            openvino.save_model(model, str(made), compress_to_fp16=False)
        except RuntimeError as error:
            raise ExportError(
                f"OpenVINO cannot convert the network: {first_line(error)}", code="conversion_failed", where=source
            ) from error
        # The weights first: a graph that is there has its weights.
        write_bytes_atomic(xml_path.with_suffix(".bin"), made.with_suffix(".bin").read_bytes())
        write_bytes_atomic(xml_path, made.read_bytes())


def _name_by_place(model: Any) -> None:
    """Names the layers that OpenVINO adds by their place: its own numbers count through the life of the process."""
    for number, layer in enumerate(model.get_ordered_ops()):
        kind = layer.get_type_name()
        if re.fullmatch(rf"{kind}_\d+", layer.get_friendly_name()):
            layer.set_friendly_name(f"{kind}_at_{number}")


class Conversions:
    """Converts a run to the export formats, in a folder; what they share is made once.

    Use it as a context manager: the intermediate files are removed when the block ends.

    Args:
        bottle: the data folder.
        run: a finished run.
        folder: where model files go, under the names of `FILES`.
        is_end_to_end: put preprocessing and activation inside.
    """

    def __init__(
        self,
        bottle: Bottle,
        run: FinishedRun,
        folder: Path,
        *,
        is_end_to_end: bool = False,
    ) -> None:
        self._bottle, self._run, self._folder, self._is_end_to_end = bottle, run, folder, is_end_to_end
        self._work = folder / _WORK
        self._cleaning = ExitStack()
        self._cleaning.callback(shutil.rmtree, self._work, ignore_errors=True)
        self._work.mkdir()
        self.plain = self._work / FILES["onnx"].model
        self._failure: ExportError | None = None

    def __enter__(self) -> Conversions:
        """The conversions themselves."""
        return self

    def __exit__(self, *_: object) -> None:
        """Removes the intermediate files."""
        self._cleaning.close()

    def convert_to_onnx(self) -> None:
        """Writes the float32 ONNX that every format except TorchScript is made from; call it before `make`.

        If the conversion fails, `make` raises its error for the formats that need the ONNX.

        Raises:
            TrainingError: the run's network cannot be read.
        """
        started_s = time.monotonic()
        _log.info("converting the network to ONNX")
        network = self._network
        try:
            write_onnx(network, self._run.preprocessing, self._run.labels, self.plain)
            add_notes(self.plain, self._notes())
        except ExportError as error:
            self._failure = error
            return
        _log.info("converted the network to ONNX (%.1f s)", time.monotonic() - started_s)

    def source_of(self, name: Format) -> Path | None:
        """The ONNX a format is made from, normalised images in and logits out; None where there is none."""
        if FILES[name].source is None:
            # What the preprocessing was put into departs from nothing but the network without it.
            return self.plain if name == "onnx" and self._is_end_to_end else None
        return self.plain

    def onnx_for_plan(self, name: Format) -> Path:
        """The ONNX that a format's package carries where it is to be made again on another machine."""
        return self._work / _INT8_OF_PLANS if name == "trt_int8" else self.plain

    def make(self, name: Format, kept_share: float = 0.0) -> tuple[str, ...]:
        """Writes the model files of a format; returns the layers that stay in float32.

        Args:
            name: the format; one that this machine can make.
            kept_share: for half precision and 8 bits: share of the layers that stay in float32.

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
            from cls.exporting.formats.tensorrt import write_plan

            write_plan(plain, self._run.preprocessing, target, self._bottle.cache)
            return kept
        whole = self._finished(plain)
        if FILES[name].platform == "openvino":
            write_openvino(whole, target)
        else:
            shutil.copyfile(whole, target)
        return kept

    def _plain_of(self, name: Format, kept_share: float) -> tuple[Path, tuple[str, ...]]:
        """The ONNX in a format's precision, without preprocessing, and the layers that stay in float32 in it."""
        precision = FILES[name].precision
        if name == "trt_int8":
            path = self.onnx_for_plan(name)
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
        from cls.exporting.formats.end_to_end import write_end_to_end

        path = self._work / f"{plain.stem}_end_to_end.onnx"
        write_end_to_end(plain, self._stage, path)
        return path

    def _write_torchscript(self, path: Path) -> None:
        if not self._is_end_to_end:
            write_torchscript(self._network, self._run.preprocessing, path)
            return
        from cls.exporting.formats.end_to_end import EndToEnd, example_crops

        whole = EndToEnd(self._network, self._run.preprocessing)
        write_torchscript(whole, self._run.preprocessing, path, examples=example_crops)

    def _notes(self) -> dict[str, str]:
        thresholds = dict(zip(self._run.labels, self._run.thresholds, strict=True))
        return {
            "thresholds": json.dumps(thresholds, ensure_ascii=False),
            "run": self._run.name,
            "weights": self._run.metrics.weights_sha256,
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
        from cls.exporting.formats.end_to_end import input_stage

        return input_stage(self._run.preprocessing)


def write_run_formats(
    network: nn.Module, preprocessing: Preprocessing, labels: tuple[str, ...], folder: Path
) -> dict[str, str | None]:
    """Writes TorchScript and ONNX into a run folder; says why where one of them cannot be made."""
    return {
        "torchscript": _why_not(
            partial(write_torchscript, network, preprocessing, folder / "torchscripts" / "model.pt")
        ),
        "onnx": _why_not(partial(write_onnx, network, preprocessing, labels, folder / "onnx" / "model.onnx")),
    }


def _why_not(write: Callable[[], None]) -> str | None:
    """Why a form cannot be written; None when it is."""
    try:
        write()
    except ExportError as error:
        _log.warning("not written, and the run is finished without it: %s", error.line())
        return error.what
    return None


def readable_error(error: ClsError, name: Format, where: str, folder: Path) -> ExportError:
    """A converter's error without the paths of temporary files, which are gone when it is read."""
    what = error.what.replace(f"{folder / _WORK}/", "").replace(f"{folder}/", "")
    if error.where is not None and not error.where.startswith(str(folder)):
        where = f"{where}: {error.where}"
    hint = error.hint or f"leave out {name} in --formats, or run again with --debug to see all that the converter says"
    readable = ExportError(what, code=error.case, where=where, hint=hint)
    readable.__cause__ = error
    return readable
