"""Labels that are probably wrong, found by confident learning on people the network was not trained on.

Each label is a question of its own, asked as Northcutt, Jiang and Chuang do (Confident Learning: Estimating Uncertainty
in Dataset Labels, JAIR 70, 2021). The mean probability of those who were given a label is the confidence from which
anybody counts as having it, and likewise for those who were not given it; so a network that is too sure, or too shy,
of a label is judged by its own measure. Whoever is confidently on the other side was probably labelled wrongly.

A network that knows little of a label accuses at random. Its word is taken only where those means lie well apart: their
distance is the coefficient of discrimination (Tjur, The American Statistician 63, 2009).
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
# With fewer people on one side of a label, the mean of their probabilities says nothing.
_LEAST = 4
_LEAST_DISTANCE = 0.3


@dataclass(frozen=True)
class LabelError:
    """One label of one sample that is probably wrong.

    Attributes:
        is_given: whether the sample was given the label.
        score: the probability of what was given; the lower, the surer the error.
    """

    sample: int
    label: int
    is_given: bool
    prob: float
    score: float


def probable_label_errors(probs: NDArray[np.float64], labels: NDArray[np.float64]) -> list[LabelError]:
    """Labels that are probably wrong, surest first.

    Args:
        probs: (samples, labels), 0 to 1, of samples that the network was not trained on.
        labels: (samples, labels): 1, 0, or NaN for unknown, which is never an error.

    Returns:
        The errors; none of the labels that are not judged.
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
    """Numbers of the labels the network knows well enough to doubt what was given.

    Args:
        probs: (samples, labels), 0 to 1.
        labels: (samples, labels): 1, 0, or NaN.

    Returns:
        Those that at least four samples have and four lack, and whose probabilities differ by 0.3 between both.
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
    """The off-diagonal of the confident joint of one label: confidently on the other side than given."""
    is_surely, is_surely_not = scores >= scores[given].mean(), 1 - scores >= (1 - scores[~given]).mean()
    # Who is confidently both is taken for the more probable.
    says_yes = is_surely & ~(is_surely_not & (scores < 0.5))
    says_no = is_surely_not & ~(is_surely & (scores >= 0.5))
    return np.flatnonzero((says_yes & ~given) | (says_no & given))


def write_label_errors(
    path: Path, errors: Sequence[LabelError], samples: Sequence[Sample], names: Sequence[str]
) -> None:
    """Writes label_errors.csv, for annotators to go through: one line an error, surest first."""
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
