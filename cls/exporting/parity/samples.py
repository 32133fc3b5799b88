"""The people that a conversion is compared on, with the outputs of the trained network and of the conversion."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cls.errors import ExportError, FileError, ParityError, PredictionError
from cls.package.meta import PeoplePart
from cls.package.triton_config import MAX_BATCH_SIZE
from cls.people.photos import Person, read_photo
from cls.people.preprocess import Preprocessing
from cls.progress import Ticker, progress, track
from cls.runtimes.classifier import Classifier, sigmoid
from cls.wording import counted

if TYPE_CHECKING:
    from cls.bottle.layout import Bottle
    from cls.exporting.parity.results import SizedCutouts
    from cls.training.runs.run import FinishedRun

_log = logging.getLogger("cls.exporting")

BATCH_SIZES = (1, 7, MAX_BATCH_SIZE)
# People who are also looked at in a batch of nobody but themselves.
_ALONE_BATCH = BATCH_SIZES[1]
_ALONE_PEOPLE = 24

MAX_SAMPLES = 512


@dataclass(frozen=True, eq=False)
class Answers:
    """Probabilities by a conversion, columns in the trained network's order; NaN where an answer is not a number.

    Attributes:
        probs: float32 (batch sizes, people, labels).
        thresholds: the conversion's own, float32 (labels,).
        alone: indices of some people, int64 (some,).
        beside_itself: those people in a batch of copies of themselves, float32 (some, copies, labels).
    """

    probs: NDArray[np.float32]
    thresholds: NDArray[np.float32]
    alone: NDArray[np.int64]
    beside_itself: NDArray[np.float32]

    @property
    def is_finite(self) -> NDArray[np.bool_]:
        """Which answers are numbers, bool (batch sizes, people, labels)."""
        return np.isfinite(self.probs)

    @property
    def batch_difference(self) -> float:
        """How much the batch size and its other people change a probability: largest over people and labels."""
        between_sizes = np.ptp(np.nan_to_num(self.probs), axis=0)
        return max(float(between_sizes.max()), self.neighbour_difference)

    @property
    def neighbour_difference(self) -> float:
        """How much the neighbours in a batch of one size change a probability."""
        beside_others = self.probs[BATCH_SIZES.index(_ALONE_BATCH), self.alone]
        return float(np.abs(np.nan_to_num(self.beside_itself) - np.nan_to_num(beside_others)[:, None]).max())


def answers_of(converted: Classifier, reference: Reference) -> Answers:
    """Asks a conversion about every person at every batch size of `BATCH_SIZES`, each time with other neighbours.

    The conversion cuts, resizes and normalises by its own preprocessing. Where there are fewer people than the largest
    batch, they repeat.

    Raises:
        ParityError: the labels are others, or the conversion cannot be run.
    """
    if sorted(reference.trained.labels) != sorted(converted.labels):
        raise ParityError(
            f"the conversion's labels are {', '.join(converted.labels)},"
            f" those of the trained network {', '.join(reference.trained.labels)}:"
            " looks like: the meta.json is of another model",
            code="label_mismatch",
            where=converted.source,
        )
    crops = reference.crops_of(converted.preprocessing)
    # Columns are matched by the label's name: who reads the package reads names.
    order = [converted.labels.index(label) for label in reference.trained.labels]
    alone = np.unique(np.linspace(0, len(crops) - 1, _ALONE_PEOPLE).astype(np.int64))
    with progress("parity: people compared", len(crops) * len(BATCH_SIZES) + len(alone)) as ticker:
        probs = [_at_batch(converted, crops, batch, ticker)[:, order] for batch in BATCH_SIZES]
        copies = [_answer(converted, crops[[person] * _ALONE_BATCH], _ALONE_BATCH)[:, order] for person in alone]
        ticker.advance(len(alone))
    thresholds = np.array([converted.thresholds[column] for column in order], np.float32)
    return Answers(np.stack(probs), thresholds, alone, np.stack(copies))


def _at_batch(converted: Classifier, crops: NDArray[np.uint8], batch: int, ticker: Ticker) -> NDArray[np.float32]:
    """Probabilities (people, labels) at one batch size, the last batch filled up with people from the start."""
    count = len(crops)
    filled = np.resize(np.arange(count), -(-count // batch) * batch)
    parts = []
    for start in range(0, len(filled), batch):
        parts.append(_answer(converted, crops[filled[start : start + batch]], batch))
        ticker.advance(min(batch, count - start))
    return np.concatenate(parts)[:count]


def _answer(converted: Classifier, crops: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
    """One batch, as any user asks it; answers that are no numbers, which users are refused, become NaN."""
    try:
        return converted.probabilities(crops, batch=batch)
    except PredictionError as error:
        try:
            raw = raw_answers(converted, crops)
        except PredictionError:
            raw = np.zeros(0, np.float32)
        if raw.shape != (len(crops), len(converted.labels)) or np.isfinite(raw).all():
            raise ParityError(
                f"the conversion at batch {batch}: {error.what}", code=error.case, where=error.where
            ) from error
    probs = raw if converted.is_end_to_end else sigmoid(raw)
    return np.where(np.isfinite(raw), probs, np.float32(np.nan))


def raw_answers(classifier: Classifier, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the network itself says of one batch of cut-outs, unchecked: logits, or probabilities where end-to-end.

    Raises:
        PredictionError: it does not take the batch.
    """
    images = crops if classifier.is_end_to_end else classifier.preprocessing.normalise(crops)
    return classifier.runtime.logits(images)


@dataclass(frozen=True)
class ParitySample:
    """One person in one photo.

    Attributes:
        labels: the person's annotations, in the trained network's order: 1, 0, NaN for unknown; empty: nothing.
    """

    file: Path
    person: Person
    labels: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Reference:
    """What a conversion is held against. Made by `reference_of`.

    Attributes:
        trained: the trained network, with its run's labels, thresholds and preprocessing.
        pictures: where each person is from, for people to read.
        crops_rgb: the people as the trained network sees them, uint8 (people, height, width, 3).
        probs: what it says of them, float32 (people, labels).
        truth: their annotations, float64 (people, labels): 1, 0, NaN for unknown.
        samples: the same people in their photos; empty where only the cut-outs are at hand.
        part: who they are; None where nobody says.
    """

    trained: Classifier
    pictures: tuple[str, ...]
    crops_rgb: NDArray[np.uint8] = field(repr=False)
    probs: NDArray[np.float32] = field(repr=False)
    truth: NDArray[np.float64] = field(repr=False)
    samples: tuple[ParitySample, ...] = field(default=(), repr=False)
    part: PeoplePart | None = None

    def __len__(self) -> int:
        return len(self.pictures)

    @cached_property
    def sized(self) -> list[SizedCutouts]:
        """Cut-outs of other sizes than the network's input, for end-to-end models; made once for all of them."""
        from cls.exporting.parity.results import sized_cutouts

        return sized_cutouts(self)

    def crops_of(self, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """The people as another preprocessing cuts them out of their photos' bytes.

        Raises:
            ParityError: the preprocessing is another one, and the photos are not at hand.
        """
        if preprocessing == self.trained.preprocessing:
            return self.crops_rgb
        if not self.samples:
            raise ParityError(
                "the preprocessing is not that of the trained network, and only its own cut-outs are at hand",
                code="preprocessing_mismatch",
                where=self.trained.source,
                hint="export again where the photos are",
            )
        return np.stack([preprocessing.cut(read_photo(sample.file), sample.person) for sample in self.samples])


def choose_samples(samples: Sequence[ParitySample], *, seed: int = 0) -> list[ParitySample]:
    """All samples, or a seeded choice of `MAX_SAMPLES` where there are more."""
    if len(samples) <= MAX_SAMPLES:
        return list(samples)
    chosen = np.random.default_rng(seed).choice(len(samples), MAX_SAMPLES, replace=False)
    return [samples[number] for number in sorted(chosen.tolist())]


def samples_of_run(bottle: Bottle, run: FinishedRun) -> tuple[list[ParitySample], PeoplePart]:
    """The run's validation people whose photos are still there; its training people where it held nobody out.

    Raises:
        ExportError: there are none.
    """
    part: PeoplePart = "validation" if run.pictures("valid") else "training"
    subset = "valid" if part == "validation" else "train"
    samples = [sample for sample in run.samples(subset) if bottle.picture(sample.path).is_file()]
    wanted, there = set(run.pictures(subset)), {sample.path for sample in samples}
    if not samples:
        raise ExportError(
            f"none of the {counted(len(wanted), 'photo')} of the {part} part of run {run.name} is left to compare with",
            code="no_photos",
            where=bottle.pictures,
            hint="load and segment the group again",
        )
    if wanted - there:
        _log.warning(
            "%d of the %s of the %s part of run %s are gone, or without people: it is proven on the others alone",
            len(wanted - there),
            counted(len(wanted), "photo"),
            part,
            run.name,
        )
    people = [ParitySample(bottle.picture(sample.path), sample.person, sample.labels) for sample in samples]
    return choose_samples(people), part


def reference_of(
    trained: Classifier,
    samples: Sequence[ParitySample],
    truth: NDArray[np.float64] | None = None,
    *,
    part: PeoplePart | None = None,
) -> Reference:
    """Cuts people out of their photos' bytes and asks the trained network; photos damaged since are left out.

    Args:
        trained: the network as trained, PyTorch float32.
        samples: at least one.
        truth: (samples, labels): 1, 0, NaN for unknown; the samples' own labels when not given.
        part: who they are.

    Raises:
        ExportError: none of the photos can be read.
        PredictionError: the trained network answers nonsense.
    """
    width = len(trained.labels)
    if truth is None:
        truth = np.array([sample.labels or (math.nan,) * width for sample in samples], np.float64)
    readable, crops = [], []
    broken: list[str] = []
    for number, sample in enumerate(track(samples, "parity: people cut out")):
        try:
            crops.append(trained.preprocessing.cut(read_photo(sample.file), sample.person))
        except FileError as error:
            broken.append(error.line())
            continue
        readable.append(number)
    if broken:
        _log.warning("parity: %d of %s left out, first: %s", len(broken), counted(len(samples), "person"), broken[0])
    if not readable:
        what = f"none of the run's {len(samples)} photos" if len(samples) > 1 else "not even the run's only photo"
        raise ExportError(
            f"{what} can be read to compare with: {broken[0]}",
            code="unreadable_photos",
            hint="load the group again",
        )
    kept = tuple(samples[number] for number in readable)
    crops_rgb = np.stack(crops)
    return Reference(
        trained=trained,
        pictures=tuple(sample.file.name for sample in kept),
        crops_rgb=crops_rgb,
        probs=trained.probabilities(crops_rgb),
        truth=truth[readable],
        samples=kept,
        part=part,
    )
