"""Trial steps in a process of their own: which memory format a backbone is trained in, and whether it can be trained.

channels_last is a third faster on a CPU, and some networks cannot be trained in it: torch ends in heap corruption, of
which no exception tells. So the first training of a backbone tries a few steps in a child process, in channels_last
and, where that fails, in the contiguous format. The verdict is kept in the user's cache folder: it is the machine's,
not the bottle's.
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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import timm
import torch
from pydantic import BaseModel, JsonValue

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
# A fifth of the time that imports take would be spent on looking for garbage among what they make.
_CHILD = "import gc; gc.disable(); from cls.training.network.trial_child import main; main()"
_TIMEOUT_S = 900.0
# As few as batch norms of a 1x1 feature map take: the gradients of large networks are most of a trial's time.
_MOST_PEOPLE = 2
_HINT = "choose another --arch, or another --size"


class TrialConditions(BaseModel):
    """Everything that the verdict of a trial depends on."""

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


class _Verdict(BaseModel):
    """The file of a verdict: the memory format to train in, and why it is not channels_last."""

    conditions: TrialConditions
    memory_format: str | None
    not_channels_last: str | None = None


@dataclass(frozen=True)
class Trial:
    """What is tried.

    Attributes:
        outputs: how many logits.
        is_pretrained: whether it starts from learned weights.
    """

    config: TrainConfig
    timm_arch: str
    outputs: int
    is_pretrained: bool

    @property
    def batch(self) -> int:
        """People a step: as in the training, at most two."""
        return min(self.config.batch, _MOST_PEOPLE)

    @property
    def conditions(self) -> TrialConditions:
        """Everything that the verdict depends on."""
        config = self.config
        return TrialConditions(
            cls=cls.__version__,
            torch=torch.__version__,
            timm=timm.__version__,
            architecture=self.timm_arch,
            size_px=list(config.size_px),
            batch=self.batch,
            precision=precision_of(config),
            device=torch.cuda.get_device_name() if torch_device() == "cuda" else _processor(),
            cores=cores(),
            stripes=config.stripes,
            freeze=config.freeze if self.is_pretrained else 0,
            head_start=config.head_start and self.is_pretrained,
            layer_decay=config.layer_decay != 1.0,
        )

    @cached_property
    def file(self) -> Path:
        """Where its verdict is kept."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
        digest = sha256_of_bytes(json.dumps(self.conditions.model_dump(), sort_keys=True).encode())[:16]
        return cache / "cls" / "trial_steps" / f"{safe_name(self.timm_arch)}_{digest}.json"


class TrialTask(BaseModel):
    """What the child process is told to try.

    Attributes:
        config: of `TrainConfig.to_dict`.
        outputs: how many logits.
        is_pretrained: whether it starts from learned weights.
        formats: memory formats, tried one after the other.
    """

    config: dict[str, JsonValue]
    timm_arch: str
    outputs: int
    is_pretrained: bool
    batch: int
    formats: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Outcome:
    """What a child process found: a memory format, or what is wrong with all that were tried."""

    memory_format: str | None = None
    not_channels_last: str | None = None
    what: str | None = None
    code: str = "trial_failed"
    hint: str | None = None
    is_crash: bool = False


def _processor() -> str:
    """What decides which kernels a CPU runs."""
    return f"cpu {torch.backends.cpu.get_cpu_capability()}"


class RunningTrial:
    """A trial that goes on in a child process while something else is done; see `start_trial`."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._kept = _read_verdict(trial)
        self._started_s = time.monotonic()
        self._child = None if self._kept else _start(trial, FORMATS)

    def memory_format(self) -> str:
        """Waits for the verdict: `channels_last` or `contiguous`; says it in the log.

        Raises:
            NetworkError: the network can be trained in neither.
        """
        version = torch.__version__.split("+")[0]
        if self._child is None:
            assert self._kept is not None  # noqa: S101 - one of both is there
            _log.info("memory format: %s (kept from an earlier trial step, torch %s)", self._kept, version)
            return self._kept
        outcome = _wait(self._child)
        if outcome.is_crash:
            why = outcome.what
            self._child = _start(self._trial, [CONTIGUOUS])
            outcome = replace(_wait(self._child), not_channels_last=why)
        if outcome.memory_format is None:
            raise NetworkError(
                f"backbone {self._trial.timm_arch} cannot be trained with torch {version}: {outcome.what}",
                code=outcome.code,
                hint=outcome.hint or _HINT,
            )
        why = f"; {CHANNELS_LAST}: {outcome.not_channels_last}" if outcome.not_channels_last else ""
        kept = "kept" if _keep_verdict(self._trial, outcome) else "not kept"
        _log.info(
            "memory format: %s (trial step passed in %.1f s, %s for torch %s%s)",
            outcome.memory_format, time.monotonic() - self._started_s, kept, version, why,
        )  # fmt: skip
        return outcome.memory_format

    def stop(self) -> None:
        """Ends the child process, if it still runs."""
        if self._child is not None:
            _end(self._child)


@contextmanager
def start_trial(trial: Trial) -> Iterator[RunningTrial]:
    """Starts the trial in a child process, unless its verdict is known; the child ends with the block."""
    running = RunningTrial(trial)
    try:
        yield running
    finally:
        running.stop()


def _start(trial: Trial, formats: Iterable[str]) -> subprocess.Popen[str]:
    task = TrialTask(
        config=trial.config.to_dict(), timm_arch=trial.timm_arch, outputs=trial.outputs,
        is_pretrained=trial.is_pretrained, batch=trial.batch, formats=tuple(formats),
    )  # fmt: skip
    child = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", _CHILD],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
            # Spinning threads took five times the processor time of the trial itself.
            "OMP_WAIT_POLICY": "PASSIVE",
        },
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert child.stdin is not None  # noqa: S101 - Popen's promise
    with contextlib.suppress(BrokenPipeError):  # it has died: its exit status says how
        child.stdin.write(task.model_dump_json())
        child.stdin.close()
    child.stdin = None
    return child


def _wait(child: subprocess.Popen[str]) -> _Outcome:
    try:
        said, _ = child.communicate(timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return _Outcome(what=f"the trial steps took more than {_TIMEOUT_S:.0f} s", code="timeout", is_crash=True)
    finally:
        _end(child)
    if child.returncode < 0:
        return _Outcome(
            what=f"a trial step crashed ({_signal_name(-child.returncode)})", code="trial_crashed", is_crash=True
        )
    try:
        outcome = _Outcome(**json.loads(said.strip().splitlines()[-1]))
    except (ValueError, IndexError, TypeError):
        return _Outcome(what=f"the trial process ended with status {child.returncode} and no answer", is_crash=True)
    if child.returncode:
        return _Outcome(what=f"the trial process ended with status {child.returncode}", is_crash=True)
    return outcome


def _end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()
    if child.stdout is not None:
        child.stdout.close()


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _read_verdict(trial: Trial) -> str | None:
    """The kept memory format; None where none is kept, or the file is damaged."""
    try:
        verdict = read_record(trial.file, _Verdict)
    except FileError:
        return None
    is_same = verdict.conditions == trial.conditions and verdict.memory_format in FORMATS
    return verdict.memory_format if is_same else None


def _keep_verdict(trial: Trial, outcome: _Outcome) -> bool:
    """Whether it could be written."""
    verdict = _Verdict(
        conditions=trial.conditions, memory_format=outcome.memory_format, not_channels_last=outcome.not_channels_last
    )
    try:
        write_json_atomic(trial.file, verdict.model_dump())
    except FileError as error:
        _log.debug("the trial's verdict is not kept: %s", error.line())
        return False
    return True
