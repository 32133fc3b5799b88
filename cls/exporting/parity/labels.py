"""What a conversion changes for each label: F1, calibration, and the logits behind the decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cls.exporting.parity.samples import Answers, Reference
from cls.metrics.multilabel import expected_calibration_error, measure, precision_recall_f1
from cls.metrics.scores import LabelMetrics, Measures, Metrics

CALIBRATION_MEASURES = ("ece", "ece_adaptive", "brier")
# Probabilities nearer to 0 or 1 count as this near: float32, and the six digits that packages keep of a probability,
# do not tell their logits apart.
_LEAST_PROBABILITY = 1e-4
# A label that the trained network hardly tells people apart by: its logits are compared in units of this.
_LEAST_SPREAD = 0.5


@dataclass(frozen=True)
class LabelResult:
    """The comparison for one label. Every change is the one at the batch size where it is largest.

    Attributes:
        label: its name.
        known: people of whom somebody said whether they have it.
        positives: those who have it; on the trained network's own decisions where nobody said anything of anybody.
        label_flips: decisions that differ at any batch size.
        farthest_flip: how far from the threshold the trained probability of such a decision is at most; 0 without any.
        f1: of the trained network; None where nobody has the label.
        f1_change: the conversion's F1 less that.
        f1_of_one_decision: how much one decision changes F1 at most.
        ece: expected calibration error of the trained network; None where nobody said anything.
        ece_change: the conversion's less that, on the same people.
        logit_shift: mean difference of the logit, with its sign.
        logit_error: root mean square difference of the logit, in standard deviations of the trained network's logit.
    """

    label: str
    known: int
    positives: int
    label_flips: int
    farthest_flip: float
    f1: float | None
    f1_change: float | None
    f1_of_one_decision: float
    ece: float | None
    ece_change: float | None
    logit_shift: float
    logit_error: float


def label_results(
    reference: Reference,
    answers: Answers,
    flips: NDArray[np.bool_],
    distance: NDArray[np.float32],
    decided: Sequence[Metrics],
) -> tuple[LabelResult, ...]:
    """The comparison label by label, in the trained network's order.

    Args:
        reference: the trained network and its answers.
        answers: the conversion's.
        flips: decisions that differ, bool (batch sizes, people, labels).
        distance: of the trained probabilities from their thresholds, (people, labels).
        decided: measures of the trained network's decisions, then of the conversion's at each batch size.
    """
    logits = [logit_differences(reference.probs, probs) for probs in answers.probs]
    results = []
    for index, label in enumerate(reference.trained.labels):
        truth = reference.truth[:, index]
        before, *after = (metrics.labels[label] for metrics in decided)
        ece = calibration_error(reference.probs[:, index], truth)
        eces = [calibration_error(probs[:, index], truth) for probs in answers.probs]
        is_flip = flips[:, :, index].any(axis=0)
        results.append(
            LabelResult(
                label=label,
                known=int((~np.isnan(truth)).sum()),
                positives=before.positives,
                label_flips=int(is_flip.sum()),
                farthest_flip=float(distance[is_flip, index].max(initial=0)),
                f1=before.f1,
                f1_change=largest_change([one.f1 for one in after], before.f1),
                f1_of_one_decision=f1_of_one_decision(before),
                ece=ece,
                ece_change=largest_change(eces, ece),
                logit_shift=max((float(shift[index]) for shift, _ in logits), key=abs),
                logit_error=max(float(error[index]) for _, error in logits),
            )
        )
    return tuple(results)


def logits_of_probs(probs: NDArray[np.float32]) -> NDArray[np.float64]:
    """The logits of probabilities, of any shape; cut off where probabilities no longer tell them apart.

    An answer that is not a number counts as probability 0.
    """
    clipped = np.clip(np.nan_to_num(probs.astype(np.float64)), _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    return np.asarray(np.log(clipped / (1 - clipped)))


def logit_differences(
    expected: NDArray[np.float32], found: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far logits are from the trained network's, label by label.

    Args:
        expected: probabilities of the trained network, (people, labels).
        found: those of a conversion, (people, labels).

    Returns:
        The mean difference, and the root mean square difference in standard deviations of the trained network's logit;
        (labels,) each.
    """
    right = logits_of_probs(expected)
    difference = logits_of_probs(found) - right
    spread = np.maximum(right.std(axis=0), _LEAST_SPREAD)
    return difference.mean(axis=0), np.sqrt(np.square(difference).mean(axis=0)) / spread


def f1_of_one_decision(before: LabelMetrics) -> float:
    """How much a single other decision changes a label's F1 at most; 0 where F1 is not defined.

    That is one of those found being missed; where nobody is found, one of those missed being found.
    """
    if before.f1 is None:
        return 0.0
    change = -1 if before.true_positives else 1
    found, missed = before.true_positives + change, before.false_negatives - change
    after = precision_recall_f1(found, before.false_positives, missed)[2]
    return abs((after or 0.0) - before.f1)


def calibration_error(probs: NDArray[np.float32], truth: NDArray[np.float64]) -> float | None:
    """Expected calibration error over the decisions whose truth is known; None without any.

    Args:
        probs: of any shape; an answer that is not a number counts as probability 0.
        truth: of the same shape: 1, 0, NaN for unknown.
    """
    is_known = ~np.isnan(truth)
    return expected_calibration_error(np.nan_to_num(probs[is_known].astype(np.float64)), truth[is_known] > 0.5)


def calibration_of(reference: Reference, probs: NDArray[np.float32]) -> Metrics:
    """Calibration errors of some answers on what people said, to a millionth: those of `CALIBRATION_MEASURES`.

    Args:
        reference: who was asked about.
        probs: (people, labels); an answer that is not a number counts as probability 0.

    Returns:
        `labels` (by label), `macro` (their means) and `micro` (all decisions together), as a run's metrics have them.
    """
    names = reference.trained.labels
    said = np.nan_to_num(probs.astype(np.float64))
    found = measure(said, reference.truth, names, reference.trained.thresholds)
    return Metrics(
        labels={
            name: LabelMetrics.model_validate(_calibration_measures(label)) for name, label in found.labels.items()
        },
        macro=Measures.model_validate(_calibration_measures(found.macro)),
        micro=Measures.model_validate(_calibration_measures(found.micro)),
    )


def _calibration_measures(values: Measures) -> dict[str, float | None]:
    # Smaller differences depend on the number of threads: meta.json says the same on every machine.
    found = {key: getattr(values, key) for key in CALIBRATION_MEASURES}
    return {key: None if value is None else round(value, 6) for key, value in found.items()}


def largest_change(found: Sequence[float | None], before: float | None) -> float | None:
    """The largest change in either direction; None where nothing is defined on both sides."""
    changes = [value - before for value in found if value is not None and before is not None]
    return max(changes, key=abs) if changes else None
