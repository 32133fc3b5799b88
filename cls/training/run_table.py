"""Runs as plain tables: a list of them, and two side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from cls.training.comparable import kind_of_validation, trained_on_others, why_not_comparable
from cls.training.run_list import DAMAGED, FINISHED_STATE, RunEntry
from cls.training.summary import left_out_text

WIDTH = 120
_UNKNOWN = "-"
_HEAD = ("run", "state", "date", "arch", "size", "epochs", "people", "mAP", "F1", "mA", "time")
_RIGHT = {"epochs", "people", "time"}
_ARCH_COLUMN, _RUN_COLUMN = _HEAD.index("arch"), _HEAD.index("run")
_SHORTEST_ARCH, _SHORTEST_RUN = 6, 24
_MEASURES = (
    ("mAP", ("validation", "macro", "ap"), "ap"),
    ("mean F1", ("validation", "macro", "f1"), "f1"),
    ("mA", ("validation", "macro", "ma"), "ma"),
    ("mean AUROC", ("validation", "macro", "auroc"), "auroc"),
    ("mean precision", ("validation", "macro", "precision"), "precision"),
    ("mean recall", ("validation", "macro", "recall"), "recall"),
    ("mAP of those not left out", ("validation", "intervals", "means", "ap"), "ap"),
    ("F1 of those not left out", ("validation", "intervals", "means", "f1"), "f1"),
    ("F1, thresholds chosen on others", ("validation", "cross_fitted", "macro", "f1"), ""),
    ("F1 over people", ("validation", "instance", "f1"), ""),
    ("every label right", ("validation", "exact"), ""),
    ("calibration error", ("validation", "micro", "ece"), ""),
    ("flips with the background", ("background_sensitivity", "as_served", "share"), ""),
    ("seconds", ("seconds",), ""),
)


def run_table(entries: Sequence[RunEntry]) -> str:
    """The runs of each group below its name, at most 120 columns wide where names allow.

    Args:
        entries: by group and number.
    """
    lines: list[str] = []
    for group, runs in groupby(entries, key=lambda entry: entry.group):
        found = list(runs)
        lines += ["", group, *(f"  {line}" for line in _aligned([_HEAD, *(_row(entry) for entry in found)], WIDTH - 2))]
        lines += [f"  {entry.name}: {entry.problem}" for entry in found if entry.state == DAMAGED]
        lines += _warnings(found)
    return "\n".join(lines[1:])


def _row(entry: RunEntry) -> tuple[str, ...]:
    samples = entry.metrics.get("samples")
    people = f"{samples.get('train')}+{samples.get('valid')}" if isinstance(samples, dict) else _UNKNOWN
    return (
        entry.name,
        entry.state,
        entry.date[:10] or _UNKNOWN,
        _text(entry.setting("arch")),
        entry.size or _UNKNOWN,
        _text(entry.setting("epochs")),
        people,
        *(_with_interval(entry, key) for key in ("ap", "f1", "ma")),
        _duration(entry.measure("seconds")),
    )


def _with_interval(entry: RunEntry, key: str) -> str:
    value, bounds = entry.measure("validation", "macro", key), entry.interval(key)
    if value is None:
        return _UNKNOWN
    # Room for the interval of one measure alone: the others' stand in the report and in --json.
    return f"{value:.3f} {_range(bounds)}" if bounds is not None and key == "ap" else f"{value:.3f}"


def _range(bounds: tuple[float, float]) -> str:
    return "–".join(f"{bound:.2f}".removeprefix("0") for bound in bounds)


def _warnings(entries: Sequence[RunEntry]) -> list[str]:
    measured = [entry for entry in entries if entry.measure("validation", "macro", "ap") is not None]
    kinds = {kind_of_validation(entry) for entry in measured}
    warnings = [f"  {entry.name}: {_left_out(entry)}" for entry in measured if entry.left_out]
    if len(kinds) < 2:
        return warnings
    text = f"  {len(measured)} runs were validated on {len(kinds)} different sets of people or labels"
    return [*warnings, f"{text}: compare with care (--compare)"]


def _left_out(entry: RunEntry) -> str:
    """Which labels its intervals and cross-fitted means are without."""
    labels = entry.metrics.get("labels")
    text = left_out_text({"left_out": entry.left_out}, len(labels) if isinstance(labels, list) else 0)
    return f"intervals and means with thresholds chosen on others are{text.removeprefix(',')}"


def comparison(first: RunEntry, second: RunEntry) -> str:
    """Two runs side by side: whether they can be compared, settings that differ, measures and their difference.

    Args:
        first: on the left.
        second: on the right; differences are its measures minus the first one's.
    """
    head = ("", first.name, second.name)
    blocks = [[_title(first), _title(second)], _comparable(first, second)]
    keys = list(dict.fromkeys([*_settings(first), *_settings(second)]))
    differing = [
        (key, _text(_settings(first).get(key)), _text(_settings(second).get(key)))
        for key in keys
        if _settings(first).get(key) != _settings(second).get(key)
    ]
    blocks.append(_aligned([head, *differing]) if differing else ["All settings are the same."])
    measures = [
        row for title, path, key in _measures(first, second) if (row := _difference(first, second, title, path, key))
    ]
    measures += _label_rows(first, second)
    if measures:
        blocks.append(_aligned([(*head, "difference", ""), *measures], right=(1, 2, 3)))
    return "\n\n".join("\n".join(block) for block in blocks)


def comparison_dict(first: RunEntry, second: RunEntry) -> dict[str, Any]:
    """The same as plain values, for `--json`."""
    one, other = _settings(first), _settings(second)
    differing = {key: [one.get(key), other.get(key)] for key in {**one, **other} if one.get(key) != other.get(key)}
    measures = {
        title: {
            "values": [first.measure(*path), second.measure(*path)],
            "intervals": [_bounds(entry, path, key) for entry in (first, second)] if key else None,
        }
        for title, path, key in _measures(first, second)
    }
    return {
        "runs": [first.to_dict(), second.to_dict()],
        "is_comparable": not why_not_comparable(first, second),
        "why_not": why_not_comparable(first, second),
        "settings": differing,
        "measures": measures,
    }


def _title(entry: RunEntry) -> str:
    return f"{entry.group}: {entry.name}" + ("" if entry.state == FINISHED_STATE else f" ({entry.state})")


def _settings(entry: RunEntry) -> dict[str, Any]:
    found = entry.args.get("settings")
    return {**found, "size": entry.size} if isinstance(found, dict) else {}


def _measures(first: RunEntry, second: RunEntry) -> list[tuple[str, tuple[str, ...], str]]:
    """What is compared; means without the labels left out only where labels are left out."""
    has_left_out = bool(first.left_out or second.left_out)
    return [row for row in _MEASURES if has_left_out or "intervals" not in row[1]]


def _comparable(first: RunEntry, second: RunEntry) -> list[str]:
    problems = why_not_comparable(first, second)
    left_out = [f"{entry.name}: {_left_out(entry)}." for entry in (first, second) if entry.left_out]
    if not problems:
        others = " They were trained on different ones." if trained_on_others(first, second) else ""
        return [f"Both were validated on the same people: their measures can be compared.{others}", *left_out]
    is_measured = all(isinstance(entry.metrics.get("validation"), dict) for entry in (first, second))
    why = " A difference may be one of the people, not of the classifier." if is_measured else ""
    return [f"NOT COMPARABLE: {'; '.join(problems)}.{why}", *left_out]


def _bounds(entry: RunEntry, path: tuple[str, ...], key: str) -> tuple[float, float] | None:
    """The interval of what stands at the path."""
    return entry.interval_of_kept(key) if "intervals" in path else entry.interval(key)


def _difference(
    first: RunEntry, second: RunEntry, title: str, path: tuple[str, ...], key: str
) -> tuple[str, ...] | None:
    one, other = first.measure(*path), second.measure(*path)
    if one is None and other is None:
        return None
    digits = 1 if path == ("seconds",) else 3
    change = "" if one is None or other is None else f"{other - one:+.{digits}f}"
    bounds = (_bounds(first, path, key), _bounds(second, path, key)) if key else (None, None)
    cells = [_measure_text(value, bound, digits) for value, bound in zip((one, other), bounds, strict=True)]
    return title, *cells, change, _verdict(*bounds)


def _measure_text(value: float | None, bounds: tuple[float, float] | None, digits: int) -> str:
    if value is None:
        return _UNKNOWN
    return f"{value:.{digits}f}" + (f" ({bounds[0]:.3f}–{bounds[1]:.3f})" if bounds else "")


def _verdict(one: tuple[float, float] | None, other: tuple[float, float] | None) -> str:
    if one is None or other is None:
        return ""
    is_apart = one[1] < other[0] or other[1] < one[0]
    return "intervals lie apart" if is_apart else "intervals overlap"


def _label_rows(first: RunEntry, second: RunEntry) -> list[tuple[str, ...]]:
    labels = first.metrics.get("labels")
    if not isinstance(labels, list) or first.group != second.group:
        return []
    rows = (
        _difference(first, second, f"AP of {label}", ("validation", "labels", str(label), "ap"), "") for label in labels
    )
    return [row for row in rows if row]


def _aligned(rows: Sequence[tuple[str, ...]], width: int = 0, right: Sequence[int] = ()) -> list[str]:
    """Rows as lines with aligned columns; where they are wider than `width`, backbones' names and runs' are cut."""
    right = right or [place for place, title in enumerate(rows[0]) if title in _RIGHT]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    over = sum(widths) + 2 * (len(widths) - 1) - width
    for place, least in ((_ARCH_COLUMN, _SHORTEST_ARCH), (_RUN_COLUMN, _SHORTEST_RUN)) if width else ():
        cut = min(max(over, 0), max(widths[place] - least, 0))
        widths[place] -= cut
        over -= cut
    return ["  ".join(_cell(text, widths[place], place in right) for place, text in enumerate(row)).rstrip()
            for row in rows]  # fmt: skip


def _cell(text: str, width: int, is_right: bool) -> str:
    shown = text if len(text) <= width else text[: width - 1] + "…"
    return f"{shown:>{width}}" if is_right else f"{shown:<{width}}"


def _text(value: Any) -> str:
    return _UNKNOWN if value is None or value == "" else str(value)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return _UNKNOWN
    return (
        f"{seconds:.0f} s"
        if seconds < 600
        else f"{seconds / 60:.0f} min"
        if seconds < 36000
        else f"{seconds / 3600:.0f} h"
    )
