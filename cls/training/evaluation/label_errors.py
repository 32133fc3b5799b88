"""Labels that are probably wrong, found by confident learning on people the network was not trained on.

Each label is treated by itself (Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset
Labels, JAIR 70, 2021). The mean probability of those with a label is the confidence from which anybody counts as having
it, and likewise for those without it. Whoever is confidently on the other side than given was probably labelled
wrongly.

Labels are judged only where those means lie well apart: their distance is the coefficient of discrimination (Tjur, The
American Statistician 63, 2009).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cls.dataset.samples import Sample
from cls.files import write_text_atomic

LABEL_ERRORS = "label_errors.csv"
# A mean probability of fewer people is too uncertain.
_LEAST = 4
_LEAST_DISTANCE = 0.3


@dataclass(frozen=True)
class LabelError:
    """One label of one sample that is probably wrong.

    Attributes:
        is_given: whether the sample has the label in the dataset.
        score: the probability of the given value; the lower, the more certain the error.
    """

    sample: int
    label: int
    is_given: bool
    prob: float
    score: float


def probable_label_errors(probs: NDArray[np.float64], labels: NDArray[np.float64]) -> list[LabelError]:
    """Probable errors in the judged labels, most certain first.

    Args:
        probs: (samples, labels), 0 to 1, of samples that the network was not trained on.
        labels: (samples, labels): 1, 0, or NaN for unknown, which is never an error.
    """
    found = []
    for label in judged_labels(probs, labels):
        known = np.flatnonzero(~np.isnan(labels[:, label]))
        scores, given = probs[known, label], labels[known, label] > 0.5
        for place in _errors_of_label(scores, given):
            prob, is_given = float(scores[place]), bool(given[place])
            found.append(LabelError(int(known[place]), label, is_given, prob, prob if is_given else 1 - prob))
    return sorted(found, key=lambda error: (error.score, error.sample, error.label))


def judged_labels(probs: NDArray[np.float64], labels: NDArray[np.float64]) -> list[int]:
    """Numbers of the labels that at least four samples have and four lack, with mean probabilities 0.3 apart.

    Args:
        probs: (samples, labels), 0 to 1.
        labels: (samples, labels): 1, 0, or NaN.
    """
    judged = []
    for label in range(probs.shape[1]):
        known = ~np.isnan(labels[:, label])
        scores, given = probs[known, label], labels[known, label] > 0.5
        if min(given.sum(), (~given).sum()) < _LEAST:
            continue
        if scores[given].mean() - scores[~given].mean() >= _LEAST_DISTANCE:
            judged.append(label)
    return judged


def _errors_of_label(scores: NDArray[np.float64], given: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The off-diagonal of the confident joint of one label."""
    is_surely, is_surely_not = scores >= scores[given].mean(), 1 - scores >= (1 - scores[~given]).mean()
    # Who is confidently both counts as the more probable.
    says_yes = is_surely & ~(is_surely_not & (scores < 0.5))
    says_no = is_surely_not & ~(is_surely & (scores >= 0.5))
    return np.flatnonzero((says_yes & ~given) | (says_no & given))


def write_label_errors(
    path: Path, errors: Sequence[LabelError], samples: Sequence[Sample], names: Sequence[str]
) -> None:
    """Writes label_errors.csv, for annotators to check: one line per error, most certain first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["picture", "label", "given", "probability", "person", "picset"])
    for error in errors:
        sample = samples[error.sample]
        writer.writerow(
            [sample.path, names[error.label], "yes" if error.is_given else "no", f"{error.prob:.4f}",
             sample.person.id, sample.picset]
        )  # fmt: skip
    write_text_atomic(path, text.getvalue())
