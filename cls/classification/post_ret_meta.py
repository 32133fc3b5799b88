"""`cls post-meta`: sends predictions (ret_meta.json) to the collector, shows what would change, takes them back."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cls.command import Command, main
from cls.errors import UsageError
from cls.wording import counted

if TYPE_CHECKING:
    from cls.prediction.write_back import SendSummary, Step

_ROWS_SHOWN = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cls post-meta`."""
    parser.add_argument("--groups", nargs="+", required=True, metavar="G", help="groups whose picsets are sent")
    parser.add_argument(
        "--preview",
        "--dry-run",
        "--dry_run",
        action="store_true",
        dest="is_preview",
        help="show what would change for every person, compared with what the collector has now; send nothing",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the preview to a file too, all of it")
    parser.add_argument(
        "--withdraw",
        metavar="RUN",
        help="take back what this run's models said of the groups; shows what would go, and does it with --yes",
    )
    parser.add_argument("--yes", action="store_true", help="with --withdraw: do it")
    parser.add_argument(
        "--replaces",
        nargs="+",
        default=[],
        metavar="RUN",
        help="runs of another tool or machine (as `neural_version` names them) whose predictions are replaced",
    )


def run(options: argparse.Namespace) -> None:
    """Sends, shows or takes back."""
    from cls.settings import load_settings

    settings = load_settings(options.cfg)
    _check(options)
    from cls.bottle.layout import Bottle
    from cls.collector.client import CollectorClient
    from cls.prediction.ret_meta_files import read_predictions
    from cls.prediction.sent_journal import read_journal
    from cls.prediction.write_back import carry_out, sending, steps_to_send, steps_to_withdraw, waiting

    bottle = Bottle(settings)
    groups = list(dict.fromkeys(options.groups))
    with CollectorClient.from_settings(settings) as collector:
        journal = read_journal(bottle.root, collector.url)
        known = 0
        steps: Iterator[Step | str]
        if options.withdraw:
            guids = {guid for group in groups for guid in journal.guids_of(group, options.withdraw)}
            if not guids:
                raise _nothing_of(options.withdraw, {group: journal.runs_of(group) for group in groups}, collector.url)
            count, is_preview = len(guids), options.is_preview or not options.yes
        else:
            predictions = read_predictions(bottle, groups, journal)
            new = predictions if options.replaces else waiting(journal, predictions)
            count, known, is_preview = len(new), len(predictions) - len(new), options.is_preview
        if count:
            collector.login()
        if is_preview:
            steps = (
                steps_to_withdraw(collector, journal, groups, options.withdraw)
                if options.withdraw
                else steps_to_send(collector, journal, new, options.replaces)
            )
            _show(options, list(steps), collector.url, known)
            return
        with sending(bottle, collector.url) as locked:
            steps = (
                steps_to_withdraw(collector, locked, groups, options.withdraw)
                if options.withdraw
                else steps_to_send(collector, locked, new, options.replaces)
            )
            summary = carry_out(collector, locked, steps, count)
    summary.known = known
    _print(options, summary, collector.url)


def _check(options: argparse.Namespace) -> None:
    problems = []
    if options.yes and not options.withdraw:
        problems.append("--yes goes with --withdraw")
    if options.yes and options.is_preview:
        problems.append("--yes and --preview exclude each other")
    if options.replaces and options.withdraw:
        problems.append("--replaces and --withdraw exclude each other")
    if options.json and not (options.is_preview or (options.withdraw and not options.yes)):
        problems.append("--json goes with --preview")
    if problems:
        raise UsageError("; ".join(problems))


def _nothing_of(name: str, runs: Mapping[str, list[str]], url: str) -> UsageError:
    known = [f"{group}: {', '.join(names)}" for group, names in runs.items() if names]
    return UsageError(
        f"nothing of run '{name}' was sent to {url} from this bottle",
        hint=f"sent were {'; '.join(known)}" if known else "nothing of these groups was",
    )


def _show(options: argparse.Namespace, steps: list[Step | str], url: str, known: int) -> None:
    """Prints the preview, and writes it where it was asked for."""
    from cls.files import write_json_atomic
    from cls.prediction.changes import counts_of, preview_as_json, table_of

    picsets = [step.changes() for step in steps if not isinstance(step, str)]
    for line in table_of(picsets, _ROWS_SHOWN):
        print(line)
    for picset in picsets[:_ROWS_SHOWN]:
        for group, (was, becomes) in picset.versions.items():
            print(f"{picset.guid}: neural_version of {group}: {was or 'none'} -> {becomes or 'none'}")
    counts = counts_of(picsets)
    changing = sum(not isinstance(step, str) and step.is_change for step in steps)
    print(f"{', '.join(f'{count} {kind}' for kind, count in counts.items())}")
    missing = [step for step in steps if isinstance(step, str)]
    if missing:
        print(f"{counted(len(missing), 'picset')} the collector does not have: {', '.join(missing[:5])}")
    if options.withdraw:
        print(f"{counted(changing, 'picset')} would be changed at {url}; nothing was: add --yes to withdraw")
    else:
        print(f"{counted(changing, 'picset')} would be sent to {url}, {known} were sent before")
    if options.json:
        write_json_atomic(options.json, preview_as_json(url, picsets))
        print(f"written: {options.json}")


def _print(options: argparse.Namespace, summary: SendSummary, url: str) -> None:
    if options.withdraw:
        groups = ", ".join(options.groups)
        print(f"withdrawn from {counted(summary.sent, 'picset')} at {url}: {groups} of {options.withdraw}")
    else:
        print(f"{counted(summary.sent, 'picset')} sent to {url}, {summary.known} were sent before")
    if summary.unchanged:
        print(f"{counted(summary.unchanged, 'picset')} had nothing to change")
    for (group, version), count in summary.left.items():
        under = f"neural_version {version}" if version else "no neural_version"
        print(f"left as others made it: {group} of {counted(count, 'person')} ({under})")
    if summary.missing:
        print(
            f"{counted(len(summary.missing), 'picset')} the collector does not have: {', '.join(summary.missing[:5])}"
        )


COMMAND = Command("post-meta", "send predictions to the collector", add_arguments, run)

if __name__ == "__main__":
    main(COMMAND)
