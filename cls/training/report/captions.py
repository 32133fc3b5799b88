"""Pictures with captions in tidy sheets: for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

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
