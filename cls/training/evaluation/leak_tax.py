"""The leak tax: how much higher scores are when people of one picset may be in both subsets.

A random split puts photos of one shoot into training and validation, and recognising the shoot scores like recognising
the label. Jia et al. (Rethinking of Pedestrian Attribute Recognition, arXiv:2107.03576) found 12 points of mean
accuracy on PETA. Both splits have the same sizes and stratification, and are measured on the same labels with
cross-validated thresholds, so that nothing but the leak differs.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cls.bottle.layout import Bottle
from cls.dataset.backgrounds import background_sources
from cls.dataset.samples import Sample
from cls.dataset.split.assign import TRAIN, VALID, Split, split_by_person
from cls.errors import FileError
from cls.metrics.bootstrap import (
    LEVEL,
    RESAMPLES,
    Weights,
    draw_units,
    in_few_units,
    interval_of,
    mean_of_defined,
    number,
    resampled,
)
from cls.metrics.multilabel import BoolArray, FloatArray
from cls.metrics.scores import Interval
from cls.records import read_record, write_record
from cls.training.data import Training, build_initial_network
from cls.training.evaluation.calibration import cross_validated_decisions, shift_of_loss
from cls.training.evaluation.evaluate import Evaluation, EvaluationSettings, evaluate
from cls.training.loop.fit import base_rates, fit_network
from cls.training.loop.optimizer import loss_for
from cls.training.network.build import memory_format_of
from cls.training.runs.metrics import LeakTax

_log = logging.getLogger("cls.training")

# Name -> measure.
MEASURES = {"mAP": "ap", "F1": "f1", "mA": "ma"}

FOLDER, RESULT = "leak_tax", "leak_tax.json"


@dataclass(frozen=True)
class Predictions:
    """Predictions for one validation subset, and the truth.

    Attributes:
        probs: (samples, labels).
        decisions: (samples, labels), cross-validated.
        labels: (samples, labels): 1, 0, or NaN for unknown.
        units: of each sample, with the same names in both subsets.
    """

    probs: FloatArray
    decisions: BoolArray
    labels: FloatArray
    units: Sequence[str]


@dataclass(frozen=True)
class Difference:
    """Means over labels of two validation subsets; a measure is None where it is not defined.

    Attributes:
        first: mAP, F1 and mA of the first subset.
        second: of the second.
        intervals: 95 percent intervals of second minus first.
        units: how many units were drawn from.
        left_out: numbers of the labels whose positives are in fewer than three units of either subset.
    """

    first: dict[str, float | None]
    second: dict[str, float | None]
    intervals: dict[str, Interval]
    units: int
    left_out: tuple[int, ...]


def difference(first: Predictions, second: Predictions, *, seed: int, resamples: int = RESAMPLES) -> Difference:
    """Compares two subsets over the same labels, by a paired bootstrap over the units of both.

    A unit with people in both subsets is drawn for both: what they have in common does not widen the interval. How much
    another training on the same split would differ is not in the interval.
    """
    is_kept = ~(in_few_units(first.labels, first.units) | in_few_units(second.labels, second.units))
    known, unit_of = np.unique(np.asarray([*first.units, *second.units], np.str_), return_inverse=True)
    units_of = unit_of[: len(first.units)], unit_of[len(first.units) :]

    def measured(weights: Weights) -> list[dict[str, FloatArray]]:
        """Measures of the kept labels, (resamples, labels), of both subsets."""
        return [
            resampled(part.probs[:, is_kept], part.decisions[:, is_kept], part.labels[:, is_kept], units, weights)
            for part, units in zip((first, second), units_of, strict=True)
        ]

    drawn = measured(draw_units(len(known), resamples, seed=seed))
    means = [
        {name: number(mean_of_defined(found[key])[0]) for name, key in MEASURES.items()}
        for found in measured(np.ones((1, len(known)), np.float32))
    ]
    intervals = {}
    for name, key in MEASURES.items():
        count = min(len(part[key]) for part in drawn)  # curves are measured in the first resamples only
        intervals[name] = interval_of(mean_of_defined(drawn[1][key][:count] - drawn[0][key][:count]))
    return Difference(means[0], means[1], intervals, len(known), tuple(np.flatnonzero(~is_kept).tolist()))


def measure_leak_tax(bottle: Bottle, training: Training, folder: Path, evaluation: Evaluation) -> LeakTax:
    """Trains once more, with the same settings and initial weights, on a random split, and compares.

    This writes to `leak_tax/` of the run folder; the weights are removed at the end. Killed and called again, it
    resumes after its last whole epoch.

    Raises:
        KeyboardInterrupt: the user stopped it.
        TrainingError: the loss is not a number.
        FileError: something cannot be written.
    """
    inner = folder / FOLDER
    found = _measured(inner / RESULT)
    if found is None:
        _log.info("leak tax: the same training on a random split")
        data = training.data
        subsets = random_subsets(data.people.samples, data.split, seed=training.config.seed)
        found = _compare(bottle, training, inner, evaluation, subsets)
        write_record(inner / RESULT, found)
        shutil.rmtree(inner / "checkpoints", ignore_errors=True)
        (inner / "predictions.csv").unlink(missing_ok=True)
    return found


def random_subsets(samples: Sequence[Sample], split: Split, *, seed: int) -> list[str]:
    """A random subset for every sample, whatever its picset, with the stratification and sizes of the split."""
    valid = sum(split.subsets[sample.split_unit] == VALID for sample in samples)
    return split_by_person(samples, valid_people=valid, seed=seed)


def _compare(
    bottle: Bottle, training: Training, folder: Path, evaluation: Evaluation, subsets: Sequence[str]
) -> LeakTax:
    """Trains on the random split in a folder, and measures both."""
    names, seed, people = training.network.spec.labels, training.config.seed, training.data.people
    other = _on_random_split(bottle, training, subsets)
    fit_network(other, folder)
    shift = _shift(other)
    settings = EvaluationSettings(loss_shift=shift, seed=seed, memory_format=memory_format_of(other.network.module))
    leaky = evaluate(folder, other.network.spec, other.data.valid, settings)
    own_units = [unit for unit, subset in zip(people.units, subsets, strict=True) if subset == VALID]
    found = difference(
        _predictions(evaluation, [sample.split_unit for sample in evaluation.samples], _shift(training), seed),
        _predictions(leaky, own_units, shift, seed),
        seed=seed,
    )
    left_out = tuple(names[number] for number in found.left_out)
    return LeakTax(
        by_picset=found.first,
        random_split=found.second,
        difference={
            name: None if (one := found.first[name]) is None or (two := found.second[name]) is None else two - one
            for name in MEASURES
        },
        intervals=found.intervals,
        level=LEVEL,
        units=found.units,
        labels=tuple(name for name in names if name not in left_out),
        left_out=left_out,
        validation_people_whose_picset_is_in_training=_leaked_share(people.samples, subsets),
    )


def _on_random_split(bottle: Bottle, training: Training, subsets: Sequence[str]) -> Training:
    """The same training on a random split."""
    config, data, network = replace(training.config, loggers=()), training.data, training.network
    # Each person is a unit.
    samples = [replace(sample, joined=f"person:{number}") for number, sample in enumerate(data.people.samples)]
    split = Split({sample.split_unit: subset for sample, subset in zip(samples, subsets, strict=True)})
    module = build_initial_network(config, network.spec, network.source, samples, data.auxiliary)
    module.to(memory_format=memory_format_of(network.module))
    data = replace(data, people=replace(data.people, samples=samples), split=split)
    backgrounds = background_sources(bottle, data.train.cutouts, network.spec.preprocessing)
    return Training(config, replace(data, backgrounds=backgrounds), replace(network, module=module))


def _shift(training: Training) -> tuple[float, ...]:
    return shift_of_loss(loss_for(training.config, base_rates(training.data.train.samples)))


def _predictions(evaluation: Evaluation, units: Sequence[str], shift: Sequence[float], seed: int) -> Predictions:
    """Predictions for the validation people; with a single picset, by thresholds chosen on it."""
    cross_validated = cross_validated_decisions(evaluation.logits, evaluation.labels, units, shift, seed=seed)
    decisions: BoolArray = evaluation.probs >= np.asarray(evaluation.thresholds)
    return Predictions(
        evaluation.probs, decisions if cross_validated is None else cross_validated.decisions, evaluation.labels, units
    )


def _measured(file: Path) -> LeakTax | None:
    """The result of an interrupted run; None where there is none, or the file is damaged or of an earlier version."""
    if not file.exists():
        return None
    try:
        found = read_record(file, LeakTax)
    except FileError as error:
        _log.warning("%s; it is measured again", error.line())
        return None
    return None if found.intervals is None else found


def _leaked_share(samples: Sequence[Sample], subsets: Sequence[str]) -> float:
    """The share of validation people whose picset is in training."""
    trained = {sample.split_unit for sample, subset in zip(samples, subsets, strict=True) if subset == TRAIN}
    valid = [sample.split_unit for sample, subset in zip(samples, subsets, strict=True) if subset == VALID]
    return float(np.mean([unit in trained for unit in valid])) if valid else 0.0
