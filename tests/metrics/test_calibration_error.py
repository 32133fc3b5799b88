from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional import mean_squared_error
from torchmetrics.functional.classification import binary_calibration_error

from cls.metrics.multilabel import brier_score, expected_calibration_error, reliability

pairs_of = st.lists(st.tuples(st.integers(0, 100), st.booleans()), min_size=1, max_size=80)


def arrays_of(pairs: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    return np.array([value / 100 for value, _ in pairs]), np.array([is_true for _, is_true in pairs])


def test_by_hand() -> None:
    # Two bins: 0.2 and 0.4 with one positive of two; 0.6 and 0.8 with two of two.
    probs, truth = np.array([0.2, 0.4, 0.6, 0.8]), np.array([False, True, True, True])
    assert expected_calibration_error(probs, truth, bins=2) == pytest.approx(0.5 * 0.2 + 0.5 * 0.3)
    assert reliability(probs, truth, bins=2) == [
        (pytest.approx(0.3), pytest.approx(0.5), 2),
        (pytest.approx(0.7), pytest.approx(1.0), 2),
    ]
    assert brier_score(probs, truth) == pytest.approx((0.04 + 0.36 + 0.16 + 0.04) / 4)


def test_adaptive_bins_have_equally_many() -> None:
    # All below 0.07, in one bin of equal width, where high and low errors cancel out.
    probs, truth = np.array([0.01, 0.01, 0.05, 0.05]), np.array([True, False, False, False])
    together = abs(0.25 - 0.03)
    assert expected_calibration_error(probs, truth, bins=2) == pytest.approx(together)
    apart = (abs(0.5 - 0.01) + abs(0 - 0.05)) / 2
    assert expected_calibration_error(probs, truth, bins=2, is_adaptive=True) == pytest.approx(apart)


def test_nothing_to_measure() -> None:
    nothing = np.empty(0)
    for is_adaptive in (False, True):
        assert expected_calibration_error(nothing, nothing > 0, is_adaptive=is_adaptive) is None
    assert brier_score(nothing, nothing > 0) is None
    assert reliability(nothing, nothing > 0) == []


def test_one_probability_for_all() -> None:
    truth = np.array([True, True, True, False])
    for is_adaptive in (False, True):
        assert expected_calibration_error(np.full(4, 0.5), truth, is_adaptive=is_adaptive) == pytest.approx(0.25)


@settings(max_examples=80, deadline=None)
@given(pairs_of)
def test_same_as_torchmetrics(pairs: list[tuple[int, bool]]) -> None:
    probs, truth = arrays_of(pairs)
    # Away from the bins' edges, which single precision puts elsewhere; torchmetrics gives 1 a bin of its own.
    probs = 0.998 * probs + 0.0011
    theirs = binary_calibration_error(torch.from_numpy(probs), torch.from_numpy(truth.astype(int)), n_bins=15)
    assert expected_calibration_error(probs, truth) == pytest.approx(float(theirs), abs=1e-5)
    squares = mean_squared_error(torch.from_numpy(probs), torch.from_numpy(truth.astype(float)))
    assert brier_score(probs, truth) == pytest.approx(float(squares))


@settings(max_examples=60, deadline=None)
@given(pairs_of, st.booleans())
def test_bounded_and_in_any_order(pairs: list[tuple[int, bool]], is_adaptive: bool) -> None:
    probs, truth = arrays_of(pairs)
    error = expected_calibration_error(probs, truth, is_adaptive=is_adaptive)
    assert error is not None
    # No finer bins can be further off than single decisions are.
    assert abs(probs.mean() - truth.mean()) - 1e-9 <= error <= np.abs(probs - truth).mean() + 1e-9
    order = np.random.default_rng(len(pairs)).permutation(len(pairs))
    assert expected_calibration_error(probs[order], truth[order], is_adaptive=is_adaptive) == pytest.approx(error)


def test_calibrated_probabilities_have_a_small_error() -> None:
    rng = np.random.default_rng(0)
    probs = rng.uniform(0, 1, 40_000)
    truth = rng.random(40_000) < probs
    for is_adaptive in (False, True):
        assert (expected_calibration_error(probs, truth, is_adaptive=is_adaptive) or 0) < 0.01
        assert (expected_calibration_error(probs**2, truth, is_adaptive=is_adaptive) or 0) > 0.1
