"""What is used of TensorRT's Python package, as types: `tensorrt`, and TensorRT-RTX, whose package has the same.

The package itself has no types, and cannot be installed where most of this is developed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer


class TimingCache(Protocol):
    """How long each way to calculate each layer took on a GPU (`ITimingCache`)."""

    def serialize(self) -> Buffer:
        """All of it, for a file."""


class Profile(Protocol):
    """The sizes of inputs a plan is for (`IOptimizationProfile`)."""

    def set_shape(
        self, name: str, smallest: tuple[int, ...], usual: tuple[int, ...], largest: tuple[int, ...], /
    ) -> None:
        """The smallest, the usual and the largest size of an input."""


class BuilderConfig(Protocol):
    """How a plan is built (`IBuilderConfig`)."""

    def set_memory_pool_limit(self, pool: Any, size_bytes: int, /) -> None:
        """How many bytes a layer may use meanwhile."""

    def clear_flag(self, flag: Any, /) -> None:
        """Switches one of `BuilderFlag` off."""

    def add_optimization_profile(self, profile: Profile, /) -> int:
        """Returns the profile's number, or -1."""

    def create_timing_cache(self, content: Buffer, /) -> TimingCache | None:
        """Of a file's bytes; an empty one of none."""

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool, /) -> bool:
        """Builds with it, and adds to it; False where it is another GPU's."""

    def get_timing_cache(self) -> TimingCache | None:
        """What was set, with what a build added."""


class Parser(Protocol):
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
        """With TensorRT's defaults."""

    def create_optimization_profile(self) -> Profile:
        """Without any size yet."""

    def build_serialized_network(self, network: Any, config: BuilderConfig, /) -> Buffer | None:
        """A plan; None where it could not be built, the logger knows why."""


class Tensorrt(Protocol):
    """The Python package."""

    __version__: str
    ILogger: Any
    MemoryPoolType: Any
    BuilderFlag: Any
    NetworkDefinitionCreationFlag: Any

    def Builder(self, logger: Any, /) -> Builder:  # noqa: N802 - TensorRT's name
        """A builder for this machine's GPU."""

    def OnnxParser(self, network: Any, logger: Any, /) -> Parser:  # noqa: N802 - TensorRT's name
        """A parser that writes into the network."""
