"""Predictions as a contact sheet: one page with everybody's cut-out, probabilities and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cls.pages import render
from cls.pages.render import jpeg_url
from cls.prediction.tables import PersonResult
from cls.runtimes.classifier import Classifier
from cls.wording import counted, score

SHEET_NAME = "contact_sheet.html"
MAX_CARDS = 500
_MIN_BARS = 4


@dataclass(frozen=True)
class SheetPerson:
    """One card.

    Attributes:
        jpeg: the cut-out as the network saw it.
    """

    result: PersonResult
    jpeg: bytes


@dataclass
class SheetCounts:
    """The totals of a contact sheet.

    Attributes:
        none: people without a label.
        labels: label -> people.
    """

    photos: int = 0
    frames: int = 0
    people: int = 0
    none: int = 0
    labels: Counter[str] = field(default_factory=Counter)

    def add(self, result: PersonResult) -> None:
        """Counts a person."""
        self.people += 1
        self.none += not result.labels
        self.labels.update(result.labels)


class SheetText(NamedTuple):
    """What a contact sheet says beside its people.

    Attributes:
        table: name of the table with all of them.
        thresholds: which thresholds are used, in words.
        skipped: picture -> why it was skipped.
    """

    table: str
    thresholds: str
    skipped: Mapping[str, str]


def write_contact_sheet(
    path: Path,
    classifier: Classifier,
    shown: Sequence[SheetPerson],
    counts: SheetCounts,
    about: SheetText,
) -> None:
    """Writes the page, whole or not at all; it needs no other file and no network."""
    numbers = {label: number for number, label in enumerate(classifier.labels, 1)}
    people_of_picture = Counter((person.result.picture, person.result.frame) for person in shown)
    values = {
        "group": classifier.group,
        "model": classifier.name,
        "runtime": classifier.runtime.description,
        "thresholds": about.thresholds,
        "people": counts.people,
        "pictures": pictures_in_words(counts.photos, counts.frames),
        "labels": [{"name": label, "count": counts.labels[label]} for label in classifier.labels],
        "none_count": counts.none,
        "width_px": classifier.preprocessing.width_px,
        "height_px": classifier.preprocessing.height_px,
        "cards": [
            _card(
                person,
                classifier,
                numbers,
                is_shared=people_of_picture[person.result.picture, person.result.frame] > 1,
            )
            for person in shown
        ],
        "hidden_count": counts.people - len(shown),
        "table": about.table,
        "skipped": sorted(about.skipped.items()),
    }
    render.write_page(path, "prediction/contact_sheet.html", values)


@dataclass(frozen=True)
class _Bar:
    """A label's probability, in percent and as text, beside its threshold in percent."""

    name: str
    percent: float
    prob: str
    threshold: float
    is_chosen: bool


@dataclass(frozen=True)
class _Card:
    """What the page shows of a person."""

    picture: str
    name: str
    person: str
    person_class: str
    is_shared: bool
    numbers: str
    image: str
    chips: list[dict[str, str]]
    bars: list[_Bar]


def _card(person: SheetPerson, classifier: Classifier, numbers: Mapping[str, int], *, is_shared: bool) -> _Card:
    result = person.result
    thresholds = dict(zip(classifier.labels, classifier.thresholds, strict=True))
    # All that were chosen, also one with a low threshold that others are likelier than.
    shown = sorted(result.probs, key=lambda label: (label not in result.labels, -result.probs[label]))
    bars = sorted(shown[: max(_MIN_BARS, len(result.labels))], key=lambda label: -result.probs[label])
    moment = "" if result.time_s is None else f" at {result.time_s:.2f} s"
    return _Card(
        picture=result.picture + moment,
        name=result.picture.rpartition("/")[2] + moment,
        person=result.person,
        person_class=result.person_class,
        is_shared=is_shared,
        numbers=" ".join(str(numbers[label]) for label in result.labels) or "0",
        image=jpeg_url(person.jpeg),
        chips=[{"name": label} for label in result.labels],
        bars=[
            _Bar(
                name=label,
                percent=round(100 * result.probs[label], 1),
                prob=score(result.probs[label], 2),
                threshold=round(100 * thresholds[label], 1),
                is_chosen=label in result.labels,
            )
            for label in bars
        ],
    )


def pictures_in_words(photos: int, frames: int) -> str:
    """`24 photos`, `1 frame`, `3 photos and 20 frames`."""
    parts = [counted(number, word) for number, word in ((photos, "photo"), (frames, "frame")) if number]
    return " and ".join(parts) or counted(0, "photo")
