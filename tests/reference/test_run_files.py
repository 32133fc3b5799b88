"""docs/reference/run-files.md lists every key of the files that a run writes."""

from __future__ import annotations

from cls.metrics.scores import MeasureIntervals
from tests.reference.meta_json import fields_of, objects_of
from tests.reference.run_files import FILES


def test_every_key_has_a_meaning() -> None:
    kinds = {kind for root, _ in FILES.values() for _, kind in objects_of(root)} - {MeasureIntervals}
    assert [f"{kind.__name__}.{one.name}" for kind in kinds for one in fields_of(kind) if not one.meaning] == []
