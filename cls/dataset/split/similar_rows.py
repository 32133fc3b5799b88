"""Which rows of features are similar to which, among many thousands: matrix products, by neighbourhoods. Arrays.

A row's features come in two parts, of which mirroring turns the sign of the second. Two rows are as similar as the
product of their first parts and the size of the product of their second parts say, mirrored or not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
# Even and odd part, float32 (..., rows, features) each, of norm 1 together.
Features = tuple[Floats, Floats]

# Up to so many rows, each is compared with each; among more, with the rows of some neighbourhoods of about this size.
COMPARED_WITH_ALL, _SIZE, _MOST_NEIGHBOURHOODS = 4096, 256, 2048
# So many neighbourhoods are looked at for a row; so often they are placed anew, in the middle of their rows.
_VISITED, _ROUNDS = 8, 3
# So many products are made at once.
_PRODUCTS = 1 << 20


class Similar(NamedTuple):
    """Pairs of rows, arrays of one length.

    Attributes:
        left: the smaller row numbers, int64.
        right: the larger ones, int64.
        similarity: float32, up to 1.
        variant: in which variant the left row is the most similar, int64.
        is_mirrored: bool.
    """

    left: Rows
    right: Rows
    similarity: Floats
    variant: Rows
    is_mirrored: NDArray[np.bool_]


class Neighbourhoods:
    """Rows of features, sorted into neighbourhoods of similar ones.

    Up to 4,096 rows are one neighbourhood. Among more a row is compared with those of eight neighbourhoods alone: the
    time a row takes grows little with their number.
    """

    def __init__(self, features: Features, numbers: Rows) -> None:
        """Sorts them.

        Args:
            features: of every row, float32 (rows, features) each.
            numbers: int64 (rows,); rows of one number are not compared.
        """
        self._features, self._numbers = features, numbers
        count = len(numbers)
        self._centres, self._members = features, [np.arange(count)]
        if count > COMPARED_WITH_ALL:
            self._sort(np.linspace(0, count - 1, min(count // _SIZE, _MOST_NEIGHBOURHOODS)).astype(np.int64))

    def _sort(self, first: Rows) -> None:
        even, odd = self._features
        self._centres = (even[first], odd[first])
        for left in reversed(range(_ROUNDS)):
            nearest, signs = self._nearest()
            if left:
                sums = [np.zeros_like(one) for one in self._centres]
                np.add.at(sums[0], nearest, even)
                np.add.at(sums[1], nearest, odd * signs[:, None])
                norms = np.maximum(np.sqrt((sums[0] ** 2).sum(axis=1) + (sums[1] ** 2).sum(axis=1)), 1e-6)
                self._centres = (sums[0] / norms[:, None], sums[1] / norms[:, None])
        order = np.argsort(nearest, kind="stable")
        self._members = np.split(order, np.searchsorted(nearest[order], np.arange(1, len(first))))

    def _nearest(self) -> tuple[Rows, Floats]:
        """The most similar centre of every row, and the sign of its odd part there."""
        even, odd = self._features
        nearest, signs = np.empty(len(even), np.int64), np.empty(len(even), np.float32)
        step = max(_PRODUCTS // len(self._centres[0]), 1)
        for start in range(0, len(even), step):
            rows = slice(start, start + step)
            products = odd[rows] @ self._centres[1].T
            nearest[rows] = (even[rows] @ self._centres[0].T + np.abs(products)).argmax(axis=1)
            signs[rows] = np.where(products[np.arange(len(products)), nearest[rows]] < 0, -1, 1)
        return nearest, signs

    def most_similar(self, start: int, variants: Features, *, least: float, most: int) -> Similar:
        """The most similar of the rows after each of some rows, of other numbers.

        Args:
            start: which row is the first of them.
            variants: of these rows, float32 (variants, rows, features) each.
            least: lowest similarity of a pair.
            most: how many are found for a row.
        """
        count = variants[0].shape[1]
        best = np.zeros((count, most), np.float32)
        where = np.zeros((3, count, most), np.int64)
        visits = self._visits(variants)
        for members, is_visitor in zip(self._members, visits.T, strict=True):
            columns = members[np.searchsorted(members, start, side="right") :]
            visitors = np.flatnonzero(is_visitor)
            step = max(_PRODUCTS // max(len(variants[0]) * len(columns), 1), 1)
            for first in range(0, len(visitors) if len(columns) else 0, step):
                some = visitors[first : first + step]
                self._compare(variants, start, some, columns, best, where)
        left, place = np.nonzero(best >= max(least, 1e-6))
        right, variant, is_mirrored = where[:, left, place]
        return Similar(start + left, right, best[left, place], variant, is_mirrored > 0)

    def _visits(self, variants: Features) -> NDArray[np.bool_]:
        """Which neighbourhoods are looked at for which rows: bool (rows, neighbourhoods)."""
        if len(self._members) == 1:
            return np.ones((variants[0].shape[1], 1), np.bool_)
        highest = np.full((variants[0].shape[1], len(self._members)), -1, np.float32)
        for even, odd in zip(*variants, strict=True):
            np.maximum(highest, even @ self._centres[0].T + np.abs(odd @ self._centres[1].T), out=highest)
        border = np.partition(highest, -_VISITED, axis=1)[:, -_VISITED, None]
        return np.asarray(highest >= border)

    def _compare(self, variants: Features, start: int, some: Rows, columns: Rows, best: Floats, where: Rows) -> None:
        """Enters the most similar of some rows and columns into what was found before."""
        even, odd = (
            (part[:, some].reshape(-1, part.shape[2]) @ mine[columns].T).reshape(-1, len(some), len(columns))
            for part, mine in zip(variants, self._features, strict=True)
        )
        similarity = np.abs(odd)
        similarity += even
        highest = similarity.max(axis=0)
        rows = start + some
        highest[(columns <= rows[:, None]) | (self._numbers[columns] == self._numbers[rows][:, None])] = 0
        most = min(best.shape[1], len(columns))
        place = np.argpartition(highest, len(columns) - most, axis=1)[:, -most:]
        here = np.arange(len(some))[:, None]
        variant = similarity[:, here, place].argmax(axis=0)
        found = np.stack([columns[place], variant, odd[variant, here, place] < 0])
        values = np.concatenate([best[some], highest[here, place]], axis=1)
        wheres = np.concatenate([where[:, some], found], axis=2)
        kept = np.argpartition(values, most, axis=1)[:, most:]
        best[some], where[:, some] = values[here, kept], wheres[:, here, kept]
