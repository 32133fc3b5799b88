"""How much is taken from a zip that somebody else made, to the byte; and how one of ours is written."""

from __future__ import annotations

import random
import re
import stat
import zipfile
from pathlib import Path

import pytest

from cls.errors import PackageError
from cls.package.archive import (
    MODEL_NAMES,
    ReadLimits,
    config_text_of,
    missing_at_root,
    open_package,
    open_zip,
    pack_files,
)

MIB = 1 << 20


def zip_of(folder: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder / "a.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def refusal(path: Path, limits: ReadLimits | None = None) -> tuple[str, str]:
    """The code of what is said of a zip, and what is said; both empty where it is taken."""
    try:
        with open_zip(path, limits):
            return "", ""
    except PackageError as error:
        return error.code, error.what


def test_the_limits() -> None:
    assert ReadLimits() == ReadLimits(files=1000, total_bytes=8 * 1024**3, text_bytes=16 * 1024**2, ratio=200)
    assert MODEL_NAMES == ("model.onnx", "model.plan", "model.pt", "model.xml")


def test_the_number_of_files(tmp_path: Path) -> None:
    path = zip_of(tmp_path, {"a": b"", "b": b"", "folder/": b"", "folder/c": b""})
    assert refusal(path, ReadLimits(files=3)) == ("", "")
    code, what = refusal(path, ReadLimits(files=2))
    assert code == "package.too_many_files"
    assert re.findall(r"\d+", what) == ["3", "2"]


def test_the_bytes_of_all_files(tmp_path: Path) -> None:
    path = zip_of(tmp_path, {"a": bytes(60), "b": bytes(40)})
    assert refusal(path, ReadLimits(total_bytes=100)) == ("", "")
    code, what = refusal(path, ReadLimits(total_bytes=99))
    assert code == "package.too_large"
    assert re.findall(r"\d+", what) == ["100", "99"]


def test_the_bytes_of_a_text(tmp_path: Path) -> None:
    path = zip_of(tmp_path, {"meta.json": bytes(100)})
    with open_zip(path, ReadLimits(text_bytes=100)) as contents:
        assert contents.read_text_bytes("meta.json") == bytes(100)
    with open_zip(path, ReadLimits(text_bytes=99)) as contents:
        assert contents.read("meta.json") == bytes(100)
        with pytest.raises(PackageError) as caught:
            contents.read_text_bytes("meta.json")
        assert caught.value.code == "package.too_large"
        assert "99 bytes" in caught.value.what
    assert caught.value.where == f"{path}!meta.json"


def test_the_ratio_counts_above_a_mebibyte(tmp_path: Path) -> None:
    assert refusal(zip_of(tmp_path, {"a": bytes(MIB)})) == ("", "")
    code, what = refusal(zip_of(tmp_path, {"a": bytes(MIB + 1)}))
    assert code == "package.too_large"
    assert "'a'" in what
    assert "200 times" in what
    assert refusal(zip_of(tmp_path, {"a": bytes(MIB + 1)}, zipfile.ZIP_STORED)) == ("", "")
    path = zip_of(tmp_path, {"a": bytes(8 * MIB)})
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("a")
    exact = -(-info.file_size // info.compress_size)
    assert refusal(path, ReadLimits(ratio=exact)) == ("", "")
    assert refusal(path, ReadLimits(ratio=exact - 1))[0] == "package.too_large"


def test_the_directory_is_not_believed(tmp_path: Path) -> None:
    """A file that says it is small and is not: what is really unpacked counts."""
    path = zip_of(tmp_path, {"a": bytes(3 * MIB)}, zipfile.ZIP_STORED)
    with open_zip(path) as contents:
        object.__setattr__(contents, "_limits", ReadLimits(total_bytes=2 * MIB))
        with pytest.raises(PackageError) as caught:
            contents.read("a")
        assert caught.value.code == "package.too_large"


def test_reading(tmp_path: Path) -> None:
    content = random.Random(0).randbytes(2 * MIB)  # two chunks
    path = zip_of(tmp_path, {"folder/a": content, "b": b"xyz", "empty": b""})
    with open_zip(path) as contents:
        assert (contents.path, contents.names) == (path, ("folder/a", "b", "empty"))
        assert contents.read("folder/a") == content
        assert [len(chunk) for chunk in contents.stream("folder/a")] == [MIB, MIB]
        assert contents.start(2, "b") == b"xy"
        assert contents.start(9, "b") == b"xyz"
        assert contents.start(9, "empty") == b""
        assert contents.size_bytes("folder/a") == len(content)
        with pytest.raises(PackageError) as caught:
            contents.read("c")
        assert caught.value.code == "package.missing_file"
        assert caught.value.where == str(path)
        assert caught.value.what.endswith(" c")
        contents.extract(tmp_path / "out", leave_out=["b"])
    assert (tmp_path / "out" / "folder" / "a").read_bytes() == content
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["empty", "folder"]


@pytest.mark.parametrize(
    ("name", "is_taken"),
    [
        ("a/b.c", True), ("..a", True), ("a..", True), ("a/..b", True), ("b:c", False), ("a/b:c", True), ("..", False),
        ("a/..", False), ("/", False), (".", False), ("./a", True),
    ],
)  # fmt: skip
def test_names(tmp_path: Path, name: str, is_taken: bool) -> None:
    code, what = refusal(zip_of(tmp_path, {name: b"x"}))
    assert code == ("" if is_taken else "package.path_traversal")
    assert is_taken or repr(name) in what


def test_names_with_nul_and_backslash(tmp_path: Path) -> None:
    for odd in (b"a\0b", b"a\\b"):
        path = zip_of(tmp_path, {"a_b": b"x"})
        path.write_bytes(path.read_bytes().replace(b"a_b", odd))
        assert refusal(path)[0] == "package.path_traversal"


def test_the_same_name_in_other_letters(tmp_path: Path) -> None:
    for names, repeated in ((("a", "A"), "A"), (("f/", "f/a", "F/"), "F/")):
        code, what = refusal(zip_of(tmp_path, dict.fromkeys(names, b"")))
        assert code == "package.duplicate_name"
        assert repr(repeated) in what


def test_encrypted(tmp_path: Path) -> None:
    path = zip_of(tmp_path, {"abc": b"x"}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    central = content.index(b"PK\x01\x02")
    content[central + 8] |= 1
    path.write_bytes(content)
    code, what = refusal(path)
    assert code == "package.encrypted"
    assert "'abc'" in what


@pytest.mark.parametrize(
    ("kind", "is_taken"), [(0, True), (stat.S_IFREG, True), (stat.S_IFLNK, False), (stat.S_IFSOCK, False)]
)
def test_kinds_of_entries(tmp_path: Path, kind: int, is_taken: bool) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("a")
        info.external_attr = (kind | 0o644) << 16
        archive.writestr(info, b"x")
    code, what = refusal(path)
    assert code == ("" if is_taken else "package.not_a_regular_file")
    assert is_taken or "'a'" in what


def test_how_ours_are_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(3 * MIB))
    path = pack_files(tmp_path / "b.zip", {"z": b"content", "a": tmp_path / "file"})
    with zipfile.ZipFile(path) as archive:
        first, second = archive.infolist()
        assert archive.read("z") == b"content"
        assert archive.read("a") == bytes(3 * MIB)
    assert (first.filename, second.filename) == ("a", "z")
    for info in (first, second):
        assert info.date_time == (1980, 1, 1, 0, 0, 0)
        assert (info.compress_type, info.create_system) == (zipfile.ZIP_DEFLATED, 3)
        assert info.external_attr >> 16 == 0o100644
    with pytest.raises(PackageError) as caught:
        pack_files(tmp_path / "c.zip", {"a": b"", "b": tmp_path / "none"})
    assert caught.value.code == "package.missing_file"
    assert caught.value.where == str(tmp_path / "none")
    assert not (tmp_path / "c.zip").exists()


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["meta.json", "config.pbtxt", "model.pt"], []),
        (["meta.json", "config.pbtxt", "model.xml", "model.bin"], []),
        (["config.pbtxt", "model.plan"], ["meta.json"]),
        (["meta.json", "x/model.onnx"], ["model.onnx, model.plan, model.pt or model.xml", "config.pbtxt"]),
        ([], ["model.onnx, model.plan, model.pt or model.xml", "meta.json", "config.pbtxt"]),
    ],
)
def test_what_a_package_needs(names: list[str], missing: list[str]) -> None:
    assert missing_at_root(names) == missing


def test_a_config_that_is_no_text(tmp_path: Path) -> None:
    path = zip_of(tmp_path, {"config.pbtxt": b"\xff", "meta.json": b"{}", "model.onnx": b""})
    with open_zip(path) as contents, pytest.raises(PackageError) as caught:
        config_text_of(contents)
    assert caught.value.code == "package.not_utf8"
    assert caught.value.where == f"{path}!config.pbtxt"


def test_a_config_for_a_model_that_is_not_there(tmp_path: Path) -> None:
    files = {"config.pbtxt": b'backend: "openvino"', "meta.json": b"{}", "model.onnx": b"", "model.plan": b""}
    with (
        pytest.raises(PackageError) as caught,
        open_package(zip_of(tmp_path, files)),
    ):
        pass
    assert caught.value.code == "package.config_mismatch"
    assert all(name in caught.value.what for name in ("model.onnx", "model.plan", "model.xml"))
    with open_package(zip_of(tmp_path, {**files, "model.xml": b""})) as package:
        assert (package.model_name, package.config_text) == ("model.xml", 'backend: "openvino"')
        assert package.names == ("config.pbtxt", "meta.json", "model.onnx", "model.plan", "model.xml")
        assert package.document.content == {}
    bad = zip_of(tmp_path, {**files, "model.xml": b"", "meta.json": b"{"})
    with pytest.raises(PackageError) as caught, open_package(bad):
        pass
    assert caught.value.code == "package.not_json"
    assert caught.value.where == f"{bad}!meta.json"
    bad = zip_of(tmp_path, {**files, "config.pbtxt": b"nonsense {"})
    with pytest.raises(PackageError) as caught, open_package(bad):
        pass
    assert caught.value.code == "package.invalid_config"
    assert caught.value.where == f"{bad}!config.pbtxt"
