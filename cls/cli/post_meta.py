"""`cls post-meta`: sends predictions (ret_meta.json) to the collector, shows what would change, takes them back."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from cls.cli.command import Command, add_options, bottle_of, given
from cls.wording import counted
from cls.write_back.config import SendConfig

if TYPE_CHECKING:
    from cls.bottle.layout import Bottle
    from cls.write_back.picset_updates import PicsetUpdate, PlannedUpdates
    from cls.write_back.send import SendSummary
    from cls.write_back.statements import SentJournal

_ROWS_SHOWN = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cls post-meta`."""
    add_options(parser, SendConfig)


def run(options: argparse.Namespace) -> None:
    """Sends, shows or takes back."""
    bottle = bottle_of(options)
    config = SendConfig(**given(options, SendConfig))
    from cls.collector.client import CollectorClient
    from cls.write_back.picset_updates import plan_sending, plan_withdrawal, unsent_predictions, updates_of
    from cls.write_back.ret_meta import read_predictions
    from cls.write_back.send import PreviewMemory, locked_journal, send_updates
    from cls.write_back.statements import read_journal

    with CollectorClient.from_settings(bottle.settings) as collector:
        journal = read_journal(bottle.root, collector.url)
        known = 0
        runs: dict[str, str] = {}
        plan: Callable[[SentJournal], PlannedUpdates]
        if config.withdraw:
            runs = _runs(config.withdraw, config.groups, journal, bottle)
            plan = partial(plan_withdrawal, runs=runs)
        else:
            predictions = read_predictions(bottle, config.groups, journal)
            new = predictions if config.replaces else unsent_predictions(journal, predictions)
            plan = partial(plan_sending, predictions=new, replaced_runs=config.replaces)
            known = len(predictions) - len(new)
        if plan(journal).guids:
            collector.login()
        previewed = PreviewMemory(bottle, collector.url)
        if config.only_shows:
            shown = list(updates_of(collector, plan(journal)))
            previewed.keep(update for update in shown if not isinstance(update, str))
            _show(config, shown, collector.url, known)
            return
        with locked_journal(bottle, collector.url) as locked:
            wanted = plan(locked)
            summary = send_updates(collector, locked, wanted, previewed)
        previewed.forget(wanted.guids)
    summary.known = known
    _print(runs, summary, collector.url)


def _runs(name: str, groups: Sequence[str], journal: SentJournal, bottle: Bottle) -> dict[str, str]:
    """Group -> the run whose words go; says what a version stands for."""
    from cls.bottle.ledger import known_models
    from cls.write_back.picset_updates import published_model, split_name, what_to_withdraw

    about, name = split_name(name, groups)
    ask_storage = partial(published_model, bottle.settings)
    found = what_to_withdraw(about, name, journal, known_models(bottle.root), ask_storage)
    for note in found.notes:
        print(note)
    return found.runs


def _show(config: SendConfig, updates: list[PicsetUpdate | str], url: str, known: int) -> None:
    """Prints the preview, and writes it where it was asked for."""
    from cls.files import write_json_atomic
    from cls.write_back.changes import counts_of, preview_as_json, table_of

    picsets = [update.changes() for update in updates if not isinstance(update, str)]
    table = table_of(picsets, _ROWS_SHOWN)
    for line in table or ["nobody's labels would change"]:
        print(line)
    versions = Counter((group, *pair) for picset in picsets for group, pair in picset.versions.items())
    for (group, was, becomes), count in versions.items():
        print(f"neural_version of {group}: {was or 'none'} -> {becomes or 'none'}, in {counted(count, 'picset')}")
    changing = sum(not isinstance(update, str) and update.is_change for update in updates)
    if table:
        print(", ".join(f"{count} {kind}" for kind, count in counts_of(picsets).items()))
    missing = [update for update in updates if isinstance(update, str)]
    if missing:
        print(f"{counted(len(missing), 'picset')} the collector does not have: {', '.join(missing[:5])}")
    if config.withdraw:
        print(f"{counted(changing, 'picset')} would be changed at {url}; nothing was: add --yes to withdraw")
    else:
        print(f"{counted(changing, 'picset')} would be sent to {url}, {known} were sent before")
    if config.preview_file:
        write_json_atomic(config.preview_file, preview_as_json(url, picsets))
        print(f"written: {config.preview_file}")


def _print(runs: Mapping[str, str], summary: SendSummary, url: str) -> None:
    if runs:
        what = ", ".join(f"{group} of {run}" for group, run in runs.items())
        print(f"withdrawn from {counted(summary.sent, 'picset')} at {url}: {what}")
    else:
        print(f"{counted(summary.sent, 'picset')} sent to {url}, {summary.known} were sent before")
    if summary.unchanged:
        print(f"{counted(summary.unchanged, 'picset')} had nothing to change")
    for (group, version), count in summary.left.items():
        under = f"neural_version {version}" if version else "no neural_version"
        print(f"left as others made it: {group} of {counted(count, 'person')} ({under})")
    if summary.changed_since:
        print(
            f"{counted(len(summary.changed_since), 'picset')} changed there since the preview, and what others said"
            f" stays: {', '.join(summary.changed_since[:5])}"
        )
    if summary.missing:
        print(
            f"{counted(len(summary.missing), 'picset')} the collector does not have: {', '.join(summary.missing[:5])}"
        )


COMMAND = Command("post-meta", "send predictions to the collector", add_arguments, run)
