"""report.html: one self-contained page about a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cls.dataset.samples import Ledger, labels_of
from cls.metrics.scores import Metrics
from cls.pages.render import now_utc, write_page
from cls.training.config import TrainConfig
from cls.training.data import TrainingData
from cls.training.evaluation.evaluate import Evaluation
from cls.training.evaluation.label_errors import judged_labels
from cls.training.network.build import NetworkSpec
from cls.training.report.figures import loss_figure, reliability_figure, scores_figure
from cls.training.report.grids import Pair
from cls.training.report.labels import (
    before_and_after,
    confusions,
    given_together,
    label_cards,
    label_rows,
    mistaken_and_sure,
    predicted_of,
    suspects,
)
from cls.training.report.robustness import (
    backgrounds_of_run,
    calibration_of_run,
    cards,
    leak_tax_of_run,
    measured_text,
    overall,
)
from cls.training.runs.metrics import RunMetrics
from cls.wording import counted

_MOST_LEFT_OUT = 2000


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


def write_report(folder: Path, data: ReportData) -> None:
    """Writes report.html into a run folder; everything it shows is inside it."""
    write_page(folder / "report.html", "training/report/report.html", _values(folder, data))


def _values(folder: Path, data: ReportData) -> dict[str, Any]:
    metrics, config = data.metrics, data.config
    validation = metrics.validation
    base_rate = None if validation is None else validation.macro.base_rate
    ap = None if validation is None else validation.mean("ap")
    scores = scores_figure(metrics.history, base_rate, ap.over if ap is not None and ap.is_partial else "")
    values: dict[str, Any] = {
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
        "settings": [(key, "-" if value is None else value) for key, value in config.to_dict().items()],
        **(_unvalidated(data) if validation is None else _validated(data, validation)),
    }
    return {**values, "contents": _contents(values)}


def _notes(metrics: RunMetrics) -> list[str]:
    """What has to be known before anything else is read."""
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
    worst, best = mistaken_and_sure(evaluation, names)
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
        "suspects": suspects(evaluation, names, data.evaluation.label_errors),
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


_TITLES = {
    "training": "Training",
    "labels": "Labels",
    "each-label": "Each label",
    "confusions": "Confusions",
    "together": "Labels that go together",
    "calibration": "Calibration",
    "backgrounds": "Background sensitivity",
    "leak-tax": "Leak tax",
    "mistaken": "Most mistaken",
    "label-errors": "Probable label errors",
    "sure": "Surest and right",
    "seen": "What the network saw",
    "data": "Data",
    "settings": "Settings",
}


def _suspects_text(data: ReportData) -> str:
    errors, evaluation = data.evaluation.label_errors, data.evaluation
    people = len({error.sample for error in errors})
    where = "Only people in validation are looked at, as the network knows the labels of the others by heart."
    judged = judged_labels(evaluation.probs, evaluation.labels)
    unjudged = [name for number, name in enumerate(data.names) if number not in judged]
    if unjudged:
        where += f" Not judged, as the network knows too little of them: {', '.join(unjudged)}."
    if not errors:
        return f"None: no label of the people in validation is confidently contradicted. {where}"
    return (
        f"What was given and what the network, which has never seen these people, is confident of (its probability in "
        f"brackets), surest first. In label_errors.csv all {people} people are listed. Some of them are the "
        f"network's mistakes: look before changing a label. {where}"
        if people > 1
        else f"What was given and what the network, which has never seen this person, is confident of (its probability "
        f"in brackets); also in label_errors.csv. It may be the network's mistake: look before changing it. {where}"
    )


def _left_out_title(ledger: Ledger) -> str:
    count = len(ledger.left_out)
    first = f", the first {_MOST_LEFT_OUT:,} of them" if count > _MOST_LEFT_OUT else ""
    return f"{counted(count, 'picture')} left out{first}"


def _data(data: ReportData) -> list[tuple[str, Any]]:
    ledger, metrics = data.ledger, data.metrics
    models = ", ".join(f"{name or '-'} ({count})" for name, count in sorted(ledger.segmentation_models.items()))
    return [
        ("pictures in the dataset", f"{ledger.pictures:,}"),
        ("of them used", f"{ledger.pictures - len(ledger.left_out):,}"),
        *((reason, f"{count:,}") for reason, count in ledger.reasons.items()),
        ("segmentation models", models),
        ("people for training", f"{len(data.data.train):,}"),
        ("people for validation", f"{len(data.evaluation.samples):,}"),
        ("split", _split_text(data)),
        ("first weights", "-" if metrics.weights is None else metrics.weights.origin),
        ("thresholds", f"from {metrics.thresholds_from}"),
        ("normalisation", f"mean {data.spec.preprocessing.mean_rgb}, deviation {data.spec.preprocessing.std_rgb}"),
        ("digest of the dataset", metrics.dataset_sha256),
        ("digest of the split", metrics.split_sha256),
    ]


def _split_text(data: ReportData) -> str:
    if data.metrics.parts is not None:
        return data.metrics.parts.note
    return "by picset: nobody is in both subsets" if data.evaluation.samples else "none: mode all"
