"""What TensorRT measured on this GPU, kept from one build of a plan to the next: its timing cache."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from cls.errors import ExportError, FileError
from cls.export.formats.tensorrt_api import BuilderConfig, TimingCache
from cls.files import safe_name, write_bytes_atomic
from cls.package.plans import Gpu

_log = logging.getLogger("cls.export")

FOLDER = "tensorrt"
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class Timings:
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

    def give_to(self, config: BuilderConfig) -> None:
        """Lets a build begin with what is known; what cannot be used is ignored with a warning.

        Raises:
            ExportError: TensorRT makes no timing cache at all.
        """
        known = self._read()
        if known and _is_taken(config, config.create_timing_cache(known)):
            return
        if known:
            _log.warning("%s: TensorRT does not take these timings; they are measured anew", self.file)
        if not _is_taken(config, config.create_timing_cache(b"")):
            raise ExportError(f"TensorRT {self.version} makes no timing cache", where=self.file)

    def keep_from(self, config: BuilderConfig) -> None:
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
            _log.warning("%s cannot be read: %s; the timings are measured anew", self.file, error.strerror)
            return b""
        digest, timings = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if digest == self._digest(timings):
            return timings
        _log.warning("%s is damaged, or of another TensorRT or GPU; the timings are measured anew", self.file)
        return b""

    def _digest(self, timings: bytes) -> bytes:
        whose = f"{self.version}\n{self.gpu.name}\n{self.gpu.compute_capability}\n"
        return hashlib.sha256(whose.encode() + timings).digest()


def _is_taken(config: BuilderConfig, timings: TimingCache | None) -> bool:
    """Timings of another GPU, even of the same compute capability, are not taken: they would mislead."""
    return timings is not None and config.set_timing_cache(timings, False)
