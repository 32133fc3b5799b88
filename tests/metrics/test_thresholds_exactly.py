"""Thresholds against the rule written out decision by decision."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cls.metrics.multilabel import _logit, choose_thresholds


def good_range(scores: list[float], truth: list[bool]) -> tuple[float, float] | None:
    """Thresholds whose F1 is within 0.01, or one positive's share of recall, of the best: low < threshold <= high."""
    if not any(truth) or all(truth):
        return None
    steps = sorted(set(scores), reverse=True)

    def f1(threshold: float) -> float:
        said = [score >= threshold for score in scores]
        hits = sum(s and t for s, t in zip(said, truth, strict=True))
        precision, recall = hits / sum(said), hits / sum(truth)
        return 2 * precision * recall / (precision + recall) if hits else 0.0

    values = [f1(step) for step in steps]
    best = values.index(max(values))
    enough = max(values) - max(0.01, 1 / sum(truth))
    first, last = best, best
    while first > 0 and values[first - 1] >= enough:
        first -= 1
    while last < len(steps) - 1 and values[last + 1] >= enough:
        last += 1
    return (steps[last + 1] if last < len(steps) - 1 else 0.0), steps[first]


def logit(p: float) -> float:
    p = min(max(p, 0.0001), 0.9999)
    return math.log(p / (1 - p))


def chosen(probs: np.ndarray, labels: np.ndarray) -> list[float]:  # type: ignore[type-arg]
    known = ~np.isnan(labels)
    common = good_range(probs[known].tolist(), (labels[known] > 0.5).tolist())
    prior = 0.5 if common is None else sum(common) / 2
    found = []
    for column, label_column in zip(probs.T, labels.T, strict=True):
        is_known = ~np.isnan(label_column)
        truth = (label_column[is_known] > 0.5).tolist()
        own = good_range(column[is_known].tolist(), truth)
        if own is None:
            found.append(prior)
        else:
            rarer = min(sum(truth), len(truth) - sum(truth))
            share = rarer / (rarer + 4)
            leaning = 1 / (1 + math.exp(-share * logit(sum(own) / 2) - (1 - share) * logit(prior)))
            edge = (own[1] - own[0]) / 4
            found.append(min(max(leaning, own[0] + edge), own[1] - edge))
    return [min(max(value, 0.01), 0.99) for value in found]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 90), st.sampled_from([4, 40, 1000]), st.sampled_from([0.0, 0.2]))
def test_the_rule(seed: int, people: int, distinct: int, unknown: float) -> None:
    rng = np.random.default_rng(seed)
    rates = np.array([0.5, 0.1, 0.03, 0.95])
    labels = (rng.random((people, 4)) < rates).astype(np.float64)
    logits = rng.normal(0, 2, labels.shape) + 2 * labels + np.log(rates / (1 - rates))
    probs = np.round(distinct / (1 + np.exp(-logits))) / distinct
    labels[rng.random(labels.shape) < unknown] = np.nan
    assert choose_thresholds(probs, labels).tolist() == pytest.approx(chosen(probs, labels), abs=1e-6)


def one_label(positives: list[float], negatives: list[float]) -> float:
    probs = np.array([*positives, *negatives])[:, None]
    return float(choose_thresholds(probs, np.repeat([1.0, 0.0], [len(positives), len(negatives)])[:, None])[0])


def test_between_the_last_positive_and_the_first_negative() -> None:
    """200 apart: one sample less would cost more than 0.01, so the range is 0.2 to 0.6, its middle 0.4."""
    assert one_label([0.6] * 200, [0.2] * 200) == 0.4


def test_the_tolerance_is_a_hundredth() -> None:
    """Of 1000 positives at 0.8, with n more at 0.4 and n negatives there: F1 changes by about n / 2000."""
    for extra, expected in ((15, (0.8 + 0.1) / 2), (25, (0.8 + 0.4) / 2)):
        assert one_label([0.8] * 1000, [0.4] * extra + [0.1] * 100) == pytest.approx(expected, abs=0.002), extra


def test_one_positive_may_be_lost_or_bought() -> None:
    """Of four, F1 may fall by a quarter: 0.2 to 0.7 is good, which finds three, not only up to 0.6, which finds all."""
    assert one_label([0.9, 0.8, 0.7, 0.6], [0.2] * 100) == 0.45


def test_exactly_as_much_less_is_as_good() -> None:
    """Of two positives half may be lost: with four wrong ones F1 is 4 / 8, so that 0.1 to 0.9 is good."""
    assert one_label([0.9, 0.9], [0.5] * 4 + [0.1] * 100) == 0.5
    assert one_label([0.9, 0.9], [0.5] * 5 + [0.1] * 100) == 0.7
    # Of three a third: 2 / 6 at 0.9 and 6 / 9 at 0.5.
    assert one_label([0.9, 0.5, 0.5], [0.9, 0.9, 0.5] + [0.1] * 100) == 0.5


def test_thresholds_stay_from_a_hundredth_to_99() -> None:
    assert one_label([0.004] * 50, [0.001] * 50) == 0.01
    assert one_label([0.9999] * 50, [0.997] * 50) == 0.99
    assert one_label([0.011] * 50, [0.009, *[0.001] * 50]) == pytest.approx(0.01, abs=0.002)


def test_six_digits() -> None:
    assert one_label([2 / 3] * 200, [0.1] * 200) == 0.383333


def test_few_positives_lean_towards_the_common_threshold() -> None:
    """Two positives against a prior worth four: a third of the way, in logits, from the common to the own middle."""
    common = np.array([0.8] * 300 + [0.6] * 300)
    rare = np.full(600, 0.05)
    rare[:2] = 0.95
    labels = np.stack([np.repeat([1.0, 0.0], 300), np.repeat([1.0, 0.0], [2, 598])], axis=1)
    probs = np.stack([common, rare], axis=1)
    prior, own = 0.7, 0.5
    leaning = logit(prior) * 4 / 6 + logit(own) * 2 / 6
    assert choose_thresholds(probs, labels)[1] == pytest.approx(1 / (1 + math.exp(-leaning)), abs=1e-6)


def test_the_common_choice_pulls_up_to_a_quarter_from_the_edge() -> None:
    common = np.array([0.99] * 300 + [0.97] * 300)
    rare = np.full(600, 0.1)
    rare[:1] = 0.5
    labels = np.stack([np.repeat([1.0, 0.0], 300), np.repeat([1.0, 0.0], [1, 599])], axis=1)
    found = choose_thresholds(np.stack([common, rare], axis=1), labels)[1]
    # With one positive any threshold is as good as another, down to 0: 0 to 0.5, and a quarter of it from the edge.
    assert found == pytest.approx(0.5 - 0.125, abs=1e-6)


def test_the_common_choice_pulls_down_to_a_quarter_from_the_edge() -> None:
    common = np.array([0.03] * 300 + [0.01] * 300)
    rare = np.full(600, 0.5)
    rare[:2] = 0.9
    labels = np.stack([np.repeat([1.0, 0.0], 300), np.repeat([1.0, 0.0], [2, 598])], axis=1)
    found = choose_thresholds(np.stack([common, rare], axis=1), labels)
    assert found[1] == pytest.approx(0.5 + 0.1, abs=1e-6)


def test_logits_of_what_is_nearly_sure() -> None:
    assert _logit(0.25) == pytest.approx(-math.log(3))
    assert _logit(0.0) == _logit(1e-4) == pytest.approx(math.log(1e-4 / 0.9999))
    assert _logit(1.0) == _logit(0.9999) == pytest.approx(-_logit(0.0))
    assert _logit(2e-4) > _logit(0.0)
    assert _logit(0.9998) < _logit(1.0)
