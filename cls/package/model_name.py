"""What a group's model is called where it is served: any text as a name that folders and URLs take as it is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from cls.errors import PackageError
from cls.package.meta import SEMANTIC_VERSION

FIRST_VERSION = "0.0.1"
# Looked at before the numbers are: Python makes none of more than 4300 digits.
MAX_VERSION_SIGNS = 100
_VERSION = re.compile(SEMANTIC_VERSION)

# The three numbers, whether it is a release, and the parts of what leads to one.
VersionKey = tuple[tuple[int, int, int], bool, tuple[tuple[int, int, str], ...]]

# Triton does not decode the paths of its URLs: a name may only hold signs that no client encodes.
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
_NAME = re.compile(r"(?![.-])(?:[A-Za-z0-9_.-]|~[0-9A-F]{2})+(?<!\.)(?:~~[0-9a-f]{16})?")

# Names that Windows keeps for devices.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_MAX_BYTES = 200


def version_key(text: str) -> VersionKey | None:
    """What versions are compared by; None for a text that is not a semantic version, or is too long for one."""
    match = _VERSION.fullmatch(text) if len(text) <= MAX_VERSION_SIGNS else None
    if match is None:
        return None
    before_release = (match[4] or "")[1:]
    # A release comes after everything that leads to it; numbers come before words.
    parts = tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in before_release.split(".") if before_release
    )
    return (int(match[1]), int(match[2]), int(match[3])), not before_release, parts


def next_version(taken: Iterable[str]) -> str:
    """The smallest release above all taken versions; 0.0.1 where there are none.

    Args:
        taken: texts; those that are no semantic versions are passed over.
    """
    keys = [key for text in taken if (key := version_key(text)) is not None]
    if not keys:
        return FIRST_VERSION
    (major, minor, patch), is_release, _ = max(keys)
    return f"{major}.{minor}.{patch + is_release}"


def model_name_of_group(group: str) -> str:
    """The name of a group's model; different groups give different names, plain ones stay as they are.

    Signs other than ASCII letters, digits, `_`, `.` and `-` become `~XX`, byte by byte of their UTF-8: `hair color` is
    served as `hair~20color`. A name too long for a file system is cut and ends in `~~` and a digest of the whole text.

    Raises:
        PackageError: the text is empty.
    """
    if not group:
        raise PackageError("an empty text cannot name a model", code="empty_name", hint="give the group a name")
    content = group.encode("utf-8", "surrogatepass")
    is_reserved = _RESERVED.match(group) is not None
    parts = []
    for place, byte in enumerate(content):
        is_first, is_last = place == 0, place == len(content) - 1
        is_kept = byte in _PLAIN and not (
            (is_first and (byte in b".-" or is_reserved)) or (is_last and byte == ord("."))
        )
        parts.append(chr(byte) if is_kept else f"~{byte:02X}")
    name = "".join(parts)
    if len(name) <= _MAX_BYTES:
        return name
    digest = hashlib.sha256(content).hexdigest()[:16]
    # A cut inside `~XX` would leave a stump; cutting at a whole sign keeps the name readable.
    kept = ""
    for part in parts:
        if len(kept) + len(part) > _MAX_BYTES - len(digest) - 2:
            break
        kept += part
    return f"{kept}~~{digest}"


def is_model_of_group(name: str, group: str) -> bool:
    """Whether a model of this name is where a group's model is: named after it, or, by older tools, just as it is."""
    # A name with `~` is always one of ours, of another group than the one that is spelled like it.
    return name == model_name_of_group(group) or (name == group and "~" not in name)


def is_model_name(name: str) -> bool:
    """Whether a text can name a model's folder and stand in a URL as it is."""
    return len(name) <= _MAX_BYTES and _NAME.fullmatch(name) is not None and _RESERVED.match(name) is None
