"""The version after those that are there: one answer for storage, export and demonstration."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cls.package.model_name import next_version, version_key

releases = st.builds(lambda a, b, c: f"{a}.{b}.{c}", *[st.integers(0, 10**6)] * 3)
words = st.from_regex(r"(0|[1-9][0-9]{0,5}|[a-z-][a-z0-9-]{0,4})", fullmatch=True)
versions = releases | st.builds(lambda r, w: f"{r}-{'.'.join(w)}", releases, st.lists(words, min_size=1, max_size=8))


@given(st.lists(versions, max_size=6))
def test_the_next_version_is_above_all(taken: list[str]) -> None:
    after = version_key(next_version(taken))
    assert after is not None
    for text in taken:
        key = version_key(text)
        assert key is not None
        assert key < after


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([], "0.0.1"),
        (["", "latest"], "0.0.1"),
        (["0.0.2", "1" * 5000 + ".0.0"], "0.0.3"),
        (["0.0.2"], "0.0.3"),
        (["0.0.9", "0.0.10", "0.0.2"], "0.0.11"),
        (["1.0.0", "0.9.9"], "1.0.1"),
        (["1.0.0-rc.1"], "1.0.0"),
        (["1.0.0-rc.1", "1.0.0+x"], "1.0.1"),
    ],
)
def test_next_versions(taken: list[str], expected: str) -> None:
    assert next_version(taken) == expected


def test_the_order_of_semver_org() -> None:
    ordered = [
        *("1.0.0-1", "1.0.0-2", "1.0.0-11", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta"),
        *("1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.1.0", "2.0.0"),
    ]
    keys = [version_key(text) for text in ordered]
    assert None not in keys
    assert all(one < other for one, other in itertools.pairwise(keys))  # type: ignore[operator]
    assert version_key("1.0.0+x") == version_key("1.0.0+y.2") == version_key("1.0.0")


def test_the_longest_version() -> None:
    longest = "1.0.0-" + "a" * 94
    assert len(longest) == 100
    assert version_key(longest) is not None
    assert version_key(longest + "a") is None
