"""All training runs of a bottle: finished, running, unfinished or damaged."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from cls.bottle.layout import Bottle
from cls.errors import BottleError, ClsError
from cls.files import text_of_safe_name
from cls.metrics.scores import Interval, Metrics, ValidationScores
from cls.records import Record, read_record
from cls.training.runs.args import ARGS, RunArgs, read_args
from cls.training.runs.folder import FINISHED, LOCK, run_folders, run_number
from cls.training.runs.metrics import RunMetrics, SampleCounts
from cls.training.runs.run import FinishedRun, open_run

_LISTED = ("samples", "run_seconds", "seconds", "dataset_sha256", "split_sha256")
FINISHED_STATE, RUNNING, UNFINISHED, DAMAGED = "finished", "running", "unfinished", "damaged"

_log = logging.getLogger("cls.training")

_Content = TypeVar("_Content")


@dataclass(frozen=True)
class RunEntry:
    """A run folder in any state.

    Attributes:
        group: name as the annotators typed it, if known.
        state: `finished`, `running` (locked by a process of this machine), `unfinished` or `damaged`.
        problem: what is damaged.
        args: the content of args.yaml; None where it cannot be read.
        metrics: the content of metrics.json; None where it cannot be read.
    """

    folder: Path
    group: str
    state: str
    problem: str = ""
    args: RunArgs | None = field(default=None, repr=False)
    metrics: RunMetrics | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def setting(self, key: str) -> Any:
        """A setting of the run; None if unknown."""
        return None if self.args is None else self.args.settings.get(key)

    @property
    def validation(self) -> Metrics | None:
        """Metrics on validation; None where there was none."""
        return None if self.metrics is None else self.metrics.validation

    @property
    def size(self) -> str:
        """Height and width of the input, `256x192`; empty if unknown."""
        return "" if self.args is None else f"{self.args.preprocessing.height_px}x{self.args.preprocessing.width_px}"

    @property
    def date_finished(self) -> str:
        """When it was finished, ISO 8601; empty if unknown."""
        return "" if self.metrics is None else self.metrics.finished

    @property
    def date(self) -> str:
        """When it was finished, or else started: `2026-11-22 19:40`, UTC."""
        text = self.date_finished or (self.args.started if self.args else "")
        return str(text)[:16].replace("T", " ")

    def open(self, bottle: Bottle) -> FinishedRun:
        """Opens the run.

        Raises:
            BottleError: it is not finished, or its files cannot be read.
        """
        if self.state in (RUNNING, UNFINISHED):
            raise BottleError(
                f"the run is not finished: it is {self.state}",
                code="unfinished_run",
                where=self.folder,
                hint="`cls train` with the same settings finishes it; `cls runs` lists all runs",
            )
        return open_run(bottle, self.folder)

    def listed(self) -> ListedRun:
        """Its row in `cls runs --json`."""
        validation = self.validation or Metrics()
        known = {} if self.metrics is None else {key: getattr(self.metrics, key) for key in _LISTED}
        return ListedRun(
            group=self.group,
            run=self.name,
            state=self.state,
            problem=self.problem or None,
            date=self.date or None,
            arch=self.setting("arch"),
            size=self.size or None,
            epochs=self.setting("epochs"),
            people=known.get("samples"),
            cross_validated=None if self.validation is None else CrossValidated.of(self.validation.scores),
            ap=validation.macro.ap,
            f1=validation.macro.f1,
            ma=validation.macro.ma,
            auroc=validation.macro.auroc,
            intervals={key: validation.mean(key).bounds for key in ("ap", "f1", "ma")},
            left_out_of_intervals=validation.left_out,
            run_seconds=known.get("run_seconds"),
            seconds=known.get("seconds"),
            dataset_sha256=known.get("dataset_sha256"),
            split_sha256=known.get("split_sha256"),
        )


class CrossValidated(Record):
    """Cross-validated means over labels.

    Attributes:
        f1: mean F1.
        ma: mean accuracy mA.
        interval: 95 percent interval of `f1`.
        mean_over_labels: over how many labels `f1` is the mean.
        labels: how many there are.
        people: in validation.
        picsets: of these people.
    """

    f1: float | None
    ma: float | None
    interval: Interval
    mean_over_labels: int
    labels: int
    people: int | None
    picsets: int | None

    @classmethod
    def of(cls, scores: ValidationScores) -> CrossValidated:
        """Those of a validation."""
        f1 = scores.f1
        return cls(
            f1=f1.value,
            ma=scores.ma.value,
            interval=f1.bounds,
            mean_over_labels=f1.labels,
            labels=f1.of,
            people=scores.people,
            picsets=scores.picsets,
        )


class ListedRun(Record):
    """A run as `cls runs --json` lists it; what is not known is null.

    Attributes:
        group: name as the annotators typed it.
        run: name of the run folder.
        state: `finished`, `running`, `unfinished` or `damaged`.
        problem: what is damaged.
        date: when it was finished, or else started: `2026-11-22 19:40`, UTC.
        arch: `--arch`.
        size: height and width of the input, `256x192`.
        epochs: `--epochs`.
        people: in training and validation.
        cross_validated: scores to expect on new people.
        ap: mean average precision mAP.
        f1: mean F1 with thresholds chosen on the same people.
        ma: mean accuracy mA with the same thresholds.
        auroc: mean AUROC.
        intervals: 95 percent intervals of `ap`, `f1` and `ma`.
        left_out_of_intervals: labels that intervals and cross-validated means are without.
        run_seconds: duration of the whole run.
        seconds: duration of the fit.
        dataset_sha256: as in metrics.json.
        split_sha256: as in metrics.json.
    """

    group: str
    run: str
    state: str
    problem: str | None
    date: str | None
    arch: object
    size: str | None
    epochs: object
    people: SampleCounts | None
    cross_validated: CrossValidated | None
    ap: float | None
    f1: float | None
    ma: float | None
    auroc: float | None
    intervals: dict[str, Interval]
    left_out_of_intervals: tuple[str, ...]
    run_seconds: float | None
    seconds: float | None
    dataset_sha256: str | None
    split_sha256: str | None


def list_runs(bottle: Bottle, group: str | None = None) -> list[RunEntry]:
    """All runs of a group, or of all groups, by group and number.

    Raises:
        BottleError: the group given has no runs.
    """
    entries = _entries(bottle, group)
    if group is not None and not entries:
        known = sorted({entry.group for entry in list_runs(bottle)})
        hint = f"groups with runs: {', '.join(known)}" if known else "train one: `cls train --cat GROUP`"
        raise BottleError(f"group '{group}' has no runs", code="no_runs", where=bottle.models(group), hint=hint)
    return entries


def _entries(bottle: Bottle, group: str | None) -> list[RunEntry]:
    if group is not None:
        return [_entry(folder, group) for folder in run_folders(bottle, group)]
    models = bottle.root / bottle.settings.models_dir
    folders = [path for path in sorted(models.glob("*/v__*")) if path.is_dir() and run_number(path) is not None]
    entries = [_entry(folder, text_of_safe_name(folder.parent.name)) for folder in folders]
    return sorted(entries, key=lambda entry: (entry.group, run_number(entry.folder)))


def find_run(bottle: Bottle, name: str, group: str | None = None) -> RunEntry:
    """One run, in any state, also of another data folder.

    Args:
        bottle: the data folder.
        name: its folder's path, name or number (`3` or `v__3`), or `newest`: the finished run with the highest number.
            The last three may follow a group: `GROUP/3`.
        group: of the run, where the name does not contain it; any group when not given. `newest` is then that of the
            group that finished its newest run last.

    Raises:
        BottleError: there is none, or several groups have one of this name.
    """
    path = Path(name).expanduser()
    if path.is_dir() and run_number(path.resolve()) is not None:
        return _entry(path.resolve(), text_of_safe_name(path.resolve().parent.name))
    within, slash, last = name.rpartition("/")
    if slash and not path.is_absolute():
        # Settings of earlier versions name a group by its folder.
        group, name = within if bottle.models(within).is_dir() else text_of_safe_name(within), last
    if name == "newest":
        return _newest(bottle, group)
    entries = list_runs(bottle, group)
    number = name.removeprefix("v__")
    found = [
        entry
        for entry in entries
        if entry.name == name or (number.isdecimal() and run_number(entry.folder) == int(number))
    ]
    if len(found) > 1:
        groups = ", ".join(entry.group for entry in found)
        raise BottleError(
            f"several groups have a run {name}: {groups}",
            code="ambiguous_run",
            hint="say which with --group, or as GROUP/RUN",
        )
    if not found:
        known = (
            "see `cls runs`" if group is None else f"runs of group '{group}': {', '.join(one.name for one in entries)}"
        )
        raise BottleError(f"there is no run '{name}'", code="run_not_found", where=bottle.root, hint=known)
    return found[0]


def _newest(bottle: Bottle, group: str | None) -> RunEntry:
    entries = _entries(bottle, group)
    finished = [entry for entry in entries if entry.state == FINISHED_STATE]
    # The entries are by number: the last one of each group wins. A damaged one, when opened, raises what is wrong.
    highest = {entry.group: entry for entry in finished or entries if entry.state in (FINISHED_STATE, DAMAGED)}
    if not highest:
        if group is None:
            what, where, asked = "there is no finished run", bottle.root, "GROUP"
        else:
            what, where = f"group '{group}' has no finished run", bottle.models(group)
            asked = json.dumps(group, ensure_ascii=False)
        started = f" ({len(entries)} not finished)" if entries else ""
        hint = f"run `cls train --cat {asked}` first"
        raise BottleError(f"{what}{started}", code="no_finished_run", where=where, hint=hint)
    newest = max(highest.values(), key=lambda entry: entry.date_finished)
    for entry in entries[entries.index(newest) + 1 :]:
        if entry.state == DAMAGED and entry.group == newest.group:
            _log.warning("left out: %s: %s", entry.folder, entry.problem)
    return newest


def finished_run(bottle: Bottle, name: str = "newest", group: str | None = None) -> FinishedRun:
    """Opens a run of `find_run`, which must be finished and of this data folder.

    Raises:
        BottleError: there is none, it is not finished, or it is of another group or data folder.
    """
    entry = find_run(bottle, name, group)
    if entry.folder.parent.parent.resolve() != bottle.models(entry.group).parent.resolve():
        raise BottleError(
            f"the run is not of the data folder {bottle.root}",
            code="run_elsewhere",
            where=entry.folder,
            hint="give the configuration of the run's own data folder: --cfg FILE, or cfg= in Python",
        )
    if group is not None and entry.group != group:
        raise BottleError(
            f"the run is of group '{entry.group}', not '{group}'",
            code="run_of_other_group",
            where=entry.folder,
            hint=f"give group '{entry.group}', or a run of '{group}'",
        )
    return entry.open(bottle)


def _entry(folder: Path, group: str) -> RunEntry:
    """A run folder's entry, whatever its state."""
    args, args_problem = _read(folder / ARGS, lambda path: read_args(path.parent))
    metrics, metrics_problem = _read(folder / FINISHED, lambda path: read_record(path, RunMetrics))
    group = group if args is None else args.config.group
    is_finished = (folder / FINISHED).exists()
    problem = metrics_problem or (args_problem or ("" if args else f"{ARGS} is missing") if is_finished else "")
    if problem:
        return RunEntry(folder, group, DAMAGED, problem, args, metrics)
    if is_finished:
        return RunEntry(folder, group, FINISHED_STATE, "", args, metrics)
    return RunEntry(folder, group, RUNNING if _is_locked(folder) else UNFINISHED, "", args, metrics)


def _read(path: Path, read: Callable[[Path], _Content]) -> tuple[_Content | None, str]:
    """The content of a file, and what is wrong with it; a missing file is not wrong."""
    if not path.exists():
        return None, ""
    try:
        return read(path), ""
    except ClsError as error:
        return None, " ".join(f"{path.name} {error.what}".split())


def _is_locked(folder: Path) -> bool:
    """Whether a process of this machine has locked the folder."""
    if not (folder / LOCK).exists():
        return False
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # a folder that cannot be written to
        return False
    lock.release()
    return False
