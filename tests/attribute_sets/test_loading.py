from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cls.attribute_sets.attribute_set import SetPicture, odd_cells_line
from cls.attribute_sets.layouts import read_set
from cls.attribute_sets.loading import identity_parts, load_set
from cls.bottle.dataset_file import GroupDataset, LabelledRow, read_dataset, write_dataset
from cls.bottle.layout import Bottle
from cls.dataset.samples import collect_samples
from cls.dataset.split.file import part_names, split_by_parts, subsets_of
from cls.errors import AttributeSetError, TrainingError
from cls.files import read_json
from cls.people.photos import read_photo
from cls.people.preprocess import Preprocessing
from cls.pictures.database import PicturesDatabase, Status
from tests.attribute_sets.published import labels_of_picture, write_pa100k, write_peta, write_rapv2
from tests.bottles import make_empty_bottle

GROUP = "peta: all 35"


@pytest.fixture
def bottle(tmp_path: Path) -> Bottle:
    return make_empty_bottle(tmp_path / "bottle")


def test_a_set_becomes_a_group(bottle: Bottle, tmp_path: Path) -> None:
    loaded = load_set(bottle, read_set("peta", write_peta(tmp_path / "set")), GROUP)
    dataset = read_dataset(bottle.dataset_file(GROUP))
    assert (loaded.new, loaded.kept, loaded.people, loaded.left_out) == (36, 0, 12, ())
    assert dataset == loaded.dataset
    assert dataset.group == GROUP
    assert dataset.rows[0].path == "peta%3A all 35-00001.png"
    assert part_names(dataset) == ["identity", "official"]
    assert loaded.part_sizes["official"] == {"train": 18, "valid": 6, "test": 12}
    samples, ledger = collect_samples(bottle, dataset)
    assert len(samples) == 36
    assert not ledger.left_out
    assert set(ledger.segmentation_models) == {"whole-picture"}
    assert json.loads(loaded.report_file.read_text())["people"] == 12


def test_the_whole_picture_is_the_person(bottle: Bottle, tmp_path: Path) -> None:
    load_set(bottle, read_set("peta", write_peta(tmp_path / "set")), GROUP)
    (sample, *_), _ = collect_samples(bottle, read_dataset(bottle.dataset_file(GROUP)))
    image_rgb = read_photo(bottle.picture(sample.path))
    # No background is taken away, no margin added: what a network sees is the picture.
    kept = Preprocessing(64, 48, is_background_kept=True, margin_rel=0.0).cut(image_rgb, sample.person)
    assert np.array_equal(Preprocessing(64, 48).cut(image_rgb, sample.person), kept)


def test_pictures_are_linked_not_copied(bottle: Bottle, tmp_path: Path) -> None:
    read = read_set("peta", write_peta(tmp_path / "set"))
    load_set(bottle, read, GROUP)
    assert read.pictures[0].file.samefile(bottle.picture("peta%3A all 35-00001.png"))


def test_loading_again_changes_nothing(bottle: Bottle, tmp_path: Path) -> None:
    read = read_set("peta", write_peta(tmp_path / "set"))
    load_set(bottle, read, GROUP)
    with PicturesDatabase.open(bottle.database_url) as database:
        database.reject(["peta%3A all 35-00007.png"])
    before = bottle.dataset_file(GROUP).read_bytes()
    again = load_set(bottle, read, GROUP)
    assert (again.new, again.kept) == (0, 36)
    assert bottle.dataset_file(GROUP).read_bytes() == before
    with PicturesDatabase.open(bottle.database_url) as database:
        assert database.count() == 36
        assert database.records(["peta%3A all 35-00007.png"])["peta%3A all 35-00007.png"].status == Status.REJECTED


def test_a_load_that_was_cut_off_goes_on(bottle: Bottle, tmp_path: Path) -> None:
    read = read_set("peta", write_peta(tmp_path / "set"))
    load_set(bottle, read, GROUP)
    # As a kill leaves it: some pictures without a row, some rows without a picture, no dataset file.
    bottle.dataset_file(GROUP).unlink()
    bottle.picture("peta%3A all 35-00002.png").unlink()
    (bottle.pictures / ".peta%3A all 35-00003.png.1-aa.part").write_bytes(b"half")
    again = load_set(bottle, read, GROUP)
    assert (again.new, again.kept, again.left_out) == (1, 35, ())
    assert not list(bottle.pictures.glob(".*.part"))
    assert read_dataset(bottle.dataset_file(GROUP)) == again.dataset


def test_broken_pictures_are_reported_and_left_out(bottle: Bottle, tmp_path: Path) -> None:
    read = read_set("pa100k", write_pa100k(tmp_path / "set"))
    read.pictures[3].file.unlink()
    read.pictures[5].file.write_bytes(read.pictures[5].file.read_bytes()[:300])
    read.pictures[7].file.write_text("not a picture")
    loaded = load_set(bottle, read, "pa100k")
    assert len(loaded.dataset.rows) == 27
    assert [line.partition(": /")[0] for line in loaded.left_out] == [
        f"annotation.mat: train_images_name row {row}" for row in (4, 6, 8)
    ]
    assert loaded.left_out[0].endswith("000004.jpg: there is no such picture")
    assert "cut off" in loaded.left_out[1]
    assert "is not a picture" in loaded.left_out[2]
    assert loaded.part_sizes == {"official": {"train": 13, "valid": 6, "test": 8}}
    assert json.loads(loaded.report_file.read_text())["left_out"] == list(loaded.left_out)


def test_a_set_without_one_usable_picture(bottle: Bottle, tmp_path: Path) -> None:
    read = read_set("pa100k", write_pa100k(tmp_path / "set"))
    for picture in read.pictures:
        picture.file.unlink()
    with pytest.raises(AttributeSetError) as caught:
        load_set(bottle, read, "pa100k")
    assert caught.value.code == "attribute_set.no_usable_pictures"
    assert "30 pictures" in caught.value.what
    assert not bottle.dataset_file("pa100k").exists()


def test_another_groups_dataset_is_not_written_over(bottle: Bottle, tmp_path: Path) -> None:
    write_dataset(bottle.dataset_file("hat"), GroupDataset("hat", ("hat",), (LabelledRow("a.jpg", (1.0,)),)))
    with pytest.raises(AttributeSetError) as caught:
        load_set(bottle, read_set("peta", write_peta(tmp_path / "set")), "hat")
    assert caught.value.code == "attribute_set.group_taken"
    assert "'hat'" in caught.value.what


def test_another_picture_of_the_name_is_left_alone(bottle: Bottle, tmp_path: Path) -> None:
    bottle.pictures.mkdir(parents=True)
    bottle.picture("pa-000001.jpg").write_bytes(b"another")
    loaded = load_set(bottle, read_set("pa100k", write_pa100k(tmp_path / "set")), "pa")
    assert bottle.picture("pa-000001.jpg").read_bytes() == b"another"
    assert len(loaded.left_out) == 1
    assert "another picture of this name" in loaded.left_out[0]


def test_what_others_wrote_into_the_dataset_file_stays(bottle: Bottle, tmp_path: Path) -> None:
    read = read_set("peta", write_peta(tmp_path / "set"))
    dataset = load_set(bottle, read, GROUP).dataset
    extra = {**dataset.extra, "note": "checked by hand"}
    write_dataset(bottle.dataset_file(GROUP), GroupDataset(GROUP, dataset.labels, dataset.rows, extra))
    assert load_set(bottle, read, GROUP).dataset.extra["note"] == "checked by hand"


def test_published_parts_leak_and_say_so(bottle: Bottle, tmp_path: Path) -> None:
    dataset = load_set(bottle, read_set("peta", write_peta(tmp_path / "set")), GROUP).dataset
    samples, _ = collect_samples(bottle, dataset)
    official = split_by_parts(samples, dataset, "official")
    assert official.used.is_leaking
    assert "official' of the dataset LEAK: " in official.used.note
    assert (len(official.samples), len(official.test)) == (24, 12)
    assert [official.split.subsets[s.split_unit] for s in official.samples] == [
        subsets_of(dataset, "official")[s.path] for s in official.samples
    ]
    apart = split_by_parts(samples, dataset, "identity")
    assert not apart.used.is_leaking
    assert {s.picset for s in apart.test}.isdisjoint({s.picset for s in apart.samples})
    assert [samples[i].path for i in apart.indices] == [s.path for s in apart.samples]


def test_a_set_that_names_nobody_is_not_called_clean(bottle: Bottle, tmp_path: Path) -> None:
    dataset = load_set(bottle, read_set("pa100k", write_pa100k(tmp_path / "set")), "pa").dataset
    samples, _ = collect_samples(bottle, dataset)
    used = split_by_parts(samples, dataset, "official").used
    assert (used.picsets, used.pictures_of_no_picset, used.is_leaking) == (0, 30, False)
    assert "leaks cannot be detected" in used.note


def test_parts_that_are_not_there(bottle: Bottle, tmp_path: Path) -> None:
    dataset = load_set(bottle, read_set("pa100k", write_pa100k(tmp_path / "set")), "pa").dataset
    with pytest.raises(TrainingError) as caught:
        subsets_of(dataset, "identity")
    assert caught.value.code == "training.unknown_parts"
    assert "'identity'" in caught.value.what
    assert str(caught.value.hint).endswith(" official")
    plain = GroupDataset("hat", ("hat",), (LabelledRow("a.jpg", (1.0,)),))
    with pytest.raises(TrainingError) as caught:
        subsets_of(plain, "official")
    assert caught.value.code == "training.unknown_parts"
    assert "'official'" in caught.value.what
    assert "--split" in str(caught.value.hint)
    twice = GroupDataset("hat", ("hat",), plain.rows, {"parts": {"x": {"train": ["a.jpg"], "test": ["a.jpg"]}}})
    with pytest.raises(TrainingError) as caught:
        subsets_of(twice, "x")
    assert caught.value.code == "training.overlapping_parts"
    assert "'x'" in caught.value.what
    broken = GroupDataset("hat", ("hat",), plain.rows, {"parts": {"x": {"train": 3}}})
    with pytest.raises(TrainingError) as caught:
        subsets_of(broken, "x")
    assert caught.value.code == "training.parts_unreadable"
    assert "'x'" in caught.value.what


def test_uncertain_labels_stay_unknown(bottle: Bottle, tmp_path: Path) -> None:
    load_set(bottle, read_set("rapv2", write_rapv2(tmp_path / "set")), "rap")
    first = read_dataset(bottle.dataset_file("rap")).rows[0]
    assert first.labels[0] == first.labels[2] == 1.0
    assert np.isnan(first.labels[1])


@pytest.mark.parametrize("layout", ["pa100k", "peta", "rapv2"])
def test_label_values_that_are_neither_0_nor_1_are_counted_and_told(
    bottle: Bottle, tmp_path: Path, caplog: pytest.LogCaptureFixture, layout: str
) -> None:
    if layout == "pa100k":
        rows = np.array([[labels_of_picture(number, 4)] for number in range(1, 17)], np.int16)[:, 0]
        rows[:3, 1], rows[4, 0] = -1, 7
        root, expected = write_pa100k(tmp_path / "set", train_label=rows), {"-1": 3, "7": 1}
    elif layout == "peta":
        data = np.zeros((36, 10), np.int16)
        data[:, 0], data[:, 1], data[::2, 4:] = range(1, 37), np.arange(36) // 3 + 1, 1
        data[5, 4], data[6, 9] = -1, -1  # the second one's column is not evaluated
        root, expected = write_peta(tmp_path / "set", data=data), {"-1": 1}
    else:
        root, expected = write_rapv2(tmp_path / "set"), {"2": 1}
    with caplog.at_level("WARNING", "cls.attribute_sets"):
        loaded = load_set(bottle, read_set(layout, root), layout)
    assert loaded.odd_cells == expected
    assert read_json(loaded.report_file)["label_values_taken_for_unknown"] == expected
    (told,) = (record.getMessage() for record in caplog.records if "neither 0 nor 1" in record.getMessage())
    assert "so unknown, and left out of training and measures" in told
    assert all(f"{count} " in told and value in told for value, count in expected.items())
    known = np.array([row.labels for row in loaded.dataset.rows])
    assert int(np.isnan(known).sum()) == sum(expected.values())


def test_a_set_of_zeros_and_ones_has_nothing_to_tell(
    bottle: Bottle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_set(bottle, read_set("pa100k", write_pa100k(tmp_path / "set")), "pa").odd_cells == {}
    assert "neither 0 nor 1" not in caplog.text
    assert odd_cells_line({"-1": 1}) == (
        "1 label value is -1: neither 0 nor 1, so unknown, and left out of training and measures"
    )
    assert odd_cells_line({"-1": 37, "5": 2}).startswith("37 label values are -1, 2 are 5: neither 0 nor 1")


@settings(max_examples=60, deadline=None)
@given(
    people=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 7)), min_size=0, max_size=60),
    shares=st.sampled_from([(18, 6, 12), (6, 2, 2)]),
)
def test_identity_parts_never_divide_a_person(people: list[tuple[int, int]], shares: tuple[int, int, int]) -> None:
    pictures = [
        SetPicture(Path(), f"{person}-{n}", tuple(float(labels >> bit & 1) for bit in range(3)), f"p{person}", "")
        for person, (count, labels) in enumerate(people)
        for n in range(count)
    ]
    names = ("train", "valid", "test")
    official = {f"{side}{n}": side for side, count in zip(names, shares, strict=True) for n in range(count)}
    sides = identity_parts(pictures, official)
    assert sides == identity_parts(pictures[::-1], official)
    if not sides:
        assert len(people) < 20
        return
    assert set(sides) == {p.name for p in pictures}
    assert set(sides.values()) == set(names)
    assert all(
        len({sides[p.name] for p in pictures if p.identity == who}) == 1 for who in {p.identity for p in pictures}
    )
    for side, share in zip(names, shares, strict=True):
        # Off by the people of two hands at most: they cannot be cut in halves.
        assert abs(list(sides.values()).count(side) - len(sides) * share / sum(shares)) <= 10
