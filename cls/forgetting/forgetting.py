"""Forgets pictures, or shows what that would be, and tells what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from cls.bottle.forgotten import read_forgotten, write_forgotten
from cls.bottle.layout import Bottle
from cls.errors import BottleError, UsageError
from cls.forgetting.names import Names, pictures_of_picsets
from cls.forgetting.plan import Plan, make_plan
from cls.forgetting.removal import bottle_alone, remove
from cls.loading.load import load_lock
from cls.wording import counted

KEEP, DELETE_PICTURES = "keep", "delete-pictures"
_LISTED = 10


def run_forget(
    bottle: Bottle, pictures: Sequence[str], picsets: Sequence[str], *, runs: str | None, is_for_real: bool
) -> list[str]:
    """Shows what would be removed, or removes it; returns the lines to print.

    Args:
        bottle: the data folder.
        pictures: file names.
        picsets: GUIDs; their pictures too.
        runs: `keep` or `delete-pictures`; None where no run knows the pictures, or nothing is removed.
        is_for_real: remove it.

    Raises:
        UsageError: nobody is named, or runs know the pictures and `runs` does not say what becomes of them.
        BottleError: a name is unknown, or somebody else is working on the bottle. Nothing has been removed then.
        DatabaseError, FileError: see `remove`.
    """
    if not pictures and not picsets:
        raise UsageError("nobody is named", hint="give pictures' file names, --picset GUID or --list FILE")
    with bottle_alone(bottle) if is_for_real else nullcontext():
        plan = _plan(bottle, pictures, picsets)
        if not is_for_real:
            return [*_lines(bottle, plan), *_choice(plan), "nothing was removed; --yes does it"]
        if plan.runs and runs is None:
            raise UsageError(
                f"{counted(len(plan.runs), 'run')} of these pictures would be left as they are or lose their reports",
                hint=f"say --runs {KEEP} or --runs {DELETE_PICTURES}; without --yes all is shown",
            )
        remove(bottle, plan, is_showing_removed=runs == DELETE_PICTURES)
    kept = [f"kept as it was: {_shown(bottle, run.folder)}" for run in plan.runs if runs != DELETE_PICTURES]
    done = ["removed:", *_lines(bottle, plan), *kept] if plan.found else ["nothing was left of them"]
    return [*done, *_outside(bottle, plan)]


def run_allow(bottle: Bottle, names: Sequence[str]) -> list[str]:
    """Takes names off the bottle's list, so that they may be loaded again; returns the lines to print.

    Raises:
        BottleError: one does not stand on it; nothing is changed then.
    """
    with load_lock(bottle):
        forgotten = read_forgotten(bottle)
        _refuse_unknown(
            bottle,
            [name for name in names if name not in forgotten],
            "not on the list of forgotten ones, nothing was changed",
        )
        write_forgotten(bottle, forgotten.without_names(names))
    return [f"{counted(len(names), 'name')} may be loaded again: `cls load-group` brings the pictures back"]


def _plan(bottle: Bottle, pictures: Sequence[str], picsets: Sequence[str]) -> Plan:
    """Where the named pictures, and those of the picsets, are; unknown names are told all at once."""
    by_picset = pictures_of_picsets(bottle, picsets)
    named = frozenset(pictures).union(*by_picset.values())
    plan = make_plan(bottle, Names(named, frozenset(picsets)))
    forgotten = read_forgotten(bottle)
    known = plan.found | by_picset.keys()
    unknown = [name for name in (*pictures, *picsets) if name not in known and name not in forgotten]
    _refuse_unknown(bottle, unknown, "unknown here, nothing was removed")
    return plan


def _refuse_unknown(bottle: Bottle, unknown: Sequence[str], what: str) -> None:
    if unknown:
        more = f" and {len(unknown) - _LISTED} more" if len(unknown) > _LISTED else ""
        raise BottleError(
            f"{counted(len(unknown), 'name')} {what}: {', '.join(unknown[:_LISTED])}{more}",
            where=bottle.root,
            hint="a picture is named by its file name in pictures/, with its ending; leave unknown ones out",
        )


def _lines(bottle: Bottle, plan: Plan) -> Iterator[str]:
    """What goes, place by place, and whose it is."""
    yield f"{counted(len(plan.names.pictures), 'picture')}: {', '.join(sorted(plan.names.pictures))}"
    if plan.names.picsets:
        yield f"{counted(len(plan.names.picsets), 'picset')}: {', '.join(sorted(plan.names.picsets))}"
    yield f"  {bottle.settings.pictures_dir}/: {counted(len(plan.pool), 'file')}"
    yield f"  pictures database: rows of {counted(len(plan.rows), 'picture')}"
    for place in dict.fromkeys(trace.place for trace in plan.traces):
        traces = [trace for trace in plan.traces if trace.place == place]
        files = Counter(
            {_shown(bottle, trace.file): trace.rest.count for trace in traces if trace.rest.content is not None}
        )
        whole = [_shown(bottle, trace.file) for trace in traces if trace.rest.content is None]
        if whole:
            yield f"  {place}/: {counted(len(whole), 'whole file')}: {_some(whole)}"
        if files:
            places = _some(f"{file} ({count})" for file, count in files.items())
            yield f"  {place}/: {counted(files.total(), 'entry')} of {counted(len(files), 'file')}: {places}"
    for run in plan.runs:
        shown = [_shown(run.folder, path) for path in run.shown]
        named = [_shown(run.folder, trace.file) for trace in run.named]
        yield f"run {_shown(bottle, run.folder)}: named in {_some(named) or 'its report'}; " + (
            f"pictures of people, these and others: {_some(shown)}" if shown else "no pictures"
        )


def _choice(plan: Plan) -> Iterator[str]:
    if plan.runs:
        yield (
            f"--runs {DELETE_PICTURES} removes names and pictures from {counted(len(plan.runs), 'run')} (no report can"
            f" be made again; weights and measures stay), --runs {KEEP} leaves all as it is"
        )


def _outside(bottle: Bottle, plan: Plan) -> Iterator[str]:
    """What no command of this bottle reaches."""
    for package in plan.packages:
        yield f"{_shown(bottle, package)} carries cut-outs of people, nobody can tell whose: export again, or delete it"
    yield (
        "the collector, or the folder that was loaded, keeps its copy: have it removed there; loads pass these pictures"
        " over until `cls forget --allow NAME`"
    )
    yield (
        "also look at: model storages that packages were pushed to, folders given as --out and --sort-into, other"
        " bottles on this pictures database, copies of this bottle, backups"
    )


def _shown(root: Bottle | Path, path: Path) -> str:
    return str(path.relative_to(root.root if isinstance(root, Bottle) else root))


def _some(texts: Iterable[str]) -> str:
    listed = list(texts)
    more = [f"and {len(listed) - _LISTED} more"] if len(listed) > _LISTED else []
    return ", ".join([*listed[:_LISTED], *more])
