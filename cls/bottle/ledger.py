"""The bottle's ledgers: pictures and where they came from, published model versions, segmentation models."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from cls.errors import BottleError
from cls.files import locked, read_json, sha256_of_file, write_json_atomic
from cls.records import JsonLines, faults_of

JOURNAL = Path("journals") / "model_versions.jsonl"

_FILE_NAME = "models.json"
_LOCK_NAME = ".models.lock"


@dataclass(frozen=True)
class KnownModel:
    """A model of a group, once for every version it goes by.

    Attributes:
        run: name of the training run it came from.
        weights_sha256: digest of its trained weights; run names repeat from machine to machine, this does not.
        version: semantic version it was published under; empty for a model that came from no storage.
        has_predicted: whether predictions for the collector were made with it; otherwise it was published.
    """

    group: str
    run: str
    weights_sha256: str
    version: str = ""
    has_predicted: bool = False


def remember_models(root: Path, models: Iterable[KnownModel]) -> None:
    """Enters models that are not there yet."""
    known = known_models(root)
    if new := [model for model in dict.fromkeys(models) if model not in known]:
        JsonLines(root / JOURNAL, KnownModel).append(*new, is_durable=True)


def known_models(root: Path) -> list[KnownModel]:
    """The models that were entered; lines that cannot be read are passed over."""
    return list(JsonLines(root / JOURNAL, KnownModel).read())


@dataclass(frozen=True)
class PictureEntry:
    """What is known of one picture of the pool.

    Attributes:
        name: file name in pictures/.
        filepaths: addresses it was found at in its source.
        sha256: digest of its bytes.
        size_bytes: its size when it was last looked at.
        mtime_ns: its time of change then; with the size it tells an unchanged file without reading it.
    """

    name: str
    filepaths: tuple[str, ...]
    sha256: str
    size_bytes: int
    mtime_ns: int

    def is_unchanged(self, file: Path) -> bool:
        """Whether the file still looks as it did."""
        try:
            status = file.stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.size_bytes, self.mtime_ns)


class PictureLedger:
    """A file of one JSON line a picture, only ever appended to; the last line of a name counts.

    A line that a killed process left half written is ignored: its picture is looked at again. Safe in several threads.

    Args:
        path: the ledger's file; made when the first picture is entered.

    Raises:
        FileError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._lines = JsonLines(path, PictureEntry)
        self._lock = threading.Lock()
        self._entries = {entry.name: entry for entry in self._lines.read()}

    def entry(self, name: str) -> PictureEntry | None:
        """What is known of a picture."""
        with self._lock:
            return self._entries.get(name)

    def entries(self) -> list[PictureEntry]:
        """What is known of every picture."""
        with self._lock:
            return list(self._entries.values())

    def enter(self, name: str, filepath: str, sha256: str, file: Path) -> None:
        """Enters a picture as it lies in the pool; a further address of the same content is added to the first.

        Raises:
            FileError: the ledger cannot be written.
        """
        status = file.stat()
        with self._lock:
            known = self._entries.get(name)
            filepaths = known.filepaths if known is not None and known.sha256 == sha256 else ()
            if filepath not in filepaths:
                filepaths = (*filepaths, filepath)
            entry = PictureEntry(name, filepaths, sha256, status.st_size, status.st_mtime_ns)
            if entry != known:
                self._lines.append(entry)
                self._entries[name] = entry


@dataclass(frozen=True)
class ModelFile:
    """A file that a version of a segmentation model was.

    Attributes:
        sha256: digest of its bytes.
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
    with locked(segments / _LOCK_NAME):  # two builders at a time would lose each other's entries
        known = read_models(segments)
        files = known.get(model_version, ())
        if any(entry.sha256 == sha256 for entry in files):
            return
        now = datetime.now(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
        known[model_version] = (*files, ModelFile(sha256, file.name, now))
        content = {version: [asdict(entry) for entry in entries] for version, entries in sorted(known.items())}
        write_json_atomic(segments / _FILE_NAME, content)


def read_models(segments: Path) -> dict[str, tuple[ModelFile, ...]]:
    """The files of each version, in the order of their first use; empty where nothing was segmented yet."""
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
