"""Two validation parts compared: what is more than chance, and what is not."""

from __future__ import annotations

import numpy as np

from cls.training.evaluation.leak_tax import Predictions, difference


def part(people: int, skill: float, seed: int, *, units: int = 40) -> Predictions:
    """Two common labels, and one that a single unit has; decisions are right as often as `skill` says."""
    rng = np.random.default_rng(seed)
    unit_of = np.arange(people) % units
    labels = (rng.random((people, 3)) < 0.4).astype(np.float64)
    labels[:, 2] = unit_of == 0
    is_right = rng.random(labels.shape) < skill
    probs = np.where(is_right == (labels > 0), 0.8, 0.2) + rng.random(labels.shape) * 0.1
    return Predictions(probs, probs >= 0.5, labels, [f"picset:{unit}" for unit in unit_of])


def test_a_leak_is_significant_and_chance_is_not() -> None:
    honest, flattering, alike = part(160, 0.7, 1), part(160, 0.9, 2), part(160, 0.7, 3)
    found = difference(honest, flattering, seed=0)
    assert all(bounds is not None and bounds[0] > 0 for bounds in found.intervals.values())
    assert found.left_out == (2,), "positives in one picset"
    assert found.units == 40
    same = difference(honest, alike, seed=0)
    assert all(bounds is not None and bounds[0] < 0 < bounds[1] for bounds in same.intervals.values())


def test_the_same_part_twice_differs_by_nothing() -> None:
    one = part(100, 0.8, 5)
    found = difference(one, one, seed=0)
    assert found.first == found.second
    assert set(found.intervals.values()) == {(0.0, 0.0)}


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Roughly: two parts of the same skill, over and over."""
    hits = 0
    for seed in range(40):
        found = difference(part(80, 0.75, 2 * seed), part(80, 0.75, 2 * seed + 1), seed=seed, resamples=200)
        bounds = found.intervals["F1"]
        assert bounds is not None
        hits += bounds[0] <= 0 <= bounds[1]
    assert hits >= 33


def test_labels_too_thin_to_compare() -> None:
    one = part(60, 0.8, 1, units=2)
    found = difference(one, one, seed=0)
    assert found.left_out == (0, 1, 2)
    assert set(found.first.values()) == {None}
    assert set(found.intervals.values()) == {None}
