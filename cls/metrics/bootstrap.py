"""Confidence intervals: by the bootstrap over whole picsets, and exact binomial ones for few people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cls.metrics.multilabel import SetCounts, Truth
from cls.metrics.scores import Interval, Intervals, MeasureIntervals, Measures

LEVEL = 0.95
Bounds = tuple[float, float]
# Measures of resamples are rounded to six digits: this much of a person is none.
_NO_PERSON = 1e-3
# Of more people than these resampling knows enough, unless all of them are right or all wrong.
_MOST_COUNTED = 1000
_HALVINGS = 50
# Resampled measures this close together are one number.
_SAME = 1e-6

# A label whose positives stand in fewer picsets is drawn in one resample and missing in the next: no interval is known.
LEAST_UNITS = 3
RESAMPLES = 1000

# The curves' measures cost the most: on large validation parts the first resamples will do.
_MOST_MULTIPLICATIONS = 10_000_000_000
_FEWEST_RANKED = 200
_MOST_STEPS = 400


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


def thin_labels(labels: NDArray[np.float64], units: Sequence[str]) -> NDArray[np.bool_]:
    """Whether the positives of a label stand in fewer than three units, (labels,): a mean would hang on one picset.

    Args:
        labels: (samples, labels): 1, 0, or NaN for unknown.
        units: of each sample.
    """
    _, unit_of = np.unique(np.asarray(units, np.str_), return_inverse=True)
    found = [len(np.unique(unit_of[column > 0.5])) for column in labels.T]
    return np.array(found, np.int64) < LEAST_UNITS


def draw_units(units: int, resamples: int, *, seed: int) -> NDArray[np.float32]:
    """How often each unit is in each resample, (resamples, units): as many as there are, with replacement."""
    chance = np.full(units, 1 / units)
    return np.random.default_rng([seed, 5]).multinomial(units, chance, size=resamples).astype(np.float32)


def resampled(
    probs: NDArray[np.float64],
    decisions: NDArray[np.bool_],
    labels: NDArray[np.float64],
    unit_of: NDArray[np.int64],
    times: NDArray[np.float32],
) -> dict[str, NDArray[np.float64]]:
    """Measures of every resample, (resamples, labels) each; NaN where not defined.

    Args:
        probs: (samples, labels), 0 to 1: what ap and auroc are taken of; of large parts in the first resamples only.
        decisions: (samples, labels): what f1, ma, precision and recall are taken of.
        labels: (samples, labels): 1, 0, or NaN for unknown.
        unit_of: number of each sample's unit.
        times: of `draw_units`.
    """
    return _of_counts(decisions, labels, unit_of, times) | _of_curves(probs, labels, unit_of, times)


def bootstrap(
    probs: NDArray[np.float64], truth: Truth, thresholds: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES
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
    times = draw_units(len(known_units), resamples, seed=seed)
    decisions = probs >= np.asarray(thresholds)
    drawn = resampled(probs, decisions, labels, unit_of, times)
    once = resampled(probs, decisions, labels, unit_of, np.ones((1, len(known_units)), np.float32))
    is_thin = thin_labels(labels, units)
    counts = [LabelCounts.of(decisions[:, index], labels[:, index]) for index in range(len(names))]
    kept = [count for count, is_left_out in zip(counts, is_thin, strict=True) if not is_left_out]
    means = {key: _number(mean_of_defined(values[:, ~is_thin])[0]) for key, values in once.items()}
    return Intervals(
        level=LEVEL,
        resamples=resamples,
        units=len(known_units),
        macro=MeasureIntervals(
            **{
                key: interval_of_means(interval_of(mean_of_defined(values[:, ~is_thin])), means[key], key, kept)
                for key, values in drawn.items()
            }
        ),
        instance=_instance(decisions, labels, unit_of, times),
        labels={
            name: MeasureIntervals(
                **{
                    key: None
                    if is_thin[index]
                    else widened(interval_of(values[:, index]), counts[index].interval(key, float(once[key][0, index])))
                    for key, values in drawn.items()
                }
            )
            for index, name in enumerate(names)
        },
        means=Measures(**means),
        left_out=tuple(name for name, is_left_out in zip(names, is_thin, strict=True) if is_left_out),
    )


def _instance(
    decisions: NDArray[np.bool_], labels: NDArray[np.float64], unit_of: NDArray[np.int64], times: NDArray[np.float32]
) -> MeasureIntervals:
    """Intervals of the instance-based measures; where resampling changes nothing, as of a share of the people."""
    drawn = _of_people(decisions, labels, unit_of, times)
    once = _of_people(decisions, labels, unit_of, np.ones((1, times.shape[1]), np.float32))
    people = int((SetCounts.of(decisions, labels).union > 0).sum())
    found = {key: interval_of(values) for key, values in drawn.items()}
    return MeasureIntervals(
        **{
            key: widened(bounds, interval_of_mean(float(once[key][0]), people)) if is_one_number(bounds) else bounds
            for key, bounds in found.items()
        }
    )


def _sums(values: NDArray[Any], unit_of: NDArray[np.int64], times: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sums over the people of each resample: values (samples, …) -> (resamples, …)."""
    per_unit = np.zeros((times.shape[1], values.shape[1]), np.float32)
    np.add.at(per_unit, unit_of, values)
    return np.asarray(times @ per_unit, np.float64)


def _share(parts: NDArray[np.float64], wholes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Parts of wholes; NaN where there is no whole."""
    shares = np.full(np.shape(wholes), np.nan)
    np.divide(parts, wholes, out=shares, where=wholes > 0)
    return shares


def _of_counts(
    decisions: NDArray[np.bool_], labels: NDArray[np.float64], unit_of: NDArray[np.int64], times: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """What the counts give (f1, ma, precision, recall), (resamples, labels); NaN where not defined."""
    truth, known = labels > 0.5, ~np.isnan(labels)
    hit = _sums(decisions & truth, unit_of, times)
    true = _sums(truth, unit_of, times)
    said = _sums(decisions & known, unit_of, times)
    false = _sums(known & ~truth, unit_of, times)
    recall, specificity = _share(hit, true), 1 - _share(said - hit, false)
    # As `precision_recall_f1` has it: 0 where nothing is said of a label that somebody has.
    precision = np.where((said == 0) & (true > 0), 0.0, _share(hit, said))
    f1 = np.where(true > 0, _share(2 * hit, true + said), np.nan)
    return {"f1": f1, "ma": (recall + specificity) / 2, "precision": precision, "recall": recall}


def _of_people(
    decisions: NDArray[np.bool_], labels: NDArray[np.float64], unit_of: NDArray[np.int64], times: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """The instance-based measures of every resample, (resamples,)."""
    counts = SetCounts.of(decisions, labels)

    def mean(wholes: NDArray[np.int64]) -> NDArray[np.float64]:
        shares = np.stack([counts.hit / np.maximum(wholes, 1), wholes > 0], axis=1)
        sums = _sums(shares, unit_of, times)
        return _share(sums[:, 0], sums[:, 1])

    accuracy, precision, recall = mean(counts.union), mean(counts.said), mean(counts.true)
    both = precision + recall
    f1 = np.where(both == 0, 0.0, _share(2 * precision * recall, both))
    return {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1}


def _of_curves(
    probs: NDArray[np.float64], labels: NDArray[np.float64], unit_of: NDArray[np.int64], times: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """Average precision (ap) and auroc of the affordable resamples, (resamples, labels); NaN where not defined."""
    if not probs.shape[1]:
        return dict.fromkeys(("ap", "auroc"), np.empty((len(times), 0)))
    rankings = []
    for column in range(probs.shape[1]):
        known = ~np.isnan(labels[:, column])
        rankings.append(_Ranking.of(probs[known, column], labels[known, column] > 0.5, unit_of[known], times.shape[1]))
    work = 3 * sum(ranking.found.size for ranking in rankings)
    affordable = times[: max(_MOST_MULTIPLICATIONS // max(work, 1), _FEWEST_RANKED)]
    measured = [ranking.measure(affordable) for ranking in rankings]
    return {
        "ap": np.stack([ap for ap, _ in measured], axis=1),
        "auroc": np.stack([auroc for _, auroc in measured], axis=1),
    }


class _Ranking(NamedTuple):
    """What each unit adds to one label's curve at each of its steps, from the highest score down; people counted.

    A step is a score that positives have. Above a few hundred, neighbouring steps are taken together: that changes the
    measure by far less than its interval is wide.

    Attributes:
        said: people at or above the step, float32 (units, steps).
        found: positives among them.
        beaten: negatives below the step, and half of those in it.
        negatives: float32 (units,).
    """

    said: NDArray[np.float32]
    found: NDArray[np.float32]
    beaten: NDArray[np.float32]
    negatives: NDArray[np.float32]

    @classmethod
    def of(
        cls, scores: NDArray[np.float64], truth: NDArray[np.bool_], unit_of: NDArray[np.int64], units: int
    ) -> _Ranking:
        """Of one label's known people."""
        steps = np.unique(scores[truth])
        if len(steps) > _MOST_STEPS:
            steps = steps[np.linspace(0, len(steps) - 1, _MOST_STEPS).astype(int)]
        # The step each person counts from: 0 is the highest score; len(steps): below all positives.
        first = len(steps) - np.searchsorted(steps, scores, side="right")
        new_said, new_found = (np.zeros((units, len(steps) + 1), np.float32) for _ in range(2))
        np.add.at(new_said, (unit_of, first), 1)
        np.add.at(new_found, (unit_of, first), truth)
        said, found = np.cumsum(new_said, axis=1), np.cumsum(new_found, axis=1)
        # Between two steps there are negatives alone: they count with the lower one, which they are not equal to.
        is_equal = np.isin(scores, steps) if len(steps) < _MOST_STEPS else np.ones(len(scores), np.bool_)
        tied = np.zeros_like(said)
        np.add.at(tied, (unit_of, first), is_equal & ~truth)
        false = said - found
        beaten = np.asarray(false[:, -1:] - false + tied / 2, np.float32)
        return cls(said[:, :-1], found[:, :-1], beaten[:, :-1], false[:, -1])

    def measure(self, times: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Average precision and AUROC where each unit counts as often as it is drawn, (resamples,) each."""
        if not self.found.shape[1]:
            nothing = np.full(len(times), np.nan)
            return nothing, nothing
        # Whole and half numbers far below 2^23: float32 adds them exactly.
        found, said = times @ self.found, times @ self.said
        newly_found = np.diff(found, axis=1, prepend=np.float32(0))
        positives = found[:, -1].astype(np.float64)
        precision = found / np.maximum(said, 1)
        ap = _share(np.einsum("rs,rs->r", newly_found, precision).astype(np.float64), positives)
        beaten = np.einsum("rs,rs->r", newly_found, times @ self.beaten).astype(np.float64)
        # The quotients above are good to seven digits: a perfect ranking is to give 1.
        ap, auroc = np.round(ap, 6), np.round(_share(beaten, positives * (times @ self.negatives)), 6)
        return ap, auroc


def mean_of_defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over labels, (resamples, labels) -> (resamples,); NaN where no label defines the measure."""
    is_defined = ~np.isnan(values)
    return _share(np.where(is_defined, values, 0).sum(axis=1), is_defined.sum(axis=1))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def interval_of(values: NDArray[np.float64]) -> Interval:
    """The middle 95 percent of resampled values, (resamples,); None where fewer than half of them are defined."""
    defined = values[~np.isnan(values)]
    if len(defined) * 2 < len(values):
        return None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
