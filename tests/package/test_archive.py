from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

import pytest

from cls.errors import PackageError
from cls.package.archive import ReadLimits, open_package
from cls.package.triton_config import build_config
from tests.model_storage.packages import pack
from tests.package.metas import make_meta

NAMES = ["model.onnx", "meta.json", "config.pbtxt"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(os.urandom(3 << 20))
    (folder / "meta.json").write_text(make_meta().to_json(), encoding="utf-8")
    (folder / "config.pbtxt").write_text(build_config(make_meta()), encoding="utf-8")
    return folder


def refusal(path: Path, limits: ReadLimits | None = None) -> PackageError:
    with pytest.raises(PackageError) as caught, open_package(path, limits):
        pass
    return caught.value


def with_entry(folder: Path, info: zipfile.ZipInfo, content: bytes = b"x") -> Path:
    path = pack(folder, folder / "evil.zip", NAMES)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, content)
    return path


def test_packed_is_read_back(folder: Path, tmp_path: Path) -> None:
    path = pack(folder, tmp_path / "a.zip", NAMES)
    with open_package(path) as package:
        assert package.model_name == "model.onnx"
        assert package.meta() == make_meta()
        package.extract(tmp_path / "out")
    for name in NAMES:
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()


def test_same_content_same_bytes(folder: Path, tmp_path: Path) -> None:
    first = pack(folder, tmp_path / "a.zip", NAMES).read_bytes()
    os.utime(folder / "model.onnx", (1, 1))
    (folder / "model.onnx").chmod(0o600)
    assert pack(folder, tmp_path / "b.zip", NAMES[::-1]).read_bytes() == first


def test_packing_what_is_missing(folder: Path) -> None:
    with pytest.raises(PackageError) as caught:
        pack(folder, folder / "a.zip", ["model.plan"])
    assert (caught.value.code, caught.value.where) == ("package.missing_file", str(folder / "model.plan"))
    assert not (folder / "a.zip").exists()


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "C:/x", "a\\..\\x"])
def test_names_that_leave_the_folder(folder: Path, name: str) -> None:
    assert refusal(with_entry(folder, zipfile.ZipInfo(name))).code == "package.path_traversal"


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices(folder: Path, kind: int) -> None:
    info = zipfile.ZipInfo("link")
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    assert refusal(with_entry(folder, info, b"/etc/passwd")).code == "package.not_a_regular_file"


def test_repeated_entry(folder: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        path = with_entry(folder, zipfile.ZipInfo("meta.json"))
    assert refusal(path).code == "package.duplicate_name"


def test_bomb_by_ratio(folder: Path) -> None:
    info = zipfile.ZipInfo("zeros")
    info.compress_type = zipfile.ZIP_DEFLATED
    error = refusal(with_entry(folder, info, bytes(8 << 20)))
    assert error.code == "package.too_large"
    assert "200 times" in error.what


def test_limits_on_size_and_number(folder: Path, tmp_path: Path) -> None:
    path = pack(folder, tmp_path / "a.zip", NAMES)
    for limits, code, number in (
        (ReadLimits(total_bytes=1_000_000), "package.too_large", "at most 1000000"),
        (ReadLimits(files=2), "package.too_many_files", "at most 2"),
        (ReadLimits(text_bytes=100), "package.too_large", "100 bytes"),
    ):
        error = refusal(path, limits)
        assert error.code == code
        assert number in error.what


@pytest.mark.parametrize("name", NAMES)
def test_lacking_a_file(folder: Path, name: str) -> None:
    path = pack(folder, folder / "a.zip", [other for other in NAMES if other != name])
    error = refusal(path)
    assert error.code == "package.missing_file"
    assert name in error.what
    assert error.where == str(path)


def test_files_in_a_subfolder_are_not_at_the_root(folder: Path) -> None:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for name in NAMES:
            archive.write(folder / name, f"package/{name}")
    error = refusal(folder / "a.zip")
    assert error.code == "package.missing_file"
    assert error.where == str(folder / "a.zip")


def test_config_of_another_kind(folder: Path) -> None:
    (folder / "config.pbtxt").write_text(build_config(make_meta(), "tensorrt_plan"), encoding="utf-8")
    error = refusal(pack(folder, folder / "a.zip", NAMES))
    assert error.code == "package.config_mismatch"
    assert "model.plan" in error.what


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + bytes(100)])
def test_not_a_zip(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    assert refusal(tmp_path / "a.zip").code == "package.not_a_zip"


def test_cut_short_and_damaged(folder: Path, tmp_path: Path) -> None:
    content = pack(folder, tmp_path / "a.zip", NAMES).read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    assert refusal(tmp_path / "cut.zip").code == "package.not_a_zip"
    middle = len(content) // 2
    (tmp_path / "bad.zip").write_bytes(content[:middle] + bytes(64) + content[middle + 64 :])
    with open_package(tmp_path / "bad.zip") as package, pytest.raises(PackageError) as caught:
        package.read("model.onnx")
    assert (caught.value.code, caught.value.where) == ("package.damaged", f"{tmp_path / 'bad.zip'}!model.onnx")


def test_meta_that_breaks_the_schema_is_found_by_who_asks(folder: Path) -> None:
    (folder / "meta.json").write_text('{"group": 3}')
    with open_package(pack(folder, folder / "a.zip", NAMES)) as package:
        assert package.document.content == {"group": 3}
        with pytest.raises(PackageError) as caught:
            package.meta()
        assert (caught.value.code, caught.value.where) == ("package.invalid_meta", f"{folder / 'a.zip'}!meta.json")
