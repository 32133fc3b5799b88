"""The numbers of the parity page."""

from __future__ import annotations

from pathlib import Path

import pytest

from cls.exporting.parity.page import _person, write_page
from cls.exporting.parity.report import BatchResult, ParityReport, WorstSample
from cls.settings import ParityLimits

WORST = WorstSample("1.jpeg", "hat", 1, 0.1265, 0.25, 0.5)


def report_of(worst: WorstSample) -> ParityReport:
    batches = tuple(BatchResult(batch, 0.01, 0.001, 0.009, 1, 0.002, 0.5, 0.5) for batch in (1, 7, 64))
    return ParityReport(
        runtime="a runtime",
        precision="int8",
        samples=5,
        batch_sizes=(1, 7, 64),
        max_probability_difference=0.01,
        mean_probability_difference=0.001,
        p999_probability_difference=0.009,
        decisions=15,
        label_flips=1,
        label_flips_beyond_limit=0,
        limit=0.001,
        not_a_number=0,
        batch_difference=0.0,
        neighbour_difference=0.0,
        truth="labels",
        f1=0.5,
        ma=0.5,
        f1_change=0.0,
        ma_change=0.0,
        by_batch=batches,
        worst=worst,
        worst_samples=(worst,),
        limits=ParityLimits(),
    )


@pytest.mark.parametrize(
    ("found", "threshold", "shown"),
    [
        (0.25, 0.5, "0.1265 → 0.2500, threshold 0.5000"),
        (0.126504, 0.5, "0.126500 → 0.126504, threshold 0.500000"),
        (0.1265, 0.5, "0.1265 → 0.1265, threshold 0.5000"),
        (None, 0.126501, "0.126500 → NaN, threshold 0.126501"),
    ],
)
def test_numbers_have_as_many_digits_as_tell_them_apart(
    tmp_path: Path, found: float | None, threshold: float, shown: str
) -> None:
    worst = WorstSample("1.jpeg", "hat", 1, 0.1265, found, threshold)
    write_page(tmp_path / "page.html", "hat", "v__0", {"onnx_int8": report_of(worst)})
    page = (tmp_path / "page.html").read_text()
    assert shown in page
    assert 'data-name="changed decisions">1 of 15<' in page


def test_bars_are_drawn_to_a_tenth_of_a_percent() -> None:
    person = _person(WorstSample("1.jpeg", "hat", 1, 0.12345, None, 1 / 3))
    assert (person.expected_percent, person.found_percent, person.threshold_percent) == (12.3, 0.0, 33.3)
