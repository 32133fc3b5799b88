"""Pages from templates: one look, one set of components, charts as SVG; a page loads nothing from elsewhere."""

from __future__ import annotations

import base64
import datetime
import io
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

from cls.errors import FileError
from cls.files import write_text_atomic

# Units of the drawing; the page scales it. Room for tick texts on the left and below.
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 10, 10, 22
_AXIS_TITLE = 15

_JPEG_QUALITY = 86
_LINKS = re.compile(r'(?<=<nav class="related" aria-label="related pages">).*?(?=</nav>)')
_LINK = re.compile(r'<a href="([^"]*)">([^<]*)</a>')


@dataclass
class Chart:
    """A chart that is drawn piece by piece and then given as SVG.

    Lines and marks take a CSS class (`c0`, `c1`, …, `faint`) that the page gives a colour.

    Attributes:
        x: least and greatest value on the horizontal axis.
        y: least and greatest value on the vertical axis.
        x_title: below the horizontal axis; none when empty.
        label: what the drawing shows, for those who cannot see it.
    """

    width: int
    height: int
    x: tuple[float, float]
    y: tuple[float, float]
    x_title: str = ""
    label: str = ""
    _parts: list[str] = field(default_factory=list)

    def _x(self, value: float) -> float:
        low, high = self.x
        return _LEFT + (value - low) / ((high - low) or 1) * (self.width - _LEFT - _RIGHT)

    def _y(self, value: float) -> float:
        low, high = self.y
        return self._floor - (value - low) / ((high - low) or 1) * (self._floor - _TOP)

    @property
    def _floor(self) -> float:
        return self.height - _BOTTOM - (_AXIS_TITLE if self.x_title else 0)

    def axes(self, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> None:
        """Draws grid lines and tick texts."""
        left, right = _LEFT, self.width - _RIGHT
        for tick in y_ticks:
            at = self._y(tick)
            self._parts.append(f'<path class="grid" d="M{left} {at:.1f}H{right}"/>')
            self._parts.append(f'<text class="tick" x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>')
        for tick in x_ticks:
            at = self._x(tick)
            self._parts.append(
                f'<text class="tick" x="{at:.1f}" y="{self._floor + 16:.1f}" text-anchor="middle">{tick:g}</text>'
            )
        if self.x_title:
            middle = (left + right) / 2
            text = escape(self.x_title)
            self._parts.append(
                f'<text class="tick" x="{middle:.1f}" y="{self.height - 4}" text-anchor="middle">{text}</text>'
            )

    def line(
        self, xs: Sequence[float], ys: Sequence[float], css: str, *, tip: Callable[[float], str] | None = None
    ) -> None:
        """A line through points; it breaks where a value is not a number.

        Args:
            xs: of each point.
            ys: of each point.
            css: the line's class.
            tip: what a value reads as; where given, every point is marked and shows it under the pointer.
        """
        runs: list[list[str]] = [[]]
        for x, y in zip(xs, ys, strict=True):
            if math.isfinite(y):
                runs[-1].append(f"{self._x(x):.1f} {self._y(y):.1f}")
            elif runs[-1]:
                runs.append([])
        path = "".join("M" + "L".join(run) for run in runs if len(run) > 1)
        if path:
            self._parts.append(f'<path class="line {css}" d="{path}"/>')
        if tip is not None:
            for x, y in zip(xs, ys, strict=True):
                if math.isfinite(y):
                    self.dot(x, y, css, f"{x:g}: {tip(y)}")

    def steps(self, xs: Sequence[float], ys: Sequence[float], css: str) -> None:
        """A staircase: each value holds up to the next `x`."""
        path = ""
        for x, y in zip(xs, ys, strict=True):
            path += f"H{self._x(x):.1f}V{self._y(y):.1f}" if path else f"M{self._x(x):.1f} {self._y(y):.1f}"
        self._parts.append(f'<path class="line {css}" d="{path}"/>')

    def rule(self, *, x: float | None = None, y: float | None = None, css: str = "faint") -> None:
        """A dashed line across the chart at one value."""
        if x is not None:
            self._parts.append(f'<path class="line dashed {css}" d="M{self._x(x):.1f} {_TOP}V{self._floor:.1f}"/>')
        if y is not None:
            self._parts.append(f'<path class="line dashed {css}" d="M{_LEFT} {self._y(y):.1f}H{self.width - _RIGHT}"/>')

    def dot(self, x: float, y: float, css: str, title: str = "") -> None:
        """A mark with a text that shows under the pointer."""
        tip = f"<title>{escape(title)}</title>" if title else ""
        self._parts.append(
            f'<circle class="dot {css}" cx="{self._x(x):.1f}" cy="{self._y(y):.1f}" r="3.2">{tip}</circle>'
        )

    def bar(self, x: tuple[float, float], y: tuple[float, float], css: str, title: str = "") -> None:
        """A filled rectangle between two values of each axis."""
        left, right, low, high = self._x(x[0]), self._x(x[1]), self._y(y[0]), self._y(y[1])
        tip = f"<title>{escape(title)}</title>" if title else ""
        self._parts.append(
            f'<rect class="bar-{css}" x="{left:.1f}" y="{min(low, high):.1f}" width="{right - left:.1f}"'
            f' height="{abs(low - high):.1f}">{tip}</rect>'
        )

    def svg(self) -> Markup:
        """The drawing."""
        # In its pieces every text is escaped.
        return Markup(  # noqa: S704
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(self.label)}">'
            f"{''.join(self._parts)}</svg>"
        )


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values from `low` to `high`, at most about `most`: steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    raw = span / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 12) for place in range(first, math.floor(high / step + 1e-9) + 1)]


def whole_ticks(low: int, high: int, most: int = 8) -> list[float]:
    """Whole numbers from `low` to `high`, evenly spaced from `low`, at most `most`."""
    step = max(math.ceil((high - low + 1) / most), 1)
    return [float(value) for value in range(low, high + 1, step)]


@dataclass(frozen=True)
class Figure:
    """A chart and what its lines are.

    Attributes:
        title: above it.
        legend: CSS class and text of each line.
    """

    title: str
    svg: Markup
    legend: tuple[tuple[str, str], ...] = ()


def jpeg_bytes(image_rgb: NDArray[np.uint8]) -> bytes:
    """A picture, uint8 (height, width, 3), as a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(image_rgb).save(file, "JPEG", quality=_JPEG_QUALITY)
    return file.getvalue()


def jpeg_url(jpeg: bytes) -> str:
    """A JPEG file as a URL that holds all of it."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def picture_url(image_rgb: NDArray[np.uint8], width_px: int = 160) -> str:
    """A picture as a URL that holds a copy of it, at most `width_px` wide.

    Args:
        image_rgb: uint8 (height, width, 3).
        width_px: of the copy, at most.
    """
    height_px, own_width_px = image_rgb.shape[:2]
    if own_width_px > width_px:
        size = (width_px, max(round(height_px * width_px / own_width_px), 1))
        image_rgb = np.asarray(Image.fromarray(image_rgb).resize(size, Image.Resampling.BOX), np.uint8)
    return jpeg_url(jpeg_bytes(image_rgb))


@cache
def _environment() -> Environment:
    """Templates are named by their path in the package: `pages/page.html`, `training/report/report.html`."""
    return Environment(
        loader=PackageLoader("cls", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, values: Mapping[str, Any]) -> str:
    """A page's HTML.

    Args:
        template: its path in the package, of a template that extends `pages/page.html`.
        values: what the template shows; a missing one is an error.
    """
    return _environment().get_template(template).render(values)


def write_page(path: Path, template: str, values: Mapping[str, Any]) -> None:
    """Writes a page, whole or not at all. It keeps the links to related pages of the page it replaces.

    Raises:
        FileError: the file cannot be written.
    """
    text = render(template, values)
    with suppress(OSError, UnicodeDecodeError):
        if earlier := _LINKS.search(path.read_text(encoding="utf-8")):
            text = _LINKS.sub(lambda _: _living_links(path, earlier[0]), text, count=1)
    write_text_atomic(path, text)


def link_pages(pages: Mapping[str, Path]) -> None:
    """Links pages that belong together with each other, as far as they are there.

    Raises:
        FileError: a page cannot be read or written.
    """
    for page in pages.values():
        if page.is_file():
            set_links(page, {title: None if other == page else other for title, other in pages.items()})


def set_links(page: Path, others: Mapping[str, Path | None]) -> None:
    """Sets links to related pages at the head of a page; links to other pages with other titles stay.

    Links are relative: a folder that holds the pages can be moved. A page of an earlier version has no place for them
    and stays as it is.

    Args:
        page: an HTML file.
        others: title -> page; a link to None or to a file that is not there is removed.

    Raises:
        FileError: the page cannot be read or written.
    """
    titles = {str(escape(title)) for title in others}
    targets = {
        title: quote(os.path.relpath(other, page.parent))
        for title, other in others.items()
        if other is not None and other.is_file()
    }
    links = "".join(f'<a href="{target}">{escape(title)}</a>' for title, target in targets.items())

    def changed(earlier: str) -> str:
        found = _LINK.finditer(_living_links(page, earlier))
        return links + "".join(one[0] for one in found if one[2] not in titles and one[1] not in targets.values())

    _replace_links(page, changed)


def drop_dead_links(page: Path) -> None:
    """Removes the links at the head of a page to pages that are gone.

    Raises:
        FileError: the page cannot be read or written.
    """
    _replace_links(page, lambda links: _living_links(page, links))


def _living_links(page: Path, links: str) -> str:
    """Those of a page's links whose files are there."""
    return "".join(link[0] for link in _LINK.finditer(links) if (page.parent / unquote(link[1])).is_file())


def _replace_links(page: Path, change: Callable[[str], str]) -> None:
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot be read: {error}", code="unreadable", where=page) from error
    changed = _LINKS.sub(lambda found: change(found[0]), text, count=1)
    if changed != text:
        write_text_atomic(page, changed)


def now_utc() -> str:
    """When a page is made, as it says so."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
