"""One person, one id: the tables of a run and of an inference name the same people, however the photo is segmented."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars
import pytest

from cls.bottle.dataset_file import GroupDataset, LabelledRow, write_dataset
from cls.bottle.layout import Bottle
from cls.classification.inference import COMMAND
from cls.command import execute
from cls.pictures.database import PicturesDatabase
from cls.training.run import Run
from tests.bottles import GROUP, LABELS, draw_photo, make_empty_bottle, segments_of_mask, train_tiny_run, write_rows

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
def run(crowded: Bottle, request: pytest.FixtureRequest) -> Run:
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


def test_a_runs_table_joins_with_an_inferences_on_picture_and_person(crowded: Bottle, run: Run) -> None:
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
    import sqlite3

    with sqlite3.connect(crowded.root / "pictures.sqlite") as connection:
        stored = [json.loads(text) for (text,) in connection.execute("SELECT segments FROM pictures")]
    assert all("id" not in entry for row in stored for entry in row.values())
