"""Every number and every limit of the parity check, on answers small enough to calculate by hand."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from cls.errors import ParityError, ParityFault, PredictionError
from cls.exporting.parity.compare import (
    answer_faults,
    compare_with,
    f1_faults,
    label_faults,
    limit_faults,
    meta_faults,
    size_faults,
)
from cls.exporting.parity.page import _size
from cls.exporting.parity.report import BatchResult, ParityFile, _rounded_up
from cls.exporting.parity.results import (
    LabelResult,
    SizeResult,
    calibration_error,
    calibration_of,
    f1_of_one_decision,
    largest_change,
    logit_differences,
    logits_of_probs,
)
from cls.exporting.parity.samples import BATCH_SIZES, Answers, answers_of
from cls.metrics.scores import LabelMetrics
from cls.settings import ParityLimits
from tests.exporting.tables import NAMES, PIXEL, Table, classifier, reference

NONE = ParityLimits()
PROBS = np.array([[0.9, 0.2], [0.6, 0.52], [0.1, 0.8]])
TRUTH = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])


def changed(values: np.ndarray, *changes: tuple[int, int, float]) -> np.ndarray:
    found = values.copy()
    for person, label, value in changes:
        found[person, label] = value
    return found


def answers(probs: Sequence[np.ndarray], *, alone: Sequence[int] = (0,), beside: np.ndarray | None = None) -> Answers:
    stacked = np.asarray(np.stack(probs), np.float32)
    here = stacked[1, list(alone)]
    copies = np.repeat(here[:, None], 7, axis=1) if beside is None else np.asarray(beside, np.float32)
    return Answers(stacked, np.full(stacked.shape[2], 0.5, np.float32), np.array(alone), copies)


def told(faults: Sequence[ParityFault]) -> list[tuple[str, list[object]]]:
    """The case of each fault, and the names in quotes and numbers it gives, in their order."""
    values = re.compile(r"'(\w+)'|([-+]?\b\d+(?:\.\d+)?)\b|v__(\d+)")
    return [
        (
            fault.code.removeprefix("parity."),
            [name or float(number or run) for name, number, run in values.findall(fault)],
        )
        for fault in faults
    ]


def test_everybody_is_asked_at_every_batch_size_beside_others_and_alone() -> None:
    assert BATCH_SIZES == (1, 7, 64)
    table = Table(PROBS)
    found = answers_of(classifier(table), reference(PROBS))
    alone = [[person] * 7 for person in range(3)]
    assert table.asked == [[0], [1], [2], [0, 1, 2, 0, 1, 2, 0], [person % 3 for person in range(64)], *alone]
    np.testing.assert_allclose(found.probs, np.stack([PROBS] * 3), atol=1e-6)
    np.testing.assert_allclose(found.beside_itself, np.repeat(PROBS[:, None], 7, axis=1), atol=1e-6)
    assert found.alone.tolist() == [0, 1, 2]
    assert found.thresholds.tolist() == [0.5, 0.5]


def test_at_most_24_people_are_asked_about_alone() -> None:
    probs = np.linspace(0.1, 0.9, 60)[:, None].repeat(2, axis=1)
    found = answers_of(classifier(Table(probs)), reference(probs))
    assert len(found.alone) == 24
    assert (found.alone[0], found.alone[-1]) == (0, 59)
    np.testing.assert_allclose(found.probs, np.stack([probs] * 3), atol=1e-6)


def test_answers_come_in_the_trained_order_with_their_thresholds() -> None:
    turned = classifier(Table(PROBS[:, ::-1]), names=NAMES[::-1], thresholds=(0.3, 0.7))
    found = answers_of(turned, reference(PROBS))
    np.testing.assert_allclose(found.probs[0], PROBS, atol=1e-6)
    np.testing.assert_allclose(found.beside_itself[2, 0], PROBS[2], atol=1e-6)
    np.testing.assert_allclose(found.thresholds, [0.7, 0.3])


def test_a_conversion_of_other_labels_is_refused_at_once() -> None:
    with pytest.raises(ParityError) as caught:
        answers_of(classifier(Table(PROBS), names=("hat", "tie")), reference(PROBS))
    assert caught.value.code == "parity.label_mismatch"
    assert "hat, tie" in caught.value.what
    assert "hat, cap" in caught.value.what


def test_a_conversion_that_does_not_answer_is_refused_with_its_own_case() -> None:
    class Fixed(Table):
        def logits(self, images: np.ndarray) -> np.ndarray:
            if len(images) > 1:
                raise PredictionError("one person at a time", code="wrong_input_shape", where="there")
            return super().logits(images)

    with pytest.raises(ParityError) as caught:
        answers_of(classifier(Fixed(PROBS)), reference(PROBS))
    assert (caught.value.code, caught.value.where) == ("parity.wrong_input_shape", "there")
    assert "batch 7" in caught.value.what


def test_what_the_batch_changes() -> None:
    same = answers([PROBS, PROBS, PROBS])
    assert (same.batch_difference, same.neighbour_difference) == (0, 0)
    sizes = answers([PROBS, changed(PROBS, (2, 0, 0.4)), changed(PROBS, (2, 0, 0.05))])
    assert sizes.batch_difference == pytest.approx(0.35)
    assert sizes.neighbour_difference == 0
    beside = np.repeat(PROBS[[0, 2]][:, None], 7, axis=1)
    beside[1, 3, 1] = 0.5
    alone = answers([PROBS, PROBS, PROBS], alone=(0, 2), beside=beside)
    assert alone.neighbour_difference == pytest.approx(0.3)
    assert alone.batch_difference == pytest.approx(0.3)
    # An answer that is no number counts as 0 here; that it is none is a fault of its own.
    missing = answers([PROBS, changed(PROBS, (0, 0, np.nan)), PROBS])
    assert missing.is_finite.sum() == 17
    assert missing.batch_difference == pytest.approx(0.9)


def compared(*, at_batch: dict[int, np.ndarray], probs: np.ndarray = PROBS, truth: np.ndarray | None = TRUTH):  # type: ignore[no-untyped-def]
    return compare_with(reference(probs, truth), classifier(Table(probs, at_batch)), limits=NONE, precision="int8")


def test_differences_are_over_all_people_labels_and_batch_sizes() -> None:
    report = compared(at_batch={7: changed(PROBS, (0, 0, 0.8)), 64: changed(PROBS, (2, 1, 0.98), (1, 0, 0.63))})
    assert report.max_probability_difference == pytest.approx(0.18, abs=1e-6)
    assert report.mean_probability_difference == pytest.approx((0.1 + 0.18 + 0.03) / 18, abs=1e-6)
    assert [one.max_probability_difference for one in report.by_batch] == pytest.approx([0, 0.1, 0.18], abs=1e-6)
    assert [one.mean_probability_difference for one in report.by_batch] == pytest.approx(
        [0, 0.1 / 6, 0.21 / 6], abs=1e-6
    )
    assert [one.batch for one in report.by_batch] == [1, 7, 64]
    assert (report.samples, report.decisions, report.label_flips, report.not_a_number) == (3, 6, 0, 0)
    assert report.batch_difference == pytest.approx(0.18, abs=1e-6)
    assert (report.worst.picture, report.worst.label, report.worst.batch) == ("2.jpeg", "cap", 64)
    assert (report.worst.expected, report.worst.found) == pytest.approx((0.8, 0.98), abs=1e-6)
    assert [one.picture for one in report.worst_samples] == ["2.jpeg", "0.jpeg", "1.jpeg"]


def test_the_percentile_is_the_999_permille() -> None:
    probs = np.full((200, 2), 0.4)
    other = changed(probs, (0, 0, 0.5), (1, 0, 0.45), (2, 0, 0.42))
    differences = np.zeros(1200)
    differences[:9] = [0.1] * 3 + [0.05] * 3 + [0.02] * 3
    report = compare_with(reference(probs), classifier(Table(other), thresholds=(0.9, 0.9)), limits=NONE)
    assert report.p999_probability_difference == pytest.approx(float(np.percentile(differences, 99.9)), abs=1e-6)
    assert report.p999_probability_difference > 0.05
    expected = float(np.percentile(differences[:400:1] * 0 + np.r_[0.1, 0.05, 0.02, np.zeros(397)], 99.9))
    assert report.by_batch[0].p999_probability_difference == pytest.approx(expected, abs=1e-6)


def test_an_answer_that_is_no_number_is_as_far_off_as_can_be() -> None:
    report = compared(at_batch={7: changed(PROBS, (2, 0, np.nan))})
    assert report.max_probability_difference == 1
    assert report.mean_probability_difference == pytest.approx(1 / 18, abs=1e-6)
    assert report.not_a_number == 1
    assert told(report.faults) == [("output_not_finite", [1, 3])]
    assert (report.worst.picture, report.worst.label, report.worst.batch, report.worst.found) == (
        "2.jpeg",
        "hat",
        7,
        None,
    )
    json.dumps(ParityFile(run="v__0", formats={"onnx": report}).to_json_values(), allow_nan=False)


def test_a_decision_that_differs_at_one_batch_size_differs() -> None:
    report = compared(at_batch={7: changed(PROBS, (1, 0, 0.4)), 64: changed(PROBS, (1, 0, 0.45), (1, 1, 0.49))})
    assert report.label_flips == 2
    assert [one.label_flips for one in report.by_batch] == [0, 1, 2]
    assert [one.farthest_flip for one in report.by_batch] == pytest.approx([0, 0.1, 0.1], abs=1e-6)
    assert report.limit == 1e-3
    assert report.label_flips_beyond_limit == 2
    assert [(one.label, one.label_flips) for one in report.labels] == [("hat", 1), ("cap", 1)]
    assert [one.farthest_flip for one in report.labels] == pytest.approx([0.1, 0.02], abs=1e-6)
    # A flip counts for more than any difference.
    assert (report.worst.picture, report.worst.label, report.worst.batch) == ("1.jpeg", "hat", 7)
    held = compare_with(
        reference(PROBS, TRUTH),
        classifier(Table(PROBS, {7: changed(PROBS, (1, 0, 0.4)), 64: changed(PROBS, (1, 1, 0.49))})),
        limits=replace(NONE, flip_distance=0.05),
    )
    assert (held.limit, held.label_flips, held.label_flips_beyond_limit) == (0.05, 2, 1)
    assert told(held.faults) == [("decisions_differ", [1, 6, 0.05])]


def test_a_flip_within_the_limit_counts_no_more_than_its_difference() -> None:
    other = changed(PROBS, (1, 1, 0.49), (2, 0, 0.2), (0, 0, 0.4))
    for distance, pictures in ((0.05, ["0.jpeg", "2.jpeg", "1.jpeg"]), (0.01, ["0.jpeg", "1.jpeg", "2.jpeg"])):
        report = compare_with(
            reference(PROBS, TRUTH), classifier(Table(other)), limits=replace(NONE, flip_distance=distance)
        )
        assert [one.picture for one in report.worst_samples] == pictures


def test_a_flip_at_the_limit_is_within_it() -> None:
    probs, other = np.array([[0.75, 0.2], [0.9, 0.2]]), np.array([[0.45, 0.2], [0.52, 0.2]])
    people = replace(reference(probs), probs=np.float32(probs))
    report = compare_with(people, classifier(Table(other)), limits=replace(NONE, flip_distance=0.25))
    assert (report.label_flips, report.label_flips_beyond_limit) == (1, 0)
    assert [one.picture for one in report.worst_samples] == ["1.jpeg", "0.jpeg"]


def test_a_flip_from_below_the_threshold_is_as_far() -> None:
    other = changed(PROBS, (2, 0, 0.7))
    report = compare_with(reference(PROBS), classifier(Table(other)), limits=replace(NONE, flip_distance=0.3))
    assert report.label_flips_beyond_limit == 1
    assert report.by_batch[0].farthest_flip == pytest.approx(0.4)
    assert report.labels[0].farthest_flip == pytest.approx(0.4)
    assert told(report.faults)[0] == ("decisions_differ", [1, 6, 0.3])


def test_calibration_is_that_of_the_batch_size_with_the_largest_change_either_way() -> None:
    better = np.where(TRUTH > 0, 0.99, 0.01)
    report = compared(at_batch={7: better, 64: changed(PROBS, (0, 0, 0.85))})
    assert report.ece_change is not None
    assert report.ece_change < 0
    assert report.calibration.labels["hat"].ece == pytest.approx(0.01, abs=1e-6)


def test_every_kind_of_limit_is_looked_at() -> None:
    other = changed(PROBS, (1, 0, 0.4))

    def faults(**limits: float) -> list[str]:
        held = replace(NONE, **limits)
        report = compare_with(reference(PROBS, TRUTH), classifier(Table(other, {7: PROBS})), limits=held)
        return [fault.code for fault in report.faults if fault.code != "parity.explained_by_mistake"]

    assert faults() == []
    assert faults(flip_distance=0.05) == ["parity.decisions_differ"]
    assert faults(probability=0.1) == ["parity.probabilities_differ"]
    assert faults(f1=0.01) == ["parity.f1_changed"]
    assert faults(batch=0.1) == ["parity.depends_on_batch_size"]
    assert faults(label_f1=0.01) == ["parity.label_f1_changed"]
    assert faults(logit_shift=0.1) == ["parity.logits_shifted"]
    assert faults(logit_error=0.1) == ["parity.logits_differ"]
    many = np.repeat(PROBS, 20, axis=0)
    lower = np.repeat(changed(PROBS, (0, 0, 0.6), (1, 0, 0.51)), 20, axis=0)
    people = reference(many, np.repeat(TRUTH, 20, axis=0))
    report = compare_with(people, classifier(Table(lower)), limits=replace(NONE, label_ece=0.05))
    assert told(report.faults) == [("calibration_changed", ["hat", 0.13, 0.05])]


def test_a_probability_at_the_threshold_is_chosen_on_both_sides() -> None:
    probs = np.array([[0.5, 0.2], [0.4, 0.7]])
    report = compare_with(reference(probs), classifier(Table(probs)), limits=NONE)
    assert (report.label_flips, report.f1) == (0, 1.0)
    assert report.truth == "decisions of the trained network"
    assert report.ece is None
    assert report.labels[0].positives == 1


def test_f1_ma_and_their_changes() -> None:
    report = compared(at_batch={64: changed(PROBS, (1, 0, 0.4))})
    # cap: one false positive beside one found: F1 2/3, mA (1 + 1/2) / 2. hat: all right, then one of two missed.
    assert report.truth == "labels"
    assert report.f1 == pytest.approx((1 + 2 / 3) / 2)
    assert report.ma == pytest.approx((1 + 0.75) / 2)
    assert report.f1_change == pytest.approx((2 / 3 - 1) / 2)
    assert report.ma_change == pytest.approx((0.75 - 1) / 2)
    assert [one.f1 for one in report.by_batch] == pytest.approx([5 / 6, 5 / 6, 2 / 3])
    assert [one.ma for one in report.by_batch] == pytest.approx([0.875, 0.875, 0.75])
    hat, cap = report.labels
    assert (hat.f1, hat.f1_change, hat.positives, hat.known) == (1, pytest.approx(-1 / 3), 2, 3)
    assert (cap.f1, cap.f1_change, cap.positives) == (pytest.approx(2 / 3), 0, 1)
    assert hat.f1_of_one_decision == pytest.approx(1 / 3)
    assert cap.f1_of_one_decision == pytest.approx(2 / 3)


def test_logits_and_calibration_by_label() -> None:
    lower = 1 / (1 + np.exp(-(np.log(PROBS / (1 - PROBS)) - [1.0, 0.0])))
    report = compared(at_batch={7: lower})
    hat, cap = report.labels
    assert hat.logit_shift == pytest.approx(-1, abs=1e-5)
    spread = np.log(PROBS / (1 - PROBS)).std(axis=0)
    assert hat.logit_error == pytest.approx(1 / spread[0], abs=1e-5)
    assert (cap.logit_shift, cap.logit_error) == pytest.approx((0, 0), abs=1e-5)
    # One person a bin: the error is the mean distance of probability and truth.
    before, after = np.abs(PROBS - TRUTH).mean(axis=0), np.abs(lower - TRUTH).mean(axis=0)
    assert hat.ece == pytest.approx(before[0], abs=1e-6)
    assert hat.ece_change == pytest.approx(after[0] - before[0], abs=1e-6)
    assert cap.ece_change == pytest.approx(0, abs=1e-6)
    assert report.ece == pytest.approx(calibration_error(np.float32(PROBS), TRUTH))
    assert report.ece_change == pytest.approx(calibration_error(np.float32(lower), TRUTH) - report.ece, abs=1e-6)
    assert report.calibration.labels["hat"].ece == pytest.approx(after[0], abs=1e-5)
    meta = report.to_meta()
    assert meta.ece == pytest.approx(report.ece + report.ece_change, abs=1e-6)
    assert meta.labels["hat"].ece == pytest.approx(after[0], abs=1e-5)
    assert meta.labels["hat"].logit_shift == -1.0
    assert meta.labels["hat"].logit_error == round(hat.logit_error, 4)
    assert meta.labels["cap"].f1_change == 0


def test_logits_are_cut_off_where_probabilities_do_not_tell_them_apart() -> None:
    edge = np.log(1e-4 / (1 - 1e-4))
    given = np.array([0, 1e-4, 0.5, 0.75, 1 - 1e-4, 1, np.nan], np.float32)
    np.testing.assert_allclose(
        logits_of_probs(given), [edge, edge, 0, np.log(3), -edge, -edge, edge], rtol=1e-3, atol=1e-9
    )


def test_logit_differences_are_in_standard_deviations() -> None:
    logits = np.array([[-2.0, 0.1], [2.0, -0.1]])
    found = logits + np.array([[0.5, 0.1], [-0.1, 0.1]])
    shift, error = logit_differences(*(np.float32(1 / (1 + np.exp(-values))) for values in (logits, found)))
    np.testing.assert_allclose(shift, [0.2, 0.1], atol=1e-5)
    # The second label tells people apart by less than half a logit: half a logit is its unit.
    np.testing.assert_allclose(error, [np.sqrt((0.25 + 0.01) / 2) / 2, 0.1 / 0.5], atol=1e-5)


def counts(found: int, wrong: int, missed: int) -> LabelMetrics:
    f1 = 2 * found / (2 * found + wrong + missed) if found + missed else None
    return LabelMetrics(f1=f1, true_positives=found, false_positives=wrong, false_negatives=missed)


@pytest.mark.parametrize(
    ("before", "worth"),
    [
        ((2, 0, 0), 1 / 3),  # one of two missed
        ((0, 0, 2), 2 / 3),  # one of two found
        ((1, 1, 0), 2 / 3),  # the only one missed
        ((0, 3, 1), 2 / 5),  # the only one found, beside three wrong ones
        ((9, 1, 2), 6 / 7 - 16 / 20),
        ((0, 0, 0), 0),  # nobody has it
    ],
)
def test_what_one_decision_is_worth(before: tuple[int, int, int], worth: float) -> None:
    assert f1_of_one_decision(counts(*before)) == pytest.approx(worth)


def test_no_other_decision_is_worth_more() -> None:
    for found, wrong, missed in itertools.product(range(5), range(5), range(5)):
        if not found + missed:
            continue
        here = 2 * found / (2 * found + wrong + missed)
        others = [(found, wrong + 1, missed), (found, wrong - 1, missed)]
        others += [(found - 1, wrong, missed + 1), (found + 1, wrong, missed - 1)]
        most = max(abs(2 * f / (2 * f + w + m) - here) for f, w, m in others if min(f, w, m) >= 0)
        assert f1_of_one_decision(counts(found, wrong, missed)) == pytest.approx(most)


def test_the_largest_change_is_in_either_direction() -> None:
    assert largest_change([0.5, 0.2, 0.9], 0.5) == pytest.approx(0.4)
    assert largest_change([0.5, 0.05, 0.9], 0.5) == pytest.approx(-0.45)
    assert largest_change([None, 0.4], 0.5) == pytest.approx(-0.1)
    assert largest_change([None], 0.5) is None
    assert largest_change([0.5], None) is None


def test_calibration_is_of_known_decisions_alone() -> None:
    probs = np.array([[0.9, 0.2], [0.6, np.nan]], np.float32)
    truth = np.array([[1.0, np.nan], [0.0, 1.0]])
    assert calibration_error(probs, truth) == pytest.approx((0.1 + 0.6 + 1.0) / 3, abs=1e-6)
    assert calibration_error(probs, np.full((2, 2), np.nan)) is None
    same = np.array([[0.9, 0.9]], np.float32)
    assert calibration_error(same, np.array([[1.0, 0.0]])) == pytest.approx(0.4, abs=1e-6)
    found = calibration_of(reference(np.array([[0.9, 0.2], [0.6, 0.7]]), truth), probs)
    assert found.labels["hat"].ece == pytest.approx(0.35, abs=1e-6)
    assert found.labels["cap"].brier == pytest.approx(1.0)
    assert found.micro.ece == 0.566667
    assert found.macro.ece == pytest.approx(0.675, abs=1e-6)
    assert set(found.micro.to_json_values()) == {"ece", "ece_adaptive", "brier"}


def test_faults_of_a_meta_json() -> None:
    trained = reference(PROBS)
    right = classifier(Table(PROBS))
    assert meta_faults(trained, right, answers([PROBS] * 3)) == []
    other = meta_faults(trained, replace(right, name="v__1"), answers([PROBS] * 3))
    assert told(other) == [("other_model", ["headwear", 1, "headwear", 0])]
    assert told(meta_faults(trained, replace(right, group="bag"), answers([PROBS] * 3))) == [
        ("other_model", ["bag", 0, "headwear", 0])
    ]
    moved = answers([PROBS] * 3)
    moved.thresholds[:] = [0.5 + 2e-6, 0.4]
    (fault,) = meta_faults(trained, right, moved)
    assert fault.code == "parity.threshold_mismatch"
    assert fault.endswith(": hat 0.500002 instead of 0.5, cap 0.4 instead of 0.5")
    moved.thresholds[:] = [0.5 + 1.05e-6, 0.5 - 1.05e-6]
    (fault,) = meta_faults(trained, right, moved)
    assert fault.endswith(": hat 0.500001 instead of 0.5, cap 0.499999 instead of 0.5")
    moved.thresholds[:] = [0.5 + 9.5e-7, 0.5]
    assert meta_faults(trained, right, moved) == []
    wide = replace(right, preprocessing=replace(PIXEL, margin_rel=0.2))
    (fault,) = meta_faults(trained, wide, answers([PROBS] * 3))
    assert fault.code == "parity.preprocessing_mismatch"
    assert fault.endswith(": margin_rel 0.2 instead of 0.05")
    many = {"margin_rel": 0.2, "height_px": 2, "width_px": 3, "fill_rgb": (0, 0, 0), "mean_rgb": (1.0, 0.0, 0.0)}
    (line,) = meta_faults(trained, replace(right, preprocessing=replace(PIXEL, **many)), answers([PROBS] * 3))
    assert line.endswith(" and 1 more")
    assert line.count("instead of") == 4


def test_faults_of_answers() -> None:
    trained = reference(PROBS)
    tight = replace(NONE, batch=0.1)
    assert answer_faults(trained, answers([PROBS] * 3), tight) == []
    nan = changed(PROBS, (0, 0, np.nan), (0, 1, np.inf), (2, 1, np.nan))
    assert told(answer_faults(trained, answers([PROBS, PROBS, nan]), NONE)) == [("output_not_finite", [2, 3])]
    nan = changed(PROBS, (0, 0, np.nan), (1, 0, np.inf), (2, 0, np.nan))
    assert told(answer_faults(trained, answers([PROBS, PROBS, nan]), NONE))[0] == ("output_not_finite", [3, 3])
    moved = answers([PROBS, PROBS, changed(PROBS, (2, 0, 0.25))])
    assert told(answer_faults(trained, moved, tight)) == [("depends_on_batch_size", [0.15, 0.1])]
    assert answer_faults(trained, moved, NONE) == []
    # At the limit is within it.
    at = answers([PROBS, PROBS, changed(PROBS, (2, 0, 0.25))])
    assert answer_faults(trained, at, replace(NONE, batch=at.batch_difference)) == []
    beside = np.repeat(PROBS[[0]][:, None], 7, axis=1)
    beside[0, 6, 1] = 0.5
    assert told(answer_faults(trained, answers([PROBS] * 3, beside=beside), tight)) == [
        ("depends_on_batch", [0.3, 0.1])
    ]
    at = answers([PROBS] * 3, beside=beside)
    assert answer_faults(trained, at, replace(NONE, batch=at.neighbour_difference)) == []
    flat = PROBS.copy()
    flat[:, 1] = 0.3
    (fault,) = answer_faults(trained, answers([flat] * 3), NONE)
    assert fault.code == "parity.constant_output"
    assert fault.endswith(" of cap")
    # One batch size at which it does not is enough.
    assert answer_faults(trained, answers([flat, flat, PROBS]), NONE) == []
    # The trained network does not tell people apart by it either.
    assert answer_faults(reference(flat), answers([flat] * 3), NONE) == []


@pytest.mark.parametrize("level", [1e-6, 0.3, 1 - 1e-4])
def test_rounding_tells_nobody_apart(level: float) -> None:
    flat = np.full((3, 2), level)
    odds = min(level, 1 - level)
    rounded, told_apart = changed(flat, (0, 0, level + 2e-6 * odds)), changed(flat, (0, 0, level + 0.01 * odds))
    assert answer_faults(reference(rounded), answers([flat] * 3), NONE) == []
    (fault,) = answer_faults(reference(told_apart), answers([flat] * 3), NONE)
    assert fault.code == "parity.constant_output"
    assert fault.endswith(" of hat")


def test_answers_of_another_shape_are_refused_also_where_they_are_no_numbers() -> None:
    class Wider(Table):
        def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.full((len(images), 3), np.nan, np.float32)

    with pytest.raises(ParityError) as caught:
        answers_of(classifier(Wider(PROBS)), reference(PROBS))
    assert caught.value.code == "parity.wrong_output_shape"


def batches(*largest: float) -> list[BatchResult]:
    return [BatchResult(1, value, 0.0, 0.0, 0, 0.0, None, None) for value in largest]


def test_limits_of_flips_and_probabilities() -> None:
    flips = np.zeros((3, 3, 2), bool)
    flips[1, 0, 0] = flips[2, 0, 0] = flips[2, 2, 1] = True
    distance = np.array([[0.3, 0.0], [0.0, 0.0], [0.0, 0.1]], np.float32)

    def faults(limits: ParityLimits, largest: float = 0.2) -> list[tuple[str, list[object]]]:
        return told(limit_faults(batches(0.1, largest), flips, distance, limits))

    assert faults(NONE) == []
    assert faults(replace(NONE, flip_distance=0.2)) == [("decisions_differ", [1, 6, 0.2])]
    assert faults(replace(NONE, flip_distance=0.05)) == [("decisions_differ", [2, 6, 0.05])]
    assert faults(replace(NONE, flip_distance=float(distance[0, 0]))) == []
    assert faults(replace(NONE, probability=0.1)) == [("probabilities_differ", [0.2, 0.1])]
    assert faults(replace(NONE, probability=0.2)) == []
    assert faults(replace(NONE, probability=0.2), largest=0.20001) == [("probabilities_differ", [0.20001, 0.2])]
    # The largest over the batch sizes counts, in whichever it is.
    assert len(limit_faults(batches(0.2, 0.1), flips, distance, replace(NONE, probability=0.15))) == 1


def label(name: str = "hat", **values: float | None) -> LabelResult:
    given: dict[str, object] = {
        "known": 200, "positives": 50, "label_flips": 3, "farthest_flip": 0.01, "f1": 0.9, "f1_change": 0.0,
        "f1_of_one_decision": 0.01, "ece": 0.02, "ece_change": 0.0, "logit_shift": 0.0, "logit_error": 0.0, **values,
    }  # fmt: skip
    return LabelResult(label=name, **given)  # type: ignore[arg-type]


def test_the_limit_of_the_mean_of_f1() -> None:
    # Whatever single decisions are worth, the limit of the mean holds.
    labels = [
        label(f1_of_one_decision=0.02, label_flips=1),
        label("cap", f1_of_one_decision=0.004, label_flips=4),
        label("bag", f1=None, f1_of_one_decision=0.5, label_flips=2),
    ]
    limit = replace(NONE, f1=0.005)
    for change in (0.0051, -0.0051):
        (fault,) = f1_faults(labels, change, limit, "labels")
        assert fault.code == "parity.f1_changed"
        assert f" {change:+.4f} for 7 decisions (limit 0.005)" in fault
    for change in (0.005, -0.005):
        assert f1_faults(labels, change, limit, "labels") == []
    assert f1_faults(labels, None, limit, "labels") == f1_faults(labels, 1.0, NONE, "x") == []


@pytest.mark.parametrize(
    ("limit", "within", "beyond", "fault"),
    [
        (
            {"label_f1": 0.03},
            [
                {"f1_change": 0.03},
                {"f1_change": -0.03},
                {"f1_change": None},
                {"f1_change": -0.08, "f1_of_one_decision": 0.04},
            ],
            [{"f1_change": -0.0301}, {"f1_change": -0.0301, "f1_of_one_decision": 0.01504}],
            ("label_f1_changed", ["cap", -0.0301, 3, 0.03, 2]),
        ),
        (
            {"label_ece": 0.02},
            [{"ece_change": 0.02}, {"ece_change": -0.02}, {"ece_change": None}, {"ece_change": 0.1, "known": 20}],
            [{"ece_change": 0.0201}, {"ece_change": 0.0201, "known": 100}],
            ("calibration_changed", ["cap", 0.0201, 0.02]),
        ),
        (
            {"logit_shift": 0.25},
            [{"logit_shift": 0.25}, {"logit_shift": -0.25}],
            [{"logit_shift": -0.251}],
            ("logits_shifted", ["cap", -0.251, 0.25]),
        ),
        (
            {"logit_error": 0.15},
            [{"logit_error": 0.15}],
            [{"logit_error": 0.16}],
            ("logits_differ", ["cap", 0.16, 0.15]),
        ),
    ],
)
def test_limits_of_single_labels(
    limit: dict[str, float],
    within: list[dict[str, float | None]],
    beyond: list[dict[str, float | None]],
    fault: tuple[str, list[object]],
) -> None:
    limits = replace(NONE, **limit)
    for values in within:
        assert label_faults([label("cap", **values)], limits, "int8", "labels") == []
    for values in beyond:
        assert told(label_faults([label(), label("cap", **values)], limits, "int8", "labels")) == [fault]
        assert label_faults([label("cap", **values)], NONE, "int8", "labels") == []


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", 0.01), ("fp16", 0.04), ("int8", 0.04)])
def test_what_decisions_are_worth_is_allowed_by_precision(precision: str, allowed: float) -> None:
    limit = replace(NONE, label_f1=0.01)
    one = label(f1_of_one_decision=0.02)
    assert label_faults([replace(one, f1_change=-allowed)], limit, precision, "labels") == []
    (line,) = label_faults([replace(one, f1_change=-allowed - 1e-4)], limit, precision, "labels")
    assert ("(limit 0.01)" in line) is (precision == "fp32")


def test_the_first_four_labels_are_named() -> None:
    many = [label(f"l{number}", logit_shift=1.0) for number in range(6)]
    (line,) = label_faults(many, replace(NONE, logit_shift=0.25), "int8", "labels")
    assert line.code == "parity.logits_shifted"
    assert line.endswith(": 'l0' by +1, 'l1' by +1, 'l2' by +1, 'l3' by +1 and 2 more (limit 0.25)")


def test_limits_of_resizing() -> None:
    sizes = [SizeResult("smaller than the input", 5, 0.4, 1, 0.1, 0.05), SizeResult("larger", 5, 0.4, 1, 0.1, 0.06)]
    assert size_faults(sizes, NONE) == []
    assert size_faults(sizes, replace(NONE, own_size=0.06)) == []
    (fault,) = size_faults(sizes, replace(NONE, own_size=0.05))
    assert told([fault]) == [("resizing_changes_logits", [0.06, 0.05])]
    assert "larger" in fault


def test_differences_in_meta_json_are_rounded_up_to_a_millionth() -> None:
    assert _rounded_up(0.0000105) == 0.000011
    assert _rounded_up(0.25) == 0.25
    assert _rounded_up(0.0) == 0.0


def test_cut_outs_of_one_kind_of_sizes_are_a_row_of_the_page() -> None:
    row = _size(SizeResult("larger", 12, 0.001, 0, 0.0, 0.01))
    assert row["cut-outs"] == "larger"
    assert row["people"] == "12"
    assert row["max distance to threshold"] == "-"
