"""Pictures sorted into folders: nothing is lost with what is taken away."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from cls.errors import FileError
from cls.prediction.writing import NO_LABEL, FolderSorter


def sort(into: Path, placed: dict[Path, tuple[str, ...]], *, origin: Path | None = None) -> FolderSorter:
    sorter = FolderSorter(into)
    for file, labels in placed.items():
        sorter.place(file, file.name, labels, origin=origin)
    sorter.finish()
    return sorter


def there(into: Path) -> dict[str, bytes]:
    return {
        path.relative_to(into).as_posix(): path.read_bytes()
        for path in sorted(into.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def photo(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def test_a_picture_moves_to_the_folders_of_its_labels(tmp_path: Path) -> None:
    one = photo(tmp_path / "day1", "1.jpg", b"one")
    into = tmp_path / "sorted"
    sort(into, {one: ("hat", "scarf")})
    again = sort(into, {one: ()})
    assert there(into) == {f"{NO_LABEL}/1.jpg": b"one"}
    assert (again.placed, again.removed) == (1, 2)
    assert not (into / "hat").exists()


def test_pictures_of_another_day_stay_also_when_they_are_all_that_is_left(tmp_path: Path) -> None:
    into = tmp_path / "sorted"
    one = photo(tmp_path / "day1", "1.jpg", b"one")
    sort(into, {one: ("hat",)})
    one.unlink()
    two = photo(tmp_path / "day2", "2.jpg", b"two")
    assert sort(into, {two: ("hat",)}).removed == 0
    assert there(into) == {"hat/1.jpg": b"one", "hat/2.jpg": b"two"}
    # What stays is still known as ours.
    one.write_bytes(b"one")
    sort(into, {one: ("scarf",)})
    assert there(into) == {"hat/2.jpg": b"two", "scarf/1.jpg": b"one"}


@pytest.mark.parametrize("folder", ["day2", "day1"])
def test_another_photo_of_the_same_name_takes_nothing_away(tmp_path: Path, folder: str) -> None:
    """Cameras begin to count again, also into the same folder."""
    into = tmp_path / "sorted"
    one = photo(tmp_path / "day1", "1.jpg", b"one")
    sort(into, {one: ("hat",)})
    one.unlink()
    other = photo(tmp_path / folder, "1.jpg", b"another")
    again = sort(into, {other: ("hat",)})
    assert there(into) == {"hat/1.jpg": b"one"}
    assert again.blocked == ["hat/1.jpg"]
    assert sort(into, {other: ("scarf",)}).removed == 0
    assert there(into) == {"hat/1.jpg": b"one", "scarf/1.jpg": b"another"}


def test_frames_that_are_not_looked_at_any_more_go(tmp_path: Path) -> None:
    into, video = tmp_path / "sorted", photo(tmp_path, "clip.avi", b"clip")
    frames = [photo(tmp_path / "parts", f"{number}.jpg", b"%d" % number) for number in range(3)]
    sort(into, dict.fromkeys(frames, ("hat",)), origin=video)
    for frame in frames:
        frame.unlink()
    frames[0].write_bytes(b"0, encoded again")
    sort(into, {frames[0]: ("hat",)}, origin=video)
    assert there(into) == {"hat/0.jpg": b"0, encoded again"}


def test_a_list_of_an_older_version_is_read(tmp_path: Path) -> None:
    into, one = tmp_path / "sorted", photo(tmp_path / "day1", "1.jpg", b"one")
    sort(into, {one: ("hat",)})
    (file,) = into.glob(".*.jsonl")
    place, state, *_ = json.loads(file.read_text())
    file.write_text(json.dumps([place, state]) + "\n[damaged\n")
    sort(into, {one: ("scarf",)})
    assert there(into) == {"scarf/1.jpg": b"one"}


def test_a_label_called_as_the_folder_of_those_without(tmp_path: Path) -> None:
    into = tmp_path / "sorted"
    one, two = (photo(tmp_path / "day1", f"{name}.jpg", name.encode()) for name in ("one", "two"))
    sort(into, {one: (NO_LABEL,), two: ()})
    assert there(into) == {f"{NO_LABEL} (label)/one.jpg": b"one", f"{NO_LABEL}/two.jpg": b"two"}


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        FolderSorter(photo(tmp_path, "sorted", b""))
    assert (caught.value.code, caught.value.where) == ("file.unwritable", str(tmp_path / "sorted"))
    assert "--sort-into" in (caught.value.hint or "")


def test_a_label_whose_folder_is_a_file(tmp_path: Path) -> None:
    into = tmp_path / "sorted"
    into.mkdir()
    (into / "hat").write_text("mine")
    with pytest.raises(FileError) as caught:
        sort(into, {photo(tmp_path / "day1", "1.jpg", b"one"): ("hat",)})
    assert (caught.value.code, caught.value.where) == ("file.unwritable", str(into / "hat" / "1.jpg"))
    assert (into / "hat").read_text() == "mine"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_has_a_code_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("cls.prediction.writing._link", full)
    into = tmp_path / "sorted"
    with pytest.raises(FileError) as caught:
        sort(into, {photo(tmp_path / "day1", "1.jpg", b"one"): ("hat",)})
    assert (caught.value.code, caught.value.where) == ("file.no_space", str(into / "hat" / "1.jpg"))
