"""`cls infer`: classifies the people of a group's photos, of folders, files and videos, by a model file or a server."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cls.cli.command import Command, add_options, add_trust_argument, bottle_of, given, print_skipped
from cls.errors import UsageError
from cls.options import noted, refuse_all
from cls.prediction.config import PredictConfig
from cls.wording import counted

if TYPE_CHECKING:
    from cls.bottle.layout import Bottle
    from cls.prediction.sources import Sources
    from cls.prediction.tables import TableFormat
    from cls.prediction.writing import Outputs, SessionSummary
    from cls.runtimes.classifier import Classifier

_LOCAL_CLUSTER = "local"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cls infer`."""
    photos = parser.add_argument_group("pictures (one of the two)")
    photos.add_argument(
        "--group", help="the photos of a loaded group; with --source: which model, where --model is left out"
    )
    photos.add_argument(
        "--source",
        nargs="+",
        metavar="DIR|FILE|GLOB|VIDEO",
        help="the photos of a folder and the folders below; photos; patterns, e.g. 'day1/**/*.jpg'; videos",
    )
    photos.add_argument(
        "--every", metavar="N|Ns", default="1s", help="of a video: one frame of N, or one in N seconds (default: 1s)"
    )
    model = parser.add_argument_group("model (default: the group's exported one)")
    model.add_argument(
        "--model",
        metavar="FILE|URL",
        help="a package (.zip, its folder, model.onnx), a run's folder or one of its models,"
        " or a served model (http://HOST:PORT/v2/models/NAME, grpc://HOST:PORT/NAME)",
    )
    add_trust_argument(model)
    model.add_argument("--served", action="store_true", help="the group's model at inference_url of the configuration")
    add_options(parser, PredictConfig)
    results = parser.add_argument_group("results")
    results.add_argument(
        "--out",
        type=Path,
        metavar="DIR|FILE",
        help="a folder, or one table by its suffix: .csv, .jsonl, .parquet (default: the bottle's inference folder)",
    )
    results.add_argument(
        "--format", metavar="LIST", help="tables in the folder: csv, jsonl, parquet (default: csv,jsonl)"
    )
    results.add_argument(
        "--sort-into", type=Path, metavar="DIR", help="also a folder a label in DIR, with the photos linked into it"
    )
    results.add_argument(
        "--cluster",
        nargs="?",
        const=_LOCAL_CLUSTER,
        metavar="ADDRESS",
        help="let a Dask cluster look at the photos, e.g. tcp://HOST:8786; without ADDRESS, processes of this machine",
    )


def run(options: argparse.Namespace) -> None:
    """Predicts, writes tables and a contact sheet, prints a summary."""
    bottle = bottle_of(options)
    settings = bottle.settings
    from cls.package.group_pages import link_group_pages
    from cls.package.keys import trusted_keys
    from cls.prediction.predict import people_finder
    from cls.prediction.session import predict_to_files
    from cls.prediction.sources import parse_frame_interval
    from cls.prediction.writing import outputs_of, parse_formats
    from cls.runtimes.open import open_classifier, open_exported

    errors: list[UsageError] = []
    formats: tuple[TableFormat, ...] = ()
    outputs: Outputs | None = None
    with noted(errors):
        config = PredictConfig(**given(options, PredictConfig))
    with noted(errors):
        model = _model(options, settings.inference_url)
    with noted(errors):
        every = parse_frame_interval(options.every)
    with noted(errors):
        formats = parse_formats(options.format) if options.format else ()
    with noted(errors):
        outputs = None if options.out is None else outputs_of(options.out, formats, options.sort_into)
    refuse_all(errors, "cls infer")
    trust = trusted_keys(options.trust, settings)
    sources = replace(_sources(options, bottle), every=every)
    if model is None:
        classifier = open_exported(bottle, options.group, trust)
    else:
        is_of_photos = options.source is None and not options.served
        classifier = open_classifier(model, bottle, group=options.group, is_group_of_photos=is_of_photos, trust=trust)
    if config.threshold is not None:
        classifier = classifier.with_threshold(config.threshold)
    if outputs is None:
        outputs = outputs_of(bottle.inference(options.group or classifier.group), formats, options.sort_into)
    outputs = replace(outputs, thresholds=config.thresholds_text)
    finder = people_finder(bottle, sources.photos, config, videos=sources.videos)
    runner = None
    if options.cluster is not None:
        from cls.prediction.cluster import cluster_runner

        address = None if options.cluster == _LOCAL_CLUSTER else options.cluster
        runner = cluster_runner(address, settings, classifier, finder, trust)
        if sources.videos:
            logging.getLogger("cls").info("the cluster looks at the photos, this process at the videos")
    summary = predict_to_files(classifier, finder, sources, outputs, runner=runner)
    group = options.group or classifier.group
    if outputs.sheet is not None and outputs.sheet.resolve().parent == bottle.inference(group).resolve():
        link_group_pages(bottle, group)
    _print(classifier, summary, config.thresholds_text, options.sort_into)


def _model(options: argparse.Namespace, inference_url: str) -> str | None:
    """What to open; None for the group's exported package."""
    if options.group is None and options.source is None:
        raise UsageError("say which photos: --group G or --source DIR", code="missing_option")
    if options.served and options.model is not None:
        raise UsageError(
            "--served and --model exclude each other",
            code="options_conflict",
            hint="give the served model's URL as --model",
        )
    if options.model is None and options.group is None:
        raise UsageError(
            "say which model: --model FILE or URL, or --group G for its exported one", code="missing_option"
        )
    if not options.served:
        model: str | None = options.model
        return model
    if not inference_url:
        raise UsageError(
            "--served needs inference_url in the configuration",
            code="missing_setting",
            hint="set it, e.g. CLS_INFERENCE_URL=http://127.0.0.1:8100",
        )
    if options.group is None:
        raise UsageError(
            "--served needs --group", code="missing_option", hint="or give the served model's URL as --model"
        )
    return inference_url


def _sources(options: argparse.Namespace, bottle: Bottle) -> Sources:
    """The pictures, and the folder their names are relative to."""
    from cls.prediction.sources import Sources, finds_below, sources_of

    if options.source is not None:
        sources = sources_of(options.source)
        if options.sort_into is not None and finds_below(options.source, options.sort_into):
            raise UsageError(
                "--sort-into lies inside --source, where the sorted photos would be found as photos",
                code="folder_inside_source",
                hint="give a folder elsewhere",
            )
        if options.cluster is not None and not sources.photos:
            raise UsageError(
                "--cluster shares photos out, and there are none: a video is read in order, by one process",
                code="no_photos",
                hint="run the videos without --cluster",
            )
        return sources
    from cls.bottle.dataset_file import read_dataset

    dataset = read_dataset(bottle.dataset_file(options.group), options.group)
    return Sources(tuple(bottle.picture(row.path) for row in dataset.rows), (), bottle.pictures)


def _print(classifier: Classifier, summary: SessionSummary, thresholds_text: str, sorted_folder: Path | None) -> None:
    from cls.prediction.contact_sheet import pictures_in_words

    counts = summary.counts
    found = f"{counted(counts.people, 'person')} in {pictures_in_words(counts.photos, counts.frames)}"
    version = f", version {classifier.version}," if classifier.version else ""
    print(f"{found} by {classifier.name}{version} on {classifier.runtime.description}")
    print(f"thresholds: {thresholds_text}")
    for label in classifier.labels:
        print(f"  {counts.labels[label]:6d}  {label}")
    print(f"  {counts.none:6d}  none of them")
    print_skipped(summary.skipped)
    for path in summary.written:
        print(f"written: {path}")
    if sorted_folder is not None:
        print(f"sorted: {counted(summary.placed, 'file')} in {sorted_folder}")
        if summary.removed:
            print(f"  taken away there: {counted(summary.removed, 'file')} of the same pictures under earlier labels")
    if summary.blocked:
        shown = ", ".join(summary.blocked[:3])
        print(f"not sorted, since other files have these names there: {len(summary.blocked)} ({shown})")


COMMAND = Command("infer", "classify the people of a group's photos, of folders, files and videos", add_arguments, run)
