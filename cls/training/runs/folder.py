"""Run folders: numbered without repeats, locked while in use, found again when a training was cut off."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from cls.bottle.layout import Bottle
from cls.errors import FileError, TrainingError
from cls.files import read_json, write_error, write_json_atomic

FINISHED = "metrics.json"
SPLIT = "split.json"
LEDGER = "ledger.json"
LOCK = ".lock"
_COUNTER = ".runs.json"
_TIME = ".time.json"
_NAME = re.compile(r"v__(\d+)_")


@dataclass
class RunFolder:
    """A run folder held by this process; others leave it alone until `release`, or until the process ends.

    Attributes:
        path: the folder.
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
        write_json_atomic(self._file, {"seconds": seconds, "since": self._started_s if is_running else None})

    def _of_earlier_parts(self, folder: Path) -> float:
        if not self._file.exists():
            return 0.0
        try:
            content = read_json(self._file)
            seconds, since = float(content["seconds"]), content["since"]
            if since is None:
                return seconds
            last_s = max(path.stat().st_mtime for path in folder.rglob("*") if path.is_file())
            return seconds + min(max(last_s - float(since), 0.0), max(self._started_s - float(since), 0.0))
        except (FileError, OSError, KeyError, TypeError, ValueError):
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
            write_json_atomic(models / _COUNTER, {"next": number + 1})
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
    write_json_atomic(path / ".identity.json", {"identity": identity})
    return RunFolder(path, is_resumed=False, _lock=lock)


def _next_number(bottle: Bottle, group: str) -> int:
    used = [number for path in run_folders(bottle, group) if (number := run_number(path)) is not None]
    counter = bottle.models(group) / _COUNTER
    counted = 0
    if counter.exists():
        content = read_json(counter)
        counted = int(content["next"]) if isinstance(content, dict) and "next" in content else 0
    return max([counted, *(number + 1 for number in used)])


def unfinished_run(bottle: Bottle, group: str, identity: str) -> RunFolder | None:
    """The newest run of the same identity that was cut off and that no process holds.

    The same identity means the same result: going on with it is the same training, minus what is done.
    """
    for path in reversed(run_folders(bottle, group)):
        if (path / FINISHED).exists():
            continue
        try:
            content = read_json(path / ".identity.json")
        except FileError:
            # Killed between making the folder and writing into it: there is nothing to go on with.
            continue
        if not isinstance(content, dict) or content.get("identity") != identity:
            continue
        lock = FileLock(path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        return RunFolder(path, is_resumed=True, _lock=lock)
    return None
