"""Evaluation of a run's best checkpoint on validation: calibration, thresholds, metrics."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cls.bottle.dataset_file import GroupDataset, read_dataset
from cls.dataset.cutouts import CutoutFormat, Cutouts, Subset, load_cutouts
from cls.dataset.samples import Sample, collect_samples, labels_of, mark_incomplete_labels_unknown
from cls.dataset.split.file import trained_on
from cls.errors import TrainingError
from cls.files import write_text_atomic
from cls.machine import cores
from cls.metrics.bootstrap import bootstrap
from cls.metrics.multilabel import (
    FloatArray,
    Truth,
    choose_thresholds,
    expected_calibration_error,
    measure,
    probabilities_of,
)
from cls.metrics.scores import Metrics
from cls.training.evaluation.background_sensitivity import BackgroundTrial, measure_backgrounds
from cls.training.evaluation.calibration import (
    choose_calibration,
    cross_validate,
    fold_into_head,
    logits_of,
    negative_log_likelihood,
    write_weights,
)
from cls.training.evaluation.label_errors import LabelError, probable_label_errors
from cls.training.network.build import NetworkSpec, load_network
from cls.training.network.smoke_test import FORMATS
from cls.training.runs.folder import SPLIT
from cls.training.runs.metrics import BackgroundSensitivity, Calibration
from cls.training.runs.run import BEST_CKPT, MODEL_CKPT, FinishedRun


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a checkpoint.

    Attributes:
        network: with the calibration folded into its head; evaluation mode, float32, CPU.
        thresholds: one a label.
        thresholds_from: where they come from.
        metrics: on validation; None with mode `all`.
        labels: (samples, labels): 1, 0, or NaN for unknown.
        probs: (samples, labels), calibrated.
        calibration: what was folded into the head.
        background: None where it was not measured.
        logits: (samples, labels), not calibrated.
    """

    network: nn.Module
    thresholds: tuple[float, ...]
    thresholds_from: str
    metrics: Metrics | None
    samples: Sequence[Sample]
    cutouts: Cutouts
    labels: FloatArray
    probs: FloatArray
    calibration: Calibration
    background: BackgroundSensitivity | None
    logits: FloatArray = field(default_factory=lambda: np.empty((0, 0)))

    @cached_property
    def label_errors(self) -> list[LabelError]:
        """Labels of validation that are probably wrong, the most certain first."""
        return probable_label_errors(self.probs, self.labels)


@dataclass(frozen=True)
class EvaluationSettings:
    """How a checkpoint is evaluated.

    Attributes:
        earlier: finished runs of the group: without validation, calibration and thresholds are those of the newest that
            was validated.
        loss_shift: of `shift_of_loss`; 0 for each label when not given.
        trial: settings of the background test; None: not measured.
        seed: of resamples and folds.
        memory_format: to compute in; the network that is returned is contiguous.
    """

    earlier: Sequence[FinishedRun] = ()
    loss_shift: Sequence[float] = ()
    trial: BackgroundTrial | None = None
    seed: int = 0
    memory_format: torch.memory_format = torch.contiguous_format


def evaluate(folder: Path, spec: NetworkSpec, valid: Subset, settings: EvaluationSettings | None = None) -> Evaluation:
    """Calibrates and measures the best checkpoint of a run folder, and writes model.ckpt and predictions.csv.

    Raises:
        BottleError: the checkpoint cannot be read.
        FileError: model.ckpt cannot be written.
    """
    settings = settings or EvaluationSettings()
    names, preprocessing, earlier, seed = spec.labels, spec.preprocessing, settings.earlier, settings.seed
    samples, cutouts = valid.samples, valid.cutouts
    checkpoints = folder / "checkpoints"
    network = load_network(checkpoints / BEST_CKPT, spec)
    network.to(memory_format=settings.memory_format)
    shift = tuple(settings.loss_shift) or (0.0,) * len(names)
    logits, labels = np.empty((0, len(names))), np.empty((0, len(names)))
    if samples:
        labels = labels_of(samples).astype(np.float64)
        logits = logits_of(network, preprocessing, (cutouts.input_rgb(index) for index in range(len(cutouts))))
        calibration = choose_calibration(logits, labels, shift)
    else:
        calibration = _calibration_of_earlier(names, earlier, shift)
    size = preprocessing.height_px, preprocessing.width_px
    if not calibration.is_identity and (why := fold_into_head(network, calibration, *size)) is not None:
        calibration = Calibration.identity(len(names), why)
    write_weights(network, checkpoints / MODEL_CKPT, calibration)
    probs = calibration.probs(logits)
    if not samples:
        thresholds, origin = _thresholds_of_earlier(names, earlier)
        network.to(memory_format=torch.contiguous_format)
        return Evaluation(network, thresholds, origin, None, samples, cutouts, labels, probs, calibration, None)
    thresholds = tuple(choose_thresholds(probs, labels).tolist())
    _write_predictions(folder / "predictions.csv", names, samples, labels, probs)
    truth = Truth(labels, valid.units, names)
    metrics = measure(probs, labels, names, thresholds).replaced(
        intervals=bootstrap(probs, truth, thresholds, seed=seed),
        cross_fitted=cross_validate(logits, truth, shift, seed=seed),
    )
    calibration = _measured(calibration, logits, labels, metrics)
    background = None
    if settings.trial is not None:
        background = measure_backgrounds(network, spec, thresholds, cutouts, settings.trial)
    network.to(memory_format=torch.contiguous_format)
    return Evaluation(
        network, thresholds, "validation", metrics, samples, cutouts, labels, probs, calibration, background, logits
    )


def _measured(calibration: Calibration, logits: FloatArray, labels: FloatArray, metrics: Metrics) -> Calibration:
    """A calibration with the calibration errors before and after it."""
    is_known = ~np.isnan(labels)
    return calibration.replaced(
        ece_before=expected_calibration_error(probabilities_of(logits)[is_known], labels[is_known] > 0.5),
        ece_after=metrics.micro.ece,
        ece_cross_fitted=None if metrics.cross_fitted is None else metrics.cross_fitted.micro.ece,
        nll_before=negative_log_likelihood(logits, labels),
        nll_after=negative_log_likelihood(calibration.logits(logits), labels),
    )


def _thresholds_of_earlier(names: tuple[str, ...], earlier: Sequence[FinishedRun]) -> tuple[tuple[float, ...], str]:
    run = _validated(names, earlier)
    if run is None:
        return (0.5,) * len(names), "default (no run of this group has been validated)"
    return run.thresholds, f"validation of run {run.name}"


def _calibration_of_earlier(
    names: tuple[str, ...], earlier: Sequence[FinishedRun], loss_shift: tuple[float, ...]
) -> Calibration:
    """The calibration of the run that the thresholds come from."""
    run = _validated(names, earlier)
    if run is None:
        return Calibration.identity(len(names), "no run of this group has been validated")
    known = run.metrics.calibration
    if known is None:
        return Calibration.identity(len(names), f"run {run.name} is not calibrated")
    # The shift depends on this training's loss, which may be another than that run's.
    shift = loss_shift if any(known.logit_shift) else (0.0,) * len(names)
    return Calibration(temperature=known.temperature, logit_shift=shift, source=f"validation of run {run.name}")


def _validated(names: tuple[str, ...], earlier: Sequence[FinishedRun]) -> FinishedRun | None:
    """The newest run of these labels with a validation."""
    fits = (run for run in reversed(earlier) if run.labels == names and run.metrics.validation is not None)
    return next(fits, None)


def _write_predictions(
    path: Path, names: Sequence[str], samples: Sequence[Sample], labels: FloatArray, probs: FloatArray
) -> None:
    """One line per validation sample: picture, person's id, picset, then truth and probability of each label."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["picture", "person", "picset", *(f"{what} {name}" for name in names for what in ("is", "prob"))])
    for sample, truth, prob in zip(samples, labels, probs, strict=True):
        pairs = [value for pair in zip(truth, prob, strict=True) for value in (f"{pair[0]:g}", f"{pair[1]:.6f}")]
        writer.writerow([sample.path, sample.person.id, sample.picset, *pairs])
    write_text_atomic(path, text.getvalue())


def evaluate_run(run: FinishedRun, samples: Sequence[Sample]) -> Metrics:
    """Measures a finished run on labelled people, with its own thresholds.

    Raises:
        TrainingError: there is nobody to measure it on.
        BottleError: the checkpoint cannot be read.
        FileError: the cache cannot be written.
    """
    config = run.args.config
    format_ = CutoutFormat(run.preprocessing, storage=config.cache)
    cutouts, broken = load_cutouts(run.bottle, samples, format_, workers=cores())
    samples = [sample for sample in samples if sample.path not in set(broken)]
    if not samples:
        raise TrainingError(
            "there is nobody to evaluate it on",
            code="nobody_to_evaluate_on",
            where=run.folder,
            hint="name a group with photos that it was not trained on",
        )
    labels = labels_of(samples).astype(np.float64)
    network = run.load_network()
    network.to(memory_format=FORMATS[run.args.memory_format])
    logits = logits_of(network, run.preprocessing, (cutouts.input_rgb(index) for index in range(len(cutouts))))
    probs = probabilities_of(logits)
    truth = Truth(labels, [sample.split_unit for sample in samples], run.labels)
    intervals = bootstrap(probs, truth, run.thresholds, seed=config.seed)
    return measure(probs, labels, run.labels, run.thresholds).replaced(intervals=intervals)


def unseen_samples(run: FinishedRun, group: str) -> list[Sample]:
    """People of a loaded group on photos, and in picsets, that neither a run nor its initial weights were trained on.

    Raises:
        TrainingError: the group lacks labels of the run.
        BottleError: the group has not been loaded.
        DatabaseError: the pictures database cannot be used.
    """
    file, config = run.bottle.dataset_file(group), run.args.config
    dataset = read_dataset(file, group)
    missing = [label for label in run.labels if label not in dataset.labels]
    if missing:
        raise TrainingError(
            f"lacks labels of run {run.name}: {', '.join(missing)}",
            code="labels_missing",
            where=file,
            hint="evaluate on a group with the same labels",
        )
    columns = [dataset.labels.index(label) for label in run.labels]
    seen = trained_on(run.folder / SPLIT)
    picsets = {picset for picset in seen.values() if picset}
    rows = tuple(
        replace(row, labels=tuple(row.labels[column] for column in columns))
        for row in dataset.rows
        if row.path not in seen and row.picset not in picsets
    )
    asked = GroupDataset(group, run.labels, rows)
    if config.incomplete is not None:
        asked = mark_incomplete_labels_unknown(asked, config.incomplete, where=file)
    return collect_samples(run.bottle, asked, people=config.people, subject=config.subject)[0]
