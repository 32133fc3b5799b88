"""What a comparison of a conversion with the trained network found, and the page that shows it."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from cls.errors import ParityError
from cls.export.parity.labels import LabelResult
from cls.export.parity.sizes import SizeResult
from cls.files import write_text_atomic
from cls.package.card import people_in_words
from cls.package.meta import LabelParityMeta, ParityMeta, PeoplePart
from cls.settings import ParityLimits
from cls.training.report.labels import picture_url
from cls.wording import counted, difference, score

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Elsewhere:
    """A format that the page does not speak of at length.

    Attributes:
        state: in a word or two: `agrees`, `refused`, `failed`, `not made`.
        reason: why it is not here.
        page: name of the page beside this one that says more; empty where there is none.
    """

    state: str
    reason: str
    page: str = ""


def write_page(
    path: Path,
    group: str,
    run: str,
    reports: Mapping[str, ParityReport],
    refused: Mapping[str, str] | None = None,
    elsewhere: Mapping[str, Elsewhere] | None = None,
) -> None:
    """Writes the page, whole or not at all; everything it shows is inside it.

    Args:
        path: the file.
        group: what is classified.
        run: name of the run.
        reports: by format.
        refused: formats that could not even be compared -> why.
        elsewhere: the other formats of the same export.
    """
    # It looks like the training's report, whose style it takes.
    loader = ChoiceLoader([PackageLoader("cls.export.parity", "."), PackageLoader("cls.training.report", ".")])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    formats = [_format(name, report) for name, report in reports.items()]
    formats += [_not_compared(name, reason) for name, reason in (refused or {}).items()]
    most = max(reports.values(), key=lambda report: report.samples, default=None)
    page = environment.get_template("parity.html").render(
        group=group,
        run=run,
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        formats=formats,
        people="" if most is None else people_in_words(most.samples, most.part),
        elsewhere=elsewhere or {},
    )
    write_text_atomic(path, page)


def _format(name: str, report: ParityReport) -> dict[str, Any]:
    return {
        "name": name,
        "runtime": report.runtime,
        "faults": report.faults,
        "causes": report.causes,
        "divergence": "" if report.divergence is None else _capital(report.divergence.text()),
        "batches": report.batch_sizes,
        "summary": _summary(report),
        "rows": _rows(report),
        "labels": [_label(one) for one in report.labels],
        "sizes": [_size(one) for one in report.sizes],
        "facts": _facts(report),
        "worst": [_person(sample) for sample in report.worst_samples] if _has_something_to_see(report) else [],
    }


def _has_something_to_see(report: ParityReport) -> bool:
    """Whether anybody would see the difference in the pictures' bars."""
    return bool(report.faults) or report.max_probability_difference > 1e-3


def _not_compared(name: str, reason: str) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(
        ("causes", "batches", "summary", "rows", "labels", "sizes", "facts", "worst"), ()
    )
    return {"name": name, "runtime": "", "faults": (reason,), "divergence": "", **empty}


def _summary(report: ParityReport) -> list[tuple[str, str]]:
    """A format in one row: the worst over its batch sizes."""
    farthest = max(result.farthest_flip for result in report.by_batch)
    return [
        ("precision", report.precision),
        ("largest difference", _small(report.max_probability_difference)),
        ("decisions that differ", f"{report.label_flips} of {report.decisions}"),
        ("farthest from its threshold", _small(farthest) if report.label_flips else "-"),
        ("change of F1", _change(report.f1_change)),
        ("change of mA", _change(report.ma_change)),
    ]


def _rows(report: ParityReport) -> list[tuple[str, list[str]]]:
    """What is measured, with a value for each batch size."""
    measures: tuple[tuple[str, Callable[[BatchResult], str]], ...] = (
        ("largest difference", lambda found: _small(found.max_probability_difference)),
        ("99.9 % are below", lambda found: _small(found.p999_probability_difference)),
        ("mean difference", lambda found: _small(found.mean_probability_difference)),
        ("decisions that differ", lambda found: str(found.label_flips)),
        ("farthest from its threshold", lambda found: _small(found.farthest_flip) if found.label_flips else "-"),
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
        "mean difference of logits": _change(one.logit_shift, 3),
        "difference in standard deviations": _small(one.logit_error, 3),
        "decisions that differ": str(one.label_flips),
        "farthest from its threshold": _small(one.farthest_flip) if one.label_flips else "-",
    }


def _size(one: SizeResult) -> dict[str, str]:
    """Cut-outs of one kind of sizes in one row."""
    return {
        "cut-outs": one.kind,
        "people": str(one.samples),
        "resizing changes logits, in standard deviations": _small(one.resize_error),
        "largest difference": _small(one.max_probability_difference),
        "decisions that differ": str(one.label_flips),
        "farthest from its threshold": _small(one.farthest_flip) if one.label_flips else "-",
    }


def _facts(report: ParityReport) -> list[tuple[str, str]]:
    limits = [f"{key} {'none' if value is None else f'{value:g}'}" for key, value in asdict(report.limits).items()]
    beyond = f"{report.label_flips_beyond_limit} of them further than {report.limit:g} from their thresholds"
    neighbours = f"the neighbours in it {_small(report.neighbour_difference)}"
    return [
        ("precision", report.precision),
        ("limits", ", ".join(limits)),
        ("F1 and mA on", f"{report.truth}, of {people_in_words(report.samples, report.part)}"),
        ("decisions that differ", f"{report.label_flips} of {report.decisions} at any batch size, {beyond}"),
        ("the batch changes", f"{_small(report.batch_difference)} of a probability at most, {neighbours}"),
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


def _person(sample: WorstSample) -> dict[str, Any]:
    expected, found, threshold = _told_apart(sample.expected, sample.found, sample.threshold)
    return {
        "image": "" if sample.crop_rgb is None else picture_url(sample.crop_rgb),
        "label": sample.label,
        "is_flip": sample.is_flip,
        "numbers": f"{expected} → {found}, threshold {threshold}",
        "expected_percent": round(100 * sample.expected, 1),
        "found_percent": round(100 * (sample.found or 0.0), 1),
        "threshold_percent": round(100 * sample.threshold, 1),
        "picture": sample.picture,
        "batch": sample.batch,
    }


def _told_apart(expected: float, found: float | None, threshold: float) -> tuple[str, str, str]:
    """Three probabilities with as many digits as tell the different ones of them apart, four at least."""
    values = {expected, threshold} if found is None else {expected, found, threshold}
    for digits in range(4, 9):
        if len({f"{value:.{digits}f}" for value in values}) == len(values):
            break
    shown = "no number" if found is None else f"{found:.{digits}f}"
    return f"{expected:.{digits}f}", shown, f"{threshold:.{digits}f}"


def _change(change: float | None, digits: int = 4) -> str:
    """A change with its sign; `0` where there is none, or none but the noise of sums of floating-point numbers."""
    text = difference(change, digits)
    return "0" if change is not None and not float(text) else text


def _changed(value: float | None, before: float | None) -> str:
    if value is None or before is None:
        return "-"
    change = _change(value - before)
    return score(value, 4) if change == "0" else f"{score(value, 4)} ({change})"


def _after(before: float | None, change: float | None) -> str:
    """What a measure is after a change, with the change."""
    return "-" if before is None or change is None else _changed(before + change, before)


def _small(value: float, digits: int = 4) -> str:
    """A difference as people read it: 0.0213, or 2.4 × 10⁻⁷."""
    if value == 0 or value >= 1e-3:
        return f"{value:.{digits}f}" if value else "0"
    mantissa, power = f"{value:.1e}".split("e")
    return f"{mantissa}\u00a0×\u00a010{str(int(power)).translate(_RAISED)}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


@dataclass(frozen=True)
class WorstSample:
    """Where two ways of running a network differ most.

    Attributes:
        picture: the photo's name.
        label: the label.
        batch: the batch size it was seen at.
        expected: the trained network's probability.
        found: the converted network's; None where it is not a number.
        threshold: the label's.
        crop_rgb: the person as the network saw it, uint8 (height, width, 3); only in the page, never in JSON.
    """

    picture: str
    label: str
    batch: int
    expected: float
    found: float | None
    threshold: float
    crop_rgb: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)

    @property
    def is_flip(self) -> bool:
        """Whether the decision differs."""
        return self.found is None or (self.found >= self.threshold) != (self.expected >= self.threshold)

    def text(self) -> str:
        """The sample in words."""
        found = "no number" if self.found is None else f"{self.found:.6f}"
        return (
            f"'{self.label}' in {self.picture} at batch {self.batch}: {self.expected:.6f} from the trained network,"
            f" {found} from the conversion (threshold {self.threshold:.4f})"
        )


@dataclass(frozen=True)
class BatchResult:
    """The comparison at one batch size.

    Attributes:
        batch: the batch size.
        max_probability_difference: largest, over people and labels.
        mean_probability_difference: mean.
        p999_probability_difference: 99.9th percentile.
        label_flips: decisions that differ.
        farthest_flip: how far from its threshold the trained probability of such a decision is at most; 0 without any.
        f1: mean over labels of the conversion's F1 on the truth; None without any.
        ma: mean accuracy mA, likewise.
    """

    batch: int
    max_probability_difference: float
    mean_probability_difference: float
    p999_probability_difference: float
    label_flips: int
    farthest_flip: float
    f1: float | None
    ma: float | None


@dataclass(frozen=True)
class Divergence:
    """Where in a network a conversion departs.

    Attributes:
        node: the first node whose output departs, as the ONNX names it.
        operator: its kind, e.g. `Conv`.
        layer: the trained network's layer it belongs to, e.g. `blocks.2.conv1`; empty where nothing says.
        difference: norm of the difference over norm of the value there; None where a value is not a number.
        largest_value: largest magnitude of the right values there.
        limit: from which difference on a node is said to depart.
    """

    node: str
    operator: str
    layer: str
    difference: float | None
    largest_value: float
    limit: float

    def text(self) -> str:
        """The place in words."""
        layer = f" of layer {self.layer}" if self.layer else ""
        if self.difference is None:
            return (
                f"the first layer that departs is {self.node} ({self.operator}){layer}: it answers infinity or no"
                f" number where the right values reach {self.largest_value:.6g}"
            )
        return (
            f"the first layer that departs is {self.node} ({self.operator}){layer}: off by {self.difference:.3g} of"
            " its values' size"
        )


@dataclass(frozen=True)
class RefusedTry:
    """An earlier conversion to the same format, with fewer layers in float32.

    Attributes:
        layers_in_float: how many of its layers were.
        faults: why it was refused.
    """

    layers_in_float: int
    faults: tuple[str, ...]


@dataclass(frozen=True)
class ParityReport:
    """What a comparison found. The differences are over all people, labels and batch sizes.

    Attributes:
        runtime: what ran the converted network.
        precision: of its numbers: fp32, fp16 or int8.
        samples: how many people were looked at.
        part: who they are: of the run's validation or training part, or other photos; None where nobody says.
        batch_sizes: at which batch sizes.
        max_probability_difference: largest.
        mean_probability_difference: mean.
        p999_probability_difference: 99.9th percentile.
        decisions: how many there are: one a person and label.
        label_flips: those that differ, at any of the batch sizes.
        label_flips_beyond_limit: those whose trained probability is further than `limit` from its threshold.
        limit: see above.
        not_a_number: answers that are infinite or no number.
        batch_difference: how much the batch size and its other people change a probability at most.
        neighbour_difference: how much the other people in a batch of one size do.
        truth: what F1 and mA are measured on: `labels`, or `decisions of the trained network` where no label is known.
        f1: of the trained network, mean over labels.
        ma: likewise, mA.
        f1_change: the conversion's F1 less that, at the batch size where it departs most; None where not defined.
        ma_change: likewise, mA.
        ece: expected calibration error of the trained network, all decisions together; None where no label is known.
        ece_change: the conversion's less that, at the batch size where it departs most.
        calibration: all calibration errors of the conversion's answers, at that batch size; see `calibration_of`.
        labels: the comparison for each label.
        sizes: of an end-to-end model: the comparison on cut-outs of other sizes than the network's input.
        by_batch: the comparison at each batch size.
        worst: where it differs most.
        worst_samples: the same and the next ones, of other people.
        limits: what it was held to.
        faults: why the conversion is refused; empty when it agrees.
        causes: what the faults look like; empty when nobody can say.
        divergence: where in the network it departs, when that was looked for and found.
        kept_in_float: the layers that stay in float32 in it, where its precision is another.
        tries: the conversions with fewer such layers that were refused before it.
    """

    runtime: str
    precision: str
    samples: int
    batch_sizes: tuple[int, ...]
    max_probability_difference: float
    mean_probability_difference: float
    p999_probability_difference: float
    decisions: int
    label_flips: int
    label_flips_beyond_limit: int
    limit: float
    not_a_number: int
    batch_difference: float
    neighbour_difference: float
    truth: str
    f1: float | None
    ma: float | None
    f1_change: float | None
    ma_change: float | None
    by_batch: tuple[BatchResult, ...]
    worst: WorstSample
    worst_samples: tuple[WorstSample, ...]
    limits: ParityLimits
    faults: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    divergence: Divergence | None = None
    kept_in_float: tuple[str, ...] = ()
    tries: tuple[RefusedTry, ...] = ()
    part: PeoplePart | None = None
    ece: float | None = None
    ece_change: float | None = None
    calibration: dict[str, Any] = field(default_factory=dict)
    labels: tuple[LabelResult, ...] = ()
    sizes: tuple[SizeResult, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = asdict(self)
        for sample in (values["worst"], *values["worst_samples"]):
            del sample["crop_rgb"]
        return values

    def to_meta(self) -> ParityMeta:
        """The report as meta.json keeps it."""
        # Smaller differences depend on the number of threads: rounded up, meta.json says the same on every machine.
        return ParityMeta(
            runtime=self.runtime,
            precision=self.precision,  # type: ignore[arg-type]
            samples=self.samples,
            part=self.part,
            batch_sizes=self.batch_sizes,
            max_probability_difference=_rounded_up(self.max_probability_difference),
            mean_probability_difference=_rounded_up(self.mean_probability_difference),
            p999_probability_difference=_rounded_up(self.p999_probability_difference),
            label_flips=self.label_flips,
            label_flips_beyond_limit=self.label_flips_beyond_limit,
            limit=self.limit,
            f1_change=None if self.f1_change is None else round(self.f1_change, 6),
            ma_change=None if self.ma_change is None else round(self.ma_change, 6),
            kept_in_float=self.kept_in_float,
            ece=_sum(self.ece, self.ece_change),
            labels={one.label: _label_meta(one) for one in self.labels},
            sizes={one.kind: round(one.resize_error, 4) for one in self.sizes},
        )

    def in_words(self) -> str:
        """The numbers that matter most, in one line."""
        change = difference(self.f1_change, 4) if self.f1_change else "unchanged"
        f1 = "" if self.f1_change is None else f", F1 {change}"
        return (
            f"largest difference of a probability {self.max_probability_difference:.1e}, {self.label_flips} of"
            f" {counted(self.decisions, 'decision')} differ{f1}"
        )

    def sentence(self) -> str:
        """Why it is refused, in one sentence."""
        parts = [f"the conversion disagrees with the trained network: {'; '.join(self.faults)}"]
        parts += [f"looks like: {cause}" for cause in self.causes]
        if self.divergence is not None:
            parts.append(self.divergence.text())
        if self.tries:
            layers = ", ".join(str(step.layers_in_float) for step in self.tries)
            kept = counted(len(self.kept_in_float), "layer")
            parts.append(f"{kept} in float32, and with {layers} of them it was refused before")
        return "; ".join([*parts, f"worst: {self.worst.text()}"])

    def raise_if_refused(self, where: object, page: Path) -> None:
        """Refuses a conversion that disagrees.

        Raises:
            ParityError: names the faults, what they look like, and the worst sample.
        """
        if self.faults:
            raise ParityError(
                self.sentence(),
                code="out_of_tolerance",
                where=where,
                hint=f"nothing of it was packaged; the report is {page}",
            )


def _label_meta(one: LabelResult) -> LabelParityMeta:
    return LabelParityMeta(
        f1_change=None if one.f1_change is None else round(one.f1_change, 6),
        ece=_sum(one.ece, one.ece_change),
        logit_shift=round(one.logit_shift, 4),
        logit_error=round(one.logit_error, 4),
    )


def _sum(before: float | None, change: float | None) -> float | None:
    """What a measure is after a change, to a millionth."""
    return None if before is None or change is None else round(before + change, 6)


def _rounded_up(value: float) -> float:
    return math.ceil(value * 1e6) / 1e6
