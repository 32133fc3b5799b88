"""The report's charts, and the pictures of the first training batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cls.dataset.batches import EpochSampler, TrainBatches
from cls.dataset.cutouts import Cutouts
from cls.files import atomic_path
from cls.metrics.multilabel import precision_recall_steps, reliability
from cls.pages.render import Chart, Figure, nice_ticks, whole_ticks
from cls.training.config import TrainConfig
from cls.training.runs.metrics import Epoch
from cls.wording import score

_PAGE_RGB, _INK_RGB, _FAINT_RGB = (250, 250, 248), (34, 36, 40), (125, 129, 136)
_MARGIN_PX, _GAP_PX, _LINE_PX = 20, 14, 19
_TITLE_PX, _TEXT_PX = 20, 14

BEFORE_AFTER = "before_after.jpg"
_BATCHES = 3
_TILES, _COLUMNS = 24, 8
_PAIRS, _PAIR_COLUMNS = 24, 6

# Small inputs are shown enlarged, so that their captions can be read.
_SHOWN_WIDTH_PX = 150
_NONE, _NONE_KNOWN = "none of them", "none known"

# More than these are counted in a caption.
_MOST_UNKNOWN = 2
_WIDE, _HIGH = 440, 240
_SMALL_WIDE, _SMALL_HIGH = 210, 150
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_HALVES = (0.0, 0.5, 1.0)
_BINS = 10
_MOST_POINTS = 400
_MOST_DOTS = 40


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet.

    Attributes:
        image_rgb: uint8 (height, width, 3).
        lines: text below; the first in dark ink, the others fainter. Too long ones are cut.
    """

    image_rgb: NDArray[np.uint8]
    lines: tuple[str, ...]


def sheet(tiles: Sequence[Tile], title: str, *, columns: int) -> Image.Image:
    """Pictures of one size in rows, each with its lines of text below.

    Args:
        tiles: at least one; pictures of one size.
        title: above all.
        columns: pictures a row.
    """
    height_px, width_px = tiles[0].image_rgb.shape[:2]
    columns = min(columns, len(tiles))
    text_px = max(len(tile.lines) for tile in tiles) * _LINE_PX + 6
    rows = -(-len(tiles) // columns)
    top_px = _MARGIN_PX + _TITLE_PX + 16
    page = Image.new(
        "RGB",
        (
            2 * _MARGIN_PX + columns * width_px + (columns - 1) * _GAP_PX,
            top_px + rows * (height_px + text_px) + (rows - 1) * _GAP_PX + _MARGIN_PX,
        ),
        _PAGE_RGB,
    )
    draw = ImageDraw.Draw(page)
    title_font = font(_TITLE_PX, is_bold=True)
    draw.text(
        (_MARGIN_PX, _MARGIN_PX - 4), fitted(title, page.width - 2 * _MARGIN_PX, title_font), _INK_RGB, title_font
    )
    for number, tile in enumerate(tiles):
        left = _MARGIN_PX + (number % columns) * (width_px + _GAP_PX)
        top = top_px + (number // columns) * (height_px + text_px + _GAP_PX)
        page.paste(Image.fromarray(tile.image_rgb), (left, top))
        for place, line in enumerate(tile.lines):
            ink = font(_TEXT_PX, is_bold=place == 0)
            position = (left, top + height_px + 5 + place * _LINE_PX)
            draw.text(position, fitted(line, width_px, ink), _FAINT_RGB if place else _INK_RGB, ink)
    return page


@cache
def font(size_px: int, *, is_bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings: it has Latin, Greek, Cyrillic, Arabic and many signs."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if is_bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size_px)


def fitted(text: str, width_px: float, ink: ImageFont.FreeTypeFont) -> str:
    """The text, cut with an ellipsis where it is wider than `width_px`."""
    if ink.getlength(text) <= width_px:
        return text
    while text and ink.getlength(text + "…") > width_px:
        text = text[:-1]
    return text.rstrip() + "…"


@dataclass(frozen=True)
class Pair:
    """A training picture.

    Attributes:
        before: the cut-out as inference sees it, uint8 (height, width, 3).
        after: augmented, as the network saw it in the first epoch, uint8 (height, width, 3).
        caption: its labels.
    """

    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    caption: str


def write_train_grids(
    folder: Path, batches: TrainBatches, config: TrainConfig, cutouts: Cutouts, names: Sequence[str]
) -> list[Pair]:
    """Writes the first batches of the first epoch as `batch_<n>.jpg`, augmented as the network sees them.

    Small batches are shown several to a sheet. The first of these pictures stand beside what they were made of in
    `before_after.jpg`.

    Returns:
        The pictures of `before_after.jpg`.
    """
    pairs = _first_pairs(batches, config, cutouts, names)
    factor = max(round(_SHOWN_WIDTH_PX / cutouts.format.preprocessing.width_px), 1)
    tiles = [Tile(_enlarged(pair.after, factor), (pair.caption,)) for pair in pairs]
    for number, start in enumerate(range(0, len(tiles), _TILES)):
        page = sheet(tiles[start : start + _TILES], f"Training pictures, augmented ({number + 1})", columns=_COLUMNS)
        save_jpeg(page, folder / f"batch_{number}.jpg")
    shown = pairs[:_PAIRS]
    double = [Tile(_enlarged(np.hstack([pair.before, pair.after]), factor), (pair.caption,)) for pair in shown]
    page = sheet(double, "Training pictures, before and after augmentation", columns=_PAIR_COLUMNS)
    save_jpeg(page, folder / BEFORE_AFTER)
    return shown


def _first_pairs(batches: TrainBatches, config: TrainConfig, cutouts: Cutouts, names: Sequence[str]) -> list[Pair]:
    pairs: list[Pair] = []
    for key in EpochSampler(len(cutouts), config.batch, seed=config.seed):
        batch = batches[key]
        own = batch.labels[:, : len(names)].tolist()  # behind them stand the auxiliary ones
        parts = zip(batch.images.numpy(), own, batch.indices.tolist(), strict=True)
        pairs += [Pair(cutouts.input_rgb(index), image, caption(labels, names)) for image, labels, index in parts]
        if len(pairs) >= _BATCHES * _TILES:
            break
    return pairs[: _BATCHES * _TILES]


def _enlarged(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    return np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)


def caption(labels: Sequence[float], names: Sequence[str]) -> str:
    """The labels a sample has, as text, and what is not known of it: `red top (hat unknown)`."""
    has = ", ".join(name for name, value in zip(names, labels, strict=True) if value > 0.5)
    unknown = [name for name, value in zip(names, labels, strict=True) if math.isnan(value)]
    if not unknown:
        return has or _NONE
    listed = ", ".join(unknown) if len(unknown) <= _MOST_UNKNOWN else f"{len(unknown)} labels"
    return f"{has or _NONE_KNOWN} ({listed} unknown)"


def save_jpeg(page: Image.Image, path: Path) -> None:
    """Writes a picture as JPEG, whole or not at all."""
    with atomic_path(path) as part:
        page.save(part, format="JPEG", quality=90)


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
        legend.append(("faint", "AP at chance level"))
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
    chart = Chart(_SMALL_WIDE, _SMALL_HIGH, (0, 1), (0, 1), x_title="recall", label="precision-recall curve")
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
    chart = Chart(_WIDE, _HIGH, (0, 1), (0, 1), x_title="predicted probability", label="reliability diagram")
    chart.axes(_SHARES, _SHARES)
    chart.line([0, 1], [0, 1], "faint dashed")
    points = reliability(scores, truth, bins=_BINS)
    for given, found, count in points:
        width = 0.5 / _BINS * math.sqrt(count / len(scores))
        chart.bar((max(given - width, 0), min(given + width, 1)), (0, found), "c0", f"{count} decisions")
    chart.line([given for given, _, _ in points], [found for _, found, _ in points], "c0", tip=score)
    return Figure("Reliability", chart.svg(), (("c0", "fraction of positives"), ("faint", "perfectly calibrated")))
