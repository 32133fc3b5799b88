"""Instance-based measures of pedestrian-attribute recognition: how well each person's set of labels is hit.

Definitions: Li et al., A Richly Annotated Dataset for Pedestrian Attribute Recognition (RAP), arXiv:1603.07054, section
5.1; the label-based mean accuracy mA of the same papers (Deng et al., PETA, 2014) is `LabelMetrics.ma`, averaged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cls.metrics.scores import Measures


@dataclass(frozen=True)
class SetCounts:
    """What each person's labels and what is said of them have in common; unknown labels count nowhere.

    Attributes:
        hit: labels that are there and said, int64 (samples,).
        true: labels that are there.
        said: labels that are said.
    """

    hit: NDArray[np.int64]
    true: NDArray[np.int64]
    said: NDArray[np.int64]

    @classmethod
    def of(cls, decisions: NDArray[np.bool_], labels: NDArray[np.float64]) -> SetCounts:
        """Counts of decisions, bool (samples, labels), on labels, 1, 0 or NaN (samples, labels)."""
        truth, known = labels > 0.5, ~np.isnan(labels)
        return cls((decisions & truth).sum(axis=1), truth.sum(axis=1), (decisions & known).sum(axis=1))

    @property
    def union(self) -> NDArray[np.int64]:
        """Labels that are there or said."""
        return np.asarray(self.true + self.said - self.hit)


def instance_metrics(decisions: NDArray[np.bool_], labels: NDArray[np.float64]) -> Measures:
    """Accuracy, precision, recall and F1 of people's label sets.

    Of one person, with the true set Y and the said set P: accuracy is |Y and P| / |Y or P|, precision |Y and P| / |P|,
    recall |Y and P| / |Y|. Each is averaged over the people of whom it is defined, as the RAP authors' own evaluation
    code does: of a person with no label, recall is not; where nothing is said, precision is not; where both sets are
    empty, accuracy is not. F1 is that of the mean precision and the mean recall, not the mean of people's F1.

    Args:
        decisions: bool (samples, labels).
        labels: (samples, labels): 1, 0, or NaN for unknown, which is in neither set.

    Returns:
        accuracy, precision, recall, f1: 0 to 1, None where nobody defines it.
    """
    counts = SetCounts.of(decisions, labels)
    accuracy = _mean_share(counts.hit, counts.union)
    precision = _mean_share(counts.hit, counts.said)
    recall = _mean_share(counts.hit, counts.true)
    f1 = f1_of_means(precision, recall)
    return Measures(accuracy=accuracy, precision=precision, recall=recall, f1=f1)


def f1_of_means(precision: float | None, recall: float | None) -> float | None:
    """Harmonic mean; 0 where both are 0, None where one is not defined."""
    if precision is None or recall is None:
        return None
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _mean_share(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> float | None:
    is_defined = wholes > 0
    return float((parts[is_defined] / wholes[is_defined]).mean()) if is_defined.any() else None
