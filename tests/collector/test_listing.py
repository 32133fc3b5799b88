"""Categories become one row a photo, whatever their order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cls.collector.listing import (
    LabelledPicture,
    ListedPhoto,
    evenly_spaced,
    is_trash,
    merge_categories,
    picture_name,
    problem_of_filepath,
)
from cls.errors import CollectorError

CATEGORY = st.sampled_from(["black hair", " black hair ", "blonde hair", "hair_color trash", "Trash", "red"])
PHOTO = st.builds(
    ListedPhoto,
    st.sampled_from(["", "none", "0/0/a.jpeg", "0/1/a.jpeg", "0/0/b.jpeg", "0/0/c.jpeg", "0/../d.jpeg"]),
    st.sampled_from(["", "p1", "p2"]),
)
CATEGORIES = st.dictionaries(CATEGORY, st.lists(PHOTO, max_size=8), max_size=6)


@given(CATEGORIES, st.randoms())
def test_the_order_of_an_answer_changes_nothing(categories: dict[str, list[ListedPhoto]], random: object) -> None:
    shuffled_names = list(categories)
    random.shuffle(shuffled_names)  # type: ignore[attr-defined]
    shuffled = {}
    for name in shuffled_names:
        shuffled[name] = list(categories[name])
        random.shuffle(shuffled[name])  # type: ignore[attr-defined]
    assert merge_categories("hair_color", shuffled) == merge_categories("hair_color", categories)


@given(CATEGORIES)
def test_nothing_is_lost_and_nothing_doubled(categories: dict[str, list[ListedPhoto]]) -> None:
    listing = merge_categories("hair_color", categories)
    entries = [photo for photos in categories.values() for photo in photos]
    placeholders = [photo for photo in entries if len(photo.filepath) < 5]
    assert listing.placeholder_count == len(placeholders)
    told = [picture.filepath for picture in listing.pictures] + [picture.filepath for picture in listing.skipped]
    assert len(told) == len(set(told))
    assert set(told) == {photo.filepath for photo in entries} - {photo.filepath for photo in placeholders}
    for picture in listing.pictures:
        expected = {
            name.strip()
            for name, photos in categories.items()
            if not is_trash(name) and picture.filepath in {photo.filepath for photo in photos}
        }
        assert picture.labels == tuple(sorted(expected))
    assert list(listing.labels) == sorted({name.strip() for name in categories if not is_trash(name)})


def test_several_categories_make_several_labels() -> None:
    photo = ListedPhoto("d/9/e/g/p/a.jpeg", "g")
    listing = merge_categories("accessories", {"scarf": [photo], "bag": [photo, photo], "accessories trash": []})
    assert listing.pictures == (LabelledPicture("d/9/e/g/p/a.jpeg", "g", ("bag", "scarf")),)
    assert listing.pictures[0].name == "a.jpeg"
    assert listing.labels == ("bag", "scarf")
    assert listing.picsets == ["g"]


def test_trash_means_none_of_the_labels_and_a_label_outweighs_it() -> None:
    only, both = ListedPhoto("0/0/a.jpeg"), ListedPhoto("0/0/b.jpeg")
    listing = merge_categories("hat", {"hat trash": [only, both], "cap": [both]})
    assert [picture.labels for picture in listing.pictures] == [(), ("cap",)]
    assert listing.contradictory == ("0/0/b.jpeg",)


@pytest.mark.parametrize("category", ["path", " path "])
def test_a_category_that_the_dataset_cannot_hold_is_an_error(category: str) -> None:
    with pytest.raises(CollectorError) as caught:
        merge_categories("hat", {category: []})
    assert caught.value.code == "collector.reserved_category"
    assert "'hat'" in caught.value.what
    assert "'path'" in caught.value.what


def test_a_category_without_a_name_is_an_error() -> None:
    with pytest.raises(CollectorError) as caught:
        merge_categories("hat", {"  ": []})
    assert caught.value.code == "collector.unnamed_category"
    assert "'hat'" in caught.value.what


@pytest.mark.parametrize(
    "filepath",
    [
        "../../etc/passwd",
        "a/../b.jpeg",
        "a/./b.jpeg",
        "/etc/passwd",
        "a//b.jpeg",
        "0/0/0/",
        "0/0/..",
        "0/0/.hidden",
        "0/0/.a.jpeg.1-ab.part",
        "0\\..\\a.jpeg",
        "0/a\0.jpeg",
        "0/a\n.jpeg",
        "0/0/" + "x" * 252 + ".jpeg",
        "0/0/" + "é" * 126 + ".jpeg",
        "0/0/\ud800.jpeg",
    ],
)
def test_addresses_that_must_not_be_stored(filepath: str) -> None:
    assert problem_of_filepath(filepath)
    listing = merge_categories("hat", {"cap": [ListedPhoto(filepath)]})
    assert not listing.pictures
    assert len(listing.skipped) == 1


@pytest.mark.parametrize("filepath", ["d/9/e/g/p/0.jpeg", "photo.jpeg", "0/a b.jpeg", "0/ä..jpeg", "0/" + "x" * 255])
def test_addresses_that_can(filepath: str) -> None:
    assert problem_of_filepath(filepath) is None
    assert "/" not in picture_name(filepath)


@given(st.lists(st.text(), unique=True), st.integers(1, 20))
def test_a_spread_keeps_order_and_count(items: list[str], limit: int) -> None:
    kept = evenly_spaced(items, limit)
    assert len(kept) == min(limit, len(items))
    assert kept == [item for item in items if item in set(kept)]
    assert evenly_spaced(items, None) == items


def test_a_spread_reaches_over_the_whole() -> None:
    assert evenly_spaced(list("abcdefghij"), 5) == ["a", "c", "e", "g", "i"]
