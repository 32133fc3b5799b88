"""The table of architectures is what was measured."""

from __future__ import annotations

from benchmarks.architectures import PAGE, page, read_results


def test_the_page_is_written_from_the_results() -> None:
    results = read_results()
    assert PAGE.read_text(encoding="utf-8") == page(results)
    assert {*results["rows"], *results["trials"]} <= set(results["families"])
    assert not [row for row in results["rows"].values() if row.get("same") and not row.get("people")]
