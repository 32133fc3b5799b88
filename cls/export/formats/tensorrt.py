"""An ONNX network as a TensorRT plan, for this machine's GPU."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cls.errors import ExportError
from cls.export.formats.tensorrt_timings import Timings
from cls.files import write_bytes_atomic
from cls.package.meta import INPUT_NAME
from cls.package.plans import Gpu
from cls.package.triton_config import MAX_BATCH_SIZE
from cls.people.preprocess import Preprocessing
from cls.runtimes.tensorrt import tensorrt_module

if TYPE_CHECKING:
    from cls.export.formats.tensorrt_api import BuilderConfig, Profile, Tensorrt

_log = logging.getLogger("cls.export")

_USUAL_BATCH = 8
_WORKSPACE_BYTES = 2 << 30
_LONGEST_REASON = 300


def write_plan(
    onnx_path: Path,
    preprocessing: Preprocessing,
    path: Path,
    cache: Path,
    *,
    tensorrt: Tensorrt | None = None,
    gpu: Gpu | None = None,
) -> str:
    """Builds a plan in the precisions that the ONNX says (strongly typed), any batch from 1 to `MAX_BATCH_SIZE`.

    TF32 is switched off, so that a plan's decisions can be those of the network it came from.

    Args:
        onnx_path: of `cls.export.formats.onnx.write_onnx`, `write_onnx_fp16`, or a symmetric `Quantiser`.
        preprocessing: what makes the network's input.
        path: the plan to write, whole or not at all.
        cache: the bottle's folder of derived data: what was measured for one plan makes the next one faster.
        tensorrt: the package `tensorrt` when not given.
        gpu: this machine's when not given.

    Returns:
        TensorRT's version; a plan runs on this version and this kind of GPU alone.

    Raises:
        ExportError: TensorRT cannot read the network or build a plan of it; says why.
    """
    trt: Tensorrt = tensorrt or tensorrt_module()
    log = _new_log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx_path.read_bytes()):
        faults = "; ".join(_one_line(parser.get_error(number)) for number in range(parser.num_errors))
        raise ExportError(f"TensorRT {trt.__version__} cannot read the network: {faults}", where=onnx_path)
    config = _configured(trt, builder.create_builder_config())
    config.add_optimization_profile(_sized(builder.create_optimization_profile(), preprocessing))
    timings = Timings(cache, trt.__version__, gpu or gpu_in_use())
    timings.give_to(config)
    log.errors.clear()
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        reason = _one_line(log.errors[0]) if log.errors else "it does not say why"
        raise ExportError(f"TensorRT {trt.__version__} could not build a plan: {reason}", where=onnx_path)
    timings.keep_from(config)
    write_bytes_atomic(path, bytes(plan))
    return trt.__version__


def gpu_in_use() -> Gpu:
    """The GPU that plans are built for here: PyTorch's current one."""
    import torch

    major, minor = torch.cuda.get_device_capability()
    return Gpu(torch.cuda.get_device_name(), f"{major}.{minor}")


def _configured(trt: Tensorrt, config: BuilderConfig) -> BuilderConfig:
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    if hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)
    return config


def _sized(profile: Profile, preprocessing: Preprocessing) -> Profile:
    shape = (3, preprocessing.height_px, preprocessing.width_px)
    profile.set_shape(INPUT_NAME, (1, *shape), (_USUAL_BATCH, *shape), (MAX_BATCH_SIZE, *shape))
    return profile


def _network_flags(trt: Tensorrt) -> int:
    """Strongly typed, where that is not the only kind of network (from version 11 on it is)."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _new_log(trt: Tensorrt) -> Any:
    """Takes what TensorRT says; its own logger prints, and a failure then has no reason that an error could name."""

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.ILogger.Severity.ERROR):
                self.errors.append(message)
            if int(severity) <= int(trt.ILogger.Severity.WARNING):
                _log.debug("TensorRT: %s", message)

    return Log()


def _one_line(reason: object) -> str:
    return " ".join(str(reason).split())[:_LONGEST_REASON]
