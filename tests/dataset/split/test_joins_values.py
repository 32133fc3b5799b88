"""What names a model or a shoot in a picset's meta.json, and what says nothing."""

from __future__ import annotations

import re

import pytest

from cls.dataset.split.assign import JoinedUnits, _values


@pytest.mark.parametrize(
    "text", ["", "-", "?", "0", "n/a", "NA", " none ", "Null", "unknown", "undefined", "other", 0, None, True, {}, []]
)
def test_what_says_nothing(text: object) -> None:
    assert _values(text) == set()


def test_an_object_is_named_by_its_guid_before_its_id_and_its_id_before_its_name() -> None:
    assert _values({"name": "N", "id": 7, "guid": "G"}) == {"g"}
    assert _values({"name": "N", "id": 7, "guid": ""}) == {"7"}
    assert _values({"name": "A  B", "id": None}) == {"a b"}
    assert _values([{"id": 1}, "x", ["y", "-"]]) == {"1", "x", "y"}


def test_clusters_are_counted_not_their_members() -> None:
    joins = JoinedUnits(
        {"picset:a": "joined:a", "picset:b": "joined:a", "picset:c": "joined:c", "x": "joined:c"}, {"meta": 2}
    )
    assert re.findall(r"\d+", joins.line()) == ["4", "2", "2"]
    assert joins.line().endswith(": meta 2")
