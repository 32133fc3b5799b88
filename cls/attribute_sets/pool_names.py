"""Names of a set's pictures, safe in the bottle's common pool."""

from __future__ import annotations

from cls.files import safe_name

_SEPARATORS = ("/", "\\", "\0")


def pool_name(file_name: str, folder: str = "") -> str | None:
    """The name a picture gets in its set: its file name, with its folder before it where the set has several.

    Args:
        file_name: as the set's annotations give it.
        folder: e.g. the subset; empty for none.

    Returns:
        None when the annotations hold something that is no plain file name, such as a path that leads elsewhere.
    """
    if not file_name.strip() or file_name in (".", "..") or any(sign in file_name for sign in _SEPARATORS):
        return None
    return safe_name(f"{folder}-{file_name}" if folder else file_name)
