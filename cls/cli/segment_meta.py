"""`cls segment-meta`: what the groups' exported models say of their picsets, as ret_meta.json beside each meta.json."""

from __future__ import annotations

import argparse

from cls.cli.command import Command, add_options, bottle_of, given, print_skipped
from cls.prediction.config import PredictConfig
from cls.wording import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cls segment-meta`."""
    parser.add_argument("--groups", nargs="+", required=True, metavar="G", help="groups whose models predict")
    add_options(parser, PredictConfig, without=("whole", "threshold"))


def run(options: argparse.Namespace) -> None:
    """Predicts and writes."""
    config, bottle = PredictConfig(**given(options, PredictConfig)), bottle_of(options)
    from cls.package.keys import trusted_keys
    from cls.runtimes.open import open_exported
    from cls.write_back.meta_builder import build_ret_meta

    trust = trusted_keys(None, bottle.settings)
    classifiers = [open_exported(bottle, group, trust) for group in dict.fromkeys(options.groups)]
    summary = build_ret_meta(bottle, classifiers, config)
    photos = f"{counted(summary.pictures, 'photo')} of {counted(summary.picsets, 'picset')}"
    print(f"{counted(summary.people, 'person')} in {photos}")
    if summary.remembered:
        print(f"{summary.remembered} of them were looked at before, by the same models")
    for group, name in summary.runs.items():
        print(f"  {group}: {name}")
    print(f"{summary.written} ret_meta.json written, {summary.picsets - summary.written} unchanged")
    print_skipped(summary.skipped)


COMMAND = Command("segment-meta", "write predictions beside the picsets' meta.json", add_arguments, run, extra="train")
