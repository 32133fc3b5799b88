"""The collector's wire format, field by field: names as on the line, and what is taken where something is missing."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from cls.collector.listing import ListedPhoto
from cls.collector.payloads import (
    MODES,
    CategoryPayload,
    GuidsPayload,
    LoginPayload,
    Picset,
    PicsetsPayload,
    PicturesPayload,
    PicturesQueryPayload,
    TokenPayload,
    categories_of,
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
