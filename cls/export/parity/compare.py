"""Proof that a package decides as the trained network does, on real people, from a picture's bytes to its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cls.export.parity.answers import BATCH_SIZES, Answers, answers_of
from cls.export.parity.diagnosis import diagnose
from cls.export.parity.labels import calibration_error, calibration_of, label_results, largest_change
from cls.export.parity.limits import (
    TIE_DISTANCE,
    answer_faults,
    f1_faults,
    label_faults,
    limit_faults,
    meta_faults,
    size_faults,
)
from cls.export.parity.report import BatchResult, ParityReport, WorstSample
from cls.export.parity.samples import ParitySample, Reference, reference_of
from cls.export.parity.sizes import size_results
from cls.metrics.multilabel import Metrics, measure
from cls.runtimes.classifier import Classifier
from cls.settings import PARITY_LIMITS, ParityLimits

_WORST_SHOWN = 12


def compare(
    trained: Classifier,
    converted: Classifier,
    samples: Sequence[ParitySample],
    *,
    precision: str = "fp32",
    limits: ParityLimits | None = None,
    truth: NDArray[np.float64] | None = None,
) -> ParityReport:
    """Compares decisions on people in photos.

    Each side cuts, resizes and normalises by its own preprocessing and decides by its own labels and thresholds, so
    that a wrong meta.json is found as well as a wrong network.

    Args:
        trained: the network as trained.
        converted: the conversion, opened as any user opens it.
        samples: at least one.
        precision: of the conversion's numbers: fp32, fp16 or int8.
        limits: what it is held to; the defaults of its precision when not given.
        truth: (samples, labels): 1, 0, NaN for unknown; the samples' own labels when not given.

    Raises:
        ParityError: the two do not even have the same labels, or the conversion cannot be run.
        ExportError: none of the photos can be read.
    """
    return compare_with(reference_of(trained, samples, truth), converted, precision=precision, limits=limits)


def compare_with(
    reference: Reference, converted: Classifier, *, precision: str = "fp32", limits: ParityLimits | None = None
) -> ParityReport:
    """Compares a conversion with what the trained network said; see `compare`."""
    limits = PARITY_LIMITS[precision] if limits is None else limits
    answers = answers_of(converted, reference)
    report = _measured(reference, converted, answers, precision, limits)
    if converted.is_end_to_end:
        sizes = size_results(converted, reference)
        report = replace(report, sizes=sizes, faults=(*report.faults, *size_faults(sizes, limits)))
    causes = diagnose(reference, converted, answers, is_suspect=bool(report.faults), limits=limits)
    if causes and not report.faults:
        report = replace(report, faults=("the answers are explained better by a mistake than by rounding",))
    return replace(report, causes=tuple(causes))


def _measured(
    reference: Reference, converted: Classifier, answers: Answers, precision: str, limits: ParityLimits
) -> ParityReport:
    """The numbers and the faults they are."""
    thresholds = np.array(reference.trained.thresholds, np.float32)
    # An answer that is no number is as far off as an answer can be.
    difference = np.where(answers.is_finite, np.abs(answers.probs - reference.probs[None]), np.float32(1))
    flips = (answers.probs >= answers.thresholds) != (reference.probs >= thresholds)[None]
    distance = np.abs(reference.probs - thresholds)
    truth, truth_name = _truth(reference, thresholds)
    before = _decided(reference, reference.probs, thresholds, truth)
    after = [_decided(reference, np.nan_to_num(probs), answers.thresholds, truth) for probs in answers.probs]
    batches = tuple(
        _at_batch(index, difference[index], np.where(flips[index], distance, np.float32(-1)), decided)
        for index, decided in enumerate(after)
    )
    labels = label_results(reference, answers, flips, distance, [before, *after])
    f1, ma = before.macro["f1"], before.macro["ma"]
    f1_change = largest_change([result.f1 for result in batches], f1)
    ece = calibration_error(reference.probs, reference.truth)
    eces = [calibration_error(probs, reference.truth) for probs in answers.probs]
    ece_change = largest_change(eces, ece)
    farthest = int(np.argmax([abs((after_all or 0) - (ece or 0)) for after_all in eces]))
    faults = meta_faults(reference, converted, answers)
    faults += answer_faults(reference, answers, limits)
    faults += limit_faults(batches, flips, distance, limits)
    faults += f1_faults(labels, f1_change, limits, truth_name)
    faults += label_faults(labels, limits, precision, truth_name)
    tie = TIE_DISTANCE if limits.flip_distance is None else limits.flip_distance
    worst = _worst_samples(reference, answers, difference, flips & (distance > tie)[None])
    return ParityReport(
        runtime=converted.runtime.description,
        precision=precision,
        samples=len(reference),
        part=reference.part,
        batch_sizes=BATCH_SIZES,
        max_probability_difference=float(difference.max()),
        mean_probability_difference=float(difference.mean()),
        p999_probability_difference=float(np.percentile(difference, 99.9)),
        decisions=reference.probs.size,
        label_flips=int(flips.any(axis=0).sum()),
        label_flips_beyond_limit=int((flips & (distance > tie)[None]).any(axis=0).sum()),
        limit=tie,
        not_a_number=int((~answers.is_finite).sum()),
        batch_difference=answers.batch_difference,
        neighbour_difference=answers.neighbour_difference,
        truth=truth_name,
        f1=f1,
        ma=ma,
        f1_change=f1_change,
        ma_change=largest_change([result.ma for result in batches], ma),
        ece=ece,
        ece_change=ece_change,
        calibration=calibration_of(reference, answers.probs[farthest]),
        labels=labels,
        by_batch=batches,
        worst=worst[0],
        worst_samples=worst,
        limits=limits,
        faults=tuple(faults),
    )


def _truth(reference: Reference, thresholds: NDArray[np.float32]) -> tuple[NDArray[np.float64], str]:
    """What F1 is measured on: people's labels; the trained network's own decisions where nobody said anything."""
    if not np.isnan(reference.truth).all():
        return reference.truth, "labels"
    return (reference.probs >= thresholds).astype(np.float64), "decisions of the trained network"


def _at_batch(
    index: int, difference: NDArray[np.float32], flip_distance: NDArray[np.float32], decided: Metrics
) -> BatchResult:
    """One batch size. flip_distance: (people, labels), -1 where the decision is the same."""
    return BatchResult(
        batch=BATCH_SIZES[index],
        max_probability_difference=float(difference.max()),
        mean_probability_difference=float(difference.mean()),
        p999_probability_difference=float(np.percentile(difference, 99.9)),
        label_flips=int((flip_distance >= 0).sum()),
        farthest_flip=max(float(flip_distance.max()), 0.0),
        f1=decided.macro["f1"],
        ma=decided.macro["ma"],
    )


def _decided(
    reference: Reference, probs: NDArray[np.float32], thresholds: NDArray[np.float32], truth: NDArray[np.float64]
) -> Metrics:
    """Measures of the decisions alone."""
    # In float32 as the decisions are made: a probability at its threshold stays there.
    decisions = (probs >= thresholds).astype(np.float64)
    return measure(decisions, truth, reference.trained.labels, [0.5] * len(thresholds))


def _worst_samples(
    reference: Reference, answers: Answers, difference: NDArray[np.float32], beyond: NDArray[np.bool_]
) -> tuple[WorstSample, ...]:
    """The people with the largest difference, each at the label and batch size where it is; worst first."""
    # A flip counts for more than any difference: the worst sample is a flip where there is one.
    badness = difference + 2 * beyond
    by_person = badness.max(axis=(0, 2))
    worst = []
    for person in np.argsort(-by_person, kind="stable")[:_WORST_SHOWN].tolist():
        batch, label = np.unravel_index(int(np.argmax(badness[:, person])), badness[:, person].shape)
        found = float(answers.probs[batch, person, label])
        worst.append(
            WorstSample(
                picture=reference.pictures[person],
                label=reference.trained.labels[label],
                batch=BATCH_SIZES[batch],
                expected=float(reference.probs[person, label]),
                found=found if np.isfinite(found) else None,
                threshold=float(reference.trained.thresholds[label]),
                crop_rgb=reference.crops_rgb[person],
            )
        )
    return tuple(worst)
