"""Folders of labelled photos, kept in each of the known ways."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest

from cls.collector.client import PictureMissingError
from cls.collector.photo_set import PhotoSet, guid_of
from cls.errors import ClsError, CollectorError
from cls.sources.folders import group_of_layout, open_photo_set
from tests.collector.photos import GROUPS, PICSET_A, PICSET_B, ROWS, small_set, tagged_set, write_photo


def categories(photos: PhotoSet, group: str) -> Mapping[str, list[str]]:
    return {name: [photo.name for photo in found] for name, found in photos.categories(group).items()}


def test_a_tag_table_with_picsets(tmp_path: Path) -> None:
    photos = open_photo_set(small_set(tmp_path / "set"))
    assert photos.groups == ["accessories", "hair_color"]
    assert categories(photos, "hair_color") == {
        "black hair": ["a.jpeg", "b.jpeg"],
        "blonde hair": ["c.jpeg"],
        "hair_color trash": ["d.jpeg"],
    }
    assert categories(photos, "accessories") == {
        "bag": ["a.jpeg", "b.jpeg"],
        "scarf": ["b.jpeg", "d.jpeg"],
        "accessories trash": ["c.jpeg"],
    }
    assert sorted(photos.by_picset) == sorted([PICSET_A, PICSET_B])
    assert photos.photos[0].filepath == f"d/9/e/{PICSET_A}/p/a.jpeg"
    assert photos.description == "folder set"


def test_without_picsets_every_photo_is_one_of_its_own(tmp_path: Path) -> None:
    folder = tagged_set(tmp_path / "one", [row[:2] for row in ROWS], GROUPS, ("file", "tags"))
    other = tagged_set(tmp_path / "two", [row[:2] for row in ROWS], GROUPS, ("file", "tags"))
    photos = open_photo_set(folder)
    assert len(photos.by_picset) == len(ROWS)
    assert [photo.filepath for photo in open_photo_set(other).photos] == [photo.filepath for photo in photos.photos]
    for guid in photos.by_picset:
        assert str(uuid.UUID(guid)) == guid


def test_picset_names_become_guids_and_guids_stay() -> None:
    assert guid_of(PICSET_A) == PICSET_A
    assert guid_of("studio 1") == guid_of("studio 1") != guid_of("studio 2")


def test_a_listing_merges_labels(tmp_path: Path) -> None:
    listing = open_photo_set(small_set(tmp_path / "set")).listing("accessories")
    assert [(picture.name, picture.labels) for picture in listing.pictures] == [
        ("a.jpeg", ("bag",)),
        ("b.jpeg", ("bag", "scarf")),
        ("c.jpeg", ()),
        ("d.jpeg", ("scarf",)),
    ]


def test_an_unknown_group_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(CollectorError) as caught:
        open_photo_set(small_set(tmp_path / "set")).listing("hat")
    assert caught.value.code == "collector.group_not_found"
    assert "'hat'" in caught.value.what
    assert "accessories, hair_color" in (caught.value.hint or "")


def test_photos_beside_the_table_and_rows_given_twice(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpeg")
    (tmp_path / "tags.csv").write_text("file,tags\na.jpeg,cap ; \na.jpeg,hat\n", encoding="utf-8-sig")
    (tmp_path / "groups.json").write_text('{"hat": ["hat", "cap"]}')
    photos = open_photo_set(tmp_path)
    assert photos.photos[0].categories == {"hat": ("cap", "hat")}
    assert photos.read(photos.photos[0].filepath) == (tmp_path / "a.jpeg").read_bytes()


@pytest.mark.parametrize(
    ("tags", "groups", "code", "where"),
    [
        ("name,tags\n", "{}", "collector.no_groups", "groups.json"),
        ("name,tags\n", '{" ": ["cap"]}', "collector.unnamed_group", "groups.json"),
        ("name,tags\na,b\n", '{"hat": ["cap"]}', "collector.missing_column", "tags.csv"),
        ("", '{"hat": ["cap"]}', "collector.missing_column", "tags.csv"),
        ("file,tags\n../a.jpeg,cap\n", '{"hat": ["cap"]}', "collector.invalid_file_name", "tags.csv:2"),
        ("file,tags\nb.jpeg,\n/etc/passwd,cap\n", '{"hat": ["cap"]}', "collector.invalid_file_name", "tags.csv:3"),
        ("file,tags\n,cap\n", '{"hat": ["cap"]}', "collector.invalid_file_name", "tags.csv:2"),
        ("file,tags\na,cap\n", '{"hat": "cap"}', "collector.unexpected_content", "groups.json"),
        ("file,tags\na,cap\n", '{"hat": [""]}', "collector.unexpected_content", "groups.json"),
        ("file,tags\na,cap\n", "[]", "collector.unexpected_content", "groups.json"),
        ("file,tags\na,cap\n", "{", "file.not_json", "groups.json:1:2"),
        ("file,tags\na,cap\n", None, "file.not_found", "groups.json"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, tags: str, groups: str | None, code: str, where: str) -> None:
    (tmp_path / "tags.csv").write_text(tags)
    if groups is not None:
        (tmp_path / "groups.json").write_text(groups)
    with pytest.raises(ClsError) as caught:
        open_photo_set(tmp_path)
    assert (caught.value.code, caught.value.where) == (code, str(tmp_path / where))
    assert code != "collector.missing_column" or "'file'" in caught.value.what


def test_a_folder_a_category(tmp_path: Path) -> None:
    write_photo(tmp_path / "hair_color" / "black hair" / "a.jpg", 1)
    write_photo(tmp_path / "hair_color" / "blonde hair" / "b.JPEG", 2)
    write_photo(tmp_path / "hair_color" / "trash" / "c.png", 3)
    write_photo(tmp_path / "hat" / "cap" / "a.jpg", 1)
    write_photo(tmp_path / ".collector" / "cap" / "x.jpg", 1)
    (tmp_path / "hat" / "cap" / "notes.txt").write_text("")
    photos = open_photo_set(tmp_path)
    assert photos.groups == ["hair_color", "hat"]
    assert categories(photos, "hair_color") == {"black hair": ["a.jpg"], "blonde hair": ["b.JPEG"], "trash": ["c.png"]}
    # a.jpg is one photo in two groups; photos of one group were never labelled for the other.
    assert categories(photos, "hat") == {"cap": ["a.jpg"]}
    assert len(photos.photos) == 3


def test_the_categories_of_one_group(tmp_path: Path) -> None:
    write_photo(tmp_path / "cap" / "a.jpg")
    write_photo(tmp_path / "hat trash" / "b.jpg", 1)
    assert group_of_layout(tmp_path, "hat") == "hat"
    photos = open_photo_set(tmp_path, "hat")
    assert categories(photos, "hat") == {"cap": ["a.jpg"], "hat trash": ["b.jpg"]}
    assert photos.listing("hat").labels == ("cap",)


def test_the_same_photo_in_two_categories_has_two_labels(tmp_path: Path) -> None:
    write_photo(tmp_path / "accessories" / "bag" / "a.jpg", 1)
    write_photo(tmp_path / "accessories" / "scarf" / "a.jpg", 1)
    pictures = open_photo_set(tmp_path).listing("accessories").pictures
    assert [picture.labels for picture in pictures] == [("bag", "scarf")]


def test_different_photos_of_one_name_get_names_of_their_own(tmp_path: Path) -> None:
    write_photo(tmp_path / "accessories" / "bag" / "001.jpg", 1)
    write_photo(tmp_path / "accessories" / "scarf" / "001.jpg", 2)
    photos = open_photo_set(tmp_path)
    names = [photo.name for photo in photos.photos]
    assert len(set(names)) == 2
    assert all(name.startswith("001-") and name.endswith(".jpg") for name in names)
    assert sorted(picture.labels for picture in photos.listing("accessories").pictures) == [("bag",), ("scarf",)]


def test_folders_below_a_category_are_picsets(tmp_path: Path) -> None:
    for category, picset, name in (
        ("cap", "one", "a"),
        ("cap", "one", "b"),
        ("beret", "one", "c"),
        ("cap", "two", "d"),
    ):
        write_photo(tmp_path / "hat" / category / picset / f"{name}.jpg", ord(name))
    photos = open_photo_set(tmp_path)
    assert {len(found) for found in photos.by_picset.values()} == {1, 3}
    assert photos.by_picset[guid_of("two")][0].name == "d.jpg"


def test_a_limit_takes_the_same_photos_every_time(tmp_path: Path) -> None:
    rows = [(f"{number:03}.jpeg", "black hair") for number in range(20)]
    folder = tagged_set(tmp_path / "set", rows, GROUPS, ("file", "tags"))
    limited = open_photo_set(folder, limit=5)
    assert [photo.name for photo in limited.photos] == ["000.jpeg", "004.jpeg", "008.jpeg", "012.jpeg", "016.jpeg"]
    every = {photo.filepath for photo in open_photo_set(folder).photos}
    assert {photo.filepath for photo in limited.photos} <= every


def test_folders_that_hold_nothing_show_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(CollectorError) as caught:
        open_photo_set(tmp_path)
    assert (caught.value.code, caught.value.where) == ("collector.no_labelled_photos", str(tmp_path))
    assert "tags.csv with groups.json" in (caught.value.hint or "")
    with pytest.raises(CollectorError) as caught:
        open_photo_set(tmp_path / "none")
    assert (caught.value.code, caught.value.where) == ("collector.folder_not_found", str(tmp_path / "none"))
    with pytest.raises(CollectorError) as caught:
        open_photo_set(small_set(tmp_path / "set"), "hat")
    assert (caught.value.code, caught.value.where) == ("collector.group_not_allowed", str(tmp_path / "set"))


def test_a_photo_that_is_gone_or_unknown(tmp_path: Path) -> None:
    folder = small_set(tmp_path / "set")
    photos = open_photo_set(folder)
    (folder / "images" / "a.jpeg").unlink()
    with pytest.raises(PictureMissingError) as caught:
        photos.read(photos.photos[0].filepath)
    assert caught.value.code == "collector.picture_unreadable"
    assert caught.value.where == str(folder / "images" / "a.jpeg")
    with pytest.raises(PictureMissingError) as caught:
        photos.read("../tags.csv")
    assert (caught.value.code, caught.value.where) == ("collector.picture_missing", "../tags.csv")


def test_picsets_are_as_the_interface_has_them(tmp_path: Path) -> None:
    folder = small_set(tmp_path / "set")
    (folder / "images" / "b.jpeg").write_text("no picture")
    found = list(open_photo_set(folder).picsets([PICSET_A, "unknown"]))
    assert [picset.guid for picset in found] == [PICSET_A]
    assert found[0].groups == ("accessories", "hair_color")
    content = found[0].content
    assert content["picset"]["group"] == [{"group": "accessories"}, {"group": "hair_color"}]
    assert content["picset"]["category"] == ["bag", "black hair", "scarf"]
    origin = {"filename": "a.jpeg", "filepath": f"d/9/e/{PICSET_A}/p/a.jpeg", "width": 32, "height": 24}
    assert content["items"][0] == {"origin": origin, "trained": []}
    assert content["items"][1]["origin"]["width"] == 0


@pytest.mark.shared_data
def test_real_photos_with_a_tag_table() -> None:
    folder = Path(__file__).parents[3] / "shared" / "data" / "street_fashion"
    if not folder.exists():
        pytest.skip("needs ../shared/data/street_fashion beside the checkout")
    photos = open_photo_set(folder)
    assert len(photos.photos) == 1700
    listing = photos.listing("headwear")
    assert listing.labels == ("glasses", "hat", "sunglasses")
    assert len(listing.pictures) == 1700
