"""Files appear whole or not at all; any text names a folder of its own."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cls.errors import FileError
from cls.files import (
    atomic_path,
    locked,
    parse_yaml,
    read_json,
    read_yaml,
    remove_parts,
    safe_name,
    sha256_of_bytes,
    sha256_of_file,
    text_of_safe_name,
    write_bytes_atomic,
    write_json_atomic,
    write_text_atomic,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_file_replaces_an_older_one_whole(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "file.bin"
    write_bytes_atomic(file, b"one")
    write_bytes_atomic(file, b"two")
    assert file.read_bytes() == b"two"
    assert names(file.parent) == ["file.bin"]


def test_a_failure_leaves_the_older_file(tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    write_text_atomic(file, "older")
    with pytest.raises(ZeroDivisionError), atomic_path(file) as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert file.read_text() == "older"
    assert names(tmp_path) == ["file.txt"]


def test_a_killed_writer_leaves_no_half_file(tmp_path: Path) -> None:
    file = tmp_path / "file.bin"
    program = (
        "import sys, time; from pathlib import Path; from cls.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as part:\n"
        "    part.write_bytes(b'half'); print('written', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(file)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"written\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    assert not file.exists()
    assert len(names(tmp_path)) == 1
    assert remove_parts(tmp_path, "other.bin") == 0
    assert remove_parts(tmp_path, "file.bin") == 1
    assert names(tmp_path) == []


def test_remove_parts_leaves_everything_else(tmp_path: Path) -> None:
    for name in (".hidden", "a.part", ".a.jpeg.1-ab.part", ".[b].jpeg.1-ab.part", "a.jpeg"):
        (tmp_path / name).write_text("")
    assert remove_parts(tmp_path, "[b].jpeg") == 1
    assert remove_parts(tmp_path) == 1
    assert names(tmp_path) == [".hidden", "a.jpeg", "a.part"]
    assert remove_parts(tmp_path / "none") == 0


def test_what_cannot_be_written_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for file in (tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        with pytest.raises(FileError) as caught:
            write_bytes_atomic(file, b"")
        assert (caught.value.code, caught.value.where) == ("file.unwritable", str(file))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_and_a_full_quota_have_a_code_of_their_own(tmp_path: Path, number: int) -> None:
    with pytest.raises(FileError) as caught, atomic_path(tmp_path / "file"):
        raise OSError(number, os.strerror(number))
    assert (caught.value.code, caught.value.where) == ("file.no_space", str(tmp_path / "file"))
    assert names(tmp_path) == []


def test_a_file_where_a_folder_belongs_names_the_file_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError) as caught:
        write_bytes_atomic(tmp_path / "file" / "far" / "below", b"")
    assert (caught.value.code, caught.value.where) == ("file.unwritable", str(tmp_path / "file" / "far" / "below"))


@pytest.mark.parametrize("name", ["é" * 120, "\N{EYES}" * 63, "x" * 255])
def test_long_names_in_any_alphabet(tmp_path: Path, name: str) -> None:
    write_bytes_atomic(tmp_path / name, b"content")
    assert names(tmp_path) == [name]


def test_errors_of_other_files_are_not_explained_away(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "file"):
        (tmp_path / "none").read_bytes()


def test_a_folder_in_the_way_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(FileError) as caught:
        write_bytes_atomic(tmp_path / "file", b"")
    assert caught.value.code == "file.unwritable"
    assert names(tmp_path) == ["file"]


@given(JSON)
def test_json_is_read_as_it_was_written(value: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "v.json"
        write_json_atomic(file, value)
        assert read_json(file) == value


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_json_atomic(tmp_path / "v.json", float("nan"))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "code", "where"),
    [
        (b"{\n oh", "file.not_json", "v.json:2:2"),
        (b"\xff", "file.unreadable", "v.json"),
        (b"", "file.not_json", "v.json:1:1"),
        (b"[" * 100_000, "file.not_json", "v.json"),
    ],
)
def test_what_is_not_json_is_told_with_its_place(tmp_path: Path, content: bytes, code: str, where: str) -> None:
    (tmp_path / "v.json").write_bytes(content)
    with pytest.raises(FileError) as caught:
        read_json(tmp_path / "v.json")
    assert (caught.value.code, caught.value.where) == (code, str(tmp_path / where))


def test_json_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_bytes(b"\xef\xbb\xbf{}")
    assert read_json(tmp_path / "v.json") == {}


def test_missing_json(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        read_json(tmp_path / "v.json")
    assert (caught.value.code, caught.value.where) == ("file.not_found", str(tmp_path / "v.json"))


def aliases(levels: int, each: int) -> str:
    """A YAML text whose last list holds `each ** levels` texts."""
    lists = [f"- &a{n + 1} [{', '.join([f'*a{n}'] * each)}]" for n in range(levels)]
    return "\n".join(["- &a0 x", *lists])


def test_yaml_with_aliases_is_read(tmp_path: Path) -> None:
    (tmp_path / "v.yaml").write_text(aliases(2, 3) + "\n- {<<: &m {n: 1.5}, k: *m, on: 0x1F}\n")
    three = ["x"] * 3
    assert read_yaml(tmp_path / "v.yaml") == ["x", three, [three] * 3, {"n": 1.5, "k": {"n": 1.5}, True: 31}]
    assert parse_yaml("", "v") is None


@pytest.mark.parametrize(
    ("content", "code", "place"),
    [
        (aliases(9, 9), "too_large", ""),
        (aliases(60, 1), "not_yaml", ""),
        ("- &a [*a]", "not_yaml", ""),
        ("- &a {k: [*a, *a]}", "not_yaml", ""),
        ("- &a {k: v}\n" + "\n".join(f"- &a{n} {{<<: [*a, *a], k{n}: *a}}" for n in range(9)), None, ""),
        ("- &a0 {k: v}\n" + "".join(f"- &a{n + 1} {{<<: [{f'*a{n},' * 9}]}}\n" for n in range(9)), "too_large", ""),
        ("[" * 51 + "]" * 51, "not_yaml", ""),
        ("[" * 50 + "]" * 50, None, ""),
        ("[" * 100_000, "not_yaml", ""),
        ("1" + ":1" * 100_000, "not_yaml", ""),
        ("#" * 2**20 + "\n", "too_large", ""),
        ("{a: 1, b: [{c: 1, 'c': 2}]}", "duplicate_key", ":1:19"),
        ("!!int ''", "not_yaml", ""),
        ("!!bool maybe", "not_yaml", ""),
        ("2026-13-45", "not_yaml", ""),
        ("!!python/object:os.system x", "not_yaml", ":1:1"),
        ("a: 1\n\x00", "not_yaml", ""),
        ("\xff", "unreadable", ""),
    ],
)  # fmt: skip
def test_yaml_has_bounds(tmp_path: Path, content: str, code: str | None, place: str) -> None:
    (tmp_path / "v.yaml").write_bytes(content.encode("latin-1"))
    started_s = time.monotonic()
    if code is None:
        read_yaml(tmp_path / "v.yaml")
    else:
        with pytest.raises(FileError) as caught:
            read_yaml(tmp_path / "v.yaml")
        assert (caught.value.code, caught.value.where) == (f"file.{code}", f"{tmp_path / 'v.yaml'}{place}")
    assert time.monotonic() - started_s < 10


def test_missing_yaml(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        read_yaml(tmp_path / "v.yaml")
    assert (caught.value.code, caught.value.where) == ("file.not_found", str(tmp_path / "v.yaml"))


def test_digests(tmp_path: Path) -> None:
    content = os.urandom(100_000)
    (tmp_path / "f").write_bytes(content)
    assert sha256_of_file(tmp_path / "f") == sha256_of_bytes(content) == hashlib.sha256(content).hexdigest()


@given(TEXT)
@example("..")
@example(".")
@example("/etc/passwd")
@example("a/../../b")
@example("NUL")
@example("con.txt")
@example("é" * 300)
@example("\x00")
@example(" . ")
@example("~")
@example("\x1f.")
@example("волосы / цвет")
def test_any_text_names_a_folder(text: str) -> None:
    name = safe_name(text)
    assert name not in ("", ".", "..")
    assert not set(name) & set('/\\:*?"<>|\0\n\r')
    assert name[0] not in ". -"
    assert name[-1] not in ". "
    assert len(name.encode()) <= 200
    if "~" not in name:
        assert text_of_safe_name(name) == text


@given(TEXT, TEXT)
@example("a b", "a%20b")
@example("%2F", "/")
@example("con", "%63on")
@example("é" * 300, "é" * 301)
def test_different_texts_name_different_folders(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)


@pytest.mark.parametrize("text", ["hair_color", "top color", "hat", "accessories", "причёска", "B 'c'", "a+b, c=d"])
def test_plain_names_stay_as_they_are(text: str) -> None:
    assert safe_name(text) == text


def test_an_empty_text_names_nothing() -> None:
    with pytest.raises(FileError) as caught:
        safe_name("")
    assert caught.value.code == "file.empty_name"


@given(TEXT)
def test_a_folder_of_the_name_can_be_made(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / safe_name(text)).mkdir()
        write_json_atomic(Path(folder) / f"{safe_name(text)}.json", {})


def test_writing_many_files_is_quick(tmp_path: Path) -> None:
    started_s = time.monotonic()
    for number in range(100):
        write_text_atomic(tmp_path / str(number), json.dumps(number))
    assert time.monotonic() - started_s < 10


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    path, busy = tmp_path / "folder" / ".lock", FileError("somebody works here", code="in_use")
    with locked(path, busy), pytest.raises(FileError) as error, locked(path, busy):
        pass
    assert error.value is busy

    def take() -> bool:
        with locked(path):
            return True

    with ThreadPoolExecutor(1) as pool:
        with locked(path):
            waiting = pool.submit(take)
            assert wait([waiting], 0.3).not_done
        assert waiting.result(timeout=10)


def test_a_lock_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError) as error, locked(tmp_path / "file" / ".lock"):
        pass
    assert error.value.code == "file.unwritable"
