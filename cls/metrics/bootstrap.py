"""Confidence intervals: by the bootstrap over whole picsets, and exact binomial ones for few people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cls.metrics.multilabel import BoolArray, FloatArray, IntArray, SetCounts, Truth, harmonic_mean
from cls.metrics.scores import Interval, Intervals, MeasureIntervals, Measures

LEVEL = 0.95
Weights = NDArray[np.float32]
Bounds = tuple[float, float]
# Measures of resamples are rounded to six digits: a count is this exact.
_ROUNDING = 1e-3
# Above so many people, resampling is accurate enough, unless all decisions are right or all are wrong.
_MOST_EXACT = 1000
_HALVINGS = 50
# A narrower interval of resampled measures is a constant.
_CONSTANT_WIDTH = 1e-6

# A label whose positives are in fewer picsets is in some resamples and missing in others: it has no interval.
LEAST_UNITS = 3
RESAMPLES = 1000

# The measures of curves cost the most: for large validation parts the first resamples are enough.
_MOST_MULTIPLICATIONS = 10_000_000_000
_FEWEST_RANKED = 200
_MOST_STEPS = 400


def clopper_pearson(successes: int, trials: int) -> Bounds:
    """The exact 95 percent interval of a share (Clopper and Pearson, Biometrika 1934): 20 of 20 is 0.832 to 1.

    Without trials it is 0 to 1.
    """
    if not trials:
        return 0.0, 1.0
    return _least_share(successes, trials), 1 - _least_share(trials - successes, trials)


def interval_of_mean(value: float, people: int) -> Bounds | None:
    """An interval of a mean over people of numbers from 0 to 1, no narrower than the exact one.

    Of all distributions with this mean, the one of zeros and ones varies the most: the interval is that of a share,
    with the count rounded outwards.

    Returns:
        None for more than 1000 people, as the bootstrap is accurate then, unless the mean is 0 or 1.
    """
    least, most = math.floor(people * value + _ROUNDING), math.ceil(people * value - _ROUNDING)
    if people > _MOST_EXACT and not (least == most and least in (0, people)):
        return None
    return clopper_pearson(least, people)[0], clopper_pearson(most, people)[1]


@dataclass(frozen=True)
class LabelCounts:
    """The confusion matrix of one label.

    Attributes:
        predicted: true and false positives.
    """

    true_positives: int
    positives: int
    predicted: int
    true_negatives: int
    negatives: int

    @classmethod
    def of(cls, decisions: BoolArray, labels: FloatArray) -> LabelCounts:
        """Counts decisions (samples,) on labels, 1, 0 or NaN (samples,)."""
        known = ~np.isnan(labels)
        truth, predicted = labels[known] > 0.5, decisions[known]
        counted = (truth & predicted, truth, predicted, ~truth & ~predicted, ~truth)
        return cls(*(int(found.sum()) for found in counted))

    def people(self, measure: str) -> int:
        """How many people determine a measure: f1, precision, recall, ma, ap, auroc."""
        if measure in ("ma", "auroc"):
            return min(self.positives, self.negatives)
        return self.predicted if measure == "precision" else self.positives

    def interval(self, measure: str, value: float) -> Bounds | None:
        """The exact interval of a measure; None for so many people that the bootstrap is accurate.

        Recall, precision and specificity are shares of people. F1 lies between the harmonic means of the ends of
        recall and precision, mA between the means of the ends of recall and specificity. The average precision is a
        mean over positives, AUROC one over positives and over negatives; the fewer count.

        Args:
            measure: f1, precision, recall, ma, ap or auroc.
            value: what was measured.
        """
        if measure not in ("f1", "ma"):
            return interval_of_mean(value, self.people(measure))
        recall = _share_interval(self.true_positives, self.positives)
        if measure == "f1":
            other, mean = _share_interval(self.true_positives, self.predicted), harmonic_mean
        else:
            other, mean = _share_interval(self.true_negatives, self.negatives), _mean
        if recall is None or other is None:
            return None
        return mean(recall[0], other[0]), mean(recall[1], other[1])


def widened(found: Bounds | None, exact: Bounds | None) -> Bounds | None:
    """An interval made as wide as the exact one where it is narrower; None where there is none."""
    if found is None or exact is None:
        return found
    return min(found[0], exact[0]), max(found[1], exact[1])


def is_constant(found: Bounds | None) -> bool:
    """Whether a measure is the same in all resamples."""
    return found is not None and found[1] - found[0] < _CONSTANT_WIDTH


def interval_of_means(
    found: Bounds | None, value: float | None, measure: str, labels: Sequence[LabelCounts]
) -> Bounds | None:
    """The interval of a mean over labels: that of its resamples or, where they are all the same, the exact one.

    The exact one is that of one label with as many people as all labels have together, if each had as few as the label
    with the fewest: where all decisions are right, it is no narrower than that of the mean.

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
    return widened(found, interval_of_mean(value, len(labels) * fewest)) if fewest and is_constant(found) else found


def _share_interval(successes: int, trials: int) -> Bounds | None:
    return interval_of_mean(successes / trials, trials) if trials else (0.0, 1.0)


def _mean(first: float, second: float) -> float:
    return (first + second) / 2


def _least_share(successes: int, trials: int) -> float:
    """The share with which as many successes or more have a probability of 2.5 percent."""
    tail = (1 - LEVEL) / 2
    if not successes:
        return 0.0
    if successes == trials:
        return float(tail ** (1 / trials))
    counts = np.arange(successes, trials + 1)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    log_ways = log_factorials[trials] - log_factorials[counts] - log_factorials[trials - counts]
    low, high = 0.0, successes / trials
    for _ in range(_HALVINGS):
        share = (low + high) / 2
        chance = np.exp(log_ways + counts * math.log(share) + (trials - counts) * math.log1p(-share)).sum()
        low, high = (share, high) if chance < tail else (low, share)
    return (low + high) / 2


def in_few_units(labels: FloatArray, units: Sequence[str]) -> BoolArray:
    """Whether the positives of a label are in fewer than three units, (labels,): a mean would depend on one picset.

    Args:
        labels: (samples, labels): 1, 0, or NaN for unknown.
        units: of each sample.
    """
    _, unit_of = np.unique(np.asarray(units, np.str_), return_inverse=True)
    return np.array([len(np.unique(unit_of[column > 0.5])) < LEAST_UNITS for column in labels.T], np.bool_)


def draw_units(units: int, resamples: int, *, seed: int) -> Weights:
    """How often each unit is in each resample, (resamples, units): as many units as there are, with replacement."""
    chance = np.full(units, 1 / units)
    return np.random.default_rng([seed, 5]).multinomial(units, chance, size=resamples).astype(np.float32)


def resampled(
    probs: FloatArray,
    decisions: BoolArray,
    labels: FloatArray,
    unit_of: IntArray,
    weights: Weights,
) -> dict[str, FloatArray]:
    """Measures of every resample, (resamples, labels) each; NaN where not defined.

    Args:
        probs: (samples, labels), 0 to 1, for ap and auroc; of large parts, in the first resamples only.
        decisions: (samples, labels), for f1, ma, precision and recall.
        labels: (samples, labels): 1, 0, or NaN for unknown.
        unit_of: number of each sample's unit.
        weights: of `draw_units`.
    """
    return _of_counts(decisions, labels, unit_of, weights) | _of_curves(probs, labels, unit_of, weights)


def bootstrap(
    probs: FloatArray, truth: Truth, thresholds: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES
) -> Intervals | None:
    """Percentile intervals (Efron and Tibshirani 1993, chapter 13) over resampled units.

    People of one picset look alike: drawn one by one, they would make the intervals too narrow.

    Args:
        probs: (samples, labels), 0 to 1.
        truth: of the same samples.
        thresholds: one a label.
        seed: another seed draws other units.
        resamples: how often.

    Returns:
        None where there are fewer than two units.
    """
    labels, units, names = truth
    known_units, unit_of = np.unique(np.asarray(units, np.str_), return_inverse=True)
    if len(known_units) < 2:
        return None
    weights, ones = draw_units(len(known_units), resamples, seed=seed), np.ones((1, len(known_units)), np.float32)
    decisions = probs >= np.asarray(thresholds)
    drawn = resampled(probs, decisions, labels, unit_of, weights)
    measured = resampled(probs, decisions, labels, unit_of, ones)
    is_sparse = in_few_units(labels, units)
    counts = [LabelCounts.of(decisions[:, index], labels[:, index]) for index in range(len(names))]
    kept = [count for count, is_left_out in zip(counts, is_sparse, strict=True) if not is_left_out]
    means = {key: number(mean_of_defined(values[:, ~is_sparse])[0]) for key, values in measured.items()}
    macro = {
        key: interval_of_means(interval_of(mean_of_defined(values[:, ~is_sparse])), means[key], key, kept)
        for key, values in drawn.items()
    }

    def of_label(index: int) -> MeasureIntervals:
        if is_sparse[index]:
            return MeasureIntervals(**dict.fromkeys(drawn))
        exact = {key: counts[index].interval(key, float(values[0, index])) for key, values in measured.items()}
        return MeasureIntervals(
            **{key: widened(interval_of(values[:, index]), exact[key]) for key, values in drawn.items()}
        )

    return Intervals(
        level=LEVEL,
        resamples=resamples,
        units=len(known_units),
        macro=MeasureIntervals(**macro),
        instance=_instance(decisions, labels, unit_of, weights),
        labels={name: of_label(index) for index, name in enumerate(names)},
        means=Measures(**means),
        left_out=tuple(name for name, is_left_out in zip(names, is_sparse, strict=True) if is_left_out),
    )


def _instance(decisions: BoolArray, labels: FloatArray, unit_of: IntArray, weights: Weights) -> MeasureIntervals:
    """Intervals of the instance-based measures; of one that is constant, as of a share of the people."""
    drawn = _of_people(decisions, labels, unit_of, weights)
    measured = _of_people(decisions, labels, unit_of, np.ones((1, weights.shape[1]), np.float32))
    people = int((SetCounts.of(decisions, labels).union > 0).sum())
    found = {key: interval_of(values) for key, values in drawn.items()}
    return MeasureIntervals(
        **{
            key: widened(bounds, interval_of_mean(float(measured[key][0]), people)) if is_constant(bounds) else bounds
            for key, bounds in found.items()
        }
    )


def _sums(values: NDArray[Any], unit_of: IntArray, weights: Weights) -> FloatArray:
    """Sums over the people of each resample: values (samples, …) -> (resamples, …)."""
    per_unit = np.zeros((weights.shape[1], values.shape[1]), np.float32)
    np.add.at(per_unit, unit_of, values)
    return np.asarray(weights @ per_unit, np.float64)


def _share(parts: FloatArray, wholes: FloatArray) -> FloatArray:
    """Parts of wholes; NaN where there is no whole."""
    shares = np.full(np.shape(wholes), np.nan)
    np.divide(parts, wholes, out=shares, where=wholes > 0)
    return shares


def _of_counts(decisions: BoolArray, labels: FloatArray, unit_of: IntArray, weights: Weights) -> dict[str, FloatArray]:
    """f1, ma, precision and recall, (resamples, labels) each; NaN where not defined."""
    truth, known = labels > 0.5, ~np.isnan(labels)
    hits, positives, predicted, negatives = (
        _sums(flags, unit_of, weights) for flags in (decisions & truth, truth, decisions & known, known & ~truth)
    )
    recall, specificity = _share(hits, positives), 1 - _share(predicted - hits, negatives)
    # As in `precision_recall_f1`: 0 where a label that somebody has is never predicted.
    precision = np.where((predicted == 0) & (positives > 0), 0.0, _share(hits, predicted))
    f1 = np.where(positives > 0, _share(2 * hits, positives + predicted), np.nan)
    return {"f1": f1, "ma": (recall + specificity) / 2, "precision": precision, "recall": recall}


def _of_people(decisions: BoolArray, labels: FloatArray, unit_of: IntArray, weights: Weights) -> dict[str, FloatArray]:
    """The instance-based measures of every resample, (resamples,)."""
    counts = SetCounts.of(decisions, labels)

    def mean(wholes: IntArray) -> FloatArray:
        shares = np.stack([counts.common / np.maximum(wholes, 1), wholes > 0], axis=1)
        sums = _sums(shares, unit_of, weights)
        return _share(sums[:, 0], sums[:, 1])

    accuracy, precision, recall = mean(counts.union), mean(counts.predicted), mean(counts.true)
    both = precision + recall
    f1 = np.where(both == 0, 0.0, _share(2 * precision * recall, both))
    return {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1}


def _of_curves(probs: FloatArray, labels: FloatArray, unit_of: IntArray, weights: Weights) -> dict[str, FloatArray]:
    """Average precision (ap) and auroc of the affordable resamples, (resamples, labels); NaN where not defined."""
    if not probs.shape[1]:
        return dict.fromkeys(("ap", "auroc"), np.empty((len(weights), 0)))
    rankings = []
    for column in range(probs.shape[1]):
        known = ~np.isnan(labels[:, column])
        rankings.append(
            _Ranking.of(probs[known, column], labels[known, column] > 0.5, unit_of[known], weights.shape[1])
        )
    work = 3 * sum(ranking.hits.size for ranking in rankings)
    affordable = weights[: max(_MOST_MULTIPLICATIONS // max(work, 1), _FEWEST_RANKED)]
    measured = [ranking.measure(affordable) for ranking in rankings]
    return {
        "ap": np.stack([ap for ap, _ in measured], axis=1),
        "auroc": np.stack([auroc for _, auroc in measured], axis=1),
    }


class _Ranking(NamedTuple):
    """How many people each unit adds to one label's curve at each step, from the highest score down.

    A step is a score that positives have. Above a few hundred, neighbouring steps are merged: that changes the measure
    by far less than its interval is wide.

    Attributes:
        predicted: people at or above the step, float32 (units, steps).
        hits: positives among them.
        outranked: negatives below the step, and half of those in it.
        negatives: float32 (units,).
    """

    predicted: Weights
    hits: Weights
    outranked: Weights
    negatives: Weights

    @classmethod
    def of(cls, scores: FloatArray, truth: BoolArray, unit_of: IntArray, units: int) -> _Ranking:
        """Of one label's known people."""
        steps = np.unique(scores[truth])
        if len(steps) > _MOST_STEPS:
            steps = steps[np.linspace(0, len(steps) - 1, _MOST_STEPS).astype(int)]
        # The step each person counts from: 0 is the highest score; len(steps): below all positives.
        first = len(steps) - np.searchsorted(steps, scores, side="right")
        new_predicted, new_hits, tied = (np.zeros((units, len(steps) + 1), np.float32) for _ in range(3))
        np.add.at(new_predicted, (unit_of, first), 1)
        np.add.at(new_hits, (unit_of, first), truth)
        predicted, hits = np.cumsum(new_predicted, axis=1), np.cumsum(new_hits, axis=1)
        # Between two steps there are negatives alone: they count with the lower one, which they are not equal to.
        is_equal = np.isin(scores, steps) if len(steps) < _MOST_STEPS else np.ones(len(scores), np.bool_)
        np.add.at(tied, (unit_of, first), is_equal & ~truth)
        false = predicted - hits
        outranked = np.asarray(false[:, -1:] - false + tied / 2, np.float32)
        return cls(predicted[:, :-1], hits[:, :-1], outranked[:, :-1], false[:, -1])

    def measure(self, weights: Weights) -> tuple[FloatArray, FloatArray]:
        """Average precision and AUROC with each unit counted as often as it is drawn, (resamples,) each."""
        if not self.hits.shape[1]:
            undefined = np.full(len(weights), np.nan)
            return undefined, undefined
        # Whole and half numbers far below 2^23: float32 adds them exactly.
        hits, predicted = weights @ self.hits, weights @ self.predicted
        new_hits = np.diff(hits, axis=1, prepend=np.float32(0))
        positives = hits[:, -1].astype(np.float64)
        precision = hits / np.maximum(predicted, 1)
        ap = _share(np.einsum("rs,rs->r", new_hits, precision).astype(np.float64), positives)
        outranked = np.einsum("rs,rs->r", new_hits, weights @ self.outranked).astype(np.float64)
        # The quotients above are good to seven digits: a perfect ranking is to give 1.
        return np.round(ap, 6), np.round(_share(outranked, positives * (weights @ self.negatives)), 6)


def mean_of_defined(values: FloatArray) -> FloatArray:
    """Means over labels, (resamples, labels) -> (resamples,); NaN where no label defines the measure."""
    is_defined = ~np.isnan(values)
    return _share(np.where(is_defined, values, 0).sum(axis=1), is_defined.sum(axis=1))


def number(value: float) -> float | None:
    """A measure; None for NaN."""
    return None if np.isnan(value) else float(value)


def interval_of(values: FloatArray) -> Interval:
    """The middle 95 percent of resampled values, (resamples,); None where fewer than half of them are defined."""
    defined = values[~np.isnan(values)]
    if len(defined) * 2 < len(values):
        return None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
