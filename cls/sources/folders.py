"""Photos in one folder a category: `<group>/<category>/*.jpg`, or `<category>/*.jpg` of one group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cls.collector.photo_set import FoundPhoto, PhotoSet, build_photo_set
from cls.errors import CollectorError, FileError
from cls.people.photos import PHOTO_SUFFIXES
from cls.sources.tags_csv import TAGS_FILE, read_tagged_photos


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
