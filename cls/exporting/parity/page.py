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
from cls.wording import change, counted, difference, magnitude, score


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
        "contents": [(name, name) for name in formats] + [("others", "others")] * bool(others),
        "formats": [
            _format(name, found) if isinstance(found, ParityReport) else _Format(name, found.faults)
            for name, found in formats.items()
        ],
        "people": "" if most is None else people_in_words(most.samples, most.part),
        "summary_columns": ("format", *next(iter(summaries.values()), {})),
        "summary_rows": [(name, *summary.values()) for name, summary in summaries.items()],
        "others": others or {},
    }
    render.write_page(path, "exporting/parity/parity.html", values)


@dataclass(frozen=True)
class _Table:
    """A table of the page."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass(frozen=True)
class _Person:
    """What the page shows of a person for whom a conversion departs far."""

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
    runtime: str = ""
    causes: Sequence[str] = ()
    divergence: str = ""
    batches: Sequence[int] = ()
    rows: Sequence[tuple[str, list[str]]] = ()
    tables: Sequence[_Table] = ()
    facts: Sequence[tuple[str, str]] = ()
    worst: Sequence[_Person] = ()


def _format(name: str, report: ParityReport) -> _Format:
    return _Format(
        name=name,
        runtime=report.runtime,
        faults=report.faults,
        causes=report.causes,
        divergence="" if report.divergence is None else _capital(report.divergence.text()),
        batches=report.batch_sizes,
        rows=_rows(report),
        tables=[
            _Table(tuple(rows[0]), [tuple(row.values()) for row in rows])
            for rows in ([_label(one) for one in report.labels], [_size(one) for one in report.sizes])
            if rows
        ],
        facts=_facts(report),
        worst=[_person(sample) for sample in report.worst_samples] if _has_something_to_see(report) else [],
    )


def _has_something_to_see(report: ParityReport) -> bool:
    """Whether anybody would see the difference in the pictures' bars."""
    return bool(report.faults) or report.max_probability_difference > 1e-3


def _summary(report: ParityReport) -> dict[str, str]:
    """A format in one row: the worst over its batch sizes."""
    farthest = max(result.farthest_flip for result in report.by_batch)
    return {
        "precision": report.precision,
        "largest difference": magnitude(report.max_probability_difference),
        "decisions that differ": f"{report.label_flips} of {report.decisions}",
        "farthest from its threshold": magnitude(farthest) if report.label_flips else "-",
        "change of F1": "-" if report.f1_change is None else change(report.f1_change),
        "change of mA": "-" if report.ma_change is None else change(report.ma_change),
    }


def _rows(report: ParityReport) -> list[tuple[str, list[str]]]:
    """What is measured, with a value for each batch size."""
    measures: tuple[tuple[str, Callable[[BatchResult], str]], ...] = (
        ("largest difference", lambda found: magnitude(found.max_probability_difference)),
        ("99.9 % are below", lambda found: magnitude(found.p999_probability_difference)),
        ("mean difference", lambda found: magnitude(found.mean_probability_difference)),
        ("decisions that differ", lambda found: str(found.label_flips)),
        ("farthest from its threshold", lambda found: magnitude(found.farthest_flip) if found.label_flips else "-"),
        (f"F1 ({score(report.f1, 4)} before)", lambda found: _changed(found.f1, report.f1)),
        (f"mA ({score(report.ma, 4)} before)", lambda found: _changed(found.ma, report.ma)),
    )
    return [(name, [text(result) for result in report.by_batch]) for name, text in measures]


def _label(one: LabelResult) -> dict[str, str]:
    """A label in one row: the worst over the batch sizes."""
    return {
        "label": one.label,
        "positives": f"{one.positives} of {one.known}" if one.known else "-",
        "F1": _after(one.f1, one.f1_change),
        "calibration error": _after(one.ece, one.ece_change),
        "mean difference of logits": difference(one.logit_shift),
        "difference in standard deviations": magnitude(one.logit_error, 3),
        "decisions that differ": str(one.label_flips),
        "farthest from its threshold": magnitude(one.farthest_flip) if one.label_flips else "-",
    }


def _size(one: SizeResult) -> dict[str, str]:
    """Cut-outs of one kind of sizes in one row."""
    return {
        "cut-outs": one.kind,
        "people": str(one.samples),
        "resizing changes logits, in standard deviations": magnitude(one.resize_error),
        "largest difference": magnitude(one.max_probability_difference),
        "decisions that differ": str(one.label_flips),
        "farthest from its threshold": magnitude(one.farthest_flip) if one.label_flips else "-",
    }


def _facts(report: ParityReport) -> list[tuple[str, str]]:
    limits = [f"{key} {'none' if value is None else f'{value:g}'}" for key, value in asdict(report.limits).items()]
    beyond = f"{report.label_flips_beyond_limit} of them further than {report.limit:g} from their thresholds"
    neighbours = f"the neighbours in it {magnitude(report.neighbour_difference)}"
    return [
        ("precision", report.precision),
        ("limits", ", ".join(limits)),
        ("F1 and mA on", f"{report.truth}, of {people_in_words(report.samples, report.part)}"),
        ("decisions that differ", f"{report.label_flips} of {report.decisions} at any batch size, {beyond}"),
        ("the batch changes", f"{magnitude(report.batch_difference)} of a probability at most, {neighbours}"),
        ("no numbers", counted(report.not_a_number, "answer")),
        *_steps(report),
    ]


def _steps(report: ParityReport) -> list[tuple[str, str]]:
    """What stays in float32, and why not less of it."""
    kept = report.kept_in_float
    facts = [("left in float32", f"{counted(len(kept), 'layer')}: {', '.join(kept)}")] if kept else []
    return facts + [
        (f"refused with {step.layers_in_float} in float32", "; ".join(step.faults)) for step in report.tries
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
    shown = "no number" if found is None else f"{found:.{digits}f}"
    return f"{expected:.{digits}f}", shown, f"{threshold:.{digits}f}"


def _changed(value: float | None, before: float | None) -> str:
    if value is None or before is None:
        return "-"
    changed = change(value - before)
    return score(value, 4) if changed == "unchanged" else f"{score(value, 4)} ({changed})"


def _after(before: float | None, changed_by: float | None) -> str:
    """What a measure is after a change, with the change."""
    return "-" if before is None or changed_by is None else _changed(before + changed_by, before)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
