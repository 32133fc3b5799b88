"""The report's charts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from cls.metrics.multilabel import precision_recall_steps, reliability
from cls.pages.charts import Chart, Figure, nice_ticks, whole_ticks
from cls.training.runs.metrics import Epoch
from cls.wording import score

_WIDE, _HIGH = 440, 240
_SMALL_WIDE, _SMALL_HIGH = 210, 150
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_HALVES = (0.0, 0.5, 1.0)
_BINS = 10
_MOST_POINTS = 400
_MOST_DOTS = 40


def loss_figure(history: Sequence[Epoch]) -> Figure:
    """Loss in training and in validation, epoch by epoch; a single epoch is a dot."""
    lines = [("c0", "training", "train_loss"), ("c1", "validation", "valid_loss")]
    drawn = [line for line in lines if any(getattr(epoch, line[2]) is not None for epoch in history)]
    values = [value for _, _, key in drawn for value in _values(history, key) if math.isfinite(value)]
    chart = _epochs(history, (0.0, 1.06 * max([*values, 1e-9])), "loss by epoch")
    for css, _, key in drawn:
        _draw(chart, history, key, css, "{:.3f}".format)
    return Figure("Loss", chart.svg(), tuple((css, text) for css, text, _ in drawn))


def scores_figure(history: Sequence[Epoch], base_rate: float | None, over: str = "") -> Figure | None:
    """What validation says, epoch by epoch; None where nobody in validation has a label.

    Args:
        history: one entry an epoch.
        base_rate: the mean average precision of guessing, drawn as a line.
        over: over which labels the means are, where that is not all of them.
    """
    names = [f"{name}, {over}" if over else f"mean {name}" for name in ("AP", "AUROC")]
    lines = [("c1", names[0], "valid_map"), ("c0", names[1], "valid_auroc")]
    drawn = [line for line in lines if any(getattr(epoch, line[2]) is not None for epoch in history)]
    if not drawn:
        return None
    chart = _epochs(history, (0.0, 1.0), "validation by epoch")
    for css, _, key in drawn:
        _draw(chart, history, key, css, score)
    legend = [(css, text) for css, text, _ in drawn]
    if base_rate is not None:
        chart.rule(y=base_rate)
        legend.append(("faint", "AP of guessing"))
    return Figure("Validation", chart.svg(), tuple(legend))


def _epochs(history: Sequence[Epoch], y: tuple[float, float], label: str) -> Chart:
    last = len(history)
    # A single epoch stands in the middle.
    x = (1.0, float(last)) if last > 1 else (0.5, 1.5)
    chart = Chart(_WIDE, _HIGH, x, y, x_title="epoch", label=label)
    chart.axes(whole_ticks(1, max(last, 1)), nice_ticks(*y))
    return chart


def _draw(chart: Chart, history: Sequence[Epoch], key: str, css: str, tip: Callable[[float], str]) -> None:
    epochs = [epoch.epoch + 1 for epoch in history]
    chart.line(epochs, _values(history, key), css, tip=tip if len(history) <= _MOST_DOTS else None)


def _values(history: Sequence[Epoch], key: str) -> list[float]:
    """A measure of each epoch; NaN where it has none."""
    return [math.nan if (value := getattr(epoch, key)) is None else value for epoch in history]


def precision_recall_svg(scores: NDArray[np.float64], truth: NDArray[np.bool_], threshold: float) -> Markup | None:
    """Precision over recall of one label, a dot where its threshold is; None without positives.

    Args:
        scores: (samples,).
        truth: (samples,).
        threshold: the label's.
    """
    if not truth.any():
        return None
    precision, recall, steps = precision_recall_steps(scores, truth)
    chart = Chart(_SMALL_WIDE, _SMALL_HIGH, (0, 1), (0, 1), x_title="recall", label="precision over recall")
    chart.axes(_HALVES, _HALVES)
    chart.rule(y=float(truth.mean()))
    keep = _turning_points(recall)
    chart.line([0.0, *recall[keep]], [precision[0], *precision[keep]], "c0")
    chosen = np.flatnonzero(steps >= threshold)
    if chosen.size:
        at = chosen[-1]
        text = f"threshold {threshold:.2f}: precision {score(precision[at], 2)}, recall {score(recall[at], 2)}"
        chart.dot(float(recall[at]), float(precision[at]), "c1", text)
    return chart.svg()


def _turning_points(recall: NDArray[np.float64]) -> list[int]:
    """Where the curve is drawn through: both ends of every stretch of equal recall; of very many, an even choice."""
    rises = np.flatnonzero(np.diff(recall) > 0)
    kept = sorted({0, len(recall) - 1, *rises.tolist(), *(rises + 1).tolist()})
    return sorted({*kept[:: len(kept) // _MOST_POINTS + 1], kept[-1]})


def scores_svg(scores: NDArray[np.float64], truth: NDArray[np.bool_], threshold: float) -> Markup:
    """How probabilities of one label lie: of those who have it upwards, of the others downwards; its threshold.

    Args:
        scores: (samples,), 0 to 1.
        truth: (samples,).
        threshold: the label's.
    """
    chart = Chart(_SMALL_WIDE, _SMALL_HIGH, (0, 1), (-1, 1), x_title="probability", label="probabilities")
    edges = np.linspace(0, 1, 2 * _BINS + 1)
    chart.axes(_HALVES, ())
    chart.rule(y=0)
    for mask, sign, css, who in ((truth, 1, "c0", "with"), (~truth, -1, "c1", "without")):
        counts, _ = np.histogram(np.clip(scores[mask], 0, 1), edges)
        # Square roots: a rare label's few people are seen beside the many others.
        heights = np.sqrt(counts / max(counts.max(), 1))
        for low, high, height, count in zip(edges[:-1], edges[1:], heights, counts, strict=True):
            if count:
                text = f"{count} {who} the label, {low:.2f} to {high:.2f}"
                chart.bar((low, high), (0, sign * 0.95 * float(height)), css, text)
    chart.rule(x=threshold, css="mark")
    return chart.svg()


def reliability_figure(probs: NDArray[np.float64], labels: NDArray[np.float64]) -> Figure | None:
    """Reliability diagram: of the decisions given a probability, the share that is true; None without any.

    The wider a bar, the more decisions stand behind it. See Niculescu-Mizil and Caruana, ICML 2005.

    Args:
        probs: (samples, labels), as the run gives them.
        labels: (samples, labels): 1, 0 or NaN.
    """
    known = ~np.isnan(labels)
    scores, truth = probs[known], labels[known] > 0.5
    if not scores.size:
        return None
    chart = Chart(_WIDE, _HIGH, (0, 1), (0, 1), x_title="probability given", label="reliability diagram")
    chart.axes(_SHARES, _SHARES)
    chart.line([0, 1], [0, 1], "faint dashed")
    points = reliability(scores, truth, bins=_BINS)
    for given, found, count in points:
        width = 0.5 / _BINS * math.sqrt(count / len(scores))
        chart.bar((max(given - width, 0), min(given + width, 1)), (0, found), "c0", f"{count} decisions")
    chart.line([given for given, _, _ in points], [found for _, found, _ in points], "c0", tip=score)
    return Figure("Reliability", chart.svg(), (("c0", "share that is true"), ("faint", "perfect")))
