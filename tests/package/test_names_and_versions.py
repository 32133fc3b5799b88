"""Names of models and versions at their limits."""

from __future__ import annotations

import hashlib

import pytest

from cls.package.model_name import (
    FIRST_VERSION,
    MAX_VERSION_SIGNS,
    is_model_name,
    is_model_of_group,
    model_name_of_group,
    next_version,
    version_key,
)


@pytest.mark.parametrize(
    "group", ["a", "Z9_.-x", "a.b", "a-", "_", "0", "con1", "conx", "comx", "com10", "lpt", "x.con"]
)
def test_plain_names_stay(group: str) -> None:
    assert model_name_of_group(group) == group
    assert is_model_name(group)


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("con", "~63on"), ("CON.x", "~43ON.x"), ("Aux", "~41ux"), ("prn", "~70rn"), ("COM1", "~43OM1"),
        ("lpt9.txt", "~6Cpt9.txt"), ("nul.", "~6Eul~2E"), (".a", "~2Ea"), ("-", "~2D"), ("a.", "a~2E"), (".", "~2E"),
        ("a..b", "a..b"), ("a~b", "a~7Eb"), ("\ud800", "~ED~A0~80"), ("\n", "~0A"), ("-a-", "~2Da-"),
    ],
)  # fmt: skip
def test_other_signs_are_spelled_out(group: str, name: str) -> None:
    assert model_name_of_group(group) == name
    assert is_model_name(name)


def test_names_of_200_signs_and_more() -> None:
    assert model_name_of_group("a" * 200) == "a" * 200
    digest = hashlib.sha256(b"a" * 201).hexdigest()[:16]
    assert model_name_of_group("a" * 201) == "a" * 182 + "~~" + digest
    # 60 signs of three each are 180; the 61st would be one more than 182.
    content = ("a" + " " * 100).encode()
    assert model_name_of_group(content.decode()) == "a" + "~20" * 60 + "~~" + hashlib.sha256(content).hexdigest()[:16]
    content = ("aa" + " " * 100).encode()
    assert model_name_of_group(content.decode()).startswith("aa" + "~20" * 60 + "~~")
    content = ("aaa" + " " * 100).encode()
    assert model_name_of_group(content.decode()).startswith("aaa" + "~20" * 59 + "~~")


@pytest.mark.parametrize(
    "name",
    ["", ".a", "-a", "a.", "a~2", "a~2g", "a~2a", "a b", "a/b", "ä", "nul", "COM1.x", "a~~0123", "~~0123456789abcdef",
     "a" * 201, "a~~0123456789abcdefg", "a~~0123456789ABCDEF", "a\n"],
)  # fmt: skip
def test_texts_that_are_no_names(name: str) -> None:
    assert not is_model_name(name)


@pytest.mark.parametrize("name", ["a" * 200, "a~2A", "~2E", "a~~0123456789abcdef", "A.b-c_d"])
def test_texts_that_are_names(name: str) -> None:
    assert is_model_name(name)


def test_whose_name_it_is() -> None:
    assert is_model_of_group("hair~20color", "hair color")
    assert is_model_of_group("hair color", "hair color"), "as older tools named it"
    assert not is_model_of_group("hair~20color", "hair~20color")
    assert not is_model_of_group("hair", "hat")


def test_keys_of_versions() -> None:
    assert (FIRST_VERSION, MAX_VERSION_SIGNS) == ("0.0.1", 100)
    assert version_key("1.2.3") == ((1, 2, 3), True, ())
    assert version_key("1.2.3+b-1") == ((1, 2, 3), True, ())
    assert version_key("1.2.3-rc.1.x-y+b") == ((1, 2, 3), False, ((1, 0, "rc"), (0, 1, ""), (1, 0, "x-y")))
    assert version_key("0.0.1-0") == ((0, 0, 1), False, ((0, 0, ""),))
    assert version_key("1.0.0-" + "a" * 94) is not None
    assert version_key("1.0.0-" + "a" * 95) is None
    for text in ("1.2", "01.2.3", "1.2.3-", "1.2.3 ", "v1.2.3", ""):
        assert version_key(text) is None


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([], "0.0.1"), (["x"], "0.0.1"), (["0.0.0"], "0.0.1"), (["2.1.9", "2.2.0"], "2.2.1"),
        (["2.2.0-a", "2.1.7"], "2.2.0"), (["1.9.0", "1.10.0"], "1.10.1"), (["3.0.0-1", "3.0.0-2"], "3.0.0"),
    ],
)  # fmt: skip
def test_the_next_one(taken: list[str], expected: str) -> None:
    assert next_version(taken) == expected
    assert next_version(iter(taken)) == expected
