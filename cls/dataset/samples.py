"""Dataset file and pictures database -> samples: people with labels, and a ledger of what was left out and why."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cls.bottle.dataset_file import GroupDataset, LabelledRow
from cls.bottle.layout import Bottle
from cls.errors import TrainingError
from cls.people.photos import Person
from cls.people.polygons import choose_people
from cls.pictures.database import PictureRecord, PicturesDatabase, Status
from cls.records import Record
from cls.wording import counted

_log = logging.getLogger("cls.dataset")

REJECTED = "rejected by a reviewer"
NO_FILE = "the picture is not in the pool"
NOT_SEGMENTED = "not segmented yet"
NO_PERSON_FOUND = "nobody was found"
NO_PERSON_CHOSEN = "nobody the label could belong to"
BROKEN = "cannot be decoded"
NO_LABEL_KNOWN = "none of its labels is known"


@dataclass(frozen=True)
class Sample:
    """A row of the training data: a detected person with the labels of their picture.

    Attributes:
        path: file name in pictures/.
        picset: GUID of the picset; empty when unknown.
        person: the detected person.
        labels: one value a label: 1.0 present, 0.0 absent, NaN unknown.
        number: which of the picture's chosen people this is, from 0.
        joined: name of the cluster of picsets that belong together (`cls.dataset.split.assign`); empty when alone.
    """

    path: str
    picset: str
    person: Person
    labels: tuple[float, ...]
    number: int = 0
    joined: str = ""

    @property
    def split_unit(self) -> str:
        """What a split keeps together: the joined picsets, the picset, or the picture where the picset is unknown."""
        return self.joined or self.unjoined_unit

    @property
    def unjoined_unit(self) -> str:
        """The picset, or the picture itself where the picset is unknown, whatever it is joined with."""
        return f"picset:{self.picset}" if self.picset else self.picture_unit

    @property
    def picture_unit(self) -> str:
        """The picture, as a unit."""
        return f"picture:{self.path}"


class PictureCounts(Record):
    """How many of a dataset's pictures are used, and how many were left out, by reason.

    Attributes:
        pictures: rows in the dataset file.
        used: those that give samples.
        left_out_by_reason: reason -> how many pictures, most frequent first.
        segmentation_models: model version -> pictures whose people it found, of those used.
    """

    pictures: int
    used: int
    left_out_by_reason: dict[str, int] = Field(default_factory=dict)
    segmentation_models: dict[str, int] = Field(default_factory=dict)


class LedgerRecord(PictureCounts):
    """ledger.json: the counts, and each picture left out with the reason.

    Attributes:
        left_out: picture -> reason.
    """

    left_out: dict[str, str]


@dataclass
class Ledger:
    """The pictures of a dataset that give no sample, with the reasons; see `PictureCounts`."""

    pictures: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    segmentation_models: Counter[str] = field(default_factory=Counter)

    @property
    def reasons(self) -> dict[str, int]:
        """Reason -> how many pictures, most frequent first."""
        return dict(Counter(self.left_out.values()).most_common())

    def counts(self) -> PictureCounts:
        """The counts, as in metrics.json."""
        return PictureCounts(
            pictures=self.pictures,
            used=self.pictures - len(self.left_out),
            left_out_by_reason=self.reasons,
            segmentation_models=dict(self.segmentation_models),
        )

    def record(self) -> LedgerRecord:
        """The content of ledger.json."""
        return LedgerRecord(**self.counts().to_json_values(), left_out=dict(sorted(self.left_out.items())))


def labels_of(samples: Sequence[Sample]) -> NDArray[np.float32]:
    """Labels of samples as one array, float32 (samples, labels); NaN where unknown."""
    width = len(samples[0].labels) if samples else 0
    return np.array([sample.labels for sample in samples], np.float32).reshape(len(samples), width)


def collect_samples(
    bottle: Bottle, dataset: GroupDataset, *, people: str = "largest", subject: str | None = None
) -> tuple[list[Sample], Ledger]:
    """Reads the people of the dataset's pictures and gives each chosen person the picture's labels.

    Args:
        bottle: the data folder; its pictures database is read.
        dataset: the labelled pictures.
        people: which people get a picture's labels: `largest`, `single` (pictures with one person only) or `all`.
        subject: only people of this class, e.g. `female`; of every class when None.

    Returns:
        Samples in the dataset's order, and the ledger of what was left out.

    Raises:
        DatabaseError: the pictures database cannot be reached or used.
    """
    ledger = Ledger(pictures=len(dataset.rows))
    with PicturesDatabase.open_for_reading(bottle.database_url) as database:
        records = database.records([row.path for row in dataset.rows])
    samples: list[Sample] = []
    for row in dataset.rows:
        record = records.get(row.path)
        reason = _why_unusable(bottle, row.path, record)
        chosen: Sequence[Person] = ()
        if reason is None and row.labels and all(math.isnan(value) for value in row.labels):
            reason = NO_LABEL_KNOWN
        if reason is None and record is not None and record.people is not None:
            chosen = choose_people(record.people, people, subject=subject)
            if not chosen:
                reason = NO_PERSON_CHOSEN + f" (--people {people}" + (f" --subject {subject})" if subject else ")")
        if reason is not None:
            ledger.left_out[row.path] = reason
            continue
        if record is not None:
            ledger.segmentation_models[record.model_version] += 1
        samples += [Sample(row.path, row.picset, person, row.labels, n) for n, person in enumerate(chosen)]
    return samples, ledger


def _why_unusable(bottle: Bottle, path: str, record: PictureRecord | None) -> str | None:
    """Why a picture gives no sample, or None."""
    if record is not None and record.status == Status.REJECTED:
        return REJECTED
    if not bottle.picture(path).is_file():
        return NO_FILE
    if record is None or record.people is None:
        return NOT_SEGMENTED
    return NO_PERSON_FOUND if not record.people else None


def drop_broken(samples: Sequence[Sample], broken: Sequence[str], ledger: Ledger) -> list[Sample]:
    """Samples without those of pictures that could not be decoded, which are entered into the ledger."""
    left_out = dict.fromkeys(broken, BROKEN)
    ledger.left_out.update(left_out)
    return [sample for sample in samples if sample.path not in left_out]


def log_ledger(ledger: Ledger, samples: Sequence[Sample], label_names: Sequence[str]) -> None:
    """Logs how many samples each label has, and the pictures left out."""
    labels = labels_of(samples)
    counts = ", ".join(f"{name} {int(np.nansum(column))}" for name, column in zip(label_names, labels.T, strict=True))
    trash = int((labels == 0).all(axis=1).sum()) if len(samples) else 0
    _log.info(
        "%s in %d of %s: %s, none of them %d",
        counted(len(samples), "person"),
        ledger.pictures - len(ledger.left_out),
        counted(ledger.pictures, "picture"),
        counts,
        trash,
    )
    for reason, count in ledger.reasons.items():
        _log.warning("%s left out: %s", counted(count, "picture"), reason)
    unknown = np.isnan(labels).sum(axis=0)
    if unknown.any():
        listed = [f"{name} {count}" for name, count in zip(label_names, unknown.tolist(), strict=True) if count]
        _log.info("labels unknown, which count for nothing: %s", ", ".join(listed))
    unsegmented = ledger.reasons.get(NOT_SEGMENTED, 0)
    if unsegmented:
        _log.warning(
            "%s could be trained on: run `python cls/classification/segment_builder.py --model-path MODEL`, which does "
            "only what is missing",
            counted(unsegmented, "more picture"),
        )


def mark_incomplete_labels_unknown(
    dataset: GroupDataset, names: Sequence[str], *, where: object = None
) -> GroupDataset:
    """The dataset with the absence of incomplete labels made unknown.

    A picture without any label stays as it is: an annotator looked at it and saw none of them.

    Args:
        dataset: the labelled pictures.
        names: the labels that annotators did not give to every picture they fit; empty: all labels.
        where: the dataset's file, for messages.

    Raises:
        TrainingError: the group has no label of such a name.
    """
    unknown = [name for name in names if name not in dataset.labels]
    if unknown:
        raise TrainingError(
            f"--incomplete: group '{dataset.group}' has no label {', '.join(repr(name) for name in unknown)}",
            code="unknown_label",
            where=where,
            hint=f"its labels: {', '.join(dataset.labels)}",
        )
    chosen = frozenset(names or dataset.labels)
    is_chosen = [label in chosen for label in dataset.labels]
    return replace(dataset, rows=tuple(_absences_unknown(row, is_chosen) for row in dataset.rows))


def _absences_unknown(row: LabelledRow, is_chosen: Sequence[bool]) -> LabelledRow:
    if all(value == 0 for value in row.labels):
        return row
    labels = [math.nan if chosen and value == 0 else value for value, chosen in zip(row.labels, is_chosen, strict=True)]
    return replace(row, labels=tuple(labels))
