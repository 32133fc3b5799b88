"""One inference from photos to tables and a contact sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cls.errors import PredictionError
from cls.prediction.contact_sheet import MAX_CARDS, SHEET_NAME, SheetPerson, jpeg_of_crop, write_contact_sheet
from cls.prediction.people_of_photos import PeopleFinder
from cls.prediction.predict import PhotoPrediction, predict_photos
from cls.prediction.results import PersonResult, write_results
from cls.prediction.runtime import Classifier
from cls.progress import progress


@dataclass(frozen=True)
class SessionSummary:
    """What an inference did.

    Attributes:
        photos: photos looked at; skipped ones are not among them.
        people: people in them.
        label_counts: label -> people, in output order.
        none_count: people with no label.
        skipped: photo -> why it was skipped.
        csv: predictions.csv.
        jsonl: predictions.jsonl.
        sheet: contact_sheet.html.
    """

    photos: int
    people: int
    label_counts: dict[str, int]
    none_count: int
    skipped: dict[str, str]
    csv: Path
    jsonl: Path
    sheet: Path


def predict_to_folder(
    classifier: Classifier,
    finder: PeopleFinder,
    files: Sequence[Path],
    root: Path,
    folder: Path,
    *,
    thresholds_text: str,
) -> SessionSummary:
    """Predicts and writes the results; broken photos are skipped, counted and listed.

    Args:
        classifier: what predicts.
        finder: says who is in a photo.
        files: the photos.
        root: their names are relative to this folder.
        folder: where predictions.csv, predictions.jsonl and contact_sheet.html go.
        thresholds_text: which thresholds are used, in words.

    Raises:
        PredictionError: no photo could be used, or the network cannot be run.
    """
    results: list[PersonResult] = []
    shown: list[SheetPerson] = []
    skipped: dict[Path, str] = {}
    photo_count = 0
    with progress("photos classified", len(files)) as ticker:
        for photo in predict_photos(files, [classifier], finder, skipped):
            photo_count += 1
            ticker.advance()
            for result, crop in zip(_results_of(photo, classifier, root), photo.crops_rgb, strict=True):
                results.append(result)
                if len(shown) < MAX_CARDS:
                    shown.append(SheetPerson(result, jpeg_of_crop(crop)))
    skipped_names = {_name(file, root): reason for file, reason in skipped.items()}
    if not photo_count:
        first = next(iter(skipped_names.items()))
        raise PredictionError(
            f"none of the {len(files)} photos could be used ({first[0]}: {first[1]})",
            where=root,
            hint="check the photos",
        )
    csv_path, jsonl_path = write_results(folder, results, classifier.labels)
    write_contact_sheet(
        folder / SHEET_NAME,
        classifier,
        shown,
        results,
        photo_count=photo_count,
        thresholds_text=thresholds_text,
        skipped=skipped_names,
    )
    counts = Counter(label for result in results for label in result.labels)
    return SessionSummary(
        photos=photo_count,
        people=len(results),
        label_counts={label: counts[label] for label in classifier.labels},
        none_count=sum(not result.labels for result in results),
        skipped=skipped_names,
        csv=csv_path,
        jsonl=jsonl_path,
        sheet=folder / SHEET_NAME,
    )


def _results_of(photo: PhotoPrediction, classifier: Classifier, root: Path) -> list[PersonResult]:
    return [
        PersonResult(
            picture=_name(photo.file, root),
            person=number,
            person_class=person.cls,
            person_conf=person.conf,
            box_xyxy_px=person.box_xyxy_px,
            probs=dict(zip(classifier.labels, probs.tolist(), strict=True)),
            labels=classifier.chosen(probs),
        )
        for number, (person, probs) in enumerate(zip(photo.people, photo.probs[0], strict=True))
    ]


def _name(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
