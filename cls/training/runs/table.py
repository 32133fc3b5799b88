"""Runs as plain tables: a list of them, and two side by side."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from cls.dataset.samples import Sample
from cls.dataset.split.file import read_split_file
from cls.errors import ClsError
from cls.metrics.scores import Interval, MeanScore, Measures, Metrics
from cls.records import Record
from cls.training.runs.folder import SPLIT
from cls.training.runs.listing import DAMAGED, FINISHED_STATE, ListedRun, RunEntry
from cls.training.runs.metrics import Flips, RunMetrics, ValidatedOn
from cls.training.runs.summary import left_out_text
from cls.wording import difference, score

_DATA = {"dataset_sha256": "datasets", "split_sha256": "splits"}
# Settings that decide samples and known labels, for runs without digests of both.
_SETTINGS = ("people", "subject", "incomplete")

WIDTH = 120
_UNKNOWN = "-"
_KEY = "  CV: cross-validated, thresholds chosen on other picsets; scores are means over all labels, or over (some/all)"
_HEAD = ("run", "state", "date", "arch", "size", "epochs", "people", "CV F1", "mAP", "CV mA", "time")
_RIGHT = {"epochs", "people", "time"}
_ARCH_COLUMN, _RUN_COLUMN = _HEAD.index("arch"), _HEAD.index("run")
_SHORTEST_ARCH, _SHORTEST_RUN = 6, 18

# For a run of an earlier version, whose total time is unknown.
_AT_LEAST = "≥"


def validated_on(samples: Sequence[Sample]) -> ValidatedOn:
    """The digests of the validation samples, for metrics.json; equal digests mean equal samples."""
    people: list[list[Any]] = []
    labelled: list[list[Any]] = []
    for sample in samples:
        who = [sample.path, sample.number, *(round(float(edge)) for edge in sample.person.box_xyxy_px)]
        people.append(who)
        labelled.append([*who, *("unknown" if math.isnan(value) else str(float(value)) for value in sample.labels)])
    return ValidatedOn(people_sha256=_digest(people), labels_sha256=_digest(labelled))


def _digest(rows: list[list[Any]]) -> str:
    return hashlib.sha256(json.dumps(sorted(rows, key=str), ensure_ascii=False).encode()).hexdigest()


def kind_of_validation(entry: RunEntry) -> tuple[object, ...]:
    """What a run was validated on: runs with equal values can be compared."""
    metrics = entry.metrics
    if metrics is None:
        return ()
    if (known := metrics.validated_on) is not None:
        return (metrics.labels, known.people_sha256, known.labels_sha256)
    return (metrics.labels, *(getattr(metrics, key) for key in _DATA), *(str(entry.setting(key)) for key in _SETTINGS))


def why_not_comparable(first: RunEntry, second: RunEntry) -> list[str]:
    """Why two runs' measures cannot be compared; empty where they can."""
    problems = [f"{entry.name} was not measured" for entry in (first, second) if entry.validation is None]
    if first.metrics is None or second.metrics is None or problems:
        return problems
    if first.group != second.group:
        return ["they are of different groups"]
    if first.metrics.labels != second.metrics.labels:
        problems.append("different labels")
    one, other = first.metrics.validated_on, second.metrics.validated_on
    if one is None or other is None:
        return [*problems, *_differences_of_older(first, second)]
    if one.people_sha256 != other.people_sha256:
        return [*problems, "different people, or other outlines of them, in validation"]
    if one.labels_sha256 != other.labels_sha256:
        problems.append("the same people in validation, but other labels of theirs")
    return problems


def trained_on_others(first: RunEntry, second: RunEntry) -> bool:
    """Whether datasets, or the samples of training, differ, though validation is the same."""
    if all(getattr(first.metrics, key) == getattr(second.metrics, key) for key in _DATA):
        return False
    try:  # split.json holds the seed too, so that its digest says less than its samples
        one, other = (read_split_file(entry.folder / SPLIT).train for entry in (first, second))
    except ClsError:
        return True
    return sorted(one, key=repr) != sorted(other, key=repr)


def _differences_of_older(first: RunEntry, second: RunEntry) -> list[str]:
    """Why they may not be comparable, where one of them has no digests of its validation samples."""
    problems = [
        f"different {text}"
        for key, text in _DATA.items()
        if getattr(first.metrics, key) != getattr(second.metrics, key)
    ]
    for key in _SETTINGS:
        values = [entry.setting(key) for entry in (first, second)]
        if values[0] != values[1]:
            shown = " and ".join("not given" if value is None else str(value) for value in values)
            problems.append(f"different --{key} ({shown})")
    return problems


_Score = MeanScore | float | None


@dataclass(frozen=True)
class _Measure:
    """One line of a comparison; `of` returns None where it was not measured."""

    title: str
    of: Callable[[RunMetrics], _Score]
    has_interval: bool = False
    is_time: bool = False

    def read(self, entry: RunEntry) -> MeanScore:
        """Its value in a run."""
        found = None if entry.metrics is None else self.of(entry.metrics)
        return found if isinstance(found, MeanScore) else MeanScore(found)


def _of_validation(read: Callable[[Metrics], _Score]) -> Callable[[RunMetrics], _Score]:
    return lambda metrics: None if metrics.validation is None else read(metrics.validation)


def _of_backgrounds(read: Callable[[Flips], float | None]) -> Callable[[RunMetrics], _Score]:
    return lambda metrics: None if (found := metrics.background_sensitivity) is None else read(found.as_served)


_KEPT = _Measure(
    "mAP of those not left out", _of_validation(lambda found: found.mean_with_interval("ap")), has_interval=True
)
_MEASURES = (
    _Measure("cross-validated F1", _of_validation(lambda found: found.cross_validated_mean("f1")), has_interval=True),
    _Measure("cross-validated mA", _of_validation(lambda found: found.cross_validated_mean("ma")), has_interval=True),
    _Measure("mAP", _of_validation(lambda found: found.mean("ap")), has_interval=True),
    _Measure("mean AUROC", _of_validation(lambda found: found.mean("auroc")), has_interval=True),
    _KEPT,
    _Measure("cross-validated F1 over people", _of_validation(lambda found: found.cross_validated.instance.f1)),
    _Measure("cross-validated: every label right", _of_validation(lambda found: found.cross_validated.exact)),
    _Measure(
        "cross-validated calibration error of all decisions together",
        _of_validation(lambda found: found.cross_validated.micro.ece),
    ),
    _Measure("people whose answers change with the background", _of_backgrounds(lambda flips: flips.people)),
    _Measure("answers that change with the background", _of_backgrounds(lambda flips: flips.share)),
    _Measure(
        "in-sample F1 (thresholds chosen on these people)",
        _of_validation(lambda found: found.mean("f1")),
        has_interval=True,
    ),
    _Measure("in-sample mA", _of_validation(lambda found: found.mean("ma")), has_interval=True),
    _Measure("in-sample precision", _of_validation(lambda found: found.mean("precision")), has_interval=True),
    _Measure("in-sample recall", _of_validation(lambda found: found.mean("recall")), has_interval=True),
    _Measure("in-sample F1 over people", _of_validation(lambda found: found.instance.f1)),
    _Measure("seconds, whole run", lambda metrics: metrics.run_seconds, is_time=True),
    _Measure("seconds, fit alone", lambda metrics: metrics.seconds, is_time=True),
)


def run_table(entries: Sequence[RunEntry], width: int = 0) -> str:
    """The runs of each group below its name.

    Args:
        entries: by group and number.
        width: in characters; names of backbones and runs are cut to fit. 0: unlimited.
    """
    lines: list[str] = []
    for group, runs in groupby(entries, key=lambda entry: entry.group):
        found = list(runs)
        rows = _aligned([_HEAD, *(_row(entry) for entry in found)], max(width - 2, 0))
        lines += ["", group, *(f"  {row}" for row in rows)]
        lines += [f"  {entry.name}: {entry.problem}" for entry in found if entry.state == DAMAGED]
        lines += _warnings(found)
    return "\n".join(lines[1:])


def _row(entry: RunEntry) -> tuple[str, ...]:
    samples = entry.metrics and entry.metrics.samples
    people = f"{samples.train}+{samples.valid}" if samples else _UNKNOWN
    return (
        entry.name,
        entry.state,
        entry.date[:10] or _UNKNOWN,
        _text(entry.setting("arch")),
        entry.size or _UNKNOWN,
        _text(entry.setting("epochs")),
        people,
        *_scores(entry.validation),
        _time(entry),
    )


def _scores(validation: Metrics | None) -> tuple[str, str, str]:
    """Cross-validated F1, mAP, cross-validated mA; with the number of labels where a mean is without some."""
    if validation is None:
        return (_UNKNOWN,) * 3
    found = validation.scores
    # There is room for one interval; the others are in the report and in --json.
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
    """Of the whole run; for a run of an earlier version, at least that of its fit."""
    if entry.metrics is None or entry.metrics.seconds is None:
        return _UNKNOWN
    total = entry.metrics.run_seconds
    return f"{_AT_LEAST}{_duration(entry.metrics.seconds)}" if total is None else _duration(total)


def _warnings(entries: Sequence[RunEntry]) -> list[str]:
    measured = [
        (entry, entry.validation) for entry in entries if entry.validation and entry.validation.macro.ap is not None
    ]
    kinds = {kind_of_validation(entry) for entry, _ in measured}
    warnings = [_KEY] if measured else []
    if any(_time(entry).startswith(_AT_LEAST) for entry in entries):
        warnings.append(f"  {_AT_LEAST}: the fit alone; an earlier version did not keep the time of the whole run")
    warnings += [f"  {entry.name}: {_left_out(found)}" for entry, found in measured if found.left_out]
    means = [(entry, found.mean("ap")) for entry, found in measured]
    warnings += [f"  {entry.name}: mAP is the {mean.over}" for entry, mean in means if mean.is_partial]
    if len(kinds) < 2:
        return warnings
    text = f"  {len(measured)} runs were validated on {len(kinds)} different sets of people or labels"
    return [*warnings, f"{text}: compare with care (--compare)"]


def _left_out(validation: Metrics) -> str:
    """The labels that intervals and cross-validated means are without."""
    text = left_out_text(validation.left_out, len(validation.labels))
    return f"intervals and cross-validated means are{text.removeprefix(',')}"


def comparison(first: RunEntry, second: RunEntry) -> str:
    """Two runs side by side: whether they can be compared, settings that differ, measures, second minus first."""
    head = ("", first.name, second.name)
    blocks = [[_title(first), _title(second)], _comparable(first, second)]
    differing = [(key, _text(one), _text(other)) for key, (one, other) in _differing_settings(first, second).items()]
    blocks.append(_aligned([head, *differing]) if differing else ["All settings are the same."])
    compared = [*_measures(first, second), *_label_measures(first, second)]
    measures = [row for measure in compared if (row := _difference(first, second, measure))]
    if measures:
        blocks.append(_aligned([(*head, "difference", ""), *measures], right=(1, 2, 3)))
    return "\n\n".join("\n".join(block) for block in blocks)


class ComparedMeasure(Record):
    """A measure of two runs; `intervals` is null where none belongs to it."""

    values: tuple[float | None, float | None]
    intervals: tuple[Interval, Interval] | None


class Comparison(Record):
    """Two runs side by side, for `--json`; `settings` holds those that differ."""

    runs: tuple[ListedRun, ListedRun]
    is_comparable: bool
    why_not: list[str]
    settings: dict[str, tuple[object, object]]
    measures: dict[str, ComparedMeasure]


def compared(first: RunEntry, second: RunEntry) -> Comparison:
    """The same as `comparison`, for programs."""
    pairs = {measure: (measure.read(first), measure.read(second)) for measure in _measures(first, second)}
    why_not = why_not_comparable(first, second)
    return Comparison(
        runs=(first.listed(), second.listed()),
        is_comparable=not why_not,
        why_not=why_not,
        settings=_differing_settings(first, second),
        measures={
            measure.title: ComparedMeasure(
                values=(left.value, right.value),
                intervals=(left.bounds, right.bounds) if measure.has_interval else None,
            )
            for measure, (left, right) in pairs.items()
        },
    )


def _title(entry: RunEntry) -> str:
    return f"{entry.group}: {entry.name}" + ("" if entry.state == FINISHED_STATE else f" ({entry.state})")


def _differing_settings(first: RunEntry, second: RunEntry) -> dict[str, tuple[object, object]]:
    one, other = (
        {} if entry.args is None else {**entry.args.settings, "size": entry.size} for entry in (first, second)
    )
    return {key: (one.get(key), other.get(key)) for key in {**one, **other} if one.get(key) != other.get(key)}


def _measures(first: RunEntry, second: RunEntry) -> list[_Measure]:
    """The measures to compare; the one without labels left out only where there are such labels."""
    has_left_out = any(entry.validation is not None and entry.validation.left_out for entry in (first, second))
    return [measure for measure in _MEASURES if has_left_out or measure is not _KEPT]


def _label_measures(first: RunEntry, second: RunEntry) -> list[_Measure]:
    if first.metrics is None or first.group != second.group:
        return []

    def ap_of(label: str) -> Callable[[RunMetrics], _Score]:
        return _of_validation(lambda found: found.labels.get(label, Measures()).ap)

    return [_Measure(f"AP of {label}", ap_of(label)) for label in first.metrics.labels]


def _comparable(first: RunEntry, second: RunEntry) -> list[str]:
    problems = why_not_comparable(first, second)
    left_out = [
        f"{entry.name}: {_left_out(entry.validation)}."
        for entry in (first, second)
        if entry.validation and entry.validation.left_out
    ]
    if not problems:
        others = " They were trained on different ones." if trained_on_others(first, second) else ""
        return [f"Both were validated on the same people: their measures can be compared.{others}", *left_out]
    is_measured = first.validation is not None and second.validation is not None
    why = " A difference may be one of the people, not of the classifier." if is_measured else ""
    return [f"NOT COMPARABLE: {'; '.join(problems)}.{why}", *left_out]


def _difference(first: RunEntry, second: RunEntry, measure: _Measure) -> tuple[str, ...] | None:
    one, other = measure.read(first), measure.read(second)
    if one.value is None and other.value is None:
        return None
    change = None if one.value is None or other.value is None else other.value - one.value
    if measure.is_time:
        values = (_UNKNOWN if found.value is None else f"{found.value:.1f}" for found in (one, other))
        return measure.title, *values, "" if change is None else difference(change, 1), ""
    cells = [_UNKNOWN if found.value is None else found.text() + _part_of(found) for found in (one, other)]
    return measure.title, *cells, "" if change is None else difference(change), _verdict(one.bounds, other.bounds)


def _verdict(one: tuple[float, float] | None, other: tuple[float, float] | None) -> str:
    if one is None or other is None:
        return ""
    is_apart = one[1] < other[0] or other[1] < one[0]
    return "intervals lie apart" if is_apart else "intervals overlap"


def _aligned(rows: Sequence[tuple[str, ...]], width: int = 0, right: Sequence[int] = ()) -> list[str]:
    """Rows as lines with aligned columns; names of backbones and runs are cut to `width`."""
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


def _duration(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 36000 else f"{seconds / 3600:.0f} h"
