"""What the bottle's cache remembers of pictures, with stamps that tell whether a file has changed since."""

from __future__ import annotations

from pathlib import Path

from cls.errors import FileError
from cls.files import read_json

# Name -> stamp, and what is remembered, as text.
Memory = dict[str, tuple[str, str]]


def stamp_of(path: Path) -> str:
    """Size and time of change of a file; empty when there is none."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def read_memory(file: Path) -> Memory | None:
    """What a memory file holds; nothing where there is no file, None where it is damaged."""
    try:
        content = read_json(file) if file.exists() else {}
        return {str(name): (str(stamp), str(text)) for name, (stamp, text) in content.items()}
    except (FileError, TypeError, ValueError, AttributeError):
        return None
