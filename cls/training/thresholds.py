"""A threshold for each label, chosen on validation samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cls.training.metrics import precision_recall_steps

_LOWEST, _HIGHEST = 0.05, 0.95
# A label's own choice counts like this many positives' worth of the choice common to all labels.
_PRIOR_POSITIVES = 4.0
# Thresholds this close to the best F1 are as good as the best one.
_F1_TOLERANCE = 0.01


def choose_thresholds(probs: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The thresholds that make F1 largest, kept sane where positives are few.

    The middle of the range in which F1 is within 0.01 of the best is taken, not a lucky edge. A label with few
    positives leans on the threshold that is best over all labels together.

    Args:
        probs: (samples, labels), 0 to 1.
        labels: (samples, labels): 1, 0, or NaN for unknown.

    Returns:
        (labels,), 0.05 to 0.95; 0.5 where no label has positives.
    """
    is_known = ~np.isnan(labels)
    common = _best_threshold(probs[is_known], labels[is_known] > 0.5)
    prior = 0.5 if common is None else common
    chosen = np.empty(probs.shape[1])
    for index in range(probs.shape[1]):
        known = is_known[:, index]
        truth = labels[known, index] > 0.5
        own = _best_threshold(probs[known, index], truth)
        positives = min(int(truth.sum()), int((~truth).sum()))
        share = 0.0 if own is None else positives / (positives + _PRIOR_POSITIVES)
        logit = share * _logit(prior if own is None else own) + (1 - share) * _logit(prior)
        chosen[index] = 1 / (1 + np.exp(-logit))
    return np.asarray(np.round(np.clip(chosen, _LOWEST, _HIGHEST), 4), np.float64)


def _best_threshold(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float | None:
    """Middle of the thresholds with the best F1; None where F1 is the same for any threshold or not defined."""
    if not truth.any() or truth.all():
        return None
    precision, recall, steps = precision_recall_steps(scores, truth)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(np.argmax(f1))
    # With threshold steps[i] the samples down to i are predicted; so are they with any threshold above steps[i + 1].
    last = best
    while last + 1 < len(f1) and f1[last + 1] >= f1[best] - _F1_TOLERANCE:
        last += 1
    first = best
    while first > 0 and f1[first - 1] >= f1[best] - _F1_TOLERANCE:
        first -= 1
    low = steps[last + 1] if last + 1 < len(steps) else 0.0
    return float((steps[first] + low) / 2)


def _logit(probability: float) -> float:
    clipped = min(max(probability, 1e-4), 1 - 1e-4)
    return float(np.log(clipped / (1 - clipped)))
