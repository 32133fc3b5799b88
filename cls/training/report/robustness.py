"""What the report says of probabilities, other backgrounds, and leaks: of runs in which they were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cls.package.validation_scores import MeanScore, mean_of, validation_scores
from cls.training.runs.summary import (
    changed_people,
    difference_interval,
    flips_interval,
    left_out_text,
    told_from_chance,
)
from cls.wording import counted, difference, interval, percent, percent_interval, score


def cards(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """The cards at the top: value, text.

    Args:
        metrics: as in metrics.json.
    """
    validation = metrics["validation"]
    made = [] if validation is None else _score_cards(metrics, validation)
    return [
        *made,
        _people_card(metrics["samples"]),
        (_duration(metrics["seconds"]), f"training; {percent(metrics['waiting_share'])} of it waiting for data"),
    ]


def _people_card(samples: dict[str, int]) -> tuple[str, str]:
    train, valid = samples["train"], samples["valid"]
    if not valid:
        return f"{train:,}", "people trained on"
    return f"{train + valid:,}", f"people: {train:,} trained on, {valid:,} validated on"


def _score_cards(metrics: dict[str, Any], validation: dict[str, Any]) -> list[tuple[str, str]]:
    found, macro = validation_scores(metrics), validation["macro"]
    if found is None:
        return []
    f1 = found.f1 if found.f1.value is not None else found.f1_in_sample
    name = "cross-validated F1" if found.f1.value is not None else "F1, thresholds chosen on these people"
    guessing = f"; guessing: {score(macro['base_rate'])}"
    made = [
        (score(f1.value), _said(name, f1)),
        (score(found.ap.value), _said("mean average precision", found.ap) + guessing),
        (score(macro["auroc"]), _said("AUROC", mean_of(validation, "auroc"))),
    ]
    if found.ma.value is not None:
        made.append((score(found.ma.value), _said("cross-validated mean accuracy mA", found.ma)))
    background = metrics.get("background_sensitivity") or {}
    if sensitivity := background.get("as_served"):
        text = (
            f"of people get another answer before another background: {changed_people(background)};"
            f" {percent(sensitivity['share'])}{flips_interval(sensitivity)} of answers"
        )
        made.append((percent(sensitivity["people"]), text))
    return made


def _said(name: str, mean: MeanScore) -> str:
    return f"{name}{f', {interval(mean.bounds, 2)}' if mean.bounds else ''}; {mean.over}"


def measured_text(validation: dict[str, Any], people: int, units: int) -> str:
    """What the numbers were measured on, and how far they are to be trusted.

    Args:
        validation: as in metrics.json.
        people: in validation.
        units: picsets, or what else stays together in a split.
    """
    text = [f"Measured on {counted(people, 'person')} of {counted(units, 'picset')} that training never saw."]
    if crossed := validation.get("cross_fitted"):
        text.append(
            "F1, precision, recall, mA and calibration error are cross-validated: each of"
            f" {counted(crossed['folds'], 'fold')} of picsets is decided on with thresholds and a temperature chosen on"
            f" the others{left_out_text(crossed, len(validation['labels'])).replace(', over', ', and means are over')}."
            " In the row of means, the calibration error is the mean over labels; Calibration has that of all decisions"
            " together. The last column has the F1 of this run's thresholds, which were chosen on these people: it is a"
            " little too good."
        )
    else:
        text.append(
            "Thresholds were chosen on the same people, so precision, recall and F1 are a little too good; average"
            " precision and AUROC are not."
        )
    if intervals := validation.get("intervals"):
        text.append(
            f"Small numbers are {intervals['level']:.0%} confidence intervals: {intervals['resamples']:,} times as many"
            f" picsets were drawn anew from the {intervals['units']:,}. Of a label, none is narrower than the exact"
            " binomial interval of its people in validation (Clopper and Pearson)."
        )
        if left_out := left_out_text(intervals, len(validation["labels"])):
            ap = score(intervals["means"]["ap"])
            text.append(f"Intervals of means are{left_out.removeprefix(',')}; their mean average precision is {ap}.")
    return " ".join(text)


def overall(validation: dict[str, Any]) -> list[tuple[str, str]]:
    """Measures over all labels: key, value; cross-validated ones first. Those that a run does not have are left out."""
    cross = validation.get("cross_fitted")
    made = _over_all(cross, "cross-validated, ") if cross else []
    if cross and (f1 := mean_of(validation, "f1")).value is not None:
        text = f"F1 {score(f1.value)}, mA {score(validation['macro'].get('ma'))}; {f1.over}"
        made.append(("thresholds chosen on these people", text))
    elif not cross:
        made += _over_all(validation, "thresholds chosen on these people, ")
    return made


def _over_all(values: dict[str, Any], how: str) -> list[tuple[str, str]]:
    made: list[tuple[str, str]] = []
    micro, instance = values.get("micro"), values.get("instance")
    if micro:
        made.append((f"{how}all decisions together", _three(micro)))
    if instance:
        accuracy = f"accuracy {score(instance.get('accuracy'))}, " if "accuracy" in instance else ""
        made.append((f"{how}mean over people", f"{accuracy}{_three(instance)}"))
    if values.get("exact") is not None:
        made.append((f"{how}every label of a person right", f"{percent(values['exact'])} of people"))
    return made


def _three(values: dict[str, Any]) -> str:
    names = {"precision": "precision", "recall": "recall", "f1": "F1"}
    return ", ".join(f"{name} {score(values.get(key))}" for key, name in names.items())


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


_RELIABILITY = (
    "Of the decisions that were given a probability, the share that is true: on the diagonal, a probability means what"
    " it says. The wider a bar, the more decisions stand behind it."
)

_LEAK_TAX = (
    "The same training measured on this run's split and on a random one, in which people of one picset may stand on"
    " both sides. What the random one shows beyond the other is not there for people never seen."
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


def calibration_of_run(metrics: dict[str, Any]) -> Calibration:
    """How far probabilities are from frequencies.

    Args:
        metrics: as in metrics.json.
    """
    found = metrics.get("calibration")
    if not found:
        return Calibration(_RELIABILITY, ())
    shifts = found.get("logit_shift") or ()
    if found["temperature"] == 1 and not any(shifts):
        return Calibration(_RELIABILITY, (("calibration", str(found["source"])), *_errors(found, ("ece_before",))))
    rows = [("temperature", f"{found['temperature']:.3f}, from {found['source']}")]
    if any(shifts):
        rows.append(("what the loss added to logits", f"{min(shifts):.2f} to {max(shifts):.2f}, taken out again"))
    return Calibration(_RELIABILITY, (*rows, *_errors(found, tuple(_ERRORS))))


def _errors(found: dict[str, Any], keys: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((_ERRORS[key], score(found[key])) for key in keys if found.get(key) is not None)


def backgrounds_of_run(metrics: dict[str, Any], names: Sequence[str]) -> Table | None:
    """How often answers change with the background; None for a run in which it was not measured.

    Args:
        metrics: as in metrics.json.
        names: label names.
    """
    found = metrics.get("background_sensitivity")
    if not found:
        return None
    ways = (found["as_served"], found["background_left_in"])
    backgrounds = counted(found["backgrounds"], "other background")
    people = counted(found["people"], "person")
    text = (
        f"Answers change for {changed_people(found)}."
        f" {people} of validation, each before {backgrounds} ({found['origin']}). As served, the person is cut out by"
        " its mask and only the mask's edge tells of the place; with the background left in, the classifier sees all."
    )
    if ways[0].get("interval"):
        text += (
            " In brackets, 95% intervals over resampled picsets; where nothing changed, up to what so few people"
            " could hide."
        )
    rows = [
        ("people with a changed answer", *(_people(way) for way in ways)),
        ("answers, all labels", *(f"{percent(way['share'])}{flips_interval(way)}" for way in ways)),
        *((f"answers, {name}", *(percent(way["labels"][name]) for way in ways)) for name in names),
    ]
    return Table(text, ("share that changes", "as served", "background left in"), tuple(rows))


def _people(way: dict[str, Any]) -> str:
    bounds = way.get("people_interval")
    return percent(way["people"]) + (f" ({percent_interval(bounds)})" if bounds else "")


def leak_tax_of_run(metrics: dict[str, Any]) -> Table | None:
    """The same training measured on a split that leaks; None for a run in which it was not.

    Args:
        metrics: as in metrics.json.
    """
    found = metrics.get("leak_tax")
    if not found:
        return None
    share = found["validation_people_whose_picset_is_in_training"]
    rows: tuple[tuple[str, ...], ...] = tuple(
        (name, score(value), score(found["random_split"][name]), difference(found["difference"][name]))
        for name, value in found["by_picset"].items()
    )
    text = f"{_LEAK_TAX} There, {percent(share, 0)} of validation are people of picsets that were trained on."
    columns = ("", "by picset", "random split", "difference")
    if "intervals" not in found:
        return Table(text, columns, rows)
    bounds = [found["intervals"].get(row[0]) for row in rows]
    told = set(told_from_chance(found))
    rows = tuple(
        (*row, difference_interval(low_high) if low_high else "-", "yes" if row[0] in told else "no")
        for row, low_high in zip(rows, bounds, strict=True)
    )
    return Table(
        f"{text} {_measured_how(found)}", (*columns, f"{found['level']:.0%} interval", "more than chance"), rows
    )


def _measured_how(found: dict[str, Any]) -> str:
    labels = len(found["labels"]) + len(found["left_out"])
    text = (
        f"Both splits have the same sizes and are stratified over labels in the same way; both are measured on the same"
        f" {counted(len(found['labels']), 'label')}, F1 and mA with thresholds chosen on other picsets. The intervals"
        f" come of drawing the {counted(found['units'], 'picset')} anew; that another training would have come out a"
        " little differently is not in them."
    )
    if found["left_out"]:
        text += f" Measured{left_out_text(found, labels).removeprefix(',')}."
    if not told_from_chance(found):
        text += " No difference is told from chance: this run shows no leak tax, which does not say that there is none."
    return text
