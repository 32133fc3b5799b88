from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cls.collector.payloads import Picset, picset_of
from cls.people.photos import Person
from cls.write_back.ret_meta import PredictedPerson, box_rel, with_predictions, without_statements
from cls.write_back.statements import OwnStatements, Sent, SentJournal, Statement, statements_of

BOX = (0.1, 0.2, 0.5, 0.9)
OTHER_BOX = (0.6, 0.2, 0.9, 0.9)
RUNS = {"hair_color": "v__1_train_eff_4_0.001", "hat": "v__0_train_eff_4_0.001"}


def person(box: tuple[float, float, float, float] = BOX, **labels: tuple[str, ...]) -> PredictedPerson:
    return PredictedPerson("female", box, labels or {"hair_color": ("black hair",), "hat": ()})


def picset(*trained: dict[str, Any], **head: Any) -> Picset:
    content = {
        "picset": {"guid": "g", "group": [{"group": "hair_color"}], "unknown": [1], **head},
        "items": [
            {"origin": {"filepath": "d/9/e/g/p/a.jpeg", "width": 3}, "trained": list(trained), "more": {"x": 1}},
            {"origin": {"filepath": "none"}, "trained": []},
        ],
        "top": "kept",
    }
    return picset_of(content, where="test")


def entry(group: str, category: str, box: Any = BOX, **more: Any) -> dict[str, Any]:
    return {"gender": "female", "bbox": list(box), "groups": [{"group": group, "category": [category]}], **more}


def merged(content: Picset, people: list[PredictedPerson], ours: OwnStatements | None = None) -> list[dict[str, Any]]:
    """The entries of the first photo with predictions of two groups."""
    result = with_predictions(content, {"a.jpeg": people}, RUNS, ours or OwnStatements())
    trained: list[dict[str, Any]] = result.picset.content["items"][0]["trained"]
    return trained


def all_ours(content: Picset) -> OwnStatements:
    return OwnStatements(list(statements_of(content)))


def test_the_format_of_the_spec() -> None:
    result = with_predictions(picset(), {"a.jpeg": [person()]}, RUNS).picset.content
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
    before: Any = copy.deepcopy(content.content)
    result: Any = with_predictions(content, {"a.jpeg": [person()]}, RUNS).picset.content
    assert content.content == before
    assert result["picset"]["neural_version"] == {"top_color": "v__9", **RUNS}
    del result["picset"]["neural_version"], before["picset"]["neural_version"]
    result["items"][0]["trained"] = []
    assert result == before


def test_pictures_nobody_looked_at_are_left_alone() -> None:
    content = picset(entry("hair_color", "red hair"))
    result = with_predictions(content, {}, RUNS, all_ours(content)).picset.content
    assert result["items"] == content.content["items"]


def test_nobody_in_the_picture() -> None:
    content = picset(entry("hat", "cap"))
    assert merged(content, [], all_ours(content)) == []
    assert merged(content, []) == [entry("hat", "cap")]


def test_the_same_person_keeps_what_others_said() -> None:
    known = entry("top_color", "red top", (0.11, 0.2, 0.5, 0.88), note="x")
    stale = entry("hair_color", "red hair", (0.1, 0.2, 0.5, 0.9))
    content = picset(known, stale)
    found = merged(content, [person()], all_ours(content))
    assert len(found) == 1
    assert (found[0]["note"], found[0]["bbox"]) == ("x", [0.11, 0.2, 0.5, 0.88])
    assert [part["group"] for part in found[0]["groups"]] == ["top_color", "hair_color", "hat"]
    assert found[0]["groups"][1]["category"] == ["black hair"]


def test_where_somebody_has_said_something_the_prediction_gives_way() -> None:
    by_hand = {**entry("hair_color", "red hair", (0.12, 0.2, 0.5, 0.9)), "gender": "male"}
    result = with_predictions(picset(by_hand), {"a.jpeg": [person()]}, RUNS)
    (found,) = result.picset.content["items"][0]["trained"]
    assert found == {**by_hand, "groups": [*by_hand["groups"], {"group": "hat", "category": ["hat trash"]}]}
    assert [said.group for said in result.added] == ["hat"]
    # Others have said all there is of hair_color: no run of ours is named for it.
    assert result.picset.content["picset"]["neural_version"] == {"hat": RUNS["hat"]}


@pytest.mark.parametrize(
    "change",
    [
        {"gender": "male"},
        {"bbox": [0.1, 0.2, 0.5, 0.8]},
        {"groups": [{"group": "hair_color", "category": ["red hair"]}]},
        {"groups": [{"group": "hair_color", "category": ["black hair"], "by": "anna"}]},
        {"groups": [{"group": "hair_color", "category": []}]},
    ],
)
def test_what_somebody_changed_of_ours_is_theirs(change: dict[str, Any]) -> None:
    sent = picset(entry("hair_color", "black hair"))
    changed = {**entry("hair_color", "black hair"), **change}
    ours = all_ours(sent)
    assert merged(sent, [], ours) == []
    assert merged(picset(changed), [], ours) == [changed]
    assert without_statements(picset(changed), ["hair_color"], ours, {}).content["items"][0]["trained"] == [changed]


def test_what_somebody_added_to_an_entry_of_ours_stays() -> None:
    sent = entry("hair_color", "black hair")
    noted = {**sent, "note": "look again"}
    left = without_statements(picset(noted), ["hair_color"], all_ours(picset(sent)), {}).content["items"][0]["trained"]
    assert left == [{**noted, "groups": []}]


def test_a_person_not_found_again_keeps_only_what_others_said() -> None:
    lost = entry("top_color", "red top", OTHER_BOX)
    ours = entry("hat", "cap", (0.0, 0.0, 0.05, 0.05))
    content = picset(lost, ours)
    found = merged(content, [person()], OwnStatements(list(statements_of(picset(ours)))))
    assert [part["bbox"] for part in found] == [list(OTHER_BOX), list(BOX)]


def test_entries_that_say_nothing_of_groups_stay_as_they_came() -> None:
    bare = {"gender": "male", "bbox": list(BOX)}
    assert merged(picset(bare), [person()])[0] == bare


def test_groups_whose_models_saw_other_boxes_meet_in_one_entry_a_person() -> None:
    """Two people close together, segmented twice: each finds the entry that overlaps most."""
    left, right = (0.10, 0.1, 0.40, 0.9), (0.22, 0.1, 0.52, 0.9)
    left_again, right_again = (0.13, 0.1, 0.42, 0.9), (0.21, 0.12, 0.51, 0.9)
    first = with_predictions(
        picset(),
        {"a.jpeg": [person(left, hair_color=("black hair",)), person(right, hair_color=("red hair",))]},
        {"hair_color": "v__1"},
    )
    second = with_predictions(
        first.picset,
        {"a.jpeg": [person(right_again, hat=("cap",)), person(left_again, hat=())]},
        {"hat": "v__0"},
        OwnStatements(first.added),
    )
    said = [[part["category"] for part in one["groups"]] for one in second.picset.content["items"][0]["trained"]]
    assert said == [[["black hair"], ["hat trash"]], [["red hair"], ["cap"]]]
    again = with_predictions(
        second.picset,
        {"a.jpeg": [person(left_again, hair_color=("red hair",)), person(right_again, hair_color=())]},
        {"hair_color": "v__2"},
        OwnStatements((*first.added, *second.added)),
    )
    said = [[part["category"] for part in one["groups"]] for one in again.picset.content["items"][0]["trained"]]
    assert said == [[["hat trash"], ["red hair"]], [["cap"], ["hair_color trash"]]]


boxes = st.tuples(*[st.floats(0, 1)] * 4)
entries = st.lists(
    st.one_of(
        st.builds(entry, st.sampled_from(["hair_color", "hat", "top_color"]), st.text(), boxes | st.just(BOX)),
        st.fixed_dictionaries({"bbox": st.none() | st.lists(st.floats(0, 1), max_size=5), "groups": st.none()}),
        st.just({}),
    ),
    max_size=4,
)
people = st.lists(
    st.tuples(st.builds(person, boxes | st.sampled_from([BOX, OTHER_BOX])), st.booleans()), max_size=3
).map(lambda found: [replace(one, id=f"p{place}" * has_id) for place, (one, has_id) in enumerate(found)])


@given(known=entries, found=people)
def test_again_changes_nothing(known: list[dict[str, Any]], found: list[PredictedPerson]) -> None:
    once = with_predictions(picset(*known), {"a.jpeg": found}, RUNS)
    assert with_predictions(once.picset, {"a.jpeg": found}, RUNS, OwnStatements(once.added)).picset == once.picset
    assert with_predictions(picset(*known), {"a.jpeg": found}, RUNS).picset == once.picset


@given(known=entries, found=people)
def test_what_was_added_can_be_taken_away_again(known: list[dict[str, Any]], found: list[PredictedPerson]) -> None:
    """People's entries come through a sending and a withdrawal exactly as they were."""
    content = picset(*known)
    once = with_predictions(content, {"a.jpeg": found}, RUNS)
    for one in known:
        kept = [other for other in once.picset.content["items"][0]["trained"] if _starts_like(other, one)]
        assert kept, "an entry of others was changed"
    back = without_statements(once.picset, list(RUNS), OwnStatements(once.added), {})
    assert back.content["items"] == content.content["items"]


def _starts_like(found: dict[str, Any], known: dict[str, Any]) -> bool:
    """Whether an entry is a known one, with groups added behind its own at most."""
    if not known.get("groups") or not found.get("groups"):
        return found == known
    return {**found, "groups": found.get("groups", [])[: len(known["groups"])]} == known


@given(
    st.builds(
        Statement,
        st.text(),
        st.sampled_from(["female", None, 3]),
        boxes,
        st.text(),
        st.lists(st.text()).map(tuple),
    )
)
def test_statements_in_a_journal(said: Statement) -> None:
    with TemporaryDirectory() as folder:
        SentJournal(Path(folder) / "journal", "http://one").has_sent("g", Sent("d", ((said, "v__0"),)))
        assert SentJournal(Path(folder) / "journal", "http://one").of("g").statements == ((said, "v__0"),)


@given(box=st.tuples(*[st.floats(-1e4, 1e4)] * 4), height=st.integers(1, 5000), width=st.integers(1, 5000))
def test_boxes_are_fractions(box: tuple[float, float, float, float], height: int, width: int) -> None:
    found = box_rel(Person("male", 0.9, box, (np.zeros((0, 2)),)), height, width)
    assert all(0 <= value <= 1 for value in found)


def test_box_of_a_photo() -> None:
    assert box_rel(Person("male", 0.9, (10, 20, 30, 40), ()), 100, 200) == (0.05, 0.2, 0.15, 0.4)


def test_names_of_pictures() -> None:
    filepaths = ("d/9/e/g/p/ab.jpeg", "x", None)
    items = [{"origin": {"filepath": path}} for path in filepaths] + [{}, {"origin": None}, {"origin": {}}]
    found = picset_of({"picset": {"guid": "g"}, "items": items}, where="test")
    assert [item.picture for item in found.items] == ["ab.jpeg", *[None] * 5]
