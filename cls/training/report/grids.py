"""train_batches/*.jpg: what the network sees in its first batches, with labels, and what that was made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cls.dataset.batches import EpochSampler, TrainBatches
from cls.dataset.cutouts.cutouts import Cutouts
from cls.files import atomic_path
from cls.training.config import TrainConfig

_PAGE_RGB, _INK_RGB, _FAINT_RGB = (250, 250, 248), (34, 36, 40), (125, 129, 136)
_MARGIN_PX, _GAP_PX, _LINE_PX = 20, 14, 19
_TITLE_PX, _TEXT_PX = 20, 14


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


BEFORE_AFTER = "before_after.jpg"
_BATCHES = 3
_TILES, _COLUMNS = 24, 8
_PAIRS, _PAIR_COLUMNS = 24, 6
# Small inputs are shown enlarged, so that their captions can be read.
_SHOWN_WIDTH_PX = 150
_NONE, _NONE_KNOWN = "none of them", "none known"
# More than these are counted in a caption.
_MOST_UNKNOWN = 2


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
        own = batch.labels[:, : len(names)].tolist()  # behind them stand those learnt alongside
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
