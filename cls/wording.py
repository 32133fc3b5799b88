"""Numbers with their nouns: one photo, two photos."""

from __future__ import annotations

_PLURALS = {"entry": "entries", "person": "people"}


def counted(count: int, noun: str) -> str:
    """The count and the noun that belongs to it: `1 photo`, `2 photos`, `1200 people`.

    Args:
        count: how many.
        noun: the singular; it takes an s, but for the few whose plural is known here.
    """
    return f"{count} {noun if count == 1 else _PLURALS.get(noun, noun + 's')}"
