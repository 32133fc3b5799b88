"""A threshold for each label, chosen on validation samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cls.metrics.multilabel import precision_recall_steps

# A rare label that is hard to see seldom gets a calibrated probability above a few percent.
_LOWEST, _HIGHEST = 0.01, 0.99
# A label's own choice counts like this many positives' worth of the choice common to all labels.
_PRIOR_POSITIVES = 4.0
# Thresholds this close to the best F1 are as good as the best one; so are those within one positive's share of recall,
# 1 over the positives. On fresh people drawn with calibrated probabilities (60 to 400 for choosing, 2 to 30 percent
# positives) that gives a higher F1 than what one decision changes F1 by at that point (by 0.001 to 0.004), and than
# 0.01 alone (by 0.001 to 0.02): few positives say little, and the threshold common to all labels says more.
_F1_TOLERANCE = 0.01
# How far the common choice may pull: to this share of the good range's width from its edges.
_EDGE_SHARE = 0.25


@dataclass(frozen=True)
class _GoodRange:
    """The thresholds around the best F1 that are as good: low < threshold <= high."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2

    def nearest(self, threshold: float) -> float:
        """The threshold moved into the range, away from its edges, where a sample more or less would decide."""
        edge = _EDGE_SHARE * (self.high - self.low)
        return min(max(threshold, self.low + edge), self.high - edge)


def choose_thresholds(probs: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The thresholds that make F1 largest, kept sane where positives are few.

    The middle of the range in which F1 is as good as the best is taken, not a lucky edge: within 0.01, or within one
    positive's share of recall (0.25 where there are four). A label with few positives leans, inside that range, towards
    the threshold that is best over all labels together; one with a single positive takes it, as far as its own scores
    allow.

    Args:
        probs: (samples, labels), 0 to 1.
        labels: (samples, labels): 1, 0, or NaN for unknown.

    Returns:
        (labels,), 0.01 to 0.99; 0.5 where no label has positives.
    """
    is_known = ~np.isnan(labels)
    common = _best_range(probs[is_known], labels[is_known] > 0.5)
    prior = 0.5 if common is None else common.middle
    chosen = np.empty(probs.shape[1])
    for index in range(probs.shape[1]):
        known = is_known[:, index]
        truth = labels[known, index] > 0.5
        own = _best_range(probs[known, index], truth)
        if own is None:
            chosen[index] = prior
            continue
        positives = min(int(truth.sum()), int((~truth).sum()))
        share = positives / (positives + _PRIOR_POSITIVES)
        logit = share * _logit(own.middle) + (1 - share) * _logit(prior)
        chosen[index] = own.nearest(1 / (1 + np.exp(-logit)))
    return np.asarray(np.round(np.clip(chosen, _LOWEST, _HIGHEST), 6), np.float64)


def _best_range(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> _GoodRange | None:
    """The thresholds with the best F1; None where there are no positives or no negatives."""
    if not truth.any() or truth.all():
        return None
    precision, recall, steps = precision_recall_steps(scores, truth)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(np.argmax(f1))
    enough = f1[best] - max(_F1_TOLERANCE, 1 / int(truth.sum()))
    # With threshold steps[i] the samples down to i are predicted; so are they with any threshold above steps[i + 1].
    last = best
    while last + 1 < len(f1) and f1[last + 1] >= enough:
        last += 1
    first = best
    while first > 0 and f1[first - 1] >= enough:
        first -= 1
    low = steps[last + 1] if last + 1 < len(steps) else 0.0
    return _GoodRange(float(low), float(steps[first]))


def _logit(probability: float) -> float:
    clipped = min(max(probability, 1e-4), 1 - 1e-4)
    return float(np.log(clipped / (1 - clipped)))
