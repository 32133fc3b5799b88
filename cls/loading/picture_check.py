"""Whether bytes are a whole picture."""

from __future__ import annotations

from cls.errors import FileError


def problem_of_picture(content: bytes) -> str | None:
    """Why bytes cannot be used as a picture; None when they can: what `cls.people.photos` reads, whole."""
    from cls.people.photos import check_photo

    try:
        check_photo(content)
    except FileError as error:
        return f"the file {error.what}"
    return None
