"""Segmentation killed, interrupted, without a database, with a model that is none."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.made_once import made_once
from tests.preloaded import Program
from tests.segmentation.samples import SCRIPT, exported_model, run_builder, sample_photos

PHOTOS = 48
COPIES = 8


@pytest.fixture(scope="module")
def onnx_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "person_model", exported_model)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 384 pictures: enough for a kill to come in the middle."""

    def draw(folder: Path) -> Path:
        sample = sample_photos(folder / "set", PHOTOS, seed=11)
        pictures = folder / "pictures"
        pictures.mkdir()
        for path in (sample / "images").iterdir():
            for copy in range(COPIES):
                shutil.copy(path, pictures / f"{copy}_{path.name}")
        return pictures

    return made_once(tmp_path_factory, "pictures_to_segment", draw)


def bottle_with(photos: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "classification_data"
    folder.mkdir()
    (folder / "pictures").symlink_to(photos)
    return folder


def rows(bottle: Path) -> list[tuple[str, str]]:
    path = bottle / "pictures.sqlite"
    if not path.exists():
        return []
    connection = sqlite3.connect(path, timeout=30)
    try:
        return connection.execute("SELECT path, segments FROM pictures ORDER BY path").fetchall()
    except sqlite3.OperationalError:
        return []  # the table is not made yet
    finally:
        connection.close()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_stopped_in_the_middle_and_run_again(
    photos: Path, tmp_path: Path, configuration: Callable[..., Path], onnx_model: Path, how: signal.Signals
) -> None:
    bottle, cfg = bottle_with(photos, tmp_path), configuration()
    words = [str(SCRIPT), "--cfg", str(cfg), "--model_path", str(onnx_model), "--batch", "8"]
    process = Program(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline_s = time.monotonic() + 60
    while len(rows(bottle)) < 40 and process.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.01)
    os.kill(process.pid, how)
    _, errors = process.communicate(timeout=30)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert errors.splitlines()[-1].startswith("interrupted: what is finished is kept")
    written = rows(bottle)
    assert 40 <= len(written) < PHOTOS * COPIES
    assert len(written) % 8 == 0  # whole batches alone

    done = run_builder(cfg, onnx_model)
    assert done.returncode == 0, done.stderr
    assert f"DB already has {len(written)} images, that will be skipped during segmentation" in done.stderr
    after = rows(bottle)
    assert [path for path, _ in after] == sorted(path.name for path in photos.iterdir())
    assert set(written) <= set(after)  # what was there was not touched


@pytest.mark.parametrize(
    "url",
    ["postgresql+psycopg2://user:secret@127.0.0.1:9/team", "sqlite:////proc/nowhere/pictures.sqlite"],
)
def test_a_database_that_cannot_be_used(
    photos: Path, tmp_path: Path, configuration: Callable[..., Path], onnx_model: Path, url: str
) -> None:
    bottle = bottle_with(photos, tmp_path)
    done = run_builder(configuration(pictures_info_db_url=url), onnx_model)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "database" in done.stderr
    assert "secret" not in done.stderr
    assert [path.name for path in bottle.iterdir()] == ["pictures"]


def test_a_model_that_is_none(photos: Path, tmp_path: Path, configuration: Callable[..., Path]) -> None:
    bottle, cfg = bottle_with(photos, tmp_path), configuration()
    for name, content in (("best.pt", b"<html>"), ("best.onnx", b"<html>")):
        model = tmp_path / name
        model.write_bytes(content)
        done = run_builder(cfg, model)
        assert done.returncode == 1
        assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1
        assert "Traceback" not in done.stderr
        assert str(model) in done.stderr
        assert rows(bottle) == []
    missing = run_builder(cfg, tmp_path / "nowhere" / "best.pt")
    assert missing.returncode == 1
    assert "scp -P 4000" in missing.stderr
