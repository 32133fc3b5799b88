"""What `--source` names: folders, files, patterns and videos, as photos and videos in a fixed order."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from cls.errors import FileError
from cls.people.photos import PHOTO_SUFFIXES

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")


@dataclass(frozen=True)
class Sources:
    """What is looked at.

    Attributes:
        photos: in order, each once.
        videos: in order, each once.
        root: names in results are relative to this folder.
    """

    photos: tuple[Path, ...]
    videos: tuple[Path, ...]
    root: Path

    def name(self, file: Path) -> str:
        """What a photo or video is called in results."""
        return file.relative_to(self.root).as_posix() if file.is_relative_to(self.root) else file.name


def sources_of(given: Sequence[str]) -> Sources:
    """Finds what is named.

    A folder stands for the photos in it and in the folders below, in order of their names; videos are looked at when
    they are named, by themselves or by a pattern.

    Args:
        given: folders, files, patterns (`*`, `?`, `[…]`, `**`).

    Raises:
        FileError: one of them is not there, or holds no photo.
    """
    files: list[Path] = []
    roots: list[Path] = []
    for text in given:
        found, root = _found(text)
        files += found
        roots.append(root)
    unique = list(dict.fromkeys(files))
    root = roots[0] if len(set(roots)) == 1 else Path(os.path.commonpath([folder.absolute() for folder in roots]))
    if len(set(roots)) > 1:
        unique = list(dict.fromkeys(file.absolute() for file in unique))
    return Sources(
        tuple(file for file in unique if not _is_video(file)), tuple(file for file in unique if _is_video(file)), root
    )


def finds_below(given: Sequence[str], folder: Path) -> bool:
    """Whether the photos in subfolders of a folder would be found, by a folder that is named or by a pattern."""
    place = folder.resolve()
    for text in given:
        path = Path(text)
        if path.is_dir() and path.resolve() in (place, *place.parents):
            return True
        if not path.exists() and glob.has_magic(text):
            plain = _plain_part(path)
            parts = (*plain.resolve().parts, *path.parts[len(plain.parts) :])
            is_deep = "**" in parts and plain.resolve() in (place, *place.parents)
            pairs = zip(place.parts, parts, strict=False)
            if is_deep or (len(parts) > len(place.parts) and all(fnmatch(part, pattern) for part, pattern in pairs)):
                return True
    return False


def photos_below(source: Path) -> list[Path]:
    """The photos in a folder and the folders below, in order of their names; a single file stands for itself."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise FileError(
            "there is no such file or folder",
            code="not_found",
            where=source,
            hint="give photos, folders, patterns or videos with --source",
        )
    files = sorted(
        file
        for file in source.rglob("*")
        if file.suffix.lower() in PHOTO_SUFFIXES and not file.name.startswith(".") and file.is_file()
    )
    if not files:
        raise FileError(
            f"holds no photo ({', '.join(PHOTO_SUFFIXES)})",
            code="no_photos",
            where=source,
            hint="give another --source",
        )
    return files


def _is_video(file: Path) -> bool:
    return file.suffix.lower() in VIDEO_SUFFIXES


def _found(text: str) -> tuple[list[Path], Path]:
    """The files that one `--source` names, and the folder their names are relative to."""
    path = Path(text)
    if path.exists() or not glob.has_magic(text):
        return photos_below(path), path if path.is_dir() else path.parent
    # Path.glob refuses absolute patterns.
    matches = (Path(name) for name in glob.glob(text, recursive=True))  # noqa: PTH207
    files = sorted(
        file for file in matches if file.suffix.lower() in (*PHOTO_SUFFIXES, *VIDEO_SUFFIXES) and file.is_file()
    )
    if not files:
        raise FileError("no photo and no video matches", code="no_match", where=text, hint="give another --source")
    return files, _plain_part(path)


def _plain_part(pattern: Path) -> Path:
    """The folder that a pattern's matches lie in or below."""
    plain = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        plain.append(part)
    return Path(*plain)
