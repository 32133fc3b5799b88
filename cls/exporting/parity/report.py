"""What a comparison of a conversion with the trained network found."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Discriminator, Field, PlainValidator, Tag

from cls.errors import ParityError, ParityFault
from cls.exporting.parity.results import LabelResult, SizeResult
from cls.metrics.scores import Metrics
from cls.package.meta import LabelParityMeta, ParityMeta, PeoplePart
from cls.records import Record
from cls.settings import ParityLimits
from cls.wording import change, counted, magnitude


def _fault(value: object) -> ParityFault:
    """A fault of a report; one that is read from JSON, which has the sentence alone, is without a case."""
    if not isinstance(value, str):
        raise ValueError("should be a sentence")  # noqa: TRY004 - pydantic reports this one
    return value if isinstance(value, ParityFault) else ParityFault(value)


Faults = tuple[Annotated[ParityFault, PlainValidator(_fault)], ...]


@dataclass(frozen=True)
class WorstSample:
    """Where two ways of running a network differ most.

    Attributes:
        batch: the batch size it was seen at.
        expected: the trained network's probability.
        found: the converted network's; None where it is not a number.
        crop_rgb: the person as the network saw it, uint8 (height, width, 3); only in the page, never in JSON.
    """

    picture: str
    label: str
    batch: int
    expected: float
    found: float | None
    threshold: float
    crop_rgb: Annotated[NDArray[np.uint8] | None, Field(exclude=True)] = field(default=None, repr=False, compare=False)
    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)

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
        max_probability_difference: largest, over people and labels.
        p999_probability_difference: 99.9th percentile.
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
        limit: from this difference on a node counts as departing.
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
    """An earlier conversion to the same format, with fewer layers in float32."""

    layers_in_float: int
    faults: Faults


@dataclass(frozen=True)
class ParityReport:
    """What a comparison found. The differences are over all people, labels and batch sizes.

    Attributes:
        runtime: what ran the converted network.
        precision: of its numbers: fp32, fp16 or int8.
        part: who they are: of the run's validation or training part, or other photos; None where nobody says.
        max_probability_difference: largest.
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
        faults: why the conversion is refused; empty when it agrees.
        causes: what the faults look like; empty when nobody can say.
        divergence: where in the network it departs, when that was looked for and found.
        kept_in_float: the layers that stay in float32 in it, where its precision is another.
        tries: the conversions with fewer such layers that were refused before it.
    """

    runtime: str
    samples: int
    batch_sizes: tuple[int, ...]
    max_probability_difference: float
    mean_probability_difference: float
    p999_probability_difference: float
    label_flips: int
    label_flips_beyond_limit: int
    limit: float
    worst: WorstSample
    precision: str = "fp32"
    decisions: int = 0
    not_a_number: int = 0
    batch_difference: float = 0.0
    neighbour_difference: float = 0.0
    truth: str = ""
    f1: float | None = None
    ma: float | None = None
    f1_change: float | None = None
    ma_change: float | None = None
    by_batch: tuple[BatchResult, ...] = ()
    worst_samples: tuple[WorstSample, ...] = ()
    limits: ParityLimits = field(default_factory=ParityLimits)
    faults: Faults = ()
    causes: Faults = ()
    divergence: Divergence | None = None
    kept_in_float: tuple[str, ...] = ()
    tries: tuple[RefusedTry, ...] = ()
    part: PeoplePart | None = None
    ece: float | None = None
    ece_change: float | None = None
    calibration: Metrics = field(default_factory=Metrics)
    labels: tuple[LabelResult, ...] = ()
    sizes: tuple[SizeResult, ...] = ()

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
        f1 = "" if self.f1_change is None else f", F1 {change(self.f1_change)}"
        return (
            f"largest difference of a probability {magnitude(self.max_probability_difference)}, {self.label_flips} of"
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
                faults=(*self.faults, *self.causes),
            )


class NotCompared(Record):
    """A conversion that could not be compared."""

    faults: tuple[str, ...]


_REPORT_KEYS = {one.name for one in fields(ParityReport)} - {"faults"}


def _kind_of_comparison(value: object) -> str:
    keys = value.keys() if isinstance(value, dict) else set()
    return "report" if isinstance(value, ParityReport) or keys & _REPORT_KEYS else "not compared"


class OtherFormat(Record):
    """A format of the same export that another report describes, or none.

    Attributes:
        state: `agrees`, `refused`, `failed`, `not made`.
        page: name of the page beside this one that says more; empty where there is none. Not in the file.
    """

    state: str
    reason: str
    page: str = Field(default="", exclude=True)


class ParityFile(Record):
    """parity_report.json; what earlier versions did not measure has its default."""

    run: str
    formats: dict[
        str,
        Annotated[
            Annotated[ParityReport, Tag("report")] | Annotated[NotCompared, Tag("not compared")],
            Discriminator(_kind_of_comparison),
        ],
    ]
    others: dict[str, OtherFormat] = Field(default_factory=dict)


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
