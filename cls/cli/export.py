"""`cls export`: a trained run becomes a package that is proven to decide as the run does."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from cls.cli.command import Command
from cls.exporting.formats.files import FILES, FORMATS, chosen_formats, in_order
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
    parser.add_argument(
        "--formats",
        metavar="LIST",
        help=f"some of {', '.join(FORMATS)}, with commas; one that cannot be made here is an error. Or all: those that"
        " can be made here (default: onnx, and trt where there is a GPU with TensorRT)",
    )
    parser.add_argument(
        "--end-to-end",
        action="store_true",
        help="put resizing, normalisation and sigmoid into the model: uint8 RGB cut-outs of any size in, probabilities"
        " out; not for trt",
    )
    parser.add_argument(
        "--carry-samples",
        type=int,
        default=0,
        metavar="N",
        help="put the cut-outs of N people into model_onnx.zip and model_trt.zip, so that `cls package rebuild` proves"
        " a model where it is served; whoever gets the zip sees them (default: 0)",
    )
    parser.add_argument(
        "--sign", type=Path, metavar="KEY", help="sign the packages with this private key (`cls package keygen`)"
    )
    parser.add_argument("--require", choices=FORMATS, help="fail where this format cannot be made")


def run(options: argparse.Namespace) -> None:
    """Exports the newest run, or the one named, of a group."""
    from cls.settings import load_settings

    settings = load_settings(options.cfg)
    asked, named = chosen_formats(options.formats)
    from cls.bottle.layout import Bottle
    from cls.exporting.publish import ExportConfig, export_run
    from cls.package.keys import read_signing_key
    from cls.training.runs.listing import finished_run

    signer = read_signing_key(options.sign, passphrase=settings.signing_passphrase) if options.sign else None
    bottle = Bottle(settings)
    chosen = finished_run(bottle, options.run, options.group)
    required = in_order((*named, *([options.require] if options.require else ())))
    config = ExportConfig(
        formats=in_order((*asked, *required)),
        required=required,
        carry_samples=options.carry_samples,
        is_end_to_end=options.end_to_end,
        signer=signer,
    )
    exported = export_run(bottle, chosen, config)
    _print(exported, bottle, signer)
    exported.raise_if_refused(required)


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


COMMAND = Command("export", "convert a trained run, prove the conversion and package it", add_arguments, run)
