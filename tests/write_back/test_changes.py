"""The table of a preview."""

from __future__ import annotations

from cls.write_back.changes import Change, Kind, PicsetChanges, table_of
from cls.write_back.statements import Statement


def picset(guid: str, kinds: list[Kind]) -> PicsetChanges:
    said = Statement("1.jpeg", "female", (0.0, 0.0, 0.5, 1.0), "hat", ("cap",))
    return PicsetChanges(guid, {}, tuple(Change(kind, said, None, ("cap",)) for kind in kinds))


def test_what_takes_something_away_is_never_cut() -> None:
    picsets = [picset("a", ["added", "left", "added"]), picset("b", ["changed", "removed"])]
    lines = table_of(picsets, 3)
    assert [line.split()[:2] for line in lines[1:4]] == [["removed", "b"], ["changed", "b"], ["left", "a"]]
    assert lines[4] == "… and 2 more; --json FILE has them all"
    assert table_of([picset("a", [])], 3) == []
