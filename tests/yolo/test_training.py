"""A real training of a few steps: a checkpoint the segmenter loads, resumed after a kill, proven as ONNX."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cls.errors import ParityError, YoloError
from cls.segmentation.segmenter import load_segmenter
from cls.settings import REPOSITORY
from cls.yolo.training import YoloTraining, find_unfinished, train_model
from tests.yolo.test_dataset import make, source_of

SCRIPTS = REPOSITORY / "cls" / "instance_segmentation"
MODEL = str(REPOSITORY / "cls" / "yolo" / "models" / "person-small-seg.yaml")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("yolo")
    make(source_of(folder, 4), folder / "dataset")
    return folder / "dataset"


def script(name: str, *arguments: object) -> list[str]:
    return [sys.executable, str(SCRIPTS / name), *map(str, arguments)]


def train_command(dataset: Path, project: Path, epochs: int) -> list[str]:
    options = ("--model", "person-small-seg.yaml", "--epochs", epochs, "--batch", 4, "--image_size", 64)
    return script("train_yolo_seg.py", "--data", dataset / "data.yaml", *options, "--project", project)


def test_trained_killed_resumed_and_exported(dataset: Path, tmp_path: Path) -> None:
    project = tmp_path / "runs"
    command = train_command(dataset, project, epochs=5)
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    last = project / "train" / "weights" / "resume.pt"
    deadline_s = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    assert last.exists()
    training = YoloTraining(dataset / "data.yaml", MODEL, 5, 4, 64, project)
    assert find_unfinished(training) == project / "train"
    assert find_unfinished(YoloTraining(dataset / "data.yaml", MODEL, 6, 4, 64, project)) is None

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "going on with the unfinished run" in done.stderr
    assert "epoch 5 of 5" in done.stderr
    assert "epoch 1 of 5" not in done.stderr
    best = project / "train" / "weights" / "best.pt"
    assert f"best model: {best}" in done.stdout
    assert best.stat().st_size < 3_000_000
    assert [path.name for path in project.iterdir()] == ["train"]
    assert find_unfinished(training) is None
    segmenter = load_segmenter(best, people_classes={"girl": "female", "man": "male"})
    assert (segmenter.model_version, segmenter.classes) == ("best", ("female", "male"))
    check_export(best, dataset, tmp_path / "exported")


def check_export(best: Path, dataset: Path, folder: Path) -> None:
    pictures = dataset / "images" / "train"
    command = script("export_to_trt.py", "--src_path", best, "--dst_path", folder, "--pictures", pictures)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "TensorRT: " in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["best.onnx", "best.onnx.json"]
    assert json.loads((folder / "best.onnx.json").read_text())["agreement"]["photos"] > 5

    without = [*command, "--require", "trt"]
    refused = subprocess.run(without, capture_output=True, text=True, timeout=120, check=False)
    if "no engine was made" in done.stdout:
        assert refused.returncode == 1
        assert "the TensorRT engine cannot be made" in refused.stderr


def test_an_export_that_disagrees_is_not_written(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cls.yolo import exporting

    checkpoint = tmp_path / "best.pt"
    checkpoint.write_bytes((REPOSITORY / "cls" / "sample" / "person_model" / "best.pt").read_bytes())
    pictures = sorted((dataset / "images" / "train").iterdir())
    monkeypatch.setattr(exporting, "_MIN_MASK_IOU", 1.1)  # no two models agree that well
    with pytest.raises(ParityError, match="disagrees with the checkpoint"):
        exporting.export_model(checkpoint, tmp_path / "out", pictures, is_engine_required=False)
    assert list((tmp_path / "out").iterdir()) == []


def test_datasets_that_cannot_be_trained_on(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(YoloError, match="no such file"):
        train_model(YoloTraining(tmp_path / "data.yaml", MODEL, 1, 4, 64, tmp_path / "runs"))
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [girl]\n")
    with pytest.raises(YoloError, match="no pictures in its part train and val"):
        train_model(YoloTraining(tmp_path / "data.yaml", MODEL, 1, 4, 64, tmp_path / "runs"))
    with pytest.raises(YoloError, match="network without masks"):
        train_model(YoloTraining(dataset / "data.yaml", "yolov8n.yaml", 1, 4, 64, tmp_path / "runs"))
    (tmp_path / "broken.pt").write_bytes(b"PK no checkpoint")
    with pytest.raises(YoloError, match="the training failed"):
        train_model(YoloTraining(dataset / "data.yaml", str(tmp_path / "broken.pt"), 1, 4, 64, tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()
