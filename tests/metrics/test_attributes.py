"""Instance-based measures and mA against the definitions of the RAP paper and its authors' evaluation code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from cls.metrics.multilabel import instance_metrics, measure

NAN = float("nan")


def of(said: list[list[int]], true: list[list[float]]) -> dict[str, float | None]:
    return instance_metrics(np.array(said, np.bool_), np.array(true, np.float64)).to_json_values()


def test_by_hand() -> None:
    # Person 1: Y = {a, b}, P = {a}; person 2: Y = {c}, P = {b, c}.
    found = of([[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]])
    precision, recall = (1 + 1 / 2) / 2, (1 / 2 + 1) / 2
    expected = {
        "accuracy": 1 / 2, "precision": precision, "recall": recall,
        "f1": 2 * precision * recall / (precision + recall),
    }  # fmt: skip
    assert found == pytest.approx(expected)


def test_f1_is_that_of_the_means_not_the_mean_of_f1() -> None:
    # Precision 1 and 1/4, recall 1/2 and 1: of the means 0.68; the mean of people's F1 would be (2/3 + 2/5) / 2.
    found = of([[1, 0, 0, 0], [1, 1, 1, 1]], [[1, 1, 0, 0], [1, 0, 0, 0]])
    assert found["f1"] == pytest.approx(2 * 0.625 * 0.75 / (0.625 + 0.75))
    assert found["f1"] != pytest.approx((2 / 3 + 2 / 5) / 2)


def test_people_without_labels_count_where_a_measure_is_defined() -> None:
    # Person 2 has no label and is given one; person 3 has none and is given none; person 4 has one and is given none.
    found = of([[1, 0], [1, 0], [0, 0], [0, 0]], [[1, 0], [0, 0], [0, 0], [1, 0]])
    assert found["accuracy"] == pytest.approx((1 + 0 + 0) / 3), "of 1, 2 and 4: 3 has no union"
    assert found["precision"] == pytest.approx((1 + 0) / 2), "of 1 and 2: nothing is said of 3 and 4"
    assert found["recall"] == pytest.approx((1 + 0) / 2), "of 1 and 4: 2 and 3 have nothing to recall"


def test_nobody_to_measure() -> None:
    nothing = dict.fromkeys(("accuracy", "precision", "recall", "f1"))
    assert of([[0, 0]], [[0, 0]]) == nothing
    assert instance_metrics(np.empty((0, 2), np.bool_), np.empty((0, 2))).to_json_values() == nothing
    assert of([[1, 1]], [[NAN, NAN]]) == nothing
    assert of([[1, 0]], [[0, 1]]) == {"accuracy": 0.0, "precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_unknown_labels_are_in_neither_set() -> None:
    assert of([[1, 1, 0]], [[1, NAN, NAN]]) == {"accuracy": 1.0, "precision": 1.0, "recall": 1.0, "f1": 1.0}


def test_mean_accuracy_by_hand() -> None:
    # Label a: TPR 1/2, TNR 2/2; label b: TPR 1/1, TNR 1/3.
    said = np.array([[0.9, 0.9], [0.1, 0.9], [0.1, 0.9], [0.1, 0.1]])
    true = np.array([[1.0, 1], [1, 0], [0, 0], [0, 0]])
    metrics = measure(said, true, ("a", "b"), (0.5, 0.5))
    assert (metrics.labels["a"].ma, metrics.labels["b"].ma) == pytest.approx((3 / 4, 2 / 3))
    assert metrics.macro.ma == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert metrics.labels["b"].specificity == pytest.approx(1 / 3)


def test_a_label_of_one_kind_has_no_mean_accuracy() -> None:
    metrics = measure(np.array([[0.9, 0.9], [0.1, 0.9]]), np.array([[1.0, 1], [0, 1]]), ("a", "everybody"), (0.5, 0.5))
    assert metrics.labels["everybody"].ma is None
    assert metrics.macro.ma == 1.0


def rap_evaluation(said: NDArray[np.bool_], true: NDArray[np.bool_]) -> dict[str, float]:
    """The paper's formulas person by person, as the authors' code counts them."""
    accuracy, precision, recall = [], [], []
    for is_said, is_true in zip(said, true, strict=True):
        y, p = set(np.flatnonzero(is_true)), set(np.flatnonzero(is_said))
        if y | p:
            accuracy.append(len(y & p) / len(y | p))
        if p:
            precision.append(len(y & p) / len(p))
        if y:
            recall.append(len(y & p) / len(y))
    return {"accuracy": np.mean(accuracy), "precision": np.mean(precision), "recall": np.mean(recall)}  # type: ignore[dict-item]


tables = st.integers(1, 12).flatmap(
    lambda people: st.tuples(*(arrays(np.bool_, (people, 4), elements=st.booleans()) for _ in range(3)))
)


@settings(max_examples=80, deadline=None)
@given(tables, st.randoms(use_true_random=False))
def test_like_the_formulas_in_any_order_and_without_the_unknown(
    table: tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]], random: object
) -> None:
    said, true, unknown = table
    labels = true.astype(np.float64)
    found = instance_metrics(said, labels).to_json_values()
    assert all(value is None or 0 <= value <= 1 for value in found.values())
    if true.any() and said.any():
        expected = rap_evaluation(said, true)
        assert {key: found[key] for key in expected} == pytest.approx(expected)
    order = np.random.default_rng(len(said)).permutation(len(said))
    assert instance_metrics(said[order], labels[order]).to_json_values() == pytest.approx(found, nan_ok=True)
    rows_of_nan = np.full((3, 4), np.nan)
    more = instance_metrics(
        np.concatenate([said, np.ones((3, 4), np.bool_)]), np.concatenate([labels, rows_of_nan])
    ).to_json_values()
    assert more == found
    # An unknown label is the same as one that is neither there nor said.
    masked = instance_metrics(said, np.where(unknown, np.nan, labels))
    assert masked == instance_metrics(said & ~unknown, np.where(unknown, 0, labels))
