"""metrics.json in a few lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cls.training.bootstrap import LEAST_UNITS
from cls.wording import counted

_MOST_NAMED = 5


def summary_of(metrics: dict[str, Any]) -> str:
    """A table of labels, one line of means (positives and thresholds have none), and how far to trust them.

    Args:
        metrics: what metrics.json says.
    """
    validation = metrics["validation"]
    if validation is None:
        return f"trained on all {metrics['samples']['train']} people; thresholds from {metrics['thresholds_from']}"
    width = max(len("mean"), *(len(name) for name in metrics["labels"]))
    lines = [f"{'':{width}}  positives  base rate     AP  AUROC  threshold  precision  recall     F1"]
    for name in metrics["labels"]:
        label = validation["labels"][name]
        lines.append(
            f"{name:{width}}  {label['positives']:9d}  {_number(label['base_rate'], 9)}  {_number(label['ap'], 5)}"
            f"  {_number(label['auroc'], 5)}  {_number(label['threshold'], 9)}  {_number(label['precision'], 9)}"
            f"  {_number(label['recall'], 6)}  {_number(label['f1'], 5)}"
        )
    macro = validation["macro"]
    lines.append(
        f"{'mean':{width}}  {'':9}  {_number(macro['base_rate'], 9)}  {_number(macro['ap'], 5)}"
        f"  {_number(macro['auroc'], 5)}  {'':9}  {_number(macro['precision'], 9)}"
        f"  {_number(macro['recall'], 6)}  {_number(macro['f1'], 5)}"
    )
    return "\n".join([*lines, *_trust(metrics)])


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
            f"{name} {low_high[0]:.3f} to {low_high[1]:.3f}"
            for name, key in (("mAP", "ap"), ("F1", "f1"))
            if (low_high := intervals["macro"][key]) is not None
        ]
        yield (
            f"{intervals['level']:.0%} intervals over {intervals['units']} picsets: {', '.join(ranges) or '-'}"
            f"{left_out_text(intervals, len(metrics['labels']))}"
        )
    if (crossed := validation.get("cross_fitted")) is not None:
        macro, instance = crossed["macro"], crossed["instance"]
        low_high = crossed["intervals"].get("f1")
        yield (
            f"to expect of new people (thresholds chosen on others): F1 {_number(macro['f1'])}"
            + (f" ({low_high[0]:.3f} to {low_high[1]:.3f})" if low_high is not None else "")
            + f", mA {_number(macro['ma'])}{left_out_text(crossed, len(metrics['labels']))}; label sets:"
            f" accuracy {_number(instance['accuracy'])}, F1 {_number(instance['f1'])}"
        )
    if (calibration := metrics.get("calibration")) is not None and calibration["ece_before"] is not None:
        yield (
            f"calibration error {_number(calibration['ece_before'])}, calibrated on others"
            f" {_number(calibration['ece_cross_fitted'])} (temperature {calibration['temperature']:.2f})"
        )
    if (background := metrics.get("background_sensitivity")) is not None:
        served = background["as_served"]
        yield (
            f"before {background['backgrounds']} other backgrounds {served['share']:.1%}{flips_interval(served)} of"
            f" decisions change, with the background left in {background['background_left_in']['share']:.1%}"
            + (f" ({counted(background['people'], 'person')} of validation)" if "people" in background else "")
        )
    if (tax := metrics.get("leak_tax")) is not None:
        yield leak_tax_line(tax)


def leak_tax_line(tax: dict[str, Any]) -> str:
    """What a random split would have flattered with; runs of earlier versions have no intervals.

    Args:
        tax: as in metrics.json.
    """
    intervals = tax.get("intervals") or {}
    measures = []
    for name, value in tax["random_split"].items():
        more, bounds = tax["difference"][name], intervals.get(name)
        change = "-" if more is None else f"{more:+.3f}"
        change += f", {bounds[0]:+.3f} to {bounds[1]:+.3f}" if bounds else ""
        measures.append(f"{name} {_number(value)} ({change})")
    line = f"leak tax: on a random split it would look like {', '.join(measures)}"
    if "intervals" not in tax:
        return line
    told = told_from_chance(tax)
    verdict = f"more than chance: {', '.join(told)}" if told else "none of these differences is told from chance"
    left_out = left_out_text(tax, len(tax["labels"]) + len(tax["left_out"]))
    return f"{line}{left_out}; over {counted(tax['units'], 'picset')} {verdict}"


def flips_interval(flips: dict[str, Any]) -> str:
    """The interval of a share of decisions that change, in brackets; nothing where a run has not measured it."""
    bounds = flips.get("interval")
    return f" ({bounds[0]:.1%} to {bounds[1]:.1%})" if bounds else ""


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
    listed = ", ".join(names[:_MOST_NAMED]) + (
        f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    )
    return (
        f", over {labels - len(names)} of {counted(labels, 'label')} (positives in fewer than {LEAST_UNITS} picsets:"
        f" {listed})"
    )


def _number(value: float | None, width: int = 0) -> str:
    return f"{'-' if value is None else format(value, '.3f'):>{width}}"
