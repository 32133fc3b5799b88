"""The leak tax: how much better the same training looks when people of one picset may stand on both sides.

A random split puts photos of one shoot into training and validation, and a network that recognises the shoot is taken
for one that knows the label. Jia et al. (Rethinking of Pedestrian Attribute Recognition, arXiv:2107.03576) found 12
points of mean accuracy that way on PETA.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cls.bottle.layout import Bottle
from cls.dataset.backgrounds import background_sources
from cls.dataset.samples import Sample
from cls.dataset.split import TRAIN, VALID, Split
from cls.errors import FileError
from cls.files import read_json, write_json_atomic
from cls.training.calibration import shift_of_loss
from cls.training.evaluate import Evaluation, evaluate
from cls.training.fitting import base_rates, fit_material
from cls.training.losses import loss_for
from cls.training.material import Material, start_network
from cls.training.metrics import Metrics

_log = logging.getLogger("cls.training")

FOLDER, RESULT = "leak_tax", "leak_tax.json"
_MEASURES = {"mAP": "ap", "F1": "f1", "mA": "ma"}


@dataclass(frozen=True)
class LeakTax:
    """One training measured twice.

    Attributes:
        by_picset: mAP, F1 and mA on the run's own split; None where a measure is not defined.
        random_split: the same on a random split of the same sizes.
        known_share: share of the random split's validation people whose picset is in its training part too.
    """

    by_picset: dict[str, float | None]
    random_split: dict[str, float | None]
    known_share: float

    @property
    def difference(self) -> dict[str, float | None]:
        """By how much the random split flatters."""
        pairs = {name: (self.random_split[name], self.by_picset[name]) for name in _MEASURES}
        return {name: None if a is None or b is None else a - b for name, (a, b) in pairs.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for metrics.json."""
        return {
            "by_picset": self.by_picset,
            "random_split": self.random_split,
            "difference": self.difference,
            "validation_people_whose_picset_is_in_training": self.known_share,
        }


def measure_leak_tax(bottle: Bottle, material: Material, folder: Path, evaluation: Evaluation) -> LeakTax:
    """Trains once more, with the same settings and first weights, on a random split, and compares.

    Everything happens in `leak_tax/` of the run folder, which holds no run: its weights are removed at the end. Killed
    and called again, it goes on after its last whole epoch.

    Args:
        bottle: the data folder.
        material: of the run.
        folder: the run folder.
        evaluation: of the run.

    Raises:
        KeyboardInterrupt: the user stopped it.
        TrainingError: the loss is not a number.
        FileError: something cannot be written.
    """
    inner = folder / FOLDER
    sides = random_sides(material.samples, material.split, seed=material.config.seed)
    found = _measured(inner / RESULT)
    if found is None:
        _log.info("leak tax: the same training on a random split")
        found = _measure_random(bottle, material, inner, sides)
        write_json_atomic(inner / RESULT, found)
        shutil.rmtree(inner / "checkpoints", ignore_errors=True)
        (inner / "predictions.csv").unlink(missing_ok=True)
    return LeakTax(_measures(evaluation.metrics), found, _known_share(material.samples, sides))


def random_sides(samples: Sequence[Sample], split: Split, *, seed: int) -> list[str]:
    """A side for every sample, drawn whatever picset it is of; as many in validation as the split has."""
    valid = sum(split.sides[sample.unit] == VALID for sample in samples)
    sides = [TRAIN] * len(samples)
    for index in np.random.default_rng([seed, 3]).permutation(len(samples))[:valid].tolist():
        sides[index] = VALID
    return sides


def _measure_random(bottle: Bottle, material: Material, folder: Path, sides: Sequence[str]) -> dict[str, float | None]:
    """Trains on the random split in a folder and measures."""
    config = replace(material.config, loggers=())
    # Everybody is a unit of their own.
    samples = [replace(sample, joined=f"person:{number}") for number, sample in enumerate(material.samples)]
    split = Split({sample.unit: side for sample, side in zip(samples, sides, strict=True)})
    network = start_network(
        config, material.timm_arch, material.source, samples, material.dataset, material.auxiliary
    )
    mixed = replace(material, config=config, samples=samples, split=split, network=network)
    train, cutouts = mixed.part(TRAIN)
    mixed = replace(mixed, backgrounds=background_sources(bottle, cutouts, mixed.preprocessing))
    fit_material(mixed, folder)
    valid, valid_cutouts = mixed.part(VALID)
    evaluation = evaluate(
        folder, mixed.timm_arch, mixed.preprocessing, mixed.dataset.labels, valid, valid_cutouts,
        earlier=(), loss_shift=shift_of_loss(loss_for(config, base_rates(train))), seed=config.seed,
    )  # fmt: skip
    return _measures(evaluation.metrics)


def _measured(file: Path) -> dict[str, float | None] | None:
    """What an interrupted run has measured already; None where it has not, or the file is damaged."""
    if not file.exists():
        return None
    try:
        found = read_json(file)
    except FileError as error:
        _log.warning("%s; it is measured anew", error.line())
        return None
    return (
        {name: found[name] for name in _MEASURES} if isinstance(found, dict) and set(found) >= set(_MEASURES) else None
    )


def _measures(metrics: Metrics | None) -> dict[str, float | None]:
    return {name: None if metrics is None else metrics.macro.get(key) for name, key in _MEASURES.items()}


def _known_share(samples: Sequence[Sample], sides: Sequence[str]) -> float:
    trained = {sample.unit for sample, side in zip(samples, sides, strict=True) if side == TRAIN}
    is_known = [sample.unit in trained for sample, side in zip(samples, sides, strict=True) if side == VALID]
    return float(np.mean(is_known)) if is_known else 0.0
