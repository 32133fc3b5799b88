"""Removes what a plan lists, in an order in which the same command, run again after a kill, finds and does the rest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from cls.bottle.dataset_file import rewrite_dataset
from cls.bottle.forgotten import read_forgotten, write_forgotten
from cls.bottle.layout import Bottle
from cls.dataset.cutouts.cache import forget_removed
from cls.dataset.cutouts.cache_room import is_used, record_folders
from cls.errors import BottleError, FileError
from cls.files import remove_parts, write_bytes_atomic
from cls.forgetting.plan import Plan, Trace, other_folders
from cls.forgetting.traces import Rest, dataset_without, rest_of
from cls.machine import cores
from cls.pictures.database import PicturesDatabase
from cls.pictures.engine import is_absent, parse_url
from cls.prediction.journal import alone_in_output, journal_of, lock_of
from cls.training.runs.folder import SPLIT

_HINT = "wait until it is done, or stop it: it goes on later"


@contextmanager
def bottle_alone(bottle: Bottle) -> Iterator[None]:
    """Alone with a bottle: no training, load, prediction or export reads or writes it.

    Raises:
        BottleError: somebody does; names where.
        FileError: the bottle cannot be written.
    """
    with ExitStack() as stack:
        for path in _lock_files(bottle):
            try:
                stack.enter_context(_held(path))
            except Timeout:
                raise BottleError("another process is reading or writing here", where=path.parent, hint=_HINT) from None
            except OSError as error:
                raise FileError(f"cannot be written: {error.strerror}", where=path) from error
        for folder in record_folders(bottle.cache):
            if is_used(folder):
                raise BottleError("a training is reading these cut-outs", where=folder, hint=_HINT)
        yield


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Holds a lock; that of a prediction goes afterwards, as predictions themselves leave none."""
    journal = journal_of(path)
    if journal is not None:
        with alone_in_output(journal):
            yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path).acquire(timeout=0):
        yield


def _lock_files(bottle: Bottle) -> list[Path]:
    """The locks of loads and of the cache, which whoever comes later takes too, and all others that are there."""
    # Those of dataset files and of the cache's are held for moments only, and taken by the steps below.
    passed_over = (bottle.settings.datasets_dir, bottle.cache.name)
    folders = [bottle.root / name for name in other_folders(bottle) if name not in passed_over]
    # Locks are empty; what is not is somebody's file, which taking a lock would empty.
    found = {path for folder in folders for path in folder.rglob("*.lock") if _is_empty(path)}
    # Those of predictions are there while somebody predicts; whoever begins now is kept out by them, too.
    found |= {lock_of(path) for folder in folders for path in folder.rglob(".*.journal")}
    own = {bottle.ledger / ".load.lock", bottle.cache / ".lock"}
    return sorted(found | own)


def _is_empty(path: Path) -> bool:
    """Whether a file is there and empty: a prediction that ends takes its lock with it."""
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return False


def remove(bottle: Bottle, plan: Plan, *, is_showing_removed: bool) -> None:
    """Removes what a plan lists; `bottle_alone` is held, and the plan was made since.

    First the names are put on the bottle's list, so that no load brings the pictures back and a second run knows them
    when little else does. The database comes before the files: it is the one place that may refuse. What says which
    pictures a picset has goes last.

    Args:
        bottle: the data folder.
        plan: what to remove.
        is_showing_removed: runs lose their names and their pictures of people; otherwise they stay as they are.

    Raises:
        DatabaseError: the pictures database cannot be used; no file has been touched then.
        FileError: a file cannot be removed or written; the same command goes on from there.
    """
    write_forgotten(bottle, read_forgotten(bottle).with_names(plan.names.all))
    if not is_absent(parse_url(bottle.database_url)):
        with PicturesDatabase.open(bottle.database_url) as database:
            database.forget(plan.names.pictures)
    remove_parts(bottle.pictures)  # a killed load's, which holds the load lock no more
    for file in plan.pool:
        _unlink(file)
    forget_removed(bottle, workers=cores())
    for run in plan.runs if is_showing_removed else ():
        # What shows people goes before what tells that it may.
        for path in run.shown:
            shutil.rmtree(path) if path.is_dir() else _unlink(path)
        for trace in sorted(run.named, key=lambda one: one.file.name == SPLIT):
            _remove_trace(bottle, trace)
    for trace in plan.traces:
        _remove_trace(bottle, trace)


def _remove_trace(bottle: Bottle, trace: Trace) -> None:
    if trace.file.parent in record_folders(bottle.cache):
        return  # gone with the pictures
    if trace.file.parent == bottle.datasets:
        rewrite_dataset(trace.file, lambda dataset: dataset_without(dataset, trace.names, Rest()))
        return
    rest = trace.rest if trace.rest.content is None else rest_of(trace.file, trace.names)
    if rest is not None and rest.content is not None:
        write_bytes_atomic(trace.file, rest.content)
    elif trace.rest.content is None:
        _unlink(trace.file)
        with suppress(OSError):  # not empty: others' files are in it
            trace.file.parent.rmdir()


def _unlink(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"cannot be removed: {error.strerror}", where=file, hint="check permissions") from error
