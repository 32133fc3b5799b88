"""Limits, counts and texts of the pictures room, each by its exact value."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError

from cls.bottle.dataset_file import GroupDataset, LabelledRow, read_dataset, write_dataset
from cls.bottle.layout import Bottle
from cls.cli.masks import report_lines
from cls.errors import DatabaseError, DatabaseFault, FileError, UsageError
from cls.people.photos import Person
from cls.pictures import database as database_module
from cls.pictures import queries, storing
from cls.pictures.database import PictureRecord, PicturesDatabase, Status, picture_named, read_badlist
from cls.pictures.engine import (
    TransactionRetry,
    empty_free_space,
    expected_failures,
    is_absent,
    make_engine,
    make_sqlite_folder,
    parse_url,
    redacted_url,
)
from cls.pictures.queries import NewRow
from cls.pictures.segments import read_segments, read_status
from cls.pictures.storing import row_of, write_batch
from cls.segmentation.gallery import (
    JOURNAL_NAME,
    GalleryConfig,
    GalleryJournal,
    GalleryReport,
    build_gallery,
    plan_cutouts,
)
from tests.pictures.people import person, record

_GOOD: dict[str, Any] = {
    "cls": "female", "conf": 0.97, "bbox": [1, 2, 30, 40], "segments": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]],
}  # fmt: skip
GROUP = "hair_color"


def _read_one(**change: Any) -> tuple[Person | None, list[str]]:
    problems: list[str] = []
    found = read_segments(json.dumps({"0": {**_GOOD, **change}}), problems).people
    return (found[0] if found else None), problems


# --- segments --------------------------------------------------------------------------------------------------------


def test_what_stands_for_a_value_that_is_missing() -> None:
    assert _read_one(cls="")[0].cls == "person"  # type: ignore[union-attr]
    assert _read_one(cls=7)[0].cls == "person"  # type: ignore[union-attr]
    assert _read_one(conf="?")[0].conf == 1.0  # type: ignore[union-attr]
    assert _read_one(conf=True)[0].conf == 1.0  # type: ignore[union-attr]
    assert [_read_one(conf=value)[0].conf for value in (-0.5, 0, 0.3, 1, 1.5)] == [0, 0, 0.3, 1, 1]  # type: ignore[union-attr]
    assert _read_one(bbox=None)[0].box_xyxy_px == (0.0, 0.0, 0.0, 0.0)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("box", "is_usable"),
    [([0, 0, 0.5, 0.5], True), ([5, 0, 5, 9], False), ([0, 5, 9, 5], False), ([0, 9, 9, 5], False),
     ([1, 2, 3, 4, 5], False), ([1, 2, 3, None], False), ([None, 2, 3, 4], False), ([1, None, 3, 4], False),
     ([1, 2, None, 4], False), ([1, 2, 3, float("inf")], False), ("1234", False)],
)  # fmt: skip
def test_boxes(box: Any, is_usable: bool) -> None:
    found, problems = _read_one(bbox=box)
    assert found is not None
    assert (found.box_xyxy_px != (0.0, 0.0, 0.0, 0.0)) is is_usable
    assert [problem.code for problem in problems] == ([] if is_usable else ["database.no_usable_box"])


@pytest.mark.parametrize(
    ("outline", "points"),
    [([0, 0, 2, 0, 2, 2], 3), ([0, 0, 2.001, 0, 2, 2], None), ([0, 0, -2, 0, 2, 2], 3), ([0, 0, -2.001, 0, 2, 2], None),
     ([0, 0, 1, 0, 1], None), ([0, 0, 1, 0, 1, 1], 3), ([0, 0, 1, 0, 1, 1, 0.5], 3), ([0, 0, 1, 0, 1, 1, 0, 1], 4),
     (["0", "0", "1", "0", "1", "1"], 3), (["0", "0", "1", "0", "1", None], None), ([], None), ({}, None),
     ([[0, 0], [1, 0], [1, 1]], 3), ([[0, 0], [1, 0]], None), ([0, 0, 10**400, 0, 1, 1], None)],
)  # fmt: skip
def test_outlines(outline: Any, points: int | None) -> None:
    found, problems = _read_one(segments=[outline])
    assert found is not None
    assert [len(part) for part in found.polygons_xy_rel] == ([] if points is None else [points])
    assert (problems == []) == (points is not None and not (isinstance(outline, list) and len(outline) == 7))


def test_what_a_complaint_says() -> None:
    problems: list[DatabaseFault] = []
    read_segments(json.dumps({"x" * 30: 5, "0": {}, "b": [], "t": "a", "n": None, "f": 1.5}), problems)
    kinds = {"n": "null", "b": "a list", "t": "a text", "f": "float"}
    no_objects = [problem for problem in problems if problem.code == "database.person_not_an_object"]
    assert len(no_objects) == len(kinds) + 1
    for key, kind in {**kinds, "x" * 20: "int"}.items():
        assert any(f"'{key}' is {kind}," in problem for problem in no_objects)
    assert [problem.code for problem in problems if "'0'" in problem] == [
        "database.no_outline", "database.no_usable_box", "database.no_box_nor_outline",
    ]  # fmt: skip
    problems = []
    read_segments("5", problems)
    assert [problem.code for problem in problems] == ["database.segments_not_an_object"]
    assert " int," in problems[0]
    problems = []
    assert read_segments("[" * 100_000, problems).is_readable is False
    assert [problem.code for problem in problems] == ["database.segments_not_json"]
    problems = []
    assert read_status("y" * 50, problems) == "y" * 50
    assert [problem.code for problem in problems] == ["database.unknown_status"]
    assert f"'{'y' * 40}'" in problems[0]
    assert read_status('{"status": ["Approved "]}', []) == "approved"
    assert read_status('["approved", "rejected"]', []) == '["approved", "rejected"]'


# --- rows ------------------------------------------------------------------------------------------------------------


def test_texts_that_just_fit() -> None:
    row = row_of(PictureRecord("p" * 255, "m" * 50, "s" * 50, None))
    assert row == NewRow("p" * 255, "m" * 50, "s" * 50, None)
    for values, where in ((("p" * 256, "m", "s"), None), (("p", "m" * 51, "s"), "p"), (("p", "m", "s" * 51), "p")):
        with pytest.raises(DatabaseError) as error:
            row_of(PictureRecord(*values, None))
        assert (error.value.code, error.value.where) == ("database.too_long", where)
        longest = max(values, key=len)
        assert f"'{longest[:60]}…' has {len(longest)} signs" in error.value.what
        assert error.value.what.endswith(f" {len(longest) - 1}")


def test_options_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        PicturesDatabase(None, True)  # type: ignore[arg-type, misc]
    with pytest.raises(TypeError):
        PicturesDatabase.write_people(None, [], False)  # type: ignore[arg-type, misc]
    with pytest.raises(TypeError):
        storing._is_kept("approved", True)  # type: ignore[misc]
    with pytest.raises(TypeError):
        write_batch(None, [], False, False)  # type: ignore[arg-type, misc]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'pictures.sqlite'}"


def test_many_rows_go_in_batches_and_are_read_in_chunks(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_BATCH", 2)
    monkeypatch.setattr(queries, "CHUNK", 2)
    sizes: list[int] = []
    real = database_module.write_batch

    def counted(connection: Any, *, drafts: Any, replace: bool, overrule: bool) -> int:
        sizes.append(len(drafts))
        return real(connection, drafts=drafts, replace=replace, overrule=overrule)

    monkeypatch.setattr(database_module, "write_batch", counted)
    names = [f"{number}.jpeg" for number in range(5)]
    with PicturesDatabase.open(url) as database:
        assert database.write_people([record(name, person(seed=n)) for n, name in enumerate(names)], replace=False) == 5
        assert sizes == [2, 2, 1]
        assert list(database.records()) == names
        assert list(database.records(names[::-1])) == ["3.jpeg", "4.jpeg", "1.jpeg", "2.jpeg", "0.jpeg"]
        assert database.known_paths(names) == set(names)
        assert database.set_status(names, Status.APPROVED) == 5
        assert database.set_status([*names, "no"], Status.APPROVED) == 0
        assert database.reject([*names, "new"]).rejected == tuple(names)
        assert database.count() == 6
        assert database.forget([*names[:4], "no"]) == 4
        assert list(database.records()) == ["4.jpeg", "new"]


def test_all_rows_of_a_picture_count_once_and_go_together(url: str) -> None:
    PicturesDatabase.open(url).close()
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        for status in ("unchecked", "approved"):
            connection.execute("INSERT INTO pictures (path, model_version, status) VALUES ('a', 'm', ?)", (status,))
    connection.close()
    with PicturesDatabase.open(url) as database:
        assert database.count() == 1
        assert database.set_status(["a"], Status.APPROVED) == 1
        assert database.reject(["a"]).rejected == ("a",)
        assert database.forget(["a"]) == 2


@pytest.mark.parametrize(("rows", "more"), [(1, ""), (5, ""), (6, "; and 1 more"), (9, "; and 4 more")])
def test_problems_in_the_log(url: str, caplog: pytest.LogCaptureFixture, rows: int, more: str) -> None:
    PicturesDatabase.open(url).close()
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        for number in range(rows):
            values = (f"{number}", "m", "approved", "[5]")
            connection.execute(
                "INSERT INTO pictures (path, model_version, status, segments) VALUES (?, ?, ?, ?)", values
            )
    connection.close()
    with PicturesDatabase.open(url) as database, caplog.at_level(logging.WARNING, logger="cls"):
        database.records()
        assert len(database.problems) == rows
        assert database.problems[0] == "row 1 (0): person '0' is int, not an object"
    message = caplog.messages[0]
    assert message.startswith(f"pictures database: {rows} row{'s' * (rows > 1)} not whole: row 1 (0): person")
    assert message.count(" | ") == min(rows, 5) - 1
    assert message.endswith(f"not an object{more}")
    assert repr(database) == f"PicturesDatabase({url})"


# --- engines and failures --------------------------------------------------------------------------------------------


def test_an_sqlite_connection(url: str, tmp_path: Path) -> None:
    engine = make_engine(parse_url(url))
    with engine.connect() as connection:
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
        assert connection.scalar(text("PRAGMA busy_timeout")) == 30_000
    assert empty_free_space(engine) is True
    with engine.connect() as connection:
        assert connection.scalar(text("PRAGMA busy_timeout")) == 30_000
    engine.dispose()
    assert is_absent(parse_url(url)) is False
    assert is_absent(parse_url(f"sqlite:///{tmp_path / 'none' / 'x.sqlite'}")) is True
    assert is_absent(parse_url(f"sqlite:///{tmp_path / 'pictures.sqlite' / 'x.sqlite'}")) is True
    assert is_absent(parse_url("postgresql://h/d")) is False
    make_sqlite_folder(parse_url("postgresql://h/d"))
    make_sqlite_folder(parse_url(f"sqlite:///{tmp_path / 'one' / 'two' / 'x.sqlite'}"))
    assert (tmp_path / "one" / "two").is_dir()


def test_a_postgresql_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def connect(*_: Any, **options: Any) -> None:
        asked.append(options)
        raise psycopg.OperationalError("refused")

    monkeypatch.setattr(psycopg, "connect", connect)
    for query, timeout in (("", "10"), ("?connect_timeout=3", "3")):
        engine = make_engine(parse_url(f"postgresql://u:p@h/d{query}"))
        assert engine.pool.size() == 2  # type: ignore[attr-defined]
        assert engine.hide_parameters is True
        with pytest.raises(OperationalError):
            engine.connect()
        options = asked.pop()
        assert str(options["connect_timeout"]) == timeout
        assert (options["client_encoding"], options["application_name"]) == ("utf8", "cls")
        assert options["prepare_threshold"] is None
        assert (options["keepalives_idle"], options["tcp_user_timeout"]) == ("60", "120000")


def test_urls() -> None:
    assert parse_url("sqlite+pysqlite:///a b?c.sqlite").database == "a b?c.sqlite"
    assert parse_url("sqlite:////srv/x.sqlite").database == "/srv/x.sqlite"
    hidden = redacted_url(parse_url("postgresql://u:secret@h/d?sslmode=x&sslPassword=concealed"))
    assert not any(word in hidden for word in ("secret", "concealed"))
    assert "***@h/d" in hidden
    assert "sslmode=x" in redacted_url(parse_url("postgresql://u@h/d?sslmode=x"))


class _FailureError(Exception):
    def __init__(self, message: str, state: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = state


@pytest.mark.parametrize(
    ("message", "state", "line", "code"),
    [
        ("a\nconnection failed: b\nc", None, "connection failed: b", "unusable"),
        ("a\nan Error here\nc", None, "an Error here", "unusable"),
        ("  first  \nsecond", None, "first", "unusable"),
        ("", None, "it failed without a message", "unusable"),
        ("connection refused for pass77", None, "connection refused for ***", "unreachable"),
        ("role \"x\" does not exist", None, 'role "x" does not exist', "login_refused"),
        ("database \"x\" does not exist", None, 'database "x" does not exist', "database_not_found"),
        ("connection refused", "42501", "connection refused", "missing_rights"),
        ("x", "25006", "x", "read_only_server"),
        ("x", "23505", "x", "duplicate_key"),
        ("x", "53300", "x", "too_many_connections"),
        ("x", "42P01", "x", "table_not_found"),
        ("x", "3D000", "x", "database_not_found"),
        ("x", "28P01", "x", "login_refused"),
        ("x", "28000", "x", "access_denied"),
        ("disk is full", "99999", "disk is full", "no_space"),
        ("No space left", None, "No space left", "no_space"),
        ("database is locked", None, "database is locked", "locked"),
        ("readonly database", None, "readonly database", "unwritable"),
        ("connect timeout", None, "connect timeout", "timeout"),
        ("could not resolve host", None, "could not resolve host", "host_not_found"),
    ],
)  # fmt: skip
def test_a_failure_in_one_line(message: str, state: str | None, line: str, code: str) -> None:
    url = parse_url("postgresql://anna:pass77@h/d?sslpassword=pass88")
    with pytest.raises(DatabaseError) as error, expected_failures(url):
        raise OperationalError("SELECT", {}, _FailureError(message, state))
    assert error.value.what.endswith(f": {line}")
    assert error.value.code == f"database.{code}"
    assert error.value.hint
    assert (" on the server" in error.value.hint) is (code == "database_not_found" or message == "No space left")
    assert "***@h/d" in str(error.value.where)
    with pytest.raises(DatabaseError) as error, expected_failures(url):
        raise OperationalError("SELECT", {}, _FailureError("so pass88 it is"))
    assert "pass88" not in error.value.line()


def test_what_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    def failure(state: str | None = None, error: type[Exception] = _FailureError, **values: Any) -> OperationalError:
        origin = error("x") if error is not _FailureError else _FailureError("x", state)
        return OperationalError("SELECT", {}, origin, **values)

    judge = TransactionRetry()
    conflict = IntegrityError("INSERT", {}, _FailureError("x"))
    assert [judge(conflict) for _ in range(4)] == [True, True, False, False]
    assert judge(ValueError("x")) is False
    assert [judge(failure(state)) for state in ("40P01", "40001", "57P01", "57P02", "57P03")] == [True] * 5
    assert [judge(failure(state)) for state in ("42501", "23505", None)] == [False] * 3
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="cls"):
        assert judge(failure("42501")) is False
        assert caplog.messages == []
        assert judge(failure(error=psycopg.OperationalError)) is True
        assert [record.args for record in caplog.records] == [("x",)]
    assert judge(failure("42501", connection_invalidated=True)) is True


# --- badlists --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "name"),
    [("'a b.jpeg'", "a b.jpeg"), ("''", ""), ('"', '"'), ("'a.jpeg\"", "'a.jpeg\""), ("(a)", "(a)"),
     ("d\\e/f.jpeg ", "f.jpeg"), ("aa", "aa"), ("", ""), ("folder/", "")],
)  # fmt: skip
def test_a_name_in_a_line(line: str, name: str) -> None:
    assert picture_named(line) == name


def test_where_a_list_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"a\nb\nc\xff\n")
    with pytest.raises(FileError) as caught:
        read_badlist(tmp_path / "list")
    assert (caught.value.code, caught.value.where) == ("file.not_utf8", f"{tmp_path / 'list'}:3")
    (tmp_path / "list").write_bytes("é\na\n".encode("utf-16-be").join([b"\xfe\xff", b""]))
    assert read_badlist(tmp_path / "list") == ["é", "a"]


# --- galleries -------------------------------------------------------------------------------------------------------


def _rectangle(left: float, top: float, right: float, bottom: float, **values: Any) -> Person:
    outline = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return Person("female", 0.876, (left * 400, top * 300, right * 400, bottom * 300), (outline,), **values)


@pytest.fixture
def filled(bottle: Bottle) -> Callable[..., GroupDataset]:
    """Fills the bottle: photos of 400x300 in one colour, and who is in each."""

    def fill(people: dict[str, tuple[Person, ...]]) -> GroupDataset:
        bottle.pictures.mkdir(parents=True, exist_ok=True)
        for name in people:
            image = np.full((300, 400, 3), (10, 60, 200), np.uint8)
            cv2.imwrite(str(bottle.picture(name)), image)
        rows = [LabelledRow(name, (float(n > 0), 1.0), "set") for n, name in enumerate(people)]
        write_dataset(bottle.dataset_file(GROUP), GroupDataset(GROUP, ("black", "long"), tuple(rows)))
        with PicturesDatabase.open(bottle.database_url) as database:
            database.write_people([record(name, *found) for name, found in people.items()], replace=True)
        return read_dataset(bottle.dataset_file(GROUP), GROUP)

    return fill


def test_the_smallest_gallery_size() -> None:
    assert GalleryConfig(size_px=32).size_px == 32
    with pytest.raises(UsageError) as caught:
        GalleryConfig(size_px=31)
    assert caught.value.code == "usage.invalid_options"
    assert all(number in caught.value.what for number in ("32", "31"))


def test_sizes_and_colours_of_cut_outs(bottle: Bottle, filled: Callable[..., GroupDataset]) -> None:
    filled({"a.png": (_rectangle(0.1, 0.1, 0.6, 0.3),), "b.png": (_rectangle(0.1, 0.1, 0.3, 0.9),)})
    build_gallery(bottle, GROUP, GalleryConfig())
    shapes = {name: cv2.imread(str(bottle.masks(GROUP) / f"{name}_0.png"), cv2.IMREAD_UNCHANGED) for name in "ab"}
    wide, high = shapes["a"].shape[:2], shapes["b"].shape[:2]
    assert 200 <= wide[1] < 260 and 60 <= wide[0] < 100  # noqa: PT018 - as it is in the photo, with a margin
    assert shapes["a"][wide[0] // 2, wide[1] // 2].tolist() == [10, 60, 200, 255]
    build_gallery(bottle, GROUP, GalleryConfig(size_px=100, format="jpg"))
    for name, shape in (("a", wide), ("b", high)):
        image = cv2.imread(str(bottle.masks(GROUP) / f"{name}_0.jpg"))
        scale = 100 / max(shape)
        assert image.shape[:2] == (round(shape[0] * scale), round(shape[1] * scale))
        assert max(image.shape) == 100
        middle = image[image.shape[0] // 2, image.shape[1] // 2].astype(int)
        assert np.abs(middle - [10, 60, 200]).max() <= 8
    cut = cv2.imread(str(bottle.masks(GROUP) / "b_0.jpg"))
    assert np.abs(cut[0, 0].astype(int) - 128).max() <= 30


def test_what_a_cut_out_is_made_from(bottle: Bottle, filled: Callable[..., GroupDataset]) -> None:
    one = _rectangle(0.1, 0.1, 0.6, 0.3)
    dataset = filled({"a.png": (one,)})

    def key(config: GalleryConfig = GalleryConfig()) -> str:  # noqa: B008 - frozen
        from collections import Counter

        (mask,) = plan_cutouts(bottle, dataset, config, Counter())
        assert len(mask.key) == 24
        return mask.key

    first = key()
    assert key() == first
    keys = {first, key(GalleryConfig(size_px=100))}
    with PicturesDatabase.open(bottle.database_url) as database:
        for other in (
            _rectangle(0.1, 0.1, 0.6, 0.31),
            Person("female", 0.9, one.box_xyxy_px, (one.polygons_xy_rel[0],) * 2),
        ):
            database.write_people([record("a.png", other)], replace=True)
            keys.add(key())
    cv2.imwrite(str(bottle.picture("a.png")), np.zeros((300, 400, 3), np.uint8))
    keys.add(key())
    assert len(keys) == 5


def test_the_sheet_shows_labels_ids_and_counts(bottle: Bottle, filled: Callable[..., GroupDataset]) -> None:
    filled(
        {"a.png": (_rectangle(0.1, 0.1, 0.6, 0.3, id="pone"),), "b.png": (_rectangle(0.1, 0.1, 0.3, 0.9, id="ptwo"),)}
    )
    build_gallery(bottle, GROUP, GalleryConfig())
    page = (bottle.masks(GROUP) / "index.html").read_text()
    assert '<article data-labels="2" data-picture="a.png">' in page
    assert '<article data-labels="1 2" data-picture="b.png">' in page
    assert 'alt="person pone of a.png"' in page
    assert 'title="b.png, person ptwo"' in page
    assert "female 88%" in page
    assert page.count('<span class="count">1</span>') == 1  # black
    assert page.count('<span class="count">2</span>') == 2  # long, and everyone
    assert page.count('<span class="count">0</span>') == 1
    assert "<b>2</b> people cut out of <b>2</b>" in " ".join(page.split())
    assert "--hue: oklch(0.66 0.15 25)" in page
    assert "--hue: oklch(0.66 0.15 162)" in page
    assert '<span class="chip" style="--hue: oklch(0.66 0.15 25)">black</span>' in page
    assert 'aria-label="pages"' not in page


def test_leftovers_of_a_kill_are_removed_and_the_journal_is_shortened(
    bottle: Bottle, filled: Callable[..., GroupDataset]
) -> None:
    filled({"a.png": (_rectangle(0.1, 0.1, 0.6, 0.3),)})
    build_gallery(bottle, GROUP, GalleryConfig())
    folder = bottle.masks(GROUP)
    (folder / ".a_0.png.7-ab.part").write_bytes(b"cut")
    journal = folder / JOURNAL_NAME
    journal.write_text(journal.read_text() * 3)
    report = build_gallery(bottle, GROUP, GalleryConfig())
    assert (report.made, report.kept, report.removed) == (0, 1, 0)
    assert not list(folder.glob("*.part")) + list(folder.glob(".*.part"))
    GalleryJournal(folder)
    assert len(journal.read_text().splitlines()) == 2
    opened = GalleryJournal(folder)
    assert opened.files == ("a_0.png", "index.html")
    assert (opened.is_ours("a_0.png"), opened.is_ours("b"), opened.is_made("a_0.png", "")) == (True, False, False)
    opened.claim(["b", "c"])
    assert (opened.is_ours("b"), opened.is_made("b", "")) == (True, False)
    opened.finish("b", "key")
    assert opened.is_made("b", "key")
    opened.forget(["a_0.png", "never"])
    assert opened.files == ("index.html", "b", "c")
    assert len(journal.read_text().splitlines()) == 3
    opened.finish("d", "x")
    assert json.loads(journal.read_text().splitlines()[-1]) == {"file": "d", "key": "x"}


def test_the_report_of_a_gallery(tmp_path: Path) -> None:
    report = GalleryReport(tmp_path, [tmp_path / "index.html"], made=2, kept=1)
    assert list(report_lines(report)) == [
        f"3 cut-outs in {tmp_path}: 2 made, 1 were there", f"look at them: {tmp_path / 'index.html'}",
    ]  # fmt: skip
    report.removed = 4
    report.left_out.update({"rejected": 1, "nobody found": 2})
    report.failed = {f"{number}.png": "is empty" for number in range(7)}
    report.foreign = ["mine.png"]
    assert list(report_lines(report))[1:-1] == [
        "  4 of an earlier run removed: their people are not chosen any more",
        "  2 pictures left out: nobody found",
        "  1 picture left out: rejected",
        *(f"  {number}.png left out: is empty" for number in range(5)),
        "  and 2 more pictures that cannot be read",
        "  mine.png was not made by this command and is left unchanged",
    ]
    report.failed.popitem()
    report.failed.popitem()
    assert not any("more picture" in line for line in report_lines(report))


def test_a_journal_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_NAME).mkdir()
    with pytest.raises(FileError) as error:
        GalleryJournal(tmp_path)
    assert (error.value.code, error.value.where) == ("file.unreadable", str(tmp_path / JOURNAL_NAME))


def test_how_long_a_transaction_is_tried(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    real = database_module.stamina.retry_context
    monkeypatch.setattr(
        database_module.stamina, "retry_context", lambda **given: (asked.append(given), real(**given))[1]
    )
    with PicturesDatabase.open(url) as database:
        assert database.count() == 0
    given = asked[0]
    assert (given["attempts"], given["timeout"], given["wait_initial"]) == (10, 60.0, 0.2)
    assert isinstance(given["on"], TransactionRetry)


def test_a_transaction_holds_a_thousand_rows(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(
        database_module, "write_batch", lambda _, drafts, **given: sizes.append(len(drafts)) or len(drafts)
    )
    with PicturesDatabase.open(url) as database:
        assert database.write_people([record(f"{number}") for number in range(2001)], replace=False) == 2001
    assert sizes == [1000, 1000, 1]
