"""Numbers as people read them: counts with their nouns, and scores that never look better than they are."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

_PLURALS = {"entry": "entries", "person": "people"}
# Sums of shares miss 0 and 1 by this much where they should meet them.
_FLOAT_NOISE = 1e-12
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NOT_DEFINED = "-"


def counted(count: int, noun: str) -> str:
    """The count and the noun that belongs to it: `1 photo`, `2 photos`, `1200 people`.

    Args:
        count: how many.
        noun: the singular; it takes an s, but for the few whose plural is known here.
    """
    return f"{count} {noun if count == 1 else _PLURALS.get(noun, noun + 's')}"


def score(value: float | None, digits: int = 3) -> str:
    """A score or a share from 0 to 1, such as F1, an average precision or an error: `0.846`, `-` where not defined.

    Near its ends it is rounded inwards, so that 1 is said of nothing but 1 and 0 of nothing but 0: 0.9965 is `0.996`,
    0.99996 is `0.999`, and an error of 0.0002 is `0.001`. Between, it is rounded to the nearest.
    """
    return NOT_DEFINED if value is None or value != value else str(_inwards(value, digits))


def percent(value: float | None, digits: int = 1) -> str:
    """A score or a share from 0 to 1 in percent, rounded as `score` does: `9.4%`; 0.0002 is `0.1%`, 0.9999 `99.9%`."""
    return NOT_DEFINED if value is None or value != value else f"{_inwards(value, digits + 2) * 100:.{digits}f}%"


def interval(bounds: Sequence[float] | None, digits: int = 3) -> str:
    """The ends of an interval of a score: `0.831–1.000`, each rounded as `score` does; empty where there is none."""
    return "" if bounds is None else f"{score(bounds[0], digits)}–{score(bounds[1], digits)}"


def percent_interval(bounds: Sequence[float] | None) -> str:
    """The ends of an interval of a share in percent: `2.1–9.4%`; empty where there is none."""
    return "" if bounds is None else f"{percent(bounds[0]).removesuffix('%')}–{percent(bounds[1])}"


def difference(value: float | None, digits: int = 3) -> str:
    """A difference of scores with its sign: `+0.021`, and `0.000` of equal ones; -0.00004 is `-0.00004`, not 0."""
    if value is None:
        return NOT_DEFINED
    rounded = f"{value:+.{digits}f}"
    if float(rounded):
        return rounded
    return f"{Decimal(f'{value:+.1g}'):+f}" if abs(value) > _FLOAT_NOISE else f"{0:.{digits}f}"


def change(value: float, digits: int = 4) -> str:
    """How a score changes: `-0.0016`, or `unchanged`."""
    return difference(value, digits) if abs(value) > _FLOAT_NOISE else "unchanged"


def magnitude(value: float, digits: int = 4) -> str:
    """How large a difference is: `0.0213`, `2.4 × 10⁻⁷`, or `0`."""
    if value == 0 or value >= 1e-3:
        return f"{value:.{digits}f}" if value else "0"
    mantissa, power = f"{value:.1e}".split("e")
    return f"{mantissa}\u00a0×\u00a010{str(int(power)).translate(_RAISED)}"


def mean_over(labels: int, of: int) -> str:
    """Over how many labels a mean is: `mean over 8 labels`, or `mean over 1 of 8 labels` where some are not in it."""
    return f"mean over {counted(labels, 'label')}" if labels == of else f"mean over {labels} of {counted(of, 'label')}"


def _inwards(value: float, digits: int) -> Decimal:
    """Rounded to the nearest, but down in the last tenth-part below 1 and up in that above 0."""
    unit = Decimal(1).scaleb(-digits)
    if value >= 1 - _FLOAT_NOISE or value <= _FLOAT_NOISE:
        return Decimal(round(value)).quantize(unit)
    exact = Decimal(repr(float(value)))
    way = ROUND_CEILING if exact < unit else ROUND_FLOOR if exact >= 1 - 10 * unit else ROUND_HALF_EVEN
    return exact.quantize(unit, way)
