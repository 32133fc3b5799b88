"""Where the results of an inference go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cls.errors import UsageError
from cls.prediction.contact_sheet import SHEET_NAME
from cls.prediction.results import TABLE_FORMATS, TableFormat, check_replaceable

DEFAULT_FORMATS: tuple[TableFormat, ...] = ("csv", "jsonl")
_STEM = "predictions"
# A folder may have a dot in its name (`of.today`); whoever writes one of these means a file.
_OTHER_FILES = {"xlsx", "xls", "ods", "tsv", "txt", "json", "ndjson", "feather", "db", "sqlite", "html", "md", "zip"}


@dataclass(frozen=True)
class Outputs:
    """The files of an inference.

    Attributes:
        tables: by format.
        sheet: the contact sheet; None where a table alone was asked for.
        journal: what was found so far.
        sorted_folder: where pictures are sorted into folders; None for nowhere.
    """

    tables: dict[TableFormat, Path]
    sheet: Path | None
    journal: Path
    sorted_folder: Path | None = None

    def check(self) -> None:
        """Checks that nobody's files would be replaced.

        Raises:
            FileError: one would.
        """
        check_replaceable([*self.tables.values(), *([self.sheet] if self.sheet else [])])


def outputs_of(out: Path, formats: Sequence[TableFormat] = (), sorted_folder: Path | None = None) -> Outputs:
    """The files of an inference.

    Args:
        out: a folder, or a table's file by its suffix (.csv, .jsonl, .parquet).
        formats: of the tables in a folder; CSV and JSON lines by default.
        sorted_folder: where pictures are sorted into folders.

    Raises:
        UsageError: a file and other formats were asked for, or a kind of file that is not written.
    """
    suffix = out.suffix[1:].lower()
    file_format = next((name for name in TABLE_FORMATS if name == suffix), None)
    if suffix in _OTHER_FILES and not out.is_dir():
        kinds = ", ".join(f".{name}" for name in TABLE_FORMATS)
        raise UsageError(f"--out {out}: no table of that kind is written", hint=f"give one of {kinds}, or a folder")
    if file_format is None or out.is_dir():
        tables = {name: out / f"{_STEM}.{name}" for name in formats or DEFAULT_FORMATS}
        return Outputs(tables, out / SHEET_NAME, out / f".{_STEM}.journal", sorted_folder)
    if formats and set(formats) != {file_format}:
        raise UsageError(f"--out names a .{suffix} file, and --format asks for {', '.join(formats)}")
    return Outputs({file_format: out}, None, out.with_name(f".{out.name}.journal"), sorted_folder)


def parse_formats(text: str) -> tuple[TableFormat, ...]:
    """Reads `csv,jsonl,parquet`.

    Raises:
        UsageError: one of them is not known.
    """
    asked = [part.strip().lower() for part in text.split(",") if part.strip()]
    unknown = [name for name in asked if name not in TABLE_FORMATS]
    if unknown or not asked:
        raise UsageError(f"--format: expected some of {', '.join(TABLE_FORMATS)}, found '{', '.join(unknown) or text}'")
    return tuple(name for name in TABLE_FORMATS if name in asked)
