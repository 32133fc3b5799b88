"""The repository on disk: what each step leaves there, and what is made durable before the next one."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from cls.errors import PackageError, StorageError
from cls.model_storage import repository as room
from cls.model_storage.names import RefusedError, SemanticVersion
from cls.model_storage.repository import UPLOAD_FILE_NAME, ModelRepository, serving
from cls.package.triton_config import parse_config, with_name
from tests.package.metas import make_meta

CONFIG = 'platform: "onnxruntime_onnx" max_batch_size: 8'


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "storage" / "root")


def put_by_hand(repository: ModelRepository, model: str, number: int | str, **files: str | bytes) -> Path:
    folder = repository.models_folder / model / str(number)
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def staged(repository: ModelRepository, content: str = "weights") -> tuple[Path, Path]:
    stage = repository.new_stage()
    version = stage / "version"
    version.mkdir()
    (version / "model.onnx").write_text(content)
    return stage, version


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def place(repository: ModelRepository, model: str, number: int, text: str, content: str = "weights") -> Path:
    stage, version = staged(repository, content)
    repository.place(stage, model, number, version, text)
    return stage


def test_the_folders_of_a_root(repository: ModelRepository, tmp_path: Path) -> None:
    root = tmp_path / "storage" / "root"
    assert repository.root == root.resolve()
    assert sorted(path.name for path in root.iterdir()) == [".incoming", "model_repository", "other", "ssh"]
    assert (repository.models_folder.name, repository.other_folder.name) == ("model_repository", "other")
    assert stat.S_IMODE(repository.ssh_folder.stat().st_mode) == 0o700
    put_by_hand(repository, "hair", 1)
    assert ModelRepository(root).models() == ["hair"], "a root that is there is kept"


def test_a_root_behind_a_link(repository: ModelRepository, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(repository.root)
    assert ModelRepository(tmp_path / "link").root == repository.root


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "root").touch()
    with pytest.raises(StorageError) as caught:
        ModelRepository(tmp_path / "root")
    assert (caught.value.code, caught.value.where) == ("storage.root_unusable", str(tmp_path / "root"))
    assert "--root" in caught.value.line()


def test_one_service_at_a_time(repository: ModelRepository) -> None:
    other = ModelRepository(repository.root)
    repository.lock()
    with pytest.raises(StorageError) as caught:
        other.lock()
    assert (caught.value.code, caught.value.where) == ("storage.root_in_use", str(repository.root))
    repository.unlock()
    other.lock()
    other.unlock()
    assert (repository.root / ".lock").exists()


def test_a_root_that_cannot_be_locked(repository: ModelRepository) -> None:
    (repository.root / ".lock").mkdir()
    with pytest.raises(StorageError) as caught:
        repository.lock()
    assert (caught.value.code, caught.value.where) == ("storage.root_lock_failed", str(repository.root))


def test_models_are_folders_that_are_not_hidden(repository: ModelRepository) -> None:
    for name in ("top", "hair", ".hidden"):
        (repository.models_folder / name).mkdir()
    (repository.models_folder / "file").touch()
    assert repository.models() == ["hair", "top"]
    assert repository.folder("hair") == repository.models_folder / "hair"
    assert repository.model_named("hair color") == "hair~20color"


def test_a_model_that_is_not_there(repository: ModelRepository) -> None:
    with pytest.raises(RefusedError) as caught:
        repository.folder("hat")
    assert (caught.value.status, caught.value.code) == (404, "storage.model_not_found")
    assert "'hat'" in caught.value.what
    assert "cls push" in (caught.value.hint or "")
    for number in range(12):
        (repository.models_folder / f"m{number:02}").mkdir()
    with pytest.raises(RefusedError) as caught:
        repository.folder("hat")
    assert ", ".join(f"m{number:02}" for number in range(10)) in caught.value.line()
    assert "m10" not in caught.value.line()


def test_versions_by_number(repository: ModelRepository) -> None:
    for number in (10, 9, 1):
        put_by_hand(repository, "hair", number)
    for odd in ("01", "1a", "²", ".2", "-3"):
        (repository.models_folder / "hair" / odd).mkdir()
    (repository.models_folder / "hair" / "4").touch()
    found = repository.versions("hair")
    assert [version.number for version in found] == [1, 9, 10]
    assert repository.versions("hat") == []


def test_what_a_version_says_of_itself(repository: ModelRepository) -> None:
    meta = make_meta().with_model_version("0.0.3").to_json()
    put_by_hand(repository, "hair", 1, meta__json=meta, upload__json=json.dumps({"sha256": "ab"}))
    put_by_hand(repository, "hair", 2)
    put_by_hand(repository, "hair", 3, meta__json=b"\xff", upload__json="{")
    put_by_hand(repository, "hair", 4, meta__json='{"model_version": 3, "group": "x"}', upload__json=b"\xff")
    put_by_hand(repository, "hair", 5, meta__json='{"model_version": "1", "schema_version": 1}', upload__json="{}")
    put_by_hand(repository, "hair", 6, meta__json="{", upload__json='{"sha256": "cd"}')
    put_by_hand(repository, "hair", 7, meta__json="[]", upload__json="[]")
    put_by_hand(repository, "hair", 8, meta__json="[" * 100_000, upload__json="[" * 100_000)
    put_by_hand(repository, "hair", 9, meta__json='{"group": "x", "schema_version": 1}')
    found = repository.versions("hair")
    assert [version.semantic for version in found] == [SemanticVersion("0.0.3"), *[None] * 8]
    assert [version.sha256 for version in found] == ["ab", "", "", "", "", "cd", "", "", ""]
    assert [version.group for version in found] == ["hair_color", *[None] * 7, "x"]
    assert UPLOAD_FILE_NAME == "upload.json"


@pytest.mark.parametrize(("versions", "expected"), [([], 12), ([2], 2), ([2, 9], 9), ([3], 12), ([3, 9], 9)], ids=str)
def test_the_version_that_is_served(repository: ModelRepository, versions: list[int], expected: int) -> None:
    for number in (12, 9, 2):
        put_by_hand(repository, "hair", number)
    policy = f"version_policy {{ specific {{ versions: {versions} }} }}" if versions else ""
    repository.write_config("hair", f"{CONFIG} {policy}")
    assert repository.served_number("hair") == expected


def test_no_version_to_serve(repository: ModelRepository) -> None:
    (repository.models_folder / "hair").mkdir()
    for model, code in (("hair", "storage.no_version"), ("hat", "storage.model_not_found")):
        with pytest.raises(RefusedError) as caught:
            repository.served_number(model)
        assert (caught.value.status, caught.value.code) == (404, code)
        assert repr(model) in caught.value.what
    put_by_hand(repository, "hair", 7)
    assert repository.config_text("hair") is None
    assert repository.served_number("hair") == 7


def test_the_config_of_a_version(repository: ModelRepository) -> None:
    own = put_by_hand(repository, "hair", 3, config__pbtxt='name: "x" max_batch_size: 3')
    put_by_hand(repository, "hair", 4)
    with pytest.raises(RefusedError) as caught:
        repository.config_serving("hair", 4)
    assert (caught.value.status, caught.value.code) == (409, "storage.missing_config")
    assert "version folder 4" in caught.value.what
    assert caught.value.hint
    repository.write_config("hair", CONFIG)
    first, second = (parse_config(repository.config_serving("hair", number)) for number in (3, 4))
    assert (first.name, first.version_numbers, first.max_batch_size) == ("hair", (3,), 3)
    assert (second.name, second.version_numbers, second.max_batch_size) == ("hair", (4,), 8)
    (own / "config.pbtxt").write_text("nonsense {")
    with pytest.raises(PackageError) as caught:
        repository.config_serving("hair", 3)
    assert caught.value.code == "package.invalid_config"
    assert str(caught.value.where).endswith("hair/3/config.pbtxt")
    config = parse_config(serving(with_name(CONFIG, "old"), "new", 5, "x"))
    assert (config.name, config.version_numbers) == ("new", (5,))


def test_writing_and_removing_the_config(repository: ModelRepository) -> None:
    (repository.models_folder / "hair").mkdir()
    repository.write_config("hair", 'name: "цвет"')
    assert repository.config_text("hair") == 'name: "цвет"'
    repository.write_config("hair", None)
    assert repository.config_text("hair") is None
    repository.write_config("hair", None)
    assert list((repository.models_folder / "hair").iterdir()) == []


def test_stages(repository: ModelRepository, caplog: pytest.LogCaptureFixture) -> None:
    first, second = repository.new_stage(), repository.new_stage()
    assert first != second
    assert first.parent == repository.root / ".incoming"
    assert len(first.name) == 16
    (first / "deep").mkdir()
    (first / "deep" / "file").touch()
    repository.drop_stage(first)
    assert list(first.parent.iterdir()) == [second]
    repository.drop_stage(first)
    assert not caplog.records, "what is gone already is nothing to speak of"
    usage = os.statvfs(repository.root)
    assert repository.free_bytes() == pytest.approx(usage.f_bavail * usage.f_frsize, rel=0.05)


def test_a_new_model_is_placed_and_settled(repository: ModelRepository) -> None:
    stage = place(repository, "hair", 1, "config 1")
    assert tree(repository.models_folder) == {"hair/1/model.onnx": "weights", "hair/config.pbtxt": "config 1"}
    undo = json.loads((stage / "undo.json").read_text())
    assert undo == {"model": "hair", "number": 1, "is_new": True, "config": None}
    repository.commit(stage)
    assert not (stage / "undo.json").exists()
    repository.drop_stage(stage)
    assert ModelRepository(repository.root).recover() == []
    assert tree(repository.models_folder) == {"hair/1/model.onnx": "weights", "hair/config.pbtxt": "config 1"}


def test_a_further_version_is_placed_beside(repository: ModelRepository) -> None:
    repository.commit(place(repository, "hair", 1, "config 1"))
    stage = place(repository, "hair", 2, "config 2", "more")
    expected = {"hair/1/model.onnx": "weights", "hair/2/model.onnx": "more", "hair/config.pbtxt": "config 2"}
    assert tree(repository.models_folder) == expected
    undo = json.loads((stage / "undo.json").read_text())
    assert undo == {"model": "hair", "number": 2, "is_new": False, "config": "config 1"}


@pytest.mark.parametrize("by", ["take_back", "recover"])
def test_what_was_placed_is_taken_back(repository: ModelRepository, by: str) -> None:
    repository.commit(place(repository, "hair", 1, "config 1"))
    before = tree(repository.models_folder)
    removed = {
        "hair": {"removed/model.onnx": "more"},
        "hat": {"removed/1/model.onnx": "more", "removed/config.pbtxt": "config x"},
    }
    for model, number in (("hair", 2), ("hat", 1)):
        stage = place(repository, model, number, "config x", "more")
        if by == "take_back":
            repository.rollback(stage)
            assert tree(stage) == removed[model]
        else:
            said = ModelRepository(repository.root).recover()
            assert f"version folder {number} of {model}, cut off while being published" in said
            assert not stage.exists()
        assert tree(repository.models_folder) == before
    assert repository.models() == ["hair"]


def test_a_publication_cut_off_before_anything_moved_is_taken_back(repository: ModelRepository) -> None:
    repository.commit(place(repository, "hair", 1, "config 1"))
    before = tree(repository.models_folder)
    for undo in (
        {"model": "hair", "number": 2, "is_new": False, "config": "config 1"},
        {"model": "hat", "number": 1, "is_new": True, "config": None},
    ):
        (repository.new_stage() / "undo.json").write_text(json.dumps(undo))
    assert len(repository.recover()) == 3  # the settled stage is left too
    assert tree(repository.models_folder) == before
    assert list((repository.root / ".incoming").iterdir()) == []


def test_a_config_that_was_not_there_is_removed_again(repository: ModelRepository) -> None:
    put_by_hand(repository, "hair", 1)
    repository.rollback(place(repository, "hair", 2, "config 2"))
    assert repository.config_text("hair") is None
    assert [version.number for version in repository.versions("hair")] == [1]


def test_leftovers_are_removed(repository: ModelRepository) -> None:
    stage = repository.new_stage()
    (stage / "upload.zip").touch()
    (stage.parent / "file").touch()
    put_by_hand(repository, "hair", 1)
    left = [repository.models_folder / "hair" / ".config.pbtxt.1-ab.part"]
    (repository.other_folder / "deep" / "er").mkdir(parents=True)
    left += [folder / ".x.1-ab.part" for folder in (repository.other_folder, repository.other_folder / "deep" / "er")]
    for path in left:
        path.touch()
    kept = repository.other_folder / "deep" / "kept"
    kept.touch()
    assert repository.recover() == ["an upload cut off on its way in"] * 2
    assert not any(path.exists() for path in left)
    assert kept.exists()
    assert list(stage.parent.iterdir()) == []


def test_what_cannot_be_removed_is_said(
    repository: ModelRepository, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stage = repository.new_stage()

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(room.shutil, "rmtree", refuse)
    repository.drop_stage(stage)
    assert [record.args for record in caplog.records] == [(stage, "Permission denied")]


def test_a_link_in_the_way_is_removed_and_not_followed(repository: ModelRepository, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "file").touch()
    link = repository.root / ".incoming" / "link"
    link.symlink_to(target)
    repository.recover()
    assert not link.is_symlink()
    assert (target / "file").exists()


class Steps:
    """What is renamed and made durable, in its order."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.done: list[str] = []
        self.open: dict[int, str] = {}
        monkeypatch.setattr(room.os, "open", self._open(os.open))
        monkeypatch.setattr(room.os, "fsync", self._fsync(os.fsync))
        monkeypatch.setattr(room.os, "close", self._close(os.close))
        monkeypatch.setattr(Path, "rename", self._rename(Path.rename))

    def _name(self, path: Any) -> str:
        return str(path).removeprefix(f"{self.root}/")

    def _open(self, real: Any) -> Any:
        def opened(path: Any, flags: int, *rest: Any, **named: Any) -> int:
            number: int = real(path, flags, *rest, **named)
            if flags == os.O_RDONLY:
                self.open[number] = self._name(path)
            return number

        return opened

    def _fsync(self, real: Any) -> Any:
        def synced(number: int) -> None:
            if number in self.open:
                self.done.append(f"sync {self.open[number]}")
            real(number)

        return synced

    def _close(self, real: Any) -> Any:
        def closed(number: int) -> None:
            self.open.pop(number, None)
            real(number)

        return closed

    def _rename(self, real: Any) -> Any:
        def renamed(path: Path, target: Path) -> Path:
            self.done.append(f"rename {self._name(path)} to {self._name(target)}")
            result: Path = real(path, target)
            return result

        return renamed


def test_everything_is_durable_before_it_is_moved(repository: ModelRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of a version, then its folder; then it moves, then the folder that it moved into."""
    repository.commit(place(repository, "hair", 1, "config 1"))
    stage, version = staged(repository)
    (version / "deep").mkdir()
    (version / "deep" / "file").touch()
    name = f".incoming/{stage.name}"
    steps = Steps(repository.root, monkeypatch)
    repository.place(stage, "hair", 2, version, "config 2")
    own = [step for step in steps.done if "version" in step or step == "sync model_repository"]
    synced = {f"sync {name}/version/{part}" for part in ("model.onnx", "deep", "deep/file")}
    assert set(own[:3]) == synced
    moved = f"rename {name}/version to model_repository/hair/2"
    assert own[3:] == [f"sync {name}/version", moved, "sync model_repository"]
    assert steps.done.index(moved) == len(steps.done) - 1 - steps.done[::-1].index(moved)
    steps.done.clear()
    repository.commit(stage)
    assert steps.done == [f"sync {name}"]
    assert not steps.open, "every descriptor is closed"
    place(repository, "hat", 1, "config")
    last = [step for step in steps.done if step.startswith("rename") and step.endswith("model_repository/hat")]
    assert len(last) == 1, "a new model appears as a whole"
    steps.done.clear()
    repository.rollback(stage := place(repository, "hair", 3, "config 3"))
    assert steps.done[-2:] == ["sync model_repository", f"sync .incoming/{stage.name}"]
    assert not steps.open
