"""A split that looks at nobody's picset: what the leak tax compares with, never what a run is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cls.dataset.samples import Sample, labels_of
from cls.dataset.split.assign import TRAIN, VALID, split_samples


def split_alone(samples: Sequence[Sample], *, valid_people: int, seed: int) -> list[str]:
    """Divides people as `split_samples` does, by the same stratification, but each person for themselves.

    Args:
        samples: what is to be divided.
        valid_people: how many are wanted in validation; exactly so many are.
        seed: another seed gives another split.

    Returns:
        `train` or `valid` for every sample.

    Raises:
        TrainingError: there are fewer than two samples.
    """
    alone = [replace(sample, joined=f"person:{sample.path}:{sample.number}") for sample in samples]
    split = split_samples(alone, valid_share=valid_people / len(alone), seed=seed)
    is_valid = np.array([split.sides[sample.unit] == VALID for sample in alone])
    _even_out(_columns(samples), is_valid, valid_people)
    return [VALID if is_held else TRAIN for is_held in is_valid.tolist()]


def _columns(samples: Sequence[Sample]) -> NDArray[np.float64]:
    """Labels of each person, and trash as one more, (samples, labels + 1)."""
    labels = labels_of(samples).astype(np.float64)
    return np.hstack([np.nan_to_num(labels), (labels == 0).all(axis=1, keepdims=True)])


def _even_out(columns: NDArray[np.float64], is_valid: NDArray[np.bool_], valid_people: int) -> None:
    """Moves the people whose labels their side has most too many of, until the sizes are right; changes `is_valid`.

    Stratification deals every label its share, and can be a few people off the share of all of them.
    """
    totals = columns.sum(axis=0)
    while (extra := int(is_valid.sum()) - valid_people) != 0:
        giving = is_valid if extra > 0 else ~is_valid
        share = (valid_people if extra > 0 else len(columns) - valid_people) / len(columns)
        here = columns[giving].sum(axis=0)
        surplus = (here - share * totals) / np.maximum(totals, 1)
        # The side keeps somebody of every label it has.
        surplus[here <= 1] = -len(columns)
        people = np.flatnonzero(giving)
        chosen = people[int(np.argmax(columns[people] @ surplus))]
        is_valid[chosen] = not is_valid[chosen]
