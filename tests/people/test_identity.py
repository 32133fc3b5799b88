"""Ids of people, and who is who in two segmentations of one photo."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cls.people.photos import Person
from cls.people.polygons import (
    box_iou,
    choose_people,
    identified,
    is_id,
    largest_first,
    person_iou,
    rounded_polygon,
    same_people,
)

Rect = tuple[float, float, float, float]
_SIZE_PX = 1000


def _outline(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)


def _person(*parts: Rect, cls: str = "female", conf: float = 0.9, id: str = "") -> Person:  # noqa: A002 - as the field
    """A person of rectangles in fractions, in a photo of 1000x1000 pixels."""
    corners = np.array(parts, np.float64)
    box = tuple(float(v) * _SIZE_PX for v in (*corners[:, :2].min(0), *corners[:, 2:].max(0)))
    return Person(cls, conf, box, tuple(_outline(*part) for part in parts), id)  # type: ignore[arg-type]


def _boxed(rect: Rect, **values: str) -> Person:
    return replace(_person(rect, **values), polygons_xy_rel=())  # type: ignore[arg-type]


# Side by side, a tenth of the photo wide each: nobody overlaps anybody.
_place = st.integers(0, 9)
_crowd = st.lists(
    st.tuples(_place, st.floats(0.0, 0.4), st.floats(0.5, 1.0), st.sampled_from(["female", "male"])),
    unique_by=lambda one: one[0],
    max_size=8,
).map(lambda rows: [_person((n / 10 + 0.001, top, n / 10 + 0.099, bottom), cls=name) for n, top, bottom, name in rows])


# --- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [("p0", True), ("A-b_9", True), ("x" * 64, True), ("x" * 65, False), ("", False), ("a b", False), ("é", False),
     ("p0\n", False), (7, False), (None, False), (["p0"], False)],
)  # fmt: skip
def test_what_can_be_an_id(value: object, expected: bool) -> None:
    assert is_id(value) is expected


def test_an_id_is_derived_from_picture_box_and_outline() -> None:
    one = _person((0.1, 0.2, 0.3, 0.9))
    (named,) = identified("a.jpeg", [one])
    # Fixed: whoever changes how ids are derived gives every person of older rows another name.
    assert named.id == "p3754b0cfd862f8a"
    assert replace(named, id="") == one
    assert is_id(named.id)
    others = [
        identified("b.jpeg", [one]),
        identified("a.jpeg", [_person((0.1, 0.2, 0.3, 0.900002))]),
        identified("a.jpeg", [replace(one, box_xyxy_px=(100.0, 200.0, 300.0, 900.02))]),
        identified("a.jpeg", [replace(one, polygons_xy_rel=())]),
        identified("a.jpeg", [replace(one, polygons_xy_rel=one.polygons_xy_rel * 2)]),
        identified("a.jpeg", [one], taken=[named.id]),
    ]
    assert len({named.id, *(people[0].id for people in others)}) == 7
    # What storing rounds away, and what a model may say otherwise of the same outline, changes nothing.
    same = [
        replace(one, box_xyxy_px=(100.001, 200.0, 300.0, 899.999)),
        replace(one, polygons_xy_rel=(one.polygons_xy_rel[0] + 1e-8,)),
        replace(one, cls="male", conf=0.1),
    ]
    assert {identified("a.jpeg", [person])[0].id for person in same} == {named.id}


def test_parts_and_points_are_told_apart() -> None:
    points = _outline(0.1, 0.1, 0.2, 0.2)
    two = Person("female", 0.9, (0, 0, 0, 0), (points[:3], np.concatenate([points[3:], points[:2]])))
    other = Person("female", 0.9, (0, 0, 0, 0), (points, points[:2]))
    assert identified("a", [two])[0].id != identified("a", [other])[0].id
    zeros = [Person("female", 0.9, (0.0, 0.0, 1.0, 1.0), (points * sign,)) for sign in (0.0, -0.0)]
    assert identified("a", zeros[:1])[0].id == identified("a", zeros[1:])[0].id


def test_the_same_outline_twice_is_two_people() -> None:
    one = _person((0.1, 0.2, 0.3, 0.9))
    three = identified("a.jpeg", [one, one, one])
    assert len({person.id for person in three}) == 3
    assert three[0].id == identified("a.jpeg", [one])[0].id
    assert [person.id for person in identified("a.jpeg", [one, one])] == [person.id for person in three[:2]]


def test_a_given_id_is_kept_and_the_first_of_two_has_it() -> None:
    one, two = _person((0.1, 0.2, 0.3, 0.9), id="pa"), _person((0.5, 0.2, 0.7, 0.9), id="pa")
    derived = identified("a", [replace(two, id="")])[0].id
    assert [person.id for person in identified("a", [one, two])] == ["pa", derived]
    assert identified("a", [replace(one, id=derived), replace(two, id="")])[0].id == derived
    assert len({person.id for person in identified("a", [replace(two, id=""), replace(one, id=derived)])}) == 2


@given(_crowd, st.text(max_size=8))
def test_everybody_has_an_id_of_their_own(people: list[Person], path: str) -> None:
    named = identified(path, people + people)
    assert len({person.id for person in named}) == 2 * len(people)
    assert all(is_id(person.id) and person.id[0] == "p" and len(person.id) == 16 for person in named)
    assert identified(path, people + people) == named
    assert identified(path, named) == named


# --- the same people -------------------------------------------------------------------------------------------------


@given(_crowd, st.randoms(use_true_random=False), st.floats(-0.004, 0.004))
def test_the_same_people_in_another_order_are_found_again(people: list[Person], random: object, shift: float) -> None:
    order = list(range(len(people)))
    random.shuffle(order)  # type: ignore[attr-defined]
    moved = [
        replace(people[place], polygons_xy_rel=tuple(part + shift for part in people[place].polygons_xy_rel))
        for place in order
    ]
    assert same_people(people, moved) == dict(enumerate(order))


@given(_crowd, _crowd)
def test_nobody_is_two_people(before: list[Person], after: list[Person]) -> None:
    pairs = same_people(before, after)
    assert len(set(pairs.values())) == len(pairs)
    assert all(person_iou(before[old], after[new]) > 0.5 for new, old in pairs.items())
    assert pairs == {
        new: old for new, one in enumerate(after) for old, two in enumerate(before) if person_iou(one, two) > 0.5
    }
    assert same_people(after, before) == {old: new for new, old in pairs.items()}


def test_one_gone_and_one_new() -> None:
    a, b, c = _person((0.0, 0.0, 0.2, 1.0)), _person((0.4, 0.0, 0.6, 1.0)), _person((0.8, 0.0, 1.0, 1.0))
    assert same_people([a, b], [c, b]) == {1: 1}
    assert same_people([], [a]) == {}
    assert same_people([a], []) == {}


def test_a_person_cut_in_two_is_the_larger_part_and_halves_are_nobody() -> None:
    whole = _person((0.0, 0.0, 0.4, 1.0))
    assert same_people([whole], [_person((0.0, 0.6, 0.4, 1.0)), _person((0.0, 0.0, 0.4, 0.6))]) == {1: 0}
    halves = [_person((0.0, 0.0, 0.4, 0.5)), _person((0.0, 0.5, 0.4, 1.0))]
    assert same_people([whole], halves) in ({}, {0: 0}, {1: 0})
    assert same_people([whole], [_person((0.0, 0.0, 0.4, 0.45)), _person((0.0, 0.45, 0.4, 0.9))]) == {}


def test_two_people_made_one_are_the_larger_of_them() -> None:
    parts = [_person((0.0, 0.0, 0.4, 0.3)), _person((0.0, 0.3, 0.4, 1.0))]
    assert same_people(parts, [_person((0.0, 0.0, 0.4, 1.0))]) == {0: 1}


def test_of_people_who_overlap_the_most_alike_find_each_other_first() -> None:
    # The second of each is one half of the first one shifted: it overlaps with both.
    a, b = _person((0.0, 0.0, 0.40, 1.0)), _person((0.1, 0.0, 0.50, 1.0))
    assert same_people([a, b], [b, a]) == {0: 1, 1: 0}
    near_a = _person((0.02, 0.0, 0.42, 1.0))
    assert same_people([a, b], [near_a]) == {0: 0}
    assert same_people([a, b], [_person((0.08, 0.0, 0.48, 1.0)), a]) == {0: 1, 1: 0}


def test_of_equal_outlines_those_of_one_class_are_one() -> None:
    woman, man = _person((0.0, 0.0, 0.4, 1.0)), _person((0.0, 0.0, 0.4, 1.0), cls="male")
    assert same_people([woman, man], [man, woman]) == {0: 1, 1: 0}
    assert same_people([woman, man], [woman, man]) == {0: 0, 1: 1}
    assert same_people([woman, woman], [woman, woman]) == {0: 0, 1: 1}
    assert same_people([woman], [replace(man, cls="person")]) == {0: 0}


# --- overlap ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "iou"),
    [
        (((0.1, 0.1, 0.3, 0.5),), ((0.1, 0.1, 0.3, 0.5),), 1.0),
        (((0.0, 0.0, 0.5, 0.5),), ((0.5, 0.5, 1.0, 1.0),), 0.0),
        (((0.0, 0.0, 0.2, 1.0),), ((0.3, 0.0, 0.5, 1.0),), 0.0),
        (((0.0, 0.0, 0.4, 1.0),), ((0.0, 0.0, 0.4, 0.5),), 0.5),
        (((0.0, 0.0, 0.4, 1.0),), ((0.2, 0.0, 0.6, 1.0),), 1 / 3),
        (((0.0, 0.0, 0.4, 1.0),), ((0.0, 0.25, 0.8, 1.0),), 0.3 / 0.7),
        (((0.0, 0.0, 0.1, 1.0), (0.3, 0.0, 0.4, 1.0)), ((0.0, 0.0, 0.4, 1.0),), 0.5),
        (((0.0, 0.0, 0.1, 1.0), (0.3, 0.0, 0.4, 1.0)), ((0.1, 0.0, 0.3, 1.0),), 0.0),
        (((0.500, 0.500, 0.502, 0.504),), ((0.500, 0.500, 0.502, 0.502),), 0.5),
    ],
)
def test_overlap_of_masks(first: tuple[Rect, ...], second: tuple[Rect, ...], iou: float) -> None:
    one, two = _person(*first), _person(*second)
    assert person_iou(one, two) == pytest.approx(iou, abs=0.01)
    assert person_iou(two, one) == pytest.approx(iou, abs=0.01)


def test_without_an_outline_boxes_are_compared() -> None:
    outlined, boxed = _person((0.0, 0.0, 0.4, 1.0)), _boxed((0.0, 0.0, 0.4, 0.8))
    for one, two in ((outlined, boxed), (boxed, outlined), (boxed, _boxed((0.0, 0.0, 0.4, 1.0)))):
        assert person_iou(one, two) == pytest.approx(0.8)
    assert same_people([outlined], [boxed]) == {0: 0}
    nowhere = replace(outlined, box_xyxy_px=(0.0, 0.0, 0.0, 0.0))
    assert person_iou(nowhere, boxed) == 0.0
    assert person_iou(nowhere, outlined) == 1.0


@pytest.mark.parametrize(
    ("second", "iou"),
    [((0.0, 0.0, 0.2, 0.4), 1.0), ((0.1, 0.0, 0.3, 0.4), 1 / 3), ((0.0, 0.1, 0.2, 0.5), 0.6),
     ((0.2, 0.0, 0.4, 0.4), 0.0), ((0.0, 0.4, 0.2, 0.8), 0.0), ((0.3, 0.5, 0.4, 0.8), 0.0),
     ((0.05, 0.1, 0.15, 0.3), 0.25)],
)  # fmt: skip
def test_overlap_of_boxes(second: Rect, iou: float) -> None:
    first = _boxed((0.0, 0.0, 0.2, 0.4))
    assert box_iou(first, _boxed(second)) == pytest.approx(iou)
    assert box_iou(_boxed(second), first) == pytest.approx(iou)


def test_an_outline_without_an_area_is_compared_without_a_crash() -> None:
    line = Person("female", 0.9, (0, 0, 0, 0), (np.array([[0.1, 0.1], [0.5, 0.1], [0.3, 0.1]]),))
    assert person_iou(line, line) == 1.0
    assert person_iou(line, _person((0.1, 0.1, 0.5, 0.5))) < 0.1


# --- the largest -----------------------------------------------------------------------------------------------------


def test_the_largest_is_the_largest_outline_not_the_largest_box() -> None:
    wide = _person((0.0, 0.0, 0.9, 0.05), (0.0, 0.0, 0.05, 0.9))  # a box of 0.81, outlines of 0.09
    stout = _person((0.1, 0.1, 0.5, 0.5))  # a box and an outline of 0.16
    assert largest_first([wide, stout]) == (stout, wide)
    assert choose_people([wide, stout]) == (stout,)
    unsure, first = replace(stout, conf=0.5), replace(stout, id="p1")
    assert largest_first([unsure, wide, stout, first]) == (stout, first, unsure, wide)
    assert largest_first([]) == ()


def test_an_outline_is_rounded_point_by_point() -> None:
    rounded = rounded_polygon(np.array([[0.12345678, 0.5], [0.25, 0.75], [1.0, 0.0]]))
    assert rounded.tolist() == [[0.123457, 0.5], [0.25, 0.75], [1.0, 0.0]]


def test_boxes_smaller_than_a_pixel_overlap_too() -> None:
    first, second = (Person("a", 0.9, (0.0, 0.0, side, 0.5), ()) for side in (0.5, 0.25))
    assert box_iou(first, first) == 1
    assert box_iou(first, second) == 0.5
    assert box_iou(first, Person("a", 0.9, (0.0, 0.0, 0.0, 0.0), ())) == 0
