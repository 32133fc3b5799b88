"""How the served model did on photos whose truth is known: the sample's people whom no training has seen."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cls.errors import ClsError


@dataclass(frozen=True)
class PredictedPhoto:
    """What was predicted for one photo.

    Attributes:
        name: file name.
        people: the predictions' entries, one a person; the first is the main person, whose outline is the largest.
    """

    name: str
    people: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Score:
    """Predictions against the truth.

    Attributes:
        f1: mean over the labels that occur, from the main person of each photo; a photo without anybody counts as
            having no label.
        right: photos with every label right.
        photos: how many there were.
        labels: how many labels occur.
        all_labels: how many labels the group has.
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
    people: dict[str, list[dict[str, Any]]] = {}
    try:
        for line in file.read_text().splitlines():
            person = json.loads(line)
            people.setdefault(str(person["picture"]), []).append(person)
    except (OSError, ValueError, KeyError) as error:
        raise ClsError(f"the predictions cannot be read: {error!r}", where=file) from error
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
    said = {photo.name: set(photo.people[0]["labels"]) for photo in predicted}
    scores = []
    for label in labels:
        actual = {name for name, tags_of in truth.items() if label in tags_of}
        claimed = {name for name in truth if label in said.get(name, set())}
        if actual:
            scores.append(2 * len(actual & claimed) / (len(actual) + len(claimed)))
    right = sum(truth[name] == said.get(name, set()) for name in truth)
    f1 = sum(scores) / len(scores) if scores else 0.0
    return Score(f1, right, len(truth), len(scores), len(labels))
