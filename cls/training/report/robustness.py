"""What the report says of probabilities, other backgrounds, and leaks: of runs in which they were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cls.metrics.scores import MeanScore, Measures, Metrics
from cls.training.runs.metrics import BackgroundSensitivity, Flips, LeakTax, RunMetrics, SampleCounts
from cls.training.runs.metrics import Calibration as Fitted
from cls.training.runs.summary import changed_people, difference_interval, flips_interval, left_out_text
from cls.wording import counted, difference, interval, percent, percent_interval, score


def cards(metrics: RunMetrics) -> list[tuple[str, str]]:
    """The cards at the top: value, text."""
    made = [] if metrics.validation is None else _score_cards(metrics, metrics.validation)
    if metrics.samples is not None:
        made.append(_people_card(metrics.samples))
    if metrics.seconds is not None:
        waiting = percent(metrics.waiting_share)
        made.append((_duration(metrics.seconds), f"training; {waiting} of it waiting for data"))
    return made


def _people_card(samples: SampleCounts) -> tuple[str, str]:
    train, valid = samples.train, samples.valid
    if not valid:
        return f"{train:,}", "people trained on"
    return f"{train + valid:,}", f"people: {train:,} trained on, {valid:,} validated on"


def _score_cards(metrics: RunMetrics, validation: Metrics) -> list[tuple[str, str]]:
    found, macro = validation.scores, validation.macro
    f1 = found.f1 if found.f1.value is not None else found.f1_in_sample
    name = "cross-validated F1" if found.f1.value is not None else "F1, thresholds chosen on these people"
    guessing = f"; guessing: {score(macro.base_rate)}"
    made = [
        (score(f1.value), _said(name, f1)),
        (score(found.ap.value), _said("mean average precision", found.ap) + guessing),
        (score(macro.auroc), _said("AUROC", validation.mean("auroc"))),
    ]
    if found.ma.value is not None:
        made.append((score(found.ma.value), _said("cross-validated mean accuracy mA", found.ma)))
    if (background := metrics.background_sensitivity) is not None:
        served = background.as_served
        text = (
            f"of people get another answer before another background: {changed_people(background)};"
            f" {percent(served.share)}{flips_interval(served)} of answers"
        )
        made.append((percent(served.people), text))
    return made


def _said(name: str, mean: MeanScore) -> str:
    return f"{name}{f', {interval(mean.bounds, 2)}' if mean.bounds else ''}; {mean.over}"


def measured_text(validation: Metrics, people: int, units: int) -> str:
    """What the numbers were measured on, and how far they are to be trusted.

    Args:
        validation: the run's measures.
        people: in validation.
        units: picsets, or what else stays together in a split.
    """
    text = [f"Measured on {counted(people, 'person')} of {counted(units, 'picset')} that training never saw."]
    if (cross_validated := validation.cross_fitted) is not None:
        left_out = left_out_text(cross_validated.left_out, len(validation.labels)).replace(
            ", over", ", and means are over"
        )
        text.append(
            "F1, precision, recall, mA and calibration error are cross-validated: each of"
            f" {counted(cross_validated.folds, 'fold')} of picsets is decided on with thresholds and a temperature"
            f" chosen on the others{left_out}."
            " In the row of means, the calibration error is the mean over labels; Calibration has that of all decisions"
            " together. The last column has the F1 of this run's thresholds, which were chosen on these people: it is a"
            " little too good."
        )
    else:
        text.append(
            "Thresholds were chosen on the same people, so precision, recall and F1 are a little too good; average"
            " precision and AUROC are not."
        )
    if (intervals := validation.intervals) is not None:
        text.append(
            f"Small numbers are {intervals.level:.0%} confidence intervals: {intervals.resamples:,} times as many"
            f" picsets were drawn anew from the {intervals.units:,}. Of a label, none is narrower than the exact"
            " binomial interval of its people in validation (Clopper and Pearson)."
        )
        if left_out := left_out_text(intervals.left_out, len(validation.labels)):
            ap = score(intervals.means.ap)
            text.append(f"Intervals of means are{left_out.removeprefix(',')}; their mean average precision is {ap}.")
    return " ".join(text)


def overall(validation: Metrics) -> list[tuple[str, str]]:
    """Measures over all labels: key, value; cross-validated ones first. Those that a run does not have are left out."""
    cross_validated = validation.cross_fitted
    if cross_validated is None:
        how = "thresholds chosen on these people, "
        return _over_all(validation.micro, validation.instance, validation.exact, how)
    made = _over_all(cross_validated.micro, cross_validated.instance, cross_validated.exact, "cross-validated, ")
    if (f1 := validation.mean("f1")).value is not None:
        text = f"F1 {score(f1.value)}, mA {score(validation.macro.ma)}; {f1.over}"
        made.append(("thresholds chosen on these people", text))
    return made


def _over_all(micro: Measures, instance: Measures, exact: float | None, how: str) -> list[tuple[str, str]]:
    made: list[tuple[str, str]] = []
    if micro.model_fields_set:
        made.append((f"{how}all decisions together", _three(micro)))
    if instance.model_fields_set:
        made.append((f"{how}mean over people", f"accuracy {score(instance.accuracy)}, {_three(instance)}"))
    if exact is not None:
        made.append((f"{how}every label of a person right", f"{percent(exact)} of people"))
    return made


def _three(values: Measures) -> str:
    return f"precision {score(values.precision)}, recall {score(values.recall)}, F1 {score(values.f1)}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


_RELIABILITY = (
    "Of the decisions that were given a probability, the share that is true: on the diagonal, a probability means what"
    " it says. The wider a bar, the more decisions stand behind it."
)

_LEAK_TAX = (
    "The same training measured on this run's split and on a random one, in which people of one picset may be in"
    " both subsets. What the random one shows beyond the other is not there for people never seen."
)
_ERRORS = {
    "ece_cross_fitted": "calibration error of all decisions together, cross-validated",
    "ece_after": "on the people the temperature was chosen on",
    "ece_before": "before calibration",
}


@dataclass(frozen=True)
class Calibration:
    """The section on calibration: its text, and rows of key and value."""

    text: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """A table with a text above it: names of the columns, and rows of values."""

    text: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def calibration_of_run(found: Fitted | None) -> Calibration:
    """How far probabilities are from frequencies; without figures for a run in which that was not measured."""
    if found is None:
        return Calibration(_RELIABILITY, ())
    if found.is_nothing:
        return Calibration(_RELIABILITY, (("calibration", found.source), *_errors(found, ("ece_before",))))
    rows = [("temperature", f"{found.temperature:.3f}, from {found.source}")]
    if any(found.logit_shift):
        low, high = min(found.logit_shift), max(found.logit_shift)
        rows.append(("what the loss added to logits", f"{low:.2f} to {high:.2f}, taken out again"))
    return Calibration(_RELIABILITY, (*rows, *_errors(found, tuple(_ERRORS))))


def _errors(found: Fitted, keys: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((_ERRORS[key], score(getattr(found, key))) for key in keys if getattr(found, key) is not None)


def backgrounds_of_run(found: BackgroundSensitivity | None, names: Sequence[str]) -> Table | None:
    """How often answers change with the background; None for a run in which it was not measured."""
    if found is None:
        return None
    ways = (found.as_served, found.background_left_in)
    backgrounds = counted(found.backgrounds, "other background")
    people = counted(found.people or 0, "person")
    text = (
        f"Answers change for {changed_people(found)}."
        f" {people} of validation, each before {backgrounds} ({found.origin}). As served, the person is cut out by"
        " its mask and only the mask's edge tells of the place; with the background left in, the classifier sees all."
    )
    if ways[0].interval:
        text += (
            " In brackets, 95% intervals over resampled picsets; where nothing changed, up to what so few people"
            " could hide."
        )
    rows = [
        ("people with a changed answer", *(_people(way) for way in ways)),
        ("answers, all labels", *(f"{percent(way.share)}{flips_interval(way)}" for way in ways)),
        *((f"answers, {name}", *(percent(way.labels.get(name)) for way in ways)) for name in names),
    ]
    return Table(text, ("share that changes", "as served", "background left in"), tuple(rows))


def _people(way: Flips) -> str:
    return percent(way.people) + (f" ({percent_interval(way.people_interval)})" if way.people_interval else "")


def leak_tax_of_run(found: LeakTax | None) -> Table | None:
    """The same training measured on a split that leaks; None for a run in which it was not."""
    if found is None:
        return None
    share = found.validation_people_whose_picset_is_in_training
    rows: tuple[tuple[str, ...], ...] = tuple(
        (name, score(value), score(found.random_split[name]), difference(found.difference[name]))
        for name, value in found.by_picset.items()
    )
    text = f"{_LEAK_TAX} There, {percent(share, 0)} of validation are people of picsets that were trained on."
    columns = ("", "by picset", "random split", "difference")
    if found.intervals is None:
        return Table(text, columns, rows)
    bounds = [found.intervals.get(row[0]) for row in rows]
    told = set(found.told_from_chance)
    rows = tuple(
        (*row, difference_interval(low_high) if low_high else "-", "yes" if row[0] in told else "no")
        for row, low_high in zip(rows, bounds, strict=True)
    )
    return Table(f"{text} {_measured_how(found)}", (*columns, f"{found.level:.0%} interval", "more than chance"), rows)


def _measured_how(found: LeakTax) -> str:
    labels = len(found.labels) + len(found.left_out)
    text = (
        f"Both splits have the same sizes and are stratified over labels in the same way; both are measured on the same"
        f" {counted(len(found.labels), 'label')}, F1 and mA with thresholds chosen on other picsets. The intervals"
        f" come of drawing the {counted(found.units, 'picset')} anew; that another training would have come out a"
        " little differently is not in them."
    )
    if found.left_out:
        text += f" Measured{left_out_text(found.left_out, labels).removeprefix(',')}."
    if not found.told_from_chance:
        text += " No difference is told from chance: this run shows no leak tax, which does not say that there is none."
    return text
