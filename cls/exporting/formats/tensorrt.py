"""An ONNX network as a TensorRT plan, for this machine's GPU."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from cls.errors import ExportError, FileError
from cls.files import safe_name, write_bytes_atomic
from cls.package.meta import INPUT_NAME
from cls.package.plans import Gpu
from cls.package.triton_config import MAX_BATCH_SIZE
from cls.people.preprocess import Preprocessing
from cls.runtimes.local import tensorrt_module

if TYPE_CHECKING:
    from typing_extensions import Buffer

_log = logging.getLogger("cls.exporting")

FOLDER = "tensorrt"
_DIGEST_BYTES = 32

_USUAL_BATCH = 8
_WORKSPACE_BYTES = 2 << 30
_LONGEST_REASON = 300


@dataclass(frozen=True)
class TimingCacheFile:
    """The timing cache of one version of TensorRT on one kind of GPU, as a file.

    The file begins with a SHA-256 of whose it is and of what follows: TensorRT is given nothing that a killed process,
    a full disk or another machine made of it. Two builds at a time overwrite each other's; the later one's stay.

    Attributes:
        cache: the folder of derived data; may be deleted at any time.
        version: of TensorRT.
        gpu: what is measured on.
    """

    cache: Path
    version: str
    gpu: Gpu

    @property
    def file(self) -> Path:
        """Where they are kept."""
        return self.cache / FOLDER / safe_name(f"{self.version} {self.gpu.name} {self.gpu.compute_capability}.timings")

    def load_into(self, config: BuilderConfig) -> None:
        """Lets a build begin with what is known; what cannot be used is ignored with a warning.

        Raises:
            ExportError: TensorRT makes no timing cache at all.
        """
        known = self._read()
        if known and _is_taken(config, config.create_timing_cache(known)):
            return
        if known:
            _log.warning("%s: TensorRT does not take these timings; they are measured again", self.file)
        if not _is_taken(config, config.create_timing_cache(b"")):
            raise ExportError(f"TensorRT {self.version} makes no timing cache", code="no_timing_cache", where=self.file)

    def save_from(self, config: BuilderConfig) -> None:
        """Keeps what is known after a build; a folder that cannot be written to costs a warning, not the plan."""
        timings = config.get_timing_cache()
        if timings is None:
            return
        content = bytes(timings.serialize())
        try:
            write_bytes_atomic(self.file, self._digest(content) + content)
        except FileError as error:
            _log.warning("%s; the next plan takes as long as this one", error.line())

    def _read(self) -> bytes:
        try:
            content = self.file.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            _log.warning("%s cannot be read: %s; the timings are measured again", self.file, error.strerror)
            return b""
        digest, timings = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if digest == self._digest(timings):
            return timings
        _log.warning("%s is damaged, or of another TensorRT or GPU; the timings are measured again", self.file)
        return b""

    def _digest(self, timings: bytes) -> bytes:
        whose = f"{self.version}\n{self.gpu.name}\n{self.gpu.compute_capability}\n"
        return hashlib.sha256(whose.encode() + timings).digest()


def _is_taken(config: BuilderConfig, timings: TimingCache | None) -> bool:
    """Timings of another GPU, even of the same compute capability, are not taken: they would mislead."""
    return timings is not None and config.set_timing_cache(timings, False)


class TimingCache(Protocol):
    """How long each way to calculate each layer took on a GPU (`ITimingCache`)."""

    def serialize(self) -> Buffer:
        """All of it, for a file."""


class OptimizationProfile(Protocol):
    """The sizes of inputs a plan is for (`IOptimizationProfile`)."""

    def set_shape(
        self, name: str, smallest: tuple[int, ...], usual: tuple[int, ...], largest: tuple[int, ...], /
    ) -> None:
        """The smallest, the usual and the largest size of an input."""


class BuilderConfig(Protocol):
    """How a plan is built (`IBuilderConfig`)."""

    def set_memory_pool_limit(self, pool: Any, size_bytes: int, /) -> None:
        """How many bytes a layer may use in the meantime."""

    def clear_flag(self, flag: Any, /) -> None:
        """Switches one of `BuilderFlag` off."""

    def add_optimization_profile(self, profile: OptimizationProfile, /) -> int:
        """Returns the profile's number, or -1."""

    def create_timing_cache(self, content: Buffer, /) -> TimingCache | None:
        """Of a file's bytes; an empty one of none."""

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool, /) -> bool:
        """Builds with it, and adds to it; False where it is another GPU's."""

    def get_timing_cache(self) -> TimingCache | None:
        """What was set, with what a build added."""


class NetworkParser(Protocol):
    """Reads an ONNX into a network (`OnnxParser`)."""

    @property
    def num_errors(self) -> int:
        """How many reasons there are why it could not."""

    def parse(self, model: Buffer, /) -> bool:
        """Reads it; says whether it could."""

    def get_error(self, index: int, /) -> object:
        """One of the reasons; its text is for people."""


class Builder(Protocol):
    """Builds plans (`Builder`)."""

    def create_network(self, flags: int, /) -> object:
        """An empty network."""

    def create_builder_config(self) -> BuilderConfig:
        """A builder configuration with TensorRT's defaults."""

    def create_optimization_profile(self) -> OptimizationProfile:
        """An optimization profile without sizes."""

    def build_serialized_network(self, network: Any, config: BuilderConfig, /) -> Buffer | None:
        """A plan; None if it could not be built, for the reason that the logger gave."""


class Tensorrt(Protocol):
    """The Python package."""

    __version__: str
    ILogger: Any
    MemoryPoolType: Any
    BuilderFlag: Any
    NetworkDefinitionCreationFlag: Any

    def Builder(self, logger: Any, /) -> Builder:  # noqa: N802 - TensorRT's name
        """A builder for this machine's GPU."""

    def OnnxParser(self, network: Any, logger: Any, /) -> NetworkParser:  # noqa: N802 - TensorRT's name
        """A parser that writes into the network."""


class PlanTarget(NamedTuple):
    """What a plan is built by and for.

    Attributes:
        tensorrt: the package `tensorrt`, or one that builds as it does.
        gpu: the GPU that the plan runs on.
    """

    tensorrt: Tensorrt
    gpu: Gpu


def write_plan(
    onnx_path: Path, preprocessing: Preprocessing, path: Path, cache: Path, *, target: PlanTarget | None = None
) -> str:
    """Builds a plan in the precisions that the ONNX says (strongly typed), any batch from 1 to `MAX_BATCH_SIZE`.

    TF32 is switched off, so that a plan's decisions can be those of the network it came from.

    Args:
        onnx_path: of `cls.exporting.formats.onnx.write_onnx`, `write_onnx_fp16`, or a symmetric `Quantiser`.
        preprocessing: what makes the network's input.
        path: the plan to write, whole or not at all.
        cache: the bottle's folder of derived data: what was measured for one plan makes the next one faster.
        target: what builds it, and for which GPU; this machine's when not given.

    Returns:
        TensorRT's version; a plan runs on this version and this kind of GPU alone.

    Raises:
        ExportError: TensorRT cannot read the network or build a plan of it; says why.
    """
    trt, gpu = target or (tensorrt_module(), gpu_in_use())
    log = _new_log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx_path.read_bytes()):
        faults = "; ".join(_one_line(parser.get_error(number)) for number in range(parser.num_errors))
        raise ExportError(
            f"TensorRT {trt.__version__} cannot read the network: {faults}", code="unsupported_network", where=onnx_path
        )
    config = _configured(trt, builder.create_builder_config())
    config.add_optimization_profile(_sized(builder.create_optimization_profile(), preprocessing))
    timings = TimingCacheFile(cache, trt.__version__, gpu)
    timings.load_into(config)
    log.errors.clear()
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        reason = _one_line(log.errors[0]) if log.errors else "it does not say why"
        raise ExportError(
            f"TensorRT {trt.__version__} could not build a plan: {reason}", code="build_failed", where=onnx_path
        )
    timings.save_from(config)
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


def _sized(profile: OptimizationProfile, preprocessing: Preprocessing) -> OptimizationProfile:
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
