"""Run folders: numbered without repeats, locked while in use, resumed after an interruption."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import FiniteFloat

from cls.bottle.layout import Bottle
from cls.errors import FileError, TrainingError
from cls.files import write_error
from cls.records import Record, read_record, write_record

FINISHED = "metrics.json"
SPLIT = "split.json"
LEDGER = "ledger.json"
LOCK = ".lock"
_COUNTER = ".runs.json"
_IDENTITY = ".identity.json"
_TIME = ".time.json"
_NAME = re.compile(r"v__(\d+)_")


class RunSeconds(Record):
    """.time.json of a run folder: how long a run took that may have been interrupted and resumed.

    Attributes:
        seconds: of the parts that ended.
        since: Unix time at which the part began that is running or was killed; None where there is none.
    """

    seconds: FiniteFloat
    since: FiniteFloat | None


class RunIdentity(Record):
    """.identity.json of a run folder: the digest of everything that decides the result."""

    identity: str


class RunCounter(Record):
    """.runs.json of a group: the number of the next run, which never decreases."""

    next: int = 0


@dataclass
class LockedRunFolder:
    """A run folder locked by this process until `release`, or until the end of a `with` block, which gives its path."""

    path: Path
    _lock: FileLock

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Unlocks the folder."""
        self._lock.release()


class RunTime:
    """How long a run has taken so far, also before it was interrupted.

    A part that ended by an error or Ctrl-C has written its time. One that was killed counts up to the last file it
    wrote. The time between parts does not count.

    Args:
        folder: the run folder.
        started_s: when this part began, before it had a folder; `time.time()`.
    """

    def __init__(self, folder: Path, started_s: float) -> None:
        self._file, self._started_s = folder / _TIME, started_s
        self._earlier_s = self._of_earlier_parts(folder)
        self._note(is_running=True)

    @property
    def seconds(self) -> float:
        """All parts, up to now."""
        return self._earlier_s + max(time.time() - self._started_s, 0.0)

    def __enter__(self) -> RunTime:
        return self

    def __exit__(self, *_: object) -> None:
        """Writes the time of this part, if it can be written."""
        with suppress(FileError):
            self._note(is_running=False)

    def _note(self, *, is_running: bool) -> None:
        seconds = self._earlier_s if is_running else self.seconds
        write_record(self._file, RunSeconds(seconds=seconds, since=self._started_s if is_running else None))

    def _of_earlier_parts(self, folder: Path) -> float:
        if not self._file.exists():
            return 0.0
        try:
            known = read_record(self._file, RunSeconds)
            if known.since is None:
                return known.seconds
            last_s = max(path.stat().st_mtime for path in folder.rglob("*") if path.is_file())
            return known.seconds + max(min(last_s, self._started_s) - known.since, 0.0)
        except (FileError, OSError):
            return 0.0  # an unknown time must not end a run


def run_number(folder: Path) -> int | None:
    """The `<n>` of a run folder's name; None for another folder."""
    match = _NAME.match(folder.name)
    return int(match[1]) if match else None


def run_folders(bottle: Bottle, group: str) -> list[Path]:
    """All run folders of a group, finished or not, by number."""
    folder = bottle.models(group)
    numbered = [(number, path) for path in folder.glob("v__*") if (number := run_number(path)) is not None]
    return [path for _, path in sorted(numbered) if path.is_dir()]


def new_run_folder(bottle: Bottle, group: str, tail: str, identity: str) -> LockedRunFolder:
    """Makes the next run folder of a group; numbers of deleted folders are not used again.

    Args:
        bottle: the data folder.
        group: the group.
        tail: what follows `v__<n>_` in the name.
        identity: of the training; see `unfinished_run`.

    Raises:
        TrainingError: the folder cannot be made.
    """
    models = bottle.models(group)
    try:
        models.mkdir(parents=True, exist_ok=True)
        with FileLock(models / LOCK):
            number = _next_number(bottle, group)
            write_record(models / _COUNTER, RunCounter(next=number + 1))
            path = models / f"v__{number}_{tail}"
            path.mkdir()
            lock = FileLock(path / LOCK)
            lock.acquire(timeout=0)
    except OSError as error:
        raise TrainingError(
            f"no run folder can be made: {error.strerror}",
            code=write_error(models, error).case,
            where=models,
            hint="check free space and permissions",
        ) from error
    write_record(path / _IDENTITY, RunIdentity(identity=identity))
    return LockedRunFolder(path, lock)


def _next_number(bottle: Bottle, group: str) -> int:
    used = [number for path in run_folders(bottle, group) if (number := run_number(path)) is not None]
    counter = bottle.models(group) / _COUNTER
    counted = read_record(counter, RunCounter, "remove the file").next if counter.exists() else 0
    return max([counted, *(number + 1 for number in used)])


def unfinished_run(bottle: Bottle, group: str, identity: str) -> LockedRunFolder | None:
    """The newest interrupted run with the same identity (so with the same result) that no process has locked."""
    for path in reversed(run_folders(bottle, group)):
        if (path / FINISHED).exists():
            continue
        try:
            known = read_record(path / _IDENTITY, RunIdentity)
        except FileError:
            continue  # killed before the identity was written: there is nothing to resume
        if known.identity != identity:
            continue
        lock = FileLock(path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        return LockedRunFolder(path, lock)
    return None
