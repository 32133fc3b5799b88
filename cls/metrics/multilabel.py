"""Multi-label metrics, calibration error and thresholds, in NumPy; unknown labels (NaN) are left out.

Instance-based measures of pedestrian-attribute recognition say how well each person's set of labels is predicted: Li et
al., A Richly Annotated Dataset for Pedestrian Attribute Recognition (RAP), arXiv:1603.07054, section 5.1. The
label-based mean accuracy mA of the same papers (Deng et al., PETA, 2014) is `LabelMetrics.ma`, averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cls.metrics.scores import LabelMetrics, Measures, Metrics

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

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

_MEASURES = ("precision", "recall", "f1", "ap", "auroc", "base_rate", "ma", "ece", "ece_adaptive", "brier")
# Guo et al., On Calibration of Modern Neural Networks (ICML 2017): 15 bins.
BINS = 15


@dataclass(frozen=True)
class _GoodRange:
    """The thresholds with as good as the best F1: low < threshold <= high."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2

    def nearest(self, threshold: float) -> float:
        """The threshold moved into the range, away from its edges, where single samples decide."""
        edge = _EDGE_SHARE * (self.high - self.low)
        return min(max(threshold, self.low + edge), self.high - edge)


def choose_thresholds(probs: FloatArray, labels: FloatArray) -> FloatArray:
    """The thresholds with the best F1, regularised where positives are few.

    Each is the middle of the range in which F1 is as good as the best: within 0.01, or within one positive's share of
    recall (0.25 where there are four). The fewer positives a label has, the closer its threshold is, inside that range,
    to the one that is best over all labels together.

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


def _best_range(scores: FloatArray, truth: BoolArray) -> _GoodRange | None:
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


class Truth(NamedTuple):
    """The ground truth that predictions are compared with.

    Attributes:
        labels: (samples, labels): 1, 0, or NaN for unknown.
        units: the split unit of each sample.
        names: of the labels.
    """

    labels: FloatArray
    units: Sequence[str]
    names: Sequence[str]


@dataclass(frozen=True)
class SetCounts:
    """Sizes of each person's true and predicted label sets, int64 (samples,); unknown labels are in neither.

    Attributes:
        common: labels in both.
    """

    common: IntArray
    true: IntArray
    predicted: IntArray

    @classmethod
    def of(cls, decisions: BoolArray, labels: FloatArray) -> SetCounts:
        """Counts of decisions, bool (samples, labels), on labels, 1, 0 or NaN (samples, labels)."""
        truth, known = labels > 0.5, ~np.isnan(labels)
        return cls((decisions & truth).sum(axis=1), truth.sum(axis=1), (decisions & known).sum(axis=1))

    @property
    def union(self) -> IntArray:
        """Labels in either."""
        return np.asarray(self.true + self.predicted - self.common)


def instance_metrics(decisions: BoolArray, labels: FloatArray) -> Measures:
    """Accuracy, precision, recall and F1 of people's label sets.

    Of one person, with the true set Y and the predicted set P: accuracy is |Y and P| / |Y or P|, precision |Y and P| /
    |P|, recall |Y and P| / |Y|. Each is averaged over the people for whom it is defined, as in the RAP authors'
    evaluation
    code: recall is not defined without true labels, precision without predicted ones, accuracy without either. F1 is
    that of the mean precision and the mean recall, not the mean of people's F1.

    Args:
        decisions: bool (samples, labels).
        labels: (samples, labels): 1, 0, or NaN for unknown, which is in neither set.

    Returns:
        accuracy, precision, recall, f1: 0 to 1, None where nobody defines it.
    """
    counts = SetCounts.of(decisions, labels)
    wholes = (counts.union, counts.predicted, counts.true)
    accuracy, precision, recall = (_mean_share(counts.common, whole) for whole in wholes)
    f1 = None if precision is None or recall is None else harmonic_mean(precision, recall)
    return Measures(accuracy=accuracy, precision=precision, recall=recall, f1=f1)


def harmonic_mean(first: float, second: float) -> float:
    """0 where both are 0."""
    return 2 * first * second / (first + second) if first + second else 0.0


def _mean_share(parts: IntArray, wholes: IntArray) -> float | None:
    is_defined = wholes > 0
    return float((parts[is_defined] / wholes[is_defined]).mean()) if is_defined.any() else None


def probabilities_of(logits: FloatArray, temperature: float = 1.0) -> FloatArray:
    """The sigmoid of logits divided by a temperature, without overflow."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits / temperature, -60, 60))), np.float64)


def expected_calibration_error(
    probs: FloatArray, truth: BoolArray, *, bins: int = BINS, is_adaptive: bool = False
) -> float | None:
    """Expected calibration error: the mean distance between probability and frequency.

    Decisions are put into bins by probability; in each bin the mean probability is compared with the share of
    positives; the distances are averaged, weighted by decisions. On few decisions it is too high by chance alone:
    compare it with another on as many, not with 0.

    Args:
        probs: (decisions,), 0 to 1.
        truth: (decisions,).
        bins: how many.
        is_adaptive: bins of equally many decisions (Nguyen and O'Connor, EMNLP 2015), not of equal width (Guo et al.
            2017); equal probabilities stay together.

    Returns:
        0 to 1; None without decisions.
    """
    if not len(probs):
        return None
    edges = np.linspace(0, 1, bins + 1)
    if is_adaptive:
        edges = np.unique(np.quantile(probs, edges))
    # A probability on an edge belongs to the bin above it; 1 to the last.
    numbers = np.searchsorted(edges[1:-1], probs, side="right") if len(edges) > 2 else np.zeros(len(probs), np.int64)
    expected = np.bincount(numbers, weights=probs)
    observed = np.bincount(numbers, weights=truth.astype(np.float64))
    return float(np.abs(expected - observed).sum() / len(probs))


def reliability(probs: FloatArray, truth: BoolArray, *, bins: int = BINS) -> list[tuple[float, float, int]]:
    """A reliability diagram: mean probability, share of positives and decisions of each bin that is not empty."""
    numbers = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probs, side="right")
    return [
        (float(probs[numbers == bin_].mean()), float(truth[numbers == bin_].mean()), int((numbers == bin_).sum()))
        for bin_ in np.unique(numbers)
    ]


def brier_score(probs: FloatArray, truth: BoolArray) -> float | None:
    """Mean squared distance of probability and truth (Brier 1950), 0 (perfect) to 1; None without decisions."""
    return float(np.mean((probs - truth) ** 2)) if len(probs) else None


def measure(probs: FloatArray, labels: FloatArray, names: Sequence[str], thresholds: Sequence[float]) -> Metrics:
    """Measures predictions.

    Args:
        probs: (samples, labels), 0 to 1.
        labels: (samples, labels): 1, 0, or NaN for unknown.
        names: of the labels.
        thresholds: one a label; a label is predicted where prob >= threshold.
    """
    per_label = {
        name: _measure_label(probs[:, index], labels[:, index], float(thresholds[index]))
        for index, name in enumerate(names)
    }
    found = list(per_label.values())
    tp, fp, fn = (
        sum(getattr(one, key) for one in found) for key in ("true_positives", "false_positives", "false_negatives")
    )
    is_known, decisions = ~np.isnan(labels), probs >= np.asarray(thresholds)
    precision, recall, f1 = precision_recall_f1(tp, fp, fn)
    micro = Measures(precision=precision, recall=recall, f1=f1, **_calibration(probs[is_known], labels[is_known] > 0.5))
    is_wrong = (decisions != (labels > 0.5)) & is_known
    exact = float((~is_wrong.any(axis=1)).mean()) if len(labels) else None
    return Metrics(
        labels=per_label,
        macro=mean_measures(found, _MEASURES),
        micro=micro,
        exact=exact,
        samples=len(labels),
        instance=instance_metrics(decisions, labels),
        intervals=None,
        cross_fitted=None,
    )


def _measure_label(probs: FloatArray, labels: FloatArray, threshold: float) -> LabelMetrics:
    is_known = ~np.isnan(labels)
    scores, truth = probs[is_known], labels[is_known] > 0.5
    predicted = scores >= threshold
    tp, fp = int((predicted & truth).sum()), int((predicted & ~truth).sum())
    fn, tn = int((~predicted & truth).sum()), int((~predicted & ~truth).sum())
    precision, recall, f1 = precision_recall_f1(tp, fp, fn)
    specificity = tn / (tn + fp) if tn + fp else None
    return LabelMetrics(
        positives=int(truth.sum()),
        negatives=int((~truth).sum()),
        base_rate=float(truth.mean()) if len(truth) else None,
        threshold=threshold,
        precision=precision,
        recall=recall,
        f1=f1,
        ap=average_precision(scores, truth),
        auroc=auroc(scores, truth),
        true_positives=tp,
        false_positives=fp,
        false_negatives=fn,
        true_negatives=tn,
        specificity=specificity,
        ma=None if recall is None or specificity is None else (recall + specificity) / 2,
        **_calibration(scores, truth),
    )


def _calibration(probs: FloatArray, truth: BoolArray) -> dict[str, float | None]:
    return {
        "ece": expected_calibration_error(probs, truth),
        "ece_adaptive": expected_calibration_error(probs, truth, is_adaptive=True),
        "brier": brier_score(probs, truth),
    }


def precision_recall_f1(
    true_positives: int, false_positives: int, false_negatives: int
) -> tuple[float | None, float | None, float | None]:
    """Precision, recall and F1 of counts.

    Without positives recall and F1 are not defined (None); with positives but no predictions precision is 0.
    """
    positives, predicted = true_positives + false_negatives, true_positives + false_positives
    if positives == 0:
        return (0.0 if predicted else None), None, None
    precision = true_positives / predicted if predicted else 0.0
    f1 = 2 * true_positives / (2 * true_positives + false_positives + false_negatives)
    return precision, true_positives / positives, f1


def average_precision(scores: FloatArray, truth: BoolArray) -> float | None:
    """Area under the precision-recall steps, ties taken together: 0 to 1; None without positives."""
    if not truth.any():
        return None
    precision, recall, _ = precision_recall_steps(scores, truth)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def precision_recall_steps(scores: FloatArray, truth: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Precision, recall and threshold at every distinct score, from the highest down."""
    order = np.argsort(-scores)
    sorted_scores = scores[order]
    is_last_of_equals = np.append(np.diff(sorted_scores) != 0, True)
    found = np.cumsum(truth[order])[is_last_of_equals]
    predicted = np.flatnonzero(is_last_of_equals) + 1
    return found / predicted, found / max(int(truth.sum()), 1), sorted_scores[is_last_of_equals]


def auroc(scores: FloatArray, truth: BoolArray) -> float | None:
    """Area under the ROC curve by ranks (Mann-Whitney U), ties counted half: 0 to 1; None without both classes."""
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(mean_ranks[inverse][truth].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def mean_measures(values: Sequence[Measures], keys: Sequence[str]) -> Measures:
    """Means over those that define a measure; None where none does."""
    return Measures(**{key: _mean([getattr(one, key) for one in values]) for key in keys})


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
