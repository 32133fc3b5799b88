"""A smoke test in a process of its own: whether a backbone can be trained here, and in which memory format.

channels_last is a third faster on a CPU, but some networks cannot be trained in it: torch corrupts the heap, which
raises no exception. So the first training of a backbone runs a few steps in a child process, in channels_last and,
where that fails, in the contiguous format. The result is kept in the user's cache folder: it is the machine's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import timm
import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

import cls
from cls.errors import FileError, NetworkError
from cls.files import safe_name, sha256_of_bytes, write_json_atomic
from cls.machine import cores
from cls.records import read_record
from cls.training.config import TrainConfig
from cls.training.loop.distributed import precision_of, torch_device

_log = logging.getLogger("cls.training")

CHANNELS_LAST, CONTIGUOUS = "channels_last", "contiguous"
FORMATS = {CHANNELS_LAST: torch.channels_last, CONTIGUOUS: torch.contiguous_format}
# With garbage collection, the imports take a fifth longer.
_CHILD = "import gc; gc.disable(); from cls.training.network.smoke_test_child import main; main()"
_TIMEOUT_S = 900.0
# The fewest that batch norms of a 1x1 feature map take: the gradients of large networks take most of the time.
_MOST_PEOPLE = 2


class _Conditions(BaseModel):
    """Everything that the result of a smoke test depends on."""

    cls: str
    torch: str
    timm: str
    architecture: str
    size_px: list[int]
    batch: int
    precision: str
    device: str
    cores: int
    stripes: int
    freeze: int
    head_start: bool
    layer_decay: bool


class _CachedResult(BaseModel):
    """The memory format to train in, and why it is not channels_last."""

    conditions: _Conditions
    memory_format: str | None
    not_channels_last: str | None = None


def _config_of(value: Any) -> Any:
    return TrainConfig.from_dict(value) if isinstance(value, dict) else value


class SmokeTest(BaseModel):
    """The network that is tested; sent to the child process as JSON.

    Attributes:
        outputs: how many logits.
        is_pretrained: whether the training starts from pretrained weights.
        formats: memory formats, tested in this order until one works.
    """

    model_config = ConfigDict(frozen=True)

    config: Annotated[TrainConfig, BeforeValidator(_config_of), PlainSerializer(TrainConfig.to_dict)]
    timm_arch: str
    outputs: int
    is_pretrained: bool
    formats: tuple[str, ...] = tuple(FORMATS)

    @property
    def batch(self) -> int:
        """People in a batch: as in the training, at most two."""
        return min(self.config.batch, _MOST_PEOPLE)

    @cached_property
    def conditions(self) -> _Conditions:
        """Everything that the result depends on."""
        config = self.config
        is_cuda = torch_device() == "cuda"
        return _Conditions(
            cls=cls.__version__,
            torch=torch.__version__,
            timm=timm.__version__,
            architecture=self.timm_arch,
            size_px=list(config.size_px),
            batch=self.batch,
            precision=precision_of(config),
            device=torch.cuda.get_device_name() if is_cuda else f"cpu {torch.backends.cpu.get_cpu_capability()}",
            cores=cores(),
            stripes=config.stripes,
            freeze=config.freeze if self.is_pretrained else 0,
            head_start=config.head_start and self.is_pretrained,
            layer_decay=config.layer_decay != 1.0,
        )

    @cached_property
    def file(self) -> Path:
        """Where its result is kept."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
        digest = sha256_of_bytes(json.dumps(self.conditions.model_dump(), sort_keys=True).encode())[:16]
        return cache / "cls" / "smoke_tests" / f"{safe_name(self.timm_arch)}_{digest}.json"

    def cached_format(self) -> str | None:
        """The memory format of an earlier smoke test; None where there was none, or the file is damaged."""
        try:
            known = read_record(self.file, _CachedResult)
        except FileError:
            return None
        return known.memory_format if known.conditions == self.conditions and known.memory_format in FORMATS else None


@dataclass(frozen=True)
class _Outcome:
    """The memory format that works, or why none of those tested does."""

    memory_format: str | None = None
    not_channels_last: str | None = None
    what: str | None = None
    code: str = "trial_failed"
    hint: str | None = None
    is_crash: bool = False


class RunningSmokeTest:
    """A smoke test in a child process, which ends with the `with` block; none is started where the result is cached."""

    def __init__(self, test: SmokeTest) -> None:
        self._test = test
        self._cached = test.cached_format() or ""
        self._started_s = time.monotonic()
        self._child = None if self._cached else _start(test, test.formats)

    def __enter__(self) -> RunningSmokeTest:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            _end(self._child)

    def memory_format(self) -> str:
        """Waits for the result, `channels_last` or `contiguous`, and logs it.

        Raises:
            NetworkError: the network can be trained in neither.
        """
        version = torch.__version__.split("+")[0]
        if self._child is None:
            _log.info("memory format: %s (from an earlier smoke test, torch %s)", self._cached, version)
            return self._cached
        outcome = _wait(self._child)
        if outcome.is_crash:
            why = outcome.what
            self._child = _start(self._test, [CONTIGUOUS])
            outcome = replace(_wait(self._child), not_channels_last=why)
        if outcome.memory_format is None:
            raise NetworkError(
                f"backbone {self._test.timm_arch} cannot be trained with torch {version}: {outcome.what}",
                code=outcome.code,
                hint=outcome.hint or "choose another --arch, or another --size",
            )
        why = f"; {CHANNELS_LAST}: {outcome.not_channels_last}" if outcome.not_channels_last else ""
        _log.info(
            "memory format: %s (smoke test passed in %.1f s, %s for torch %s%s)",
            outcome.memory_format, time.monotonic() - self._started_s,
            "kept" if _write_result(self._test, outcome) else "not kept", version, why,
        )  # fmt: skip
        return outcome.memory_format


def _start(test: SmokeTest, formats: Iterable[str]) -> subprocess.Popen[str]:
    child = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", _CHILD],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
            # Spinning threads took five times the processor time of the test itself.
            "OMP_WAIT_POLICY": "PASSIVE",
        },
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert child.stdin is not None  # noqa: S101 - a pipe was asked for
    with contextlib.suppress(BrokenPipeError):  # the child has died: its exit status tells how
        child.stdin.write(test.model_copy(update={"formats": tuple(formats)}).model_dump_json())
        child.stdin.close()
    child.stdin = None
    return child


def _wait(child: subprocess.Popen[str]) -> _Outcome:
    try:
        output, _ = child.communicate(timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return _Outcome(what=f"the smoke test took more than {_TIMEOUT_S:.0f} s", code="timeout", is_crash=True)
    finally:
        _end(child)
    status = child.returncode
    if status < 0:
        name = next((known.name for known in signal.Signals if known == -status), f"signal {-status}")
        return _Outcome(what=f"the smoke test crashed ({name})", code="trial_crashed", is_crash=True)
    ended = f"the process of the smoke test ended with status {status}"
    try:
        outcome = _Outcome(**json.loads(output.strip().splitlines()[-1]))
    except (ValueError, IndexError, TypeError):
        return _Outcome(what=f"{ended} and without a result", is_crash=True)
    return _Outcome(what=ended, is_crash=True) if status else outcome


def _end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()
    if child.stdout is not None:
        child.stdout.close()


def _write_result(test: SmokeTest, outcome: _Outcome) -> bool:
    """Whether the result could be written to the cache."""
    result = _CachedResult(
        conditions=test.conditions, memory_format=outcome.memory_format, not_channels_last=outcome.not_channels_last
    )
    try:
        write_json_atomic(test.file, result.model_dump())
    except FileError as error:
        _log.debug("the result of the smoke test is not kept: %s", error.line())
        return False
    return True
