"""What is left of files that name somebody."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cls.bottle.dataset_file import GroupDataset, LabelledRow
from cls.forgetting.redaction import FORGOTTEN, Names, RedactedFile, dataset_without, redacted_file

NAMES = Names(frozenset({"a.jpeg", "b c.jpeg"}), frozenset({"guid-1"}))

_named = st.sampled_from(["a.jpeg", "d/9/a.jpeg", "picture:b c.jpeg", "picset:guid-1", "a.jpeg|1|2|who", "guid-1"])
_text = st.one_of(_named, st.text(), st.sampled_from(["aa.jpeg", "a.jpeg.png", "a", "x/guid-12", "\ud800", "\u2028"]))
_json = st.recursive(
    st.one_of(st.none(), st.integers(), _text),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(_text, inner)),
    max_leaves=25,
)


def texts_of(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for one in pair for text in texts_of(one)]
    if isinstance(value, list):
        return [text for one in value for text in texts_of(one)]
    return [value] if isinstance(value, str) else []


def redacted_text(name: str, text: str, names: Names = NAMES) -> RedactedFile | None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, name)
        file.write_bytes(text.encode())
        return redacted_file(file, names)


@settings(max_examples=50)
@given(_json)
def test_nothing_names_them_afterwards_and_all_else_is_kept(value: Any) -> None:
    before = texts_of(value)
    named = [text for text in before if NAMES.named_by(text)]
    for name, text in (("x.json", json.dumps(value)), ("x.jsonl", f"{json.dumps(value)}\n")):
        redacted = redacted_text(name, text)
        assert (redacted is not None) == bool(named)
        if redacted is not None and redacted.content is not None and redacted.content.strip():
            after = texts_of(json.loads(redacted.content))
            assert not [one for one in after if NAMES.named_by(one)]
            assert set(after) <= {*before, FORGOTTEN}


def test_entries_go_and_others_stay() -> None:
    split = {"train": [["a.jpeg", "guid-9", [1.0]], ["x.jpeg", "guid-2", [0.0]]], "joined": {"c": ["picture:a.jpeg"]}}
    redacted = redacted_text("split.json", json.dumps(split))
    assert redacted is not None
    assert (redacted.found, redacted.count) == ({"a.jpeg"}, 2)
    assert json.loads(redacted.content or b"") == {"train": [["x.jpeg", "guid-2", [0.0]]], "joined": {"c": []}}
    item = {"origin": {"filepath": "d/9/a.jpeg"}, "trained": []}
    meta: dict[str, Any] = {"picset": {"guid": "guid-5"}, "items": [item, {"origin": {"filepath": "d/9/x.jpeg"}}]}
    redacted = redacted_text("meta.json", json.dumps(meta, indent=2))
    assert redacted is not None
    assert json.loads(redacted.content or b"") == {**meta, "items": meta["items"][1:]}
    worst = {"worst": {"picture": "a.jpeg", "label": "x"}}
    redacted = redacted_text("parity_report.json", json.dumps(worst))
    assert redacted is not None
    assert json.loads(redacted.content or b"") == {"worst": {"picture": FORGOTTEN, "label": "x"}}


@pytest.mark.parametrize("guid", ["guid-1", "guid-5"])
def test_a_picset_without_pictures_goes_whole(guid: str) -> None:
    meta = {"picset": {"guid": guid}, "items": [{"origin": {"filepath": "d/9/a.jpeg"}}]}
    redacted = redacted_text("meta.json", json.dumps(meta))
    assert redacted is not None
    assert redacted.content is None


def test_tables_lose_rows_and_pages_go() -> None:
    redacted = redacted_text("t.csv", 'picture,label\r\na.jpeg,"x, y"\r\nb.jpeg,"x, y"\r\n')
    assert redacted is not None
    assert redacted.content == b'picture,label\r\nb.jpeg,"x, y"\r\n'
    page = redacted_text("p.html", '<img src="../b%20c.jpeg">')
    assert page is not None
    assert page.content is None
    assert redacted_text("p.html", "<p>ab c.jpe") is None


def test_a_file_that_nobody_can_read_goes_when_it_names_them() -> None:
    cut_off = redacted_text("x.jsonl", '{"picture": "x.jpeg"}\n{"picture": "a.jpeg", "pe')
    assert cut_off is not None
    assert cut_off.content == b'{"picture": "x.jpeg"}'
    damaged = redacted_text("x.json", '{"picture": "a.jpeg"')
    assert damaged is not None
    assert damaged.content is None


def test_cut_outs_are_known_by_their_names_among_cut_outs_alone() -> None:
    among = Names(NAMES.pictures, is_among_cutouts=True)
    assert [among.named_by(name) for name in ("a_0.png", "b c.jpeg_12.jpg")] == ["a.jpeg", "b c.jpeg"]
    assert [among.named_by(name) for name in ("aa_0.png", "a_x.png", "a_0.txt", "a_0_0.png")] == [None] * 4
    assert NAMES.named_by("a_0.png") is None


def test_a_dataset_stays_one() -> None:
    rows = (LabelledRow("a.jpeg", (1.0,), "guid-9"), LabelledRow("x.jpeg", (0.0,), "guid-2"))
    extra = {"splits": {"seed 0": {"picture:a.jpeg": "train", "picset:guid-2": "valid"}}, "foreign": 3}
    redacted = RedactedFile()
    left = dataset_without(GroupDataset("hat", ("hat",), rows, extra), NAMES, redacted)
    assert (left.rows, left.labels) == (rows[1:], ("hat",))
    assert left.extra == {"splits": {"seed 0": {"picset:guid-2": "valid"}}, "foreign": 3}
    assert redacted.found == {"a.jpeg"}
