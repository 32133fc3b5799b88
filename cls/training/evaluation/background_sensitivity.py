"""Does the classifier look at the person? The same people on other backgrounds, and how often the answer changes."""

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
from cls.metrics.multilabel import probabilities_of
from cls.people.preprocess import Preprocessing
from cls.training.evaluation.calibration import logits_of
from cls.training.network.build import NetworkSpec
from cls.training.runs.metrics import BackgroundSensitivity, Flips


@dataclass(frozen=True)
class BackgroundTrial:
    """Which people are put before which backgrounds.

    Attributes:
        backgrounds: what people are put before; not from validation.
        people: how many of them at most.
        per_person: backgrounds for each at most.
        seed: who, and before what.
        units: of each validation person, what stays together in a split; everybody alone when not given.
    """

    backgrounds: Backgrounds
    people: int
    per_person: int
    seed: int = 0
    units: Sequence[str] = ()


def people_tried(epochs: int, train_people: int, per_person: int) -> int:
    """The default number of people to put before other backgrounds: 8 to 64.

    Trying them costs a few percent of the training's time: a tenth as many pictures as it has seen, and a picture
    costs a third when nothing is learned from it.
    """
    return min(max(epochs * train_people // (10 * 2 * (per_person + 1)), 8), 64)


def measure_backgrounds(
    network: nn.Module, spec: NetworkSpec, thresholds: Sequence[float], cutouts: Cutouts, trial: BackgroundTrial
) -> BackgroundSensitivity | None:
    """Puts people of validation before other backgrounds and counts the decisions that flip.

    What a decision is compared with is made in the same way, on the flat colour that inference puts around people: so
    nothing but the background differs. The mask stays the person's own; that a segmentation model might outline the
    person otherwise before another background is not in this number.

    Args:
        network: evaluation mode, CPU.
        spec: of the network.
        thresholds: one a label.
        cutouts: of the validation people.
        trial: before what, and how many.

    Returns:
        None without people or backgrounds.
    """
    backgrounds, units, seed = trial.backgrounds, trial.units, trial.seed
    preprocessing, names = spec.preprocessing, spec.labels
    rng = np.random.default_rng([seed, 4])
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
    own = [units[index] for index in chosen.tolist()] if units else [str(index) for index in chosen.tolist()]
    served, left_in = (_flips(probs[:, :, way], names, thresholds, own, seed) for way in (0, 1))
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
    """A person in another place, cut out by its mask as `Preprocessing.fit` does."""
    if preprocessing.is_background_kept:
        return placed
    size = (preprocessing.width_px, preprocessing.height_px)
    mask = np.asarray(cv2.resize(rgb_and_mask, size, interpolation=cv2.INTER_AREA), np.uint8)[..., 3]
    flat = np.empty_like(placed)
    flat[:] = preprocessing.fill_rgb
    return blend(np.dstack([placed, mask]), flat)


def _flips(
    probs: NDArray[np.float64], names: Sequence[str], thresholds: Sequence[float], units: Sequence[str], seed: int
) -> Flips:
    """Of probabilities (people, 1 + backgrounds, labels), the first of each person being on the flat colour."""
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


def _interval(shares: NDArray[np.float64], units: Sequence[str], seed: int) -> tuple[float, float] | None:
    """Of the mean of people's shares, (people,); None where there are fewer than two units."""
    _, unit_of = np.unique(np.asarray(units, np.str_), return_inverse=True)
    count = int(unit_of.max()) + 1
    if count < 2:
        return None
    if shares.min() == shares.max() and shares[0] in (0, 1):
        return clopper_pearson(count * int(shares[0]), count)
    times = draw_units(count, RESAMPLES, seed=seed).astype(np.float64)
    sums, people = np.bincount(unit_of, shares), np.bincount(unit_of)
    return interval_of((times @ sums) / (times @ people))
