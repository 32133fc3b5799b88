"""An ONNX network with 8-bit weights and activations (static quantisation, QDQ), calibrated on training people."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from cls.errors import ExportError, first_line
from cls.exporting.formats.calibration_images import CalibrationImages
from cls.exporting.formats.onnx import load_onnx, save_onnx, session_of
from cls.package.meta import INPUT_NAME
from cls.progress import track

# People on whom errors are measured.
_PEOPLE_TRIED = 32
_WITH_WEIGHTS = ("Conv", "Gemm", "MatMul", "ConvTranspose")


class Quantiser:
    """Quantises one network, again and again with more of it kept in float: ranges are measured once.

    Activations are unsigned 8-bit, ranges by minimum and maximum; weights are signed 8-bit, one scale a channel
    (docs/decisions). Ranges and the choice of layers depend on the training people alone.

    TensorRT reads other networks: activations are signed 8-bit around zero in them, and biases stay float32.

    Args:
        source: the float32 network, of `cls.exporting.formats.onnx.write_onnx`.
        images: training people.
        folder: for files in between, its own; the caller removes it.
        is_symmetric: quantise as TensorRT reads it.

    Raises:
        ExportError: the network cannot be prepared for quantisation.
    """

    def __init__(self, source: Path, images: CalibrationImages, folder: Path, *, is_symmetric: bool = False) -> None:
        from onnxruntime.quantization.shape_inference import quant_pre_process

        self._source, self._images, self._folder = source, images, folder
        self._is_symmetric = is_symmetric
        self._prepared = folder / "prepared.onnx"
        self._expected: NDArray[np.float32] | None = None
        self._ranking: tuple[str, ...] | None = None
        self._props = {prop.key: prop.value for prop in load_onnx(source).metadata_props}
        with _quiet():
            try:
                # Symbolic shapes are for transformers; the batch is the only free axis here.
                quant_pre_process(str(source), str(self._prepared), skip_symbolic_shape=True)
            except Exception as error:
                raise ExportError(
                    f"the network cannot be quantised: {first_line(error)}", code="quantization_failed", where=source
                ) from error
        nodes = onnx.load(self._prepared).graph.node
        self._nodes = tuple(node.name for node in nodes)
        self._layers = tuple(node.name for node in nodes if node.op_type in _WITH_WEIGHTS)

    def write(self, path: Path, *, kept_share: float = 0.0) -> tuple[str, ...]:
        """Writes the quantised network; returns the layers that stay in float.

        Args:
            path: the file to write, whole or not at all.
            kept_share: share of the layers that stay in float: the first ones, whose rounding reaches all that follow,
                or those that lose most by themselves, whichever leaves the smaller error.

        Raises:
            ExportError: the network cannot be quantised.
        """
        count = round(kept_share * len(self._layers))
        kept: tuple[str, ...] = ()
        model = self._quantised()
        if count:
            tried = [(kept, self._with(kept)) for kept in (self._layers[:count], self.sensitivity_ranking()[:count])]
            kept, model = min(tried, key=lambda one: self._error(one[1]))
        onnx.helper.set_model_props(model, {**self._props, "kept_in_float": ",".join(kept)})
        save_onnx(model, path)
        return kept

    def sensitivity_ranking(self) -> tuple[str, ...]:
        """The layers, from the one that changes the answers most when it alone is quantised."""
        if self._ranking is None:
            losses = {
                layer: self._error(self._quantised(nodes_to_quantize=[layer]))
                for layer in track(self._layers, "int8: layers tried")
            }
            # Equal losses keep the network's order, so that the same run gives the same bytes.
            self._ranking = tuple(sorted(losses, key=lambda layer: -losses[layer]))
        return self._ranking

    def _with(self, kept: Sequence[str]) -> onnx.ModelProto:
        """The quantised network with these layers in float."""
        # Whatever stands before the first layer in 8 bits is float, too: its values would be rounded for nothing.
        first = next(self._nodes.index(layer) for layer in self._layers if layer not in kept)
        return self._quantised(nodes_to_exclude=[*self._nodes[:first], *kept])

    def _error(self, model: onnx.ModelProto) -> float:
        """The mean square difference of its logits from the float network's."""
        if self._expected is None:
            self._expected = self._answers(load_onnx(self._source))
        return float(np.square(self._answers(model) - self._expected).mean())

    def _quantised(self, **which: list[str]) -> onnx.ModelProto:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        target = self._folder / "quantised.onnx"
        symmetric = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
        with _quiet():
            try:
                quantize_static(
                    str(self._prepared),
                    str(target),
                    _reader(self._images),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    activation_type=QuantType.QInt8 if self._is_symmetric else QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    calibrate_method=CalibrationMethod.MinMax,
                    calibration_cache_path=str(self._folder / "ranges.json"),
                    extra_options=symmetric if self._is_symmetric else {},
                    **which,
                )
            except Exception as error:
                raise ExportError(
                    f"the network cannot be quantised: {first_line(error)}",
                    code="quantization_failed",
                    where=self._source,
                ) from error
        return load_onnx(target)

    def _answers(self, model: onnx.ModelProto) -> NDArray[np.float32]:
        session = session_of(model.SerializeToString())
        batches = [session.run(None, {INPUT_NAME: batch})[0] for batch in self._images.batches(_PEOPLE_TRIED)]
        return np.concatenate(batches)


def _reader(images: CalibrationImages) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter(images.batches())

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(self._batches, None)
            return None if batch is None else {INPUT_NAME: batch}

    return Reader()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the quantiser's prints and its advice off the user's terminal, and its temporary files in one place."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
