"""Where everything is in a bottle, and which pictures and picsets are never to come back into it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from cls.errors import BottleError
from cls.files import read_json, safe_name, write_json_atomic
from cls.settings import Settings

_SALT_BYTES = 16
META_FILE = "meta.json"  # of a picset


class ForgottenFile(BaseModel):
    """forgotten.json: the salt, and the SHA-256 of salt and name of each picture and picset, hexadecimal."""

    salt: str = Field(min_length=1)
    sha256_of_salt_and_name: list[str]


class ForgottenNames:
    """Names that were forgotten, as salted digests: `name in forgotten` is all that can be asked.

    Whoever has the list and a name can tell whether it stands on it; nobody can read names out of it.

    Args:
        salt: hexadecimal; of this bottle alone.
        digests: SHA-256 of salt and name, hexadecimal.
    """

    def __init__(self, salt: str = "", digests: Iterable[str] = ()) -> None:
        self._salt = salt or secrets.token_hex(_SALT_BYTES)
        self._digests = frozenset(digests)

    def __contains__(self, name: object) -> bool:
        return bool(self._digests) and isinstance(name, str) and self._digest(name) in self._digests

    def __len__(self) -> int:
        return len(self._digests)

    def with_names(self, names: Iterable[str]) -> ForgottenNames:
        """The same with further names."""
        return ForgottenNames(self._salt, self._digests | {self._digest(name) for name in names})

    def without_names(self, names: Iterable[str]) -> ForgottenNames:
        """The same without some names, which may be loaded again."""
        return ForgottenNames(self._salt, self._digests - {self._digest(name) for name in names})

    def as_file(self) -> ForgottenFile:
        """As the bottle keeps it."""
        return ForgottenFile(salt=self._salt, sha256_of_salt_and_name=sorted(self._digests))

    def _digest(self, name: str) -> str:
        return hashlib.sha256(f"{self._salt}{name}".encode(errors="surrogatepass")).hexdigest()


def _file(bottle: Bottle) -> Path:
    return bottle.ledger / "forgotten.json"


def read_forgotten(bottle: Bottle) -> ForgottenNames:
    """The bottle's list; an empty one where there is none.

    Raises:
        BottleError: it is damaged. It is never taken for empty: pictures would come back.
        FileError: it cannot be read.
    """
    file = _file(bottle)
    if not file.exists():
        return ForgottenNames()
    try:
        content = ForgottenFile.model_validate(read_json(file))
    except ValidationError as error:
        raise BottleError(
            "is not a list of forgotten pictures",
            code="damaged_forgotten_list",
            where=file,
            hint="restore it from a copy; without it, pictures that were forgotten are loaded again",
        ) from error
    return ForgottenNames(content.salt, content.sha256_of_salt_and_name)


def write_forgotten(bottle: Bottle, forgotten: ForgottenNames) -> None:
    """Writes the list, whole or not at all; the caller holds the bottle's load lock."""
    write_json_atomic(_file(bottle), forgotten.as_file().model_dump(), indent=1)


@dataclass(frozen=True)
class Bottle:
    """The folders and files of a bottle. Group names may be any text; folders are named by `cls.files.safe_name`."""

    settings: Settings

    @property
    def root(self) -> Path:
        """The bottle itself."""
        return self.settings.data_path

    @property
    def pictures(self) -> Path:
        """Every photo, one common pool."""
        return self.root / self.settings.pictures_dir

    def picture(self, name: str) -> Path:
        """One photo by its file name (the last part of its collector path)."""
        return self.pictures / name

    def meta(self, group: str) -> Path:
        """What the collector said of a group's picsets: `<picset guid>/meta.json` below."""
        return self.root / self.settings.meta_dir / safe_name(group)

    def meta_file(self, group: str, guid: str) -> Path:
        """What the collector said of one picset of a group."""
        return self.meta(group) / safe_name(guid) / META_FILE

    def dataset_file(self, group: str) -> Path:
        """The labelled dataset of a group."""
        return self.datasets / f"{safe_name(group)}.json"

    @property
    def datasets(self) -> Path:
        """The labelled datasets of all groups."""
        return self.root / self.settings.datasets_dir

    def models(self, group: str) -> Path:
        """The training runs of a group: `v__<n>_<mode>_<arch>_<batch>_<decay>/` below."""
        return self.root / self.settings.models_dir / safe_name(group)

    def inference_model(self, group: str) -> Path:
        """The exported model of a group: meta.json, model.onnx, model_onnx.zip, ..."""
        return self.root / self.settings.inference_models_dir / safe_name(group) / "inference_model"

    def pages(self, group: str, run: str) -> dict[str, Path]:
        """Title -> page of a run, of the package exported from it and of their group; some may not be there."""
        exported = self.inference_model(group).parent
        return {
            "training report": self.models(group) / run / "report.html",
            "parity report": exported / "parity_report.html",
            "refused conversions": exported / "parity_report_refused.html",
            "model card": exported / "model_card.html",
            "mask gallery": self.masks(group) / "index.html",
            "predictions": self.inference(group) / "contact_sheet.html",
        }

    def inference(self, group: str) -> Path:
        """Predictions made for a group."""
        return self.root / self.settings.inference_dir / safe_name(group)

    def masks(self, group: str) -> Path:
        """Cut-out pictures of a group for annotators to look at."""
        return self.root / self.settings.masks_dir / safe_name(group)

    @property
    def segments(self) -> Path:
        """What is known of segmentation: the last report, journals, and `models.json`, the files its models were."""
        return self.root / self.settings.segments_dir

    @property
    def ledger(self) -> Path:
        """Where things came from: `pictures.jsonl`, and `load/<group>.json`, the report of a group's last load."""
        return self.root / "ledger"

    @property
    def cache(self) -> Path:
        """Derived data that may be deleted at any time."""
        return self.root / "cache"

    @property
    def database_url(self) -> str:
        """URL of the pictures database: the configured one, or an SQLite file in the bottle."""
        return self.settings.pictures_info_db_url or f"sqlite:///{self.root / 'pictures.sqlite'}"
