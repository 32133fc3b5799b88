"""Run folders: numbered without repeats, locked while in use, found again when a training was cut off."""

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
    """.time.json of a run folder.

    Attributes:
        seconds: how long the parts took that are over.
        since: when the part began that is running or was killed, in seconds since 1970; None where there is none.
    """

    seconds: FiniteFloat
    since: FiniteFloat | None


class RunIdentity(Record):
    """.identity.json of a run folder.

    Attributes:
        identity: digest of everything that decides the result.
    """

    identity: str


class RunCounter(Record):
    """.runs.json of a group.

    Attributes:
        next: the number of the next run; never less than it was.
    """

    next: int = 0


@dataclass
class RunFolder:
    """A run folder held by this process; others leave it alone until `release`, or until the process ends.

    Attributes:
        is_resumed: whether an earlier, cut-off training left it.
    """

    path: Path
    is_resumed: bool
    _lock: FileLock

    def release(self) -> None:
        """Lets go of the folder."""
        self._lock.release()


class RunTime:
    """How long a run has taken so far, those of its parts included that were cut off.

    A part that ended by an error or Ctrl-C has written its time down. One that was killed counts up to the last file it
    wrote. The time in between, when nothing ran, does not count.

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
        """All parts, this one up to now."""
        return self._earlier_s + max(time.time() - self._started_s, 0.0)

    def __enter__(self) -> RunTime:
        return self

    def __exit__(self, *_: object) -> None:
        """Writes down that this part is over; a disk that is full has more to say than the time."""
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
            # Its time is not worth a run.
            return 0.0


def run_number(folder: Path) -> int | None:
    """The `<n>` of a run folder's name; None for another folder."""
    match = _NAME.match(folder.name)
    return int(match[1]) if match else None


def run_folders(bottle: Bottle, group: str) -> list[Path]:
    """All run folders of a group, finished or not, by number."""
    folder = bottle.models(group)
    numbered = [(number, path) for path in folder.glob("v__*") if (number := run_number(path)) is not None]
    return [path for _, path in sorted(numbered) if path.is_dir()]


def new_run_folder(bottle: Bottle, group: str, tail: str, identity: str) -> RunFolder:
    """Makes the next run folder of a group.

    The number is one above every number ever given: a counter file under a lock remembers those of deleted folders.

    Args:
        bottle: the data folder.
        group: the group.
        tail: what follows `v__<n>_` in the name.
        identity: digest of everything that decides the result; `unfinished_run` compares it.

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
    return RunFolder(path, is_resumed=False, _lock=lock)


def _next_number(bottle: Bottle, group: str) -> int:
    used = [number for path in run_folders(bottle, group) if (number := run_number(path)) is not None]
    counter = bottle.models(group) / _COUNTER
    counted = read_record(counter, RunCounter, "remove the file").next if counter.exists() else 0
    return max([counted, *(number + 1 for number in used)])


def unfinished_run(bottle: Bottle, group: str, identity: str) -> RunFolder | None:
    """The newest run of the same identity that was cut off and that no process holds.

    The same identity means the same result: going on with it is the same training, minus what is done.
    """
    for path in reversed(run_folders(bottle, group)):
        if (path / FINISHED).exists():
            continue
        try:
            known = read_record(path / _IDENTITY, RunIdentity)
        except FileError:
            # Killed between making the folder and writing into it: there is nothing to resume from.
            continue
        if known.identity != identity:
            continue
        lock = FileLock(path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        return RunFolder(path, is_resumed=True, _lock=lock)
    return None
