"""metrics.json in a few lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cls.metrics.bootstrap import LEAST_UNITS
from cls.metrics.scores import LabelMetrics, Measures, Metrics
from cls.training.runs.metrics import BackgroundSensitivity, Flips, LeakTax, RunMetrics
from cls.wording import counted, difference, interval, percent, percent_interval, score

_MOST_NAMED = 5
_MEANS = ("ap", "auroc", "precision", "recall", "f1")


def summary_of(metrics: RunMetrics) -> str:
    """The cross-validated scores, a table of labels with their means, and how reliable they are."""
    validation = metrics.validation
    if validation is None:
        people = "everybody" if metrics.samples is None else f"all {metrics.samples.train} people"
        return f"trained on {people}; thresholds from {metrics.thresholds_from}"
    return "\n".join([_cross_validated(validation), *_table(metrics.labels, validation), *_trust(metrics, validation)])


def _cross_validated(validation: Metrics) -> str:
    """The scores to expect on new people; runs of earlier versions have none."""
    found, instance = validation.scores, validation.cross_validated.instance
    if found.f1.value is None:
        return found.headline()
    return (
        f"{found.headline()}{_why_left_out(validation.cross_validated.left_out)}; mA {score(found.ma.value)};"
        f" label sets: accuracy {score(instance.accuracy)}, F1 {score(instance.f1)}"
    )


def _table(names: Sequence[str], validation: Metrics) -> list[str]:
    """A line per label, and the means; the last four columns are with thresholds chosen on the same people."""
    cross_validated = validation.cross_validated
    means = {key: validation.mean(key) for key in _MEANS}
    title = means["ap"].over if means["ap"].value is not None else "mean"
    width = max(len(title), *(len(name) for name in names))
    lines = [f"{'':{width}}  positives  base rate  CV F1     AP  AUROC  threshold  precision  recall     F1"]
    for name in names:
        label = validation.labels.get(name, LabelMetrics())
        row = _row(label, cross_validated.labels.get(name, Measures()), label.threshold)
        lines.append(f"{name:{width}}  {label.positives:9d}  {row}")
    lines.append(f"{title:{width}}  {'':9}  {_row(validation.macro, cross_validated.macro, None)}")
    others = [f"{key} {mean.over}" for key, mean in means.items() if mean.labels not in (0, means["ap"].labels)]
    lines.append(
        "CV: cross-validated; threshold, precision, recall and F1: thresholds chosen on these people"
        + "".join(f"; {text}" for text in others)
    )
    return lines


def _row(values: Measures, cross_validated: Measures, threshold: float | None) -> str:
    chosen = "" if threshold is None else f"{threshold:.3f}"
    return (
        f"{score(values.base_rate):>9}  {score(cross_validated.f1):>5}  {score(values.ap):>5}  {score(values.auroc):>5}"
        f"  {chosen:>9}  {score(values.precision):>9}  {score(values.recall):>6}  {score(values.f1):>5}"
    )


def _trust(metrics: RunMetrics, validation: Metrics) -> Iterator[str]:
    """Limits of the means; runs of earlier versions have not measured them."""
    if (parts := metrics.parts) is not None and parts.is_leaking:
        yield (
            f"parts '{parts.name}' LEAK: {parts.picsets_in_two_subsets} of {parts.picsets} picsets are in two"
            " subsets; these figures are for comparison with published ones only"
        )
    if (intervals := validation.intervals) is not None:
        means = {"mAP": intervals.macro.ap, "F1 with thresholds chosen on these people": intervals.macro.f1}
        ranges = [f"{name} {interval(bounds)}" for name, bounds in means.items() if bounds is not None]
        yield (
            f"{intervals.level:.0%} intervals over {intervals.units} picsets: {', '.join(ranges) or '-'}"
            f"{left_out_text(intervals.left_out, len(metrics.labels))}"
        )
    if (calibration := metrics.calibration) is not None and calibration.ece_before is not None:
        yield (
            f"calibration error of all decisions together {score(calibration.ece_cross_fitted)} cross-validated,"
            f" {score(calibration.ece_before)} before calibration (temperature {calibration.temperature:.2f})"
        )
    if metrics.background_sensitivity is not None:
        yield background_line(metrics.background_sensitivity)
    if metrics.leak_tax is not None:
        yield leak_tax_line(metrics.leak_tax)


def background_line(background: BackgroundSensitivity) -> str:
    """How many people's answers change with the background, and how many answers."""
    served, left_in = background.as_served, background.background_left_in
    if served.people is None:
        return (
            f"before {background.backgrounds} other backgrounds {percent(served.share)}{flips_interval(served)}"
            f" of answers change, with the background left in {percent(left_in.share)}"
        )
    return (
        f"before {background.backgrounds} other backgrounds answers change for {changed_people(background)},"
        f" {percent(served.share)}{flips_interval(served)} of all answers;"
        f" with the background left in for {percent(left_in.people)} of people, {percent(left_in.share)}"
        " of all answers"
    )


def changed_people(background: BackgroundSensitivity) -> str:
    """`6 of 64 people (9.4%, 3.1–18.8%)`: those with a changed answer before any other background."""
    served, people = background.as_served, background.people
    bounds = served.people_interval
    share = percent(served.people) + (f", {percent_interval(bounds)}" if bounds else "")
    if people is None or served.people is None:
        return f"{share} of people"
    return f"{round(served.people * people)} of {counted(people, 'person')} ({share})"


def leak_tax_line(tax: LeakTax) -> str:
    """How much higher the scores on a random split are; runs of earlier versions have no intervals."""
    measures = []
    for name, value in tax.random_split.items():
        bounds = (tax.intervals or {}).get(name)
        change = difference(tax.difference[name]) + (f", {difference_interval(bounds)}" if bounds else "")
        measures.append(f"{name} {score(value)} ({change})")
    line = f"leak tax: on a random split it would look like {', '.join(measures)}"
    if tax.intervals is None:
        return line
    found = tax.significant
    verdict = f"more than chance: {', '.join(found)}" if found else "none of these differences is significant"
    left_out = left_out_text(tax.left_out, len(tax.labels) + len(tax.left_out))
    return f"{line}{left_out}; over {counted(tax.units, 'picset')} {verdict}"


def difference_interval(bounds: Sequence[float]) -> str:
    """`+0.020 to +0.180`."""
    return f"{difference(bounds[0])} to {difference(bounds[1])}"


def flips_interval(flips: Flips) -> str:
    """The interval of a share of answers that change, in brackets; nothing where a run has not measured it."""
    return f" ({percent_interval(flips.interval)})" if flips.interval else ""


def left_out_text(names: Sequence[str], labels: int) -> str:
    """The labels that a mean is without, as their positives are in too few picsets; empty where there are none."""
    if not names:
        return ""
    return f", over {labels - len(names)} of {counted(labels, 'label')}{_why_left_out(names)}"


def _why_left_out(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f" (positives in fewer than {LEAST_UNITS} picsets: {', '.join(names[:_MOST_NAMED])}{more})"
