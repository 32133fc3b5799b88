"""Small bottles for tests: drawn photos, people in the pictures database, a dataset file; and a run trained on them."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

import cls
from cls.bottle.dataset_file import GroupDataset, LabelledRow, write_dataset
from cls.bottle.layout import Bottle
from cls.files import write_text_atomic
from cls.people.polygons import polygons_of_mask
from cls.people.preprocess import Preprocessing
from cls.settings import load_settings
from cls.training.runs.args import InitialWeights, RunArgs

if TYPE_CHECKING:
    from cls.training.runs.run import FinishedRun

GROUP = "top_color"
LABELS = ("red top", "blue top", "white top")
MODEL_VERSION = "tiny_person"
PHOTOS_PER_PICSET = 3

_HEIGHT_PX, _WIDTH_PX = 160, 120
_TOPS_RGB = {"red top": (200, 40, 45), "blue top": (40, 70, 190), "white top": (235, 232, 225), "": (70, 150, 70)}
# The spec's table as older tools made it (spec section 4), in SQLite's words.
_TABLE = """
CREATE TABLE pictures (
    id INTEGER PRIMARY KEY,
    path VARCHAR(255) NOT NULL,
    model_version VARCHAR(50) NOT NULL,
    status VARCHAR(50) NOT NULL,
    segments JSON DEFAULT NULL
)
"""


@dataclass(frozen=True)
class DrawnPhoto:
    """A photo and where its person is: image_rgb uint8 (H, W, 3), mask uint8 (H, W)."""

    image_rgb: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def run_args(group: str, timm_arch: str, preprocessing: Preprocessing, settings: dict[str, JsonValue]) -> RunArgs:
    """The args.yaml of a training from random weights."""
    return RunArgs(
        settings={"group": group, **settings}, timm_arch=timm_arch, preprocessing=preprocessing, labels=LABELS,
        weights=InitialWeights(kind="none", origin="random weights"), dataset_sha256="d",
        code_version=cls.__version__, started="2026-11-22T10:00:00+00:00",
    )  # fmt: skip


def draw_photo(rng: np.random.Generator, top_rgb: tuple[int, int, int]) -> DrawnPhoto:
    """A simple figure with a top of one colour before a mottled wall."""
    wall = rng.integers(90, 200, (8, 6, 3), np.uint8)
    image = cv2.resize(wall, (_WIDTH_PX, _HEIGHT_PX), interpolation=cv2.INTER_CUBIC)
    mask = np.zeros((_HEIGHT_PX, _WIDTH_PX), np.uint8)
    x, y = int(_WIDTH_PX * rng.uniform(0.4, 0.6)), int(_HEIGHT_PX * rng.uniform(0.2, 0.28))
    skin = tuple(int(v) for v in rng.choice([(230, 190, 165), (160, 110, 80), (95, 65, 50)]))
    trousers = tuple(int(v) for v in rng.integers(20, 90, 3))
    top = tuple(int(np.clip(v + rng.integers(-18, 19), 0, 255)) for v in top_rgb)
    for canvas, colors in ((image, (skin, trousers, top)), (mask, ((255,), (255,), (255,)))):
        head, legs, shirt = colors
        cv2.circle(canvas, (x, y), 13, head, -1, cv2.LINE_AA)
        cv2.rectangle(canvas, (x - 16, y + 60), (x - 3, y + 108), legs, -1)
        cv2.rectangle(canvas, (x + 3, y + 60), (x + 16, y + 108), legs, -1)
        cv2.ellipse(canvas, (x, y + 40), (22, 29), 0, 0, 360, shirt, -1, cv2.LINE_AA)
    noise = rng.normal(0, 5, image.shape)
    return DrawnPhoto(np.clip(image + noise, 0, 255).astype(np.uint8), (mask > 127).astype(np.uint8) * 255)


def segments_of_mask(mask: NDArray[np.uint8], cls: str = "female", conf: float = 0.9) -> dict[str, object]:
    """One person's entry of the `segments` column."""
    ys, xs = np.nonzero(mask)
    outlines = [[round(float(v), 5) for v in polygon.reshape(-1)] for polygon in polygons_of_mask(mask)]
    box = [float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)]
    return {"cls": cls, "conf": conf, "bbox": box, "segments": outlines}


def make_empty_bottle(folder: Path) -> Bottle:
    """A bottle with a configuration (`bottle.settings.file`, for `--cfg`) and nothing in it."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "configuration.yaml"
    # Whole or not at all: several processes of a test may make the same bottle at once.
    write_text_atomic(configuration, "data_path: 'classification_data'\n")
    return Bottle(load_settings(configuration, environment={}))


def write_rows(bottle: Bottle, rows: list[tuple[str, str, dict[str, object] | None]]) -> None:
    """Appends rows (path, status, segments) to the bottle's SQLite table as an older tool would."""
    file = bottle.root / "pictures.sqlite"
    file.parent.mkdir(parents=True, exist_ok=True)
    is_new = not file.exists()
    with sqlite3.connect(file) as connection:
        if is_new:
            connection.execute(_TABLE)
        connection.executemany(
            "INSERT INTO pictures (path, model_version, status, segments) VALUES (?, ?, ?, ?)",
            [
                (path, MODEL_VERSION, status, None if people is None else json.dumps(people))
                for path, status, people in rows
            ],
        )
    connection.close()


def make_tiny_bottle(
    folder: Path, photos: int = 24, *, group: str = GROUP, labels: tuple[str, ...] = LABELS, has_trash: bool = True
) -> Bottle:
    """A bottle with drawn photos, their people in the database and the dataset file of a group.

    Every picset shows one person in one top, three photos long. One top in four is green, which is none of the
    labels: trash (unless `has_trash` is off).

    Args:
        folder: where configuration.yaml and classification_data/ are made.
        photos: how many photos.
        group: name of the group.
        labels: which of the three labels the group has.
        has_trash: whether there are photos with none of the labels.
    """
    bottle = make_empty_bottle(folder)
    bottle.pictures.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    tops = (*labels, "") if has_trash else labels
    rows, people = [], []
    for number in range(photos):
        picset, name = f"picset-{number // PHOTOS_PER_PICSET:03d}", f"{number:04d}.jpeg"
        top = tops[(number // PHOTOS_PER_PICSET) % len(tops)]
        photo = draw_photo(rng, _TOPS_RGB[top])
        cv2.imwrite(str(bottle.picture(name)), cv2.cvtColor(photo.image_rgb, cv2.COLOR_RGB2BGR))
        rows.append(LabelledRow(name, tuple(float(label == top) for label in labels), picset))
        people.append((name, "unchecked", {"0": segments_of_mask(photo.mask)}))
    write_rows(bottle, people)
    write_dataset(bottle.dataset_file(group), GroupDataset(group, labels, tuple(rows)))
    return bottle


def train_tiny_run(bottle: Bottle, group: str = GROUP, **options: object) -> FinishedRun:
    """Trains timm's smallest EfficientNet at 64x48 for one epoch from random weights and returns the run.

    Args:
        bottle: e.g. of `make_tiny_bottle`.
        group: which group.
        options: fields of `TrainConfig` that differ from the above, e.g. `mode="all"`.
    """
    from cls.training.config import TrainConfig
    from cls.training.train import train

    values: dict[str, object] = {
        "arch": "test_efficientnet",
        "epochs": 1,
        "batch": 4,
        "height_px": 64,
        "width_px": 48,
        "weights": "none",
        **options,
    }
    return train(bottle, TrainConfig(group=group, **values))  # type: ignore[arg-type]
