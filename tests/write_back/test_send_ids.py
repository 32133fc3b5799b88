"""Write-back knows people by their ids, also where a photo was segmented again in the meantime."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cls.collector.payloads import Box, Picset, entry_of, picset_of
from cls.write_back.changes import PicsetState, changes_between, table_of
from cls.write_back.picset_updates import plan_sending, plan_withdrawal
from cls.write_back.ret_meta import FilePredictions, PicsetPredictions, PredictedPerson, with_predictions
from cls.write_back.statements import OwnStatements, Sent, SentJournal, Statement, person_of

GUID, RUN = "g", "v__0_train_eff_4_0.001"
LEFT, RIGHT = (0.1, 0.1, 0.4, 0.9), (0.3, 0.1, 0.6, 0.9)
# The same two found by another model: each box overlaps the other one's old box by more than half.
LEFT_AGAIN, RIGHT_AGAIN = (0.22, 0.1, 0.55, 0.9), (0.16, 0.1, 0.45, 0.9)


def picset(*trained: Mapping[str, Any]) -> Picset:
    items = [{"origin": {"filepath": "d/9/e/g/p/a.jpeg"}, "trained": list(trained)}]
    return picset_of({"picset": {"guid": GUID}, "items": items}, where="test")


def predicted(*people: tuple[str, Box, str], group: str = "hat") -> PicsetPredictions:
    found = tuple(PredictedPerson("female", box, {group: (label,)}, name) for name, box, label in people)
    return PicsetPredictions(GUID, (FilePredictions({group: RUN}, {"a.jpeg": found}),))


def send(journal: SentJournal, before: Picset, *layers: PicsetPredictions) -> Picset:
    """What the collector has after a sending."""
    wanted = PicsetPredictions(GUID, tuple(layer for one in layers for layer in one.layers))
    update = plan_sending(journal, [wanted]).update(before)
    journal.has_sent(GUID, update.sent)
    return picset_of(json.loads(json.dumps(update.after.content)), where="test")


def trained(found: Picset) -> list[dict[str, Any]]:
    return found.content["items"][0]["trained"]  # type: ignore[no-any-return]


@pytest.fixture
def journal(tmp_path: Path) -> SentJournal:
    return SentJournal(tmp_path / "journal", "http://collector")


def test_the_collector_is_sent_no_id(journal: SentJournal) -> None:
    after = send(journal, picset(), predicted(("p1", LEFT, "cap")))
    assert trained(after) == [
        {"gender": "female", "bbox": list(LEFT), "groups": [{"group": "hat", "category": ["cap"]}]}
    ]


def test_a_preview_tells_by_the_id_who_changed(journal: SentJournal, tmp_path: Path) -> None:
    """By their boxes alone, the two would be taken for each other."""
    after = send(journal, picset(), predicted(("p1", LEFT, "cap"), ("p2", RIGHT, "beret")))
    again = predicted(("p2", RIGHT_AGAIN, "hood"), ("p1", LEFT_AGAIN, "helmet"))
    read_again = SentJournal(tmp_path / "journal", "http://collector")
    update = plan_sending(read_again, [again]).update(after)
    changes = [change.as_json() for change in update.changes().changes]
    told = [(one["change"], one["person"], one["was"], one["becomes"]) for one in changes]
    assert told == [("changed", "p2", ("beret",), ("hood",)), ("changed", "p1", ("cap",), ("helmet",))]
    rows = table_of([update.changes()], 9)
    assert "p2 female 0.16 0.10 0.45 0.90" in rows[1]


def test_somebody_else_in_the_same_place_is_somebody_else(journal: SentJournal) -> None:
    after = send(journal, picset(), predicted(("p1", LEFT, "cap")))
    update = plan_sending(journal, [predicted(("p9", LEFT, "hood"))]).update(after)
    found = [(change.kind, change.statement.person) for change in update.changes().changes]
    assert found == [("added", "p9"), ("removed", "p1")]


def test_a_withdrawal_names_people(journal: SentJournal) -> None:
    after = send(journal, picset(), predicted(("p1", LEFT, "cap"), ("p2", RIGHT, "beret")))
    changes = plan_withdrawal(journal, {"hat": RUN}).update(after).changes().changes
    assert [(one.kind, one.statement.person) for one in changes] == [("removed", "p1"), ("removed", "p2")]


def test_what_others_changed_of_somebody_is_left_and_named(journal: SentJournal) -> None:
    after = send(journal, picset(), predicted(("p1", LEFT, "cap")))
    trained(after)[0]["groups"][0]["category"] = ["beret"]
    after = picset_of(after.content, where="test")
    update = plan_sending(journal, [predicted(("p1", LEFT, "hood"))]).update(after)
    (change,) = update.changes().changes
    assert (change.kind, change.statement.person, change.becomes) == ("left", "p1", ("beret",))
    assert not update.is_change or trained(update.after) == trained(after)


def test_groups_segmented_at_different_times_meet_at_their_people(journal: SentJournal) -> None:
    hats = predicted(("p1", LEFT, "cap"), ("p2", RIGHT, "beret"))
    tops = predicted(("p1", LEFT_AGAIN, "red top"), ("p2", RIGHT_AGAIN, "blue top"), group="top_color")
    expected = [["cap", "red top"], ["beret", "blue top"]]
    together = trained(send(journal, picset(), hats, tops))
    assert [[label for part in one["groups"] for label in part["category"]] for one in together] == expected
    apart = trained(send(journal, send(journal, picset(), hats), tops))
    assert apart == together
    # Sent again, it says the same.
    again = plan_sending(journal, [PicsetPredictions(GUID, (*hats.layers, *tops.layers))])
    after = send(journal, picset(), hats, tops)
    assert trained(again.update(after).after) == together


def test_an_entry_is_somebodys_only_while_it_stands_as_it_was_sent() -> None:
    sent = Statement("a.jpeg", "female", LEFT, "hat", ("cap",), "p1")
    entry = {"gender": "female", "bbox": list(LEFT), "groups": [{"group": "hat", "category": ["cap"]}]}
    assert OwnStatements([sent]).person_of("a.jpeg", entry_of(entry)) == "p1"
    assert OwnStatements([sent]).person_of("b.jpeg", entry_of(entry)) == ""
    assert OwnStatements([sent]).person_of("a.jpeg", entry_of({**entry, "bbox": list(RIGHT)})) == ""
    assert OwnStatements([sent]).person_of("a.jpeg", entry_of({})) == ""
    twin = Statement("a.jpeg", "female", LEFT, "hat", ("cap",), "p2")
    assert OwnStatements([sent, twin]).person_of("a.jpeg", entry_of(entry)) == ""


@pytest.mark.parametrize(
    ("said", "known", "person"),
    [
        (("female", LEFT, "cap"), [("female", LEFT, "cap", "p1"), ("female", LEFT, "hood", "p2")], "p1"),
        (("female", LEFT, "beret"), [("female", LEFT, "cap", "p1"), ("female", LEFT, "hood", "p2")], ""),
        (("female", LEFT, "beret"), [("female", LEFT, "cap", "p1"), ("female", RIGHT, "hood", "p2")], "p1"),
        (("female", LEFT, "cap"), [("female", LEFT, "cap", "")], ""),
        (("male", LEFT, "cap"), [("female", LEFT, "cap", "p1")], ""),
        (("female", RIGHT, "cap"), [("female", LEFT, "cap", "p1")], ""),
    ],
)
def test_whom_a_statement_is_about(
    said: tuple[str, Box, str], known: Sequence[tuple[str, Box, str, str]], person: str
) -> None:
    statements = [Statement("a.jpeg", gender, box, "hat", (label,), name) for gender, box, label, name in known]
    gender, box, label = said
    assert person_of(Statement("a.jpeg", gender, box, "hat", (label,)), statements) == person


def test_an_older_journal_and_people_without_ids(tmp_path: Path) -> None:
    """Lines that name nobody are read as before; who is who is told by the boxes then."""
    row = ["a.jpeg", "female", list(LEFT), "hat", ["cap"], RUN]
    line = {"collector": "http://one", "guid": GUID, "state": "sent", "sha256": "d", "statements": [row], "before": {}}
    (tmp_path / "journal").write_text(json.dumps(line) + "\n")
    journal = SentJournal(tmp_path / "journal", "http://one")
    assert journal.of(GUID) == Sent("d", ((Statement("a.jpeg", "female", LEFT, "hat", ("cap",)), RUN),))
    at_collector = picset({"gender": "female", "bbox": list(LEFT), "groups": [{"group": "hat", "category": ["cap"]}]})
    near = (0.11, 0.1, 0.41, 0.9)
    update = plan_sending(journal, [predicted(("p1", near, "hood"))]).update(at_collector)
    (change,) = update.changes().changes
    assert (change.kind, change.statement.person, change.was, change.becomes) == ("changed", "p1", ("cap",), ("hood",))
    journal.has_sent(GUID, update.sent)
    ((said, _),) = SentJournal(tmp_path / "journal", "http://one").of(GUID).statements
    assert said.person == "p1"


def test_a_box_alone_does_not_take_somebodys_old_statement() -> None:
    old = Statement("a.jpeg", "female", LEFT, "hat", ("cap",), "p1")
    new = Statement("a.jpeg", "female", LEFT_AGAIN, "hat", ("hood",), "p1")
    unknown = PredictedPerson("female", LEFT, {"hat": ("beret",)})
    before = with_predictions(picset(), {"a.jpeg": [PredictedPerson("female", LEFT, {"hat": ("cap",)})]}, {"hat": RUN})
    people = [unknown, PredictedPerson("female", LEFT_AGAIN, {"hat": ("hood",)})]
    after = with_predictions(picset(), {"a.jpeg": people}, {"hat": RUN})
    changes = changes_between(GUID, PicsetState(before.picset, [old]), PicsetState(after.picset, [new])).changes
    assert [(one.kind, one.statement.person, one.becomes) for one in changes] == [
        ("changed", "p1", ("hood",)),
        ("added", "", ("beret",)),
    ]
