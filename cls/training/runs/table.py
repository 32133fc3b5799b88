"""Runs as plain tables: a list of them, and two side by side."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from cls.dataset.samples import Sample
from cls.package.validation_scores import MeanScore, ValidationScores, mean_of
from cls.training.runs.folder import WHOLE_SECONDS
from cls.training.runs.listing import DAMAGED, FINISHED_STATE, RunEntry
from cls.training.runs.summary import left_out_text
from cls.wording import difference, interval, score

_DATA = {"dataset_sha256": "datasets", "split_sha256": "splits"}
# Settings that decide who is a sample, and which of the labels are known, of runs that have not written down both.
_SETTINGS = ("people", "subject", "incomplete")


def validated_on(samples: Sequence[Sample]) -> dict[str, str]:
    """What metrics.json says of validation's samples: two runs with the same digests measured the same.

    Args:
        samples: of validation, in any order.

    Returns:
        `people_sha256`: of picture, which of its people, and the outline's box in whole pixels; `labels_sha256`: of
        these with their labels, null where unknown.
    """
    people: list[list[Any]] = []
    labelled: list[list[Any]] = []
    for sample in samples:
        who = [sample.path, sample.number, *(round(float(edge)) for edge in sample.person.box_xyxy_px)]
        people.append(who)
        labelled.append([*who, *("unknown" if math.isnan(value) else str(float(value)) for value in sample.labels)])
    return {"people_sha256": _digest(people), "labels_sha256": _digest(labelled)}


def _digest(rows: list[list[Any]]) -> str:
    return hashlib.sha256(json.dumps(sorted(rows, key=str), ensure_ascii=False).encode()).hexdigest()


def kind_of_validation(entry: RunEntry) -> tuple[Any, ...]:
    """What a run was validated on: runs of one kind can be compared."""
    metrics = entry.metrics
    labels = tuple(map(str, metrics.get("labels") or ()))
    if (known := _validated_on(entry)) is not None:
        return (labels, known.get("people_sha256"), known.get("labels_sha256"))
    return (labels, *(metrics.get(key) for key in _DATA), *(str(entry.setting(key)) for key in _SETTINGS))


def why_not_comparable(first: RunEntry, second: RunEntry) -> list[str]:
    """What keeps two runs' measures from being compared; nothing where they can be."""
    problems = [
        f"{entry.name} was not measured"
        for entry in (first, second)
        if not isinstance(entry.metrics.get("validation"), dict)
    ]
    if problems:
        return problems
    if first.group != second.group:
        return ["they are of different groups"]
    if first.metrics.get("labels") != second.metrics.get("labels"):
        problems.append("different labels")
    one, other = _validated_on(first), _validated_on(second)
    if one is None or other is None:
        return [*problems, *_differences_of_older(first, second)]
    if one.get("people_sha256") != other.get("people_sha256"):
        return [*problems, "different people, or other outlines of them, in validation"]
    if one.get("labels_sha256") != other.get("labels_sha256"):
        problems.append("the same people in validation, but other labels of theirs")
    return problems


def trained_on_others(first: RunEntry, second: RunEntry) -> bool:
    """Whether datasets or splits differ, though validation is the same."""
    return any(first.metrics.get(key) != second.metrics.get(key) for key in _DATA)


def _differences_of_older(first: RunEntry, second: RunEntry) -> list[str]:
    """Where one of them does not say who was validated on: whatever might make a difference."""
    problems = [f"different {text}" for key, text in _DATA.items() if first.metrics.get(key) != second.metrics.get(key)]
    for key in _SETTINGS:
        values = [entry.setting(key) for entry in (first, second)]
        if values[0] != values[1]:
            shown = " and ".join("not given" if value is None else str(value) for value in values)
            problems.append(f"different --{key} ({shown})")
    return problems


def _validated_on(entry: RunEntry) -> dict[str, Any] | None:
    found = entry.metrics.get("validated_on")
    return found if isinstance(found, dict) else None


WIDTH = 120
_UNKNOWN = "-"
_KEY = "  CV: cross-validated, thresholds chosen on other picsets; scores are means over all labels, or over (some/all)"
_HEAD = ("run", "state", "date", "arch", "size", "epochs", "people", "CV F1", "mAP", "CV mA", "time")
_RIGHT = {"epochs", "people", "time"}
_ARCH_COLUMN, _RUN_COLUMN = _HEAD.index("arch"), _HEAD.index("run")
_SHORTEST_ARCH, _SHORTEST_RUN = 6, 18
# Of a run of an earlier version, whose whole time is not known.
_AT_LEAST = "≥"
_MEASURES = (
    ("cross-validated F1", ("validation", "cross_fitted", "macro", "f1"), "f1"),
    ("cross-validated mA", ("validation", "cross_fitted", "macro", "ma"), "ma"),
    ("mAP", ("validation", "macro", "ap"), "ap"),
    ("mean AUROC", ("validation", "macro", "auroc"), "auroc"),
    ("mAP of those not left out", ("validation", "intervals", "means", "ap"), "ap"),
    ("cross-validated F1 over people", ("validation", "cross_fitted", "instance", "f1"), ""),
    ("cross-validated: every label right", ("validation", "cross_fitted", "exact"), ""),
    ("cross-validated calibration error of all decisions together", ("validation", "cross_fitted", "micro", "ece"), ""),
    ("people whose answers change with the background", ("background_sensitivity", "as_served", "people"), ""),
    ("answers that change with the background", ("background_sensitivity", "as_served", "share"), ""),
    ("in-sample F1 (thresholds chosen on these people)", ("validation", "macro", "f1"), "f1"),
    ("in-sample mA", ("validation", "macro", "ma"), "ma"),
    ("in-sample precision", ("validation", "macro", "precision"), "precision"),
    ("in-sample recall", ("validation", "macro", "recall"), "recall"),
    ("in-sample F1 over people", ("validation", "instance", "f1"), ""),
    ("seconds, whole run", (WHOLE_SECONDS,), ""),
    ("seconds, fit alone", ("seconds",), ""),
)
_MEANS = {("validation", "macro"), ("validation", "cross_fitted", "macro")}


def run_table(entries: Sequence[RunEntry], width: int = 0) -> str:
    """The runs of each group below its name.

    Args:
        entries: by group and number.
        width: columns; names of backbones and runs are shortened to it. 0: names stay whole, as other commands take
            them.
    """
    lines: list[str] = []
    for group, runs in groupby(entries, key=lambda entry: entry.group):
        found = list(runs)
        lines += [
            "",
            group,
            *(f"  {line}" for line in _aligned([_HEAD, *(_row(entry) for entry in found)], max(width - 2, 0))),
        ]
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
        *_scores(entry.scores),
        _time(entry),
    )


def _scores(found: ValidationScores | None) -> tuple[str, str, str]:
    """Cross-validated F1, mAP, cross-validated mA; a mean without some labels says over how many of them it is."""
    if found is None:
        return (_UNKNOWN,) * 3
    # Room for the interval of one measure alone: the others' stand in the report and in --json.
    f1 = f" {_range(found.f1.bounds)}" if found.f1.bounds is not None and not found.f1.is_partial else ""
    return (
        f"{score(found.f1.value)}{f1}{_part_of(found.f1)}",
        f"{score(found.ap.value)}{_part_of(found.ap)}",
        score(found.ma.value),
    )


def _part_of(mean: MeanScore) -> str:
    return f" ({mean.labels}/{mean.of})" if mean.is_partial else ""


def _range(bounds: tuple[float, float]) -> str:
    return "–".join(score(bound, 2).removeprefix("0") for bound in bounds)


def _time(entry: RunEntry) -> str:
    """Of the whole run; of a run of an earlier version, at least that of its fit."""
    whole, fit = entry.measure(WHOLE_SECONDS), entry.measure("seconds")
    if whole is not None:
        return _duration(whole)
    return _UNKNOWN if fit is None else f"{_AT_LEAST}{_duration(fit)}"


def _warnings(entries: Sequence[RunEntry]) -> list[str]:
    measured = [entry for entry in entries if entry.measure("validation", "macro", "ap") is not None]
    kinds = {kind_of_validation(entry) for entry in measured}
    warnings = [_KEY] if measured else []
    if any(_time(entry).startswith(_AT_LEAST) for entry in entries):
        warnings.append(f"  {_AT_LEAST}: the fit alone; an earlier version did not keep the time of the whole run")
    warnings += [f"  {entry.name}: {_left_out(entry)}" for entry in measured if entry.left_out]
    warnings += [f"  {entry.name}: mAP is the {found.ap.over}" for entry in measured
                 if (found := entry.scores) is not None and found.ap.is_partial]  # fmt: skip
    if len(kinds) < 2:
        return warnings
    text = f"  {len(measured)} runs were validated on {len(kinds)} different sets of people or labels"
    return [*warnings, f"{text}: compare with care (--compare)"]


def _left_out(entry: RunEntry) -> str:
    """Which labels its intervals and cross-fitted means are without."""
    labels = entry.metrics.get("labels")
    text = left_out_text({"left_out": entry.left_out}, len(labels) if isinstance(labels, list) else 0)
    return f"intervals and cross-validated means are{text.removeprefix(',')}"


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
    return {} if entry.args is None else {**entry.args.settings, "size": entry.size}


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
    if "cross_fitted" in path:
        mean = _mean_at(entry, path)
        return None if mean is None else mean.bounds
    return entry.interval_of_kept(key) if "intervals" in path else entry.interval(key)


def _difference(
    first: RunEntry, second: RunEntry, title: str, path: tuple[str, ...], key: str
) -> tuple[str, ...] | None:
    one, other = first.measure(*path), second.measure(*path)
    if one is None and other is None:
        return None
    if path[-1] in ("seconds", WHOLE_SECONDS):
        change = "" if one is None or other is None else f"{other - one:+.1f}"
        return title, *(_UNKNOWN if value is None else f"{value:.1f}" for value in (one, other)), change, ""
    change = "" if one is None or other is None else difference(other - one)
    bounds = (_bounds(first, path, key), _bounds(second, path, key)) if key else (None, None)
    cells = [
        _measure_text(value, bound, _mean_at(entry, path))
        for value, bound, entry in zip((one, other), bounds, (first, second), strict=True)
    ]
    return title, *cells, change, _verdict(*bounds)


def _measure_text(value: float | None, bounds: tuple[float, float] | None, mean: MeanScore | None) -> str:
    if value is None:
        return _UNKNOWN
    part = "" if mean is None else _part_of(mean)
    return score(value) + (f" ({interval(bounds)})" if bounds else "") + part


def _mean_at(entry: RunEntry, path: tuple[str, ...]) -> MeanScore | None:
    """What is known of a mean over labels that stands at the path."""
    found, (*place, key) = entry.scores, path
    if found is None or tuple(place) not in _MEANS:
        return None
    if "cross_fitted" in place:
        return found.f1 if key == "f1" else found.ma
    return mean_of(entry.metrics["validation"], key)


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
