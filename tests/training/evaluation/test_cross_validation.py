from __future__ import annotations

import numpy as np
import pytest

from cls.metrics.multilabel import Truth, choose_thresholds, measure
from cls.training.evaluation.calibration import _folds, choose_calibration, cross_validate

NAMES = ("a", "b")
NO_SHIFT = (0.0, 0.0)


def noise(people: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:  # type: ignore[type-arg]
    """Logits that have nothing to do with the labels."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((people, 2)) < 0.2).astype(np.float64)
    return rng.normal(0, 1, (people, 2)), labels, [str(i // 3) for i in range(people)]


def test_thresholds_do_not_flatter_themselves() -> None:
    """Where there is nothing to be learned, thresholds chosen and measured on the same people still find something."""
    own, cross_validated = [], []
    for seed in range(20):
        logits, labels, units = noise(60, seed)
        probs = choose_calibration(logits, labels, NO_SHIFT).probs(logits)
        own.append(measure(probs, labels, NAMES, choose_thresholds(probs, labels).tolist()).macro.f1)
        found = cross_validate(logits, Truth(labels, units, NAMES), NO_SHIFT)
        assert found is not None
        cross_validated.append(found.macro.f1)
    assert np.mean(np.array(own, float)) > np.mean(np.array(cross_validated, float)) + 0.03


def test_the_same_where_all_is_clear() -> None:
    _, labels, units = noise(60, 0)
    found = cross_validate(labels * 8 - 4, Truth(labels, units, NAMES), NO_SHIFT)
    assert found is not None
    assert (found.macro.f1, found.macro.ma, found.exact) == (1.0, 1.0, 1.0)
    assert set(found.labels) == set(NAMES)
    assert found.folds == 5
    # Every resample is right of everybody: 10 and 14 people have the labels, and two labels of 10 show 0.83 at most.
    assert labels.sum(axis=0).tolist() == [10, 14]
    keys = ("precision", "recall", "f1", "ma")
    assert found.intervals.model_fields_set == set(keys)
    assert all(getattr(found.intervals, key) == (pytest.approx(0.025 ** (1 / 20)), 1.0) for key in keys)
    for name, people in zip(NAMES, (10, 14), strict=True):
        assert found.label_intervals[name].recall == (pytest.approx(0.025 ** (1 / people)), 1.0)
        assert found.label_intervals[name].f1 == (pytest.approx(0.025 ** (1 / people)), 1.0)


def test_units_stay_together_in_any_order() -> None:
    logits, labels, units = noise(60, 3)
    folds = _folds(units, 0)
    assert folds is not None
    by_unit: dict[str, set[int]] = {}
    for unit, fold in zip(units, folds.tolist(), strict=True):
        by_unit.setdefault(unit, set()).add(fold)
    assert all(len(found) == 1 for found in by_unit.values())
    assert np.bincount(folds).tolist() == [12] * 5
    order = np.random.default_rng(0).permutation(60)
    found = cross_validate(logits, Truth(labels, units, NAMES), NO_SHIFT)
    shuffled = cross_validate(logits[order], Truth(labels[order], [units[i] for i in order], NAMES), NO_SHIFT)
    assert found is not None
    assert shuffled is not None
    assert shuffled.macro.to_json_values() == pytest.approx(found.macro.to_json_values(), abs=1e-3)


def test_odd_validation_parts() -> None:
    logits, labels, _ = noise(6, 0)
    assert cross_validate(logits, Truth(labels, ["picset:1"] * 6, NAMES), NO_SHIFT) is None
    assert cross_validate(logits[:0], Truth(labels[:0], [], NAMES), NO_SHIFT) is None
    two = cross_validate(logits, Truth(labels, ["x", "x", "x", "y", "y", "y"], NAMES), NO_SHIFT)
    assert two is not None
    assert two.folds == 2
    one = np.zeros_like(labels)
    one[0, 0] = 1
    one[:, 1] = np.nan
    found = cross_validate(logits, Truth(one, [str(i) for i in range(6)], NAMES), NO_SHIFT)
    assert found is not None
    assert found.labels["b"].f1 is None
    assert found.micro.ece is not None


def test_a_label_of_too_few_picsets_is_in_no_mean_and_is_named() -> None:
    """One picset's label is perfect or hopeless by chance: it must not decide the mean."""
    logits, labels, units = noise(60, 1)
    labels[:, 1] = 0
    labels[:6, 1] = 1  # two units
    found = cross_validate(logits, Truth(labels, units, NAMES), NO_SHIFT)
    assert found is not None
    assert found.left_out == ("b",)
    assert found.macro.f1 == found.labels["a"].f1
    assert found.labels["b"].f1 is not None, "it is still there to be looked at"
    bounds = found.intervals.f1
    assert bounds is not None
    assert bounds[0] <= (found.macro.f1 or 0) <= bounds[1]
    labels[:9, 1] = 1  # three
    more = cross_validate(logits, Truth(labels, units, NAMES), NO_SHIFT)
    assert more is not None
    assert more.left_out == ()
    labels[:] = 0
    labels[:3] = 1
    nothing = cross_validate(logits, Truth(labels, units, NAMES), NO_SHIFT)
    assert nothing is not None
    assert nothing.left_out == NAMES
    assert set(nothing.macro.to_json_values().values()) == {None}
    assert set(nothing.intervals.to_json_values().values()) == {None}
