"""Semantic versions are ordered as semver.org says; model names cannot leave their folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cls.model_storage.names import RefusedError, SemanticVersion, model_folder_name, readable_version

numbers = st.integers(0, 10**6)
releases = st.builds(lambda a, b, c: f"{a}.{b}.{c}", numbers, numbers, numbers)
words = st.from_regex(r"(0|[1-9][0-9]{0,5}|[a-z-][a-z0-9-]{0,4})", fullmatch=True)
versions = st.one_of(
    releases, st.builds(lambda r, w: f"{r}-{'.'.join(w)}", releases, st.lists(words, min_size=1, max_size=8))
)


def test_the_order_of_semver_org() -> None:
    texts = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
    texts += ["1.0.0-rc.1", "1.0.0", "1.0.2", "1.0.10", "1.2.0", "1.10.0", "2.0.0", "10.0.0"]
    assert [item.text for item in sorted(map(SemanticVersion, reversed(texts)))] == texts


@given(versions, versions)
def test_the_order_is_total(one: str, other: str) -> None:
    a, b = SemanticVersion(one), SemanticVersion(other)
    assert (a < b) + (b < a) + (a == b) == 1


def test_build_data_does_not_make_another_version() -> None:
    assert SemanticVersion("1.0.0+mon") == SemanticVersion("1.0.0+tue")


@pytest.mark.parametrize("text", ["", "1", "1.0", "v1.0.0", "1.0.0.0", "01.0.0", "1.0.x", "latest", "1.0.0 ", "１.0.0"])
def test_other_texts_are_not_versions(text: str) -> None:
    with pytest.raises(RefusedError) as caught:
        SemanticVersion(text)
    assert (caught.value.status, caught.value.code) == (422, "storage.invalid_version")
    assert readable_version(text) is None


def test_a_version_of_unreasonable_length_is_refused() -> None:
    assert str(SemanticVersion("1.0.0-" + "a" * 94)).endswith("a")
    with pytest.raises(RefusedError) as caught:
        SemanticVersion("1.0.0-" + "a" * 95)
    assert caught.value.code == "storage.version_too_long"
    assert "101" in caught.value.what
    for text in (f"{'1' * 5000}.0.0", f"1.0.0-{'1' * 5000}"):  # more digits than Python makes a number of
        with pytest.raises(RefusedError) as caught:
            SemanticVersion(text)
        assert caught.value.code == "storage.version_too_long"
        assert str(len(text)) in caught.value.what
        assert readable_version(text) is None


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", "a\\b", "a\0b", "a\nb"])
def test_paths_are_no_model_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        model_folder_name(name, tmp_path)
    assert (caught.value.status, caught.value.code) == (422, "storage.invalid_model_name")


@given(st.text(min_size=1))
def test_a_model_name_is_one_folder(name: str) -> None:
    folder = Path("/nowhere/models")
    try:
        found = model_folder_name(name, folder)
    except RefusedError:
        return
    assert (folder / found).parent == folder
    assert found not in (".", "..")


def test_groups_and_their_models_are_both_understood(tmp_path: Path) -> None:
    assert model_folder_name("hair color", tmp_path) == "hair~20color"
    assert model_folder_name("hair~20color", tmp_path) == "hair~20color"
    (tmp_path / "hair color").mkdir()
    assert model_folder_name("hair color", tmp_path) == "hair color"


def test_folders_that_are_there_keep_their_names(tmp_path: Path) -> None:
    for name in (".hidden", "a b", "ш" * 100, "a" * 255):
        (tmp_path / name).mkdir()
    (tmp_path / "x y").touch()
    assert model_folder_name("a b", tmp_path) == "a b"
    assert model_folder_name("ш" * 100, tmp_path) == "ш" * 100, "200 bytes"
    assert model_folder_name("a" * 255, tmp_path) == "a" * 255
    assert model_folder_name(".hidden", tmp_path) == "~2Ehidden", "hidden folders are no models"
    assert model_folder_name("x y", tmp_path) == "x~20y", "a file is no model"
    assert len(model_folder_name("ш" * 128, tmp_path)) == 198, "256 bytes: no file system has such a folder"
    assert model_folder_name("x", tmp_path) == "x"


def test_refused_names_say_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        model_folder_name("a/b", tmp_path)
    assert "'a/b'" in caught.value.what
    assert "'a~2Fb'" in (caught.value.hint or "")
    with pytest.raises(RefusedError) as caught:
        model_folder_name("", tmp_path)
    assert caught.value.code == "storage.invalid_model_name"
    with pytest.raises(RefusedError) as caught:
        model_folder_name("/" + "a" * 90, tmp_path)
    assert caught.value.code == "storage.invalid_model_name"
    assert f"'/{'a' * 79}'" in caught.value.what


def test_versions_as_values() -> None:
    one, same, other = SemanticVersion("1.0.0+a"), SemanticVersion("1.0.0+b"), SemanticVersion("1.0.1")
    assert len({one, same, other}) == 2
    assert one <= same
    assert one < other
    assert one != "1.0.0+a"
    assert (str(one), repr(one), one.text) == ("1.0.0+a", "SemanticVersion(text='1.0.0+a')", "1.0.0+a")
    assert readable_version("1.0.0") == SemanticVersion("1.0.0")
    assert readable_version(None) is readable_version(1) is readable_version("1") is None
    with pytest.raises(RefusedError) as caught:
        SemanticVersion("1" * 101)
    assert re.search(f"'{'1' * 80}'.* 101 .* 100", caught.value.line())
    assert (caught.value.status, caught.value.code) == (422, "storage.version_too_long")
    with pytest.raises(RefusedError) as caught:
        SemanticVersion("x" * 90)
    assert re.search(rf"'{'x' * 80}'.* 0\.0\.1", caught.value.line())
    assert caught.value.code == "storage.invalid_version"
