"""Every number of the metrics, worked out by hand or by another library."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cls.metrics.multilabel import (
    auroc,
    average_precision,
    brier_score,
    expected_calibration_error,
    measure,
    precision_recall_f1,
    precision_recall_steps,
    reliability,
)

NAN = float("nan")
# Thresholds 0.5 and 0.3. `a`: two found, one wrongly said, one missed, one rightly not said, one unknown.
PROBS = np.array([[0.9, 0.1], [0.8, 0.3], [0.7, 0.29], [0.5, 0.6], [0.49, 0.2], [0.1, 0.9]])
LABELS = np.array([[1, 0], [0, 1], [1, 1], [NAN, 0], [1, 0], [0, 0]])


def test_every_number_of_a_label() -> None:
    a = measure(PROBS, LABELS, ("a", "b"), (0.5, 0.3)).labels["a"]
    # In bins of 1/15: 0.9 (13), 0.8 (12), 0.7 (10), 0.49 (7), 0.1 (1): each alone.
    gaps = [1 - 0.9, 0.8, 1 - 0.7, 1 - 0.49, 0.1]
    assert a.to_json_values() == {
        "positives": 3, "negatives": 2, "base_rate": 0.6, "threshold": 0.5, "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3), "f1": pytest.approx(4 / 6), "ap": pytest.approx((1 + 2 / 3 + 3 / 4) / 3),
        "auroc": pytest.approx(4 / 6), "true_positives": 2, "false_positives": 1, "false_negatives": 1,
        "true_negatives": 1,
        "specificity": 0.5, "ma": pytest.approx((2 / 3 + 1 / 2) / 2), "ece": pytest.approx(sum(gaps) / 5),
        "ece_adaptive": pytest.approx(sum(gaps) / 5), "brier": pytest.approx(sum(gap**2 for gap in gaps) / 5),
    }  # fmt: skip


def test_every_number_of_all() -> None:
    found = measure(PROBS, LABELS, ("a", "b"), (0.5, 0.3))
    a, b = found.labels["a"], found.labels["b"]
    # `b` at 0.3: said of the second (right), the fourth and the last (wrong); the third is missed.
    assert (b.true_positives, b.false_positives, b.false_negatives, b.true_negatives) == (1, 2, 1, 2)
    assert (b.precision, b.recall, b.f1, b.specificity) == (pytest.approx(1 / 3), 0.5, pytest.approx(2 / 5), 0.5)
    keys = ["precision", "recall", "f1", "ap", "auroc", "base_rate", "ma", "ece", "ece_adaptive", "brier"]
    assert list(found.macro.to_json_values()) == keys
    for key in keys:
        assert getattr(found.macro, key) == pytest.approx((getattr(a, key) + getattr(b, key)) / 2), key
    probs, truth = PROBS[~np.isnan(LABELS)], LABELS[~np.isnan(LABELS)] > 0.5
    assert found.micro.to_json_values() == {
        "precision": pytest.approx(3 / 6),
        "recall": pytest.approx(3 / 5),
        "f1": pytest.approx(6 / 11),
        "ece": pytest.approx(expected_calibration_error(probs, truth)),
        "ece_adaptive": pytest.approx(expected_calibration_error(probs, truth, is_adaptive=True)),
        "brier": pytest.approx(float(np.mean((probs - truth) ** 2))),
    }
    # Right in all that is known of them: the first alone. The fourth is wrong in `b`.
    assert found.exact == pytest.approx(1 / 6)
    assert (found.samples, found.intervals, found.cross_fitted) == (6, None, None)
    # |Y and P| / |Y or P|: 1/1, 1/2, 1/2, 0/1, 0/1, 0/1.
    assert found.instance.accuracy == pytest.approx(2 / 6)
    assert set(found.to_json_values()) == {
        "labels", "macro", "micro", "exact", "samples", "instance", "intervals", "cross_fitted",
    }  # fmt: skip
    assert found.to_json_values()["labels"]["b"]["false_positives"] == 2


def test_a_probability_at_the_threshold_is_said() -> None:
    at = measure(np.array([[0.5], [0.4999]]), np.array([[1.0], [1.0]]), ("a",), (0.5,))
    assert at.labels["a"].true_positives == 1
    assert at.exact == 0.5
    assert at.instance.recall == 0.5


def test_a_label_without_negatives_or_positives() -> None:
    found = measure(np.array([[0.9, 0.8], [0.2, 0.3]]), np.array([[1.0, 0], [1, 0]]), ("all", "none"), (0.5, 0.5))
    every, none = found.labels["all"], found.labels["none"]
    assert (every.specificity, every.ma, every.auroc, every.recall) == (None, None, None, 0.5)
    assert (none.specificity, none.ma, none.auroc, none.precision, none.recall) == (0.5, None, None, 0.0, None)
    assert (every.base_rate, none.base_rate) == (1.0, 0.0)
    assert found.macro.ma is None
    assert found.macro.recall == 0.5


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((3, 1, 2), (3 / 4, 3 / 5, 6 / 9)),
        ((0, 3, 2), (0.0, 0.0, 0.0)),
        ((0, 0, 2), (0.0, 0.0, 0.0)),
        ((2, 0, 0), (1.0, 1.0, 1.0)),
        ((0, 1, 0), (0.0, None, None)),
        ((0, 0, 0), (None, None, None)),
    ],
)
def test_precision_recall_f1(
    counts: tuple[int, int, int], expected: tuple[float | None, float | None, float | None]
) -> None:
    assert precision_recall_f1(*counts) == pytest.approx(expected)


def test_steps_from_the_highest_score_down() -> None:
    scores = np.array([0.2, 0.9, 0.5, 0.5, 0.9, 0.1])
    truth = np.array([True, True, False, True, False, False])
    precision, recall, thresholds = precision_recall_steps(scores, truth)
    assert thresholds.tolist() == [0.9, 0.5, 0.2, 0.1]
    assert precision.tolist() == pytest.approx([1 / 2, 2 / 4, 3 / 5, 3 / 6])
    assert recall.tolist() == pytest.approx([1 / 3, 2 / 3, 1, 1])
    _, recall, _ = precision_recall_steps(scores, np.zeros(6, bool))
    assert recall.tolist() == [0, 0, 0, 0], "without positives nothing is found"


def test_means_of_a_single_defined_label_and_of_none() -> None:
    assert average_precision(np.array([0.3]), np.array([False])) is None
    assert auroc(np.array([0.3, 0.4, 0.4]), np.array([True, False, True])) == pytest.approx((0 + 0.5) / 2)
    assert auroc(np.array([0.3]), np.array([True])) is None
    assert auroc(np.array([0.3]), np.array([False])) is None


def ece_plainly(probs: list[float], truth: list[bool], bins: int) -> float:
    groups: dict[int, list[tuple[float, bool]]] = {}
    for prob, is_true in zip(probs, truth, strict=True):
        # The bin whose lower edge, of `np.linspace`, is the last that is not above the probability.
        number = sum(prob >= edge for edge in np.linspace(0, 1, bins + 1)[1:-1])
        groups.setdefault(int(number), []).append((prob, is_true))
    return sum(abs(sum(p for p, _ in group) - sum(t for _, t in group)) for group in groups.values()) / len(probs)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=1, max_size=40), st.sampled_from([1, 2, 10, 15]))
def test_calibration_error_bin_by_bin(pairs: list[tuple[int, bool]], bins: int) -> None:
    probs, truth = [score / 60 for score, _ in pairs], [is_true for _, is_true in pairs]
    arrays = np.array(probs), np.array(truth)
    assert expected_calibration_error(*arrays, bins=bins) == pytest.approx(ece_plainly(probs, truth, bins))
    if bins == 15:
        assert expected_calibration_error(*arrays) == pytest.approx(ece_plainly(probs, truth, 15))
    points = reliability(*arrays, bins=bins)
    assert sum(count for _, _, count in points) == len(probs)
    total = sum(abs(said - true) * count for said, true, count in points)
    assert total / len(probs) == pytest.approx(ece_plainly(probs, truth, bins))
    assert [said for said, _, _ in points] == sorted(said for said, _, _ in points)
    assert brier_score(*arrays) == pytest.approx(
        sum((p - t) ** 2 for p, t in zip(probs, truth, strict=True)) / len(probs)
    )


def test_adaptive_bins_hold_equally_many() -> None:
    """30 decisions in 15 bins: two each, however near they are to each other."""
    probs = 0.5 + np.arange(30) / 10_000
    truth = np.arange(30) % 4 == 0
    pairs = [abs(probs[n : n + 2].sum() - truth[n : n + 2].sum()) for n in range(0, 30, 2)]
    assert expected_calibration_error(probs, truth, is_adaptive=True) == pytest.approx(sum(pairs) / 30, abs=1e-4)
    assert expected_calibration_error(probs, truth) == pytest.approx(abs(probs.sum() - truth.sum()) / 30, abs=0.02)
    equal = np.full(4, 0.75)
    assert expected_calibration_error(equal, np.array([True, False, False, False]), is_adaptive=True) == 0.5
    assert expected_calibration_error(equal[:0], np.zeros(0, bool)) is None
    assert brier_score(equal[:0], np.zeros(0, bool)) is None
    assert math.isclose(brier_score(np.array([0.75, 0.5]), np.array([True, False])) or 0, (0.0625 + 0.25) / 2)
