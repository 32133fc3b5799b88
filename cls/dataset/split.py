"""Splits into training and validation parts that cannot share a picset, stratified over labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cls.dataset.samples import Sample, labels_of
from cls.errors import TrainingError

TRAIN, VALID = "train", "valid"
_SIDES = (TRAIN, VALID)


@dataclass(frozen=True)
class Split:
    """Which unit (picset) is on which side.

    Attributes:
        sides: unit -> `train` or `valid`; units are `Sample.unit`.
    """

    sides: Mapping[str, str] = field(default_factory=dict)

    def part(self, samples: Iterable[Sample], side: str) -> list[Sample]:
        """The samples of one side, in their order."""
        return [sample for sample in samples if self.sides.get(sample.unit) == side]


def split_samples(
    samples: Sequence[Sample], *, valid_share: float, seed: int, known: Mapping[str, str] | None = None
) -> Split:
    """Divides samples by picset into a training and a validation part.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas, ECML PKDD 2011) over whole picsets: the rarest label's
    picsets are dealt first, each to the side that still lacks most of it. "None of the labels" counts as a label.
    The result depends on the seed and the samples, not on their order. Units of an earlier split stay where they were.

    Args:
        samples: what is to be divided.
        valid_share: share of samples wanted in validation, 0 < share < 1.
        seed: another seed gives another split.
        known: sides of an earlier split.

    Returns:
        A split in which both sides have samples, and every label with two picsets or more is on both sides (where
        the earlier split allows it).

    Raises:
        TrainingError: there are fewer than two units.
    """
    units = sorted({sample.unit for sample in samples}, key=lambda unit: _rank(seed, unit))
    if len(units) < 2:
        raise TrainingError(
            f"all {len(samples)} samples are of one picset: no part of them can be held out for validation",
            hint="load more picsets, or train on everything with --mode all",
        )
    counts = _counts_by_unit(samples, units)
    sides = np.full(len(units), -1)
    for index, unit in enumerate(units):
        if known is not None and known.get(unit) in _SIDES:
            sides[index] = _SIDES.index(known[unit])
    # What each side should get of each label, less what it has: (2, labels + trash + all).
    wanted = np.outer([1 - valid_share, valid_share], counts.sum(axis=0))
    for side in (0, 1):
        wanted[side] -= counts[sides == side].sum(axis=0)
    is_new = sides < 0
    _deal(counts, sides, wanted)
    _repair(counts, sides, is_new)
    return Split({unit: _SIDES[side] for unit, side in sorted(zip(units, sides.tolist(), strict=True))})


def _rank(seed: int, unit: str) -> bytes:
    """A fixed random-looking order of units, so that names and file order have no influence."""
    return hashlib.sha256(f"{seed}\n{unit}".encode()).digest()


def _counts_by_unit(samples: Sequence[Sample], units: Sequence[str]) -> NDArray[np.float64]:
    """(units, labels + 2): positives of each label, samples without any, all samples."""
    labels = np.nan_to_num(labels_of(samples)).astype(np.float64)
    is_trash = (labels.sum(axis=1, keepdims=True) == 0).astype(np.float64)
    rows = np.hstack([labels, is_trash, np.ones((len(samples), 1))])
    place = {unit: index for index, unit in enumerate(units)}
    counts = np.zeros((len(units), rows.shape[1]))
    np.add.at(counts, [place[sample.unit] for sample in samples], rows)
    return counts


def _deal(counts: NDArray[np.float64], sides: NDArray[np.int_], wanted: NDArray[np.float64]) -> None:
    """Gives every unit without a side (-1) one; changes `sides` and `wanted`."""
    while (open_units := np.flatnonzero(sides < 0)).size:
        left = (counts[open_units] > 0).sum(axis=0)
        # The last column, all samples, is met by every unit: it is used when no label is left to deal.
        label = int(np.argmin(np.where(left[:-1] > 0, left[:-1], np.inf))) if left[:-1].any() else counts.shape[1] - 1
        having = open_units[counts[open_units, label] > 0]
        # Big picsets first: small ones then fill the gaps.
        unit = int(having[np.argmax(counts[having, label])])
        by_need = np.lexsort((wanted[:, -1], wanted[:, label]))
        side = int(by_need[-1])
        sides[unit] = side
        wanted[side] -= counts[unit]


def _repair(counts: NDArray[np.float64], sides: NDArray[np.int_], is_new: NDArray[np.bool_]) -> None:
    """Moves units so that neither side is empty or lacks a label that two units have; changes `sides`."""
    columns = sorted(range(counts.shape[1]), key=lambda column: (counts[:, column] > 0).sum(), reverse=True)
    for column in columns:
        having = np.flatnonzero(counts[:, column] > 0)
        for side in (1, 0):
            if len(having) < 2 or (sides[having] == side).any():
                continue
            movable = [unit for unit in having if is_new[unit] and _may_leave(counts, sides, int(unit))]
            if movable:
                sides[min(movable, key=lambda unit: counts[unit, -1])] = side


def _may_leave(counts: NDArray[np.float64], sides: NDArray[np.int_], unit: int) -> bool:
    """Whether a unit's side keeps at least one other unit of everything the unit has."""
    others = (sides == sides[unit]) & (np.arange(len(sides)) != unit)
    has = counts[unit] > 0
    shared = (counts > 0).sum(axis=0) >= 2
    return bool((counts[others] > 0).any(axis=0)[has & shared].all())


def check_split(train: Sequence[Sample], valid: Sequence[Sample], *, where: object = None) -> None:
    """Refuses a split that leaks.

    Args:
        train: samples that will be trained on.
        valid: samples that the result will be measured on.
        where: the file the split was read from.

    Raises:
        TrainingError: a picset or a picture stands on both sides; names some of them.
    """
    both = sorted({sample.unit for sample in train} & {sample.unit for sample in valid})
    both += sorted({f"picture:{s.path}" for s in train} & {f"picture:{s.path}" for s in valid})
    if both:
        shown = ", ".join(both[:3]) + (f" and {len(both) - 3} more" if len(both) > 3 else "")
        raise TrainingError(
            f"the split leaks: {shown} in training and in validation",
            where=where,
            hint="remove the file and train again: a new split is made",
        )
