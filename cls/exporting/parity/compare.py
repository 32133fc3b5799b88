"""Proof that a package decides as the trained network does, on real people, from a picture's bytes to its labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cls.errors import ParityFault
from cls.exporting.parity.diagnosis import diagnose
from cls.exporting.parity.report import BatchResult, ParityReport, WorstSample
from cls.exporting.parity.results import (
    LabelResult,
    SizeResult,
    calibration_error,
    calibration_of,
    label_results,
    largest_change,
    size_results,
)
from cls.exporting.parity.samples import BATCH_SIZES, Answers, Reference, answers_of
from cls.metrics.multilabel import measure
from cls.metrics.scores import Metrics
from cls.runtimes.classifier import Classifier
from cls.settings import PARITY_LIMITS, ParityLimits
from cls.wording import counted, difference

# A decision this near its threshold is a tie: rounding makes it, not the conversion.
TIE_DISTANCE = 1e-3
# With few people one decision is a large part of F1: rounding may change so many of one label's, whatever they
# are worth. The mean over the labels is held to its limit.
_LABEL_DECISIONS = {"fp32": 0, "fp16": 2, "int8": 2}
# Likewise of the calibration error: one person moves it by about one by the number of people.
_PEOPLE_ALLOWED = 2
# Rounding in 32 bits spreads answers that are the same for everyone by less than this share of their odds.
_ROUNDING = 1e-5

_WORST_SHOWN = 12


def meta_faults(reference: Reference, converted: Classifier, answers: Answers) -> list[ParityFault]:
    """What the conversion's meta.json says otherwise than the run."""
    trained, faults = reference.trained, list[ParityFault]()
    if (trained.group, trained.name) != (converted.group, converted.name):
        faults.append(
            ParityFault(
                f"the meta.json is of another model: it says group '{converted.group}', run {converted.name}, and this"
                f" is group '{trained.group}', run {trained.name}",
                code="other_model",
            )
        )
    changed = [
        f"{label} {there:.6g} instead of {here:.6g}"
        for label, here, there in zip(trained.labels, trained.thresholds, answers.thresholds.tolist(), strict=True)
        if abs(here - there) > 1e-6
    ]
    if changed:
        what = f"the thresholds are not those of the run: {_some(changed)}"
        faults.append(ParityFault(what, code="threshold_mismatch"))
    ours, theirs = trained.preprocessing.to_dict(), converted.preprocessing.to_dict()
    keys = {**ours, **theirs}
    changed = [
        f"{key} {theirs.get(key)} instead of {ours.get(key)}" for key in keys if ours.get(key) != theirs.get(key)
    ]
    if changed:
        what = f"the preprocessing is not that of the run: {_some(changed)}"
        faults.append(ParityFault(what, code="preprocessing_mismatch"))
    return faults


def answer_faults(reference: Reference, answers: Answers, limits: ParityLimits) -> list[ParityFault]:
    """What no conversion may do, whatever its precision: answers that depend on others, are no numbers, or constant."""
    faults = []
    wrong = ~answers.is_finite
    if wrong.any():
        people = int(wrong.any(axis=(0, 2)).sum())
        what = f"answers are infinite or not a number for {people} of {counted(len(reference), 'person')}"
        faults.append(ParityFault(what, code="output_not_finite"))
    neighbours, batch = answers.neighbour_difference, answers.batch_difference
    if limits.batch is not None and neighbours > limits.batch:
        faults.append(
            ParityFault(
                f"a probability depends on the other people in the batch, by up to {_shown(neighbours, limits.batch)}"
                f" (limit {limits.batch:g})",
                code="depends_on_batch",
            )
        )
    elif limits.batch is not None and batch > limits.batch:
        faults.append(
            ParityFault(
                f"a probability depends on the batch size, by up to {_shown(batch, limits.batch)}"
                f" (limit {limits.batch:g})",
                code="depends_on_batch_size",
            )
        )
    constant = _constant_labels(reference, answers)
    if constant:
        what = f"the conversion gives everyone the same probability of {', '.join(constant)}"
        faults.append(ParityFault(what, code="constant_output"))
    return faults


def limit_faults(
    batches: Sequence[BatchResult],
    flips: NDArray[np.bool_],
    distance: NDArray[np.float32],
    limits: ParityLimits,
) -> list[ParityFault]:
    """Where the conversion is beyond the limits of decisions and probabilities.

    Args:
        batches: the results by batch size.
        flips: decisions that differ, bool (batch sizes, people, labels).
        distance: of the trained probabilities from their thresholds, (people, labels).
        limits: of the precision.
    """
    faults = []
    if limits.flip_distance is not None:
        beyond = flips.any(axis=0) & (distance > limits.flip_distance)
        if beyond.any():
            faults.append(
                ParityFault(
                    f"{int(beyond.sum())} of {beyond.size} decisions differ further than {limits.flip_distance:g} from"
                    " a threshold",
                    code="decisions_differ",
                )
            )
    largest = max(result.max_probability_difference for result in batches)
    if limits.probability is not None and largest > limits.probability:
        what = f"probabilities differ by up to {_shown(largest, limits.probability)} (limit {limits.probability:g})"
        faults.append(ParityFault(what, code="probabilities_differ"))
    return faults


def f1_faults(
    labels: Sequence[LabelResult], f1_change: float | None, limits: ParityLimits, truth: str
) -> list[ParityFault]:
    """Where the mean of F1 over the labels changes by more than its limit."""
    if limits.f1 is None or f1_change is None or abs(f1_change) <= limits.f1:
        return []
    differ = counted(sum(one.label_flips for one in labels), "decision")
    what = f"F1 on the {truth} changes by {difference(f1_change, 4)} for {differ} (limit {limits.f1:g})"
    return [ParityFault(what, code="f1_changed")]


def label_faults(labels: Sequence[LabelResult], limits: ParityLimits, precision: str, truth: str) -> list[ParityFault]:
    """Where the conversion is beyond a limit for one label; each line names the labels.

    Args:
        labels: the results by label.
        limits: of the precision.
        precision: of the conversion's numbers: fp32, fp16 or int8.
        truth: what F1 is measured on.
    """
    faults = []
    limit, decisions = limits.label_f1, _LABEL_DECISIONS[precision]
    changes = {} if limit is None else {one.label: _f1_beyond(one, limit, decisions) for one in labels}
    if any(changes.values()):
        what = f"F1 of single labels on the {truth} changes"
        what = _of_labels(what, changes, _f1_limit(limit or 0, decisions))
        faults.append(ParityFault(what, code="label_f1_changed"))
    limit = limits.label_ece
    changes = {} if limit is None else {one.label: _ece_beyond(one, limit) for one in labels}
    if any(changes.values()):
        what = _of_labels("the calibration error changes", changes, f"{limit:g}")
        faults.append(ParityFault(what, code="calibration_changed"))
    limit = limits.logit_shift
    changes = {} if limit is None else {one.label: _beyond(one.logit_shift, limit, "+") for one in labels}
    if any(changes.values()):
        what = _of_labels("logits are shifted on average", changes, f"{limit:g}")
        faults.append(ParityFault(what, code="logits_shifted"))
    limit = limits.logit_error
    changes = {} if limit is None else {one.label: _beyond(one.logit_error, limit) for one in labels}
    if any(changes.values()):
        what = _of_labels("logits differ, in their standard deviations", changes, f"{limit:g}")
        faults.append(ParityFault(what, code="logits_differ"))
    return faults


def _f1_limit(limit: float, decisions: int) -> str:
    return f"{limit:g}" + (f", or what {counted(decisions, 'decision')} may be worth" if decisions else "")


def _f1_beyond(one: LabelResult, limit: float, decisions: int) -> str:
    """The change of a label's F1 in words where it is beyond the limit; empty where it is not."""
    allowed = max(limit, decisions * one.f1_of_one_decision)
    if one.f1_change is None or abs(one.f1_change) <= allowed:
        return ""
    return f"{difference(one.f1_change, 4)} ({counted(one.label_flips, 'decision')})"


def _ece_beyond(one: LabelResult, limit: float) -> str:
    """Likewise, of its calibration error."""
    if one.ece_change is None or abs(one.ece_change) <= max(limit, _PEOPLE_ALLOWED / one.known):
        return ""
    return difference(one.ece_change, 4)


def _beyond(value: float, limit: float, sign: str = "") -> str:
    return f"{value:{sign}.3g}" if abs(value) > limit else ""


def _of_labels(what: str, changes: Mapping[str, str], limit: str) -> str:
    beyond = [f"'{label}' by {change}" for label, change in changes.items() if change]
    return f"{what}: {_some(beyond)} (limit {limit})"


def size_faults(sizes: Sequence[SizeResult], limits: ParityLimits) -> list[ParityFault]:
    """Where an end-to-end model answers otherwise about cut-outs that it resizes by itself."""
    if limits.own_size is None:
        return []
    return [
        ParityFault(
            f"on cut-outs {one.kind} resizing inside the model changes logits by"
            f" {_shown(one.resize_error, limits.own_size)} of their standard deviation (limit {limits.own_size:g})",
            code="resizing_changes_logits",
        )
        for one in sizes
        if one.resize_error > limits.own_size
    ]


def _constant_labels(reference: Reference, answers: Answers) -> list[str]:
    """Labels that everyone gets the same probability of, where the trained network tells people apart."""
    probs = reference.probs.astype(np.float64)
    is_distinguished = np.ptp(probs, axis=0) > _ROUNDING * np.minimum(probs.max(axis=0), 1 - probs.min(axis=0))
    is_constant = (np.ptp(answers.probs, axis=1) == 0).all(axis=0)
    flagged = is_constant & is_distinguished
    return [label for label, flag in zip(reference.trained.labels, flagged.tolist(), strict=True) if flag]


def _shown(value: float, limit: float) -> str:
    """A number beyond a limit, with as many digits as show that it is."""
    for digits in range(3, 9):
        text = f"{value:.{digits}g}"
        if float(text) > float(f"{limit:g}"):
            return text
    return f"{value:.9g}"


def _some(changes: Sequence[str], most: int = 4) -> str:
    return ", ".join(changes[:most]) + (f" and {len(changes) - most} more" if len(changes) > most else "")


def compare_with(
    reference: Reference, converted: Classifier, *, precision: str = "fp32", limits: ParityLimits | None = None
) -> ParityReport:
    """Compares decisions on people in photos with those of the trained network.

    Each side cuts, resizes and normalises by its own preprocessing and decides by its own labels and thresholds, so
    that a wrong meta.json is found as well as a wrong network.

    Args:
        reference: the people, and the trained network's answers.
        converted: the conversion, opened as any user opens it.
        precision: of the conversion's numbers: fp32, fp16 or int8.
        limits: what it is held to; the defaults of its precision when not given.

    Raises:
        ParityError: the two do not even have the same labels, or the conversion cannot be run.
        ExportError: none of the photos can be read.
    """
    limits = PARITY_LIMITS[precision] if limits is None else limits
    answers = answers_of(converted, reference)
    report = _measured(reference, converted, answers, precision, limits)
    if converted.is_end_to_end:
        sizes = size_results(converted, reference)
        report = replace(report, sizes=sizes, faults=(*report.faults, *size_faults(sizes, limits)))
    causes = diagnose(reference, converted, answers, is_suspect=bool(report.faults), limits=limits)
    if causes and not report.faults:
        what = "the answers are explained better by a mistake than by rounding"
        report = replace(report, faults=(ParityFault(what, code="explained_by_mistake"),))
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
    f1, ma = before.macro.f1, before.macro.ma
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
    """What F1 is measured on: the annotations; the trained network's own decisions where there are none."""
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
        f1=decided.macro.f1,
        ma=decided.macro.ma,
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
