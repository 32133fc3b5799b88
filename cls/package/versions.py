"""Semantic versions as semver.org orders them; what follows a `+` does not count."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cls.package.meta import SEMANTIC_VERSION

FIRST_VERSION = "0.0.1"
# Looked at before the numbers are: Python makes none of more than 4300 digits.
MAX_VERSION_SIGNS = 100
_VERSION = re.compile(SEMANTIC_VERSION)

# The three numbers, whether it is a release, and the parts of what leads to one.
VersionKey = tuple[tuple[int, int, int], bool, tuple[tuple[int, int, str], ...]]


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
