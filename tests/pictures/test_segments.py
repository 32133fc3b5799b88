"""Segments and statuses: what we write is read back, what older tools wrote is read as far as it goes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cls.errors import DatabaseFault
from cls.people.photos import Person
from cls.pictures.segments import read_segments, read_status, segments_of_people

_fraction = st.floats(-0.1, 1.1).map(lambda value: round(value, 6))
_polygon = st.lists(st.tuples(_fraction, _fraction), min_size=3, max_size=8).map(
    lambda points: np.array(points, np.float64)
)
_pixel = st.floats(0, 5000).map(lambda value: round(value, 2))
_box = st.tuples(_pixel, _pixel, st.floats(1, 900), st.floats(1, 900)).map(
    lambda v: (v[0], v[1], round(v[0] + v[2], 2), round(v[1] + v[3], 2))
)
_person = st.builds(
    Person,
    cls=st.text(min_size=1, max_size=10),
    conf=st.floats(0, 1).map(lambda value: round(value, 6)),
    box_xyxy_px=_box,
    polygons_xy_rel=st.lists(_polygon, max_size=3).map(tuple),
)


def _plain(person: Person) -> tuple[Any, ...]:
    return person.cls, person.conf, person.box_xyxy_px, [polygon.tolist() for polygon in person.polygons_xy_rel]


@given(st.lists(_person, max_size=4))
def test_what_is_written_is_read_back_without_a_complaint(people: list[Person]) -> None:
    problems: list[str] = []
    segments = read_segments(json.dumps(segments_of_people(tuple(people))), problems)
    assert problems == []
    assert segments.people is not None
    assert [_plain(person) for person in segments.people] == [_plain(person) for person in people]


@given(st.lists(_person, min_size=1, max_size=2))
def test_the_stored_form_is_the_specs(people: list[Person]) -> None:
    stored = segments_of_people(tuple(people))
    assert stored is not None
    assert list(stored) == [str(number) for number in range(len(people))]
    for entry in stored.values():
        assert set(entry) == {"cls", "conf", "bbox", "segments"}
        assert len(entry["bbox"]) == 4
        assert all(type(value) is float for outline in entry["segments"] for value in outline)
        assert all(len(outline) % 2 == 0 for outline in entry["segments"])


def test_nobody_and_not_looked_at() -> None:
    assert segments_of_people(()) == {}
    assert segments_of_people(None) is None
    assert read_segments("{}", []).people == ()
    assert read_segments(None, []).people is None
    assert read_segments("null", []).people is None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["0", "1", "cls", "conf", "bbox", "segments", "status"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(_json)
def test_any_json_is_read_without_a_crash(value: Any) -> None:
    problems: list[str] = []
    segments = read_segments(json.dumps(value), problems)
    for person in segments.people or ():
        assert np.isfinite([person.conf, *person.box_xyxy_px]).all()
        assert all(np.isfinite(polygon).all() and len(polygon) >= 3 for polygon in person.polygons_xy_rel)


@given(st.text(max_size=30))
def test_any_text_is_read_without_a_crash(text: str) -> None:
    read_segments(text, [])
    assert isinstance(read_status(text, []), str)


_GOOD = {"cls": "female", "conf": 0.97, "bbox": [1, 2, 30, 40], "segments": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]}


def _read(value: Any) -> tuple[Any, list[DatabaseFault]]:
    problems: list[DatabaseFault] = []
    return read_segments(json.dumps(value), problems), problems


@pytest.mark.parametrize(
    ("change", "case"),
    [
        ({"cls": None}, "no_class"),
        ({"conf": None}, "no_confidence"),
        ({"bbox": [1, 2, 3]}, "no_usable_box"),
        ({"bbox": [30, 2, 1, 40]}, "no_usable_box"),
        ({"segments": None}, "no_outline"),
        ({"segments": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5, 0.7]]}, "odd_coordinates"),
        ({"segments": [[0.1, 0.1, 0.5]]}, "too_few_points"),
        ({"segments": [[100, 100, 500, 100, 500, 500]]}, "not_fractions"),
        ({"segments": [[0.1, "x", 0.5, 0.1, 0.5, 0.5]]}, "not_fractions"),
    ],
)
def test_a_person_that_lacks_something_is_kept_and_reported(change: dict[str, Any], case: str) -> None:
    segments, problems = _read({"0": {**_GOOD, **change}, "1": _GOOD})
    assert len(segments.people) == 2
    assert [problem.code for problem in problems if "'0'" in problem].count(f"database.{case}") == 1
    assert not any("'1'" in problem for problem in problems)


def test_an_odd_outline_loses_its_last_coordinate() -> None:
    segments, _ = _read({"0": {**_GOOD, "segments": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5, 0.7]]}})
    assert segments.people[0].polygons_xy_rel[0].tolist() == [[0.1, 0.1], [0.5, 0.1], [0.5, 0.5]]


@pytest.mark.parametrize(
    "value",
    [
        [_GOOD],
        json.dumps({"0": _GOOD}),
        {"0": {**_GOOD, "segments": _GOOD["segments"][0]}},  # type: ignore[index]
        {"0": {**_GOOD, "segments": [[[0.1, 0.1], [0.5, 0.1], [0.5, 0.5]]]}},
        {"0": {**_GOOD, "segments": [[0.1, 0.1], [0.5, 0.1], [0.5, 0.5]]}},
        {"0": {**_GOOD, "conf": "0.97", "bbox": ["1", "2", "30", "40"]}},
        {"status": "approved", "0": _GOOD},
    ],
)
def test_other_forms_of_the_same(value: Any) -> None:
    segments, problems = _read(value)
    assert problems == []
    assert [_plain(person) for person in segments.people] == [
        ("female", 0.97, (1.0, 2.0, 30.0, 40.0), [[[0.1, 0.1], [0.5, 0.1], [0.5, 0.5]]])
    ]


@pytest.mark.parametrize("value", ["{", 5, "text", True, {"0": None}, {"0": 5, "1": []}, [1, 2], {"0": {}}])
def test_what_says_nothing_about_people_is_unreadable(value: Any) -> None:
    segments, problems = _read(value)
    assert (segments.is_readable, segments.people) == (False, None)
    assert problems


def test_a_status_alone_says_nothing_about_people() -> None:
    segments, problems = _read({"status": "rejected"})
    assert (segments.people, segments.status, segments.is_readable, problems) == (None, "rejected", True, [])


def test_a_rejected_person_is_left_out() -> None:
    segments, _ = _read({"0": {**_GOOD, "status": "rejected"}, "1": {**_GOOD, "cls": "male"}})
    assert [person.cls for person in segments.people] == ["male"]
    segments, _ = _read({"0": {**_GOOD, "status": "rejected"}})
    assert (segments.people, segments.is_readable) == ((), True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("approved", "approved"),
        (" Rejected ", "rejected"),
        ('{"status": "approved"}', "approved"),
        ('"rejected"', "rejected"),
        ('["unchecked"]', "unchecked"),
    ],
)
def test_statuses_as_older_tools_wrote_them(text: str, expected: str) -> None:
    problems: list[str] = []
    assert read_status(text, problems) == expected
    assert problems == []


@pytest.mark.parametrize("text", ["", "fine", "{", '{"state": "approved"}', "null"])
def test_a_status_nobody_knows_is_kept_and_reported(text: str) -> None:
    problems: list[str] = []
    assert read_status(text, problems) == text
    assert len(problems) == 1
