"""What the storage does: publish a version, choose the one that is served, list what there is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cls.errors import PackageError
from cls.model_storage.checking import (
    CheckedUpload,
    check_upload,
    name_version,
    name_warning,
    refuse_misplaced_version,
    refuse_other_group,
    refuse_plan,
)
from cls.model_storage.inference.engine import READY, EngineError, InferenceEngine, ModelState
from cls.model_storage.names import RefusedError, SemanticVersion, readable_version
from cls.model_storage.repository import ModelRepository, StoredVersion, serving
from cls.package.meta import META_FILE_NAME, MetaDocument, read_document
from cls.package.model_name import next_version
from cls.package.plans import PlanHost

_log = logging.getLogger("cls.model_storage")


@dataclass(frozen=True)
class Published:
    """What became of an upload.

    Attributes:
        number: the version folder it is in, which is served from now on.
        version: its semantic version; None for an older upload without one.
    """

    model: str
    number: int
    version: str | None


class ModelStorage:
    """The model repository together with the engine that serves it. Calls block and may come from any thread.

    Every call about one model waits until the one before it is done: a version that is taken back is never seen.

    TensorRT plans for another machine than `plan_host` are refused; None: the engine's machine is not known.
    """

    def __init__(self, repository: ModelRepository, engine: InferenceEngine, plan_host: PlanHost | None = None) -> None:
        self.repository = repository
        self.engine = engine
        self.plan_host = plan_host
        self._locks: dict[str, threading.RLock] = {}
        self._locks_guard = threading.Lock()

    @contextmanager
    def _locked(self, name: str) -> Iterator[str]:
        """Holds the model of this name or group; yields the name of its folder."""
        model = self.repository.model_named(name)
        with self._locks_guard:
            lock = self._locks.setdefault(model, threading.RLock())
        with lock:
            yield model

    def publish(self, zip_path: Path, sha256: str, name: str, version_text: str) -> Published:
        """Checks an uploaded zip, stores it as a version of the model of this name or group, and serves it.

        Raises:
            RefusedError: 409 the version exists; 422 the name, the version or the package cannot be used, the package
                is of another group than the model, or the engine cannot load it; 502 the engine cannot be reached.
                Everything is as it was before.
        """
        version = SemanticVersion(version_text)
        with self._locked(name) as model:
            self._refuse_existing(model, version)
        checked = check_upload(zip_path, sha256, is_meta_strict=True, plan_host=self.plan_host)
        return self._store(zip_path.parent, name, name_version(checked, version))

    def publish_numbered(self, zip_path: Path, sha256: str, name: str, number: int | None) -> Published:
        """The older upload: stores a package as a numbered folder (the next one by default) and serves it.

        The semantic version is the one in the package's meta.json, if there is one.
        """
        upload = check_upload(zip_path, sha256, is_meta_strict=False, plan_host=self.plan_host)
        return self._store(zip_path.parent, name, upload, number)

    def _store(self, stage: Path, name: str, upload: CheckedUpload, number: int | None = None) -> Published:
        """Stores a checked package as a version folder, the next one by default, and serves it."""
        with self._locked(name) as model:
            stored = self._refuse_existing(model, readable_version(upload.meta.model_version))
            refuse_other_group(model, upload.group, stored)
            taken = {item.number for item in stored}
            next_number = max(taken, default=0) + 1
            if number is not None and number in taken:
                raise RefusedError(
                    409,
                    f"version folder {number} of {model} exists already",
                    code="version_taken",
                    hint=f"the next free one is {next_number}",
                )
            return self._place_and_serve(stage, model, number or next_number, upload, stored)

    def _refuse_existing(self, model: str, version: SemanticVersion | None) -> list[StoredVersion]:
        stored = self.repository.versions(model)
        taken = {item.semantic: item for item in stored if item.semantic is not None}
        if version is not None and version in taken:
            of_group = "" if taken[version].group is None else f" (group {taken[version].group!r})"
            raise RefusedError(
                409,
                f"version {version} of {model}{of_group} exists already and stays as it is",
                code="version_taken",
                hint=f"the next free one is {next_version(one.text for one in taken)}",
            )
        return stored

    def _place_and_serve(
        self, stage: Path, model: str, number: int, upload: CheckedUpload, before: list[StoredVersion]
    ) -> Published:
        config_text = serving(upload.config_text, model, number, "config.pbtxt")
        started_s = time.monotonic()
        self.repository.place(stage, model, number, upload.folder, config_text)
        try:
            self.engine.load(model)
        except EngineError as error:
            self.repository.rollback(stage)
            self._reload_quietly(model)
            raise RefusedError(
                error.status,
                f"version not published, {model} is as it was: {error.what}",
                code=error.case,
                hint=error.hint,
            ) from error
        except BaseException:
            self.repository.rollback(stage)
            raise
        self.repository.commit(stage)
        version = readable_version(upload.meta.model_version)
        _log.info(
            "%s %s is stored as version folder %d and served (loaded in %.1f s)",
            model,
            version or "without semantic version",
            number,
            time.monotonic() - started_s,
        )
        remark = name_warning(model, upload.group, before)
        if remark is not None:
            _log.warning("%s", remark)
        return Published(model, number, version.text if version else None)

    def _reload_quietly(self, model: str) -> None:
        """After a failed load: serves what the restored config.pbtxt says, or nothing of a model that is gone."""
        try:
            if self.repository.versions(model):
                self.engine.load(model)
            else:
                self.engine.unload(model)
        except EngineError as error:
            _log.info("%s could not be loaded back: %s", model, error.line())

    def versions(self, name: str) -> tuple[list[StoredVersion], int]:
        """All versions of a model, and the number of the served one."""
        with self._locked(name) as model:
            return self.repository.versions(model), self.repository.served_number(model)

    def latest_semantic_version(self, name: str) -> str:
        """The highest semantic version of a model.

        Raises:
            RefusedError: 404, there is no such model, or none of its versions has a semantic version.
        """
        with self._locked(name) as model:
            self.repository.folder(model)
            found = [item.semantic for item in self.repository.versions(model) if item.semantic is not None]
        if not found:
            raise RefusedError(404, f"no version of {model!r} has a semantic version", code="no_semantic_version")
        return max(found).text

    def served_number(self, name: str) -> int:
        """The version folder that is served."""
        with self._locked(name) as model:
            return self.repository.served_number(model)

    def meta(self, name: str, version_text: str | None = None) -> MetaDocument:
        """meta.json of the served version, or of a semantic version.

        Raises:
            RefusedError: 404, there is none, or it cannot be read; 422, that is no semantic version.
        """
        with self._locked(name) as model:
            number = self.repository.served_number(model)
            if version_text is not None:
                number = self._number_of(model, SemanticVersion(version_text))
            path = self.repository.folder(model) / str(number) / META_FILE_NAME
            try:
                return read_document(path.read_bytes())
            except OSError as error:
                raise RefusedError(
                    404,
                    f"version folder {number} of {model!r} has no meta.json that can be read: {error.strerror}",
                    code="meta_unreadable",
                ) from error
            except PackageError as error:
                raise RefusedError(
                    404, f"version folder {number} of {model!r}: {error.what}", code="meta_invalid"
                ) from error

    def serve_semantic(self, name: str, version_text: str) -> int:
        """Serves a semantic version; returns its folder number.

        Raises:
            RefusedError: 404, there is no such model or version; 422 or 502, the engine cannot, and serves what it did.
        """
        version = SemanticVersion(version_text)
        with self._locked(name) as model:
            self.repository.folder(model)
            return self._serve(model, self._number_of(model, version))

    def _number_of(self, model: str, version: SemanticVersion) -> int:
        """The folder of a semantic version."""
        stored = self.repository.versions(model)
        for item in stored:
            if item.semantic == version:
                return item.number
        known = ", ".join(str(item.semantic) for item in stored if item.semantic is not None)
        raise RefusedError(
            404,
            f"{model!r} has no version {version}",
            code="version_not_found",
            hint=f"it has {known}" if known else None,
        )

    def serve_number(self, name: str, number: int) -> int:
        """Serves a version folder; see `serve_semantic`."""
        with self._locked(name) as model:
            self.repository.folder(model)
            stored = [item.number for item in self.repository.versions(model)]
            if number not in stored:
                raise RefusedError(
                    404,
                    f"{model!r} has no version folder {number}",
                    code="version_not_found",
                    hint=f"it has {', '.join(map(str, stored))}",
                )
            return self._serve(model, number)

    def _serve(self, model: str, number: int) -> int:
        refuse_misplaced_version(model, number, self.repository.versions(model))
        before = self.repository.config_text(model)
        self.repository.write_config(model, self.repository.config_serving(model, number))
        try:
            self._load(model)
        except RefusedError as error:
            self.repository.write_config(model, before)
            self._reload_quietly(model)
            raise RefusedError(
                error.status,
                f"version folder {number} of {model} is not served, what was served stays: {error.what}",
                code=error.case,
                hint=error.hint,
            ) from error
        _log.info("%s serves version folder %d", model, number)
        return number

    def load(self, name: str) -> None:
        """Makes the engine serve a model."""
        with self._locked(name) as model:
            self.repository.folder(model)
            self._load(model)

    def _load(self, model: str) -> None:
        """Makes the engine serve a model, unless its plan is for another machine than the engine's."""
        if self.plan_host is not None and self.repository.versions(model):
            number = self.repository.served_number(model)
            refuse_plan(self.repository.folder(model) / str(number), self.plan_host)
        self.engine.load(model)

    def unload(self, name: str) -> None:
        """Makes the engine stop serving a model, until it is loaded again or the service is started again."""
        with self._locked(name) as model:
            self.repository.folder(model)
            self.engine.unload(model)

    def index(self) -> list[ModelState]:
        """The state of every model in the engine."""
        return self.engine.index()

    def load_missing(self) -> list[str]:
        """Loads every model whose served version the engine does not have ready.

        Returns:
            What could not be loaded, a line each.

        Raises:
            EngineError: the engine cannot be reached.
        """
        ready = {(state.name, state.version) for state in self.engine.index() if state.state == READY}
        faults: list[str] = []
        for name in self.repository.models():
            try:
                with self._locked(name) as model:
                    if (model, str(self.repository.served_number(model))) not in ready:
                        self._load(model)
            except (RefusedError, PackageError) as error:
                faults.append(f"{name} is not served: {error.line()}")
        return faults
