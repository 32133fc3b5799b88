"""The demonstration's page: one HTML file that shows what was made."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from cls.bottle.dataset_file import read_dataset
from cls.demo.guide_run import GuideRun
from cls.demo.guide_steps import shown
from cls.errors import ClsError, FileError
from cls.metrics.scores import MeanScore, ValidationScores
from cls.package.model_name import model_name_of_group
from cls.pages import render
from cls.pages.render import picture_url
from cls.people.photos import read_photo
from cls.prediction.contact_sheet import SHEET_NAME
from cls.records import read_record
from cls.training.runs.folder import FINISHED
from cls.training.runs.metrics import RunMetrics
from cls.wording import counted, interval, mean_over, score

_THUMBNAIL_WIDTH_PX, _THUMBNAIL_HEIGHT_PX = 400, 300
_MOST_PHOTOS = 12


class PagePerson(BaseModel):
    """A line of predictions.jsonl: `picture` is its photo's file name."""

    picture: str
    box_xyxy_px: tuple[float, float, float, float]
    probs: dict[str, float]
    labels: list[str]


@dataclass(frozen=True)
class PredictedPhoto:
    """What was predicted for one photo.

    Attributes:
        people: who is in it; the first is the main person, whose outline is the largest.
    """

    name: str
    people: tuple[PagePerson, ...]


@dataclass(frozen=True)
class Score:
    """Predictions against the truth.

    Attributes:
        f1: mean over the labels that occur, from the main person of each photo; a photo without anybody counts as
            having no label.
        right: photos with every label right.
    """

    f1: float
    right: int
    photos: int
    labels: int
    all_labels: int


def read_predictions(file: Path) -> list[PredictedPhoto]:
    """Reads predictions.jsonl of photos that are not in the pool, photo by photo, in the order of names.

    Of such photos, the table lists the largest person first.
    """
    people: dict[str, list[PagePerson]] = {}
    try:
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                person = PagePerson.model_validate_json(line)
                people.setdefault(person.picture, []).append(person)
    except (OSError, ValueError) as error:
        raise ClsError(
            f"the predictions cannot be read: {error!r}", code="predictions_unreadable", where=file
        ) from error
    return [PredictedPhoto(name, tuple(found)) for name, found in sorted(people.items())]


def read_picsets(tags: Path) -> dict[str, str]:
    """File name -> picset of a sample's tags.csv."""
    with tags.open(newline="", encoding="utf-8") as stream:
        return {row["file"]: row["picset"] for row in csv.DictReader(stream)}


def read_truth(tags: Path, labels: tuple[str, ...]) -> dict[str, set[str]]:
    """File name -> the group's labels of a sample's tags.csv; it must hold no wrong ones."""
    with tags.open(newline="", encoding="utf-8") as stream:
        return {row["file"]: {tag for tag in row["tags"].split(";") if tag in labels} for row in csv.DictReader(stream)}


def score_predictions(predicted: list[PredictedPhoto], truth: dict[str, set[str]], labels: tuple[str, ...]) -> Score:
    """Compares the main person's labels with the true ones.

    Args:
        predicted: photos with their predictions.
        truth: what `read_truth` read.
        labels: the group's labels.
    """
    predicted_labels = {photo.name: set(photo.people[0].labels) for photo in predicted}
    scores = []
    for label in labels:
        actual = {name for name, tags_of in truth.items() if label in tags_of}
        claimed = {name for name in truth if label in predicted_labels.get(name, set())}
        if actual:
            scores.append(2 * len(actual & claimed) / (len(actual) + len(claimed)))
    right = sum(truth[name] == predicted_labels.get(name, set()) for name in truth)
    f1 = sum(scores) / len(scores) if scores else 0.0
    return Score(f1, right, len(truth), len(scores), len(labels))


def validation_of(guide_run: GuideRun) -> tuple[ValidationScores, float | None]:
    """The run's scores on validation, and the mean average precision of guessing."""
    validation = read_record(guide_run.run / FINISHED, RunMetrics).validation
    if validation is None:
        raise ClsError("the run has not been validated", code="not_validated", where=guide_run.run)
    return validation.scores, validation.macro.base_rate


def unseen_truth(guide_run: GuideRun) -> dict[str, set[str]] | None:
    """The true labels of the sample's new photos, by file name; None for photos whose truth is not known."""
    if guide_run.plan.source is not None:
        return None
    labels = read_dataset(guide_run.bottle.dataset_file(guide_run.plan.group), guide_run.plan.group).labels
    return read_truth(guide_run.plan.folder / "new_photos" / "tags.csv", labels)


def unseen_score(guide_run: GuideRun) -> Score | None:
    """How the served model did on new people of the sample; None for photos whose truth is not known."""
    truth = unseen_truth(guide_run)
    if truth is None:
        return None
    labels = read_dataset(guide_run.bottle.dataset_file(guide_run.plan.group), guide_run.plan.group).labels
    return score_predictions(read_predictions(guide_run.predictions / "predictions.jsonl"), truth, labels)


def headline_numbers(guide_run: GuideRun) -> list[tuple[str, str]]:
    """Value and name of what counts, in the order of reading."""
    dataset = read_dataset(guide_run.bottle.dataset_file(guide_run.plan.group), guide_run.plan.group)
    scores, base_rate = validation_of(guide_run)
    picsets = len({row.picset for row in dataset.rows})
    unseen = unseen_score(guide_run)
    spent_s = sum(result.seconds for result in guide_run.results)
    return [
        (f"{len(dataset.rows):,}", f"photos in {counted(picsets, 'picset')}, {counted(len(dataset.labels), 'label')}"),
        (score(scores.f1.value), _cross_validated(scores)),
        *([] if unseen is None else [(score(unseen.f1), _of_new_people(unseen))]),
        (
            score(scores.ap.value),
            f"mean average precision{_inside(scores.ap)}: {scores.ap.over} (chance level: {score(base_rate)})",
        ),
        (guide_run.version, "served version"),
        (f"{spent_s:.0f} s", "total duration"),
    ]


def _cross_validated(scores: ValidationScores) -> str:
    if scores.f1.value is None:
        return scores.headline()
    return f"cross-validated F1{_inside(scores.f1)}: {scores.f1.over}, {scores.measured_on()} of validation"


def _of_new_people(unseen: Score) -> str:
    return (
        f"F1 of the served model: {mean_over(unseen.labels, unseen.all_labels)},"
        f" {counted(unseen.photos, 'photo')} of new people"
    )


def _inside(mean: MeanScore) -> str:
    return f" ({interval(mean.bounds)})" if mean.bounds else ""


def products(guide_run: GuideRun) -> list[tuple[str, Path]]:
    """What was made, and where."""
    bottle, plan = guide_run.bottle, guide_run.plan
    package = bottle.inference_model(plan.group)
    return [
        ("photos loaded from the collector", bottle.pictures),
        ("labelled dataset", bottle.dataset_file(plan.group)),
        ("pictures database with people and masks", bottle.root / "pictures.sqlite"),
        ("training run", guide_run.run),
        ("training report", guide_run.run / "report.html"),
        ("metadata of the exported model", package / "meta.json"),
        ("package for the model storage", package / "model_onnx.zip"),
        ("published model", plan.storage / "model_repository" / model_name_of_group(plan.group)),
        ("predictions for new photos", guide_run.predictions / "predictions.csv"),
        ("predictions for the group's photos", guide_run.group_predictions / "predictions.csv"),
    ]


def summary_lines(guide_run: GuideRun, page: Path) -> list[str]:
    """The last lines of a demonstration: what was made and where."""
    lines = [f"{guide_run.plan.group} {guide_run.version} is published. " + "What was made:"]
    width = max(len(what) for what, _ in products(guide_run))
    lines += [f"  {what:<{width}}  {os.path.relpath(path)}" for what, path in products(guide_run)]
    scores, base_rate = validation_of(guide_run)
    lines.append(
        f"On validation picsets, not in the training data: {scores.headline()};"
        f" mean average precision {scores.ap.text()}, {scores.ap.over} (chance level: {score(base_rate)})."
    )
    unseen = unseen_score(guide_run)
    if unseen is not None:
        lines.append(
            f"Served model on {counted(unseen.photos, 'photo')} of new people: F1 {score(unseen.f1)},"
            f" {mean_over(unseen.labels, unseen.all_labels)}; {unseen.right} with every label correct."
        )
    seconds = sum(result.seconds for result in guide_run.results if not result.was_done)
    lines.append(f"It took {seconds:.0f} s; run it again and it goes on from what is there.")
    lines.append(f"Open {page.absolute()} in a browser to see it.")
    return lines


def write_page(guide_run: GuideRun) -> Path:
    """Writes `index.html` into the demonstration's folder.

    The photos are small copies inside the page; the rest is linked by relative paths, so the folder can be moved.
    """
    plan = guide_run.plan
    sample = plan.source is None
    page = plan.folder / "index.html"
    values = {
        "group": plan.group,
        "version": guide_run.version,
        "source": "the sample photo set" if sample else f"the folder “{plan.photos.name}”",
        "numbers": headline_numbers(guide_run),
        "photos": _photo_cards(guide_run),
        "photos_note": _photos_note(guide_run),
        "products": [{"what": what, "path": os.path.relpath(path, plan.folder)} for what, path in products(guide_run)],
        "steps": [
            {
                "title": result.step.title,
                "command": shown(result.step.command),
                "seconds": f"{result.seconds:.1f}",
                "was_done": result.was_done,
            }
            for result in guide_run.results
        ],
    }
    render.write_page(page, "demo/page.html", values)
    render.link_pages(
        {
            "demonstration": page,
            **guide_run.bottle.pages(plan.group, guide_run.run.name),
            "predictions for new photos": guide_run.predictions / SHEET_NAME,
        }
    )
    return page


def _photos_note(guide_run: GuideRun) -> str:
    found = unseen_score(guide_run)
    if found is not None:
        who = "of people who are neither in training nor in validation"
    else:
        folder = guide_run.plan.folder / "new_photos"
        loaded = [file.name for file in folder.iterdir() if (guide_run.bottle.pictures / file.name).exists()]
        who = "of the group, some of which are in the training data" if loaded else "that are not in the dataset"
    verdict = "" if found is None else f" All labels are correct in {found.right} of {found.photos} such photos."
    return (
        f"Photos {who}. The segmentation model cuts people out; labels are those of the largest person. A label is"
        f" predicted if its probability reaches its threshold, which was chosen on validation photos.{verdict}"
    )


@dataclass(frozen=True)
class _Box:
    """A person's box in percent of the photo."""

    left: float
    top: float
    width: float
    height: float
    is_main: bool


@dataclass(frozen=True)
class _Bar:
    """A label's probability, in percent and as text."""

    label: str
    percent: float
    text: str
    is_chosen: bool


@dataclass(frozen=True)
class _Card:
    """What the page shows of a photo."""

    name: str
    image: str
    width_percent: float
    boxes: list[_Box]
    chips: list[dict[str, str]]
    truth: str | None
    is_right: bool
    nothing: str
    bars: list[_Bar]


def _photo_cards(guide_run: GuideRun) -> list[_Card]:
    """Cards of some photos; of a sample, each of another person."""
    chosen = read_predictions(guide_run.predictions / "predictions.jsonl")
    tags = guide_run.plan.folder / "new_photos" / "tags.csv"
    if guide_run.plan.source is None:
        picsets = read_picsets(tags)
        chosen = list({picsets[photo.name]: photo for photo in chosen}.values())
    truth = unseen_truth(guide_run)
    return [_card(guide_run, photo, None if truth is None else truth[photo.name]) for photo in chosen[:_MOST_PHOTOS]]


def _card(guide_run: GuideRun, photo: PredictedPhoto, true_labels: set[str] | None) -> _Card:
    """A small copy, the people's boxes, the main person's labels and probabilities, and the truth where it is known."""
    image_rgb = _open(guide_run, photo.name)
    height_px, width_px = image_rgb.shape[:2]
    width_of_high = round(_THUMBNAIL_HEIGHT_PX * width_px / height_px)
    main = photo.people[0]
    nothing = f"none of {guide_run.plan.group}"
    return _Card(
        name=photo.name,
        image=picture_url(image_rgb, max(width_of_high, 1)),
        width_percent=round(min(100.0, 100 * width_of_high / _THUMBNAIL_WIDTH_PX), 1),
        boxes=[
            _Box(
                left=round(100 * box[0] / width_px, 2),
                top=round(100 * box[1] / height_px, 2),
                width=round(100 * (box[2] - box[0]) / width_px, 2),
                height=round(100 * (box[3] - box[1]) / height_px, 2),
                is_main=index == 0,
            )
            for index, box in enumerate(person.box_xyxy_px for person in photo.people)
        ],
        chips=[{"name": label} for label in main.labels],
        truth=None if true_labels is None else " and ".join(sorted(true_labels)) or nothing,
        is_right=true_labels == set(main.labels),
        nothing=nothing,
        bars=[
            _Bar(label, round(100 * prob, 1), score(prob, 2), label in main.labels)
            for label, prob in sorted(main.probs.items(), key=lambda pair: -pair[1])[:3]
        ],
    )


def _open(guide_run: GuideRun, name: str) -> NDArray[np.uint8]:
    """The photo of a prediction."""
    for folder in (guide_run.plan.folder / "new_photos" / "images", guide_run.plan.folder / "new_photos"):
        if (folder / name).is_file():
            return read_photo(folder / name)
    raise FileError("a predicted photo is gone", code="not_found", where=guide_run.plan.folder / "new_photos" / name)
