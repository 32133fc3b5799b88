"""The rules of the split one by one, on units small enough to deal by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cls.dataset.samples import Sample
from cls.dataset.split.assign import (
    TRAIN,
    VALID,
    Split,
    _assign_new,
    _counts_by_unit,
    _is_movable,
    _repair,
    check_split,
    split_samples,
)
from cls.errors import TrainingError
from cls.people.photos import Person

PERSON = Person("female", 0.9, (0, 0, 10, 10), ())
NAN = float("nan")


def sample(number: int, picset: str, labels: tuple[float, ...], joined: str = "") -> Sample:
    return Sample(f"{number}.jpeg", picset, PERSON, labels, joined=joined)


def test_what_is_counted_of_a_unit() -> None:
    """Positives of each label, absences of the one that is unknown for some, trash, all."""
    samples = [
        sample(0, "a", (1.0, 0.0, NAN)),
        sample(1, "a", (0.0, 0.0, 0.0)),  # none of the labels: trash
        sample(2, "b", (0.0, 1.0, 0.0)),
        sample(3, "b", (0.0, 0.0, NAN)),  # not known to be trash
        sample(4, "b", (1.0, 1.0, 1.0)),
        sample(5, "b", (0.0, 0.0, 0.0)),
        sample(6, "b", (0.0, 0.0, 0.0)),
    ]
    # labels 0, 1, 2; absences of label 2 (0 and 1 are known of everybody); trash; all
    expected = [[1, 2, 1, 3, 2, 5], [1, 0, 0, 1, 1, 2]]
    assert _counts_by_unit(samples, ["picset:b", "picset:a"]).tolist() == expected


def dealt(sizes: list[float]) -> list[int]:
    """The order in which units of one label are dealt."""
    order: list[int] = []

    class Noted(np.ndarray):  # type: ignore[type-arg]
        def __setitem__(self, unit: Any, side: Any) -> None:
            order.append(int(unit))
            super().__setitem__(unit, side)

    counts = np.array([[size, 0, size] for size in sizes], np.float64)
    _assign_new(counts, np.full(len(sizes), -1).view(Noted), np.outer([0.7, 0.3], counts.sum(axis=0)))
    return order


def test_the_largest_is_dealt_first_and_equal_ones_in_their_own_order() -> None:
    assert dealt([2.0, 5.0, 2.0, 9.0, 5.0]) == [3, 1, 4, 0, 2]


# Columns: two labels, trash, all. Units 0, 1, 2 in training, 3, 4 in validation.
COUNTS = np.array([[1, 0, 0, 2], [1, 1, 0, 3], [0, 0, 1, 1], [1, 0, 0, 1], [1, 0, 1, 4]], np.float64)
SIDES = np.array([0, 0, 0, 1, 1])


def may_leave(unit: int, counts: NDArray[np.float64] = COUNTS, sides: NDArray[np.int_] = SIDES) -> bool:
    return _is_movable(counts, sides, unit)


def test_who_may_leave_a_side() -> None:
    assert may_leave(0), "training keeps unit 1 with label 0"
    assert not may_leave(1), "nobody else has label 1"
    assert not may_leave(2), "the only trash of training"
    assert may_leave(3), "validation keeps unit 4 with label 0"
    assert not may_leave(4), "the only trash of validation, and training has some: two units have it"


def test_validation_may_lose_what_one_unit_alone_has() -> None:
    counts, sides = np.array([[1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 0, 1]], np.float64), np.array([0, 1, 1])
    assert may_leave(2, counts, sides), "label 1 can be on one side alone: it goes to training"
    assert not may_leave(2, counts, np.array([1, 0, 0])), "training may not lose it"
    assert may_leave(1, counts, sides)
    assert not may_leave(0, counts, sides), "the last one of training"


def repaired(counts: list[list[int]], sides: list[int], is_new: list[bool] | None = None) -> list[int]:
    found = np.array(sides)
    _repair(np.array(counts, np.float64), found, np.array(is_new or [True] * len(sides)))
    return found.tolist()


def test_the_smallest_unit_that_may_leave_gives_the_missing_label() -> None:
    # Label 0 stands in three units of training; the smallest by samples goes, not the first and not the last.
    counts = [[1, 0, 5], [1, 0, 2], [1, 0, 3], [0, 1, 9]]
    assert repaired(counts, [0, 0, 0, 1]) == [0, 1, 0, 1]
    assert repaired(counts, [1, 1, 1, 0]) == [1, 0, 1, 0]


def test_a_label_of_one_unit_moves_nobody() -> None:
    counts = [[1, 0, 2], [0, 0, 2], [0, 0, 2]]
    assert repaired(counts, [0, 0, 1]) == [0, 0, 1]


def test_units_of_an_earlier_split_stay() -> None:
    counts = [[1, 0, 1], [1, 0, 2], [0, 0, 1], [0, 0, 2]]
    assert repaired(counts, [0, 0, 1, 1], [False, True, True, True]) == [0, 1, 1, 1]
    assert repaired(counts, [0, 0, 1, 1], [False, False, True, True]) == [0, 0, 1, 1]


def test_an_empty_side_takes_somebody_whatever_is_lost() -> None:
    counts = [[1, 0, 3], [0, 1, 2]]
    assert repaired(counts, [0, 0]) == [0, 1], "the smaller one"
    assert repaired(counts, [1, 1]) == [1, 0]


def test_trash_is_stratified_too() -> None:
    """Somebody is trash who has none of the labels, not whoever lacks one of them."""
    samples = [sample(n, f"s{n}", (float(n < 20), 0.0)) for n in range(40)]
    split = split_samples(samples, valid_share=0.25, seed=3)
    trash = {split.subsets[s.split_unit] for s in samples if s.labels == (0.0, 0.0)}
    assert trash == {TRAIN, VALID}
    valid = split.select(samples, VALID)
    assert (len(valid), sum(s.labels[0] for s in valid)) == (10, 5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 100))
def test_what_an_earlier_split_has_is_taken_off_what_is_wanted(seed: int) -> None:
    """Validation had nearly all of its share: of the new ones it gets only what it lacks, not a share of its own."""
    old = [sample(n, f"old-{n}", (1.0,)) for n in range(100)]
    known = {one.unjoined_unit: VALID if n < 20 else TRAIN for n, one in enumerate(old)}
    new = [sample(100 + n, f"new-{n}", (1.0,)) for n in range(10)]
    split = split_samples([*old, *new], valid_share=0.2, seed=seed, known=known)
    assert {one.split_unit: split.subsets[one.split_unit] for one in old} == known
    assert len(split.select(new, VALID)) == 2, "20 percent of 110 are 22"
    overfull = {one.unjoined_unit: VALID if n < 40 else TRAIN for n, one in enumerate(old)}
    split = split_samples([*old, *new], valid_share=0.2, seed=seed, known=overfull)
    assert split.select(new, VALID) == []
    starved = {one.unjoined_unit: VALID if n < 10 else TRAIN for n, one in enumerate(old)}
    split = split_samples([*old, *new], valid_share=0.2, seed=seed, known=starved)
    assert len(split.select(new, VALID)) == 10


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_validation_gets_its_share_to_the_person(share: float) -> None:
    samples = [sample(n, f"s{n}", (1.0, 0.0)) for n in range(40)]
    split = split_samples(samples, valid_share=share, seed=0)
    assert len(split.select(samples, VALID)) == 40 * share


def test_memory_of_pictures_and_picsets() -> None:
    samples = [sample(0, "a", (1.0,), "joined:a"), sample(1, "", (0.0,)), sample(2, "b", (0.0,))]
    split = Split({"joined:a": TRAIN, "picture:1.jpeg": VALID})
    assert split.remembered_subsets(samples[:2]) == {
        "picset:a": TRAIN,
        "picture:0.jpeg": TRAIN,
        "picture:1.jpeg": VALID,
    }
    assert split.select(samples, TRAIN) == samples[:1]
    assert split.select(samples, VALID) == samples[1:2], "a unit that the split does not know is on no side"


@pytest.mark.parametrize("trained", ["picset:a", "picture:0.jpeg", "picture:1.jpeg"])
def test_one_member_that_was_trained_on_takes_the_unit_into_training(trained: str) -> None:
    samples = [sample(0, "a", (1.0,)), sample(1, "a", (0.0,)), sample(2, "b", (1.0,)), sample(3, "c", (0.0,))]
    members = ["picset:a", "picture:0.jpeg", "picture:1.jpeg"]
    known = {member: TRAIN if member == trained else VALID for member in members} | {"picset:b": VALID}
    split = split_samples(samples, valid_share=0.5, seed=0, known=known)
    assert split.subsets["picset:a"] == TRAIN
    assert split.moved == tuple(sorted(set(members) - {trained}))
    assert split.subsets["picset:b"] == VALID


def test_sides_that_are_no_sides_are_passed_over() -> None:
    samples = [sample(n, f"s{n}", (1.0,)) for n in range(4)]
    assert split_samples(samples, valid_share=0.5, seed=0, known={"picset:s0": "test"}) == split_samples(
        samples, valid_share=0.5, seed=0
    )


def test_which_part_is_empty_is_said() -> None:
    samples = [sample(n, f"s{n}", (1.0,)) for n in range(3)]
    for side, other in ((TRAIN, VALID), (VALID, TRAIN)):
        with pytest.raises(TrainingError) as caught:
            split_samples(samples, valid_share=0.5, seed=0, known={one.unjoined_unit: side for one in samples})
        assert caught.value.code == "training.empty_part"
        assert f"the {other} part" in caught.value.what


@pytest.mark.parametrize(("names", "more"), [("abc", ""), ("abcde", " and 2 more")])
def test_a_leak_names_three(names: str, more: str) -> None:
    samples = [sample(n, name, (1.0,)) for n, name in enumerate(names)]
    others = [sample(10 + n, name, (1.0,)) for n, name in enumerate(names)]
    with pytest.raises(TrainingError) as caught:
        check_split(samples, others, where="x/split.json")
    assert caught.value.code == "training.split_leaks"
    assert f": picset:a, picset:b, picset:c{more} in " in caught.value.what
    assert caught.value.where == "x/split.json"
    check_split(samples, [sample(20, "z", (1.0,))])


def test_many_equal_units_keep_their_order() -> None:
    """More than sorts without stability leave alone."""
    assert dealt([2.0, 1.0] * 50) == [*range(0, 100, 2), *range(1, 100, 2)]


def test_what_most_have_is_given_first() -> None:
    """All three have label 1, two of them label 0: the smallest of all is moved, then the first with label 0."""
    counts = [[0, 1, 2], [1, 1, 3], [1, 1, 3]]
    assert repaired(counts, [0, 0, 0]) == [1, 1, 0]
