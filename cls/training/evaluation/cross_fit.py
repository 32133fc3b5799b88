"""Measures of decisions whose calibration and thresholds were chosen on other people than those they are made on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cls.metrics.bootstrap import bootstrap, thin_labels
from cls.metrics.multilabel import CrossFitted, measure
from cls.metrics.thresholds import choose_thresholds
from cls.training.evaluation.calibration import choose_calibration

_FOLDS = 5
_OF_DECISIONS = ("precision", "recall", "f1", "ma")
_OF_PROBABILITIES = ("ece", "ece_adaptive", "brier")


@dataclass(frozen=True)
class Crossed:
    """What is said of each sample with what was chosen on others.

    Attributes:
        probs: calibrated, (samples, labels).
        decisions: bool (samples, labels).
        folds: how many.
    """

    probs: NDArray[np.float64]
    decisions: NDArray[np.bool_]
    folds: int


def crossed_decisions(
    logits: NDArray[np.float64],
    labels: NDArray[np.float64],
    units: Sequence[str],
    loss_shift: Sequence[float],
    *,
    seed: int = 0,
) -> Crossed | None:
    """Decides on each fifth of the units with the temperature and the thresholds that the other four fifths choose.

    Args:
        logits: of the network, not calibrated, (samples, labels).
        labels: (samples, labels): 1, 0, or NaN for unknown.
        units: of each sample, what a split keeps together (`Sample.unit`).
        loss_shift: see `choose_calibration`.
        seed: which units make a fold.

    Returns:
        None where there are fewer than two units.
    """
    fold_of = _folds(units, seed)
    if fold_of is None:
        return None
    folds = int(fold_of.max()) + 1
    probs, decisions = np.empty_like(logits), np.empty(logits.shape, np.bool_)
    for fold in range(folds):
        held, others = fold_of == fold, fold_of != fold
        calibration = choose_calibration(logits[others], labels[others], loss_shift)
        thresholds = choose_thresholds(calibration.probs(logits[others]), labels[others])
        probs[held] = calibration.probs(logits[held])
        decisions[held] = probs[held] >= thresholds
    return Crossed(probs, decisions, folds)


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

    A label whose positives stand in fewer than three units is in none of the means: the folds without them know
    nothing of it, so its F1 says what one picset happened to do.

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
    crossed = crossed_decisions(logits, labels, units, loss_shift, seed=seed)
    if crossed is None:
        return None
    half = [0.5] * len(names)
    said = crossed.decisions.astype(np.float64)
    decided, probable = (measure(values, labels, names, half) for values in (said, crossed.probs))
    drawn = bootstrap(said, labels, units, names, half, seed=seed)
    intervals = {} if drawn is None else {key: drawn.macro[key] for key in _OF_DECISIONS}
    of_labels = {} if drawn is None else drawn.labels
    label_intervals = {name: {key: found[key] for key in _OF_DECISIONS} for name, found in of_labels.items()}
    micro = {key: decided.micro[key] for key in ("precision", "recall", "f1")}
    micro |= {key: probable.micro[key] for key in _OF_PROBABILITIES}
    per_label = {
        name: {key: getattr(decided.labels[name], key) for key in _OF_DECISIONS}
        | {key: getattr(probable.labels[name], key) for key in _OF_PROBABILITIES}
        for name in names
    }
    is_thin = thin_labels(labels, units).tolist()
    kept = [name for name, is_left_out in zip(names, is_thin, strict=True) if not is_left_out]
    left_out = tuple(name for name in names if name not in kept)
    macro = {key: _mean([per_label[name][key] for name in kept]) for key in (*_OF_DECISIONS, *_OF_PROBABILITIES)}
    return CrossFitted(
        crossed.folds, macro, micro, decided.instance, per_label, decided.exact, intervals, left_out, label_intervals
    )


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _folds(units: Sequence[str], seed: int) -> NDArray[np.int64] | None:
    """The fold of each sample, from 0; all of a unit's in one. The samples' order does not matter."""
    known, unit_of = np.unique(np.asarray(units, np.str_), return_inverse=True)
    if len(known) < 2:
        return None
    folds = min(_FOLDS, len(known))
    return np.asarray((np.random.default_rng([seed, 6]).permutation(len(known)) % folds)[unit_of], np.int64)
