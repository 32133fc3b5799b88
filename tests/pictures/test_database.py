"""The pictures database on both engines."""

from __future__ import annotations

import time

import numpy as np
import pytest

from cls.errors import DatabaseError
from cls.people.photos import Person
from cls.pictures.database import PictureRecord, PicturesDatabase, Status
from tests.pictures.people import person, record, same


def test_what_is_written_is_read_back(database_url: str) -> None:
    with PicturesDatabase.open(database_url) as database:
        two = record("two.jpeg", person(seed=1), person("male", 0.5, seed=2), status=Status.APPROVED)
        nobody = record("nobody.jpeg")
        not_looked_at = PictureRecord("new.jpeg", "", Status.UNCHECKED, None)
        assert database.write_people([two, nobody, not_looked_at], replace=False) == 3
        assert database.count() == 3
        read = database.records()
        assert list(map(same, read["two.jpeg"].people or (), two.people or ())) == [True, True]
        assert (read["two.jpeg"].model_version, read["two.jpeg"].status) == ("best", "approved")
        assert read["nobody.jpeg"].people == ()
        assert read["new.jpeg"].people is None
        assert database.problems == []
        assert database.records(["two.jpeg", "absent.jpeg"]).keys() == {"two.jpeg"}
        assert database.records([]) == {}


def test_opened_again_it_holds_what_it_held(database_url: str) -> None:
    with PicturesDatabase.open(database_url) as database:
        database.write_people([record("a.jpeg", person())], replace=False)
    with PicturesDatabase.open(database_url) as database:
        assert database.known_paths(["a.jpeg", "b.jpeg"]) == {"a.jpeg"}


def test_without_replace_a_row_stays(database_url: str) -> None:
    with PicturesDatabase.open(database_url) as database:
        database.write_people([record("a.jpeg", person(), model_version="old")], replace=False)
        written = database.write_people([record("a.jpeg", model_version="new"), record("b.jpeg")], replace=False)
        assert written == 1
        assert database.records()["a.jpeg"].model_version == "old"
        assert database.count() == 2


@pytest.mark.parametrize(
    ("stored", "overrule", "expected"),
    [
        (Status.UNCHECKED, False, Status.APPROVED),
        (Status.REJECTED, False, Status.REJECTED),
        (Status.REJECTED, True, Status.REJECTED),
        ("asked the team", False, "asked the team"),
        ("asked the team", True, Status.APPROVED),
    ],
)
def test_replace_keeps_what_somebody_decided(database_url: str, stored: str, overrule: bool, expected: str) -> None:
    with PicturesDatabase.open(database_url) as database:
        database.write_people([record("a.jpeg", person(), model_version="old", status=stored)], replace=False)
        new = record("a.jpeg", person(seed=1), person(seed=2), model_version="new", status=Status.APPROVED)
        assert database.write_people([new, record("b.jpeg")], replace=True, overrule_status=overrule) == 2
        read = database.records()["a.jpeg"]
        assert (read.model_version, read.status, len(read.people or ())) == ("new", expected, 2)
        assert database.count() == 2


def test_replace_with_nobody_and_with_not_looked_at(database_url: str) -> None:
    with PicturesDatabase.open(database_url) as database:
        database.write_people([record("a.jpeg", person()), record("b.jpeg", person())], replace=False)
        empty = PictureRecord("b.jpeg", "", Status.UNCHECKED, None)
        database.write_people([record("a.jpeg"), empty], replace=True)
        assert [database.records()[path].people for path in ("a.jpeg", "b.jpeg")] == [(), None]


def test_the_last_of_a_repeated_path_is_written(database_url: str) -> None:
    with PicturesDatabase.open(database_url) as database:
        assert database.write_people([record("a.jpeg", person()), record("a.jpeg")], replace=False) == 1
        assert database.records()["a.jpeg"].people == ()


def test_status_of_pictures(database_url: str) -> None:
    with PicturesDatabase.open(database_url) as database:
        database.write_people([record("a.jpeg"), record("b.jpeg", status=Status.REJECTED)], replace=False)
        assert database.set_status(["a.jpeg", "b.jpeg", "absent.jpeg"], Status.REJECTED) == 1
        assert database.set_status(["a.jpeg", "b.jpeg"], Status.REJECTED) == 0
        assert {read.status for read in database.records().values()} == {"rejected"}
        assert database.set_status(["a.jpeg"], Status.APPROVED) == 1
        assert database.records()["a.jpeg"].status == "approved"
        with pytest.raises(DatabaseError) as caught:
            database.set_status(["a.jpeg"], "fine")
        assert caught.value.code == "database.unknown_status"
        assert "'fine'" in caught.value.what


def test_rejecting_also_what_has_no_row(database_url: str) -> None:
    with PicturesDatabase.open(database_url) as database:
        database.write_people([record("a.jpeg", person()), record("b.jpeg", status=Status.REJECTED)], replace=False)
        rejection = database.reject(["a.jpeg", "new.jpeg", "b.jpeg", "a.jpeg"])
        assert (rejection.rejected, rejection.already, rejection.unknown) == (("a.jpeg",), ("b.jpeg",), ("new.jpeg",))
        again = database.reject(["a.jpeg", "new.jpeg", "b.jpeg"])
        assert (again.rejected, again.already, again.unknown) == ((), ("a.jpeg", "new.jpeg", "b.jpeg"), ())
        assert database.count() == 3
        assert database.records()["new.jpeg"] == PictureRecord("new.jpeg", "", Status.REJECTED, None)
        assert len(database.records()["a.jpeg"].people or ()) == 1


def test_names_of_any_alphabet(database_url: str) -> None:
    names = [
        "фото 1.jpeg",
        "写真.jpeg",
        'it\'s "quoted"; DROP TABLE pictures.jpeg',
        "a%b_c\\d.jpeg",
        "😀.jpeg",
        "{a,b}",
        "",
    ]
    with PicturesDatabase.open(database_url) as database:
        database.write_people([record(name, person("жена")) for name in names], replace=False)
        assert database.known_paths([*names, "other"]) == set(names)
        assert database.records(names).keys() == set(names)
        assert (database.records()["写真.jpeg"].people or ())[0].cls == "жена"
        assert database.known_paths(["nul\0.jpeg", "half\ud800.jpeg"]) == set()


@pytest.mark.parametrize(
    ("wrong", "code", "said"),
    [
        (record("x" * 256), "database.too_long", "256 signs"),
        (record("a.jpeg", model_version="v" * 51), "database.too_long", "51 signs"),
        (record("a\0.jpeg"), "database.unstorable_text", "'a\\x00.jpeg'"),
        (record("a\ud800.jpeg"), "database.unstorable_text", "'a\\ud800.jpeg'"),
        (record("a.jpeg", person(conf=float("nan"))), "database.invalid_person", "a.jpeg"),
        (
            record("a.jpeg", Person("female", 1.0, (0, 0, 1, 1), (np.full((4, 2), np.inf),))),
            "database.invalid_person",
            "a.jpeg",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    database_url: str, wrong: PictureRecord, code: str, said: str
) -> None:
    with PicturesDatabase.open(database_url) as database:
        with pytest.raises(DatabaseError) as caught:
            database.write_people([record("good.jpeg"), wrong], replace=False)
        assert caught.value.code == code
        assert said in caught.value.line()
        assert database.count() == 0


def test_numpy_numbers_become_plain_json(database_url: str) -> None:
    odd = Person(
        "female", np.float32(0.123456789), tuple(np.float32([1, 2, 3.14159, 4])), (np.ones((3, 2), np.float32) / 3,)
    )
    with PicturesDatabase.open(database_url) as database:
        database.write_people([record("a.jpeg", odd)], replace=False)
        (read,) = database.records()["a.jpeg"].people or ()
    assert (read.conf, read.box_xyxy_px) == (0.123457, (1.0, 2.0, 3.14, 4.0))
    assert read.polygons_xy_rel[0].tolist() == [[0.333333, 0.333333]] * 3


def test_a_hundred_thousand_paths(database_url: str) -> None:
    with PicturesDatabase.open(database_url) as database:
        database.write_people([record(f"{n:032x}.jpeg") for n in range(0, 20_000, 2)], replace=False)
        asked = [f"{n:032x}.jpeg" for n in range(100_000)]
        started_s = time.monotonic()
        assert len(database.known_paths(asked)) == 10_000
        assert len(database.records(asked)) == 10_000
        assert database.set_status(asked, Status.APPROVED) == 10_000
        assert time.monotonic() - started_s < 20
        assert database.count() == 10_000
