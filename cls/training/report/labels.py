"""Labels in the report: the table, a card for each, confusions, and labels that occur together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cls.dataset.samples import Sample
from cls.metrics.scores import Intervals, LabelMetrics, MeasureIntervals, Measures, Metrics
from cls.pages.render import picture_url
from cls.records import Record
from cls.training.evaluation.evaluate import Evaluation
from cls.training.evaluation.label_errors import LabelError
from cls.training.report.figures import Pair, caption, precision_recall_svg, scores_svg
from cls.wording import interval, score

_PEOPLE_SHOWN = 14
_ERRORS_SHOWN = 28

_NOBODY, _UNKNOWN = "none", "unknown"
_CROSS_VALIDATED = ("f1", "precision", "recall", "ma", "ece")
_PERFECT = score(1)


@dataclass(frozen=True)
class ShownPerson:
    """A person of the report.

    Attributes:
        css: class of the lines below it.
    """

    image: str
    title: str
    css: str
    parts: Sequence[str]
    path: str


@dataclass(frozen=True)
class LabelCard:
    """The charts of a label, as SVG."""

    name: str
    threshold: str
    curve: str
    scores: str


def most_mistaken_and_surest(
    evaluation: Evaluation, names: Sequence[str]
) -> tuple[list[ShownPerson], list[ShownPerson]]:
    """The most mistaken people, and the surest right ones, one of a unit."""
    odds = _log_odds(evaluation.probs) - _log_odds(np.asarray(evaluation.thresholds))
    truth = np.nan_to_num(evaluation.labels) > 0.5
    # Above 0: in the right subset of the threshold, and how far.
    margins = np.where(truth, odds, -odds)
    margins[np.isnan(evaluation.labels)] = np.inf
    lowest = margins.min(axis=1)
    worst = [int(i) for i in np.argsort(lowest, kind="stable") if lowest[i] < 0]
    best = [int(i) for i in np.argsort(-lowest, kind="stable") if lowest[i] > 0 and truth[i].any()]
    return (
        [_mistaken(evaluation, names, index, margins[index]) for index in _one_a_unit(worst, evaluation.samples)],
        [_sure(evaluation, names, index) for index in _one_a_unit(best, evaluation.samples)],
    )


def _one_a_unit(indices: Sequence[int], samples: Sequence[Sample]) -> list[int]:
    first: dict[str, int] = {}
    for index in indices:
        first.setdefault(samples[index].split_unit, index)
    return list(first.values())[:_PEOPLE_SHOWN]


def _mistaken(evaluation: Evaluation, names: Sequence[str], index: int, margins: NDArray[np.float64]) -> ShownPerson:
    truth, probs = evaluation.labels[index], evaluation.probs[index]
    wrong = [
        f"{'missed' if truth[label] > 0.5 else 'wrongly predicted'} {names[label]} ({score(probs[label], 2)})"
        for label in np.argsort(margins)
        if margins[label] < 0
    ]
    return _person(evaluation, index, caption(truth.tolist(), names), "no", wrong)


def _sure(evaluation: Evaluation, names: Sequence[str], index: int) -> ShownPerson:
    truth, probs = evaluation.labels[index], evaluation.probs[index]
    sure = [f"{names[label]} ({score(probs[label], 2)})" for label in range(len(names)) if truth[label] > 0.5]
    return _person(evaluation, index, caption(truth.tolist(), names), "ok", [", ".join(sure)])


def _person(evaluation: Evaluation, index: int, title: str, css: str, parts: Sequence[str]) -> ShownPerson:
    """A person's picture, what was given, and lines of a CSS class below."""
    path = evaluation.samples[index].path
    return ShownPerson(picture_url(evaluation.cutouts.input_rgb(index)), title, css, parts, path)


def people_with_label_errors(
    evaluation: Evaluation, names: Sequence[str], errors: Sequence[LabelError]
) -> list[ShownPerson]:
    """People with a label that is probably wrong, surest first; all such labels of a person together."""
    by_sample: dict[int, list[LabelError]] = {}
    for error in errors:
        by_sample.setdefault(error.sample, []).append(error)
    return [
        _person(
            evaluation,
            index,
            f"annotated: {caption(evaluation.labels[index].tolist(), names)}",
            "no",
            [
                f"{'probably not' if error.is_given else 'probably'} {names[error.label]} ({score(error.prob, 2)})"
                for error in found
            ],
        )
        for index, found in list(by_sample.items())[:_ERRORS_SHOWN]
    ]


def before_and_after(pairs: Sequence[Pair]) -> list[dict[str, str]]:
    """Training pictures as they were cut out and as the network saw them."""
    return [
        {"before": picture_url(pair.before), "after": picture_url(pair.after), "caption": pair.caption}
        for pair in pairs
    ]


def _log_odds(probs: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(probs, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(clipped / (1 - clipped)), np.float64)


_Values = TypeVar("_Values", bound=Record)


@dataclass(frozen=True)
class Cell:
    """One field of a matrix: its text, how dark it is (0 to 1), and what it means."""

    text: str
    share: float
    title: str


@dataclass(frozen=True)
class Matrix:
    """A table of labels against labels.

    Attributes:
        rows: name on the left, and its cells.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def label_rows(names: Sequence[str], trained: NDArray[np.float32], validation: Metrics) -> list[dict[str, str]]:
    """The table of labels, with the means as its last row.

    Precision, recall, F1, mA and calibration error are cross-validated where the run has measured that.

    Args:
        names: label names.
        trained: (samples, labels) of training.
        validation: the run's measures.
    """
    counts = np.nansum(trained, axis=0).astype(int).tolist()
    cross_validated, intervals = validation.cross_validated, validation.intervals or Intervals()
    rows = []
    for name, count in zip(names, counts, strict=True):
        label, found = validation.labels[name], intervals.labels.get(name, MeasureIntervals())
        found = _replaced(found, cross_validated.label_intervals.get(name))
        row = _row(name, _replaced(label, cross_validated.labels.get(name)), label, found)
        rows.append(
            {
                **row,
                "train": str(count),
                "positives": str(label.positives),
                "threshold": "" if label.threshold is None else f"{label.threshold:.3f}",
            }
        )
    # Where labels are left out of them, the intervals are not of these means: `measured_text` says what they are of.
    of_means = MeasureIntervals() if intervals.left_out else intervals.macro
    shown = _replaced(validation.macro, cross_validated.macro)
    mean = _row(means_title(validation), shown, validation.macro, _replaced(of_means, cross_validated.intervals))
    return [*rows, {**mean, "is_mean": "mean", "train": "", "positives": "", "threshold": ""}]


def means_title(validation: Metrics) -> str:
    """Over how many labels the means are: `mean over 8 labels (cross-validated: 7 of 8)`."""
    found = validation.scores
    if found.ap.value is None:
        return "mean"
    if found.f1.value is None or found.f1.labels == found.ap.labels:
        return found.ap.over
    return f"{found.ap.over} (cross-validated: {found.f1.labels} of {found.f1.of})"


def _replaced(values: _Values, cross_validated: Record | None) -> _Values:
    """Measures, or intervals, with cross-validated ones in the place of those of thresholds chosen on these people."""
    known = (
        {}
        if cross_validated is None
        else {key: getattr(cross_validated, key) for key in cross_validated.model_fields_set if key in _CROSS_VALIDATED}
    )
    return values.replaced(**known)


def _row(name: str, shown: Measures, own: Measures, intervals: MeasureIntervals) -> dict[str, str]:
    people = own.positives if isinstance(own, LabelMetrics) else None
    return {
        "name": name,
        "is_mean": "",
        "ap_percent": percent_width(own.ap),
        "base_percent": percent_width(own.base_rate),
        **{key: score(getattr(shown, key)) for key in ("base_rate", "ap", "auroc", *_CROSS_VALIDATED)},
        "f1_in_sample": score(own.f1),
        **{
            f"{key}_interval": _with_people(getattr(shown, key), getattr(intervals, key), people)
            for key in ("ap", "f1", "ma")
        },
    }


def _with_people(value: float | None, bounds: Sequence[float] | None, people: int | None) -> str:
    """`0.71–0.90`; of a perfect label, whose interval says how few people it has, `0.83–1.00, n = 20`."""
    text = interval(bounds, 2)
    return f"{text}, n = {people}" if text and people is not None and score(value) == _PERFECT else text


def label_cards(
    names: Sequence[str], thresholds: Sequence[float], probs: NDArray[np.float64], labels: NDArray[np.float64]
) -> list[LabelCard]:
    """Precision over recall and the probabilities of each label that somebody in validation has.

    Args:
        names: label names.
        thresholds: one a label.
        probs: (samples, labels).
        labels: (samples, labels): 1, 0 or NaN.
    """
    cards = []
    for index, name in enumerate(names):
        known = ~np.isnan(labels[:, index])
        truth, scores = labels[known, index] > 0.5, probs[known, index]
        curve = precision_recall_svg(scores, truth, thresholds[index])
        if curve is not None:
            drawn = scores_svg(scores, truth, thresholds[index])
            cards.append(LabelCard(name, f"{thresholds[index]:.3f}", curve, drawn))
    return cards


def confusions(names: Sequence[str], relative: NDArray[np.float64], labels: NDArray[np.float64]) -> Matrix:
    """The label predicted for people with each label: the most probable, or none where all are below threshold.

    Args:
        names: label names.
        relative: (samples, labels), probabilities as a share of each label's threshold: 1 and above is present.
        labels: (samples, labels): 1, 0 or NaN. A person with several labels counts in each one's row; the row `none`
            is those known to have none, `unknown` those who may have one.
    """
    predicted = np.where(relative.max(axis=1) >= 1, relative.argmax(axis=1), len(names))
    rows, has = _given(names, labels)
    counts = np.stack([np.bincount(predicted[row], minlength=len(names) + 1) for row in has.T])
    columns = (*names, _NOBODY)
    totals = np.repeat(has.sum(axis=0)[:, None], len(columns), axis=1)
    return _matrix(
        rows, columns, counts, totals, "{column} is the most probable label of {count} of the {total} people with {row}"
    )


def given_together(names: Sequence[str], labels: NDArray[np.floating[Any]]) -> Matrix | None:
    """Of the people with the label of a row, how many have the label of a column as well.

    Args:
        names: label names.
        labels: (samples, labels): 1, 0 or NaN. People whose label of the column is unknown count in no share.

    Returns:
        None where nobody has two labels.
    """
    has = (labels > 0.5).astype(np.int64)
    counts = has.T @ has
    if not (counts - np.diag(np.diag(counts))).any():
        return None
    totals = has.T @ (~np.isnan(labels)).astype(np.int64)
    known = " for whom it is known" if np.isnan(labels).any() else ""
    text = "{count} of the {total} people with {row}" + known + " have {column}"
    return _matrix(names, names, counts, totals, text)


def predicted_of(
    names: Sequence[str], thresholds: Sequence[float], probs: NDArray[np.float64], labels: NDArray[np.float64]
) -> Matrix:
    """Of the people with the label of a row, for how many the label of a column is predicted, by its own threshold.

    Args:
        names: label names.
        thresholds: one a label.
        probs: (samples, labels).
        labels: (samples, labels): 1, 0 or NaN.
    """
    predicted = _with_nobody(probs >= np.asarray(thresholds)).astype(np.int64)
    rows, has = _given(names, labels)
    columns = (*names, _NOBODY)
    totals = np.repeat(has.sum(axis=0)[:, None], len(columns), axis=1)
    text = "{column} is predicted for {count} of the {total} people with {row}"
    return _matrix(rows, columns, has.astype(np.int64).T @ predicted, totals, text)


def _given(names: Sequence[str], labels: NDArray[np.float64]) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    """Names of rows, and who is in each, (samples, rows): the labels, none, and, where there are any, not known."""
    has, is_unsure = labels > 0.5, np.isnan(labels).any(axis=1, keepdims=True)
    has_none = ~has.any(axis=1, keepdims=True)
    known = np.hstack([has, has_none & ~is_unsure])
    unknown = has_none & is_unsure
    if not unknown.any():
        return (*names, _NOBODY), known
    return (*names, _NOBODY, _UNKNOWN), np.hstack([known, unknown])


def _with_nobody(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A last column for those who have none."""
    return np.hstack([flags, ~flags.any(axis=1, keepdims=True)])


def _matrix(
    rows: Sequence[str], columns: Sequence[str], counts: NDArray[np.int64], totals: NDArray[np.int64], text: str
) -> Matrix:
    shares = counts / np.maximum(totals, 1)
    made = tuple(
        (
            row,
            tuple(
                Cell(
                    str(counts[i, j]) if counts[i, j] else "",
                    round(float(shares[i, j]), 2),
                    text.format(count=counts[i, j], total=totals[i, j], row=row, column=column),
                )
                for j, column in enumerate(columns)
            ),
        )
        for i, row in enumerate(rows)
    )
    return Matrix(tuple(columns), made)


def percent_width(value: float | None) -> str:
    """A width in a bar."""
    return "0" if value is None else f"{100 * value:.1f}"
