"""`cls infer`: classifies the people of a group's photos or of a folder, by a model file or a served model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cls.command import Command, main
from cls.errors import UsageError
from cls.wording import counted

if TYPE_CHECKING:
    from cls.bottle.layout import Bottle
    from cls.prediction.runtime import Classifier
    from cls.prediction.session import SessionSummary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cls infer`."""
    photos = parser.add_argument_group("photos (one of the two)")
    photos.add_argument(
        "--group", help="the photos of a loaded group; with --source: which model, where --model is left out"
    )
    photos.add_argument("--source", type=Path, metavar="DIR", help="the photos of a folder and the folders below")
    model = parser.add_argument_group("model (default: the group's exported one)")
    model.add_argument(
        "--model",
        metavar="FILE|URL",
        help="a package (.zip, its folder, model.onnx), a run's folder or one of its models,"
        " or http://HOST:PORT/v2/models/NAME",
    )
    model.add_argument("--served", action="store_true", help="the group's model at inference_url of the configuration")
    model.add_argument(
        "--conf_thresh",
        "--conf-thresh",
        type=float,
        metavar="P",
        help="one threshold for all labels, e.g. 0.5 (default: each label's own, kept with the model)",
    )
    people = parser.add_argument_group("people (default: whom the pictures database knows, then the segmenter)")
    people.add_argument(
        "--segmenter", type=Path, metavar="FILE", help="segmentation model (default: person_models/best.pt, if there)"
    )
    people.add_argument("--whole", action="store_true", help="take every photo as one person, whole")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where results go (default: the bottle's inference folder)"
    )


def run(options: argparse.Namespace) -> None:
    """Predicts, writes tables and a contact sheet, prints a summary."""
    from cls.settings import load_settings

    settings = load_settings(options.cfg)
    model = _model(options, settings.inference_url)
    from cls.bottle.layout import Bottle
    from cls.prediction.opening import open_classifier, open_exported
    from cls.prediction.people_of_photos import people_finder
    from cls.prediction.session import predict_to_folder

    bottle = Bottle(settings)
    files, root = _photos(options, bottle)
    classifier = (
        open_exported(bottle, options.group) if model is None else open_classifier(model, bottle, group=options.group)
    )
    thresholds_text = "of the model, one a label"
    if options.conf_thresh is not None:
        classifier = classifier.with_threshold(options.conf_thresh)
        thresholds_text = f"{options.conf_thresh:g} for all labels (--conf_thresh)"
    finder = people_finder(bottle, files, segmenter_path=options.segmenter, is_whole=options.whole)
    folder = options.out or bottle.inference(options.group or classifier.group)
    summary = predict_to_folder(classifier, finder, files, root, folder, thresholds_text=thresholds_text)
    _print(classifier, summary, thresholds_text)


def _model(options: argparse.Namespace, inference_url: str) -> str | None:
    """What to open; None for the group's exported package."""
    if options.group is None and options.source is None:
        raise UsageError("say which photos: --group G or --source DIR")
    if options.conf_thresh is not None and not 0 <= options.conf_thresh <= 1:
        raise UsageError(f"--conf_thresh: expected a number from 0 to 1, found {options.conf_thresh:g}")
    if options.whole and options.segmenter is not None:
        raise UsageError("--whole and --segmenter exclude each other")
    if options.served and options.model is not None:
        raise UsageError("--served and --model exclude each other", hint="give the served model's URL as --model")
    if options.model is None and options.group is None:
        raise UsageError("say which model: --model FILE or URL, or --group G for its exported one")
    if not options.served:
        model: str | None = options.model
        return model
    if not inference_url:
        raise UsageError(
            "--served needs inference_url in the configuration",
            hint="set it, e.g. CLS_INFERENCE_URL=http://127.0.0.1:8100",
        )
    if options.group is None:
        raise UsageError("--served needs --group", hint="or give the served model's URL as --model")
    return inference_url


def _photos(options: argparse.Namespace, bottle: Bottle) -> tuple[list[Path], Path]:
    """The photos, and the folder their names are relative to."""
    from cls.prediction.predict import photos_below

    if options.source is not None:
        root = options.source if options.source.is_dir() else options.source.parent
        return photos_below(options.source), root
    from cls.bottle.dataset_file import read_dataset

    dataset = read_dataset(bottle.dataset_file(options.group), options.group)
    return [bottle.picture(row.path) for row in dataset.rows], bottle.pictures


def _print(classifier: Classifier, summary: SessionSummary, thresholds_text: str) -> None:
    found = f"{counted(summary.people, 'person')} in {counted(summary.photos, 'photo')}"
    print(f"{found} by {classifier.name} on {classifier.runtime.description}")
    print(f"thresholds: {thresholds_text}")
    for label, count in summary.label_counts.items():
        print(f"  {count:6d}  {label}")
    print(f"  {summary.none_count:6d}  none of them")
    if summary.skipped:
        print(f"{counted(len(summary.skipped), 'photo')} skipped:")
        for picture, reason in list(summary.skipped.items())[:10]:
            print(f"  {picture}: {reason}")
        if len(summary.skipped) > 10:
            print(f"  … and {len(summary.skipped) - 10} more, listed in {summary.sheet.name}")
    for path in (summary.csv, summary.jsonl, summary.sheet):
        print(f"written: {path}")


COMMAND = Command("infer", "classify the people of a group's photos or of a folder", add_arguments, run)

if __name__ == "__main__":
    main(COMMAND)
