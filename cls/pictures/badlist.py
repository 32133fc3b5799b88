"""A list of pictures that must not be trained on: one name a line."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from cls.errors import FileError

_SEPARATORS = re.compile(r"[/\\]")


def read_badlist(path: Path) -> list[str]:
    """Reads the picture names of a badlist.

    Lines may end in any way; blank ones are passed over, so are white space and quotes around a name and folders before
    it (`d/9/e/guid/p/abc.jpeg` names `abc.jpeg`: a picture is known by the last part of its path). UTF-8, with or
    without a byte order mark, or UTF-16 with one, as Windows' editor saves it.

    Returns:
        Names in the file's order, each once.

    Raises:
        FileError: the file is missing, cannot be read, is no text, or names nothing.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileError("there is no such file", where=path) from None
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}", where=path) from error
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FileError("is not UTF-8 text", where=f"{path}:{line}", hint="save it as UTF-8, a name a line") from error
    if "\0" in text:
        raise FileError("is not a text file", where=path, hint="give a text file with one picture name a line")
    names = [picture_named(line) for line in re.split(r"\r\n|\r|\n", text)]
    unique = list(dict.fromkeys(name for name in names if name))
    if not unique:
        raise FileError("names no picture", where=path, hint="write one picture name a line")
    return unique


def picture_named(text: str) -> str:
    """The picture a line or a word names; empty for a blank one."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    return _SEPARATORS.split(text)[-1].strip()
