"""The model repository on disk: folders Triton reads, changed whole or not at all.

    ROOT/model_repository/<model>/config.pbtxt       what is served: the served version's config with its number in it
    ROOT/model_repository/<model>/<N>/               model.onnx | model.plan, meta.json, config.pbtxt as uploaded,
                                                     signature.json of a signed package,
                                                     upload.json (digest of the zip, time)
    ROOT/.incoming/<random>/                         uploads on their way in; undo.json while one is being published
    ROOT/other/                                      other files, reached by scp
    ROOT/ssh/                                        host key, authorized_keys
    ROOT/.lock                                       held by the one service that works on ROOT

A version folder is renamed into its place, then config.pbtxt is replaced, then the engine loads. undo.json is written
first and removed last, so whatever is found there after a crash is taken back at the next start.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from cls.errors import PackageError, StorageError
from cls.files import remove_parts, sync, write_json_atomic, write_text_atomic
from cls.model_storage.names import RefusedError, SemanticVersion, model_folder_name, readable_version
from cls.package.meta import META_FILE_NAME, read_document
from cls.package.triton_config import CONFIG_FILE_NAME, parse_config, with_name, with_versions
from cls.records import read_record

UPLOAD_FILE_NAME = "upload.json"
_UNDO_FILE_NAME = "undo.json"

_log = logging.getLogger("cls.model_storage")


@dataclass(frozen=True)
class StoredVersion:
    """One version of a model.

    Attributes:
        number: name of its folder; what Triton calls the version.
        semantic: what meta.json says; None where it says nothing readable.
        sha256: digest of the zip it came in; empty for folders put there by hand.
        group: what it classifies; None where meta.json does not say, or is an older tool's.
    """

    number: int
    semantic: SemanticVersion | None
    sha256: str
    group: str | None


class UploadRecord(BaseModel):
    """upload.json: digest of the zip a version came in, and when (ISO 8601, UTC)."""

    model_config = ConfigDict(frozen=True)

    sha256: str = ""
    uploaded_at: str = ""


class _Undo(BaseModel):
    """undo.json: what takes a publication back.

    Attributes:
        number: the version folder that was added.
        is_new: whether the model's folder was too.
        config: config.pbtxt before; None where there was none.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    number: int
    is_new: bool
    config: str | None


class ModelRepository:
    """The repository below one root. One service at a time: `lock` it first.

    Raises:
        StorageError: the folders cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.models_folder = self.root / "model_repository"
        self.other_folder = self.root / "other"
        self.ssh_folder = self.root / "ssh"
        self._incoming = self.root / ".incoming"
        self._lock = FileLock(self.root / ".lock")
        try:
            for folder in (self.models_folder, self.other_folder, self._incoming):
                folder.mkdir(parents=True, exist_ok=True)
            self.ssh_folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"the storage root cannot be used: {error.strerror}",
                code="root_unusable",
                where=root,
                hint="give another with --root",
            ) from error

    def lock(self) -> None:
        """Claims the root for this process until `unlock` or the process ends.

        Raises:
            StorageError: another service works on it.
        """
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise StorageError(
                "another model storage service works on this root",
                code="root_in_use",
                where=self.root,
                hint="stop it, or give another folder with --root",
            ) from None
        except OSError as error:
            raise StorageError(
                f"the storage root cannot be locked: {error.strerror}", code="root_lock_failed", where=self.root
            ) from error

    def unlock(self) -> None:
        """Gives the root back."""
        self._lock.release()

    def recover(self) -> list[str]:
        """Takes back publications a crash cut short and removes what killed uploads left; returns what was done."""
        done: list[str] = []
        for stage in sorted(self._incoming.iterdir()):
            undo_file = stage / _UNDO_FILE_NAME
            if undo_file.is_file():
                undo = read_record(undo_file, _Undo)
                self._undo(stage, undo)
                done.append(f"version folder {undo.number} of {undo.model}, cut off while being published")
            else:
                done.append("an upload cut off on its way in")
            self.drop_stage(stage)
        for model in self.models():
            remove_parts(self.models_folder / model)
        for folder, _, _ in os.walk(self.other_folder):
            remove_parts(Path(folder))
        return done

    def new_stage(self) -> Path:
        """An empty folder for one upload, on the same file system as the repository."""
        stage = self._incoming / secrets.token_hex(8)
        stage.mkdir()
        return stage

    def drop_stage(self, stage: Path) -> None:
        """Removes the folder of an upload."""
        try:
            if stage.is_dir() and not stage.is_symlink():
                shutil.rmtree(stage)
            else:
                stage.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("%s cannot be removed: %s", stage, error.strerror)

    def free_bytes(self) -> int:
        """Space left for uploads."""
        return shutil.disk_usage(self._incoming).free

    def models(self) -> list[str]:
        """Names of the models, sorted."""
        return sorted(
            folder.name for folder in self.models_folder.iterdir() if folder.is_dir() and folder.name[0] != "."
        )

    def model_named(self, name: str) -> str:
        """The folder name of a model by its name or group; see `names.model_folder_name`. It need not be there."""
        return model_folder_name(name, self.models_folder)

    def folder(self, model: str) -> Path:
        """The folder of a model there is.

        Raises:
            RefusedError: 404, there is no such model.
        """
        folder = self.models_folder / model
        if not folder.is_dir():
            known = ", ".join(self.models()[:10])
            raise RefusedError(
                404,
                f"there is no model {model!r}",
                code="model_not_found",
                hint=f"the models are: {known}" if known else "no model was published yet: `cls push` publishes one",
            )
        return folder

    def versions(self, model: str) -> list[StoredVersion]:
        """The versions of a model by folder number; none for a model that is not there."""
        folder = self.models_folder / model
        if not folder.is_dir():
            return []
        numbers = sorted(int(item.name) for item in folder.iterdir() if _is_version_folder(item))
        return [self._version(folder / str(number), number) for number in numbers]

    def _version(self, folder: Path, number: int) -> StoredVersion:
        # Folders put there by hand may hold anything: what cannot be read has no version, and stays as it is.
        semantic, group, sha256 = None, None, ""
        with suppress(PackageError, OSError):
            meta = read_document((folder / META_FILE_NAME).read_bytes())
            semantic, group = readable_version(meta.model_version), meta.group
        with suppress(ValidationError, OSError):
            sha256 = UploadRecord.model_validate_json((folder / UPLOAD_FILE_NAME).read_bytes()).sha256
        return StoredVersion(number, semantic, sha256, group)

    def served_number(self, model: str) -> int:
        """The version folder config.pbtxt asks for: the named one, else the highest.

        Raises:
            RefusedError: 404, the model is not there or has no version.
        """
        folder = self.folder(model)
        numbers = [version.number for version in self.versions(model)]
        config_text = self.config_text(model)
        named = parse_config(config_text, folder / CONFIG_FILE_NAME).version_numbers if config_text else ()
        served = [number for number in named if number in numbers] or numbers
        if not served:
            raise RefusedError(404, f"model {model!r} has no version", code="no_version")
        return max(served)

    def config_text(self, model: str) -> str | None:
        """config.pbtxt of a model, None when there is none."""
        try:
            return (self.models_folder / model / CONFIG_FILE_NAME).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def config_serving(self, model: str, number: int) -> str:
        """The config.pbtxt that serves one stored version: its own as uploaded, else the model's present one."""
        own = self.models_folder / model / str(number) / CONFIG_FILE_NAME
        text = own.read_text(encoding="utf-8") if own.is_file() else self.config_text(model)
        if text is None:
            raise RefusedError(
                409,
                f"model {model!r} has no config.pbtxt, so version folder {number} cannot be selected",
                code="missing_config",
                hint="upload it as a package",
            )
        return serving(text, model, number, own)

    def write_config(self, model: str, text: str | None) -> None:
        """Replaces config.pbtxt of a model; None removes it."""
        path = self.models_folder / model / CONFIG_FILE_NAME
        if text is None:
            path.unlink(missing_ok=True)
        else:
            write_text_atomic(path, text)

    def place(self, stage: Path, model: str, number: int, version_folder: Path, config_text: str) -> None:
        """Moves a checked version from its stage into the repository and makes config.pbtxt ask for it.

        Until `commit` is called, `rollback` or a restart undoes it.
        """
        target = self.models_folder / model
        is_new = not target.exists()
        old_config = None if is_new else self.config_text(model)
        undo = _Undo(model=model, number=number, is_new=is_new, config=old_config)
        write_json_atomic(stage / _UNDO_FILE_NAME, undo.model_dump())
        for path in (*version_folder.rglob("*"), version_folder):
            sync(path)
        if is_new:
            whole = stage / "model"
            whole.mkdir()
            version_folder.rename(whole / str(number))
            write_text_atomic(whole / CONFIG_FILE_NAME, config_text)
            whole.rename(target)
        else:
            version_folder.rename(target / str(number))
            self.write_config(model, config_text)
        sync(self.models_folder)

    def commit(self, stage: Path) -> None:
        """Makes a placed version final."""
        (stage / _UNDO_FILE_NAME).unlink()
        sync(stage)

    def rollback(self, stage: Path) -> None:
        """Undoes `place`: the repository is as it was before."""
        self._undo(stage, read_record(stage / _UNDO_FILE_NAME, _Undo))
        self.commit(stage)

    def _undo(self, stage: Path, undo: _Undo) -> None:
        folder = self.models_folder / undo.model
        removed = stage / "removed"
        if undo.is_new:
            if folder.exists():
                folder.rename(removed)
        else:
            self.write_config(undo.model, undo.config)
            version_folder = folder / str(undo.number)
            if version_folder.exists():
                version_folder.rename(removed)
        sync(self.models_folder)


def serving(config_text: str, model: str, number: int, where: object) -> str:
    """A config.pbtxt for this model's folder that serves exactly one version."""
    return with_versions(with_name(config_text, model, where), (number,), where)


def _is_version_folder(item: Path) -> bool:
    return item.name.isascii() and item.name.isdigit() and str(int(item.name)) == item.name and item.is_dir()
