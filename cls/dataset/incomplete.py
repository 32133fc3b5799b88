"""Incomplete labels: what a picture does not carry is unknown, unless the picture is trash."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from cls.bottle.dataset_file import GroupDataset, LabelledRow
from cls.errors import TrainingError


def with_incomplete(dataset: GroupDataset, names: Sequence[str], *, where: object = None) -> GroupDataset:
    """A dataset in which pictures that do not carry an incomplete label are unknown for it.

    A picture all of whose labels are absent is trash: somebody looked at it and saw none of them. It stays as it is.

    Args:
        dataset: the labelled pictures.
        names: the labels that annotators did not give to every picture they fit; none named: all labels.
        where: the dataset's file, for messages.

    Raises:
        TrainingError: the group has no label of such a name.
    """
    strange = [name for name in names if name not in dataset.labels]
    if strange:
        raise TrainingError(
            f"--incomplete: group '{dataset.group}' has no label {', '.join(repr(name) for name in strange)}",
            code="unknown_label",
            where=where,
            hint=f"its labels: {', '.join(dataset.labels)}",
        )
    chosen = frozenset(names or dataset.labels)
    is_chosen = [label in chosen for label in dataset.labels]
    return replace(dataset, rows=tuple(_opened(row, is_chosen) for row in dataset.rows))


def _opened(row: LabelledRow, is_chosen: Sequence[bool]) -> LabelledRow:
    if all(value == 0 for value in row.labels):
        return row
    labels = [math.nan if chosen and value == 0 else value for value, chosen in zip(row.labels, is_chosen, strict=True)]
    return replace(row, labels=tuple(labels))
