"""The table of architectures is what was measured."""

from __future__ import annotations

from benchmarks.architectures import PAGE, page, read_results

_DIFFERS = {"model": "e", "input": "128x128", "train": True, "onnx": True, "same": False, "differ": 1, "people": 40}


def test_the_page_is_written_from_the_results() -> None:
    results = read_results()
    assert PAGE.read_text(encoding="utf-8") == page(results)
    assert {*results["rows"], *results["trials"]} <= set(results["families"])
    assert not [row for row in results["rows"].values() if row.get("same") and not row.get("people")]


def test_what_failed_is_told_from_what_was_not_reached() -> None:
    results = {
        "families": ["done", "late", "refused", "untried", "huge", "near", "far"],
        "rows": {
            "done": {"model": "a", "input": "128x128", "train": True, "onnx": True, "same": True, "people": 40},
            "late": {"model": "b", "input": "128x128", "train": True, "note": "ran out of time", "unfinished": True},
            "refused": {"model": "c", "input": "128x128", "train": True, "note": "no ONNX"},
            "huge": {"model": "d", "note": "not tried"},
            "near": {**_DIFFERS, "distance": 3e-8},
            "far": {**_DIFFERS, "distance": 0.01},
        },
        "trials": {},
    }
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ")[-3:] for line in page(results).splitlines()}
    assert rows["done"] == ["yes", "yes", "yes |"]
    assert rows["late"] == ["yes", "-", "- |"]
    assert rows["refused"] == ["yes", "no", "- |"]
    assert rows["huge"] == ["-", "-", "- |"]
    assert rows["near"] == ["yes", "yes", "rounding |"]
    assert rows["far"] == ["yes", "yes", "no |"]
    assert "5 were tried all the way: 1 decide the same, 1 but for rounding, 1 ran out of time or memory." in page(
        results
    )
