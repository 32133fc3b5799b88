"""Networks run in this process: PyTorch, TorchScript, ONNX Runtime, OpenVINO, TensorRT."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import io
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cls.errors import PredictionError
from cls.machine import cores
from cls.package.meta import INPUT_NAME, OUTPUT_NAME
from cls.package.triton_config import MAX_BATCH_SIZE

if TYPE_CHECKING:
    from torch import nn

_HINT = "make it again with `cls export`"
_core_limit: int | None = None

_OPENVINO_HINT = "make it again with `cls export --formats openvino`"
_TELEMETRY = "openvino_telemetry"


class TorchRuntime:
    """A PyTorch network, evaluation mode, on the CPU."""

    def __init__(self, network: nn.Module) -> None:
        import torch

        if _core_limit is not None:
            torch.set_num_threads(available_cores())
        self.network = network.eval()
        self.description = f"PyTorch {torch.__version__.split('+')[0]}"

    def logits(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Images float32 (batch, 3, height, width), normalised -> logits float32 (batch, labels).

        Raises:
            PredictionError: the network, kept as TorchScript, does not take images of this shape.
        """
        import torch

        try:
            with torch.inference_mode():
                logits: NDArray[np.float32] = self.network(torch.from_numpy(images)).numpy()
        except RuntimeError as error:
            raise _wrong_shape(images, str(error).strip().splitlines()[-1]) from error
        return logits


def _wrong_shape(images: NDArray[Any], reason: str, source: object = None, hint: str | None = None) -> PredictionError:
    return PredictionError(
        f"the network does not take images of shape {images.shape}: {reason}",
        code="wrong_input_shape",
        where=source,
        hint=hint,
    )


def _unexpected_tensors(
    inputs: list[str], outputs: list[str], wanted: tuple[str, str], source: object, hint: str
) -> PredictionError:
    return PredictionError(
        f"the network has inputs {inputs} and outputs {outputs}, expected '{wanted[0]}' and '{wanted[1]}'",
        code="unexpected_tensors",
        where=source,
        hint=hint,
    )


def torchscript_runtime(path: Path, content: bytes | None = None) -> TorchRuntime:
    """A network kept as TorchScript.

    Args:
        path: the file, or what it came from.
        content: its bytes, where it does not stand in a file of its own.

    Raises:
        PredictionError: it is not TorchScript.
    """
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            load: Any = torch.jit.load
            runtime = TorchRuntime(load(str(path) if content is None else io.BytesIO(content), map_location="cpu"))
        except (RuntimeError, OSError, ValueError) as error:
            raise PredictionError(
                "is not a TorchScript network", code="invalid_model", where=path, hint=_HINT
            ) from error
    runtime.description = runtime.description.replace("PyTorch", "TorchScript, PyTorch")
    return runtime


class OnnxRuntime:
    """An ONNX network run by ONNX Runtime on the CPU.

    Raises:
        PredictionError: the bytes are not a network, or it lacks that input or output.
    """

    def __init__(
        self, content: bytes, source: object, *, input_name: str = INPUT_NAME, output_name: str = OUTPUT_NAME
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # The cores this process may use: ONNX Runtime itself counts those of the machine.
        options.intra_op_num_threads = available_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise PredictionError(
                f"is not an ONNX network: {reason}", code="invalid_model", where=source, hint=_HINT
            ) from error
        inputs = [item.name for item in self._session.get_inputs()]
        outputs = [item.name for item in self._session.get_outputs()]
        if inputs != [input_name] or output_name not in outputs:
            raise _unexpected_tensors(inputs, outputs, (input_name, output_name), source, _HINT)
        self._source = source
        self._input_name, self._output_name = input_name, output_name
        self.description = f"ONNX Runtime {onnxruntime.__version__}"

    def logits(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Images float32 (batch, 3, height, width), normalised -> logits float32 (batch, labels).

        Raises:
            PredictionError: the network does not take images of this shape.
        """
        try:
            logits: NDArray[np.float32] = self._session.run([self._output_name], {self._input_name: images})[0]
        except Exception as error:
            raise _wrong_shape(images, str(error).strip().splitlines()[0], self._source, _HINT) from error
        return logits


def use_cores(count: int) -> None:
    """Networks opened from now on use so many cores, at most those there are: a worker shares its machine."""
    global _core_limit
    _core_limit = max(count, 1)


def available_cores() -> int:
    """How many cores this process may use."""
    return cores() if _core_limit is None else min(cores(), _core_limit)


def why_no_tensorrt() -> str | None:
    """Why plans can neither be built nor run here, in a few words; None when they can."""
    try:
        tensorrt_module()
    except ImportError:
        return "TensorRT is not installed (Python package tensorrt)"
    import torch

    return None if torch.cuda.is_available() else "there is no CUDA GPU that PyTorch can use"


def tensorrt_module() -> Any:
    """The module `tensorrt`; kept untyped, since it cannot be installed on most machines."""
    return importlib.import_module("tensorrt")


class TensorrtRuntime:
    """A plan, executed with its buffers in PyTorch's GPU memory.

    Raises:
        PredictionError: plans cannot be run here, or this one was built for another GPU or TensorRT version.
    """

    def __init__(self, content: bytes, source: object) -> None:
        reason = why_no_tensorrt()
        if reason is not None:
            raise PredictionError(
                f"a TensorRT plan cannot be run here: {reason}",
                code="runtime_unavailable",
                where=source,
                hint="use the package's ONNX",
            )
        trt = tensorrt_module()
        # The engine lives as long as its runtime, and that as long as its logger: all three are kept.
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise PredictionError(
                "the plan was built for another GPU or TensorRT version",
                code="incompatible_plan",
                where=source,
                hint="run `cls export` on this machine",
            )
        self._context = self._engine.create_execution_context()
        self._source = source
        self.description = f"TensorRT {trt.__version__}"

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Images float32 (batch, 3, height, width), normalised -> logits float32 (batch, labels).

        Raises:
            PredictionError: the plan does not take images of this shape.
        """
        parts = [self._run(images[start : start + MAX_BATCH_SIZE]) for start in range(0, len(images), MAX_BATCH_SIZE)]
        return np.concatenate(parts)

    def _run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        source = torch.from_numpy(np.ascontiguousarray(images)).cuda()
        if not self._context.set_input_shape(INPUT_NAME, tuple(source.shape)):
            raise PredictionError(
                f"the plan does not take images of shape {images.shape}", code="wrong_input_shape", where=self._source
            )
        target = torch.empty(tuple(self._context.get_tensor_shape(OUTPUT_NAME)), dtype=torch.float32, device="cuda")
        self._context.set_tensor_address(INPUT_NAME, source.data_ptr())
        self._context.set_tensor_address(OUTPUT_NAME, target.data_ptr())
        stream = torch.cuda.current_stream()
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise PredictionError("the plan failed on the GPU", code="run_failed", where=self._source)
        stream.synchronize()
        logits: NDArray[np.float32] = target.cpu().numpy()
        return logits


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
        model: the bytes of an .xml and of its .bin.
        source: where they are from, for messages.
        threads: how many compute.
        input_name: of the network's input.
        output_name: of its output.

    Raises:
        PredictionError: OpenVINO is not installed, the bytes are not a network, or it lacks that input or output.
    """

    def __init__(
        self,
        model: tuple[bytes, bytes],
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
            network = core.read_model(model=model[0], weights=model[1])
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
                f"is not an OpenVINO network: {reason}", code="invalid_model", where=source, hint=_OPENVINO_HINT
            ) from error
        if input_name not in inputs or output_name not in outputs:
            raise _unexpected_tensors(inputs, outputs, (input_name, output_name), source, _OPENVINO_HINT)
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
            raise _wrong_shape(images, str(error).strip().splitlines()[-1], self._source, _OPENVINO_HINT) from error
