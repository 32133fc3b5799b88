"""The numbers at the top of the report, and those over all labels."""

from __future__ import annotations

from typing import Any

from cls.training.report_labels import interval, number
from cls.training.summary import flips_interval, left_out_text
from cls.wording import counted


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
        (_duration(metrics["seconds"]), f"training; {metrics['waiting_share']:.1%} of it waiting for data"),
    ]


def _people_card(samples: dict[str, int]) -> tuple[str, str]:
    train, valid = samples["train"], samples["valid"]
    if not valid:
        return f"{train:,}", "people trained on"
    return f"{train + valid:,}", f"people: {train:,} trained on, {valid:,} validated on"


def _score_cards(metrics: dict[str, Any], validation: dict[str, Any]) -> list[tuple[str, str]]:
    macro = validation["macro"]
    intervals = validation.get("intervals") or {}
    # An interval that is not of the mean that is shown stands in the text below, with the mean it is of.
    bounds = {} if intervals.get("left_out") else intervals.get("macro") or {}
    made = [
        (number(macro["ap"]), f"mean average precision{_range(bounds, 'ap')}; guessing: {number(macro['base_rate'])}"),
        (number(macro["f1"]), f"mean F1{_range(bounds, 'f1')}"),
        (number(macro["auroc"]), f"mean AUROC{_range(bounds, 'auroc')}"),
    ]
    if macro.get("ma") is not None:
        made.append((number(macro["ma"]), f"mean accuracy mA{_range(bounds, 'ma')}"))
    sensitivity = (metrics.get("background_sensitivity") or {}).get("as_served")
    if sensitivity:
        made.append(
            (f"{sensitivity['share']:.1%}", f"of answers change with the background{flips_interval(sensitivity)}")
        )
    return made


def _range(bounds: dict[str, Any], key: str) -> str:
    text = interval(bounds.get(key))
    return f", {text}" if text else ""


def measured_text(validation: dict[str, Any], people: int, units: int) -> str:
    """What the numbers were measured on, and how far they are to be trusted.

    Args:
        validation: as in metrics.json.
        people: in validation.
        units: picsets, or what else stays together in a split.
    """
    text = [f"Measured on {counted(people, 'person')} of {counted(units, 'picset')} that training never saw."]
    intervals = validation.get("intervals")
    if intervals:
        text.append(
            f"Small numbers are {intervals['level']:.0%} confidence intervals: {intervals['resamples']:,} times as many"
            f" picsets were drawn anew from the {intervals['units']:,}."
        )
        if left_out := left_out_text(intervals, len(validation["labels"])):
            ap, f1, ma = (number(intervals["means"][key]) for key in ("ap", "f1", "ma"))
            text.append(
                f"Intervals of means are{left_out.removeprefix(',')}; the means over these are"
                f" {ap} (average precision), {f1} (F1) and {ma} (mA)."
            )
    text.append(
        "Thresholds were chosen on the same people, so precision, recall and F1 are slightly flattering; average"
        " precision and AUROC are not."
    )
    return " ".join(text)


def overall(validation: dict[str, Any]) -> list[tuple[str, str]]:
    """Measures over all labels: key, value. Those that a run does not have are left out."""
    made: list[tuple[str, str]] = []
    micro, instance, cross = validation.get("micro"), validation.get("instance"), validation.get("cross_fitted")
    if micro:
        made.append(("all decisions together", _three(micro)))
    if instance:
        bounds = ((validation.get("intervals") or {}).get("instance") or {}).get("f1")
        accuracy = f"accuracy {number(instance.get('accuracy'))}, " if "accuracy" in instance else ""
        text = interval(bounds)
        made.append(("mean over people", f"{accuracy}{_three(instance)}{f' ({text})' if text else ''}"))
    if validation.get("exact") is not None:
        made.append(("every label of a person right", f"{validation['exact']:.1%} of people"))
    if cross:
        macro = cross["macro"]
        text = (
            f"mean F1 {number(macro.get('f1'))}{_bracketed(cross, 'f1')}, mA {number(macro.get('ma'))}"
            f"{left_out_text(cross, len(cross['labels']))}: what to expect of people never seen"
            f" ({cross['folds']} folds of validation, each decided on by what was chosen on the others)"
        )
        made.append(("with thresholds chosen on others", text))
    return made


def _bracketed(cross: dict[str, Any], key: str) -> str:
    text = interval((cross.get("intervals") or {}).get(key))
    return f" ({text})" if text else ""


def _three(values: dict[str, Any]) -> str:
    return (
        f"precision {number(values.get('precision'))}, recall {number(values.get('recall'))}, "
        f"F1 {number(values.get('f1'))}"
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
