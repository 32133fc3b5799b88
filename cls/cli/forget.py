"""Removes somebody's pictures from the bottle, with all that was made of them: `cls forget NAME …`."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cls.cli.command import Command, bottle_of
from cls.wording import counted

if TYPE_CHECKING:
    from cls.bottle.layout import Bottle
    from cls.forgetting.removal import RemovalPlan

_LISTED = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cls forget`."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="a picture's file name in pictures/")
    parser.add_argument("--picset", nargs="+", default=[], metavar="GUID", help="all pictures of these picsets")
    parser.add_argument("--list", type=Path, metavar="FILE", help="text file with one picture name a line")
    parser.add_argument("--yes", action="store_true", help="do it (default: show what would be removed)")
    parser.add_argument(
        "--runs",
        choices=["keep", "delete-pictures"],
        help="with --yes: what becomes of training runs that know the pictures; their weights always stay",
    )
    parser.add_argument("--allow", action="store_true", help="let pictures that were forgotten be loaded again")


def run(options: argparse.Namespace) -> None:
    """Prints what is, or would be, removed."""
    from cls.forgetting.removal import DELETE_PICTURES, allow, forget
    from cls.pictures.database import picture_named, read_badlist

    bottle = bottle_of(options)
    names = [picture_named(text) for text in options.names] + (read_badlist(options.list) if options.list else [])
    if options.allow:
        allowed = [*names, *options.picset]
        allow(bottle, allowed)
        print(f"{counted(len(allowed), 'name')} may be loaded again: `cls load-group` brings the pictures back")
        return
    plan = forget(bottle, names, options.picset, runs=options.runs, is_for_real=options.yes)
    if not options.yes:
        lines = [*_plan_lines(bottle, plan), *_choice(plan), "nothing was removed; --yes does it"]
    else:
        kept = plan.runs if options.runs != DELETE_PICTURES else ()
        left = [f"kept as it was: {_shown(bottle, run.folder)}" for run in kept]
        done = ["removed:", *_plan_lines(bottle, plan), *left] if plan.found else ["nothing was left of them"]
        lines = [*done, *_outside(bottle, plan)]
    print("\n".join(lines))


def _plan_lines(bottle: Bottle, plan: RemovalPlan) -> Iterator[str]:
    """What goes, place by place, and whose it is."""
    yield f"{counted(len(plan.names.pictures), 'picture')}: {', '.join(sorted(plan.names.pictures))}"
    if plan.names.picsets:
        yield f"{counted(len(plan.names.picsets), 'picset')}: {', '.join(sorted(plan.names.picsets))}"
    yield f"  {bottle.settings.pictures_dir}/: {counted(len(plan.pool), 'file')}"
    yield f"  pictures database: rows of {counted(len(plan.rows), 'picture')}"
    for place in dict.fromkeys(mention.place for mention in plan.mentions):
        mentions = [mention for mention in plan.mentions if mention.place == place]
        files = Counter(
            {
                _shown(bottle, mention.file): mention.redacted.count
                for mention in mentions
                if mention.redacted.content is not None
            }
        )
        whole = [_shown(bottle, mention.file) for mention in mentions if mention.redacted.content is None]
        if whole:
            yield f"  {place}/: {counted(len(whole), 'whole file')}: {_some(whole)}"
        if files:
            places = _some(f"{file} ({count})" for file, count in files.items())
            yield f"  {place}/: {counted(files.total(), 'entry')} of {counted(len(files), 'file')}: {places}"
    for run in plan.runs:
        shown = [_shown(run.folder, path) for path in run.shown]
        named = [_shown(run.folder, mention.file) for mention in run.named]
        yield f"run {_shown(bottle, run.folder)}: named in {_some(named) or 'its report'}; " + (
            f"pictures of people, these and others: {_some(shown)}" if shown else "no pictures"
        )


def _choice(plan: RemovalPlan) -> Iterator[str]:
    if plan.runs:
        yield (
            f"--runs delete-pictures removes names and pictures from {counted(len(plan.runs), 'run')} (no report can"
            f" be made again; weights and measures stay), --runs keep leaves all as it is"
        )


def _outside(bottle: Bottle, plan: RemovalPlan) -> Iterator[str]:
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
    return str(path.relative_to(root if isinstance(root, Path) else root.root))


def _some(texts: Iterable[str]) -> str:
    listed = list(texts)
    more = [f"and {len(listed) - _LISTED} more"] if len(listed) > _LISTED else []
    return ", ".join([*listed[:_LISTED], *more])


COMMAND = Command(
    "forget", "remove somebody's pictures from the bottle, and all that was made of them", add_arguments, run
)
