"""The builder with the real model on real files, into SQLite and PostgreSQL."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cls.bottle.dataset_file import GroupDataset, write_dataset
from cls.bottle.ledger import digests_of_models
from cls.errors import BottleError, UsageError
from cls.files import sha256_of_file
from cls.people.photos import Person, read_photo
from cls.pictures.database import PictureRecord, PicturesDatabase, Status
from cls.segmentation.builder import BuildReport, SegmentationModel, build_segments, list_pictures, write_report
from cls.segmentation.config import SegmentConfig, SegmenterConfig
from cls.segmentation.segmenter import PersonSegmenter, load_segmenter
from tests.segmentation.samples import PEOPLE, run_builder


@pytest.fixture
def pictures(sample: Path, tmp_path: Path) -> Path:
    """A pictures folder of 24 photos, two broken files and some that are no pictures of the bottle."""
    folder = tmp_path / "classification_data" / "pictures"
    shutil.copytree(sample / "images", folder)
    (folder / "a_broken.jpeg").write_bytes(b"<html>not found</html>")
    (folder / "z_empty.jpeg").write_bytes(b"")
    (folder / ".hidden.part").write_bytes(b"unfinished")
    (folder / "folder").mkdir()
    return folder


SMALL_BATCHES = SegmentConfig(batch=5)


def build(pictures: Path, url: str, model: Path, config: SegmentConfig = SMALL_BATCHES) -> BuildReport:
    def load() -> PersonSegmenter:
        return load_segmenter(model, people_classes=PEOPLE)

    with PicturesDatabase.open(url) as database:
        return build_segments(pictures, list_pictures(pictures), database, SegmentationModel(model.stem, load), config)


def rows(url: str) -> dict[str, PictureRecord]:
    with PicturesDatabase.open(url) as database:
        return database.records()


def test_every_photo_gets_a_row_and_a_second_run_skips_them(
    pictures: Path, database_url: str, onnx_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="cls")
    first = build(pictures, database_url, onnx_model)
    assert (first.photos, first.skipped, set(first.broken)) == (24, 0, {"a_broken.jpeg", "z_empty.jpeg"})
    written = rows(database_url)
    assert len(written) == 24
    assert {record.model_version for record in written.values()} == {"best"}
    assert {record.status for record in written.values()} == {Status.UNCHECKED}
    people = [person for record in written.values() for person in record.people or ()]
    assert sum(first.people.values()) == len(people) > 24
    assert first.people.keys() == {"female", "male"}
    for name, record in written.items():
        height_px, width_px = read_photo(pictures / name).shape[:2]
        for person in record.people or ():
            left, top, right, bottom = person.box_xyxy_px
            assert 0 <= left < right <= width_px
            assert 0 <= top < bottom <= height_px

    def never() -> PersonSegmenter:
        raise AssertionError("loaded for nothing")

    (pictures / "a_broken.jpeg").unlink()
    (pictures / "z_empty.jpeg").unlink()
    with PicturesDatabase.open(database_url) as database:
        second = build_segments(
            pictures, list_pictures(pictures), database, SegmentationModel("best", never), SegmentConfig()
        )
    assert (second.photos, second.skipped) == (0, 24)
    assert (24,) in [record.args for record in caplog.records]
    assert rows(database_url).keys() == written.keys()


def test_all_again_replaces_masks_and_keeps_what_people_decided(
    pictures: Path, database_url: str, onnx_model: Path
) -> None:
    names = [name for name in list_pictures(pictures) if "_" not in name]
    with PicturesDatabase.open(database_url) as database:
        nobody: tuple[Person, ...] = ()
        database.write_people([PictureRecord(name, "older", Status.UNCHECKED, nobody) for name in names], replace=False)
        database.set_status(names[:2], Status.REJECTED)
        database.set_status(names[2:5], Status.APPROVED)
    report = build(pictures, database_url, onnx_model, SegmentConfig(process_all=True, batch=7))
    assert report.kept == {Status.REJECTED: 2, Status.APPROVED: 3}
    after = rows(database_url)
    assert {record.model_version for record in after.values()} == {"best"}
    assert [after[name].status for name in names[:6]] == [*["rejected"] * 2, *["approved"] * 3, "unchecked"]
    assert any(after[name].people for name in names)
    with PicturesDatabase.open(database_url) as database:
        assert database.count() == 24

    report = build(pictures, database_url, onnx_model, SegmentConfig(process_all=True, mark_approved=True))
    assert report.kept == {Status.REJECTED: 2}
    assert {rows(database_url)[name].status for name in names[2:]} == {"approved"}


def test_the_script(pictures: Path, configuration: Callable[..., Path], onnx_model: Path) -> None:
    cfg = configuration()
    done = run_builder(cfg, onnx_model, "--mark_approved")
    assert done.returncode == 0, done.stderr
    assert "24 photos segmented with best" in done.stdout
    assert "2 files could not be read and have no row: a_broken.jpeg, z_empty.jpeg" in done.stdout
    assert "next: python cls/classification/load_group.py --group GROUP\n" in done.stdout
    report = json.loads((pictures.parent / "segments" / "report.json").read_text())
    assert report["photos"] == 24
    assert set(report["broken"]) == {"a_broken.jpeg", "z_empty.jpeg"}
    assert digests_of_models(pictures.parent / "segments", ["best"]) == {"best": [sha256_of_file(onnx_model)]}
    database = f"sqlite:///{pictures.parent / 'pictures.sqlite'}"
    assert {record.status for record in rows(database).values()} == {"approved"}

    write_dataset(pictures.parent / "datasets" / "hair_color.json", GroupDataset("hair_color", ("red",), ()))
    again = run_builder(cfg, onnx_model)
    assert "next: python cls/classification/train.py --cat hair_color --epochs 10\n" in again.stdout
    assert again.returncode == 0
    assert json.loads((pictures.parent / "segments" / "report.json").read_text()) == report
    assert "DB already has 24 images, that will be skipped during segmentation" in again.stderr
    assert "24 photos skipped" in again.stdout

    write_dataset(pictures.parent / "datasets" / "top%2Fcolor.json", GroupDataset("top/color", ("red",), ()))
    third = run_builder(cfg, onnx_model)
    assert "train.py --cat GROUP --epochs 10, GROUP one of: hair_color, top/color\n" in third.stdout


def test_no_pictures(tmp_path: Path, configuration: Callable[..., Path], onnx_model: Path) -> None:
    done = run_builder(configuration(), onnx_model)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert str(tmp_path / "classification_data" / "pictures") in done.stderr
    assert not (tmp_path / "classification_data").exists()
    (tmp_path / "pictures").mkdir()
    with pytest.raises(BottleError):
        list_pictures(tmp_path / "pictures")


def test_a_run_that_segmented_nothing_keeps_the_last_counts(tmp_path: Path) -> None:
    def after(report: BuildReport) -> dict[str, object]:
        content = json.loads(write_report(tmp_path, report).read_text())
        return {key: content[key] for key in ("photos", "skipped", "broken")}

    assert after(BuildReport("best", skipped=3)) == {"photos": 0, "skipped": 3, "broken": {}}
    assert after(BuildReport("best", photos=24, broken={"a": "no"})) == {
        "photos": 24, "skipped": 0, "broken": {"a": "no"},
    }  # fmt: skip
    assert after(BuildReport("best", skipped=24)) == {"photos": 24, "skipped": 0, "broken": {}}
    assert after(BuildReport("best", photos=1, skipped=24)) == {"photos": 1, "skipped": 24, "broken": {}}
    (tmp_path / "report.json").write_text("{")
    assert after(BuildReport("best", skipped=25)) == {"photos": 0, "skipped": 25, "broken": {}}


def test_settings_that_cannot_be_used() -> None:
    with pytest.raises(UsageError):
        SegmentConfig(batch=0)


def test_people_keep_their_ids_when_photos_are_segmented_again(
    pictures: Path, database_url: str, onnx_model: Path
) -> None:
    build(pictures, database_url, onnx_model)
    before = rows(database_url)
    names = {name: [person.id for person in record.people or ()] for name, record in before.items()}
    everybody = [name for found in names.values() for name in found]
    assert len(set(everybody)) == len(everybody) > 24
    assert all(everybody)
    # The same model finds the same people; the first of each photo was deleted, the others stored backwards.
    with PicturesDatabase.open(database_url) as database:
        fewer = [replace(record, people=(record.people or ())[:0:-1]) for record in before.values()]
        database.write_people(fewer, replace=True)
        assert {name: [person.id for person in record.people or ()] for name, record in database.records().items()} == {
            name: found[:0:-1] for name, found in names.items()
        }
    build(pictures, database_url, onnx_model, SegmentConfig(process_all=True, batch=7))
    again = {name: [person.id for person in record.people or ()] for name, record in rows(database_url).items()}
    assert {name: found[1:] for name, found in again.items()} == {name: found[1:] for name, found in names.items()}
    assert {name: len(found) for name, found in again.items()} == {name: len(found) for name, found in names.items()}
    assert len({name for found in again.values() for name in found}) == len(everybody)
    # At a smaller size, its outlines are others.
    with PicturesDatabase.open(database_url) as database:
        smaller = load_segmenter(onnx_model, people_classes=PEOPLE, config=SegmenterConfig(image_size_px=128))
        config = SegmentConfig(process_all=True)
        build_segments(
            pictures, list_pictures(pictures), database, SegmentationModel("smaller", lambda: smaller), config
        )
    found = {person.id for record in rows(database_url).values() for person in record.people or ()}
    kept = found & {name for names in again.values() for name in names}
    assert len(kept) >= 0.9 * min(len(found), len(everybody))
