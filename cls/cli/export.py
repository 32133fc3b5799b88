"""`cls export`: a trained run becomes a package that is proven to decide as the run does."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

from cls.cli.command import Command, add_options, given
from cls.exporting.formats.files import FILES, ExportRequest
from cls.wording import counted

if TYPE_CHECKING:
    from cls.bottle.layout import Bottle
    from cls.exporting.publish import Exported
    from cls.package.keys import SigningKey

_log = logging.getLogger("cls.exporting")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cls export`."""
    parser.add_argument("--group", required=True, help="the group whose model is exported")
    parser.add_argument(
        "--run", default="newest", help="a run folder's name or path, its number, or newest (default: newest)"
    )
    add_options(parser, ExportRequest)


def run(options: argparse.Namespace) -> None:
    """Exports the newest run, or the one named, of a group."""
    request = ExportRequest(**given(options, ExportRequest))
    from cls.exporting.publish import ExportConfig, export_run
    from cls.interface import open_run

    chosen = open_run(options.run, group=options.group, cfg=options.cfg)
    config = ExportConfig.of(request, chosen.bottle.settings)
    exported = export_run(chosen.bottle, chosen, config)
    _print(exported, chosen.bottle, config.signer)
    exported.raise_if_refused(config.required)


def _not_signed_by(signer: SigningKey, exported: Exported) -> list[str]:
    """The packages of before that a key did not sign."""
    from cls.package.archive import open_zip

    found = []
    for name in exported.earlier.parity:
        with open_zip(exported.folder / FILES[name].archive) as contents:
            signature = contents.signature()
        if signature is None or signer.fingerprint not in signature.key_ids:
            found.append(FILES[name].archive)
    return found


def _print(exported: Exported, bottle: Bottle, signer: SigningKey | None) -> None:
    from cls.cli.storage import push_lines
    from cls.package.card import people_in_words
    from cls.package.packing import people_in

    meta = exported.meta
    print(f"{meta.training.run} -> {exported.folder}")
    for name, report in exported.reports.items():
        proven_on = people_in_words(report.samples, report.part)
        print(
            f"  {FILES[name].archive}: agrees with the trained network on {proven_on} at batch"
            f" {', '.join(str(batch) for batch in report.batch_sizes)}: {report.in_words()}"
        )
        if report.kept_in_float:
            kept = report.kept_in_float
            layers = counted(len(kept), "layer")
            print(f"    kept in float32: {layers} ({', '.join(kept[:3])}{', …' if len(kept) > 3 else ''})")
        people = people_in(exported.folder / FILES[name].archive)
        if people:
            print(f"    holds cut-outs of {counted(people, 'person')}: whoever gets it sees them")
    if signer is not None:
        print(f"  signed by {signer.fingerprint}")
    if exported.earlier.parity:
        print(f"  made before and still there: {', '.join(FILES[name].archive for name in exported.earlier.parity)}")
        others = [] if signer is None else _not_signed_by(signer, exported)
        if others:
            print(f"    not signed by it: {', '.join(others)} (`cls package sign` does that)")
    for name, reason in exported.earlier.removed.items():
        print(f"  {FILES[name].archive} and what belongs to it were removed: {reason}")
    for file, of_run in exported.earlier.of_other_runs.items():
        print(f"  {file} stays, and is of run {of_run}: delete it and its parity report when they are of no use")
    for name, reason in exported.not_made.items():
        print(f"  {FILES[name].model} and {FILES[name].archive} were not made: {reason}")
    print(f"report: {exported.page}")
    print(push_lines(bottle, meta.group, "onnx" if "onnx" in meta.parity else next(iter(meta.parity))))


COMMAND = Command(
    "export", "convert a trained run, prove the conversion and package it", add_arguments, run, extra="train"
)
