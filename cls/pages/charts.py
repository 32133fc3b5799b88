"""Charts as SVG, drawn into a page; the stylesheet gives them their colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

# Units of the drawing; the page scales it. Room for tick texts on the left and below.
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 10, 10, 22
_AXIS_TITLE = 15


@dataclass
class Chart:
    """A chart that is drawn piece by piece and then given as SVG.

    Lines and marks take a CSS class (`c0`, `c1`, …, `faint`) that the page gives a colour.

    Attributes:
        width: of the drawing.
        height: of the drawing.
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
        svg: the drawing.
        legend: CSS class and text of each line.
    """

    title: str
    svg: Markup
    legend: tuple[tuple[str, str], ...] = ()
