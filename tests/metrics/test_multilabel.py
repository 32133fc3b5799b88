from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    binary_f1_score,
    binary_precision,
    binary_recall,
    binary_specificity,
)

from cls.metrics.multilabel import auroc, average_precision, measure, precision_recall_f1

NAN = float("nan")


def test_average_precision_by_hand() -> None:
    # Ranked: + - + -  -> precision at the positives 1/1 and 2/3.
    scores = np.array([0.9, 0.8, 0.7, 0.1])
    truth = np.array([True, False, True, False])
    assert average_precision(scores, truth) == pytest.approx((1 + 2 / 3) / 2)


def test_equal_scores_are_taken_together() -> None:
    scores = np.array([0.5, 0.5, 0.5, 0.5])
    truth = np.array([True, False, False, False])
    assert average_precision(scores, truth) == pytest.approx(0.25)
    assert auroc(scores, truth) == pytest.approx(0.5)


def test_auroc_by_hand() -> None:
    # Pairs (positive, negative): 0.9 beats both, 0.3 beats one and loses to one.
    scores = np.array([0.9, 0.3, 0.6, 0.1])
    truth = np.array([True, True, False, False])
    assert auroc(scores, truth) == pytest.approx(3 / 4)


def test_precision_recall_f1_by_hand() -> None:
    assert precision_recall_f1(6, 2, 4) == pytest.approx((6 / 8, 6 / 10, 2 * 6 / (12 + 2 + 4)))
    assert precision_recall_f1(0, 0, 3) == (0.0, 0.0, 0.0)
    assert precision_recall_f1(0, 0, 0) == (None, None, None)
    assert precision_recall_f1(0, 2, 0) == (0.0, None, None)


def test_all_labels_by_hand() -> None:
    probs = np.array([[0.9, 0.2], [0.6, 0.7], [0.3, 0.1], [0.2, 0.4]])
    labels = np.array([[1, 0], [0, 1], [1, 0], [0, NAN]])
    metrics = measure(probs, labels, ("a", "b"), (0.5, 0.5))
    a, b = metrics.labels["a"], metrics.labels["b"]
    assert (a.true_positives, a.false_positives, a.false_negatives) == (1, 1, 1)
    assert (a.precision, a.recall, a.f1, a.base_rate) == (0.5, 0.5, 0.5, 0.5)
    assert (b.positives, b.negatives, b.f1, b.ap, b.auroc) == (1, 2, 1.0, 1.0, 1.0)
    assert b.base_rate == pytest.approx(1 / 3)
    assert metrics.macro.f1 == pytest.approx(0.75)
    assert metrics.micro.precision == pytest.approx(2 / 3)
    assert metrics.exact == pytest.approx(2 / 4)
    assert metrics.samples == 4


def test_what_is_not_defined_is_none_and_left_out_of_means() -> None:
    metrics = measure(np.array([[0.9, 0.9], [0.1, 0.1]]), np.array([[1.0, 0], [0, 0]]), ("a", "none"), (0.5, 0.5))
    assert metrics.labels["none"].ap is None
    assert metrics.labels["none"].auroc is None
    assert metrics.labels["none"].f1 is None
    assert metrics.macro.ap == 1.0
    assert metrics.macro.base_rate == pytest.approx(0.25)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=60))
def test_same_as_torchmetrics(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score / 12 for score, _ in pairs])
    truth = np.array([is_positive for _, is_positive in pairs])
    preds, target = torch.from_numpy(scores), torch.from_numpy(truth.astype(int))
    if truth.any():
        assert average_precision(scores, truth) == pytest.approx(
            float(binary_average_precision(preds, target)), abs=1e-6
        )
    else:
        assert average_precision(scores, truth) is None
    if truth.any() and not truth.all():
        assert auroc(scores, truth) == pytest.approx(float(binary_auroc(preds, target)), abs=1e-6)
    else:
        assert auroc(scores, truth) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=40))
def test_counts_same_as_torchmetrics(pairs: list[tuple[int, bool]]) -> None:
    probs = np.array([[score / 12] for score, _ in pairs])
    labels = np.array([[float(is_positive)] for _, is_positive in pairs])
    found = measure(probs, labels, ("a",), (0.45,)).labels["a"]
    preds, target = torch.from_numpy(probs[:, 0] >= 0.45).int(), torch.from_numpy(labels[:, 0]).int()
    if labels.any():
        for key, theirs in (("precision", binary_precision), ("recall", binary_recall), ("f1", binary_f1_score)):
            assert getattr(found, key) == pytest.approx(float(theirs(preds, target)), abs=1e-6), key
    if not labels.all():
        assert found.specificity == pytest.approx(float(binary_specificity(preds, target)), abs=1e-6)
    if labels.any() and not labels.all():
        assert found.recall is not None
        assert found.specificity is not None
        assert found.ma == pytest.approx((found.recall + found.specificity) / 2)
    else:
        assert found.ma is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_in_any_order_and_without_rows_of_unknown_labels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probs = np.round(rng.random((15, 3)), 1)
    labels = (rng.random((15, 3)) < 0.3).astype(np.float64)
    labels[rng.random((15, 3)) < 0.2] = np.nan
    names, thresholds = ("a", "b", "c"), (0.3, 0.5, 0.7)
    found = measure(probs, labels, names, thresholds)
    every = [value for part in (found.macro, found.micro, found.instance) for value in part.to_json_values().values()]
    every.append(found.exact)
    assert all(value is None or 0 <= value <= 1 for value in every)
    order = rng.permutation(15)
    shuffled = measure(probs[order], labels[order], names, thresholds)
    more = measure(
        np.concatenate([probs, rng.random((4, 3))]), np.concatenate([labels, np.full((4, 3), NAN)]), names, thresholds
    )
    for other in (shuffled, more):
        assert other.macro.to_json_values() == pytest.approx(found.macro.to_json_values())
        assert other.micro.to_json_values() == pytest.approx(found.micro.to_json_values())
        assert other.instance.to_json_values() == pytest.approx(found.instance.to_json_values())


def test_labels_of_one_positive_of_none_and_nobody_at_all() -> None:
    labels = np.array([[1.0, 0, NAN], [0, 0, NAN], [0, 0, NAN]])
    probs = np.array([[0.6, 0.1, 0.2], [0.7, 0.2, 0.3], [0.1, 0.3, 0.4]])
    found = measure(probs, labels, ("one", "none", "unknown"), (0.5, 0.5, 0.5))
    assert (found.labels["one"].ap, found.labels["one"].recall) == (0.5, 1.0)
    assert (found.labels["none"].ece, found.labels["none"].ma) == (pytest.approx(0.2), None)
    assert found.labels["unknown"].ece is None
    assert found.labels["unknown"].positives == found.labels["unknown"].negatives == 0
    nobody = measure(probs[:0], labels[:0], ("one", "none", "unknown"), (0.5, 0.5, 0.5))
    assert {
        *dict(nobody.macro).values(),
        *dict(nobody.micro).values(),
        *dict(nobody.instance).values(),
        nobody.exact,
    } == {None}
