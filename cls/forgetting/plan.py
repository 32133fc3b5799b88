"""Where a bottle holds pictures that are to be forgotten: files, rows of the database, runs and packages."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.files import ZIP_ERRORS
from cls.forgetting.names import Names, dataset_files
from cls.forgetting.traces import Rest, dataset_without, rest_of
from cls.package.packing import REBUILD_SAMPLES
from cls.pictures.database import PicturesDatabase
from cls.training.runs.folder import SPLIT, run_number

# What of a run shows people; the rest of it names them at most.
_RUN_PICTURES = ("report.html", "train_batches", "bad_batch")
# Lines of an inference's journal hold small pictures under digests, and temporary files are what killed processes left:
# nobody can tell whose they are, and both are made again.
_NOBODY_KNOWS = (".journal", ".part")


@dataclass(frozen=True)
class Trace:
    """A file that holds something of the pictures.

    Attributes:
        file: it.
        place: the bottle's folder it lies in; of a run's file, the run's.
        rest: what it names, and how often. `content` is None where the whole file goes.
        names: what was looked for in it.
    """

    file: Path
    place: str
    rest: Rest
    names: Names


@dataclass
class RunTrace:
    """A training run that knows the pictures.

    Attributes:
        folder: the run.
        named: its files that name them.
        shown: its files and folders that may show them; they are of many people at once.
    """

    folder: Path
    named: list[Trace] = field(default_factory=list)
    shown: list[Path] = field(default_factory=list)


@dataclass
class Plan:
    """Everything of the pictures that a bottle holds.

    Attributes:
        names: whom it is about.
        pool: their files in pictures/.
        rows: those that have rows in the pictures database.
        traces: further files, in the order in which they go: what says which pictures a picset has goes last.
        runs: training runs.
        packages: zips that carry cut-outs of people, without names.
    """

    names: Names
    pool: list[Path] = field(default_factory=list)
    rows: set[str] = field(default_factory=set)
    traces: list[Trace] = field(default_factory=list)
    runs: list[RunTrace] = field(default_factory=list)
    packages: list[Path] = field(default_factory=list)

    @property
    def found(self) -> set[str]:
        """Pictures and picsets of which there is anything."""
        traces = [*self.traces, *(trace for run in self.runs for trace in run.named)]
        named = {name for trace in traces for name in trace.rest.found}
        return {path.name for path in self.pool} | self.rows | named


def make_plan(bottle: Bottle, names: Names) -> Plan:
    """Looks through a bottle and its pictures database; changes nothing.

    Raises:
        DatabaseError: the pictures database cannot be reached or used.
        FileError, BottleError: a file of the bottle cannot be read.
    """
    plan = Plan(names)
    plan.pool = [path for name in sorted(names.pictures) if (path := bottle.picture(name)).is_file()]
    with PicturesDatabase.open_for_reading(bottle.database_url) as database:
        plan.rows = database.known_paths(names.pictures)
    settings = bottle.settings
    runs = _run_folders(bottle)
    plan.runs = [run for folder in runs if (run := _run_trace(bottle, folder, names)) is not None]
    cutouts = replace(names, is_among_cutouts=True)
    last = (bottle.ledger.name, settings.datasets_dir, settings.meta_dir)
    for folder in [name for name in other_folders(bottle) if name not in last]:
        is_among_cutouts = folder in (settings.masks_dir, settings.segments_dir)
        plan.traces += _traces(bottle, folder, cutouts if is_among_cutouts else names, left_out=runs)
    plan.traces += _traces(bottle, bottle.ledger.name, names)
    for file in dataset_files(bottle):
        rest = Rest(b"")
        dataset_without(read_dataset(file), names, rest)
        if rest.found:
            plan.traces.append(Trace(file, settings.datasets_dir, rest, names))
    plan.traces += _traces(bottle, settings.meta_dir, names)
    plan.packages = [file for file in _files(bottle.root / settings.inference_models_dir) if _carries_people(file)]
    return plan


def other_folders(bottle: Bottle) -> list[str]:
    """The bottle's folders besides the pool: those that CLS makes, and whatever else lies there."""
    folders = [path.name for path in sorted(bottle.root.iterdir()) if path.is_dir()] if bottle.root.is_dir() else []
    return [name for name in folders if name != bottle.settings.pictures_dir]


def _traces(bottle: Bottle, folder: str, names: Names, *, left_out: Sequence[Path] = ()) -> Iterator[Trace]:
    for file in _files(bottle.root / folder, left_out):
        rest = rest_of(file, names)
        if rest is None and file.name.startswith(".") and file.suffix in _NOBODY_KNOWS:
            rest = Rest(count=1)
        if rest is not None:
            yield Trace(file, folder, rest, names)


def _run_folders(bottle: Bottle) -> list[Path]:
    models = bottle.root / bottle.settings.models_dir
    return [path for path in sorted(models.glob("*/v__*")) if path.is_dir() and run_number(path) is not None]


def _run_trace(bottle: Bottle, folder: Path, names: Names) -> RunTrace | None:
    run = RunTrace(folder)
    place = str(folder.relative_to(bottle.root))
    for file in _files(folder):
        is_shown = any(part in _RUN_PICTURES for part in file.relative_to(folder).parts)
        rest = rest_of(file, names)
        if rest is not None and not (is_shown and file.suffix != ".html"):
            run.named.append(Trace(file, place, rest, names))
    if not run.named:
        return None
    if any(trace.file.name in (SPLIT, _RUN_PICTURES[0]) for trace in run.named):
        # Reports of parts of a training (`leak_tax/`) lie below.
        run.shown = [path for name in _RUN_PICTURES for path in sorted(folder.rglob(name))]
    run.named = [trace for trace in run.named if trace.file not in run.shown]
    return run


def _files(folder: Path, left_out: Sequence[Path] = ()) -> Iterator[Path]:
    """All files below a folder, in order, but for those of some folders."""
    passed_over = set(left_out)
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if Path(parent, name) not in passed_over)
        yield from (Path(parent, file) for file in sorted(files) if not file.endswith(".lock"))


def _carries_people(file: Path) -> bool:
    if file.suffix != ".zip":
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            return REBUILD_SAMPLES in archive.namelist()
    except ZIP_ERRORS:
        return False  # no package
