"""The leak tax: how much better the same training looks when people of one picset may be in both subsets.

A random split puts photos of one shoot into training and validation, and a network that recognises the shoot is taken
for one that knows the label. Jia et al. (Rethinking of Pedestrian Attribute Recognition, arXiv:2107.03576) found 12
points of mean accuracy that way on PETA.

Nothing but the leak may differ: both splits are stratified alike, have the same sizes, and are measured on the same
labels, with thresholds that were chosen on other picsets than those they decide on.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cls.bottle.layout import Bottle
from cls.dataset.backgrounds import background_sources
from cls.dataset.samples import Sample
from cls.dataset.split.assign import TRAIN, VALID, Split, split_by_person
from cls.errors import FileError
from cls.metrics.bootstrap import LEVEL, RESAMPLES, draw_units, interval_of, mean_of_defined, resampled, thin_labels
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

# What is said -> the measure behind it.
MEASURES = {"mAP": "ap", "F1": "f1", "mA": "ma"}

FOLDER, RESULT = "leak_tax", "leak_tax.json"


@dataclass(frozen=True)
class Predictions:
    """Predictions for one validation subset.

    Attributes:
        probs: (samples, labels).
        decisions: bool (samples, labels), made by what was chosen on other units.
        labels: (samples, labels): 1, 0, or NaN for unknown.
        units: of each sample, by the same names in both parts.
    """

    probs: NDArray[np.float64]
    decisions: NDArray[np.bool_]
    labels: NDArray[np.float64]
    units: Sequence[str]


@dataclass(frozen=True)
class Difference:
    """Means over the labels compared; a measure is None where it is not defined.

    Attributes:
        first: mAP, F1 and mA of the first part.
        second: of the second.
        intervals: 95 percent intervals of second minus first.
        units: how many units were drawn from.
        left_out: numbers of the labels whose positives stand in fewer than three units of either part.
    """

    first: dict[str, float | None]
    second: dict[str, float | None]
    intervals: dict[str, Interval]
    units: int
    left_out: tuple[int, ...]


def difference(first: Predictions, second: Predictions, *, seed: int, resamples: int = RESAMPLES) -> Difference:
    """Compares two parts over the same labels, and draws the units of both together again and again.

    A unit that has people in both parts is drawn for both: what they have in common does not widen the interval. That
    another training on the same split would have come out differently is not in it.
    """
    is_kept = ~(thin_labels(first.labels, first.units) | thin_labels(second.labels, second.units))
    known, unit_of = np.unique(np.asarray([*first.units, *second.units], np.str_), return_inverse=True)
    times = draw_units(len(known), resamples, seed=seed)
    places = unit_of[: len(first.units)], unit_of[len(first.units) :]
    drawn = [_drawn(part, at, is_kept, times) for part, at in zip((first, second), places, strict=True)]
    once = np.ones((1, len(known)), np.float32)
    points = [_drawn(part, at, is_kept, once) for part, at in zip((first, second), places, strict=True)]
    means = [
        {name: _number(mean_of_defined(found[key])[0]) for name, key in MEASURES.items()} for found in points
    ]  # fmt: skip
    return Difference(
        first=means[0],
        second=means[1],
        # Of each label where a resample defines it in both parts.
        intervals={
            name: interval_of(mean_of_defined(_less(drawn[1][key], drawn[0][key]))) for name, key in MEASURES.items()
        },
        units=len(known),
        left_out=tuple(np.flatnonzero(~is_kept).tolist()),
    )


def _drawn(
    part: Predictions, unit_of: NDArray[np.int64], is_kept: NDArray[np.bool_], times: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """Measures of the kept labels, (resamples, labels)."""
    return resampled(part.probs[:, is_kept], part.decisions[:, is_kept], part.labels[:, is_kept], unit_of, times)


def _less(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The difference of the resamples that both have: curves are taken of the first ones only."""
    count = min(len(values), len(others))
    return values[:count] - others[:count]


def _less_number(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def measure_leak_tax(bottle: Bottle, training: Training, folder: Path, evaluation: Evaluation) -> LeakTax:
    """Trains once more, with the same settings and initial weights, on a random split, and compares.

    Everything happens in `leak_tax/` of the run folder, which holds no run: its weights are removed at the end. Killed
    and called again, it goes on after its last whole epoch.

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
    """A subset for every sample, stratified as the split is, whatever picset it is of; as many in validation."""
    valid = sum(split.subsets[sample.split_unit] == VALID for sample in samples)
    return split_by_person(samples, valid_people=valid, seed=seed)


def _compare(
    bottle: Bottle, training: Training, folder: Path, evaluation: Evaluation, subsets: Sequence[str]
) -> LeakTax:
    """Trains on the random split in a folder, and measures both."""
    names, seed, people = training.network.spec.labels, training.config.seed, training.data.people
    mixed = _mixed(bottle, training, subsets)
    fit_network(mixed, folder)
    shift = _shift(mixed)
    settings = EvaluationSettings(loss_shift=shift, seed=seed, memory_format=memory_format_of(mixed.network.module))
    other = evaluate(folder, mixed.network.spec, mixed.data.valid, settings)
    own_units = [unit for unit, subset in zip(people.units, subsets, strict=True) if subset == VALID]
    found = difference(
        _predictions(evaluation, [sample.split_unit for sample in evaluation.samples], _shift(training), seed),
        _predictions(other, own_units, shift, seed),
        seed=seed,
    )
    left_out = tuple(names[number] for number in found.left_out)
    return LeakTax(
        by_picset=found.first,
        random_split=found.second,
        difference={name: _less_number(found.second[name], found.first[name]) for name in MEASURES},
        intervals=found.intervals,
        level=LEVEL,
        units=found.units,
        labels=tuple(name for name in names if name not in left_out),
        left_out=left_out,
        validation_people_whose_picset_is_in_training=_known_share(people.samples, subsets),
    )


def _mixed(bottle: Bottle, training: Training, subsets: Sequence[str]) -> Training:
    """The same training on a random split."""
    config, data, network = replace(training.config, loggers=()), training.data, training.network
    # Everybody is a unit of their own.
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
    decisions: NDArray[np.bool_] = evaluation.probs >= np.asarray(evaluation.thresholds)
    return Predictions(
        evaluation.probs, decisions if cross_validated is None else cross_validated.decisions, evaluation.labels, units
    )


def _measured(file: Path) -> LeakTax | None:
    """What an interrupted run has measured already; None where it has not, or the file is damaged or of older code."""
    if not file.exists():
        return None
    try:
        found = read_record(file, LeakTax)
    except FileError as error:
        _log.warning("%s; it is measured again", error.line())
        return None
    return found if found.intervals is not None else None


def _known_share(samples: Sequence[Sample], subsets: Sequence[str]) -> float:
    trained = {sample.split_unit for sample, subset in zip(samples, subsets, strict=True) if subset == TRAIN}
    is_known = [
        sample.split_unit in trained for sample, subset in zip(samples, subsets, strict=True) if subset == VALID
    ]
    return float(np.mean(is_known)) if is_known else 0.0
