"""Photos with a table of tags (tags.csv) and a file of groups (groups.json)."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from cls.collector.photo_set import FoundPhoto
from cls.errors import CollectorError
from cls.files import read_json

TAGS_FILE = "tags.csv"
GROUPS_FILE = "groups.json"
PICTURES_FOLDER = "images"
_TAG_SEPARATOR = ";"


def read_tagged_photos(folder: Path) -> Iterator[FoundPhoto]:
    """The photos of a tag table, with their categories in every group of the file of groups.

    `tags.csv` has the columns `file`, `tags` (separated by `;`) and, optionally, `picset`; photos lie in `images/` or
    beside the table. `groups.json` is `{group: [tag, …]}`. A photo with none of a group's tags has no category in it,
    which the set turns into trash.

    Raises:
        CollectorError: a file cannot be used; names file and row.
        FileError: groups.json is missing or not JSON.
    """
    groups = _read_groups(folder / GROUPS_FILE)
    pictures = folder / PICTURES_FOLDER if (folder / PICTURES_FOLDER).is_dir() else folder
    merged: dict[str, tuple[set[str], str]] = {}
    for file, tags, picset in _read_rows(folder / TAGS_FILE):
        known_tags, known_picset = merged.setdefault(file, (set(), picset))
        known_tags.update(tags)
        merged[file] = (known_tags, known_picset or picset)
    for file, (tags, picset) in merged.items():
        categories = {group: tuple(tag for tag in names if tag in tags) for group, names in groups.items()}
        yield FoundPhoto(pictures / file, categories, picset)


_Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
_GROUPS = TypeAdapter(dict[str, Annotated[list[_Tag], Field(min_length=1)]])


def _read_groups(path: Path) -> Mapping[str, list[str]]:
    try:
        content = _GROUPS.validate_python(read_json(path))
    except ValidationError as error:
        raise CollectorError('expected {"group": ["tag", …], …}', code="unexpected_content", where=path) from error
    if not content or not all(group.strip() for group in content):
        raise CollectorError(
            "expected at least one group, each with a name",
            code="unnamed_group" if content else "no_groups",
            where=path,
        )
    return content


def _read_rows(path: Path) -> Iterator[tuple[str, set[str], str]]:
    """File, tags and picset of every row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            columns = reader.fieldnames or []
            missing = [name for name in ("file", "tags") if name not in columns]
            if missing:
                raise CollectorError(
                    f"has no column '{missing[0]}'",
                    code="missing_column",
                    where=path,
                    hint="expected the columns file,tags[,picset]",
                )
            for row in reader:
                yield _row(row, f"{path}:{reader.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CollectorError(f"cannot be read: {error}", code="unreadable", where=path) from error


def _row(row: Mapping[str, str | None], where: str) -> tuple[str, set[str], str]:
    file = (row["file"] or "").strip()
    parts = PurePosixPath(file.replace("\\", "/"))
    if not file or parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0]:
        raise CollectorError(
            f"'{file}' is not the name of a photo in this folder", code="invalid_file_name", where=where
        )
    tags = {tag.strip() for tag in (row["tags"] or "").split(_TAG_SEPARATOR)}
    return str(parts), tags - {""}, (row.get("picset") or "").strip()
