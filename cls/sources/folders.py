"""Photos in a folder a category (`<group>/<category>/*.jpg`, or `<category>/*.jpg` of one group) or with tags.csv."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from cls.collector.photo_set import FoundPhoto, PhotoSet, build_photo_set
from cls.errors import CollectorError, FileError
from cls.files import read_json
from cls.people.photos import PHOTO_SUFFIXES

TAGS_FILE = "tags.csv"
GROUPS_FILE = "groups.json"
PICTURES_FOLDER = "images"
_TAG_SEPARATOR = ";"


def read_tagged_photos(folder: Path) -> Iterator[FoundPhoto]:
    """The photos of a tag table, with their categories in every group of the file of groups.

    `tags.csv` has the columns `file`, `tags` (separated by `;`) and, optionally, `picset`; photos lie in `images/` or
    beside the table. `groups.json` is `{group: [tag, …]}`. A photo with none of a group's tags has no category in it,
    which the set turns into trash.
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


def read_folders(folder: Path, group: str | None) -> Iterator[FoundPhoto]:
    """The photos below a folder, labelled by the folders they lie in.

    A category's folder may hold further folders: each is a picset. Photos directly in it are picsets of their own.
    Names that start with a dot are left out.

    Args:
        folder: holds `<group>/<category>/`, or `<category>/` when `group` is given.
        group: the one group, when the folders directly below are its categories.
    """
    for group_name, group_folder in [(group, folder)] if group else _subfolders(folder):
        for category, category_folder in _subfolders(group_folder):
            for file in sorted(category_folder.rglob("*")):
                inside = file.relative_to(category_folder).parts
                if file.suffix.lower() in PHOTO_SUFFIXES and not any(part.startswith(".") for part in inside):
                    yield FoundPhoto(file, {group_name: (category,)}, "/".join(inside[:-1]))


def open_photo_set(folder: Path, group: str | None = None, *, limit: int | None = None) -> PhotoSet:
    """Reads a folder of labelled photos, whichever way they are kept: a tag table, or one folder a category.

    Args:
        folder: holds tags.csv with groups.json, or `<group>/<category>/`, or `<category>/`.
        group: the group of `<category>/` folders that lie directly in `folder`.
        limit: take at most this many photos, spread evenly.

    Raises:
        CollectorError: the folder is missing, or kept in no known way; the hint shows all.
        FileError: a file in it cannot be read.
    """
    folder = folder.absolute()
    try:
        return build_photo_set(folder.name, _find_photos(folder, group), limit=limit)
    except OSError as error:
        raise FileError(
            f"cannot be read: {error.strerror}", code="unreadable", where=error.filename or folder
        ) from error


def group_of_layout(folder: Path, group: str | None) -> str | None:
    """The group to open a folder with: `group` when the folders in it hold photos, and so are its categories.

    None for a tag table, and for folders of groups.
    """
    if group is None or not folder.is_dir() or (folder / TAGS_FILE).exists():
        return None
    has_photos = any(
        file.suffix.lower() in PHOTO_SUFFIXES for _, category in _subfolders(folder) for file in category.iterdir()
    )
    return group if has_photos else None


def _find_photos(folder: Path, group: str | None = None) -> Iterator[FoundPhoto]:
    if not folder.is_dir():
        raise CollectorError("there is no such folder", code="folder_not_found", where=folder)
    if (folder / TAGS_FILE).exists():
        if group is not None:
            raise CollectorError(
                f"holds {TAGS_FILE}: its groups come from groups.json, and no group can be named for it",
                code="group_not_allowed",
                where=folder,
            )
        yield from read_tagged_photos(folder)
        return
    photos = list(read_folders(folder, group))
    if not photos:
        raise CollectorError(
            "holds no labelled photos",
            code="no_labelled_photos",
            where=folder,
            hint="expected tags.csv with groups.json, or <group>/<category>/*.jpg, or <category>/*.jpg and --group",
        )
    yield from photos


def _subfolders(folder: Path) -> list[tuple[str, Path]]:
    return [(entry.name, entry) for entry in sorted(folder.iterdir()) if entry.is_dir() and entry.name[0] != "."]
