"""How the sizes of a split that looks at nobody's picset are evened out, compared with exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from cls.dataset.split.assign import _even_out


def may_move(people: list[list[int]], is_held: list[bool], wanted: int) -> set[int]:
    """Who may change sides: those of the giving side whose labels it has most too many of."""
    from_valid = sum(is_held) > wanted
    share = Fraction(wanted if from_valid else len(people) - wanted, len(people))
    givers = [number for number in range(len(people)) if is_held[number] == from_valid]
    surplus = []
    for label in range(len(people[0])):
        total, here = (sum(people[number][label] for number in some) for some in (range(len(people)), givers))
        # Whoever is the last of a label stays, whatever there are too many of.
        surplus.append(Fraction(-len(people)) if here < 2 else (here - share * total) / total)
    scores = {
        number: sum((value for value, has in zip(surplus, people[number], strict=True) if has), Fraction(0))
        for number in givers
    }
    return {number for number, score in scores.items() if score == max(scores.values())}


@given(
    st.integers(4, 14).flatmap(
        lambda n: st.tuples(
            st.lists(st.lists(st.integers(0, 1), min_size=3, max_size=3), min_size=n, max_size=n),
            st.lists(st.booleans(), min_size=n, max_size=n),
        )
    ),
    st.sampled_from([-1, 1]),
)
def test_the_most_superfluous_moves(drawn: tuple[list[list[int]], list[bool]], change: int) -> None:
    people, is_held = drawn
    wanted = sum(is_held) + change
    assume(0 < wanted < len(people))
    found = np.array(is_held)
    _even_out(np.array(people, np.float64), found, wanted)
    (moved,) = np.flatnonzero(found != is_held).tolist()
    assert int(found.sum()) == wanted
    assert moved in may_move(people, is_held, wanted)


def test_too_many_of_one_label_weigh_more_than_a_few_of_two() -> None:
    """Validation has all of label 0, and 3 of 5 of the labels 1 and 2: 0.5 too many, against 0.1 twice."""
    labels = np.array([[1, 0, 0], [1, 0, 0], *[[0, 1, 1]] * 5, [0, 0, 0]], np.float64)
    is_valid = np.array([1, 1, 1, 1, 1, 0, 0, 0], bool)
    _even_out(labels, is_valid, 4)
    assert is_valid.tolist() == [False, True, True, True, True, False, False, False]


def test_labels_that_nobody_has_divide_by_nothing() -> None:
    labels = np.array([[1, 0], [1, 0], [0, 0], [0, 0]], np.float64)
    is_valid = np.array([1, 1, 1, 0], bool)
    with np.errstate(all="raise"):
        _even_out(labels, is_valid, 2)
    assert is_valid.tolist() == [False, True, True, False]
