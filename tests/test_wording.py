from __future__ import annotations

import pytest

from cls.wording import counted


@pytest.mark.parametrize(
    ("count", "noun", "expected"),
    [(1, "photo", "1 photo"), (0, "photo", "0 photos"), (2, "picset", "2 picsets"), (1, "person", "1 person"),
     (1200, "person", "1200 people")],
)  # fmt: skip
def test_counts_and_nouns_agree(count: int, noun: str, expected: str) -> None:
    assert counted(count, noun) == expected
