from __future__ import annotations

import json
import logging
import sqlite3
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cls.bottle.dataset_file import GroupDataset, LabelledRow, write_dataset
from cls.bottle.layout import Bottle
from cls.dataset.backgrounds import BACKGROUND_GROUP
from cls.dataset.batches import BatchKey
from cls.errors import TrainingError, UsageError
from cls.training.config import TrainConfig
from cls.training.data import Training, prepare
from cls.training.loop.distributed import accelerator, check_machine
from cls.training.loop.fit import batches_of
from tests.bottles import GROUP, make_tiny_bottle


def prepared(bottle: Bottle, **options: object) -> Training:
    values: dict[str, object] = {
        "arch": "mnv3", "epochs": 1, "batch": 4, "height_px": 64, "width_px": 48, "weights": "none", **options
    }  # fmt: skip
    return prepare(bottle, TrainConfig(group=GROUP, **values))  # type: ignore[arg-type]


def paint_background(bottle: Bottle, color_bgr: tuple[int, int, int]) -> None:
    cv2.imwrite(str(bottle.picture("wall.png")), np.full((90, 120, 3), color_bgr, np.uint8))
    dataset = GroupDataset(BACKGROUND_GROUP, ("walls",), (LabelledRow("wall.png", (1.0,)),))
    write_dataset(bottle.dataset_file(BACKGROUND_GROUP), dataset)


def test_people_stand_before_the_group_background_and_other_scenes(tmp_path: Path) -> None:
    bottle = make_tiny_bottle(tmp_path)
    paint_background(bottle, (255, 0, 255))
    training = prepared(bottle, background_share=1.0, cache="png")
    assert len(training.data.backgrounds) == 2
    images = batches_of(training)[BatchKey(0, tuple(range(12)))].images.numpy()
    is_painted = (images[:, 0, 0] == (255, 0, 255)).all(axis=1)
    assert 0 < is_painted.sum() < 12
    plain = batches_of(prepared(bottle, background_share=0.0))[BatchKey(0, tuple(range(12)))].images.numpy()
    assert (plain[:, 0, 0] == training.network.spec.preprocessing.fill_rgb).all()


def test_another_background_is_another_run(tmp_path: Path) -> None:
    bottle = make_tiny_bottle(tmp_path)
    identities = [prepared(bottle).identity]
    for color in ((255, 0, 255), (0, 255, 0)):
        paint_background(bottle, color)
        identities.append(prepared(bottle).identity)
    identities.append(prepared(bottle, background_share=0.1).identity)
    assert len(set(identities)) == 4
    assert prepared(bottle).identity == identities[2]


def test_the_identity_reads_no_cutouts_and_knows_every_change_of_them(tmp_path: Path) -> None:
    bottle = make_tiny_bottle(tmp_path)
    training = prepared(bottle)
    people = training.data.people
    without = replace(people, cutouts=replace(people.cutouts, records=[]))
    unreadable = replace(training, data=replace(training.data, people=without))
    assert unreadable.identity == training.identity
    assert training.identity is training.identity, "computed once"
    identities = [training.identity, prepared(bottle, height_px=80).identity]
    picture = bottle.picture("0003.jpeg")
    pixels = cv2.imread(str(picture))
    assert pixels is not None
    cv2.imwrite(str(picture), pixels // 2)
    identities.append(prepared(bottle).identity)
    with sqlite3.connect(bottle.root / "pictures.sqlite") as connection:
        (segments,) = connection.execute("SELECT segments FROM pictures WHERE path = '0004.jpeg'").fetchone()
        people = json.loads(segments)
        people["0"]["segments"][0][0] += 0.05
        connection.execute("UPDATE pictures SET segments = ? WHERE path = '0004.jpeg'", (json.dumps(people),))
    connection.close()
    identities.append(prepared(bottle).identity)
    assert len(set(identities)) == 4


def test_options_of_cache_and_backgrounds_are_checked() -> None:
    with pytest.raises(UsageError) as caught:
        TrainConfig(group=GROUP, background_share=2, cache="tiff", augment_on="tpu")
    assert caught.value.code == "usage.invalid_options"
    found = [caught.value.what.index(option) for option in ("--background-share", "--cache", "--augment-on")]
    assert found == sorted(found)


@pytest.mark.skipif(accelerator() == "gpu", reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(TrainingError) as caught:
        check_machine(TrainConfig(group=GROUP, augment_on="gpu"))
    assert caught.value.code == "training.machine_unsuitable"
    assert "--augment-on gpu" in caught.value.what


def test_trying_to_compile_leaves_others_loggers_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("torch.utils.cpp_extension")
    levels = []

    def failing(*_: object) -> None:
        levels.append(logger.level)
        raise RuntimeError("no compiler\nat all")

    monkeypatch.setattr(logger, "level", logging.INFO)
    monkeypatch.setattr(torch, "compile", failing)
    with pytest.raises(TrainingError) as caught:
        check_machine(TrainConfig(group=GROUP, compile=True))
    assert caught.value.code == "training.machine_unsuitable"
    assert "--compile" in caught.value.what
    assert "(no compiler)" in caught.value.what
    assert levels == [logging.ERROR]
    assert logger.level == logging.INFO
