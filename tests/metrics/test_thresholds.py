from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cls.metrics.multilabel import choose_thresholds, measure


def f1_of(probs: np.ndarray, labels: np.ndarray, threshold: float) -> float:  # type: ignore[type-arg]
    return measure(probs, labels, ("a",), (threshold,)).labels["a"].f1 or 0.0


def test_between_what_is_and_what_is_not() -> None:
    rng = np.random.default_rng(0)
    probs = np.concatenate([rng.uniform(0.6, 0.9, 50), rng.uniform(0.1, 0.2, 50)])[:, None]
    labels = np.repeat([1.0, 0.0], 50)[:, None]
    (threshold,) = choose_thresholds(probs, labels)
    assert 0.25 < threshold < 0.55


def test_a_rare_label_of_low_probabilities_is_still_found() -> None:
    rng = np.random.default_rng(0)
    common = np.concatenate([rng.uniform(0.6, 0.9, 60), rng.uniform(0.1, 0.3, 60)])
    rare = np.concatenate([[0.22, 0.25, 0.24], rng.uniform(0.01, 0.1, 117)])
    labels = np.stack([np.repeat([1.0, 0.0], 60), np.repeat([1.0, 0.0], [3, 117])], axis=1)
    probs = np.stack([common, rare], axis=1)
    thresholds = choose_thresholds(probs, labels)
    assert 0.1 < thresholds[1] < 0.22
    assert measure(probs, labels, ("common", "rare"), thresholds.tolist()).macro.f1 == 1.0


def test_without_positives_the_common_threshold_is_taken() -> None:
    probs = np.array([[0.9, 0.4], [0.8, 0.3], [0.2, 0.1], [0.1, 0.2]])
    labels = np.array([[1.0, 0], [1, 0], [0, 0], [0, 0]])
    thresholds = choose_thresholds(probs, labels)
    # Over both labels together, anything from 0.2 to 0.8 is as good, give or take one person.
    assert thresholds[1] == 0.5
    assert choose_thresholds(probs, np.zeros((4, 2))).tolist() == [0.5, 0.5]


def test_unknown_labels_do_not_count() -> None:
    probs = np.array([[0.9], [0.8], [0.2], [0.1], [0.99], [0.01]])
    labels = np.array([[1.0], [1], [0], [0], [np.nan], [np.nan]])
    assert choose_thresholds(probs, labels) == choose_thresholds(probs[:4], labels[:4])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=50))
def test_in_range_and_near_the_best_f1(pairs: list[tuple[int, bool]]) -> None:
    probs = np.array([[0.05 + 0.9 * score / 20] for score, _ in pairs])
    labels = np.array([[float(is_positive)] for _, is_positive in pairs])
    (threshold,) = choose_thresholds(probs, labels)
    assert 0.01 <= threshold <= 0.99
    if labels.any() and not labels.all():
        best = max(f1_of(probs, labels, value) for value in np.unique(probs))
        assert f1_of(probs, labels, threshold) >= best - max(0.01, 1 / labels.sum()) - 1e-4


def test_few_positives_do_better_on_new_people_with_the_tolerance_than_at_their_best_point() -> None:
    """A rare label's best threshold on 60 people is mostly luck; on new people the common one does better."""
    rng = np.random.default_rng(0)
    rates = np.array([0.03, 0.06, 0.3])

    def draw(people: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        labels = (rng.random((people, 3)) < rates).astype(np.float64)
        logits = 2 * (rng.normal(0, 1, labels.shape) + 2 * labels) - 2 + np.log(rates / (1 - rates))
        return 1 / (1 + np.exp(-logits)), labels

    def f1(probs: NDArray[np.float64], labels: NDArray[np.float64], thresholds: NDArray[np.float64]) -> float:
        said = probs >= thresholds
        return float((2 * (said & (labels > 0)).sum(axis=0) / (said.sum(axis=0) + labels.sum(axis=0)))[:2].mean())

    new = draw(20_000)
    chosen, luckiest = [], []
    for _ in range(60):
        probs, labels = draw(60)
        chosen.append(f1(*new, choose_thresholds(probs, labels)))
        grid = np.unique(probs[:, :2])
        best = [
            max(grid.tolist(), key=lambda t: (2 * ((probs[:, c] >= t) & (labels[:, c] > 0)).sum()
                                              / max((probs[:, c] >= t).sum() + labels[:, c].sum(), 1)))
            for c in (0, 1)
        ]  # fmt: skip
        luckiest.append(f1(*new, np.array([*best, 0.5])))
    assert np.mean(chosen) > np.mean(luckiest) + 0.02
