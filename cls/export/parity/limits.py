"""Why a conversion is refused: what it may not do at all, and the configuration's limits by precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cls.export.parity.answers import Answers
from cls.export.parity.labels import LabelResult
from cls.export.parity.report import BatchResult
from cls.export.parity.samples import Reference
from cls.export.parity.sizes import SizeResult
from cls.runtimes.classifier import Classifier
from cls.settings import ParityLimits
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


def meta_faults(reference: Reference, converted: Classifier, answers: Answers) -> list[str]:
    """What the conversion's meta.json says otherwise than the run."""
    trained, faults = reference.trained, []
    if (trained.group, trained.name) != (converted.group, converted.name):
        faults.append(
            f"the meta.json is of another model: it says group '{converted.group}', run {converted.name}, and this is"
            f" group '{trained.group}', run {trained.name}"
        )
    changed = [
        f"{label} {there:.6g} instead of {here:.6g}"
        for label, here, there in zip(trained.labels, trained.thresholds, answers.thresholds.tolist(), strict=True)
        if abs(here - there) > 1e-6
    ]
    if changed:
        faults.append(f"the thresholds are not those of the run: {_some(changed)}")
    ours, theirs = trained.preprocessing.to_dict(), converted.preprocessing.to_dict()
    keys = {**ours, **theirs}
    changed = [
        f"{key} {theirs.get(key)} instead of {ours.get(key)}" for key in keys if ours.get(key) != theirs.get(key)
    ]
    if changed:
        faults.append(f"the preprocessing is not that of the run: {_some(changed)}")
    return faults


def answer_faults(reference: Reference, answers: Answers, limits: ParityLimits) -> list[str]:
    """What no conversion may do, whatever its precision: answers that depend on others, are no numbers, or constant."""
    faults = []
    wrong = ~answers.is_finite
    if wrong.any():
        people = int(wrong.any(axis=(0, 2)).sum())
        faults.append(f"answers are infinite or not a number for {people} of {counted(len(reference), 'person')}")
    neighbours, batch = answers.neighbour_difference, answers.batch_difference
    if limits.batch is not None and neighbours > limits.batch:
        faults.append(
            f"a probability depends on the other people in the batch, by up to {_shown(neighbours, limits.batch)}"
            f" (limit {limits.batch:g})"
        )
    elif limits.batch is not None and batch > limits.batch:
        faults.append(
            f"a probability depends on the batch size, by up to {_shown(batch, limits.batch)} (limit {limits.batch:g})"
        )
    constant = _constant_labels(reference, answers)
    if constant:
        faults.append(f"the conversion gives everyone the same probability of {', '.join(constant)}")
    return faults


def limit_faults(
    batches: Sequence[BatchResult],
    flips: NDArray[np.bool_],
    distance: NDArray[np.float32],
    limits: ParityLimits,
) -> list[str]:
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
                f"{int(beyond.sum())} of {beyond.size} decisions differ further than {limits.flip_distance:g} from a"
                " threshold"
            )
    largest = max(result.max_probability_difference for result in batches)
    if limits.probability is not None and largest > limits.probability:
        faults.append(
            f"probabilities differ by up to {_shown(largest, limits.probability)} (limit {limits.probability:g})"
        )
    return faults


def f1_faults(labels: Sequence[LabelResult], f1_change: float | None, limits: ParityLimits, truth: str) -> list[str]:
    """Where the mean of F1 over the labels changes by more than its limit.

    Args:
        labels: the results by label.
        f1_change: of the mean, as the report has it.
        limits: of the precision.
        truth: what F1 is measured on.
    """
    if limits.f1 is None or f1_change is None or abs(f1_change) <= limits.f1:
        return []
    differ = counted(sum(one.label_flips for one in labels), "decision")
    return [f"F1 on the {truth} changes by {difference(f1_change, 4)} for {differ} (limit {limits.f1:g})"]


def label_faults(labels: Sequence[LabelResult], limits: ParityLimits, precision: str, truth: str) -> list[str]:
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
        faults.append(_of_labels(what, changes, _f1_limit(limit or 0, decisions)))
    limit = limits.label_ece
    changes = {} if limit is None else {one.label: _ece_beyond(one, limit) for one in labels}
    if any(changes.values()):
        faults.append(_of_labels("the calibration error changes", changes, f"{limit:g}"))
    limit = limits.logit_shift
    changes = {} if limit is None else {one.label: _beyond(one.logit_shift, limit, "+") for one in labels}
    if any(changes.values()):
        faults.append(_of_labels("logits are shifted on average", changes, f"{limit:g}"))
    limit = limits.logit_error
    changes = {} if limit is None else {one.label: _beyond(one.logit_error, limit) for one in labels}
    if any(changes.values()):
        faults.append(_of_labels("logits differ, in their standard deviations", changes, f"{limit:g}"))
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


def size_faults(sizes: Sequence[SizeResult], limits: ParityLimits) -> list[str]:
    """Where an end-to-end model answers otherwise about cut-outs that it resizes by itself."""
    if limits.own_size is None:
        return []
    return [
        f"on cut-outs {one.kind} resizing inside the model changes logits by"
        f" {_shown(one.resize_error, limits.own_size)} of their standard deviation (limit {limits.own_size:g})"
        for one in sizes
        if one.resize_error > limits.own_size
    ]


def _constant_labels(reference: Reference, answers: Answers) -> list[str]:
    """Labels that everyone gets the same probability of, where the trained network tells people apart."""
    probs = reference.probs.astype(np.float64)
    is_told_apart = np.ptp(probs, axis=0) > _ROUNDING * np.minimum(probs.max(axis=0), 1 - probs.min(axis=0))
    is_constant = (np.ptp(answers.probs, axis=1) == 0).all(axis=0)
    flagged = is_constant & is_told_apart
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
