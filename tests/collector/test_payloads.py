"""The collector's wire format, field by field: names as on the line, and what is taken where something is missing."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from cls.collector.listing import ListedPhoto
from cls.collector.payloads import (
    MODES,
    READ_SCHEME,
    WRITE_SCHEME,
    CategoryPayload,
    GroupLabels,
    GuidsPayload,
    LoginPayload,
    Picset,
    PicsetItem,
    PicsetsPayload,
    PicturesPayload,
    PicturesQueryPayload,
    ServedPicture,
    TokenPayload,
    TrainedEntry,
    categories_of,
    entry_of,
    parse,
    picset_of,
)
from cls.errors import CollectorError


def test_names_on_the_line() -> None:
    query = PicturesQueryPayload(list_by=2, groups=["g"])
    assert query.model_dump(by_alias=True) == {
        "listBy": 2, "categories": [], "groups": ["g"], "mode": ["PREPARING", "CHECKING", "VALIDATED"],
    }  # fmt: skip
    assert PicturesQueryPayload.model_validate({"listBy": 1}).list_by == 1
    assert PicturesQueryPayload.model_validate({"list_by": 1}).list_by == 1
    assert PicturesQueryPayload().list_by == 0
    assert MODES == ("PREPARING", "CHECKING", "VALIDATED")
    assert LoginPayload(login="a", password="b").model_dump() == {"login": "a", "password": "b"}
    assert GuidsPayload(guids=["x"]).model_dump() == {"guids": ["x"]}
    assert TokenPayload(token="t").token == "t"
    served = {"filepath": "0/a.jpg", "picsetGuid": "g", "filename": "a.jpg"}
    assert ServedPicture.model_validate(served).model_dump(by_alias=True) == served


def test_defaults_are_not_shared() -> None:
    PicturesQueryPayload().mode.clear()
    assert PicturesQueryPayload().mode == list(MODES)
    CategoryPayload().pictures.append(None)  # type: ignore[arg-type]
    assert CategoryPayload().pictures == []


def test_a_listing() -> None:
    payload = parse(
        PicturesPayload,
        {
            "data": {
                "red": {"pictures": [{"filepath": "a.jpg", "picsetGuid": "g", "more": 1}, {"picsetGuid": None}]},
                "blue": {"pictures": [{"filepath": None}, {"filepath": "b.jpg", "picset_guid": "not this name"}]},
                "none": {},
            },
            "message": "m",
        },
        where="http://x",
    )
    assert payload.message == "m"
    assert categories_of(payload) == {
        "red": [ListedPhoto("a.jpg", "g"), ListedPhoto("", "")],
        "blue": [ListedPhoto("", ""), ListedPhoto("b.jpg", "")],
        "none": [],
    }
    assert parse(PicturesPayload, {"data": {}}, where="x").message is None


PICSET: dict[str, Any] = {
    "picset": {"guid": "g1", "group": [{"group": "hat", "id": 1}, {"group": "top"}, {"group": "hat"}], "state": "NEW"},
    "items": [
        {"origin": {"filepath": "b.jpg", "size": 3}, "trained": [{"group": "hat"}]},
        {"origin": None},
        {"origin": {"filepath": None}},
        {},
        {"origin": {"filepath": "a.jpg"}, "trained": None},
    ],
    "version": 7,
}


def test_a_picset() -> None:
    assert picset_of(PICSET, where="x") == Picset("g1", ("hat", "top"), ("b.jpg", "", "a.jpg"), PICSET)
    assert picset_of(PICSET, where="x").content is PICSET
    bare = {"picset": {"guid": "g2"}}
    assert picset_of(bare, where="x") == Picset("g2", (), (), bare)


@pytest.mark.parametrize(
    ("kind", "value", "place"),
    [
        (TokenPayload, {"token": ""}, "token"),
        (TokenPayload, {}, "token"),
        (TokenPayload, [], "the answer"),
        (PicturesPayload, {"data": {"red": {"pictures": [{}, {"filepath": 3}]}}}, "data.red.pictures.1.filepath"),
        (PicturesPayload, {"data": {"red": {"pictures": [{"filepath": 3}, 4]}}}, "data.red.pictures.0.filepath"),
        (PicturesPayload, {"message": "m"}, "data"),
        (PicsetsPayload, {"data": {}}, "data"),
        (PicturesQueryPayload, {"listBy": "x"}, "listBy"),
    ],
)
def test_what_is_not_the_interface_is_named(kind: type[BaseModel], value: object, place: str) -> None:
    with pytest.raises(CollectorError) as caught:
        parse(kind, value, where="http://x/v1")
    assert (caught.value.code, caught.value.where) == ("collector.unexpected_answer", "http://x/v1")
    assert f": {place}: " in caught.value.what
    assert "collector_url" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"picset": {"guid": ""}}, "picset.guid"),
        ({"picset": {}}, "picset.guid"),
        ({"picset": {"guid": "g", "group": [{}]}}, "picset.group.0.group"),
        ({"items": None}, "items"),
        ({"items": [{"trained": {}}]}, "items.0.trained"),
        ({"items": [{"origin": {"filepath": 1}}]}, "items.0.origin.filepath"),
    ],
)
def test_what_is_no_picset_is_named(change: dict[str, object], place: str) -> None:
    with pytest.raises(CollectorError) as caught:
        picset_of({**PICSET, **change}, where="x")
    assert (caught.value.code, caught.value.where) == ("collector.unexpected_answer", "x")
    assert f": {place}: " in caught.value.what
    assert parse(PicsetsPayload, {"data": [3, None]}, where="x").data == [3, None], "checked one by one, later"


def test_an_entry_of_trained() -> None:
    labels: dict[str, Any] = {"group": "hat", "category": ["cap", "beanie"]}
    source: dict[str, Any] = {"gender": "female", "bbox": [0, 0.25, 1, 0.5], "groups": [labels]}
    said = GroupLabels("hat", ("cap", "beanie"), is_bare=True, source=labels)
    found = entry_of(source)
    assert found == TrainedEntry("female", (0.0, 0.25, 1.0, 0.5), (said,), is_bare=True, source=source)
    assert found.source is source
    assert [type(side) for side in found.box_xyxy_rel or ()] == [float] * 4
    assert entry_of({}) == TrainedEntry(None, None, None, is_bare=True, source={})
    assert not entry_of({**source, "score": 1}).is_bare


@pytest.mark.parametrize(
    "box",
    [
        None, {}, "0011", [], [0, 0, 1], [0, 0, 1, 1, 1], [0, 0, 1, "1"], ["0", 0, 1, 1], [0, 0, 1, None],
        [0, 0, 1, True], [False, 0, 1, 1], ["a", "b", "c", "d"], [0, 0, 1, 10**400],
    ],
)  # fmt: skip
def test_a_box_is_four_numbers(box: object) -> None:
    assert entry_of({"bbox": box}).box_xyxy_rel is None


@pytest.mark.parametrize(
    ("source", "labels"),
    [
        ({"group": "hat", "category": []}, ("hat", (), True)),
        ({"group": "hat"}, ("hat", None, True)),
        ({"category": ["cap"]}, (None, ("cap",), True)),
        ({"group": 3, "category": "cap"}, (None, None, True)),
        ({"group": None, "category": ["cap", 1]}, (None, None, True)),
        ({"group": "hat", "category": [1, "cap"], "by": "somebody"}, ("hat", None, False)),
        ("hat", (None, None, False)),
        (None, (None, None, False)),
    ],
)
def test_what_an_entry_says_of_a_group(source: object, labels: tuple[str | None, tuple[str, ...] | None, bool]) -> None:
    group, category, is_bare = labels
    found = entry_of({"groups": [source, {"group": "top"}]}).groups
    assert found is not None
    assert found[0] == GroupLabels(group, category, is_bare=is_bare, source=source)
    assert found[1].group == "top"


@pytest.mark.parametrize("groups", [None, {}, "hat", 3])
def test_groups_are_a_list(groups: object) -> None:
    assert entry_of({"groups": groups}).groups is None
    assert entry_of({"groups": []}).groups == ()


def test_other_groups_of_an_entry_leave_its_further_fields() -> None:
    source: dict[str, Any] = {"gender": "male", "groups": [{"group": "hat", "by": 1}, {"group": "top"}], "score": 2}
    entry = entry_of(source)
    assert entry.groups is not None
    changed = entry.with_groups(iter(entry.groups[:1]))
    assert changed.groups == entry.groups[:1]
    assert changed.source == {"gender": "male", "groups": [{"group": "hat", "by": 1}], "score": 2}
    assert entry_of(changed.source) == changed
    assert entry.source["groups"] == [{"group": "hat", "by": 1}, {"group": "top"}]
    assert entry.with_groups(()).source["groups"] == []


def test_photos_of_a_picset() -> None:
    said = {"gender": "male", "bbox": [0, 0, 1, 1]}
    items = [
        {"origin": {"filepath": "d/9/ab.jpeg"}, "trained": [said, {}]},
        {"origin": {"filepath": "a.jpg"}, "trained": []},
        {"origin": {"filepath": "b.gi"}, "trained": None},
        {"origin": {"filepath": "folder/"}},
        {"origin": {"filepath": None}},
        {"origin": {}},
        {"origin": None},
        {},
    ]
    found = picset_of({"picset": {"guid": "g"}, "items": items}, where="x").items
    assert found[0] == PicsetItem("ab.jpeg", (entry_of(said), entry_of({})))
    assert found[1] == PicsetItem("a.jpg", ())
    assert found[2:] == (PicsetItem(None, None),) * 6
    assert picset_of({"picset": {"guid": "g"}}, where="x").items == ()


@pytest.mark.parametrize(
    ("said", "versions"),
    [
        ({"hat": "v__1", "top": "", "bag": None, "shoes": 0}, {"hat": "v__1", "shoes": "0"}),
        ({}, {}),
        (None, {}),
        ("v__1", {}),
        ([["hat", "v__1"]], {}),
    ],
)
def test_runs_of_a_picset(said: object, versions: dict[str, str]) -> None:
    assert picset_of({"picset": {"guid": "g", "neural_version": said}}, where="x").versions == versions
    assert picset_of({"picset": {"guid": "g"}}, where="x").versions == {}


def test_photos_that_are_left_out() -> None:
    picset = picset_of(PICSET, where="x")
    assert picset.without_photos(lambda _: True) is picset
    asked: list[str] = []

    def is_kept(filepath: str) -> bool:
        asked.append(filepath)
        return filepath != "b.jpg"

    kept = picset.without_photos(is_kept)
    assert set(asked) == {"b.jpg", "", "a.jpg"}
    assert kept.filepaths == ("", "a.jpg")
    assert kept.content == {**PICSET, "items": PICSET["items"][1:]}
    assert (kept.guid, kept.groups) == (picset.guid, picset.groups)
    assert picset.filepaths == ("b.jpg", "", "a.jpg")
    placed = picset.without_photos(lambda filepath: filepath != "")
    assert placed.content["items"] == [PICSET["items"][0], PICSET["items"][4]]
    assert placed.filepaths == ("b.jpg", "a.jpg")


def test_other_entries_of_a_picset() -> None:
    picset = picset_of(PICSET, where="x")
    entry = entry_of({"gender": "male", "groups": [{"group": "top", "category": ["coat"]}], "score": 1})
    changed = picset.with_trained({0: [entry], 3: ()}, {"top": "v__2"})
    assert [item.get("trained") for item in changed.content["items"]] == [[entry.source], None, None, [], None]
    assert changed.content["items"][0]["origin"] == PICSET["items"][0]["origin"]
    assert changed.content["items"][4] is PICSET["items"][4]
    assert changed.content["picset"] == {**PICSET["picset"], "neural_version": {"top": "v__2"}}
    assert changed.content["version"] == 7
    assert changed.items[0].trained == (entry,)
    assert changed.versions == {"top": "v__2"}
    assert "neural_version" not in PICSET["picset"]
    assert picset.with_trained({}, {}).content == PICSET
    again = changed.with_trained({}, {"hat": "v__3"})
    assert again.content["picset"]["neural_version"] == {"top": "v__2", "hat": "v__3"}
    withdrawn = again.with_trained({}, {"top": ""})
    assert withdrawn.content["picset"]["neural_version"] == {"top": "", "hat": "v__3"}
    assert withdrawn.versions == {"hat": "v__3"}


def test_other_entries_of_a_picset_with_little_in_it() -> None:
    bare = picset_of({"picset": {"guid": "g", "neural_version": "none"}}, where="x")
    changed = bare.with_trained({0: []}, {"hat": "v__1"})
    assert changed.content == {"picset": {"guid": "g", "neural_version": {"hat": "v__1"}}}
    assert bare.with_trained({}, {}).content == bare.content


def test_calls_that_read_and_those_that_write_name_the_token_differently() -> None:
    assert (READ_SCHEME, WRITE_SCHEME) == ("bearer", "token")
