"""Measures of decisions whose calibration and thresholds were chosen on other people than those they are made on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cls.training.bootstrap import bootstrap
from cls.training.calibration import choose_calibration
from cls.training.metrics import CrossFitted, measure
from cls.training.thresholds import choose_thresholds

_FOLDS = 5
_OF_DECISIONS = ("precision", "recall", "f1", "ma")
_OF_PROBABILITIES = ("ece", "ece_adaptive", "brier")


def cross_fit(
    logits: NDArray[np.float64],
    labels: NDArray[np.float64],
    units: Sequence[str],
    names: Sequence[str],
    loss_shift: Sequence[float],
    *,
    seed: int = 0,
) -> CrossFitted | None:
    """Decides on each fifth of the units with what the other four fifths choose, and measures all decisions together.

    Thresholds and temperature chosen and measured on the same people flatter themselves: on validation parts of a few
    hundred people by points of F1. (That the kept epoch was chosen on them as well, this does not undo.)

    Args:
        logits: of the network, not calibrated, (samples, labels).
        labels: (samples, labels): 1, 0, or NaN for unknown.
        units: of each sample, what a split keeps together (`Sample.unit`).
        names: label names.
        loss_shift: see `choose_calibration`.
        seed: which units make a fold.

    Returns:
        None where there are fewer than two units.
    """
    fold_of = _folds(units, seed)
    if fold_of is None:
        return None
    probs, decisions = np.empty_like(logits), np.empty_like(logits)
    for fold in range(int(fold_of.max()) + 1):
        held, others = fold_of == fold, fold_of != fold
        calibration = choose_calibration(logits[others], labels[others], loss_shift)
        thresholds = choose_thresholds(calibration.probs(logits[others]), labels[others])
        probs[held] = calibration.probs(logits[held])
        decisions[held] = probs[held] >= thresholds
    half = [0.5] * len(names)
    decided, probable = (measure(values, labels, names, half) for values in (decisions, probs))
    drawn = bootstrap(decisions, labels, units, names, half, seed=seed)
    intervals = {} if drawn is None else {key: drawn.macro[key] for key in _OF_DECISIONS}
    macro = {key: decided.macro[key] for key in _OF_DECISIONS} | {key: probable.macro[key] for key in _OF_PROBABILITIES}
    micro = {key: decided.micro[key] for key in ("precision", "recall", "f1")}
    micro |= {key: probable.micro[key] for key in _OF_PROBABILITIES}
    per_label = {
        name: {key: getattr(decided.labels[name], key) for key in _OF_DECISIONS}
        | {key: getattr(probable.labels[name], key) for key in _OF_PROBABILITIES}
        for name in names
    }
    return CrossFitted(int(fold_of.max()) + 1, macro, micro, decided.instance, per_label, decided.exact, intervals)


def _folds(units: Sequence[str], seed: int) -> NDArray[np.int64] | None:
    """The fold of each sample, from 0; all of a unit's in one. The samples' order does not matter."""
    known, unit_of = np.unique(np.asarray(units, np.str_), return_inverse=True)
    if len(known) < 2:
        return None
    folds = min(_FOLDS, len(known))
    return np.asarray((np.random.default_rng([seed, 6]).permutation(len(known)) % folds)[unit_of], np.int64)
