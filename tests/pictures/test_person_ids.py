"""Ids in the pictures database: read, derived, kept over a segmentation, never written where nobody asked."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import create_engine, text

from cls.errors import DatabaseError
from cls.people.photos import Person
from cls.people.polygons import identified
from cls.pictures.database import PictureRecord, PicturesDatabase, Status
from cls.pictures.engine import parse_url
from cls.pictures.segments import read_segments, segments_of_people
from tests.pictures.people import record


def _someone(place: int, width: float = 0.1, **values: Any) -> Person:
    """A person at one of ten places of a photo of 1000x1000 pixels; at another place nobody overlaps."""
    left = place / 10
    outline = np.array([[left, 0.1], [left + width, 0.1], [left + width, 0.9], [left, 0.9]]).round(6)
    box = (left * 1000, 100.0, (left + width) * 1000, 900.0)
    return Person("female", 0.9, box, (outline,), **values)


def _entry(place: int, **more: Any) -> dict[str, Any]:
    """A person as an older tool wrote it."""
    stored = segments_of_people((_someone(place),))
    assert stored is not None
    return {**stored["0"], **more}


def _names(people: tuple[Person, ...] | None) -> list[str]:
    return [person.id for person in people or ()]


def _put(url: str, *rows: tuple[str, Any]) -> None:
    engine = create_engine(parse_url(url))
    cast = "CAST(:segments AS jsonb)" if engine.dialect.name == "postgresql" else ":segments"
    statement = text(
        f"INSERT INTO pictures (path, model_version, status, segments) VALUES (:path, 'old', 'unchecked', {cast})"
    )
    with engine.begin() as connection:
        connection.execute(statement, [{"path": path, "segments": json.dumps(content)} for path, content in rows])
    engine.dispose()


def _stored(url: str) -> list[tuple[Any, ...]]:
    engine = create_engine(parse_url(url))
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT id, path, model_version, status, segments FROM pictures ORDER BY id"))
        found = [(*row[:4], json.loads(row[4]) if isinstance(row[4], str) else row[4]) for row in rows]
    engine.dispose()
    return found


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database of the bottle's own kind; what the engines may do differently is tested on both."""
    url = f"sqlite:///{tmp_path / 'pictures.sqlite'}"
    PicturesDatabase.open(url).close()
    return url


@pytest.fixture
def database(url: str) -> Iterator[PicturesDatabase]:
    with PicturesDatabase.open(url) as database:
        yield database


# --- reading ---------------------------------------------------------------------------------------------------------


def _read(content: Any, path: str = "a.jpeg") -> tuple[Any, list[str]]:
    problems: list[str] = []
    return read_segments(json.dumps(content), problems, path), problems


def test_a_stored_id_is_read_and_others_are_derived_from_the_row() -> None:
    segments, problems = _read({"0": _entry(0, id="pabc"), "1": _entry(1), "2": _entry(1)})
    expected = identified("a.jpeg", [_someone(1), _someone(1)])
    assert _names(segments.people) == ["pabc", *_names(expected)]
    assert problems == []
    assert _names(_read([_entry(1), _entry(1)])[0].people) == _names(expected)
    assert _names(_read({"0": _entry(1)}, "b.jpeg")[0].people) == _names(identified("b.jpeg", [_someone(1)]))
    assert read_segments(json.dumps({"0": _entry(1)}), []).people is not None


@pytest.mark.parametrize("value", [7, "", "a b", "x" * 65, ["pabc"], {"id": 1}, True])
def test_an_id_that_cannot_be_one_is_reported_and_another_one_derived(value: Any) -> None:
    segments, problems = _read({"0": _entry(0, id=value), "1": _entry(1)})
    assert _names(segments.people) == _names(identified("a.jpeg", [_someone(0), _someone(1)]))
    assert len(problems) == 1
    assert problems[0].code == "database.invalid_person_id"
    assert "'0'" in problems[0]


def test_no_id_is_no_problem() -> None:
    assert _read({"0": _entry(0, id=None)})[1] == []


def test_an_id_at_two_people_is_the_first_ones() -> None:
    segments, problems = _read({"0": _entry(0, id="pabc"), "1": _entry(1, id="pabc"), "2": _entry(2, id="pdef")})
    assert _names(segments.people) == ["pabc", *_names(identified("a.jpeg", [_someone(1)])), "pdef"]
    assert len(problems) == 1
    assert "'pabc'" in problems[0]


def test_what_else_a_row_says_is_kept_apart() -> None:
    segments, problems = _read(
        {
            "0": _entry(0, id="pa", note="tall", status="approved"),
            "1": _entry(1, id="pb", status="rejected"),
            "2": _entry(2, id="pc"),
            "status": {"status": "approved", "by": "ann"},
            "tool": "v3",
            "3": 5,
            "4": None,
            "list": [1],
            "none": None,
            "object": {},
        }
    )
    assert _names(segments.people) == ["pa", "pc"]
    assert _names(segments.rejected) == ["pb"]
    assert segments.further == {"pa": {"note": "tall", "status": "approved"}, "pb": {"status": "rejected"}}
    assert segments.beside == {"status": {"status": "approved", "by": "ann"}, "tool": "v3"}
    assert segments.status == "approved"
    assert len(problems) == 8  # five are no people; `object` has no outline, no box, and so neither
    unreadable, _ = _read({"status": "approved", "0": 5})
    assert (unreadable.is_readable, unreadable.beside) == (False, {"status": "approved"})
    alone, _ = _read({"status": "approved"})
    assert alone.beside == {"status": "approved"}


def test_somebody_rejected_is_passed_over_without_a_complaint() -> None:
    segments, problems = _read({"0": {"status": "rejected"}})
    assert (segments.people, segments.rejected, segments.is_readable, problems) == ((), (), True, [])
    segments, problems = _read({"0": {"status": "rejected", "bbox": [1, 2, 3, 4]}, "1": _entry(1)})
    assert (len(segments.people), len(segments.rejected), problems) == (1, 1, [])


def test_an_id_is_stored_last_and_only_where_there_is_one() -> None:
    stored = segments_of_people((_someone(0, id="pa"), _someone(1)))
    assert stored is not None
    assert list(stored["0"]) == ["cls", "conf", "bbox", "segments", "id"]
    assert stored["0"]["id"] == "pa"
    assert list(stored["1"]) == ["cls", "conf", "bbox", "segments"]


def test_an_id_that_cannot_be_read_back_is_not_written(url: str, database: PicturesDatabase) -> None:
    with pytest.raises(DatabaseError) as error:
        database.write_people([record("a.jpeg", _someone(0, id="a b"))], replace=False)
    assert (error.value.code, error.value.where) == ("database.invalid_person", "a.jpeg")
    assert _stored(url) == []


# --- written and written again, on both engines ----------------------------------------------------------------------


def test_older_rows_are_left_alone_until_they_are_written(database_url: str) -> None:
    PicturesDatabase.open(database_url).close()
    rows = [("a.jpeg", {"0": _entry(0), "1": _entry(1)}), ("b.jpeg", {"0": _entry(0)}), ("c.jpeg", {"0": _entry(3)})]
    _put(database_url, *rows)
    before = _stored(database_url)
    with PicturesDatabase.open(database_url) as database:
        named = {path: _names(found.people) for path, found in database.records().items()}
        assert len({name for names in named.values() for name in names}) == 4
        database.set_status(["b.jpeg"], Status.APPROVED)
        assert database.write_people([record("a.jpeg", _someone(5))], replace=False) == 0
        assert [row[4] for row in _stored(database_url)] == [row[4] for row in before]
        # The model now finds both of a.jpeg in the other order, a little wider, and a third one.
        again = record("a.jpeg", _someone(7), _someone(1, 0.09), _someone(0, 0.11), model_version="new")
        assert database.write_people([again], replace=True) == 1
        after = database.records()
    new, second, first = _names(after["a.jpeg"].people)
    assert [first, second] == named["a.jpeg"]
    assert new not in {name for names in named.values() for name in names}
    assert {path: _names(after[path].people) for path in ("b.jpeg", "c.jpeg")} == {
        path: named[path] for path in ("b.jpeg", "c.jpeg")
    }
    rows_after = _stored(database_url)
    assert [row[4] for row in rows_after[1:]] == [row[4] for row in before[1:]]
    assert [entry["id"] for _, entry in sorted(rows_after[0][4].items())] == [new, second, first]
    assert rows_after[0][2] == "new"


def test_two_builders_at_once_give_one_person_one_id(database_url: str) -> None:
    PicturesDatabase.open(database_url).close()
    _put(database_url, ("a.jpeg", {"0": _entry(0), "1": _entry(1)}))
    with PicturesDatabase.open(database_url) as database:
        before = set(_names(database.records()["a.jpeg"].people))
    start = threading.Barrier(2)
    failed: list[BaseException] = []

    def build(shift: float) -> None:
        try:
            with PicturesDatabase.open(database_url) as database:
                start.wait()
                for turn in range(10):
                    found = (_someone(turn % 2, 0.1 + shift), _someone(1 - turn % 2, 0.1), _someone(4, 0.1 + shift))
                    database.write_people([record("a.jpeg", *found), record("b.jpeg", *found)], replace=True)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=build, args=(shift,)) for shift in (0.0, 0.01)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    with PicturesDatabase.open(database_url) as database:
        names = {path: _names(found.people) for path, found in database.records().items()}
    assert before < set(names["a.jpeg"])
    assert {path: len(set(found)) for path, found in names.items()} == {"a.jpeg": 3, "b.jpeg": 3}
    assert len(_stored(database_url)) == 2


# --- what becomes of everybody ---------------------------------------------------------------------------------------


def _again(database: PicturesDatabase, *people: Person, **values: Any) -> list[str]:
    database.write_people([record("a.jpeg", *people, **values)], replace=True)
    return _names(database.records()["a.jpeg"].people)


def test_an_id_outlives_any_number_of_segmentations(database: PicturesDatabase) -> None:
    database.write_people([record("a.jpeg", _someone(0), _someone(5))], replace=False)
    one, two = _names(database.records()["a.jpeg"].people)
    assert [one, two] == _names(identified("a.jpeg", [_someone(0), _someone(5)]))
    for step in range(1, 8):  # by and by another outline altogether
        moved = [replace(_someone(5), polygons_xy_rel=(_someone(5).polygons_xy_rel[0] + step * 0.02,)), _someone(0)]
        assert _again(database, *moved) == [two, one]


def test_somebody_who_is_gone_leaves_the_id_to_nobody(database: PicturesDatabase) -> None:
    database.write_people([record("a.jpeg", _someone(0), _someone(5))], replace=False)
    one, two = _names(database.records()["a.jpeg"].people)
    assert _again(database, _someone(5)) == [two]
    assert _again(database) == []
    moved = replace(_someone(0), polygons_xy_rel=(_someone(0).polygons_xy_rel[0] + 0.02,))
    assert _again(database, moved)[0] not in (one, two)


def test_a_derived_id_that_somebody_else_has_is_not_given_twice(database: PicturesDatabase) -> None:
    (first,) = _again(database, _someone(0))
    for step in range(1, 8):
        moved = replace(_someone(0), polygons_xy_rel=(_someone(0).polygons_xy_rel[0] + step * 0.02,))
        assert _again(database, moved) == [first]
    # Somebody stands where the first one stood at the beginning, who has gone elsewhere and then away.
    names = _again(database, moved, _someone(0))
    assert names[0] == first
    assert names[1] != first
    other = identified("b.jpeg", [_someone(0)])[0]
    database.write_people([record("b.jpeg", replace(_someone(7), id=other.id))], replace=False)
    database.write_people([record("b.jpeg", _someone(0))], replace=True)
    assert _names(database.records()["b.jpeg"].people) != [other.id]


def test_given_ids_go_before_what_masks_say(database: PicturesDatabase) -> None:
    database.write_people([record("a.jpeg", _someone(0), _someone(5))], replace=False)
    one, two = _names(database.records()["a.jpeg"].people)
    # Read, changed and written back: an annotator's correction, say.
    assert _again(database, _someone(8, id=one), _someone(5)) == [one, two]
    assert _again(database, _someone(8), _someone(5, id="pmine")) == [one, "pmine"]
    # The id of the one who stood there is given to another one: nobody has it twice.
    assert _again(database, _someone(8), _someone(3, id=one))[1] == one
    assert len(set(_names(database.records()["a.jpeg"].people))) == 2


def test_of_several_rows_the_people_readers_see_are_carried_over(url: str, database: PicturesDatabase) -> None:
    _put(
        url, ("a.jpeg", {"0": _entry(0, id="pold")}), ("a.jpeg", {"0": _entry(0, id="pnew", note="n")}), ("a.jpeg", [1])
    )
    assert _again(database, _someone(0)) == ["pnew"]
    rows = _stored(url)
    assert [row[4] for row in rows[:2]] == [{"0": _entry(0, id="pold")}, {"0": _entry(0, id="pnew", note="n")}]
    assert rows[2][4] == {"0": _entry(0, id="pnew", note="n")}


def test_what_others_wrote_of_a_person_stays_with_the_person(url: str, database: PicturesDatabase) -> None:
    _put(
        url,
        (
            "a.jpeg",
            {
                "0": _entry(0, note={"by": "ann"}, height=[1, None]),
                "1": _entry(3, status="rejected"),
                "2": _entry(6, note="gone with the person"),
                "status": "approved",
                "tool": "v3",
                "7": 5,
            },
        ),
    )
    before = _names(database.records()["a.jpeg"].people)
    names = _again(database, _someone(9), _someone(3), _someone(0))
    assert names[1:] == before[:1]
    content = _stored(url)[0][4]
    rejected = identified("a.jpeg", [_someone(3)])[0].id
    assert content == {
        "0": _entry(9, id=names[0]),
        "1": _entry(3, id=rejected, status="rejected"),
        "2": _entry(0, id=before[0], note={"by": "ann"}, height=[1, None]),
        "status": "approved",
        "tool": "v3",
    }
    assert list(content["2"]) == ["cls", "conf", "bbox", "segments", "id", "note", "height"]
    assert database.records()["a.jpeg"].status == "unchecked"


def test_a_picture_rejected_inside_its_row_stays_rejected(url: str, database: PicturesDatabase) -> None:
    _put(url, ("a.jpeg", {"status": "rejected", "0": _entry(0)}), ("b.jpeg", {"status": "rejected"}))
    found = [record(path, _someone(0), status=Status.APPROVED) for path in ("a.jpeg", "b.jpeg")]
    database.write_people(found, replace=True, overrule_status=True)
    assert {one.status for one in database.records().values()} == {"rejected"}


def test_a_row_without_people_and_people_that_are_not_known(url: str, database: PicturesDatabase) -> None:
    database.reject(["a.jpeg"])
    assert len(_again(database, _someone(0))) == 1
    database.write_people([PictureRecord("a.jpeg", "best", Status.UNCHECKED, None)], replace=True)
    assert _stored(url)[0][4] is None


def test_boxes_alone_are_enough_to_know_somebody_by(url: str, database: PicturesDatabase) -> None:
    _put(url, ("a.jpeg", {"0": {**_entry(0), "segments": [[0.5]]}, "1": {**_entry(4), "bbox": None}}))
    one, two = _names(database.records()["a.jpeg"].people)
    assert _again(database, _someone(4), _someone(0)) == [two, one]


def test_ids_of_one_picture_say_nothing_of_another(database: PicturesDatabase) -> None:
    database.write_people([record(path, _someone(0), _someone(1)) for path in ("a", "b")], replace=False)
    names = {path: _names(found.people) for path, found in database.records().items()}
    database.write_people([record("b", _someone(1)), record("a", _someone(0)), record("c", _someone(0))], replace=True)
    after = {path: _names(found.people) for path, found in database.records().items()}
    assert (after["a"], after["b"]) == (names["a"][:1], names["b"][1:])
    assert after["c"][0] not in {*names["a"], *names["b"]}


def test_the_file_itself_holds_the_ids(tmp_path: Path) -> None:
    with PicturesDatabase.open(f"sqlite:///{tmp_path / 'pictures.sqlite'}") as database:
        database.write_people([record("a.jpeg", _someone(0))], replace=False)
    with sqlite3.connect(tmp_path / "pictures.sqlite") as connection:
        ((content,),) = connection.execute("SELECT segments FROM pictures")
    assert json.loads(content)["0"]["id"] == identified("a.jpeg", [_someone(0)])[0].id
