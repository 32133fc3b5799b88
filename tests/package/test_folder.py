from __future__ import annotations

from pathlib import Path

import pytest

from cls.package.packing import atomic_folder


def write(folder: Path, text: str) -> None:
    with atomic_folder(folder) as staged:
        (staged / "a").write_text(text)


def test_a_folder_takes_the_place_of_another_whole(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write(folder, "one")
    (folder / "left over").write_text("")
    write(folder, "two")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a": "two"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_failure_leaves_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write(folder, "one")
    with pytest.raises(RuntimeError), atomic_folder(folder) as staged:
        (staged / "a").write_text("two")
        raise RuntimeError
    assert (folder / "a").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_a_kill_left_is_mended(tmp_path: Path) -> None:
    # A kill between the two renames of a system without an exchange.
    (tmp_path / ".model.old").mkdir()
    (tmp_path / ".model.old" / "a").write_text("one")
    (tmp_path / ".model.1-ff.part").mkdir()
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "model"):
        raise RuntimeError
    assert (tmp_path / "model" / "a").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
