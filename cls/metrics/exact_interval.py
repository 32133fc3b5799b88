"""Exact binomial intervals: how far a share of few people can be from the share of all people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
Bounds = tuple[float, float]
# Measures of resamples are rounded to six digits: this much of a person is none.
_NO_PERSON = 1e-3
# Of more people than these resampling knows enough, unless all of them are right or all wrong.
_MOST_COUNTED = 1000
_HALVINGS = 50
# Resampled measures this close together are one number.
_SAME = 1e-6


def clopper_pearson(successes: int, trials: int) -> Bounds:
    """The exact 95 percent interval of a share (Clopper and Pearson, Biometrika 1934): 20 of 20 is 0.832 to 1.

    Args:
        successes: 0 to `trials`.
        trials: how many were tried; of none, nothing is known: 0 to 1.
    """
    if not trials:
        return 0.0, 1.0
    return _least_share(successes, trials), 1 - _least_share(trials - successes, trials)


def interval_of_mean(value: float, people: int) -> Bounds | None:
    """An interval of a mean, over people, of numbers from 0 to 1.

    Among all such means the share of those who are 1, the others being 0, varies the most: the interval is that of a
    share, with the count rounded outwards.

    Returns:
        None of so many people that resampling knows enough.
    """
    least, most = math.floor(people * value + _NO_PERSON), math.ceil(people * value - _NO_PERSON)
    if people > _MOST_COUNTED and not (least == most and least in (0, people)):
        return None
    return clopper_pearson(least, people)[0], clopper_pearson(most, people)[1]


@dataclass(frozen=True)
class LabelCounts:
    """Decisions on one label, counted.

    Attributes:
        hit: said of people who have it.
        positives: people who have it.
        said: people it is said of.
        right_not: not said of people who do not have it.
        negatives: people who do not have it.
    """

    hit: int
    positives: int
    said: int
    right_not: int
    negatives: int

    @classmethod
    def of(cls, decisions: NDArray[np.bool_], labels: NDArray[np.float64]) -> LabelCounts:
        """Counts decisions (samples,) on labels, 1, 0 or NaN (samples,)."""
        known = ~np.isnan(labels)
        truth, said = labels[known] > 0.5, decisions[known]
        pairs = (truth & said, truth, said, ~truth & ~said, ~truth)
        return cls(*(int(found.sum()) for found in pairs))

    def people(self, measure: str) -> int:
        """How many people decide a measure: f1, precision, recall, ma, ap, auroc."""
        if measure in ("ma", "auroc"):
            return min(self.positives, self.negatives)
        return self.said if measure == "precision" else self.positives

    def interval(self, measure: str, value: float) -> Bounds | None:
        """The exact interval of a measure; None of so many people that resampling knows enough.

        Recall, precision and specificity are shares of people. F1 lies between the harmonic means of the ends of
        recall and precision, mA between the means of the ends of recall and specificity. The average precision is a
        mean over positives, AUROC one over positives and over negatives; the fewer count.

        Args:
            measure: f1, precision, recall, ma, ap or auroc.
            value: what was measured.
        """
        if measure not in ("f1", "ma"):
            return interval_of_mean(value, self.people(measure))
        recall = _share_interval(self.hit, self.positives)
        other = _share_interval(self.right_not, self.negatives) if measure == "ma" else None
        other = _share_interval(self.hit, self.said) if measure == "f1" else other
        if recall is None or other is None:
            return None
        mean = _harmonic_mean if measure == "f1" else _mean
        return mean(recall[0], other[0]), mean(recall[1], other[1])


def widened(found: Bounds | None, exact: Bounds | None) -> Bounds | None:
    """An interval made as wide as the exact one where it is narrower; None where nothing was found."""
    if found is None or exact is None:
        return found
    return min(found[0], exact[0]), max(found[1], exact[1])


def is_one_number(found: Bounds | None) -> bool:
    """Whether resampling changes nothing of a measure."""
    return found is not None and found[1] - found[0] < _SAME


def interval_of_means(
    found: Bounds | None, value: float | None, measure: str, labels: Sequence[LabelCounts]
) -> Bounds | None:
    """The interval of a mean over labels: that of its resamples or, where they change nothing, the exact one.

    As many labels with as many people each as the one with the fewest has, all right, put the mean no lower than as
    many people of one label do (arithmetic and geometric mean): the exact interval of all of them is taken.

    Args:
        found: of its resamples.
        value: the mean.
        measure: f1, precision, recall, ma, ap or auroc.
        labels: those it is over.
    """
    if found is None or value is None:
        return found
    if len(labels) == 1:
        return widened(found, labels[0].interval(measure, value))
    fewest = min(counts.people(measure) for counts in labels)
    return widened(found, interval_of_mean(value, len(labels) * fewest)) if fewest and is_one_number(found) else found


def _share_interval(successes: int, trials: int) -> Bounds | None:
    return interval_of_mean(successes / trials, trials) if trials else (0.0, 1.0)


def _harmonic_mean(first: float, second: float) -> float:
    return 2 * first * second / (first + second) if first + second else 0.0


def _mean(first: float, second: float) -> float:
    return (first + second) / 2


def _least_share(successes: int, trials: int) -> float:
    """The share at which as many successes or more come about in 2.5 of 100 trials of as many people."""
    tail = (1 - LEVEL) / 2
    if not successes:
        return 0.0
    if successes == trials:
        return float(tail ** (1 / trials))
    counts = np.arange(successes, trials + 1)
    ways = _log_factorials(trials)[trials] - _log_factorials(trials)[counts] - _log_factorials(trials)[trials - counts]
    low, high = 0.0, successes / trials
    for _ in range(_HALVINGS):
        share = (low + high) / 2
        chance = np.exp(ways + counts * math.log(share) + (trials - counts) * math.log1p(-share)).sum()
        low, high = (share, high) if chance < tail else (low, share)
    return (low + high) / 2


def _log_factorials(largest: int) -> NDArray[np.float64]:
    """Logarithms of 0!, 1!, … `largest`!."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, largest + 1)))])
