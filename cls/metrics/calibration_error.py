"""How far probabilities are from frequencies: expected calibration error and Brier score, in NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Guo et al., On Calibration of Modern Neural Networks (ICML 2017): 15 bins.
BINS = 15


def expected_calibration_error(
    probs: NDArray[np.float64], truth: NDArray[np.bool_], *, bins: int = BINS, is_adaptive: bool = False
) -> float | None:
    """How far, on average, a probability is from the frequency with which it comes true.

    Decisions are put into bins by probability; in each bin the mean probability is compared with the share of
    positives; the distances are averaged, each bin counting by its decisions. On few decisions it is too high by
    chance alone: compare it with another on as many, not with 0.

    Args:
        probs: (decisions,), 0 to 1.
        truth: (decisions,).
        bins: how many.
        is_adaptive: bins of equally many decisions (Nguyen and O'Connor, EMNLP 2015), not of equal width (Guo et al.
            2017); equal probabilities stay together.

    Returns:
        0 to 1; None without decisions.
    """
    if not len(probs):
        return None
    edges = np.linspace(0, 1, bins + 1)
    if is_adaptive:
        edges = np.unique(np.quantile(probs, edges))
    # A probability on an edge belongs to the bin above it; 1 to the last.
    numbers = np.searchsorted(edges[1:-1], probs, side="right") if len(edges) > 2 else np.zeros(len(probs), np.int64)
    said = np.bincount(numbers, weights=probs)
    came_true = np.bincount(numbers, weights=truth.astype(np.float64))
    return float(np.abs(said - came_true).sum() / len(probs))


def reliability(
    probs: NDArray[np.float64], truth: NDArray[np.bool_], *, bins: int = BINS
) -> list[tuple[float, float, int]]:
    """The points of a reliability diagram: bins of equal width that are not empty, from low to high.

    Returns:
        Mean probability, share of positives, decisions; one entry a bin.
    """
    numbers = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probs, side="right")
    return [
        (float(probs[numbers == bin_].mean()), float(truth[numbers == bin_].mean()), int((numbers == bin_).sum()))
        for bin_ in np.unique(numbers)
    ]


def brier_score(probs: NDArray[np.float64], truth: NDArray[np.bool_]) -> float | None:
    """Mean squared distance of probability and truth (Brier 1950): 0 is perfect, 0.25 is always saying 0.5.

    Returns:
        0 to 1; None without decisions.
    """
    return float(np.mean((probs - truth) ** 2)) if len(probs) else None
