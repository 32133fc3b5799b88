"""An OpenVINO network (model.xml with model.bin), run on the CPU."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cls.errors import PredictionError
from cls.package.meta import INPUT_NAME, OUTPUT_NAME

_HINT = "make it again with `cls export --formats openvino`"
_TELEMETRY = "openvino_telemetry"
_core_lock = threading.Lock()


def why_no_openvino() -> str | None:
    """Why OpenVINO networks cannot be run here, in a few words; None when they can."""
    if importlib.util.find_spec("openvino") is None:
        return "OpenVINO is not installed (pip install -e '.[openvino]')"
    return None


def openvino_module() -> Any:
    """The module `openvino`, imported so that it reports to nobody.

    Importing it sends an event to Google Analytics unless the package `openvino_telemetry` is missing, so it is made to
    look missing (openvino 2026.4, tools/ovc/__init__.py).
    """
    if "openvino" not in sys.modules:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # Python's own way to say: not there
    return importlib.import_module("openvino")


def openvino_core() -> Any:
    """The process's one `openvino.Core`, kept to its end.

    On CPUs with AMX each core's CPU plugin gives the thread another stack for signals, and frees it when the last
    network of that core goes. With several cores that go in the order they came, the last one puts back a stack that
    is freed already, and the next signal (Ctrl-C, a child that ends) ends the process without a word (openvino 2026.4).
    """
    # Without the lock, threads that come first together would make one each.
    with _core_lock:
        return _make_core()


@functools.cache
def _make_core() -> Any:
    return openvino_module().Core()


class OpenvinoRuntime:
    """An OpenVINO network on the CPU.

    Args:
        graph: the bytes of the .xml file.
        weights: the bytes of the .bin file.
        source: file they came from, for errors.
        threads: cores to use.
        input_name: the network's input.
        output_name: the network's output.

    Raises:
        PredictionError: OpenVINO is not installed, the bytes are not a network, or it lacks that input or output.
    """

    def __init__(
        self,
        graph: bytes,
        weights: bytes,
        source: object,
        *,
        threads: int,
        input_name: str = INPUT_NAME,
        output_name: str = OUTPUT_NAME,
    ) -> None:
        reason = why_no_openvino()
        if reason is not None:
            raise PredictionError(
                f"an OpenVINO network cannot be run here: {reason}",
                code="runtime_unavailable",
                where=source,
                hint="install it, or use the package's ONNX",
            )
        openvino = openvino_module()
        try:
            core = openvino_core()
            network = core.read_model(model=graph, weights=weights)
            inputs = [name for port in network.inputs for name in port.get_names()]
            outputs = [name for port in network.outputs for name in port.get_names()]
            # Decisions must agree with the network that was trained: CPUs with bfloat16 would round by default.
            options = {
                "INFERENCE_PRECISION_HINT": "f32",
                "INFERENCE_NUM_THREADS": threads,
                "PERFORMANCE_HINT": "LATENCY",
            }
            self._network = core.compile_model(network, "CPU", options)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise PredictionError(
                f"is not an OpenVINO network: {reason}", code="invalid_model", where=source, hint=_HINT
            ) from error
        if input_name not in inputs or output_name not in outputs:
            raise PredictionError(
                f"the network has inputs {inputs} and outputs {outputs}, expected '{input_name}' and '{output_name}'",
                code="unexpected_tensors",
                where=source,
                hint=_HINT,
            )
        self._request = self._network.create_infer_request()
        self._source = source
        self._input_name, self._output_name = input_name, output_name
        self.description = f"OpenVINO {openvino.__version__.split('-')[0]}"

    def logits(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Images, as the network takes them (float32 NCHW, normalised) -> float32 (batch, labels).

        Raises:
            PredictionError: the network does not take images of this shape.
        """
        try:
            self._request.infer({self._input_name: np.ascontiguousarray(images)})
            # A copy: the next run would write over the request's own memory.
            return np.array(self._request.get_tensor(self._output_name).data, np.float32)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise PredictionError(
                f"the network does not take images of shape {images.shape}: {reason}",
                code="wrong_input_shape",
                where=self._source,
                hint=_HINT,
            ) from error
