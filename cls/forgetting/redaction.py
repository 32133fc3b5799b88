"""Removes the entries, lines and rows that name forgotten pictures from files."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import polars

from cls.bottle.dataset_file import GroupDataset, read_dataset
from cls.bottle.layout import META_FILE, Bottle
from cls.bottle.ledger import PictureLedger
from cls.collector.payloads import picset_of
from cls.errors import FileError
from cls.files import json_text, read_json, safe_name
from cls.loading.download import PICTURES_LEDGER

_CUTOUT = re.compile(r"(.+)_\d+\.(?:png|jpg)")

# Stands where an entry names a picture and cannot go without damaging what it belongs to.
FORGOTTEN = "(forgotten)"
_GONE = object()


@dataclass(frozen=True)
class Names:
    """Pictures and picsets that are to be forgotten.

    Attributes:
        pictures: file names in pictures/.
        picsets: GUIDs; all their pictures are among the former.
        is_among_cutouts: whether files named `<picture's name or its stem>_<person>.png` are of them too.
    """

    pictures: frozenset[str]
    picsets: frozenset[str] = frozenset()
    is_among_cutouts: bool = False

    @property
    def all(self) -> frozenset[str]:
        """Both."""
        return self.pictures | self.picsets

    @cached_property
    def _drawn(self) -> dict[str, str]:
        """How names of cut-outs begin -> the picture."""
        return {safe_name(base): name for name in self.pictures for base in (Path(name).stem or name, name)}

    def named_by(self, text: str) -> str | None:
        """Which of them a text is the name of: alone, as an address, in a split's memory, as a key of predictions."""
        forms = (
            text,
            text.rpartition("/")[2],
            text.removeprefix("picture:"),
            text.removeprefix("picset:"),
            text.rsplit("|", 3)[0],
        )
        name = next((form for form in forms if form in self.pictures or form in self.picsets), None)
        if name is None and self.is_among_cutouts and (drawn := _CUTOUT.fullmatch(text)):
            return self._drawn.get(drawn[1])
        return name

    def named_in_page(self, text: str) -> set[str]:
        """Which of them an HTML page names, in its text or in an address."""
        return {name for name in self.pictures if html.escape(name) in text or quote(name) in text}


def pictures_of_picsets(bottle: Bottle, guids: Sequence[str]) -> dict[str, set[str]]:
    """The pictures of picsets, as datasets, picsets' meta.json and the addresses of the pool's ledger know them.

    Returns:
        GUID -> file names; a picset that nothing is known of is missing.

    Raises:
        FileError, BottleError, CollectorError: a file of the bottle cannot be read.
    """
    found: dict[str, set[str]] = {guid: set() for guid in guids}
    for file in dataset_files(bottle):
        for row in read_dataset(file).rows:
            if row.picset in found:
                found[row.picset].add(row.path)
    for guid in guids:
        for file in (bottle.root / bottle.settings.meta_dir).glob(f"*/{safe_name(guid)}/{META_FILE}"):
            filepaths = picset_of(read_json(file), where=file).filepaths
            found[guid].update(PurePosixPath(path).name for path in filepaths if "/" in path)
    ledger = PictureLedger(bottle.ledger / PICTURES_LEDGER)
    for entry in ledger.entries():
        for part in {part for path in entry.filepaths for part in path.split("/")} & found.keys():
            found[part].add(entry.name)
    return {guid: names for guid, names in found.items() if names}


def dataset_files(bottle: Bottle) -> list[Path]:
    """The dataset files of all groups."""
    return [file for file in sorted(bottle.datasets.glob("*.json")) if not file.name.startswith(".")]


@dataclass
class RedactedFile:
    """What is left of a file.

    Attributes:
        content: its new bytes; None where the whole file goes.
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
        return None  # Others may tidy up their own files in the meantime.
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
        redacted.content = f"{json_text(left, indent=indent)}\n".encode()


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
            kept.append(line if redacted.count == before else json_text(left))
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
    """The picture or picset that a text, or a text anywhere in a mapping, names; lists are not looked into."""
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
