"""Proof that a package decides as the trained network does, on real people, from a picture's bytes to its labels."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cls.errors import ExportError, FileError, ParityError, PredictionError
from cls.package.meta import ParityMeta
from cls.package.triton_config import MAX_BATCH_SIZE
from cls.people.person import Person
from cls.people.photos import read_photo
from cls.prediction.runtime import Classifier
from cls.progress import progress

_log = logging.getLogger("cls.export")

MAX_SAMPLES = 512
BATCH_SIZES = (1, 7, MAX_BATCH_SIZE)
FLIP_LIMIT = 1e-3
PROBABILITY_LIMIT = 1e-3


@dataclass(frozen=True)
class ParitySample:
    """One person in one photo.

    Attributes:
        file: the photo.
        person: who is meant.
    """

    file: Path
    person: Person


@dataclass(frozen=True)
class WorstSample:
    """Where two ways of running a network differ most.

    Attributes:
        picture: the photo's name.
        label: the label.
        batch: the batch size it was seen at.
        expected: the trained network's probability.
        found: the converted network's.
        threshold: the label's.
    """

    picture: str
    label: str
    batch: int
    expected: float
    found: float
    threshold: float

    def text(self) -> str:
        """The sample in words."""
        return (
            f"'{self.label}' in {self.picture} at batch {self.batch}: {self.expected:.6f} from the trained network,"
            f" {self.found:.6f} from the conversion (threshold {self.threshold:.4f})"
        )


@dataclass(frozen=True)
class ParityReport:
    """What a comparison found.

    Attributes:
        runtime: what ran the converted network.
        samples: how many people were looked at.
        batch_sizes: at which batch sizes.
        max_probability_difference: largest, over people, labels and batch sizes.
        mean_probability_difference: mean.
        p999_probability_difference: 99.9th percentile.
        label_flips: decisions that differ.
        label_flips_beyond_limit: those whose trained probability is further than `limit` from its threshold.
        limit: see above.
        worst: where it differs most.
        faults: why the conversion is refused; empty when it agrees.
    """

    runtime: str
    samples: int
    batch_sizes: tuple[int, ...]
    max_probability_difference: float
    mean_probability_difference: float
    p999_probability_difference: float
    label_flips: int
    label_flips_beyond_limit: int
    limit: float
    worst: WorstSample
    faults: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def to_meta(self) -> ParityMeta:
        """The report as meta.json keeps it."""
        values = {key: value for key, value in self.to_dict().items() if key != "faults"}
        # Smaller differences depend on the number of threads: rounded up, meta.json says the same on every machine.
        for key, value in values.items():
            values[key] = math.ceil(value * 1e6) / 1e6 if isinstance(value, float) else value
        # Which of many equal differences is the worst is chance; the report beside the package names it.
        del values["worst"]
        return ParityMeta.model_validate(values)

    def raise_if_refused(self, where: object, report_file: Path) -> None:
        """Refuses a conversion that disagrees.

        Raises:
            ParityError: names the faults and the worst sample.
        """
        if self.faults:
            raise ParityError(
                f"the conversion disagrees with the trained network: {'; '.join(self.faults)};"
                f" worst: {self.worst.text()}",
                where=where,
                hint=f"nothing was packaged; the report is {report_file}",
            )


def choose_samples(samples: Sequence[ParitySample], *, seed: int = 0) -> list[ParitySample]:
    """All samples, or a seeded choice of `MAX_SAMPLES` where there are more."""
    if len(samples) <= MAX_SAMPLES:
        return list(samples)
    chosen = np.random.default_rng(seed).choice(len(samples), MAX_SAMPLES, replace=False)
    return [samples[number] for number in sorted(chosen.tolist())]


def compare(trained: Classifier, converted: Classifier, samples: Sequence[ParitySample]) -> ParityReport:
    """Compares decisions on people in photos.

    Each side cuts, resizes and normalises by its own preprocessing and decides by its own labels and thresholds, so
    that a wrong meta.json is found as well as a wrong network. The converted network sees every person at every batch
    size of `BATCH_SIZES`, each time with other neighbours; where there are fewer people than the largest batch, they
    repeat.

    Args:
        trained: the network as trained.
        converted: the conversion, opened as any user opens it.
        samples: at least one.

    Raises:
        ParityError: the two do not even have the same labels, or the converted network answers nonsense.
    """
    if sorted(trained.labels) != sorted(converted.labels):
        raise ParityError(
            f"the conversion's labels are {', '.join(converted.labels)},"
            f" those of the trained network {', '.join(trained.labels)}",
            where=converted.source,
        )
    samples, trained_crops, converted_crops = _crops(trained, converted, samples)
    expected = trained.probabilities(trained_crops)
    # Columns are matched by the label's name: who reads the package reads names.
    order = [converted.labels.index(label) for label in trained.labels]
    thresholds = np.array(trained.thresholds, np.float32)
    converted_thresholds = np.array([converted.thresholds[column] for column in order], np.float32)
    found = []
    with progress("parity: people compared", len(samples) * len(BATCH_SIZES)) as ticker:
        for batch in BATCH_SIZES:
            try:
                found.append(_at_batch(converted, converted_crops, batch)[:, order])
            except PredictionError as error:
                raise ParityError(f"the conversion at batch {batch}: {error.what}", where=error.where) from error
            ticker.advance(len(samples))
    return _report(trained, converted, samples, expected, np.stack(found), thresholds, converted_thresholds)


def _crops(
    trained: Classifier, converted: Classifier, samples: Sequence[ParitySample]
) -> tuple[list[ParitySample], NDArray[np.uint8], NDArray[np.uint8]]:
    """What each side's preprocessing makes of the photos' bytes; photos that were damaged since are left out.

    Raises:
        ExportError: none can be read.
    """
    readable, first, second = [], [], []
    broken: list[str] = []
    for sample in samples:
        try:
            image = read_photo(sample.file)
        except FileError as error:
            broken.append(error.line())
            continue
        readable.append(sample)
        first.append(trained.preprocessing.cut(image, sample.person))
        second.append(converted.preprocessing.cut(image, sample.person))
    if broken:
        _log.warning("parity: %d of %d people left out, first: %s", len(broken), len(samples), broken[0])
    if not readable:
        raise ExportError(
            f"none of the run's {len(samples)} photos can be read to compare with: {broken[0]}",
            hint="load the group again",
        )
    return readable, np.stack(first), np.stack(second)


def _at_batch(classifier: Classifier, crops: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
    """Probabilities (people, labels) at one batch size, the last batch filled up with people from the start."""
    count = len(crops)
    filled = np.resize(np.arange(count), -(-count // batch) * batch)
    parts = [
        classifier.probabilities(crops[filled[start : start + batch]], batch=batch)
        for start in range(0, len(filled), batch)
    ]
    return np.concatenate(parts)[:count]


def _report(
    trained: Classifier,
    converted: Classifier,
    samples: Sequence[ParitySample],
    expected: NDArray[np.float32],
    found: NDArray[np.float32],
    thresholds: NDArray[np.float32],
    converted_thresholds: NDArray[np.float32],
) -> ParityReport:
    """The numbers. expected: (people, labels); found: (batch sizes, people, labels)."""
    difference = np.abs(found - expected[None])
    flips = (found >= converted_thresholds) != (expected >= thresholds)[None]
    distance = np.broadcast_to(np.abs(expected - thresholds)[None], flips.shape)
    beyond = flips & (distance > FLIP_LIMIT)
    # A flip counts for more than any difference: the worst sample is a flip where there is one.
    place = np.unravel_index(np.argmax(difference + 2 * beyond), difference.shape)
    batch_index, sample_index, label_index = (int(index) for index in place)
    worst = WorstSample(
        picture=samples[sample_index].file.name,
        label=trained.labels[label_index],
        batch=BATCH_SIZES[batch_index],
        expected=float(expected[sample_index, label_index]),
        found=float(found[batch_index, sample_index, label_index]),
        threshold=float(thresholds[label_index]),
    )
    faults = []
    if beyond.any():
        faults.append(
            f"{int(beyond.sum())} of {beyond.size} decisions differ further than {FLIP_LIMIT:g} from a threshold"
        )
    largest = float(difference.max())
    if largest > PROBABILITY_LIMIT:
        faults.append(f"probabilities differ by up to {largest:.6f} (limit {PROBABILITY_LIMIT:g})")
    if not np.allclose(thresholds, converted_thresholds, atol=1e-6):
        faults.append("the thresholds are not those of the run")
    is_constant = (np.ptp(found, axis=1) == 0).all(axis=0) & (np.ptp(expected, axis=0) > 0)
    if is_constant.any():
        names = ", ".join(label for label, flag in zip(trained.labels, is_constant, strict=True) if flag)
        faults.append(f"the conversion gives everyone the same probability of {names}")
    return ParityReport(
        runtime=converted.runtime.description,
        samples=len(samples),
        batch_sizes=BATCH_SIZES,
        max_probability_difference=largest,
        mean_probability_difference=float(difference.mean()),
        p999_probability_difference=float(np.percentile(difference, 99.9)),
        label_flips=int(flips.sum()),
        label_flips_beyond_limit=int(beyond.sum()),
        limit=FLIP_LIMIT,
        worst=worst,
        faults=tuple(faults),
    )
