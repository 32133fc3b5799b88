"""The page that shows what a comparison of conversions with the trained network found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cls.exporting.parity.report import BatchResult, NotCompared, OtherFormat, ParityReport, WorstSample
from cls.exporting.parity.results import LabelResult, SizeResult
from cls.package.card import people_in_words
from cls.pages import render
from cls.pages.render import picture_url
from cls.wording import change, counted, magnitude, score

_CHANGED, _DISTANCE = "changed decisions", "max distance to threshold"
_STATE_CSS = {"agrees": "ok", "not made": "soft"}
_LIMITS = {
    "flip_distance": "distance of a changed decision to its threshold",
    "probability": "difference of a probability",
    "f1": "change in mean F1",
    "batch": "effect of the batch size or of other images in it on a probability",
    "label_f1": "change in the F1 of a label",
    "label_ece": "change in the calibration error (ECE) of a label",
    "logit_shift": "mean logit difference of a label",
    "logit_error": "RMS logit difference of a label, in standard deviations",
    "own_size": "RMS logit difference of a label from resizing, in standard deviations (end-to-end models)",
}


def write_page(
    path: Path,
    group: str,
    run: str,
    formats: Mapping[str, ParityReport | NotCompared],
    others: Mapping[str, OtherFormat] | None = None,
) -> None:
    """Writes the page, whole or not at all; everything it shows is inside it.

    Args:
        path: the file.
        group: what is classified.
        run: name of the run.
        formats: format -> its report, or why it could not even be compared.
        others: the other formats of the same export.
    """
    reports = {name: found for name, found in formats.items() if isinstance(found, ParityReport)}
    most = max(reports.values(), key=lambda report: report.samples, default=None)
    summaries = {name: _summary(report) for name, report in reports.items()}
    values = {
        "group": group,
        "run": run,
        "date": render.now_utc(),
        "contents": [(name, name) for name in formats] + [("others", "other formats")] * bool(others),
        "formats": [
            _format(name, found) if isinstance(found, ParityReport) else _Format(name, found.faults)
            for name, found in formats.items()
        ],
        "people": "" if most is None else people_in_words(most.samples, most.part),
        "summary_columns": ("format", *next(iter(summaries.values()), {})),
        "summary_rows": [(name, *summary.values()) for name, summary in summaries.items()],
        "others": others or {},
        "figures": [_format_figure(name, found) for name, found in formats.items()]
        + [(other.state, name, _STATE_CSS.get(other.state, "no")) for name, other in (others or {}).items()],
    }
    render.write_page(path, "exporting/parity/parity.html", values)


@dataclass(frozen=True)
class _Table:
    """A table of the page."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass(frozen=True)
class _Person:
    """What the page shows of a person with a large difference."""

    image: str
    label: str
    is_flip: bool
    numbers: str
    expected_percent: float
    found_percent: float
    threshold_percent: float
    picture: str
    batch: int


@dataclass(frozen=True)
class _Format:
    """What the page shows of a format; of one that was not compared, why."""

    name: str
    faults: Sequence[str]
    causes: Sequence[str] = ()
    divergence: str = ""
    tables: Sequence[_Table] = ()
    facts: Sequence[tuple[str, str]] = ()
    worst: Sequence[_Person] = ()


def _format(name: str, report: ParityReport) -> _Format:
    return _Format(
        name=name,
        faults=report.faults,
        causes=report.causes,
        divergence="" if report.divergence is None else _capital(report.divergence.text()),
        tables=[
            _Table(("", *(f"batch size {batch}" for batch in report.batch_sizes)), _rows(report)),
        ]
        + [
            _Table(tuple(rows[0]), [tuple(row.values()) for row in rows])
            for rows in ([_label(one) for one in report.labels], [_size(one) for one in report.sizes])
            if rows
        ],
        facts=_facts(report),
        worst=[_person(sample) for sample in report.worst_samples] if _has_something_to_see(report) else [],
    )


def _format_figure(name: str, found: ParityReport | NotCompared) -> tuple[str, str, str]:
    """Whether a format agrees, its name and runtime, and the CSS class."""
    state = "refused" if found.faults else "agrees"
    runtime = f", {found.runtime}" if isinstance(found, ParityReport) else ""
    return state, name + runtime, _STATE_CSS.get(state, "no")


def _has_something_to_see(report: ParityReport) -> bool:
    """Whether anybody would see the difference in the pictures' bars."""
    return bool(report.faults) or report.max_probability_difference > 1e-3


def _summary(report: ParityReport) -> dict[str, str]:
    """A format in one row: the worst over its batch sizes."""
    farthest = max(result.farthest_flip for result in report.by_batch)
    return {
        "precision": report.precision,
        "max difference": magnitude(report.max_probability_difference),
        _CHANGED: f"{report.label_flips:,} of {report.decisions:,}",
        _DISTANCE: magnitude(farthest) if report.label_flips else "-",
        "change in F1": "-" if report.f1_change is None else _signed(report.f1_change),
        "change in mA": "-" if report.ma_change is None else _signed(report.ma_change),
    }


def _rows(report: ParityReport) -> list[tuple[str, ...]]:
    """What is measured, with a value for each batch size."""
    measures: tuple[tuple[str, Callable[[BatchResult], str]], ...] = (
        ("max difference of probabilities", lambda found: magnitude(found.max_probability_difference)),
        ("99.9th percentile of differences", lambda found: magnitude(found.p999_probability_difference)),
        ("mean difference of probabilities", lambda found: magnitude(found.mean_probability_difference)),
        (_CHANGED, lambda found: str(found.label_flips)),
        (_DISTANCE, lambda found: magnitude(found.farthest_flip) if found.label_flips else "-"),
        (f"F1 (trained network: {score(report.f1, 4)})", lambda found: _changed(found.f1, report.f1)),
        (f"mA (trained network: {score(report.ma, 4)})", lambda found: _changed(found.ma, report.ma)),
    )
    return [(name, *(text(result) for result in report.by_batch)) for name, text in measures]


def _label(one: LabelResult) -> dict[str, str]:
    """A label in one row: the worst over the batch sizes."""
    return {
        "label": one.label,
        "positives": f"{one.positives} of {one.known}" if one.known else "-",
        "F1": _after(one.f1, one.f1_change),
        "calibration error (ECE)": _after(one.ece, one.ece_change),
        "mean logit difference": _signed(one.logit_shift, 3),
        "RMS logit difference, in standard deviations": magnitude(one.logit_error, 3),
        _CHANGED: str(one.label_flips),
        _DISTANCE: magnitude(one.farthest_flip) if one.label_flips else "-",
    }


def _size(one: SizeResult) -> dict[str, str]:
    """Cut-outs of one kind of sizes in one row."""
    return {
        "cut-outs": one.kind,
        "people": str(one.samples),
        "RMS logit difference from resizing, in standard deviations": magnitude(one.resize_error),
        "max difference of probabilities": magnitude(one.max_probability_difference),
        _CHANGED: str(one.label_flips),
        _DISTANCE: magnitude(one.farthest_flip) if one.label_flips else "-",
    }


def _facts(report: ParityReport) -> list[tuple[str, str]]:
    limits = [(_LIMITS[key], value) for key, value in asdict(report.limits).items() if value is not None]
    beyond = f"{report.label_flips_beyond_limit:,} of them more than {report.limit:g} from their thresholds"
    return [
        ("precision", report.precision),
        ("F1 and mA measured on", f"{report.truth} of {people_in_words(report.samples, report.part)}"),
        (_CHANGED, f"{report.label_flips:,} of {report.decisions:,} at any batch size, {beyond}"),
        ("effect of the batch size", f"probabilities differ by at most {magnitude(report.batch_difference)}"),
        (
            "effect of other images in a batch",
            f"probabilities differ by at most {magnitude(report.neighbour_difference)}",
        ),
        ("NaN or infinite outputs", f"{report.not_a_number:,}"),
        ("tolerances", "\n".join(f"{name}: {value:g}" for name, value in limits) or "none"),
        *_steps(report),
    ]


def _steps(report: ParityReport) -> list[tuple[str, str]]:
    """What stays in float32, and why not less of it."""
    kept = report.kept_in_float
    facts = [("kept in float32", f"{counted(len(kept), 'layer')}: {', '.join(kept)}")] if kept else []
    return facts + [
        (f"refused with {counted(step.layers_in_float, 'layer')} in float32", "; ".join(step.faults))
        for step in report.tries
    ]


def _person(sample: WorstSample) -> _Person:
    expected, found, threshold = _distinct_texts(sample.expected, sample.found, sample.threshold)
    return _Person(
        image="" if sample.crop_rgb is None else picture_url(sample.crop_rgb),
        label=sample.label,
        is_flip=sample.is_flip,
        numbers=f"{expected} → {found}, threshold {threshold}",
        expected_percent=round(100 * sample.expected, 1),
        found_percent=round(100 * (sample.found or 0.0), 1),
        threshold_percent=round(100 * sample.threshold, 1),
        picture=sample.picture,
        batch=sample.batch,
    )


def _distinct_texts(expected: float, found: float | None, threshold: float) -> tuple[str, str, str]:
    """Three probabilities with as many digits as tell the different ones of them apart, four at least."""
    values = {expected, threshold} if found is None else {expected, found, threshold}
    for digits in range(4, 9):
        if len({f"{value:.{digits}f}" for value in values}) == len(values):
            break
    shown = "NaN" if found is None else f"{found:.{digits}f}"
    return f"{expected:.{digits}f}", shown, f"{threshold:.{digits}f}"


def _changed(value: float | None, before: float | None) -> str:
    if value is None or before is None:
        return "-"
    changed = _signed(value - before)
    return score(value, 4) if changed == "0" else f"{score(value, 4)} ({changed})"


def _signed(value: float, digits: int = 4) -> str:
    """A change with its sign: `+0.0213`, `−2.4 × 10⁻⁷`, `0`."""
    if change(value) == "unchanged":
        return "0"
    return f"{'-' if value < 0 else '+'}{magnitude(abs(value), digits)}"


def _after(before: float | None, changed_by: float | None) -> str:
    """What a measure is after a change, with the change."""
    return "-" if before is None or changed_by is None else _changed(before + changed_by, before)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
