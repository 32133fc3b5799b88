"""What is left of a file when pictures are to be forgotten: entries, lines and rows that name them go."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars

from cls.bottle.dataset_file import GroupDataset
from cls.errors import FileError
from cls.forgetting.names import Names

# Stands where an entry names a picture and cannot go without damaging what it belongs to.
FORGOTTEN = "(forgotten)"
_GONE = object()


@dataclass
class RedactedFile:
    """What is left of a file.

    Attributes:
        content: its new bytes; None where the whole file goes.
        found: pictures and picsets it named.
        count: entries, lines or rows that went.
    """

    content: bytes | None = None
    found: set[str] = field(default_factory=set)
    count: int = 0

    def count_mention(self, name: str) -> None:
        """Counts an entry of a picture or picset."""
        self.found.add(name)
        self.count += 1


def redacted_file(file: Path, names: Names) -> RedactedFile | None:
    """What is left of a file; None where it names nobody, or is of a kind that is not looked into.

    Raises:
        FileError: it cannot be read.
    """
    redacted = RedactedFile()
    name = names.named_by(file.name)
    if name is not None:
        redacted.count_mention(name)
        return redacted
    reader = _READERS.get(file.suffix)
    if reader is None:
        return None
    try:
        reader(file, names, redacted)
    except FileNotFoundError:
        return None  # Others may tidy up their own files meanwhile.
    except (OSError, csv.Error, polars.exceptions.PolarsError) as error:
        raise FileError(
            f"cannot be read: {error}", code="unreadable", where=file, hint="repair or remove it, and run again"
        ) from error
    return redacted if redacted.found else None


def dataset_without(dataset: GroupDataset, names: Names, redacted: RedactedFile) -> GroupDataset:
    """A dataset without the rows, parts and remembered subsets of pictures."""
    rows = []
    for row in dataset.rows:
        name = names.named_by(row.path)
        if name is None:
            rows.append(row)
        else:
            redacted.count_mention(name)
    return replace(dataset, rows=tuple(rows), extra=_without(dataset.extra, names, redacted))


def _of_json(file: Path, names: Names, redacted: RedactedFile) -> None:
    content = file.read_bytes()
    text = content.decode("utf-8-sig", errors="replace")
    try:
        value = json.loads(content.decode("utf-8-sig"))
    except ValueError:
        _of_damaged(text, names, redacted)
        return
    head = value.get("picset") if isinstance(value, dict) else None
    if isinstance(head, dict) and head.get("guid") in names.picsets:
        redacted.count_mention(head["guid"])
        return
    left = _without(value, names, redacted)
    # A picset without pictures is none.
    if not (head is not None and value.get("items") and not left["items"]):
        indent = 2 if "\n  " in text else 1 if "\n " in text else None
        redacted.content = f"{_as_text(left, indent)}\n".encode()


def _as_text(value: Any, indent: int | None) -> str:
    """JSON as the project writes it; text that no file can hold (half a surrogate pair) as JSON's own escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return json.dumps(value, indent=indent) if any("\ud800" <= sign <= "\udfff" for sign in text) else text


def _of_damaged(text: str, names: Names, redacted: RedactedFile) -> None:
    """What cannot be read, a file or a line, goes whole when it names somebody."""
    for name in names.all:
        if name in text:
            redacted.count_mention(name)


def _of_lines(file: Path, names: Names, redacted: RedactedFile) -> None:
    kept = []
    # Not splitlines(): other separators may stand inside a text.
    for line in file.read_bytes().decode(errors="surrogateescape").split("\n"):
        before = redacted.count
        try:
            value = json.loads(line)
        except ValueError:
            _of_damaged(line, names, redacted)
            if redacted.count == before:
                kept.append(line)
            continue
        left = _without_entry(value, names, redacted)
        if left is not _GONE:
            kept.append(line if redacted.count == before else _as_text(left, None))
    redacted.content = "\n".join(kept).encode(errors="surrogateescape")


def _of_csv(file: Path, names: Names, redacted: RedactedFile) -> None:
    content = file.read_bytes()
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n" if b"\r\n" in content else "\n")
    for row in csv.reader(io.StringIO(content.decode(errors="surrogateescape"), newline="")):
        name = next((name for cell in row if (name := names.named_by(cell))), None)
        if name is None:
            writer.writerow(row)
        else:
            redacted.count_mention(name)
    redacted.content = text.getvalue().encode(errors="surrogateescape")


def _of_parquet(file: Path, names: Names, redacted: RedactedFile) -> None:
    table = polars.read_parquet(file)
    if "picture" not in table.columns:
        return
    named = [names.named_by(str(value)) for value in table["picture"]]
    for name in named:
        if name is not None:
            redacted.count_mention(name)
    content = io.BytesIO()
    table.filter(polars.Series([name is None for name in named], dtype=polars.Boolean)).write_parquet(content)
    redacted.content = content.getvalue()


def _of_page(file: Path, names: Names, redacted: RedactedFile) -> None:
    for name in names.named_in_page(file.read_text(encoding="utf-8", errors="replace")):
        redacted.count_mention(name)


def _without(value: Any, names: Names, redacted: RedactedFile) -> Any:
    """A JSON value without the entries that name somebody."""
    if isinstance(value, list):
        return [left for one in value if (left := _without_entry(one, names, redacted)) is not _GONE]
    if isinstance(value, dict):
        kept = {}
        for key, one in value.items():
            if (name := names.named_by(key)) is not None:
                redacted.count_mention(name)
            else:
                kept[key] = _without(one, names, redacted)
        return kept
    if isinstance(value, str) and (name := names.named_by(value)) is not None:
        redacted.count_mention(name)
        return FORGOTTEN
    return value


def _without_entry(value: Any, names: Names, redacted: RedactedFile) -> Any:
    """An entry of a list, or a line of a file; `_GONE` where it is about somebody as a whole."""
    name = _about(value, names)
    if name is None and isinstance(value, list):
        name = next((found for one in value if isinstance(one, str) and (found := names.named_by(one))), None)
    if name is not None:
        redacted.count_mention(name)
        return _GONE
    return _without(value, names, redacted)


def _about(value: Any, names: Names) -> str | None:
    """Whom a text, or a text in a mapping (also in one that is part of it), names; lists say more than one thing."""
    if isinstance(value, str):
        return names.named_by(value)
    if isinstance(value, dict):
        return next((name for one in value.values() if (name := _about(one, names))), None)
    return None


_READERS: dict[str, Callable[[Path, Names, RedactedFile], None]] = {
    ".json": _of_json,
    ".jsonl": _of_lines,
    ".csv": _of_csv,
    ".parquet": _of_parquet,
    ".html": _of_page,
}
