"""report.html: one self-contained page about a run."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from cls.dataset.samples import Ledger, Sample, labels_of
from cls.files import write_text_atomic
from cls.people.preprocess import Preprocessing
from cls.training.config import TrainConfig
from cls.training.evaluate import Evaluation
from cls.training.figures import confusion_svg, curves_svg, precision_recall_svg
from cls.training.fit import FitResult
from cls.training.grids import caption
from cls.training.metrics import LabelMetrics
from cls.training.weights import WeightsSource

_PEOPLE_SHOWN = 14
_SHOWN_WIDTH_PX = 160


@dataclass(frozen=True)
class ReportMatter:
    """What the page is about.

    Attributes:
        config: what was asked for.
        timm_arch: timm's name of the backbone.
        names: label names.
        train: samples trained on.
        ledger: what was left out.
        preprocessing: what makes the network's input.
        source: where the first weights came from.
        result: of the fit.
        evaluation: of the kept weights.
    """

    config: TrainConfig
    timm_arch: str
    names: tuple[str, ...]
    train: Sequence[Sample]
    ledger: Ledger
    preprocessing: Preprocessing
    source: WeightsSource
    result: FitResult
    evaluation: Evaluation


def write_report(folder: Path, matter: ReportMatter) -> None:
    """Writes report.html into a run folder; everything it shows is inside it.

    Args:
        folder: the run folder, with its train_batches.
        matter: what to show.
    """
    environment = Environment(
        loader=PackageLoader("cls.training", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("report.html").render(**_values(folder, matter))
    write_text_atomic(folder / "report.html", page)


def _values(folder: Path, matter: ReportMatter) -> dict[str, Any]:
    from markupsafe import Markup

    evaluation, config = matter.evaluation, matter.config
    metrics = evaluation.metrics
    grid = (folder / "train_batches" / "batch_0.jpg").read_bytes()
    base_rate = None if metrics is None else metrics.macro["base_rate"]
    values: dict[str, Any] = {
        "group": config.group,
        "run": folder.name,
        "arch": matter.timm_arch,
        "size": f"{config.height_px} × {config.width_px}",
        "weights_note": None if matter.source.is_pretrained else matter.source.origin,
        "figures": _figures(matter),
        "curves": Markup(curves_svg(matter.result.history, base_rate)),  # noqa: S704
        "rows": [],
        "thresholds_from": evaluation.thresholds_from,
        "grid": _data_url(grid, "jpeg"),
        "data": _data(matter),
        "left_out": sorted(matter.ledger.left_out.items())[:2000],
        "settings": [(key, "-" if value is None else value) for key, value in config.to_dict().items()],
    }
    if metrics is not None:
        relative = evaluation.probs / np.asarray(evaluation.thresholds)
        worst, best = _people(matter)
        precision_recall = precision_recall_svg(
            evaluation.probs, evaluation.labels, matter.names, evaluation.thresholds
        )
        # Our own SVG, in which matplotlib has drawn every text as a path or escaped it.
        values |= {
            "rows": _rows(matter),
            "precision_recall": None if precision_recall is None else Markup(precision_recall),  # noqa: S704
            "unseen": [name for name in matter.names if not metrics.labels[name].positives],
            "confusions": Markup(confusion_svg(relative, evaluation.labels, matter.names)),  # noqa: S704
            "worst": worst,
            "best": best,
            "valid_people": len(evaluation.samples),
            "valid_picsets": len({sample.unit for sample in evaluation.samples}),
        }
    return values


def _figures(matter: ReportMatter) -> list[tuple[str, str]]:
    """The cards at the top: value, text."""
    metrics, result = matter.evaluation.metrics, matter.result
    figures = []
    if metrics is not None:
        figures += [
            (_text(metrics.macro["ap"]), f"mean average precision (guessing: {_text(metrics.macro['base_rate'])})"),
            (_text(metrics.macro["f1"]), "mean F1"),
            (_text(metrics.macro["auroc"]), "mean AUROC"),
        ]
    return [
        *figures,
        (f"{len(matter.train):,}", "people trained on"),
        (f"{len(matter.evaluation.samples):,}", "people validated on"),
        (_duration(result.seconds), f"training; {result.waiting_share:.1%} of it waiting for data"),
    ]


def _rows(matter: ReportMatter) -> list[dict[str, Any]]:
    """The table of labels, and the means."""
    metrics = matter.evaluation.metrics
    if metrics is None:
        return []
    trained = np.nansum(labels_of(matter.train), axis=0).astype(int).tolist()
    rows = [_row(name, count, metrics.labels[name]) for name, count in zip(matter.names, trained, strict=True)]
    macro = metrics.macro
    mean = {key: _text(macro[key]) for key in ("ap", "base_rate", "auroc", "precision", "recall", "f1")}
    percents = {"ap_percent": _percent(macro["ap"]), "base_percent": _percent(macro["base_rate"])}
    rows.append({"name": "mean", "train": "", "positives": "", "threshold": "", "is_mean": True, **mean, **percents})
    return rows


def _row(name: str, trained: int, label: LabelMetrics) -> dict[str, Any]:
    keys = ("base_rate", "ap", "auroc", "threshold", "precision", "recall", "f1")
    return {
        "name": name,
        "train": trained,
        "positives": label.positives,
        "is_mean": False,
        "ap_percent": _percent(label.ap),
        "base_percent": _percent(label.base_rate),
        **{key: _text(getattr(label, key)) for key in keys},
    }


def _people(matter: ReportMatter) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The most mistaken people, and the surest right ones, one of a picset."""
    evaluation = matter.evaluation
    thresholds = np.asarray(evaluation.thresholds)
    odds = _log_odds(evaluation.probs) - _log_odds(thresholds)
    truth = np.nan_to_num(evaluation.labels) > 0.5
    # Above 0: on the right side of the threshold, and how far.
    margins = np.where(truth, odds, -odds)
    margins[np.isnan(evaluation.labels)] = np.inf
    lowest = margins.min(axis=1)
    worst = [int(i) for i in np.argsort(lowest, kind="stable") if lowest[i] < 0]
    best = [int(i) for i in np.argsort(-lowest, kind="stable") if lowest[i] > 0 and truth[i].any()]
    return (
        [_person(matter, index, margins[index]) for index in _one_a_unit(worst, evaluation.samples)],
        [_person(matter, index, margins[index]) for index in _one_a_unit(best, evaluation.samples)],
    )


def _one_a_unit(indices: Sequence[int], samples: Sequence[Sample]) -> list[int]:
    first: dict[str, int] = {}
    for index in indices:
        first.setdefault(samples[index].unit, index)
    return list(first.values())[:_PEOPLE_SHOWN]


def _person(matter: ReportMatter, index: int, margins: NDArray[np.float64]) -> dict[str, Any]:
    evaluation = matter.evaluation
    truth = evaluation.labels[index]
    wrong = [
        f"{'missed' if truth[label] > 0.5 else 'said'} {matter.names[label]} ({evaluation.probs[index, label]:.2f})"
        for label in np.argsort(margins)
        if margins[label] < 0
    ]
    sure = [
        f"{matter.names[label]} ({evaluation.probs[index, label]:.2f})"
        for label in range(len(matter.names))
        if truth[label] > 0.5
    ]
    return {
        "image": _picture_url(evaluation.cutouts.exact(index)),
        "truth": caption(truth.tolist(), matter.names),
        "wrong": wrong,
        "sure": ", ".join(sure),
        "path": evaluation.samples[index].path,
    }


def _data(matter: ReportMatter) -> list[tuple[str, Any]]:
    ledger = matter.ledger
    models = ", ".join(f"{name or '-'} ({count})" for name, count in sorted(ledger.segmentation_models.items()))
    return [
        ("pictures in the dataset", ledger.pictures),
        ("of them used", ledger.pictures - len(ledger.left_out)),
        *((reason, count) for reason, count in ledger.reasons.items()),
        ("segmentation models", models),
        ("people for training", len(matter.train)),
        ("people for validation", len(matter.evaluation.samples)),
        ("split", "by picset: nobody is on both sides" if matter.evaluation.samples else "none: mode all"),
        ("first weights", matter.source.origin),
        ("thresholds", f"from {matter.evaluation.thresholds_from}"),
        ("normalisation", f"mean {matter.preprocessing.mean_rgb}, deviation {matter.preprocessing.std_rgb}"),
    ]


def _picture_url(image_rgb: NDArray[np.uint8]) -> str:
    width_px = min(_SHOWN_WIDTH_PX, image_rgb.shape[1])
    height_px = round(image_rgb.shape[0] * width_px / image_rgb.shape[1])
    small = cv2.resize(image_rgb, (width_px, height_px), interpolation=cv2.INTER_AREA)
    _, content = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    return _data_url(content.tobytes(), "jpeg")


def _data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _log_odds(probs: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(probs, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(clipped / (1 - clipped)), np.float64)


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "0" if value is None else f"{100 * value:.1f}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
