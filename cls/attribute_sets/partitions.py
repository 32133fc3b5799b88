"""The five random partitions that PETA and RAPv2 are published with."""

from __future__ import annotations

from collections.abc import Mapping

from cls.attribute_sets.matlab import MatlabValue
from cls.errors import AttributeSetError, UsageError


def partition_of(partitions: MatlabValue, number: int) -> MatlabValue:
    """One of a cell array of partitions.

    Args:
        partitions: the cell array.
        number: which one, from 1.

    Raises:
        UsageError: there is no such partition.
        AttributeSetError: it is no cell array.
    """
    cells = partitions.cells()
    if not 1 <= number <= len(cells):
        raise UsageError(
            f"--partition: expected a number from 1 to {len(cells)}, found {number}", hint="the published one is 1"
        )
    return cells[number - 1]


def sides_of_partition(partition: MatlabValue, fields: Mapping[str, str], count: int) -> dict[int, str]:
    """Picture number (from 0) -> side.

    Args:
        partition: a structure of three vectors of picture numbers (from 1).
        fields: side -> name of its vector.
        count: how many pictures there are.

    Raises:
        AttributeSetError: a vector is missing or points outside, or a picture stands in two of them.
    """
    sides: dict[int, str] = {}
    for side, name in fields.items():
        vector = partition.field(name)
        for index in vector.indices(count):
            if sides.setdefault(index, side) != side:
                raise AttributeSetError(f"picture {index + 1} is in '{sides[index]}' too", where=vector.where)
    return sides
