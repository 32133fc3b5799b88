"""Classifiers that answer from a table: what a comparison finds can be calculated by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cls.exporting.parity.samples import Reference
from cls.people.preprocess import Preprocessing
from cls.runtimes.classifier import Classifier

# A cut-out is one pixel, and its level says who it is: normalised, it still does.
PIXEL = Preprocessing(1, 1, mean_rgb=(0.0, 0.0, 0.0), std_rgb=(1 / 255, 1 / 255, 1 / 255))
NAMES = ("hat", "cap")


class Table:
    """Answers by person; at some batch sizes, others."""

    description = "a table"

    def __init__(self, probs: NDArray[np.float64], at_batch: Mapping[int, NDArray[np.float64]] | None = None) -> None:
        self.probs, self.at_batch = probs, at_batch or {}
        self.asked: list[list[int]] = []

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        people = np.rint(images.reshape(len(images), -1)[:, 0]).astype(int)
        self.asked.append(people.tolist())
        probs = self.at_batch.get(len(images), self.probs)[people % len(self.probs)]
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(probs / (1 - probs)), np.float32)


def classifier(
    table: Table,
    *,
    names: Sequence[str] = NAMES,
    thresholds: Sequence[float] | None = None,
    group: str = "headwear",
    name: str = "v__0",
) -> Classifier:
    return Classifier(
        group=group,
        name=name,
        labels=tuple(names),
        thresholds=tuple(thresholds or [0.5] * len(names)),
        preprocessing=PIXEL,
        runtime=table,
        source="table",
    )


def reference(
    probs: NDArray[np.float64], truth: NDArray[np.float64] | None = None, names: Sequence[str] = NAMES
) -> Reference:
    """People of whom the trained network says these probabilities; nobody said anything where no truth is given."""
    people = len(probs)
    crops = np.repeat(np.arange(people, dtype=np.uint8), 3).reshape(people, 1, 1, 3)
    trained = classifier(Table(probs), names=names)
    known = np.full(probs.shape, np.nan) if truth is None else truth
    pictures = tuple(f"{number}.jpeg" for number in range(people))
    return Reference(trained, pictures, crops, np.asarray(probs, np.float32), known)
