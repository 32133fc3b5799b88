"""JSON and JSON lines files that CLS writes, as typed records: validated once, when they are read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from cls.errors import FileError
from cls.files import read_json, write_error, write_json_atomic, write_text_atomic

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_MOST_FAULTS = 5
# Kinds of pydantic's faults whose own words name Python's types.
_FAULTS = {
    **dict.fromkeys(("model_type", "dataclass_type", "dict_type"), "expected an object"),
    **dict.fromkeys(("named_tuple_type", "tuple_type", "list_type"), "expected a list"),
    "missing": "missing",
}


class Record(BaseModel):
    """A JSON object that CLS writes; frozen.

    A file of an earlier version may lack keys: what it does not say has the field's default, and is not written back.
    Keys of later versions are kept as they came.
    """

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    def to_json_values(self) -> dict[str, Any]:
        """The JSON values that were given or read; defaults are left out."""
        return self.model_dump(mode="json", exclude_unset=True)

    def replaced(self, **changes: object) -> Self:
        """The same with other values, validated as if they were read.

        Raises:
            TypeError: a name is none of the fields.
            ValidationError: a value does not fit its field.
        """
        if unknown := changes.keys() - type(self).model_fields.keys():
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        known = {name: value for name, value in self if name in self.model_fields_set}
        return self.model_validate({**known, **changes})


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
    write_json_atomic(path, record.to_json_values(), indent=indent)


_Line = TypeVar("_Line")


class JsonLines(Generic[_Line]):
    """A file of one JSON line a value, to which lines are appended; it is made with the first of them."""

    def __init__(self, path: Path, kind: type[_Line]) -> None:
        self._path = path
        self._adapter: TypeAdapter[_Line] = TypeAdapter(kind)

    def read(self) -> Iterator[_Line]:
        """The lines; one that was cut off by a kill, or is not valid, is passed over.

        Raises:
            FileError: the file cannot be read.
        """
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return
        except OSError as error:
            raise FileError(f"cannot be read: {error.strerror}", code="unreadable", where=self._path) from error
        for line in text.split("\n"):
            with suppress(ValidationError):
                yield self._adapter.validate_json(line)

    def append(self, *values: _Line, is_durable: bool = False) -> None:
        """Adds lines in one write, on the disk when this returns if `is_durable`; closes a line that was cut off first.

        Raises:
            FileError: the file cannot be written.
        """
        content = self._text(values).encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab+") as stream:
                if stream.tell():
                    stream.seek(-1, os.SEEK_END)
                    content = content if stream.read(1) == b"\n" else b"\n" + content
                stream.write(content)
                stream.flush()
                if is_durable:
                    os.fsync(stream.fileno())
        except OSError as error:
            raise write_error(self._path, error) from error

    def replace(self, values: Iterable[_Line]) -> None:
        """Writes the file again, whole or not at all."""
        write_text_atomic(self._path, self._text(values))

    def _text(self, values: Iterable[_Line]) -> str:
        lines = (self._adapter.dump_python(value, mode="json") for value in values)
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def faults_of(error: ValidationError) -> str:
    """What a value does not fulfil, on one line: `validation.macro.f1: expected a valid number`."""
    faults = [
        ": ".join(part for part in (".".join(map(str, fault["loc"])), fault_text(fault)) if part)
        for fault in error.errors(include_url=False, include_input=False)
    ]
    more = f"; and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
    return "; ".join(faults[:_MOST_FAULTS]) + more


def fault_text(fault: ErrorDetails) -> str:
    """What pydantic found, without names of classes: `expected an object`, `missing`."""
    if known := _FAULTS.get(fault["type"]):
        return known
    text = fault["msg"].removeprefix("Value error, ")
    for kind in ("greater", "less"):
        text = text.replace(f"Input should be {kind}", f"expected a value {kind}")
    return text.replace("Input should be", "expected")
