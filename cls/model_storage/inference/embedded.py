"""The embedded inference engine: models of the repository in ONNX Runtime, on the CPU, in this process."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from cls.errors import PackageError
from cls.model_storage.inference.engine import READY, UNAVAILABLE, EngineError, ModelState
from cls.model_storage.inference.loaded_version import LoadedVersion, load_version
from cls.model_storage.inference.tensors import ProtocolError
from cls.model_storage.names import RefusedError
from cls.model_storage.repository import ModelRepository
from cls.package.triton_config import CONFIG_FILE_NAME, TritonConfig, parse_config


class EmbeddedEngine:
    """Serves a model repository as Triton does in explicit mode; see `engine.InferenceEngine`.

    Answers come from versions held in one mapping that is replaced as a whole: a request sees the old version or the
    new one, and finishes with the version it started with.
    """

    def __init__(self, repository: ModelRepository) -> None:
        self._repository = repository
        self._loaded: Mapping[str, Mapping[int, LoadedVersion]] = {}
        self._faults: dict[str, tuple[str, str]] = {}
        self._guard = threading.Lock()

    @property
    def description(self) -> str:
        """What it is, in a few words, for people."""
        import onnxruntime

        return f"embedded engine, ONNX Runtime {onnxruntime.__version__} on the CPU"

    def load(self, model: str) -> None:
        """Loads the versions that config.pbtxt asks for and lets go of the others; all of them, or none."""
        present = self._loaded.get(model, {})
        number = 0
        try:
            text = self._repository.config_text(model)
            where = f"{model}/{CONFIG_FILE_NAME}"
            if text is None:
                raise EngineError(422, f"model {model!r} has no config.pbtxt", code="missing_config")
            numbers = _wanted_numbers(
                parse_config(text, where), [item.number for item in self._repository.versions(model)]
            )
            if not numbers:
                raise EngineError(
                    422,
                    f"at least one version must be available under the version policy of {model!r}",
                    code="no_version",
                )
            versions = {}
            for number in numbers:
                versions[number] = load_version(
                    self._repository.models_folder / model / str(number), model, number, text, present.get(number)
                )
        except (RefusedError, PackageError, OSError) as error:
            what = error.what if isinstance(error, (RefusedError, PackageError)) else str(error)
            case = error.case if isinstance(error, RefusedError) else "load_failed"
            with self._guard:
                self._faults[model] = (str(number or ""), what)
            raise EngineError(422, f"the embedded engine does not load it: {what}", code=case) from error
        with self._guard:
            self._faults.pop(model, None)
            self._loaded = {**self._loaded, model: versions}

    def unload(self, model: str) -> None:
        """Stops serving a model; requests that run are answered."""
        with self._guard:
            self._faults.pop(model, None)
            self._loaded = {name: versions for name, versions in self._loaded.items() if name != model}

    def index(self) -> list[ModelState]:
        """Every model of the repository with the state of its versions."""
        with self._guard:
            loaded, faults = self._loaded, dict(self._faults)
        entries: list[ModelState] = []
        for model in self._repository.models():
            states = {str(number): ModelState(model, str(number), READY) for number in loaded.get(model, {})}
            if model in faults:
                number, reason = faults[model]
                states.setdefault(number, ModelState(model, number, UNAVAILABLE, reason))
            entries += states.values() or [ModelState(model)]
        return entries

    def close(self) -> None:
        """Lets go of all models."""
        with self._guard:
            self._loaded = {}

    def models(self) -> list[str]:
        """Names of the models being served."""
        return sorted(self._loaded)

    def versions(self, model: str, number: str = "") -> list[LoadedVersion]:
        """The versions of a model being served, the highest last; the one of this number where it is given.

        Raises:
            ProtocolError: 404, none is served; 400, that is no number.
        """
        if number and not (number.isascii() and number.isdigit()):
            raise ProtocolError(400, f"failed to get model version from specified version string '{number}'")
        versions = self._loaded.get(model)
        if not versions:
            raise ProtocolError(404, f"Request for unknown model: '{model}' is not found")
        if number and int(number) not in versions:
            raise ProtocolError(404, f"Request for unknown model: '{model}' version {int(number)} is not found")
        return [versions[one] for one in sorted(versions) if not number or one == int(number)]

    def version(self, model: str, number: str = "") -> LoadedVersion:
        """The highest of `versions`: what answers where no number is given."""
        return self.versions(model, number)[-1]


def _wanted_numbers(config: TritonConfig, there: Sequence[int]) -> list[int]:
    """The versions a config asks for: the named ones, all of which must be there, or the highest."""
    missing = [number for number in config.version_numbers if number not in there]
    if missing:
        raise EngineError(422, f"version folder {missing[0]} is not there", code="version_not_found")
    return sorted(config.version_numbers) or sorted(there)[-1:]
