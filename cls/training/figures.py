"""The report's plots, as SVG text to be put into a page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cls.training.metrics import precision_recall_steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREY, _INK = "#2f6fb7", "#e08214", "#b9bec7", "#22262d"
# Colour-blind safe (Okabe and Ito), without its yellow.
_CYCLE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#6a51a3", "#555555")
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "grid.color": "#eceef1",
    "xtick.color": "#5d636d",
    "ytick.color": "#5d636d",
    "legend.frameon": False,
    "svg.fonttype": "path",
    # A label may hold a dollar sign.
    "text.parse_math": False,
    # The same run gives the same page.
    "svg.hashsalt": "cls",
}


def curves_svg(history: Sequence[dict[str, float]], base_rate: float | None) -> str:
    """Loss, and what validation says, epoch by epoch; a single epoch is a dot.

    Args:
        history: one entry an epoch, as in metrics.json.
        base_rate: the mean average precision of guessing, drawn as a line.
    """
    with mpl.rc_context(_STYLE):
        # Validation in which nobody has a label gives a loss and no scores.
        has_scores = any("valid_map" in epoch or "valid_auroc" in epoch for epoch in history)
        figure, axes = _figure(2 if has_scores else 1, width=9.6 if has_scores else 4.8, height=2.9)
        epochs = [epoch["epoch"] + 1 for epoch in history]
        loss = axes[0]
        loss.plot(epochs, [epoch["train_loss"] for epoch in history], color=_BLUE, marker="o", ms=3, label="training")
        if any("valid_loss" in epoch for epoch in history):
            valid = [epoch.get("valid_loss", np.nan) for epoch in history]
            loss.plot(epochs, valid, color=_ORANGE, marker="o", ms=3, label="validation")
        loss.set(title="Loss", xlabel="epoch")
        loss.set_ylim(bottom=0)
        loss.legend()
        if has_scores:
            _plot_scores(axes[1], epochs, history, base_rate)
        for axis in axes:
            axis.set_xlim(min(epochs, default=1) - 0.5, max(epochs, default=1) + 0.5)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        return _svg(figure)


def _plot_scores(axis: Axes, epochs: Sequence[float], history: Sequence[dict[str, float]], base: float | None) -> None:
    for key, text, color in (("valid_map", "mean AP", _ORANGE), ("valid_auroc", "mean AUROC", _BLUE)):
        axis.plot(epochs, [epoch.get(key, np.nan) for epoch in history], color=color, marker="o", ms=3, label=text)
    if base is not None:
        axis.axhline(base, color=_GREY, ls="--", lw=1.2, label="AP of guessing")
    axis.set(title="Validation", xlabel="epoch", ylim=(0, 1.02))
    axis.legend(loc="lower right")


def precision_recall_svg(
    probs: NDArray[np.float64], labels: NDArray[np.float64], names: Sequence[str], thresholds: Sequence[float]
) -> str | None:
    """Precision over recall for every label, a dot where its threshold is.

    Args:
        probs: (samples, labels).
        labels: (samples, labels): 1, 0 or NaN.
        names: label names.
        thresholds: one a label.

    Returns:
        None where nobody has any label: there is nothing to draw.
    """
    if not (labels > 0.5).any():
        return None
    with mpl.rc_context(_STYLE):
        figure, (axis,) = _figure(1, width=5.6, height=4.0)
        for index, name in enumerate(names):
            known = ~np.isnan(labels[:, index])
            truth, scores = labels[known, index] > 0.5, probs[known, index]
            if not truth.any():
                continue
            precision, recall, steps = precision_recall_steps(scores, truth)
            color = _CYCLE[index % len(_CYCLE)]
            axis.step(recall, precision, where="post", color=color, lw=1.5, label=name)
            chosen = np.flatnonzero(steps >= thresholds[index])
            if chosen.size:
                axis.plot(recall[chosen[-1]], precision[chosen[-1]], "o", color=color, ms=6, mec="white")
        axis.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(0, 1.04), title="Precision and recall")
        axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)
        return _svg(figure)


def confusion_svg(probs: NDArray[np.float64], labels: NDArray[np.float64], names: Sequence[str]) -> str:
    """What is said of people with each label: the most probable label, or none where all are below their threshold.

    Args:
        probs: (samples, labels), as a share of each label's threshold: 1 and above is present.
        labels: (samples, labels): 1, 0 or NaN. A person with several labels counts in each one's row.
        names: label names.
    """
    columns = [*names, "none"]
    said = np.where(probs.max(axis=1) >= 1, probs.argmax(axis=1), len(names))
    has = np.nan_to_num(labels) > 0.5
    rows = np.hstack([has, ~has.any(axis=1, keepdims=True)])
    counts = np.array([[int((rows[:, row] & (said == column)).sum()) for column in range(len(columns))]
                       for row in range(len(columns))])  # fmt: skip
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with mpl.rc_context({**_STYLE, "axes.grid": False}):
        side = 1.9 + 0.46 * len(columns)
        figure, (axis,) = _figure(1, width=side + 1.1, height=side)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(*counts.shape):
            color = "white" if shares[row, column] > 0.55 else _INK
            if counts[row, column]:
                axis.text(column, row, str(counts[row, column]), ha="center", va="center", color=color, fontsize=8)
        axis.set_xticks(range(len(columns)), columns, rotation=40, ha="right")
        axis.set_yticks(range(len(columns)), columns)
        axis.set(xlabel="most probable label", ylabel="has the label", title="Confusions")
        for spine in axis.spines.values():
            spine.set_visible(False)
        return _svg(figure)


def _figure(columns: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, columns)))


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    content = text.getvalue()
    return content[content.index("<svg") :]
