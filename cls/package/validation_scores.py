"""What a run's or a package's metrics say of its validation: the cross-validated scores first, and over what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cls.wording import counted, interval, mean_over, score

NOT_MEASURED = "not measured"
_TOO_FEW = ": every label's positives stand in too few picsets"


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
    labels: int
    of: int
    bounds: tuple[float, float] | None = None

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
    """Means over labels on the validation part; of versions that did not measure something, it has no value.

    Attributes:
        f1: cross-validated: thresholds and temperature chosen on other picsets than those they are measured on.
        ma: cross-validated mean accuracy mA.
        ap: mean average precision mAP, which needs no threshold.
        f1_in_sample: with the thresholds that were chosen on these people.
        people: measured on how many; None where it is not known.
        picsets: of how many picsets.
        why_not: why there is no cross-validated score, where that is known.
    """

    f1: MeanScore
    ma: MeanScore
    ap: MeanScore
    f1_in_sample: MeanScore
    people: int | None
    picsets: int | None
    why_not: str = ""

    def measured_on(self) -> str:
        """`60 people of 12 picsets`; empty where it is not known."""
        if self.people is None:
            return ""
        return counted(self.people, "person") + (
            "" if self.picsets is None else f" of {counted(self.picsets, 'picset')}"
        )

    def headline(self) -> str:
        """`cross-validated F1 0.812 (0.731–0.894), mean over 7 of 8 labels, 60 people of 12 picsets`."""
        if self.f1.value is None:
            return f"cross-validated F1 {NOT_MEASURED}{self.why_not}"
        parts = (f"cross-validated F1 {self.f1.text()}", self.f1.over, self.measured_on())
        return ", ".join(part for part in parts if part)


def validation_scores(metrics: Mapping[str, Any]) -> ValidationScores | None:
    """Reads the scores of validation; what is missing or of another form counts as not measured.

    Args:
        metrics: what metrics.json or meta.json's `metrics` says.

    Returns:
        None where nothing was validated, as with mode `all`.
    """
    validation = _part(metrics, "validation")
    if not validation:
        return None
    crossed, intervals = _part(validation, "cross_fitted"), _part(validation, "intervals")
    units = intervals.get("units")
    return ValidationScores(
        f1=_crossed(validation, crossed, "f1"),
        ma=_crossed(validation, crossed, "ma"),
        ap=mean_of(validation, "ap"),
        f1_in_sample=mean_of(validation, "f1"),
        people=next(
            (
                count
                for count in (validation.get("samples"), _part(metrics, "samples").get("valid"))
                if isinstance(count, int)
            ),
            None,
        ),
        picsets=units if isinstance(units, int) else None,
        why_not=_TOO_FEW if crossed else "",
    )


def mean_of(validation: Mapping[str, Any], key: str) -> MeanScore:
    """A mean over the labels that define a measure: of one that nobody in validation has, most are not defined.

    Args:
        validation: as in metrics.json.
        key: of `macro`, e.g. `ap`.
    """
    labels = _part(validation, "labels")
    known = sum(number_of(_part(labels, name).get(key)) is not None for name in labels)
    intervals = _part(validation, "intervals")
    # An interval is of a mean without the labels that are left out.
    found = None if intervals.get("left_out") else _part(intervals, "macro").get(key)
    value = number_of(_part(validation, "macro").get(key))
    return MeanScore(value, known if value is not None else 0, len(labels), _bounds(found))


def _crossed(validation: Mapping[str, Any], crossed: Mapping[str, Any], key: str) -> MeanScore:
    labels, per_label = _part(validation, "labels"), _part(crossed, "labels")
    left_out = crossed.get("left_out")
    named = set(left_out) if isinstance(left_out, Sequence) and not isinstance(left_out, str) else set()
    of = max(len(labels), len(per_label))
    kept = [name for name in per_label if name not in named]
    known = (
        sum(number_of(_part(per_label, name).get(key)) is not None for name in kept) if per_label else of - len(named)
    )
    value = number_of(_part(crossed, "macro").get(key))
    return MeanScore(value, known if value is not None else 0, of, _bounds(_part(crossed, "intervals").get(key)))


def _part(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}


def number_of(value: Any) -> float | None:
    """A number of metrics that other versions may have written otherwise; None where there is none."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _bounds(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, Sequence) or len(value) != 2:
        return None
    low, high = (number_of(part) for part in value)
    return None if low is None or high is None else (low, high)
