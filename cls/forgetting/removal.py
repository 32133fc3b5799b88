"""Finds the files and entries of pictures to forget in a bottle, lists them and removes them."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock, Timeout

from cls.bottle.dataset_file import read_dataset, rewrite_dataset
from cls.bottle.layout import Bottle, read_forgotten, write_forgotten
from cls.dataset.cache import drop_stale_records, is_used, record_folders
from cls.errors import BottleError, FileError, UsageError
from cls.files import ZIP_ERRORS, remove_parts, write_bytes_atomic, write_error
from cls.forgetting.redaction import (
    Names,
    RedactedFile,
    dataset_files,
    dataset_without,
    pictures_of_picsets,
    redacted_file,
)
from cls.loading.load import load_lock
from cls.machine import cores
from cls.package.packing import REBUILD_SAMPLES
from cls.pages.render import drop_dead_links
from cls.pictures.database import PicturesDatabase
from cls.pictures.engine import is_absent, parse_url
from cls.prediction.journal import journal_of, lock_of, lock_output
from cls.training.runs.folder import SPLIT, run_number
from cls.wording import counted

# What of a run shows people; the other files of a run name them at most.
_FILES_WITH_PEOPLE = ("report.html", "train_batches", "bad_batch")
# Lines of an inference's journal hold small pictures under digests, and temporary files are what killed processes left:
# nobody can tell whose they are, and both are made again.
_UNATTRIBUTABLE = (".journal", ".part")

_HINT = "wait until it is done, or stop it: it goes on later"
KEEP, DELETE_PICTURES = "keep", "delete-pictures"
_LISTED = 10


@dataclass(frozen=True)
class Mention:
    """A file that holds something of the pictures.

    Attributes:
        place: the bottle's folder it lies in; of a run's file, the run's.
        redacted: what it names, and how often. `content` is None where the whole file goes.
    """

    file: Path
    place: str
    redacted: RedactedFile
    names: Names


@dataclass
class RunMentions:
    """A training run that knows the pictures.

    Attributes:
        named: its files that name them.
        shown: its files and folders that may show them; they are of many people at once.
    """

    folder: Path
    named: list[Mention] = field(default_factory=list)
    shown: list[Path] = field(default_factory=list)


@dataclass
class RemovalPlan:
    """Everything of the pictures that a bottle holds.

    Attributes:
        pool: their files in pictures/.
        rows: those that have rows in the pictures database.
        mentions: further files, in the order in which they go: what says which pictures a picset has goes last.
        packages: zips that carry cut-outs of people, without names.
    """

    names: Names
    pool: list[Path] = field(default_factory=list)
    rows: set[str] = field(default_factory=set)
    mentions: list[Mention] = field(default_factory=list)
    runs: list[RunMentions] = field(default_factory=list)
    packages: list[Path] = field(default_factory=list)

    @property
    def found(self) -> set[str]:
        """Pictures and picsets of which there is anything."""
        mentions = [*self.mentions, *(mention for run in self.runs for mention in run.named)]
        named = {name for mention in mentions for name in mention.redacted.found}
        return {path.name for path in self.pool} | self.rows | named


def make_plan(bottle: Bottle, names: Names) -> RemovalPlan:
    """Looks through a bottle and its pictures database; changes nothing."""
    plan = RemovalPlan(names)
    plan.pool = [path for name in sorted(names.pictures) if (path := bottle.picture(name)).is_file()]
    with PicturesDatabase.open_for_reading(bottle.database_url) as database:
        plan.rows = database.known_paths(names.pictures)
    settings = bottle.settings
    runs = _run_folders(bottle)
    plan.runs = [run for folder in runs if (run := _mentions_in_run(bottle, folder, names)) is not None]
    cutouts = replace(names, is_among_cutouts=True)
    last = (bottle.ledger.name, settings.datasets_dir, settings.meta_dir)
    for folder in [name for name in other_folders(bottle) if name not in last]:
        is_among_cutouts = folder in (settings.masks_dir, settings.segments_dir)
        plan.mentions += _mentions(bottle, folder, cutouts if is_among_cutouts else names, left_out=runs)
    plan.mentions += _mentions(bottle, bottle.ledger.name, names)
    for file in dataset_files(bottle):
        redacted = RedactedFile(b"")
        dataset_without(read_dataset(file), names, redacted)
        if redacted.found:
            plan.mentions.append(Mention(file, settings.datasets_dir, redacted, names))
    plan.mentions += _mentions(bottle, settings.meta_dir, names)
    plan.packages = [file for file in _files(bottle.root / settings.inference_models_dir) if _carries_people(file)]
    return plan


def other_folders(bottle: Bottle) -> list[str]:
    """The bottle's folders besides the pool: those that CLS makes, and whatever else lies there."""
    folders = [path.name for path in sorted(bottle.root.iterdir()) if path.is_dir()] if bottle.root.is_dir() else []
    return [name for name in folders if name != bottle.settings.pictures_dir]


def _mentions(bottle: Bottle, folder: str, names: Names, *, left_out: Sequence[Path] = ()) -> Iterator[Mention]:
    for file in _files(bottle.root / folder, left_out):
        redacted = redacted_file(file, names)
        if redacted is None and file.name.startswith(".") and file.suffix in _UNATTRIBUTABLE:
            redacted = RedactedFile(count=1)
        if redacted is not None:
            yield Mention(file, folder, redacted, names)


def _run_folders(bottle: Bottle) -> list[Path]:
    models = bottle.root / bottle.settings.models_dir
    return [path for path in sorted(models.glob("*/v__*")) if path.is_dir() and run_number(path) is not None]


def _mentions_in_run(bottle: Bottle, folder: Path, names: Names) -> RunMentions | None:
    run = RunMentions(folder)
    place = str(folder.relative_to(bottle.root))
    for file in _files(folder):
        is_shown = any(part in _FILES_WITH_PEOPLE for part in file.relative_to(folder).parts)
        redacted = redacted_file(file, names)
        if redacted is not None and not (is_shown and file.suffix != ".html"):
            run.named.append(Mention(file, place, redacted, names))
    if not run.named:
        return None
    if any(mention.file.name in (SPLIT, _FILES_WITH_PEOPLE[0]) for mention in run.named):
        # Reports of parts of a training (`leak_tax/`) lie below.
        run.shown = [path for name in _FILES_WITH_PEOPLE for path in sorted(folder.rglob(name))]
    run.named = [mention for mention in run.named if mention.file not in run.shown]
    return run


def _files(folder: Path, left_out: Sequence[Path] = ()) -> Iterator[Path]:
    """All files below a folder, in order, but for those of some folders."""
    passed_over = set(left_out)
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if Path(parent, name) not in passed_over)
        yield from (Path(parent, file) for file in sorted(files) if not file.endswith(".lock"))


def _carries_people(file: Path) -> bool:
    """Whether it is a package with cut-outs of people.

    Raises:
        FileError: it cannot be read, so that nobody can say.
    """
    if file.suffix != ".zip":
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            return REBUILD_SAMPLES in archive.namelist()
    except FileNotFoundError:
        return False
    except ZIP_ERRORS as error:
        raise FileError(
            f"cannot be read: {error}", code="unreadable", where=file, hint="repair or remove it, and run again"
        ) from error


@contextmanager
def lock_bottle(bottle: Bottle) -> Iterator[None]:
    """Alone with a bottle: no training, load, prediction or export reads or writes it."""
    with ExitStack() as stack:
        for path in _lock_files(bottle):
            try:
                stack.enter_context(_held(path))
            except Timeout:
                raise BottleError(
                    "another process is reading or writing here", code="in_use", where=path.parent, hint=_HINT
                ) from None
            except OSError as error:
                raise write_error(path, error, hint=None) from error
        for folder in record_folders(bottle.cache):
            if is_used(folder):
                raise BottleError(
                    "a training is reading these cut-outs", code="in_use_by_training", where=folder, hint=_HINT
                )
        yield


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Holds a lock; that of a prediction goes afterwards, as predictions themselves leave none."""
    journal = journal_of(path)
    if journal is not None:
        with lock_output(journal):
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


def remove(bottle: Bottle, plan: RemovalPlan, *, is_showing_removed: bool) -> None:
    """Removes what a plan lists; `lock_bottle` is held, and the plan was made since.

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
    drop_stale_records(bottle, workers=cores())
    for run in plan.runs if is_showing_removed else ():
        # What shows people goes before what tells that it may.
        for path in run.shown:
            shutil.rmtree(path) if path.is_dir() else _unlink(path)
        for mention in sorted(run.named, key=lambda one: one.file.name == SPLIT):
            _remove_mention(bottle, mention)
    for mention in plan.mentions:
        _remove_mention(bottle, mention)
    settings = bottle.settings
    kept = () if is_showing_removed else tuple(run.folder for run in plan.runs)
    for folder in (settings.models_dir, settings.inference_models_dir, settings.inference_dir, settings.masks_dir):
        for page in (bottle.root / folder).rglob("*.html"):
            if not any(page.is_relative_to(run) for run in kept):
                drop_dead_links(page)  # to pages that were removed


def _remove_mention(bottle: Bottle, mention: Mention) -> None:
    if mention.file.parent in record_folders(bottle.cache):
        return  # gone with the pictures
    if mention.file.parent == bottle.datasets:
        rewrite_dataset(mention.file, lambda dataset: dataset_without(dataset, mention.names, RedactedFile()))
        return
    redacted = mention.redacted if mention.redacted.content is None else redacted_file(mention.file, mention.names)
    if redacted is not None and redacted.content is not None:
        write_bytes_atomic(mention.file, redacted.content)
    elif mention.redacted.content is None:
        _unlink(mention.file)
        with suppress(OSError):  # not empty: others' files are in it
            mention.file.parent.rmdir()


def _unlink(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(
            f"cannot be removed: {error.strerror}", code="not_removable", where=file, hint="check permissions"
        ) from error


def forget(
    bottle: Bottle, pictures: Sequence[str], picsets: Sequence[str], *, runs: str | None, is_for_real: bool
) -> RemovalPlan:
    """Finds what would be removed, and removes it if that is asked for.

    Args:
        bottle: the data folder.
        pictures: file names.
        picsets: GUIDs; their pictures too.
        runs: `keep` or `delete-pictures`; None where no run knows the pictures, or nothing is removed.
        is_for_real: remove it.

    Returns:
        What was there.

    Raises:
        UsageError: nobody is named, or runs know the pictures and `runs` does not say what becomes of them.
        BottleError: a name is unknown, or somebody else is working on the bottle. Nothing has been removed then.
        DatabaseError, FileError: see `remove`.
    """
    if not pictures and not picsets:
        raise UsageError(
            "nobody is named", code="nothing_named", hint="give pictures' file names, --picset GUID or --list FILE"
        )
    with lock_bottle(bottle) if is_for_real else nullcontext():
        plan = _plan(bottle, pictures, picsets)
        if is_for_real:
            if plan.runs and runs is None:
                raise UsageError(
                    f"{counted(len(plan.runs), 'run')} of these pictures would be left as they are or lose their"
                    " reports",
                    code="missing_option",
                    hint=f"say --runs {KEEP} or --runs {DELETE_PICTURES}; without --yes all is shown",
                )
            remove(bottle, plan, is_showing_removed=runs == DELETE_PICTURES)
    return plan


def allow(bottle: Bottle, names: Sequence[str]) -> None:
    """Takes names off the bottle's list, so that they may be loaded again.

    Raises:
        BottleError: one does not stand on it; nothing is changed then.
    """
    with load_lock(bottle):
        forgotten = read_forgotten(bottle)
        _refuse_unknown(
            bottle,
            [name for name in names if name not in forgotten],
            "not on the list of forgotten ones, nothing was changed",
            code="not_forgotten",
        )
        write_forgotten(bottle, forgotten.without_names(names))


def _plan(bottle: Bottle, pictures: Sequence[str], picsets: Sequence[str]) -> RemovalPlan:
    """Where the named pictures, and those of the picsets, are; unknown names are told all at once."""
    by_picset = pictures_of_picsets(bottle, picsets)
    named = frozenset(pictures).union(*by_picset.values())
    plan = make_plan(bottle, Names(named, frozenset(picsets)))
    forgotten = read_forgotten(bottle)
    known = plan.found | by_picset.keys()
    unknown = [name for name in (*pictures, *picsets) if name not in known and name not in forgotten]
    _refuse_unknown(bottle, unknown, "unknown here, nothing was removed", code="unknown_names")
    return plan


def _refuse_unknown(bottle: Bottle, unknown: Sequence[str], what: str, *, code: str) -> None:
    if unknown:
        more = f" and {len(unknown) - _LISTED} more" if len(unknown) > _LISTED else ""
        raise BottleError(
            f"{counted(len(unknown), 'name')} {what}: {', '.join(unknown[:_LISTED])}{more}",
            code=code,
            where=bottle.root,
            hint="a picture is named by its file name in pictures/, with its ending; leave unknown ones out",
        )
