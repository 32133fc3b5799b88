"""Networks run in this process: PyTorch, TorchScript, ONNX Runtime."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cls.errors import PredictionError
from cls.machine import cores
from cls.package.meta import INPUT_NAME, OUTPUT_NAME

if TYPE_CHECKING:
    from torch import nn

_HINT = "make it again with `cls export`"
_core_limit: int | None = None


class TorchRuntime:
    """A PyTorch network, evaluation mode, on the CPU.

    Attributes:
        network: the network itself.
    """

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
            reason = str(error).strip().splitlines()[-1]
            raise PredictionError(
                f"the network does not take images of shape {images.shape}: {reason}", code="wrong_input_shape"
            ) from error
        return logits


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

    Args:
        content: the bytes of the .onnx file.
        source: file it came from, for errors.
        input_name: the network's input.
        output_name: the network's output.

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
            raise PredictionError(
                f"the network has inputs {inputs} and outputs {outputs}, expected '{input_name}' and '{output_name}'",
                code="unexpected_tensors",
                where=source,
                hint=_HINT,
            )
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
            reason = str(error).strip().splitlines()[0]
            raise PredictionError(
                f"the network does not take images of shape {images.shape}: {reason}",
                code="wrong_input_shape",
                where=self._source,
                hint=_HINT,
            ) from error
        return logits


def use_cores(count: int) -> None:
    """Networks opened from now on use so many cores, at most those there are: a worker shares its machine."""
    global _core_limit
    _core_limit = max(count, 1)


def available_cores() -> int:
    """How many cores this process may use."""
    return cores() if _core_limit is None else min(cores(), _core_limit)
