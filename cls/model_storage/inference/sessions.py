"""ONNX Runtime sessions on the CPU: opening one, and what its tensors are called in the Open Inference Protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cls.model_storage.refusal import RefusedError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# Name in ONNX Runtime -> name in the Open Inference Protocol, NumPy type.
_TYPES: dict[str, tuple[str, type[np.generic]]] = {
    "tensor(float)": ("FP32", np.float32),
    "tensor(float16)": ("FP16", np.float16),
    "tensor(double)": ("FP64", np.float64),
    "tensor(bool)": ("BOOL", np.bool_),
    **{f"tensor(int{bits})": (f"INT{bits}", np.dtype(f"int{bits}").type) for bits in (8, 16, 32, 64)},
    **{f"tensor(uint{bits})": (f"UINT{bits}", np.dtype(f"uint{bits}").type) for bits in (8, 16, 32, 64)},
}
NUMPY_TYPES: dict[str, type[np.generic]] = dict(_TYPES.values())


def open_session(path: Path) -> InferenceSession:
    """Opens an ONNX model on the CPU.

    Raises:
        RefusedError: 422, ONNX Runtime cannot load it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Waiting threads that spin would take the cores of whatever else runs on the storage host.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # ONNX Runtime raises classes of its own without a common root, for whatever a foreign file holds.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        # Its messages name our files; whoever sent the model has no use for that.
        reason = reason.replace(f"{path.parent}/", "")[:300]
        raise RefusedError(422, f"{path.name} does not load in ONNX Runtime: {reason}") from error


def datatype_of(onnx_type: str) -> str:
    """`tensor(float)` -> `FP32`.

    Raises:
        RefusedError: 422, tensors of this type are not served.
    """
    if onnx_type not in _TYPES:
        raise RefusedError(422, f"tensors of type {onnx_type} are not served by the embedded engine")
    return _TYPES[onnx_type][0]


def batch_of_zeros(session: InferenceSession, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Zeros of a shape, in the type the input of this name takes."""
    onnx_type = next(item.type for item in session.get_inputs() if item.name == name)
    return np.zeros(shape, NUMPY_TYPES[datatype_of(onnx_type)])
