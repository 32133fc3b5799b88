"""segments/models.json: which files the segmentation models of a bottle were, by the version its database names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock
from pydantic import TypeAdapter, ValidationError

from cls.errors import BottleError
from cls.files import read_json, sha256_of_file, write_json_atomic
from cls.records import faults_of

_FILE_NAME = "models.json"
_LOCK_NAME = ".models.lock"


@dataclass(frozen=True)
class ModelFile:
    """A file that a version of a segmentation model was.

    Attributes:
        sha256: digest of its bytes.
        file: its name.
        first_used: when the bottle was first segmented with it, ISO 8601, UTC.
    """

    sha256: str
    file: str
    first_used: str


_MODELS = TypeAdapter(dict[str, tuple[ModelFile, ...]])


def remember_model(segments: Path, model_version: str, file: Path) -> None:
    """Enters a model's file; a file known under this version is left as it is.

    Args:
        segments: the bottle's segments folder.
        model_version: what the pictures database calls the model. Different files may go by one version.
        file: the model.

    Raises:
        BottleError: models.json is not what this writes.
        FileError: models.json cannot be read or written.
    """
    sha256 = sha256_of_file(file)
    segments.mkdir(parents=True, exist_ok=True)
    with FileLock(segments / _LOCK_NAME):  # two builders at a time would lose each other's entries
        known = read_models(segments)
        files = known.get(model_version, ())
        if any(entry.sha256 == sha256 for entry in files):
            return
        now = datetime.now(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
        known[model_version] = (*files, ModelFile(sha256, file.name, now))
        content = {version: [asdict(entry) for entry in entries] for version, entries in sorted(known.items())}
        write_json_atomic(segments / _FILE_NAME, content)


def read_models(segments: Path) -> dict[str, tuple[ModelFile, ...]]:
    """The files of each version, in the order of their first use; empty where nothing was segmented yet.

    Raises:
        BottleError: models.json is not what `remember_model` writes.
        FileError: it cannot be read or is not JSON.
    """
    path = segments / _FILE_NAME
    if not path.exists():
        return {}
    content = read_json(path)
    try:
        return _MODELS.validate_python(content)
    except ValidationError as error:
        raise BottleError(
            f"is not a list of segmentation models: {faults_of(error)}",
            code="damaged_model_list",
            where=path,
            hint="remove it; it is written again when people are cut out again",
        ) from error


def digests_of_models(segments: Path, versions: Iterable[str]) -> dict[str, list[str]]:
    """Model version -> SHA-256 of every file it was, sorted; none where masks came from elsewhere."""
    known = read_models(segments)
    return {version: sorted(entry.sha256 for entry in known.get(version, ())) for version in versions}
