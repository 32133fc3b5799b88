"""metrics.json: what a finished run measured, of all versions that wrote one."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from cls.dataset.samples import PictureCounts
from cls.dataset.split.file import PartsUsed
from cls.metrics.multilabel import FloatArray, probabilities_of
from cls.metrics.scores import Interval, Metrics
from cls.records import Record
from cls.training.runs.args import InitialWeights


class Calibration(Record):
    """A calibration of logits: (logit - shift) / temperature.

    Attributes:
        temperature: above 1 where the network was overconfident.
        logit_shift: of each label: how far the loss's weights moved the logits (`shift_of_loss`); 0 where that is not
            removed.
        source: where both come from, or why nothing is changed.
        ece_before: expected calibration error of all decisions together, 15 bins of equal width, without it.
        ece_after: the same with it, on the people it was chosen on.
        ece_cross_fitted: the same, cross-validated: the unbiased number.
        nll_before: mean negative log-likelihood of a decision without it.
        nll_after: the same with it.
    """

    temperature: float
    logit_shift: tuple[float, ...] = ()
    source: str = ""
    ece_before: float | None = None
    ece_after: float | None = None
    ece_cross_fitted: float | None = None
    nll_before: float | None = None
    nll_after: float | None = None

    @classmethod
    def identity(cls, labels: int, why: str) -> Calibration:
        """A calibration that changes nothing."""
        return cls(temperature=1.0, logit_shift=(0.0,) * labels, source=f"nothing is changed: {why}")

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return self.temperature == 1 and not any(self.logit_shift)

    def logits(self, logits: FloatArray) -> FloatArray:
        """Calibrated logits, (samples, labels)."""
        return np.asarray((logits - np.asarray(self.logit_shift)) / self.temperature, np.float64)

    def probs(self, logits: FloatArray) -> FloatArray:
        """Calibrated probabilities, (samples, labels)."""
        return probabilities_of(self.logits(logits))


class Flips(Record):
    """How often decisions change with the background.

    Attributes:
        share: of the decisions (person, background, label), those that differ from the one on the flat colour.
        people: share of the people with any changed decision; None where it was not measured.
        labels: `share` of each label.
        probability: mean absolute change of a probability.
        interval: 95 percent interval of `share`, over resampled units; the exact binomial interval over units where no
            decision changed, or all did.
        people_interval: that of `people`; never narrower than the exact binomial interval of as many people.
    """

    share: float
    people: float | None = None
    labels: dict[str, float] = Field(default_factory=dict)
    probability: float | None = None
    interval: Interval = None
    people_interval: Interval = None


class BackgroundSensitivity(Record):
    """Validation people on other backgrounds.

    Attributes:
        people: how many; None where that is not known.
        backgrounds: on how many each was put.
        origin: where the backgrounds come from.
        as_served: the person is cut out by its mask as at inference: the background is in the mask's edge pixels only.
        background_left_in: the background is left in, as for a classifier of whole pictures.
    """

    people: int | None = None
    backgrounds: int
    origin: str = ""
    as_served: Flips
    background_left_in: Flips


class LeakTax(Record):
    """One training measured on its own split and on a random one; F1 and mA are cross-validated.

    Attributes:
        by_picset: mAP, F1 and mA on the run's own split; None where a measure is not defined.
        random_split: the same on a random split of the same sizes.
        difference: by how much the score on the random split is too high.
        intervals: of each difference, over resampled picsets; None where they were not measured.
        level: of confidence.
        units: picsets of both validation subsets.
        labels: the labels both are measured on.
        left_out: those whose positives are in fewer than three picsets of either validation subset.
        validation_people_whose_picset_is_in_training: their share of the random split's validation people.
    """

    by_picset: dict[str, float | None]
    random_split: dict[str, float | None]
    difference: dict[str, float | None]
    intervals: dict[str, Interval] | None = None
    level: float = 0.95
    units: int = 0
    labels: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    validation_people_whose_picset_is_in_training: float = 0.0

    @property
    def significant(self) -> list[str]:
        """The measures with a difference whose interval does not contain zero."""
        found = (self.intervals or {}).items()
        return [name for name, bounds in found if bounds and (bounds[0] > 0 or bounds[1] < 0)]


class SampleCounts(Record):
    """How many people were trained on and validated on.

    Attributes:
        train: people in training.
        valid: people in validation; 0 with mode `all`.
    """

    train: int
    valid: int = 0


class ValidatedOn(Record):
    """Digests of the validation samples: runs with equal digests were measured on the same samples.

    Attributes:
        people_sha256: of picture, number of the person, and box in whole pixels.
        labels_sha256: of these with their labels.
    """

    people_sha256: str
    labels_sha256: str


class Epoch(Record):
    """One epoch of the training; measures of validation where there is one.

    Attributes:
        epoch: number, from 0.
        seconds: duration.
        train_loss: mean over its batches.
        lr: learning rate of the head at its end.
        valid_loss: on the validation part.
        valid_map: mean average precision there.
        valid_f1: mean F1 there, at threshold 0.5.
        valid_auroc: mean AUROC there.
    """

    epoch: int
    seconds: float = 0.0
    train_loss: float
    lr: float = 0.0
    valid_loss: float | None = None
    valid_map: float | None = None
    valid_f1: float | None = None
    valid_auroc: float | None = None


class RunMetrics(Record):
    """The content of metrics.json; a field that earlier versions did not measure has its default.

    Attributes:
        run: name of the run folder.
        group: name as the annotators typed it.
        labels: names in output order.
        thresholds: by label: probability from which it is predicted.
        thresholds_from: `validation`; with mode `all` the run that they were taken from.
        validation: measures on the validation subset; None with mode `all`.
        calibration: folded into the head; None for versions that did not calibrate.
        background_sensitivity: None where it was not measured.
        leak_tax: None where it was not measured.
        samples: how many people were used.
        validated_on: None where nothing was validated.
        parts: the dataset's own parts that were used; None where the split was made by picset.
        pictures: what became of the dataset's pictures.
        weights: initial weights of the training.
        history: the epochs.
        seconds: duration of the fit; of a resumed run, each part counts up to its last whole epoch.
        waiting_share: share of it spent waiting for batches.
        run_seconds: duration of the whole run, from reading the dataset to the last file. The parts of a resumed run
            count together; one that was killed counts up to the last file it wrote.
        conversions: by format: None, or why it could not be made.
        dataset_sha256: digest of the labelled pictures (`GroupDataset.sha256`).
        split_sha256: digest of split.json.
        weights_sha256: digest of the kept checkpoint.
        segmentation_models: versions of the models whose masks were used.
        code_version: of the code that trained; with the commit where that ran from a checkout.
        finished: ISO 8601, in UTC.
    """

    run: str = ""
    group: str = ""
    labels: tuple[str, ...] = Field(min_length=1)
    thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]]
    thresholds_from: str = ""
    validation: Metrics | None = None
    calibration: Calibration | None = None
    background_sensitivity: BackgroundSensitivity | None = None
    leak_tax: LeakTax | None = None
    samples: SampleCounts | None = None
    validated_on: ValidatedOn | None = None
    parts: PartsUsed | None = None
    pictures: PictureCounts | None = None
    weights: InitialWeights | None = None
    history: tuple[Epoch, ...] = ()
    seconds: float | None = None
    waiting_share: float | None = None
    run_seconds: float | None = None
    conversions: dict[str, str | None] = Field(default_factory=dict)
    dataset_sha256: str
    split_sha256: str
    weights_sha256: str
    segmentation_models: tuple[str, ...]
    code_version: str = ""
    finished: str = ""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> RunMetrics:
        if len(set(self.labels)) < len(self.labels):
            repeated = sorted({label for label in self.labels if self.labels.count(label) > 1})
            raise ValueError(f"labels: {', '.join(repeated)} is listed more than once")
        if missing := [label for label in self.labels if label not in self.thresholds]:
            raise ValueError(f"thresholds: none of {', '.join(missing)}")
        return self

    def __repr__(self) -> str:
        """The run, its labels and its validation."""
        return f"RunMetrics({self.run!r}, labels={self.labels!r}, validation={self.validation!r})"

    __str__ = __repr__

    @property
    def threshold_values(self) -> tuple[float, ...]:
        """Thresholds in output order."""
        return tuple(self.thresholds[label] for label in self.labels)
