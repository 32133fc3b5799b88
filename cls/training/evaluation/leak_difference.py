"""Two validation parts of one training compared: on which labels, by how much, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cls.metrics.bootstrap import RESAMPLES, Interval, draw_units, interval_of, mean_of_defined, resampled, thin_labels

# What is said -> the measure behind it.
MEASURES = {"mAP": "ap", "F1": "f1", "mA": "ma"}


@dataclass(frozen=True)
class Predictions:
    """What is said of one validation part.

    Attributes:
        probs: (samples, labels).
        decisions: bool (samples, labels), made by what was chosen on other units.
        labels: (samples, labels): 1, 0, or NaN for unknown.
        units: of each sample, by the same names in both parts.
    """

    probs: NDArray[np.float64]
    decisions: NDArray[np.bool_]
    labels: NDArray[np.float64]
    units: Sequence[str]


@dataclass(frozen=True)
class Difference:
    """Means over the labels compared; a measure is None where it is not defined.

    Attributes:
        first: mAP, F1 and mA of the first part.
        second: of the second.
        intervals: 95 percent intervals of second minus first.
        units: how many units were drawn from.
        left_out: numbers of the labels whose positives stand in fewer than three units of either part.
    """

    first: dict[str, float | None]
    second: dict[str, float | None]
    intervals: dict[str, Interval]
    units: int
    left_out: tuple[int, ...]


def difference(first: Predictions, second: Predictions, *, seed: int, resamples: int = RESAMPLES) -> Difference:
    """Compares two parts over the same labels, and draws the units of both together again and again.

    A unit that has people in both parts is drawn for both: what they have in common does not widen the interval. That
    another training on the same split would have come out differently is not in it.

    Args:
        first: one part.
        second: the other.
        seed: another seed draws other units.
        resamples: how often.
    """
    is_kept = ~(thin_labels(first.labels, first.units) | thin_labels(second.labels, second.units))
    known, unit_of = np.unique(np.asarray([*first.units, *second.units], np.str_), return_inverse=True)
    times = draw_units(len(known), resamples, seed=seed)
    places = unit_of[: len(first.units)], unit_of[len(first.units) :]
    drawn = [_drawn(part, at, is_kept, times) for part, at in zip((first, second), places, strict=True)]
    once = np.ones((1, len(known)), np.float32)
    points = [_drawn(part, at, is_kept, once) for part, at in zip((first, second), places, strict=True)]
    means = [
        {name: _number(mean_of_defined(found[key])[0]) for name, key in MEASURES.items()} for found in points
    ]  # fmt: skip
    return Difference(
        first=means[0],
        second=means[1],
        # Of each label where a resample defines it in both parts.
        intervals={
            name: interval_of(mean_of_defined(_less(drawn[1][key], drawn[0][key]))) for name, key in MEASURES.items()
        },
        units=len(known),
        left_out=tuple(np.flatnonzero(~is_kept).tolist()),
    )


def _drawn(
    part: Predictions, unit_of: NDArray[np.int64], is_kept: NDArray[np.bool_], times: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """Measures of the kept labels, (resamples, labels)."""
    return resampled(part.probs[:, is_kept], part.decisions[:, is_kept], part.labels[:, is_kept], unit_of, times)


def _less(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The difference of the resamples that both have: curves are taken of the first ones only."""
    count = min(len(values), len(others))
    return values[:count] - others[:count]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
