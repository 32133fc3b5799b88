"""An ONNX network as a TensorRT plan, for this machine's GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cls.errors import ExportError
from cls.files import write_bytes_atomic
from cls.package.meta import INPUT_NAME
from cls.package.triton_config import MAX_BATCH_SIZE
from cls.people.preprocess import Preprocessing
from cls.prediction.tensorrt_runtime import tensorrt_module

_USUAL_BATCH = 8
_WORKSPACE_BYTES = 2 << 30


def write_plan(onnx_path: Path, preprocessing: Preprocessing, path: Path) -> str:
    """Builds a plan: float32 as in the ONNX (strongly typed), any batch from 1 to `MAX_BATCH_SIZE`.

    TF32 is switched off, so that a plan's decisions can be those of the network it came from.

    Args:
        onnx_path: of `cls.export.onnx.write_onnx`.
        preprocessing: what makes the network's input.
        path: the plan to write, whole or not at all.

    Returns:
        TensorRT's version; a plan runs on this version and this kind of GPU alone.

    Raises:
        ExportError: TensorRT cannot read the network or build a plan of it; says why.
    """
    trt = tensorrt_module()
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_path.read_bytes()):
        faults = "; ".join(str(parser.get_error(number)) for number in range(parser.num_errors))
        raise ExportError(f"TensorRT {trt.__version__} cannot read the network: {faults}", where=onnx_path)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    if hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)
    profile = builder.create_optimization_profile()
    shape = (3, preprocessing.height_px, preprocessing.width_px)
    profile.set_shape(INPUT_NAME, (1, *shape), (_USUAL_BATCH, *shape), (MAX_BATCH_SIZE, *shape))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError(f"TensorRT {trt.__version__} could not build a plan", where=onnx_path)
    write_bytes_atomic(path, bytes(plan))
    return str(trt.__version__)


def _network_flags(trt: Any) -> int:
    """Strongly typed, where that is not the only kind of network (from version 11 on it is)."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)
