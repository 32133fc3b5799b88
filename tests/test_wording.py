from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cls.wording import change, counted, difference, interval, magnitude, mean_over, percent, percent_interval, score


@pytest.mark.parametrize(
    ("count", "noun", "expected"),
    [(1, "photo", "1 photo"), (0, "photo", "0 photos"), (2, "picset", "2 picsets"), (1, "person", "1 person"),
     (1200, "person", "1200 people")],
)  # fmt: skip
def test_counts_and_nouns_agree(count: int, noun: str, expected: str) -> None:
    assert counted(count, noun) == expected


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (0.9965, 3, "0.996"), (0.9999999, 3, "0.999"), (1.0, 3, "1.000"), (1 - 1e-15, 3, "1.000"), (0.9965, 2, "0.99"),
        (0.0002, 3, "0.001"), (0.0, 3, "0.000"), (1e-15, 3, "0.000"), (0.29, 3, "0.290"), (2 / 3, 3, "0.667"),
        (0.8456, 3, "0.846"), (0.99, 3, "0.990"), (0.83156, 2, "0.83"), (None, 3, "-"), (1, 3, "1.000"),
        (float("nan"), 3, "-"),
    ],
)  # fmt: skip
def test_a_score_is_never_rounded_to_perfect(value: float | None, digits: int, expected: str) -> None:
    assert score(value, digits) == expected


@given(st.floats(0, 1), st.integers(2, 6))
def test_only_what_is_perfect_reads_as_perfect(value: float, digits: int) -> None:
    said = float(score(value, digits))
    assert abs(said - value) <= 10**-digits
    assert (said == 1) == (value >= 1 - 1e-12)
    assert (said == 0) == (value <= 1e-12)
    if value >= 1 - 10 ** (1 - digits) and value < 1 - 1e-12:
        assert said <= value


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.09375, "9.4%"), (0.00004, "0.1%"), (0.0, "0.0%"), (0.9999, "99.9%"), (1.0, "100.0%"), (0.008, "0.8%"),
     (None, "-")],
)  # fmt: skip
def test_percent(value: float | None, expected: str) -> None:
    assert percent(value) == expected


def test_intervals_differences_and_means() -> None:
    assert interval((0.83156, 1.0)) == "0.832–1.000"
    assert interval((0.83156, 0.9999), 2) == "0.83–0.99"
    assert interval(None) == ""
    assert percent_interval((0.021, 0.0938)) == "2.1–9.4%"
    assert [difference(value) for value in (0.0213, -0.5, 0.0, 1e-17, -0.00004, None)] == [
        "+0.021", "-0.500", "0.000", "0.000", "-0.00004", "-",
    ]  # fmt: skip
    assert [change(value) for value in (-0.0016, 0.0, -1e-17, 2e-7)] == [
        "-0.0016",
        "unchanged",
        "unchanged",
        "+0.0000002",
    ]
    assert [magnitude(value) for value in (0.0, 0.0213, 2.4e-7)] == ["0", "0.0213", "2.4\u00a0×\u00a010⁻⁷"]
    assert mean_over(8, 8) == "mean over 8 labels"
    assert mean_over(1, 8) == "mean over 1 of 8 labels"
    assert mean_over(1, 1) == "mean over 1 label"
