"""One person, one id: the tables of a run and of an inference name the same people, however the photo is segmented."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars
import pytest

from cls.bottle.dataset_file import GroupDataset, LabelledRow, write_dataset
from cls.bottle.layout import Bottle
from cls.cli.command import execute
from cls.cli.infer import COMMAND
from cls.people.photos import read_photo
from cls.people.polygons import outline_area
from cls.pictures.database import PicturesDatabase
from cls.segmentation.segmenter import load_segmenter
from cls.settings import load_settings
from cls.training.runs.run import FinishedRun
from tests.bottles import GROUP, LABELS, draw_photo, make_empty_bottle, segments_of_mask, train_tiny_run, write_rows
from tests.segmentation.samples import MODEL, sample_photos

_TOPS_RGB = ((200, 40, 45), (40, 70, 190), (235, 232, 225))
_PHOTOS = 16


def _crowd(rng: np.random.Generator, number: int) -> tuple[np.ndarray, list[dict[str, object]], int]:
    """A photo of three people, the largest at another place in each; the people and the largest one's top."""
    parts, masks = [], []
    for place in range(3):
        photo = draw_photo(rng, _TOPS_RGB[(number + place) % 3])
        scale = 1.0 if place == number % 3 else 0.6
        size = (round(120 * scale), round(160 * scale))
        image, mask = np.full((160, 120, 3), 120, np.uint8), np.zeros((160, 120), np.uint8)
        image[: size[1], : size[0]] = cv2.resize(photo.image_rgb, size, interpolation=cv2.INTER_AREA)
        mask[: size[1], : size[0]] = cv2.resize(photo.mask, size, interpolation=cv2.INTER_NEAREST)
        parts.append(image)
        masks.append(mask)
    entries = []
    for place, mask in enumerate(masks):
        whole = np.zeros((160, 360), np.uint8)
        whole[:, 120 * place : 120 * (place + 1)] = mask
        entries.append(segments_of_mask(whole, conf=0.9 - 0.1 * place))
    return np.concatenate(parts, axis=1), entries, (number + number % 3) % 3


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Bottle:
    """A bottle with three people in each photo, stored by an older tool: without ids."""
    bottle = make_empty_bottle(tmp_path_factory.mktemp("crowded") / "made")
    bottle.pictures.mkdir(parents=True)
    rng = np.random.default_rng(5)
    rows, stored = [], []
    for number in range(_PHOTOS):
        image, entries, top = _crowd(rng, number)
        name = f"{number:04d}.jpeg"
        cv2.imwrite(str(bottle.picture(name)), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        rows.append(LabelledRow(name, tuple(float(label == top) for label in range(3)), f"picset-{number // 2}"))
        stored.append((name, "unchecked", {str(place): entry for place, entry in enumerate(entries)}))
    write_rows(bottle, stored)
    write_dataset(bottle.dataset_file(GROUP), GroupDataset(GROUP, LABELS, tuple(rows)))
    return bottle


@pytest.fixture(scope="module", params=["largest", "all"])
def run(crowded: Bottle, request: pytest.FixtureRequest) -> FinishedRun:
    return train_tiny_run(crowded, people=request.param)


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _infer(bottle: Bottle, *words: object) -> list[dict[str, Any]]:
    out = bottle.root.parent / "out"
    arguments = [*map(str, words), "--out", str(out), "--format", "csv,jsonl,parquet", "--quiet"]
    assert execute(COMMAND, [*arguments, "--cfg", str(bottle.settings.file)]) == 0
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    names = [(line["picture"], line["person"]) for line in lines]
    assert [(row["picture"], row["person"]) for row in _rows(out / "predictions.csv")] == names
    assert polars.read_parquet(out / "predictions.parquet").select("picture", "person").rows() == names
    return lines


def test_a_runs_table_joins_with_an_inferences_on_picture_and_person(crowded: Bottle, run: FinishedRun) -> None:
    validated = _rows(run.folder / "predictions.csv")
    assert len(validated) >= 3
    assert len({(row["picture"], row["person"]) for row in validated}) == len(validated)
    predicted = {
        (line["picture"], line["person"]): line for line in _infer(crowded, "--group", GROUP, "--model", run.folder)
    }
    assert len(predicted) == 3 * _PHOTOS
    assert len({person for _, person in predicted}) == 3 * _PHOTOS
    for row in validated:
        probs = predicted[row["picture"], row["person"]]["probs"]
        assert {label: float(row[f"prob {label}"]) for label in LABELS} == pytest.approx(probs, abs=2e-4)
    with PicturesDatabase.open_for_reading(crowded.database_url) as database:
        people = {name: record.people or () for name, record in database.records().items()}
    for (picture, name), line in predicted.items():
        person = next(one for one in people[picture] if one.id == name)
        assert line["box_xyxy_px"] == pytest.approx(person.box_xyxy_px, abs=0.01)
    # Nobody asked for the rows to be written: they are as the older tool left them.
    with sqlite3.connect(crowded.root / "pictures.sqlite") as connection:
        stored = [json.loads(text) for (text,) in connection.execute("SELECT segments FROM pictures")]
    assert all("id" not in entry for row in stored for entry in row.values())


@pytest.fixture
def own(crowded: Bottle, tmp_path: Path) -> Bottle:
    """The same bottle with a run in it, the test's own."""
    if not list(crowded.models(GROUP).glob("v__*")):
        train_tiny_run(crowded)
    shutil.copytree(crowded.root.parent, tmp_path / "copy")
    return Bottle(load_settings(tmp_path / "copy" / "configuration.yaml", environment={}))


def _run_of(bottle: Bottle) -> Path:
    return min(bottle.models(GROUP).glob("v__*"))


def test_photos_segmented_again_still_join_with_an_earlier_runs_table(own: Bottle) -> None:
    validated = {(row["picture"], row["person"]): row for row in _rows(_run_of(own) / "predictions.csv")}
    before = {
        (line["picture"], line["person"]): line for line in _infer(own, "--group", GROUP, "--model", _run_of(own))
    }
    with PicturesDatabase.open(own.database_url) as database:
        # Another model: other boxes, the people in another order, one of the first photo's not found.
        again = [
            replace(
                record,
                model_version="other",
                people=tuple(
                    replace(one, id="", conf=0.8, box_xyxy_px=tuple(v + 1 for v in one.box_xyxy_px))  # type: ignore[arg-type]
                    for one in (record.people or ())[(name == "0000.jpeg") :][::-1]
                ),
            )
            for name, record in database.records().items()
        ]
        database.write_people(again, replace=True)
    after = {(line["picture"], line["person"]): line for line in _infer(own, "--group", GROUP, "--model", _run_of(own))}
    assert after.keys() < before.keys()
    assert len(after) == len(before) - 1
    for key, line in after.items():
        assert line["box_xyxy_px"] == pytest.approx([v + 1 for v in before[key]["box_xyxy_px"]], abs=0.011)
    assert validated.keys() <= before.keys()


def test_an_inference_that_is_done_takes_new_ids_without_looking_again(
    own: Bottle, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _infer(own, "--group", GROUP, "--model", _run_of(own))
    with sqlite3.connect(own.root / "pictures.sqlite") as connection:
        rows = connection.execute("SELECT id, segments FROM pictures").fetchall()
        for number, content in rows:
            named = {key: {**entry, "id": f"mine-{number}-{key}"} for key, entry in json.loads(content).items()}
            connection.execute("UPDATE pictures SET segments = ? WHERE id = ?", (json.dumps(named), number))
    connection.close()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("looked at again")

    monkeypatch.setattr("cls.prediction.session.predict_chunk", never)
    second = _infer(own, "--group", GROUP, "--model", _run_of(own))
    assert [{**line, "person": ""} for line in second] == [{**line, "person": ""} for line in first]
    assert [line["person"] for line in second[:6]] == [f"mine-{photo}-{key}" for photo in (1, 2) for key in range(3)]


def test_people_whom_no_database_knows_are_numbered_from_the_largest_outline(own: Bottle, tmp_path: Path) -> None:
    photos = tmp_path / "elsewhere"
    shutil.copytree(own.pictures, photos)
    model = ("--model", _run_of(own))
    whole = _infer(own, "--source", photos, *model, "--whole")
    assert [line["person"] for line in whole] == ["0"] * _PHOTOS
    sample_photos(tmp_path / "sample", 4)
    found = _infer(own, "--source", tmp_path / "sample" / "images", *model, "--segmenter", MODEL)
    segmenter = load_segmenter(MODEL, people_classes=own.settings.people_classes)
    files = sorted((tmp_path / "sample" / "images").iterdir())
    expected = []
    for file, people in zip(files, segmenter.predict([read_photo(file) for file in files]), strict=True):
        for number, person in enumerate(sorted(people, key=outline_area, reverse=True)):
            expected.append((file.name, str(number), pytest.approx(person.box_xyxy_px, abs=0.1)))
    assert len(expected) > len(files)
    assert [(line["picture"], line["person"], tuple(line["box_xyxy_px"])) for line in found] == expected
