"""What a conversion says of people: at several batch sizes, and beside other people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cls.errors import ParityError, PredictionError
from cls.export.parity.samples import Reference
from cls.package.triton_config import MAX_BATCH_SIZE
from cls.progress import Ticker, progress
from cls.runtimes.classifier import Classifier, sigmoid

BATCH_SIZES = (1, 7, MAX_BATCH_SIZE)
# People who are also looked at in a batch of nobody but themselves.
_ALONE_BATCH = BATCH_SIZES[1]
_ALONE_PEOPLE = 24


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
    """One batch, as any user asks it; answers that are no numbers, which users are refused, become NaN.

    Raises:
        ParityError: the conversion does not answer.
    """
    try:
        return converted.probabilities(crops, batch=batch)
    except PredictionError as error:
        try:
            raw = raw_answers(converted, crops)
        except PredictionError:
            raw = np.zeros(0, np.float32)
        if raw.shape != (len(crops), len(converted.labels)) or np.isfinite(raw).all():
            raise ParityError(f"the conversion at batch {batch}: {error.what}", where=error.where) from error
    probs = raw if converted.is_end_to_end else sigmoid(raw)
    return np.where(np.isfinite(raw), probs, np.float32(np.nan))


def raw_answers(classifier: Classifier, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the network itself says of one batch of cut-outs, unchecked: logits, or probabilities where end-to-end.

    Raises:
        PredictionError: it does not take the batch.
    """
    images = crops if classifier.is_end_to_end else classifier.preprocessing.normalise(crops)
    return classifier.runtime.logits(images)
