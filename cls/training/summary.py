"""metrics.json in a few lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


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
        yield f"{intervals['level']:.0%} intervals over {intervals['units']} picsets: {', '.join(ranges) or '-'}"
    if (crossed := validation.get("cross_fitted")) is not None:
        macro, instance = crossed["macro"], crossed["instance"]
        low_high = crossed["intervals"]["f1"]
        yield (
            f"to expect of new people (thresholds chosen on others): F1 {_number(macro['f1'])}"
            + (f" ({low_high[0]:.3f} to {low_high[1]:.3f})" if low_high is not None else "")
            + f", mA {_number(macro['ma'])}; label sets: accuracy {_number(instance['accuracy'])},"
            f" F1 {_number(instance['f1'])}"
        )
    if (calibration := metrics.get("calibration")) is not None and calibration["ece_before"] is not None:
        yield (
            f"calibration error {_number(calibration['ece_before'])}, calibrated on others"
            f" {_number(calibration['ece_cross_fitted'])} (temperature {calibration['temperature']:.2f})"
        )
    if (background := metrics.get("background_sensitivity")) is not None:
        yield (
            f"before {background['backgrounds']} other backgrounds {background['as_served']['share']:.1%} of decisions"
            f" change, with the background left in {background['background_left_in']['share']:.1%}"
        )
    if (tax := metrics.get("leak_tax")) is not None:
        more = {name: "-" if value is None else f"{value:+.3f}" for name, value in tax["difference"].items()}
        measures = [f"{name} {_number(value)} ({more[name]})" for name, value in tax["random_split"].items()]
        yield f"leak tax: on a random split it would look like {', '.join(measures)}"


def _number(value: float | None, width: int = 0) -> str:
    return f"{'-' if value is None else format(value, '.3f'):>{width}}"
