from __future__ import annotations

import copy
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cls.people.person import Person
from cls.prediction.ret_meta import PredictedPerson, box_rel, picture_of_item, with_predictions

BOX = (0.1, 0.2, 0.5, 0.9)
OTHER_BOX = (0.6, 0.2, 0.9, 0.9)
RUNS = {"hair_color": "v__1_train_eff_4_0.001", "hat": "v__0_train_eff_4_0.001"}


def person(box: tuple[float, float, float, float] = BOX, **labels: tuple[str, ...]) -> PredictedPerson:
    return PredictedPerson("female", box, labels or {"hair_color": ("black hair",), "hat": ()})


def picset(*trained: dict[str, Any], **head: Any) -> dict[str, Any]:
    return {
        "picset": {"guid": "g", "group": [{"group": "hair_color"}], "unknown": [1], **head},
        "items": [
            {"origin": {"filepath": "d/9/e/g/p/a.jpeg", "width": 3}, "trained": list(trained), "more": {"x": 1}},
            {"origin": {"filepath": "none"}, "trained": []},
        ],
        "top": "kept",
    }


def entry(group: str, category: str, box: Any = BOX, **more: Any) -> dict[str, Any]:
    return {"gender": "female", "bbox": list(box), "groups": [{"group": group, "category": [category]}], **more}


def test_the_format_of_the_spec() -> None:
    result = with_predictions(picset(), {"a.jpeg": [person()]}, RUNS)
    assert result["items"][0]["trained"] == [
        {
            "gender": "female",
            "bbox": [0.1, 0.2, 0.5, 0.9],
            "groups": [
                {"group": "hair_color", "category": ["black hair"]},
                {"group": "hat", "category": ["hat trash"]},
            ],
        }
    ]
    assert result["picset"]["neural_version"] == RUNS


def test_everything_else_is_kept_and_the_source_untouched() -> None:
    content = picset(neural_version={"top_color": "v__9"})
    before = copy.deepcopy(content)
    result = with_predictions(content, {"a.jpeg": [person()]}, RUNS)
    assert content == before
    assert result["picset"]["neural_version"] == {"top_color": "v__9", **RUNS}
    del result["picset"]["neural_version"], before["picset"]["neural_version"]
    result["items"][0]["trained"] = []
    assert result == before


def test_pictures_nobody_looked_at_are_left_alone() -> None:
    content = picset(entry("hair_color", "red hair"))
    result = with_predictions(content, {}, RUNS)
    assert result["items"] == content["items"]


def test_nobody_in_the_picture() -> None:
    assert with_predictions(picset(entry("hat", "cap")), {"a.jpeg": []}, RUNS)["items"][0]["trained"] == []


def test_the_same_person_keeps_what_others_said() -> None:
    known = entry("top_color", "red top", (0.11, 0.2, 0.5, 0.88), note="x")
    stale = entry("hair_color", "red hair", (0.1, 0.2, 0.5, 0.9))
    merged = with_predictions(picset(known, stale), {"a.jpeg": [person()]}, RUNS)["items"][0]["trained"]
    assert len(merged) == 1
    assert merged[0]["note"] == "x"
    assert [part["group"] for part in merged[0]["groups"]] == ["top_color", "hair_color", "hat"]
    assert merged[0]["groups"][1]["category"] == ["black hair"]


def test_a_person_not_found_again_keeps_only_what_others_said() -> None:
    lost = entry("top_color", "red top", OTHER_BOX)
    ours = entry("hat", "cap", (0.0, 0.0, 0.05, 0.05))
    merged = with_predictions(picset(lost, ours), {"a.jpeg": [person()]}, RUNS)["items"][0]["trained"]
    assert [part["bbox"] for part in merged] == [list(BOX), list(OTHER_BOX)]


def test_entries_that_say_nothing_of_our_groups_stay_as_they_came() -> None:
    bare = {"gender": "male", "bbox": list(BOX)}
    merged = with_predictions(picset(bare), {"a.jpeg": [person()]}, RUNS)["items"][0]["trained"]
    assert merged[1] == bare


boxes = st.tuples(*[st.floats(0, 1)] * 4)
entries = st.lists(
    st.one_of(
        st.builds(entry, st.sampled_from(["hair_color", "hat", "top_color"]), st.text(), boxes),
        st.fixed_dictionaries({"bbox": st.none() | st.lists(st.floats(0, 1), max_size=5), "groups": st.none()}),
        st.just({}),
    ),
    max_size=4,
)


@given(known=entries, found=st.lists(st.builds(person, boxes), max_size=3))
def test_again_changes_nothing(known: list[dict[str, Any]], found: list[PredictedPerson]) -> None:
    once = with_predictions(picset(*known), {"a.jpeg": found}, RUNS)
    assert with_predictions(once, {"a.jpeg": found}, RUNS) == once
    assert with_predictions(picset(*known), {"a.jpeg": found}, RUNS) == once


@given(box=st.tuples(*[st.floats(-1e4, 1e4)] * 4), height=st.integers(1, 5000), width=st.integers(1, 5000))
def test_boxes_are_fractions(box: tuple[float, float, float, float], height: int, width: int) -> None:
    found = box_rel(Person("male", 0.9, box, (np.zeros((0, 2)),)), height, width)
    assert all(0 <= value <= 1 for value in found)


def test_box_of_a_photo() -> None:
    assert box_rel(Person("male", 0.9, (10, 20, 30, 40), ()), 100, 200) == (0.05, 0.2, 0.15, 0.4)


def test_names_of_pictures() -> None:
    assert picture_of_item({"origin": {"filepath": "d/9/e/g/p/ab.jpeg"}}) == "ab.jpeg"
    for item in (
        {},
        {"origin": None},
        {"origin": {"filepath": "x"}},
        {"origin": {"filepath": 3}},
        None,
        {"origin": {}},
    ):
        assert picture_of_item(item) is None
