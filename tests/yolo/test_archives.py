from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from cls.errors import YoloError
from cls.yolo.coco import list_archives, open_archives
from tests.yolo.zips import annotation, picture, write_zip


def good(path: Path) -> Path:
    return write_zip(path, {"a.jpg": picture(1)}, {"a.jpg": [annotation()]})


@pytest.mark.parametrize("name", ["../out.jpg", "/etc/out.jpg", "images/../../out.jpg", "C:/out.jpg", "..\\out.jpg"])
def test_a_zip_that_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = good(tmp_path / "bad.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(YoloError) as caught:
        open_archives([path])
    assert caught.value.code == "yolo.path_traversal"
    assert str(path) in caught.value.what
    assert [file.name for file in tmp_path.iterdir()] == ["bad.zip"]


def test_a_link_is_refused(tmp_path: Path) -> None:
    path = good(tmp_path / "bad.zip")
    info = zipfile.ZipInfo("images/link.jpg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(YoloError) as caught:
        open_archives([path])
    assert caught.value.code == "yolo.symbolic_link"


def test_every_bad_archive_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    whole = good(tmp_path / "cut.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-30])
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with zipfile.ZipFile(tmp_path / "json.zip", "w") as archive:
        archive.writestr("annotations/instances_default.json", "{")
    good(tmp_path / "good.zip")
    with pytest.raises(YoloError) as caught:
        open_archives(list_archives(tmp_path))
    assert caught.value.code == "yolo.several_problems"
    for name in ("text.zip", "cut.zip", "empty.zip", "json.zip"):
        assert name in caught.value.line()
    assert "good.zip" not in caught.value.line()


def test_folders_without_archives_are_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(YoloError) as caught:
        list_archives(tmp_path)
    assert (caught.value.code, caught.value.where) == ("yolo.no_archives", str(tmp_path))
    with pytest.raises(YoloError) as caught:
        list_archives(tmp_path / "missing")
    assert (caught.value.code, caught.value.where) == ("yolo.not_found", str(tmp_path / "missing"))


@pytest.mark.parametrize("root", ["", "task 1/", "a/b/"])
def test_pictures_are_found_below_any_root(tmp_path: Path, root: str) -> None:
    path = write_zip(tmp_path / "x.zip", {"sub/a.jpg": picture(1)}, {"sub/a.jpg": []}, root=root)
    (archive,) = open_archives([path])
    ((found, _),) = archive.files.items()
    assert archive.member_of(found, "sub/a.jpg") == f"{root}images/sub/a.jpg"
    assert archive.member_of(found, "b.jpg") is None


def damage(path: Path, member: str) -> None:
    """Overwrites the start of a member's compressed bytes, so that they cannot be inflated."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
        content = {each.filename: archive.read(each) for each in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
        info = archive.getinfo(member)
    raw = bytearray(path.read_bytes())
    start = info.header_offset + 30 + len(info.filename.encode())
    raw[start : start + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(raw)


def test_annotations_that_cannot_be_inflated_are_named(tmp_path: Path) -> None:
    path = good(tmp_path / "a.zip")
    damage(path, "annotations/instances_default.json")
    with pytest.raises(YoloError) as caught:
        open_archives([path])
    assert caught.value.code == "yolo.not_a_zip"
    assert str(path) in caught.value.line()
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


def test_a_picture_that_cannot_be_inflated_is_named(tmp_path: Path) -> None:
    path = good(tmp_path / "a.zip")
    with zipfile.ZipFile(path) as archive:
        member = next(name for name in archive.namelist() if name.startswith("images/"))
    damage(path, member)
    (archive_read,) = open_archives([path])
    with zipfile.ZipFile(path) as opened, pytest.raises(YoloError) as caught:
        archive_read.read(opened, member)
    assert (caught.value.code, caught.value.where) == ("yolo.unpack_failed", f"{path}!{member}")
