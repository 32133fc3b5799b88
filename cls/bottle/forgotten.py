"""ledger/forgotten.json: which pictures and picsets are never to come back into the bottle; it names none of them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from cls.bottle.layout import Bottle
from cls.errors import BottleError
from cls.files import read_json, write_json_atomic

_SALT_BYTES = 16


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
