"""Multi-label metrics as in metrics.json and meta.json, and their means over labels."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import reduce
from html import escape
from operator import getitem
from typing import Any

from pydantic import Field, ValidationError

from cls.records import Record
from cls.wording import counted, interval, mean_over, score

Interval = tuple[float, float] | None

NOT_MEASURED = "not measured"
_TOO_FEW = ": every label's positives are in too few picsets"


class Measures(Record):
    """Measures from 0 to 1; None where one is not defined (no positives, no negatives) or was not measured.

    Attributes:
        precision: share of the predicted that are right.
        recall: share of the positives that are found.
        f1: harmonic mean of both.
        accuracy: of people's label sets: share of the labels in either set that are in both.
        ap: average precision, the area under the precision-recall steps.
        auroc: chance that a positive scores above a negative, ties half.
        base_rate: share of positives; the average precision of random predictions.
        ma: mean of recall and specificity: the label's part of the mean accuracy mA (Deng et al., PETA, 2014; Li et
            al., RAP, arXiv:1603.07054).
        ece: expected calibration error, 15 bins of equal width (Guo et al. 2017).
        ece_adaptive: the same with bins of equally many decisions.
        brier: mean squared distance of probability and truth.
    """

    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    accuracy: float | None = None
    ap: float | None = None
    auroc: float | None = None
    base_rate: float | None = None
    ma: float | None = None
    ece: float | None = None
    ece_adaptive: float | None = None
    brier: float | None = None


class LabelMetrics(Measures):
    """Metrics of one label.

    Attributes:
        positives: people who have the label.
        negatives: people who do not.
        threshold: probability from which the label is predicted.
        true_positives: positives that are predicted.
        false_positives: negatives that are predicted.
        false_negatives: positives that are not predicted.
        true_negatives: negatives that are not predicted.
        specificity: share of the negatives that are not predicted.
    """

    positives: int = 0
    negatives: int = 0
    threshold: float | None = None
    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    true_negatives: int = 0
    specificity: float | None = None


class MeasureIntervals(Record):
    """95 percent intervals of measures, (low, high) each; None where fewer than half of the resamples define it."""

    precision: Interval = None
    recall: Interval = None
    f1: Interval = None
    accuracy: Interval = None
    ap: Interval = None
    auroc: Interval = None
    ma: Interval = None


class Intervals(Record):
    """Percentile bootstrap intervals over units (picsets).

    A label's interval is never narrower than the exact binomial interval of as many people: with 20 of 20 right, all
    resamples are 1, and the exact interval is 0.83 to 1.

    Attributes:
        level: of confidence.
        resamples: how many of the bootstrap.
        units: how many; None where that is not known.
        macro: of the means over the labels that are not left out: ap, auroc, f1, ma, precision, recall.
        instance: accuracy, precision, recall, f1.
        labels: of each label: ap, auroc, f1, ma, precision, recall; None for those left out.
        means: the means over the labels that are not left out, of which `macro` has the intervals.
        left_out: labels whose positives are in fewer than three units.
    """

    level: float = 0.95
    resamples: int = 0
    units: int | None = None
    macro: MeasureIntervals = MeasureIntervals()
    instance: MeasureIntervals = MeasureIntervals()
    labels: dict[str, MeasureIntervals] = Field(default_factory=dict)
    means: Measures = Measures()
    left_out: tuple[str, ...] = ()


class CrossValidatedMetrics(Record):
    """Cross-validated metrics: each fold of units is decided on with temperature and thresholds of the other folds.

    They are to be expected on new people; other metrics at thresholds are a little too high.

    Attributes:
        folds: how many.
        macro: means over the labels that are not left out: precision, recall, f1, ma, ece, ece_adaptive, brier.
        micro: the same over all decisions together, without ma.
        instance: accuracy, precision, recall, f1.
        labels: of each label: precision, recall, f1, ma, ece, ece_adaptive, brier.
        exact: share of samples with every known label right.
        intervals: of these means: precision, recall, f1, ma.
        left_out: labels whose positives are in fewer than three units.
        label_intervals: of each label's f1, ma, precision, recall; None for those left out.
    """

    folds: int = 0
    macro: Measures = Measures()
    micro: Measures = Measures()
    instance: Measures = Measures()
    labels: dict[str, Measures] = Field(default_factory=dict)
    exact: float | None = None
    intervals: MeasureIntervals = MeasureIntervals()
    left_out: tuple[str, ...] = ()
    label_intervals: dict[str, MeasureIntervals] = Field(default_factory=dict)


class Metrics(Record):
    """Metrics of all labels.

    Attributes:
        labels: per label, by name.
        macro: means over the labels where the measure is defined: precision, recall, f1, ap (mAP), auroc, base_rate,
            ma (mA), ece, ece_adaptive, brier.
        micro: precision, recall, f1, ece, ece_adaptive and brier over all decisions together.
        exact: share of samples with every known label right.
        samples: how many samples; None where that is not known.
        instance: accuracy, precision, recall and f1 of people's label sets.
        intervals: of the measures above; None where there are fewer than two units, and in an epoch's validation.
        cross_fitted: measures with thresholds chosen on other people; None as above.
    """

    labels: dict[str, LabelMetrics] = Field(default_factory=dict)
    macro: Measures = Measures()
    micro: Measures = Measures()
    exact: float | None = None
    samples: int | None = None
    instance: Measures = Measures()
    intervals: Intervals | None = None
    cross_fitted: CrossValidatedMetrics | None = None

    @property
    def cross_validated(self) -> CrossValidatedMetrics:
        """`cross_fitted`, or empty metrics where that was not measured."""
        return self.cross_fitted or CrossValidatedMetrics()

    @property
    def left_out(self) -> tuple[str, ...]:
        """Labels with positives in too few picsets, which intervals and cross-validated means leave out."""
        own = () if self.intervals is None else self.intervals.left_out
        return tuple(dict.fromkeys([*own, *self.cross_validated.left_out]))

    def __repr__(self) -> str:
        """The number of labels and people, and means over the labels."""
        sizes = [counted(len(self.labels), "label")]
        if self.samples is not None:
            sizes.append(counted(self.samples, "person"))
        return f"Metrics({', '.join(sizes)}, F1 {score(self.macro.f1)}, mAP {score(self.macro.ap)})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """The labels in a notebook, and their means."""
        rows = []
        for name, measures in (*self.labels.items(), ("mean", self.macro)):
            values = (measures.precision, measures.recall, measures.f1, measures.ap)
            cells = "".join(f"<td>{score(value)}</td>" for value in values)
            rows.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
        head = "<tr><th>label</th><th>precision</th><th>recall</th><th>F1</th><th>AP</th></tr>"
        return f"<table>{head}{''.join(rows)}</table>"

    def mean(self, key: str) -> MeanScore:
        """The mean over the labels for which a measure is defined."""
        known = sum(getattr(label, key) is not None for label in self.labels.values())
        # Where labels are left out, the interval is of another mean.
        has_interval = self.intervals is not None and not self.intervals.left_out
        bounds = getattr(self.intervals.macro, key, None) if self.intervals is not None and has_interval else None
        value = getattr(self.macro, key)
        return MeanScore(value, known if value is not None else 0, len(self.labels), bounds)

    def mean_with_interval(self, key: str) -> MeanScore:
        """The mean over the labels that are not left out of the intervals."""
        found = self.intervals or Intervals()
        return MeanScore(getattr(found.means, key), bounds=getattr(found.macro, key))

    def cross_validated_mean(self, key: str) -> MeanScore:
        """The cross-validated mean over the labels for which a measure is defined and that are not left out."""
        cross_validated = self.cross_validated
        of = max(len(self.labels), len(cross_validated.labels))
        kept = [values for name, values in cross_validated.labels.items() if name not in cross_validated.left_out]
        known = sum(getattr(values, key) is not None for values in kept)
        if not cross_validated.labels:
            known = of - len(cross_validated.left_out)
        value = getattr(cross_validated.macro, key)
        return MeanScore(value, known if value is not None else 0, of, getattr(cross_validated.intervals, key, None))

    @property
    def scores(self) -> ValidationScores:
        """The most important scores."""
        return ValidationScores(
            f1=self.cross_validated_mean("f1"),
            ma=self.cross_validated_mean("ma"),
            ap=self.mean("ap"),
            f1_in_sample=self.mean("f1"),
            people=self.samples,
            picsets=None if self.intervals is None else self.intervals.units,
            why_not=_TOO_FEW if self.cross_validated.model_fields_set else "",
        )


def metrics_of_package(content: Any) -> Metrics | None:
    """The metrics of a package, `validation` of meta.json's `metrics`; None where there are none.

    Values of another form than ours count as not measured.
    """
    if not isinstance(content, dict) or not content:
        return None
    try:
        return Metrics.model_validate(content)
    except ValidationError as error:
        known = deepcopy(content)
        wrong = {_mapping_path(content, fault["loc"]): fault["type"] for fault in error.errors()}
        for (*path, key), fault_type in sorted(wrong.items(), key=lambda one: len(one[0]), reverse=True):
            values = reduce(getitem, path, known)
            if fault_type == "model_type":
                values[key] = {}
            else:
                del values[key]
        return Metrics.model_validate(known)


def _mapping_path(content: dict[str, Any], place: Sequence[Any]) -> tuple[Any, ...]:
    """The keys to an invalid value, up to the innermost mapping."""
    at, path = content, []
    for key in place:
        if not isinstance(at, dict) or key not in at:
            break
        path.append(key)
        at = at[key]
    return tuple(path)


@dataclass(frozen=True)
class MeanScore:
    """A mean over labels.

    Attributes:
        value: 0 to 1; None where it was not measured.
        labels: over how many labels.
        of: how many labels there are.
        bounds: its 95 percent interval, where one is known of this mean.
    """

    value: float | None
    labels: int = 0
    of: int = 0
    bounds: Interval = None

    @property
    def is_partial(self) -> bool:
        """Whether there are labels that are not in it."""
        return self.value is not None and self.labels < self.of

    @property
    def over(self) -> str:
        """`mean over 8 labels`, `mean over 1 of 8 labels`."""
        return mean_over(self.labels, self.of)

    def text(self) -> str:
        """`0.812 (0.731–0.894)`, or `not measured`."""
        if self.value is None:
            return NOT_MEASURED
        return score(self.value) + (f" ({interval(self.bounds)})" if self.bounds else "")


@dataclass(frozen=True)
class ValidationScores:
    """Means over labels on validation; without a value where an earlier version did not measure one.

    Attributes:
        f1: cross-validated.
        ma: cross-validated mean accuracy mA.
        ap: mean average precision mAP.
        f1_in_sample: with the thresholds that were chosen on these people.
        people: how many; None where that is not known.
        picsets: how many.
        why_not: why there is no cross-validated score, if known.
    """

    f1: MeanScore
    ma: MeanScore
    ap: MeanScore
    f1_in_sample: MeanScore
    people: int | None
    picsets: int | None
    why_not: str = ""

    def measured_on(self) -> str:
        """`60 people of 12 picsets`; empty if unknown."""
        if self.people is None:
            return ""
        of = "" if self.picsets is None else f" of {counted(self.picsets, 'picset')}"
        return counted(self.people, "person") + of

    def headline(self) -> str:
        """`cross-validated F1 0.812 (0.731–0.894), mean over 7 of 8 labels, 60 people of 12 picsets`."""
        if self.f1.value is None:
            return f"cross-validated F1 {NOT_MEASURED}{self.why_not}"
        parts = (f"cross-validated F1 {self.f1.text()}", self.f1.over, self.measured_on())
        return ", ".join(part for part in parts if part)
