"""Groups and picsets from a folder into a bottle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cls.bottle.dataset_file import LabelledRow, read_dataset
from cls.bottle.layout import Bottle
from cls.cli.load_group import group_lines
from cls.cli.load_json import picsets_lines
from cls.errors import CollectorError, FileError, UsageError
from cls.loading.download import problem_of_picture
from cls.loading.load import load_group, load_group_from, load_picsets, read_guids
from cls.sources.folders import open_photo_set
from tests.collector.photos import PICSET_A, PICSET_B, small_set, tagged_set, write_photo


def test_a_group_is_loaded(bottle: Bottle, tmp_path: Path) -> None:
    loaded = load_group(open_photo_set(small_set(tmp_path / "set")), bottle, "accessories", workers=2)
    dataset = read_dataset(bottle.dataset_file("accessories"))
    assert dataset.group == "accessories"
    assert dataset.labels == ("bag", "scarf")
    assert dataset.rows == (
        LabelledRow("a.jpeg", (1.0, 0.0), PICSET_A),
        LabelledRow("b.jpeg", (1.0, 1.0), PICSET_A),
        LabelledRow("c.jpeg", (0.0, 0.0), PICSET_B),
        LabelledRow("d.jpeg", (0.0, 1.0), PICSET_B),
    )
    assert dataset.extra["ledger"]["source"] == "folder set"
    assert (loaded.report.pictures_stored, loaded.report.pictures_kept, loaded.report.picsets) == (4, 0, 2)
    for row in dataset.rows:
        assert bottle.picture(row.path).read_bytes() == (tmp_path / "set" / "images" / row.path).read_bytes()
    meta = json.loads((bottle.meta("accessories") / PICSET_A / "meta.json").read_text())
    assert meta["picset"]["guid"] == PICSET_A


def test_a_second_group_shares_the_pool(bottle: Bottle, tmp_path: Path) -> None:
    photos = open_photo_set(small_set(tmp_path / "set"))
    load_group(photos, bottle, "accessories", workers=2)
    loaded = load_group(photos, bottle, "hair_color", workers=2)
    assert (loaded.report.pictures_stored, loaded.report.pictures_kept) == (0, 4)
    assert sorted(folder.name for folder in bottle.meta("hair_color").iterdir()) == sorted([PICSET_A, PICSET_B])


def test_the_bottle_names_no_path_of_the_machine(bottle: Bottle, tmp_path: Path) -> None:
    load_group(open_photo_set(small_set(tmp_path / "set")), bottle, "accessories", workers=2)
    for file in bottle.root.rglob("*"):
        assert not file.is_file() or str(tmp_path).encode() not in file.read_bytes()


@pytest.mark.parametrize("group", ["цвет волос / 2", "..", "a/../../b", "con", ". x", "100% 'real' \"hats\"?", "trash"])
def test_any_text_is_a_group(bottle: Bottle, tmp_path: Path, group: str) -> None:
    folder = tagged_set(tmp_path / "set", [("a.jpeg", "x y;ж", ""), ("b.jpeg", "", "")], {group: ["x y", "ж"]})
    loaded = load_group(open_photo_set(folder), bottle, group, workers=1)
    assert read_dataset(bottle.dataset_file(group)).group == group
    assert loaded.dataset_file.parent == bottle.root / "datasets"
    assert sorted(path.name for path in bottle.root.iterdir()) == ["datasets", "ledger", "meta", "pictures"]
    assert group in group_lines(loaded)[0]


def test_labels_that_change_at_the_source_change_the_dataset(bottle: Bottle, tmp_path: Path) -> None:
    folder = small_set(tmp_path / "set")
    first = load_group(open_photo_set(folder), bottle, "hair_color", workers=2)
    tags = (folder / "tags.csv").read_text().replace("blonde hair", "black hair")
    (folder / "tags.csv").write_text(tags)
    second = load_group(open_photo_set(folder), bottle, "hair_color", workers=2)
    assert first.is_changed
    assert second.is_changed
    assert second.dataset.labels == ("black hair",)
    assert second.report.pictures_stored == 0


def test_a_label_without_a_usable_photo_is_told_and_left_out(bottle: Bottle, tmp_path: Path) -> None:
    folder = small_set(tmp_path / "set")
    (folder / "images" / "c.jpeg").write_bytes(b"")
    loaded = load_group(open_photo_set(folder), bottle, "hair_color", workers=2)
    assert loaded.report.empty_labels == ("blonde hair",)
    assert loaded.dataset.labels == ("black hair",)
    text = "\n".join(group_lines(loaded))
    assert "labels without a usable photo, left out: blonde hair" in text
    assert "left out: 1 picture" in text
    assert "the file is empty" in text


def test_only_broken_photos_are_an_error(bottle: Bottle, tmp_path: Path) -> None:
    folder = small_set(tmp_path / "set")
    for file in (folder / "images").iterdir():
        file.write_text("no picture")
    with pytest.raises(CollectorError) as caught:
        load_group(open_photo_set(folder), bottle, "hair_color", workers=2)
    assert caught.value.code == "collector.no_usable_photos"
    assert "'hair_color'" in caught.value.what
    assert "4 left out" in caught.value.what
    assert str(problem_of_picture(b"no picture")) in caught.value.what
    assert not bottle.dataset_file("hair_color").exists()
    assert list(bottle.pictures.glob("*")) == []


def test_the_summary_counts(bottle: Bottle, tmp_path: Path) -> None:
    folder = small_set(tmp_path / "set")
    lines = group_lines(load_group_from(bottle, "accessories", folder=folder, workers=2))
    assert lines == [
        "group 'accessories': 4 photos in 2 picsets (4 pictures fetched, 0 already there)",
        "  bag    2",
        "  scarf  2",
        "  trash  1  (none of the labels)",
        f"dataset: {bottle.dataset_file('accessories')}",
        "next: python cls/classification/segment_builder.py --model-path person_models/best.pt",
    ]
    again = load_group_from(bottle, "accessories", folder=folder, workers=2)
    assert group_lines(again)[-2].endswith("(unchanged)")


def test_a_folder_of_categories_is_loaded_by_the_group_s_name(bottle: Bottle, tmp_path: Path) -> None:
    write_photo(tmp_path / "set" / "cap" / "a.jpg", 1)
    write_photo(tmp_path / "set" / "beret" / "b.jpg", 2)
    load_group_from(bottle, "hat", folder=tmp_path / "set", workers=2)
    assert read_dataset(bottle.dataset_file("hat")).labels == ("beret", "cap")


def test_picsets_by_guid(bottle: Bottle, tmp_path: Path) -> None:
    folder = small_set(tmp_path / "set")
    unknown = "00000000-0000-4000-8000-00000000ffff"
    listed = tmp_path / "picsets.json"
    listed.write_text(json.dumps({"picsets": [[PICSET_A, "a shoot", 5], [unknown], [PICSET_A]]}))
    guids = read_guids(listed)
    assert guids == [PICSET_A, unknown]
    loaded = load_picsets(open_photo_set(folder), bottle, guids, workers=2)
    assert loaded.picsets_by_group == {"accessories": 1, "hair_color": 1}
    assert loaded.stored_count == 2
    assert loaded.unknown_guids == (unknown,)
    assert sorted(file.name for file in bottle.pictures.iterdir()) == ["a.jpeg", "b.jpeg"]
    for group in ("accessories", "hair_color"):
        assert (bottle.meta(group) / PICSET_A / "meta.json").exists()
    assert not (bottle.root / "datasets").exists()
    lines = picsets_lines(loaded)
    assert unknown in "\n".join(lines)
    assert lines[-2:] == [
        "next: python cls/classification/segment_builder.py --model-path person_models/best.pt",
        "then: python cls/classification/segment_meta_builder.py --groups accessories hair_color",
    ]
    again = load_picsets(open_photo_set(folder), bottle, guids, workers=2)
    assert (again.stored_count, again.kept_count) == (0, 2)


def test_picsets_that_nobody_knows_are_an_error(bottle: Bottle, tmp_path: Path) -> None:
    with pytest.raises(CollectorError) as caught:
        load_picsets(open_photo_set(small_set(tmp_path / "set")), bottle, ["0" * 32], workers=1)
    assert caught.value.code == "collector.picsets_not_found"
    assert "the 1 picset," in caught.value.what
    assert "0" * 32 in caught.value.what


def test_an_unwritable_bottle_is_an_error(bottle: Bottle, tmp_path: Path) -> None:
    bottle.root.mkdir()
    bottle.pictures.write_text("a file where the folder belongs")
    with pytest.raises(FileError) as caught:
        load_group(open_photo_set(small_set(tmp_path / "set")), bottle, "hair_color", workers=2)
    assert caught.value.code == "file.unwritable"
    assert str(caught.value.where).startswith(f"{bottle.pictures}/")


def test_wrong_options_are_told_at_once(bottle: Bottle, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_group_from(bottle, " ", folder=tmp_path / "none", workers=129)
    assert [(fault.partition(":")[0], fault.code) for fault in caught.value.faults] == [
        ("--group", "usage.empty_option_value"),
        ("--source", "usage.folder_not_found"),
        ("--workers", "usage.invalid_option_value"),
    ]
