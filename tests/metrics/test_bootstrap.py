from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cls.metrics.bootstrap import Intervals, _of_counts, _of_curves, _of_people, bootstrap
from cls.metrics.multilabel import Truth, measure
from cls.metrics.scores import Interval, MeasureIntervals

NAMES = ("a", "b", "c")
HALF = (0.5, 0.5, 0.5)


def values_of(intervals: MeasureIntervals) -> list[Interval]:
    """Those that were measured."""
    return [getattr(intervals, key) for key in intervals.model_fields_set]


def drawn(people: int, seed: int, *, unknown: float = 0.1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    labels = (rng.random((people, 3)) < (0.1, 0.3, 0.6)).astype(np.float64)
    probs = np.round(np.clip(labels * 0.3 + rng.random((people, 3)) * 0.7, 0, 1), 1)
    labels[rng.random(labels.shape) < unknown] = np.nan
    return probs, labels


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_a_resample_is_measured_as_its_people_are(seed: int) -> None:
    """A unit drawn twice counts like its people listed twice, scores in ties and unknown labels included."""
    probs, labels = drawn(24, seed)
    rng = np.random.default_rng(seed)
    unit_of = rng.integers(0, 6, 24)
    times = rng.multinomial(6, np.full(6, 1 / 6), size=2).astype(np.float32)
    decisions = probs >= 0.5
    found = _of_counts(decisions, labels, unit_of, times) | _of_curves(probs, labels, unit_of, times)
    people = _of_people(decisions, labels, unit_of, times)
    for row in range(2):
        listed = np.repeat(np.arange(24), times[row, unit_of].astype(int))
        expected = measure(probs[listed], labels[listed], NAMES, HALF)
        for key, values in found.items():
            assert values[row] == pytest.approx(
                [np.nan if (value := getattr(expected.labels[name], key)) is None else value for name in NAMES],
                abs=1e-5, nan_ok=True,
            ), key  # fmt: skip
        for key, shares in people.items():
            value = getattr(expected.instance, key)
            assert shares[row] == pytest.approx(np.nan if value is None else value, abs=1e-5, nan_ok=True), key


def check_bounds(intervals: Intervals) -> None:
    ranges = [*values_of(intervals.macro), *values_of(intervals.instance)]
    ranges += [value for label in intervals.labels.values() for value in values_of(label)]
    assert all(low_high is None or 0 <= low_high[0] <= low_high[1] <= 1 for low_high in ranges)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_bounded_in_any_order_and_without_the_unknown(seed: int) -> None:
    probs, labels = drawn(30, seed)
    units = [f"picset:{number}" for number in np.random.default_rng(seed).integers(0, 8, 30)]
    found = bootstrap(probs, Truth(labels, units, NAMES), HALF, resamples=50)
    assert found is not None
    check_bounds(found)
    order = np.random.default_rng(seed + 1).permutation(30)
    shuffled = bootstrap(probs[order], Truth(labels[order], [units[i] for i in order], NAMES), HALF, resamples=50)
    assert shuffled is not None
    for key in found.macro.model_fields_set:
        low_high = getattr(found.macro, key)
        assert getattr(shuffled.macro, key) == (None if low_high is None else pytest.approx(low_high, abs=1e-5)), key
    # Rows of nothing but unknown labels, in units that are there already, change nothing.
    more_labels = np.concatenate([labels, np.full((5, 3), np.nan)])
    truth = Truth(more_labels, [*units, *units[:5]], NAMES)
    more = bootstrap(np.concatenate([probs, probs[:5]]), truth, HALF, resamples=50)
    assert more is not None
    assert more.labels == found.labels
    assert more.instance == found.instance


def test_whole_picsets_are_drawn() -> None:
    """Ten alike people of a picset are not ten people: the interval is wider than over single people."""
    probs, labels = drawn(30, 1, unknown=0)
    probs, labels = np.repeat(probs, 10, axis=0), np.repeat(labels, 10, axis=0)
    by_picset = bootstrap(probs, Truth(labels, [f"{i // 10}" for i in range(300)], NAMES), HALF)
    by_person = bootstrap(probs, Truth(labels, [f"{i}" for i in range(300)], NAMES), HALF)
    assert by_picset is not None
    assert by_person is not None
    assert (by_picset.units, by_person.units) == (30, 300)
    for key in ("ap", "f1", "ma"):
        wide, narrow = getattr(by_picset.macro, key), getattr(by_person.macro, key)
        assert wide is not None
        assert narrow is not None
        assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


def test_ninety_five_of_a_hundred_contain_the_truth() -> None:
    """Roughly: F1 of one label over 60 fresh validation parts of 100 people each."""
    rng = np.random.default_rng(0)
    truth_everywhere = 2 * 0.3 * 0.8 / (0.3 + 0.3 * 0.8 + 0.7 * 0.2)
    hits = 0
    for _ in range(60):
        labels = (rng.random((100, 1)) < 0.3).astype(np.float64)
        probs = np.where(rng.random((100, 1)) < np.where(labels > 0, 0.8, 0.2), 0.9, 0.1)
        found = bootstrap(probs, Truth(labels, [str(i) for i in range(100)], ("a",)), (0.5,), resamples=200)
        assert found is not None
        low_high = found.labels["a"].f1
        assert low_high is not None
        hits += low_high[0] <= truth_everywhere <= low_high[1]
    assert hits >= 51


def test_labels_with_one_positive_with_none_and_unknown_to_all() -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((40, 3))
    labels[0, 0] = 1
    labels[:, 2] = np.nan
    units = [str(i // 2) for i in range(40)]
    found = bootstrap(rng.random((40, 3)), Truth(labels, units, ("one", "none", "unknown")), HALF, resamples=200)
    assert found is not None
    check_bounds(found)
    assert found.labels["one"].ap is None, "a third of the resamples is without its only positive"
    assert found.labels["none"].ap is None
    assert found.left_out == ("one", "none", "unknown")
    assert set(values_of(found.macro)) == {None}, "no mean that one picset decides"
    labels[::4, 1] = 1
    some = bootstrap(rng.random((40, 3)), Truth(labels, units, ("one", "many", "unknown")), HALF, resamples=200)
    assert some is not None
    assert some.left_out == ("one", "unknown")
    assert some.macro == some.labels["many"]
    mean, bounds = some.means.f1, some.macro.f1
    assert mean is not None
    assert bounds is not None
    assert bounds[0] <= mean <= bounds[1]
    assert set(values_of(found.labels["unknown"])) == {None}
    nobody = bootstrap(rng.random((40, 3)), Truth(np.full((40, 3), np.nan), units, NAMES), HALF, resamples=20)
    assert nobody is not None
    assert set(values_of(nobody.macro)) == {None}


def test_one_unit_tells_nothing() -> None:
    probs, labels = drawn(10, 0)
    assert bootstrap(probs, Truth(labels, ["picset:1"] * 10, NAMES), HALF) is None
    assert bootstrap(probs[:0], Truth(labels[:0], [], NAMES), HALF) is None


def test_a_thousand_resamples_in_about_a_second() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((2000, 10)) < np.linspace(0.03, 0.5, 10)).astype(np.float64)
    probs = np.clip(labels * 0.2 + rng.random((2000, 10)) * 0.8, 0, 1)
    units = [str(number) for number in rng.integers(0, 500, 2000)]
    names = [str(number) for number in range(10)]
    started_s = time.process_time()
    found = bootstrap(probs, Truth(labels, units, names), [0.5] * 10)
    assert time.process_time() - started_s < 3, "0.2 s of one core on a quiet machine"
    assert found is not None
    point = measure(probs, labels, names, [0.5] * 10)
    for key in found.macro.model_fields_set:
        low_high = getattr(found.macro, key)
        value = getattr(point.macro, key)
        assert low_high is not None
        assert value is not None
        assert low_high[0] < value < low_high[1]
    # With a thousand positives, neighbouring steps are taken together: far less than an interval is wide.
    once = _of_curves(probs, labels, np.arange(2000), np.ones((1, 2000), np.float32))
    for index, name in enumerate(names):
        expected = point.labels[name]
        assert once["ap"][0, index] == pytest.approx(expected.ap, abs=0.002)
        assert once["auroc"][0, index] == pytest.approx(expected.auroc, abs=0.002)
