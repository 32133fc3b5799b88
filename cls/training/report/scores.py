"""The numbers at the top of the report, and those over all labels."""

from __future__ import annotations

from typing import Any

from cls.package.validation_scores import MeanScore, mean_of, validation_scores
from cls.training.runs.summary import changed_people, flips_interval, left_out_text
from cls.wording import counted, interval, percent, score


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
