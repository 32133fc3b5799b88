"""JSON files that CLS writes, as typed records: validated once, when they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cls.errors import FileError
from cls.files import read_json, write_json_atomic

_MOST_FAULTS = 5


class Record(BaseModel):
    """A JSON object that CLS writes; frozen.

    A file of an earlier version may lack keys: what it does not say has the field's default, and is not written back.
    Keys of later versions are kept as they came.
    """

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    def plain(self) -> dict[str, Any]:
        """The JSON values that were given or read; defaults are left out."""
        return self.model_dump(mode="json", exclude_unset=True)

    def having(self, **changes: object) -> Self:
        """The same with other values, which are not validated.

        Raises:
            TypeError: a name is none of the fields.
        """
        if unknown := changes.keys() - type(self).model_fields.keys():
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        return self.model_copy(update=changes)


_Record = TypeVar("_Record", bound=BaseModel)


def read_record(path: Path, kind: type[_Record], hint: str | None = None) -> _Record:
    """Reads a JSON file of a known kind.

    Raises:
        FileError: it is missing, cannot be read, is not JSON, or holds something else; names every key at fault.
    """
    content = read_json(path)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise FileError(
            f"does not hold what it should: {faults_of(error)}", code="invalid_content", where=path, hint=hint
        ) from error


def write_record(path: Path, record: Record, *, indent: int | None = 2) -> None:
    """Writes a record as JSON, whole or not at all."""
    write_json_atomic(path, record.plain(), indent=indent)


def faults_of(error: ValidationError) -> str:
    """What a value does not fulfil, on one line: `validation.macro.f1: Input should be a valid number`."""
    faults = [
        ": ".join(part for part in (".".join(map(str, fault["loc"])), fault["msg"]) if part)
        for fault in error.errors(include_url=False, include_input=False)
    ]
    more = f"; and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
    return "; ".join(faults[:_MOST_FAULTS]) + more
