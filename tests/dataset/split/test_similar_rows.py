"""The most similar rows are found, by everyone with everyone and, among many, by neighbourhoods."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cls.dataset.split import near_duplicates
from cls.dataset.split.near_duplicates import Features, Neighbourhoods, SimilarPairs

_FEATURES = 6


def features_of(rng: np.random.Generator, shape: tuple[int, ...]) -> Features:
    both = rng.normal(size=(*shape, 2 * _FEATURES)).astype(np.float32)
    return parts(both)


def parts(both: NDArray[np.float32]) -> Features:
    both = both / np.linalg.norm(both, axis=-1, keepdims=True)
    return np.ascontiguousarray(both[..., :_FEATURES]), np.ascontiguousarray(both[..., _FEATURES:])


def rows_of(found: SimilarPairs) -> list[tuple[int, int, int, bool, float]]:
    columns = (found.left, found.right, found.variant, found.is_mirrored, found.similarity)
    return sorted(zip(*(one.tolist() for one in columns), strict=True))


def expected_rows(
    features: Features, variants: Features, start: int, numbers: NDArray[np.int64], least: float, most: int
) -> list[tuple[int, int, int, bool, float]]:
    """Pair by pair."""
    rows: list[tuple[int, int, int, bool, float]] = []
    for place in range(variants[0].shape[1]):
        left, found = start + place, []
        for right in range(left + 1, len(numbers)):
            if numbers[left] == numbers[right]:
                continue
            even, odd = (part[:, place] @ mine[right] for part, mine in zip(variants, features, strict=True))
            variant = int((even + np.abs(odd)).argmax())
            similarity = float(even[variant] + abs(odd[variant]))
            if similarity >= least:
                found.append((left, right, variant, bool(odd[variant] < 0), similarity))
        rows += sorted(found, key=lambda one: -one[4])[:most]
    return sorted(rows)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 30),
    units=st.integers(1, 30),
    frames=st.integers(1, 4),
    least=st.sampled_from([0.0, 0.3, 0.8]),
    most=st.integers(1, 8),
    products=st.sampled_from([1, 50, 1 << 20]),
)
def test_everyone_is_compared_with_everyone(
    seed: int, count: int, units: int, frames: int, least: float, most: int, products: int
) -> None:
    rng = np.random.default_rng(seed)
    features, numbers = features_of(rng, (count,)), rng.integers(0, units, count)
    everyone = Neighbourhoods(features, numbers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "_PRODUCTS", products)
        for start in range(0, count, 10):
            variants = features_of(rng, (frames, min(10, count - start)))
            found = rows_of(everyone.most_similar(start, variants, least=least, most=most))
            expected = expected_rows(features, variants, start, numbers, max(least, 1e-6), most)
            assert [one[:4] for one in found] == [one[:4] for one in expected]
            np.testing.assert_allclose([one[4] for one in found], [one[4] for one in expected], atol=1e-5)


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Features:
    """2,000 rows: the last 500 are like the first, every second of them mirrored."""
    monkeypatch.setattr(near_duplicates, "COMPARED_WITH_ALL", 100)
    monkeypatch.setattr(near_duplicates, "_SIZE", 20)
    rng = np.random.default_rng(3)
    even, odd = features_of(rng, (1500,))
    both = np.concatenate([even, odd * np.where(np.arange(1500) % 2, -1, 1).astype(np.float32)[:, None]], axis=1)[:500]
    others = parts(np.asarray(both + rng.normal(0, 0.02, both.shape), np.float32))
    return np.concatenate([even, others[0]]), np.concatenate([odd, others[1]])


def test_among_many_the_similar_are_found_in_their_neighbourhoods(crowd: Features) -> None:
    numbers = np.arange(2000)
    everyone = Neighbourhoods(crowd, numbers)
    found = everyone.most_similar(0, (crowd[0][None, :500], crowd[1][None, :500]), least=0.9, most=3)
    pairs = {(left, right): mirrored for left, right, _, mirrored, _ in rows_of(found)}
    twins = [(row, row + 1500) for row in range(500)]
    assert sum(twin in pairs for twin in twins) >= 495
    assert all(pairs[twin] == (twin[0] % 2 == 1) for twin in twins if twin in pairs)
    assert all(left < right for left, right in pairs)
    products = [(crowd[0][left] @ crowd[0][right] + abs(crowd[1][left] @ crowd[1][right])) for left, right in pairs]
    np.testing.assert_allclose(sorted(found.similarity), sorted(products), atol=1e-5)
    alone = Neighbourhoods(crowd, numbers % 1500)
    found = alone.most_similar(0, (crowd[0][None, :500], crowd[1][None, :500]), least=0.9, most=3)
    assert not set(twins) & set(zip(found.left.tolist(), found.right.tolist(), strict=True))


def test_every_row_is_in_one_neighbourhood_and_a_row_visits_eight(crowd: Features) -> None:
    everyone = Neighbourhoods(crowd, np.arange(2000))
    members = everyone._members
    assert len(members) == 100
    assert sorted(np.concatenate(members).tolist()) == list(range(2000))
    assert all((np.diff(one) > 0).all() for one in members)
    assert max(map(len, members)) < 120
    visits = everyone._visits((crowd[0][None], crowd[1][None]))
    assert (visits.shape, set(visits.sum(axis=1).tolist())) == ((2000, 100), {8})
    # Mirroring leads nowhere else.
    np.testing.assert_array_equal(everyone._visits((crowd[0][None], -crowd[1][None])), visits)
    homes = {row: number for number, rows in enumerate(members) for row in rows.tolist()}
    assert all(visits[row, homes[row]] for row in range(2000))


def test_rows_without_features_are_like_nobody() -> None:
    nothing = np.zeros((5, _FEATURES), np.float32)
    found = Neighbourhoods((nothing, nothing), np.arange(5)).most_similar(
        0, (nothing[None], nothing[None]), least=0.0, most=3
    )
    assert rows_of(found) == []


def test_neighbourhoods_are_the_same_whoever_is_mirrored(crowd: Features) -> None:
    even, odd = crowd
    signs = np.random.default_rng(5).choice(np.array([-1, 1], np.float32), len(odd))
    plain, mirrored = (Neighbourhoods((even, part), np.arange(2000)) for part in (odd, odd * signs[:, None]))
    same = sum(len(np.intersect1d(one, other)) for one, other in zip(plain._members, mirrored._members, strict=True))
    assert same > 1990
    # Rows are at home in the middle of their neighbourhood: more like its centre than like the row it began with.
    homes = np.concatenate([np.full(len(rows), number) for number, rows in enumerate(plain._members)])
    rows = np.concatenate(plain._members)
    first = np.linspace(0, 1999, 100).astype(np.int64)
    likeness = []
    for centres in (plain._centres, (even[first], odd[first])):
        parts_of = [(part[rows] * centre[homes]).sum(axis=1) for part, centre in zip(crowd, centres, strict=True)]
        likeness.append(float((parts_of[0] + np.abs(parts_of[1])).mean()))
    assert likeness[0] > likeness[1] + 0.04
