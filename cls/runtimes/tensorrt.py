"""A TensorRT plan, run on the GPU it was built for."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cls.errors import PredictionError
from cls.package.meta import INPUT_NAME, OUTPUT_NAME
from cls.package.triton_config import MAX_BATCH_SIZE


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

    Args:
        content: the bytes of the plan.
        source: file it came from, for errors.

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
