"""Any group's name as a name that folders and URLs take."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cls.errors import PackageError
from cls.package.model_name import is_model_name, is_model_of_group, model_name_of_group


@given(st.text(min_size=1))
def test_any_text_becomes_a_name_no_client_encodes(group: str) -> None:
    name = model_name_of_group(group)
    assert is_model_name(name)
    assert quote(name, safe="") == name
    assert len(name) <= 200


@given(st.text(min_size=1), st.text(min_size=1))
def test_different_groups_have_different_names(one: str, other: str) -> None:
    assert (model_name_of_group(one) == model_name_of_group(other)) is (one == other)


@given(st.text(min_size=1))
def test_a_name_of_ours_is_of_one_group(group: str) -> None:
    name = model_name_of_group(group)
    assert is_model_of_group(name, group)
    assert is_model_of_group(name, name) is (name == group)


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("hair_color", "hair_color"),
        ("B c", "B~20c"),
        ("top/color", "top~2Fcolor"),
        ("hair~20color", "hair~7E20color"),
        ("шляпа", "~D1~88~D0~BB~D1~8F~D0~BF~D0~B0"),
        ("..", "~2E~2E"),
        ("-x.", "~2Dx~2E"),
        ("nul", "~6Eul"),
    ],
)
def test_examples(group: str, name: str) -> None:
    assert model_name_of_group(group) == name


def test_long_names_are_cut_and_stay_apart() -> None:
    one, other = model_name_of_group("ш" * 100 + "a"), model_name_of_group("ш" * 100 + "b")
    assert one != other
    assert is_model_name(one)


def test_a_long_name_is_cut_once() -> None:
    """Where a sign of three bytes does not fit any more, shorter ones behind it do not follow."""
    name = model_name_of_group("a" * 180 + "é" + "b" * 40)
    assert name.startswith("a" * 180 + "~~")


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(PackageError) as caught:
        model_name_of_group("")
    assert caught.value.code == "package.empty_name"
