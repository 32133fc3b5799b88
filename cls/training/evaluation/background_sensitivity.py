"""Background sensitivity: how often decisions change when the same people are put on other backgrounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import nn

from cls.dataset.backgrounds import Backgrounds, blend, put_on_background
from cls.dataset.cutouts import Cutouts
from cls.metrics.bootstrap import RESAMPLES, clopper_pearson, draw_units, interval_of, interval_of_mean, widened
from cls.metrics.multilabel import FloatArray, probabilities_of
from cls.people.preprocess import Preprocessing
from cls.training.evaluation.calibration import logits_of
from cls.training.network.build import NetworkSpec
from cls.training.runs.metrics import BackgroundSensitivity, Flips


@dataclass(frozen=True)
class BackgroundTrial:
    """Settings of the background test.

    Attributes:
        backgrounds: not from validation.
        people: how many at most.
        per_person: backgrounds for each at most.
        seed: of the choice of people and backgrounds.
        units: the split unit of each validation person; each person is a unit when not given.
    """

    backgrounds: Backgrounds
    people: int
    per_person: int
    seed: int = 0
    units: Sequence[str] = ()


def people_tried(epochs: int, train_people: int, per_person: int) -> int:
    """The default number of people to put on other backgrounds: 8 to 64.

    That costs a few percent of the training's time: at most a tenth as many pictures, and without a backward pass each
    costs a third.
    """
    return min(max(epochs * train_people // (10 * 2 * (per_person + 1)), 8), 64)


def measure_backgrounds(
    network: nn.Module, spec: NetworkSpec, thresholds: Sequence[float], cutouts: Cutouts, trial: BackgroundTrial
) -> BackgroundSensitivity | None:
    """Puts people of validation on other backgrounds and counts the decisions that flip; None without either.

    Each decision is compared with that on the flat colour that inference puts around people. The mask is always the
    person's own: that a segmentation model might outline the person differently is not measured.

    Args:
        network: evaluation mode, CPU.
        spec: of the network.
        thresholds: one a label.
        cutouts: of the validation people.
        trial: the settings.
    """
    backgrounds, preprocessing, names = trial.backgrounds, spec.preprocessing, spec.labels
    rng = np.random.default_rng([trial.seed, 4])
    chosen = np.sort(rng.permutation(len(cutouts))[: trial.people])
    per_person = min(trial.per_person, len(backgrounds))
    if not len(chosen) or not per_person:
        return None
    places = [rng.permutation(len(backgrounds))[:per_person] for _ in chosen]

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for index, numbers in zip(chosen, places, strict=True):
            rgb_and_mask = cutouts.rgb_and_mask(int(index))
            flat = np.empty(cutouts.format.input_shape, np.uint8)
            flat[:] = preprocessing.fill_rgb
            for background in (flat, *(backgrounds.picture(int(number)) for number in numbers)):
                placed = put_on_background(rgb_and_mask, background, preprocessing)
                yield _as_served(placed, rgb_and_mask, preprocessing)
                yield placed

    probs = probabilities_of(logits_of(network, preprocessing, pictures()))
    # (people, 1 + backgrounds, served or left in, labels)
    probs = probs.reshape(len(chosen), 1 + per_person, 2, len(names))
    units = [trial.units[index] if trial.units else str(index) for index in chosen.tolist()]
    served, left_in = (_flips(probs[:, :, way], names, thresholds, units, trial.seed) for way in (0, 1))
    return BackgroundSensitivity(
        people=len(chosen),
        backgrounds=per_person,
        origin=backgrounds.origin,
        as_served=served,
        background_left_in=left_in,
    )


def _as_served(
    placed: NDArray[np.uint8], rgb_and_mask: NDArray[np.uint8], preprocessing: Preprocessing
) -> NDArray[np.uint8]:
    """A person on another background, cut out by its mask as `Preprocessing.fit` does."""
    if preprocessing.is_background_kept:
        return placed
    size = (preprocessing.width_px, preprocessing.height_px)
    mask = np.asarray(cv2.resize(rgb_and_mask, size, interpolation=cv2.INTER_AREA), np.uint8)[..., 3]
    flat = np.empty_like(placed)
    flat[:] = preprocessing.fill_rgb
    return blend(np.dstack([placed, mask]), flat)


def _flips(
    probs: FloatArray, names: Sequence[str], thresholds: Sequence[float], units: Sequence[str], seed: int
) -> Flips:
    """Flips of probabilities (people, 1 + backgrounds, labels), of which the first are on the flat colour."""
    decisions = probs >= np.asarray(thresholds)
    is_flipped = decisions[:, 1:] != decisions[:, :1]
    changed = is_flipped.any(axis=(1, 2)).astype(np.float64)
    return Flips(
        share=float(is_flipped.mean()),
        people=float(changed.mean()),
        labels=dict(zip(names, is_flipped.mean(axis=(0, 1)).tolist(), strict=True)),
        probability=float(np.abs(probs[:, 1:] - probs[:, :1]).mean()),
        interval=_interval(is_flipped.mean(axis=(1, 2)), units, seed),
        people_interval=widened(_interval(changed, units, seed), interval_of_mean(float(changed.mean()), len(changed))),
    )


def _interval(shares: FloatArray, units: Sequence[str], seed: int) -> tuple[float, float] | None:
    """The interval of the mean of people's shares, (people,); None with fewer than two units."""
    _, unit_of = np.unique(np.asarray(units, np.str_), return_inverse=True)
    count = int(unit_of.max()) + 1
    if count < 2:
        return None
    if shares.min() == shares.max() and shares[0] in (0, 1):
        return clopper_pearson(count * int(shares[0]), count)
    weights = draw_units(count, RESAMPLES, seed=seed).astype(np.float64)
    sums, people = np.bincount(unit_of, shares), np.bincount(unit_of)
    return interval_of((weights @ sums) / (weights @ people))
