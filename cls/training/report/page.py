"""report.html: one self-contained page about a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic_core import to_jsonable_python

from cls.dataset.samples import Ledger, labels_of
from cls.metrics.scores import MeanScore, Measures, Metrics
from cls.pages.render import now_utc, write_page
from cls.training.config import TrainConfig
from cls.training.data import TrainingData
from cls.training.evaluation.evaluate import Evaluation
from cls.training.evaluation.label_errors import judged_labels
from cls.training.network.build import NetworkSpec
from cls.training.report.figures import Pair, loss_figure, reliability_figure, scores_figure
from cls.training.report.labels import (
    before_and_after,
    confusions,
    given_together,
    label_cards,
    label_rows,
    most_mistaken_and_surest,
    people_with_label_errors,
    predicted_of,
)
from cls.training.runs.metrics import BackgroundSensitivity, Calibration, Flips, LeakTax, RunMetrics, SampleCounts
from cls.training.runs.summary import changed_people, difference_interval, flips_interval, left_out_text
from cls.wording import counted, difference, interval, percent, percent_interval, score

_RELIABILITY = (
    "Fraction of positives by predicted probability; a perfectly calibrated model lies on the diagonal. Bars show how"
    " many decisions a point is computed from."
)

_LEAK_TAX = (
    "The same training evaluated on this run's split and on a random split, in which people of one picset may be in"
    " both subsets. The difference is how much a random split overestimates the scores on new people."
)

_ERRORS = {
    "ece_cross_fitted": "calibration error (ECE) over all decisions, cross-validated",
    "ece_after": "ECE on the people the temperature was chosen on",
    "ece_before": "ECE before calibration",
}
_MOST_LEFT_OUT = 2000

_TITLES = {
    "training": "Training",
    "labels": "Labels",
    "each-label": "Each label",
    "confusions": "Confusions",
    "together": "Label co-occurrence",
    "calibration": "Calibration",
    "backgrounds": "Background sensitivity",
    "leak-tax": "Leak tax",
    "mistaken": "Highest-confidence errors",
    "label-errors": "Probable label errors",
    "sure": "Highest-confidence correct predictions",
    "seen": "Input images after augmentation",
    "data": "Data",
    "settings": "Settings",
}


def cards(metrics: RunMetrics) -> list[tuple[str, str]]:
    """The cards at the top: value, text."""
    made = [] if metrics.validation is None else _score_cards(metrics, metrics.validation)
    if metrics.samples is not None:
        made.append(_people_card(metrics.samples))
    if metrics.seconds is not None:
        waiting = percent(metrics.waiting_share)
        made.append((_duration(metrics.seconds), f"training time; {waiting} of it waiting for data"))
    return made


def _people_card(samples: SampleCounts) -> tuple[str, str]:
    train, valid = samples.train, samples.valid
    if not valid:
        return f"{train:,}", "people in training"
    return f"{train + valid:,}", f"people: {train:,} in training, {valid:,} in validation"


def _score_cards(metrics: RunMetrics, validation: Metrics) -> list[tuple[str, str]]:
    found, macro = validation.scores, validation.macro
    f1 = found.f1 if found.f1.value is not None else found.f1_in_sample
    name = "cross-validated F1" if found.f1.value is not None else "F1, thresholds chosen on the same people"
    guessing = f"; chance level: {score(macro.base_rate)}"
    made = [
        (score(f1.value), _with_interval(name, f1)),
        (score(found.ap.value), _with_interval("mean average precision", found.ap) + guessing),
        (score(macro.auroc), _with_interval("AUROC", validation.mean("auroc"))),
    ]
    if found.ma.value is not None:
        made.append((score(found.ma.value), _with_interval("cross-validated mean accuracy mA", found.ma)))
    if (background := metrics.background_sensitivity) is not None:
        served = background.as_served
        bounds = f" ({percent_interval(served.people_interval)})" if served.people_interval else ""
        made.append((percent(served.people), f"of people get another prediction on other backgrounds{bounds}"))
    return made


def _with_interval(name: str, mean: MeanScore) -> str:
    return f"{name}{f', {interval(mean.bounds, 2)}' if mean.bounds else ''}; {mean.over}"


def measured_text(validation: Metrics, people: int, units: int) -> str:
    """What the numbers were measured on, and how far they are to be trusted.

    Args:
        validation: the run's measures.
        people: in validation.
        units: picsets, or what else stays together in a split.
    """
    text = [f"Measured on {counted(people, 'person')} of {counted(units, 'picset')} not in the training data."]
    if (cross_validated := validation.cross_fitted) is not None:
        left_out = left_out_text(cross_validated.left_out, len(validation.labels)).replace(
            ", over", ", and means are over"
        )
        text.append(
            "F1, precision, recall, mA and calibration error are cross-validated: each of"
            f" {counted(cross_validated.folds, 'fold')} of picsets is evaluated with thresholds and a temperature"
            f" chosen on the others{left_out}."
            " In the row of means, the calibration error is the mean over labels; the section Calibration has the error"
            " over all decisions. The last column is the F1 with this run's thresholds, which were chosen on the same"
            " people: it is slightly optimistic."
        )
    else:
        text.append(
            "Thresholds were chosen on the same people, so precision, recall and F1 are slightly optimistic; average"
            " precision and AUROC are not."
        )
    if (intervals := validation.intervals) is not None:
        text.append(
            f"Small numbers are {intervals.level:.0%} bootstrap confidence intervals over {intervals.units:,} picsets"
            f" ({intervals.resamples:,} resamples). The interval of a label is never narrower than the exact binomial"
            " (Clopper-Pearson) interval of its people in validation."
        )
        if left_out := left_out_text(intervals.left_out, len(validation.labels)):
            ap = intervals.means.ap
            mean = "" if ap is None else f"; their mean average precision is {score(ap)}"
            text.append(f"Intervals of means are{left_out.removeprefix(',')}{mean}.")
    return " ".join(text)


def overall(validation: Metrics) -> list[tuple[str, str]]:
    """Measures over all labels: key, value; cross-validated ones first. Those that a run does not have are left out."""
    cross_validated = validation.cross_fitted
    if cross_validated is None:
        how = "thresholds chosen on the same people, "
        return _over_all(validation.micro, validation.instance, validation.exact, how)
    made = _over_all(cross_validated.micro, cross_validated.instance, cross_validated.exact, "cross-validated, ")
    if (f1 := validation.mean("f1")).value is not None:
        text = f"F1 {score(f1.value)}, mA {score(validation.macro.ma)}; {f1.over}"
        made.append(("thresholds chosen on the same people", text))
    return made


def _over_all(micro: Measures, instance: Measures, exact: float | None, how: str) -> list[tuple[str, str]]:
    made: list[tuple[str, str]] = []
    if micro.model_fields_set:
        made.append((f"{how}over all decisions (micro)", _three(micro)))
    if instance.model_fields_set:
        made.append(
            (f"{how}mean over people (instance-based)", f"accuracy {score(instance.accuracy)}, {_three(instance)}")
        )
    if exact is not None:
        made.append((f"{how}every label correct (exact match)", f"{percent(exact)} of people"))
    return made


def _three(values: Measures) -> str:
    return f"precision {score(values.precision)}, recall {score(values.recall)}, F1 {score(values.f1)}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


@dataclass(frozen=True)
class CalibrationSection:
    """The section on calibration: its text, and rows of key and value."""

    text: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """A table with a text above it: names of the columns, and rows of values."""

    text: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def calibration_of_run(found: Calibration | None) -> CalibrationSection:
    """How far probabilities are from frequencies; without figures for a run in which that was not measured."""
    if found is None:
        return CalibrationSection(_RELIABILITY, ())
    if found.is_identity:
        return CalibrationSection(_RELIABILITY, (("calibration", found.source), *_errors(found, ("ece_before",))))
    rows = [("temperature", f"{found.temperature:.3f}, from {found.source}")]
    if any(found.logit_shift):
        low, high = (round(edge(found.logit_shift), 2) + 0.0 for edge in (min, max))  # no negative zero
        rows.append(("shift of logits by the loss", f"{low:.2f} to {high:.2f}, removed"))
    return CalibrationSection(_RELIABILITY, (*rows, *_errors(found, tuple(_ERRORS))))


def _errors(found: Calibration, keys: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((_ERRORS[key], score(getattr(found, key))) for key in keys if getattr(found, key) is not None)


def backgrounds_of_run(found: BackgroundSensitivity | None, names: Sequence[str]) -> Table | None:
    """How often answers change with the background; None for a run in which it was not measured."""
    if found is None:
        return None
    ways = (found.as_served, found.background_left_in)
    backgrounds = counted(found.backgrounds, "other background")
    people = counted(found.people or 0, "person")
    text = (
        f"Predictions change for {changed_people(found)}."
        f" {people} of validation, each on {backgrounds} ({found.origin}). As served, the person is cut out by"
        " its mask and only the mask's edge depends on the place; with the background left in, the classifier sees the"
        " whole crop."
    )
    if ways[0].interval:
        text += (
            " In brackets, 95% intervals over resampled picsets; where nothing changed, the upper bound for this number"
            " of people."
        )
    rows = [
        ("people with a changed prediction", *(_people(way) for way in ways)),
        ("decisions, all labels", *(f"{percent(way.share)}{flips_interval(way)}" for way in ways)),
        *((f"decisions, {name}", *(percent(way.labels.get(name)) for way in ways)) for name in names),
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
    text = f"{_LEAK_TAX} There, {percent(share, 0)} of the people in validation are from picsets also in training."
    columns = ("", "by picset", "random split", "difference")
    if found.intervals is None:
        return Table(text, columns, rows)
    bounds = [found.intervals.get(row[0]) for row in rows]
    significant = set(found.significant)
    rows = tuple(
        (*row, difference_interval(low_high) if low_high else "-", "yes" if row[0] in significant else "no")
        for row, low_high in zip(rows, bounds, strict=True)
    )
    return Table(f"{text} {_measured_how(found)}", (*columns, f"{found.level:.0%} interval", "significant"), rows)


def _measured_how(found: LeakTax) -> str:
    labels = len(found.labels) + len(found.left_out)
    text = (
        f"Both splits have the same sizes and are stratified over labels in the same way; both are measured on the same"
        f" {counted(len(found.labels), 'label')}, F1 and mA with thresholds chosen on other picsets. The intervals"
        f" are bootstrap intervals over {counted(found.units, 'picset')}; they do not include the variation between"
        " trainings."
    )
    if found.left_out:
        text += f" Measured{left_out_text(found.left_out, labels).removeprefix(',')}."
    if not found.significant:
        text += " No difference is significant: this run shows no leak tax, which does not prove that there is none."
    return text


@dataclass(frozen=True)
class ReportData:
    """What the page is about."""

    config: TrainConfig
    spec: NetworkSpec
    data: TrainingData
    evaluation: Evaluation
    metrics: RunMetrics
    pairs: Sequence[Pair]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the labels."""
        return self.spec.labels

    @property
    def ledger(self) -> Ledger:
        """What was left out."""
        return self.data.ledger


def write_report(folder: Path, data: ReportData) -> Path:
    """Writes report.html into a run folder and returns its path; everything it shows is inside it."""
    path = folder / "report.html"
    write_page(path, "training/report/report.html", _values(folder, data))
    return path


def _values(folder: Path, data: ReportData) -> dict[str, Any]:
    metrics, config = data.metrics, data.config
    validation = metrics.validation
    base_rate = None if validation is None else validation.macro.base_rate
    ap = None if validation is None else validation.mean("ap")
    scores = scores_figure(metrics.history, base_rate, ap.over if ap is not None and ap.is_partial else "")
    values = {
        "group": config.group,
        "run": folder.name,
        "arch": data.spec.timm_arch,
        "size": f"{config.height_px} × {config.width_px}",
        "date": now_utc(),
        "notes": _notes(metrics),
        "figures": cards(metrics),
        "curves": [loss_figure(metrics.history), *([] if scores is None else [scores])],
        "is_validated": validation is not None,
        "thresholds_from": metrics.thresholds_from,
        "pairs": before_and_after(data.pairs),
        "data": _data(data),
        "left_out": sorted(data.ledger.left_out.items())[:_MOST_LEFT_OUT],
        "left_out_title": _left_out_title(data.ledger),
        "settings": [(key, _setting(value)) for key, value in config.to_dict().items()],
        **(_unvalidated(data) if validation is None else _validated(data, validation)),
    }
    return {**values, "contents": _contents(values)}


def _setting(value: object) -> str:
    """The value of an option as text: `-` where it is not set, `true`, `0.8, 1.2`."""
    plain = to_jsonable_python(value)
    if plain is None or plain == []:
        return "-"
    if isinstance(plain, list):
        return ", ".join(_setting(one) for one in plain)
    return str(plain).lower() if isinstance(plain, bool) else str(plain)


def _notes(metrics: RunMetrics) -> list[str]:
    """Notes to read before anything else."""
    weights, parts = metrics.weights, metrics.parts
    notes = [weights.origin] if weights is not None and weights.kind == "none" else []
    return [*notes, *([parts.note] if parts else [])]


def _unvalidated(data: ReportData) -> dict[str, Any]:
    trained = np.nansum(labels_of(data.data.train.samples), axis=0).astype(int).tolist()
    pairs = zip(data.names, trained, data.evaluation.thresholds, strict=True)
    return {"rows": [(name, count, f"{value:.3f}") for name, count, value in pairs]}


def _validated(data: ReportData, validation: Metrics) -> dict[str, Any]:
    evaluation, names, metrics = data.evaluation, data.names, data.metrics
    probs, labels, thresholds = evaluation.probs, evaluation.labels, evaluation.thresholds
    trained = labels_of(data.data.train.samples)
    worst, best = most_mistaken_and_surest(evaluation, names)
    units = len({sample.split_unit for sample in evaluation.samples})
    calibration = calibration_of_run(metrics.calibration)
    return {
        "rows": label_rows(names, trained, validation),
        "columns": _columns(validation),
        "measured": measured_text(validation, len(evaluation.samples), units),
        "overall": overall(validation),
        "unseen": [name for name in names if not validation.labels[name].positives],
        "label_cards": label_cards(names, thresholds, probs, labels),
        "confusions": confusions(names, probs / np.asarray(thresholds), labels),
        "predicted": predicted_of(names, thresholds, probs, labels),
        "has_several": len(names) > 1,
        "together": given_together(names, trained),
        "reliability": reliability_figure(probs, labels),
        "calibration": calibration.rows,
        "calibration_text": calibration.text,
        "backgrounds": backgrounds_of_run(metrics.background_sensitivity, names),
        "leak_tax": leak_tax_of_run(metrics.leak_tax),
        "worst": worst,
        "best": best,
        "people_with_label_errors": people_with_label_errors(evaluation, names, data.evaluation.label_errors),
        "suspects_text": _suspects_text(data),
    }


def _columns(validation: Metrics) -> dict[str, str]:
    """Key and title of every column that the run's table of labels has."""
    is_crossed = validation.cross_fitted is not None
    measured = validation.macro.model_fields_set
    has = {"ma": "ma" in measured, "ece": "ece" in measured, "f1_in_sample": is_crossed}
    columns = {
        "name": "label",
        "train": "in training",
        "positives": "in validation",
        "f1": "cross-validated F1" if is_crossed else "F1",
        "precision": "precision",
        "recall": "recall",
        "ma": "mA",
        "base_rate": "base rate",
        "ap": "average precision",
        "auroc": "AUROC",
        "ece": "calibration error",
        "threshold": "threshold",
        "f1_in_sample": "F1 in sample",
    }
    return {key: title for key, title in columns.items() if has.get(key, True)}


def _contents(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Anchor and title of every section that the page has."""
    if not values["is_validated"]:
        shown = ["training", "seen", "data", "settings"]
    else:
        empty = {
            "each-label": not values["label_cards"],
            "together": not values["has_several"],
            "calibration": not values["reliability"],
            "backgrounds": not values["backgrounds"],
            "leak-tax": not values["leak_tax"],
        }
        shown = [anchor for anchor in _TITLES if not empty.get(anchor, False)]
    return [(anchor, _TITLES[anchor]) for anchor in shown]


def _suspects_text(data: ReportData) -> str:
    errors, evaluation = data.evaluation.label_errors, data.evaluation
    people = len({error.sample for error in errors})
    where = "Only people in validation are checked: the network has learned the labels of the others."
    judged = judged_labels(evaluation.probs, evaluation.labels)
    unjudged = [name for number, name in enumerate(data.names) if number not in judged]
    if unjudged:
        where += f" Labels not checked, as validation has too few people for them: {', '.join(unjudged)}."
    if not errors:
        return f"None: no label of the people in validation is confidently contradicted. {where}"
    return (
        "Labels as annotated, and the confident prediction that contradicts them (probability in brackets), most"
        f" confident first. label_errors.csv lists {counted(people, 'person')}. Some may be errors of the network:"
        f" check the picture before changing a label. {where}"
    )


def _left_out_title(ledger: Ledger) -> str:
    count = len(ledger.left_out)
    first = f", the first {_MOST_LEFT_OUT:,} of them" if count > _MOST_LEFT_OUT else ""
    return f"{counted(count, 'picture')} left out{first}"


def _data(data: ReportData) -> list[tuple[str, Any]]:
    ledger, metrics, fitted = data.ledger, data.metrics, data.spec.preprocessing
    models = ", ".join(f"{name or '-'} ({count})" for name, count in sorted(ledger.segmentation_models.items()))
    return [
        ("pictures in the dataset", f"{ledger.pictures:,}"),
        ("pictures used", f"{ledger.pictures - len(ledger.left_out):,}"),
        *((reason, f"{count:,}") for reason, count in ledger.reasons.items()),
        ("segmentation models", models),
        ("people for training", f"{len(data.data.train):,}"),
        ("people for validation", f"{len(data.evaluation.samples):,}"),
        ("split", _split_text(data)),
        ("initial weights", "-" if metrics.weights is None else metrics.weights.origin),
        ("thresholds", f"from {metrics.thresholds_from}"),
        ("normalisation", f"RGB mean {_numbers(fitted.mean_rgb)}, standard deviation {_numbers(fitted.std_rgb)}"),
        ("SHA-256 of the dataset", metrics.dataset_sha256),
        ("SHA-256 of the split", metrics.split_sha256),
    ]


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _split_text(data: ReportData) -> str:
    if data.metrics.parts is not None:
        return data.metrics.parts.note
    return "by picset: no picset is in both subsets" if data.evaluation.samples else "none (mode all)"
