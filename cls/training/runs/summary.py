"""metrics.json in a few lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cls.metrics.bootstrap import LEAST_UNITS
from cls.package.validation_scores import NOT_MEASURED, mean_of, validation_scores
from cls.wording import counted, difference, interval, percent, percent_interval, score

_MOST_NAMED = 5
_MEANS = ("ap", "auroc", "precision", "recall", "f1")


def summary_of(metrics: dict[str, Any]) -> str:
    """The cross-validated scores, a table of labels, one line of means, and how far to trust them.

    Args:
        metrics: what metrics.json says.
    """
    validation = metrics["validation"]
    if validation is None:
        return f"trained on all {metrics['samples']['train']} people; thresholds from {metrics['thresholds_from']}"
    return "\n".join([_cross_validated(metrics), *_table(metrics["labels"], validation), *_trust(metrics)])


def _cross_validated(metrics: dict[str, Any]) -> str:
    """What to expect of new people; runs of earlier versions have not measured it."""
    found = validation_scores(metrics)
    if found is None:
        return f"cross-validated F1 {NOT_MEASURED}"
    if found.f1.value is None:
        return found.headline()
    crossed = metrics["validation"]["cross_fitted"]
    instance = crossed.get("instance") or {}
    return (
        f"{found.headline()}{_why_left_out(crossed)}; mA {score(found.ma.value)};"
        f" label sets: accuracy {score(instance.get('accuracy'))}, F1 {score(instance.get('f1'))}"
    )


def _table(names: Sequence[str], validation: dict[str, Any]) -> list[str]:
    """A line a label and one of means; the last four columns are those of thresholds chosen on the same people."""
    crossed = (validation.get("cross_fitted") or {}).get("labels") or {}
    crossed_mean = ((validation.get("cross_fitted") or {}).get("macro") or {}).get("f1")
    means = {key: mean_of(validation, key) for key in _MEANS}
    title = means["ap"].over if means["ap"].value is not None else "mean"
    width = max(len(title), *(len(name) for name in names))
    lines = [f"{'':{width}}  positives  base rate  CV F1     AP  AUROC  threshold  precision  recall     F1"]
    for name in names:
        label = validation["labels"][name]
        cells = {**label, "cv": (crossed.get(name) or {}).get("f1")}
        lines.append(f"{name:{width}}  {label['positives']:9d}  {_row(cells)}")
    lines.append(f"{title:{width}}  {'':9}  {_row({**validation['macro'], 'cv': crossed_mean, 'threshold': ''})}")
    others = [f"{key} {mean.over}" for key, mean in means.items() if mean.labels not in (0, means["ap"].labels)]
    lines.append(
        "CV: cross-validated; threshold, precision, recall and F1: thresholds chosen on these people"
        + "".join(f"; {text}" for text in others)
    )
    return lines


def _row(values: dict[str, Any]) -> str:
    widths = {"base_rate": 9, "cv": 5, "ap": 5, "auroc": 5, "threshold": 9, "precision": 9, "recall": 6, "f1": 5}
    texts = {key: score(values.get(key)) for key in widths if key != "threshold"}
    threshold = values.get("threshold")
    texts["threshold"] = f"{threshold:.3f}" if isinstance(threshold, float) else ""
    return "  ".join(f"{texts[key]:>{width}}" for key, width in widths.items())


def _trust(metrics: dict[str, Any]) -> Iterator[str]:
    """What the means leave out; runs of earlier versions have not measured it."""
    validation = metrics["validation"]
    if (parts := metrics.get("parts")) is not None and parts["is_leaking"]:
        yield (
            f"parts '{parts['name']}' LEAK: {parts['picsets_on_two_sides']} of {parts['picsets']} picsets stand on two"
            " sides; these figures are for comparison with published ones only"
        )
    if (intervals := validation.get("intervals")) is not None:
        ranges = [
            f"{name} {interval(low_high)}"
            for name, key in (("mAP", "ap"), ("F1 with thresholds chosen on these people", "f1"))
            if (low_high := intervals["macro"][key]) is not None
        ]
        yield (
            f"{intervals['level']:.0%} intervals over {intervals['units']} picsets: {', '.join(ranges) or '-'}"
            f"{left_out_text(intervals, len(metrics['labels']))}"
        )
    if (calibration := metrics.get("calibration")) is not None and calibration["ece_before"] is not None:
        yield (
            f"calibration error of all decisions together {score(calibration['ece_cross_fitted'])} cross-validated,"
            f" {score(calibration['ece_before'])} before calibration (temperature {calibration['temperature']:.2f})"
        )
    if (background := metrics.get("background_sensitivity")) is not None:
        yield background_line(background)
    if (tax := metrics.get("leak_tax")) is not None:
        yield leak_tax_line(tax)


def background_line(background: dict[str, Any]) -> str:
    """How many people's answers change with the background, and how many answers.

    Args:
        background: as in metrics.json; runs of earlier versions have no intervals.
    """
    served, left_in = background["as_served"], background["background_left_in"]
    if served.get("people") is None:
        return (
            f"before {background['backgrounds']} other backgrounds {percent(served['share'])}{flips_interval(served)}"
            f" of answers change, with the background left in {percent(left_in['share'])}"
        )
    return (
        f"before {background['backgrounds']} other backgrounds answers change for {changed_people(background)},"
        f" {percent(served['share'])}{flips_interval(served)} of all answers;"
        f" with the background left in for {percent(left_in.get('people'))} of people, {percent(left_in['share'])}"
        " of all answers"
    )


def changed_people(background: dict[str, Any]) -> str:
    """`6 of 64 people (9.4%, 3.1–18.8%)`: those with a changed answer before any other background.

    Args:
        background: as in metrics.json.
    """
    served, people = background["as_served"], background.get("people")
    bounds = served.get("people_interval")
    share = percent(served["people"]) + (f", {percent_interval(bounds)}" if bounds else "")
    if people is None:
        return f"{share} of people"
    return f"{round(served['people'] * people)} of {counted(people, 'person')} ({share})"


def leak_tax_line(tax: dict[str, Any]) -> str:
    """What a random split would have flattered with; runs of earlier versions have no intervals.

    Args:
        tax: as in metrics.json.
    """
    intervals = tax.get("intervals") or {}
    measures = []
    for name, value in tax["random_split"].items():
        more, bounds = tax["difference"][name], intervals.get(name)
        change = difference(more) + (f", {difference_interval(bounds)}" if bounds else "")
        measures.append(f"{name} {score(value)} ({change})")
    line = f"leak tax: on a random split it would look like {', '.join(measures)}"
    if "intervals" not in tax:
        return line
    told = told_from_chance(tax)
    verdict = f"more than chance: {', '.join(told)}" if told else "none of these differences is told from chance"
    left_out = left_out_text(tax, len(tax["labels"]) + len(tax["left_out"]))
    return f"{line}{left_out}; over {counted(tax['units'], 'picset')} {verdict}"


def difference_interval(bounds: Sequence[float]) -> str:
    """`+0.020 to +0.180`."""
    return f"{difference(bounds[0])} to {difference(bounds[1])}"


def flips_interval(flips: dict[str, Any]) -> str:
    """The interval of a share of answers that change, in brackets; nothing where a run has not measured it."""
    bounds = flips.get("interval")
    return f" ({percent_interval(bounds)})" if bounds else ""


def told_from_chance(tax: dict[str, Any]) -> list[str]:
    """The measures of a leak tax whose difference's interval is without zero."""
    return [name for name, bounds in tax["intervals"].items() if bounds and (bounds[0] > 0 or bounds[1] < 0)]


def left_out_text(values: dict[str, Any], labels: int) -> str:
    """Which labels a mean is without, as their positives stand in too few picsets; empty where it is without none.

    Args:
        values: has `left_out`; those of runs of earlier versions have not.
        labels: how many labels there are.
    """
    names = values.get("left_out") or ()
    if not names:
        return ""
    return f", over {labels - len(names)} of {counted(labels, 'label')}{_why_left_out(values)}"


def _why_left_out(values: dict[str, Any]) -> str:
    names = values.get("left_out") or ()
    if not names:
        return ""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f" (positives in fewer than {LEAST_UNITS} picsets: {', '.join(names[:_MOST_NAMED])}{more})"
