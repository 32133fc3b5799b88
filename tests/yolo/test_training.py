"""A real training of a few steps: a checkpoint the segmenter loads, resumed after a kill, proven as ONNX."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cls.errors import ParityError, YoloError
from cls.people.photos import read_photo
from cls.segmentation.config import SegmenterConfig
from cls.segmentation.networks import no_foreign_output, quiet_ultralytics
from cls.segmentation.segmenter import load_segmenter
from cls.settings import REPOSITORY
from cls.yolo.config import YoloTraining
from cls.yolo.training import find_unfinished, make_portable, train_model
from tests.preloaded import Program, run_program
from tests.segmentation.samples import sample_photos
from tests.yolo.test_dataset import make, source_of

SCRIPTS = REPOSITORY / "cls" / "instance_segmentation"
MODEL = str(REPOSITORY / "cls" / "yolo" / "models" / "person-small-seg.yaml")
KEPT = REPOSITORY / "cls" / "sample" / "person_model" / "best.pt"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("yolo")
    make(source_of(folder, 4), folder / "dataset")
    return folder / "dataset"


def script(name: str, *arguments: object) -> list[str]:
    return [str(SCRIPTS / name), *map(str, arguments)]


def train_command(dataset: Path, project: Path, epochs: int) -> list[str]:
    options = ("--model", "person-small-seg.yaml", "--epochs", epochs, "--batch", 4, "--image_size", 64)
    return script("train_yolo_seg.py", "--data", dataset / "data.yaml", *options, "--project", project)


def test_trained_killed_resumed_and_exported(dataset: Path, tmp_path: Path) -> None:
    project = tmp_path / "runs"
    command = train_command(dataset, project, epochs=5)
    process = Program(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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

    done = run_program(command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(project / "train") in done.stderr
    assert "epoch 5 of 5" in done.stderr
    assert "epoch 1 of 5" not in done.stderr
    best = project / "train" / "weights" / "best.pt"
    assert f"best model: {best}" in done.stdout
    assert best.stat().st_size < 3_000_000
    for checkpoint in (best, best.with_name("last.pt")):
        assert_names_no_folder(checkpoint, [tmp_path, dataset, REPOSITORY])
    assert [path.name for path in project.iterdir()] == ["train"]
    assert find_unfinished(training) is None
    segmenter = load_segmenter(best, people_classes={"girl": "female", "man": "male"})
    assert (segmenter.model_version, segmenter.classes) == ("best", ("female", "male"))
    check_export(best, dataset, tmp_path / "exported")


def assert_names_no_folder(checkpoint: Path, folders: list[Path]) -> None:
    content = b"".join(member for _, member in members_of(checkpoint))
    assert [str(folder) for folder in folders if os.fsencode(folder) in content] == []
    assert re.findall(rb"(?<![\w:/.])/(?:home|root|tmp|work|mnt|usr|Users)/[\w./-]+", content) == []


def members_of(checkpoint: Path) -> list[tuple[str, bytes]]:
    """The pickled parts of a checkpoint; weights are numbers, in which any sign may turn up."""
    with zipfile.ZipFile(checkpoint) as file:
        return [(name, file.read(name)) for name in file.namelist() if name.endswith(".pkl")]


def test_the_kept_model_names_no_folder() -> None:
    assert_names_no_folder(KEPT, [REPOSITORY])
    assert KEPT.stat().st_size < 3_000_000


def test_portable_and_the_same_predictions(tmp_path: Path) -> None:
    photos = [read_photo(path) for path in sorted((sample_photos(tmp_path / "sample", 3) / "images").iterdir())]
    checkpoint = tmp_path / "best.pt"
    checkpoint.write_bytes(KEPT.read_bytes())
    with_paths(checkpoint, tmp_path)
    assert os.fsencode(tmp_path) in members_of(checkpoint)[0][1]
    before = outlines(checkpoint, photos)
    make_portable(checkpoint)
    assert_names_no_folder(checkpoint, [tmp_path, REPOSITORY])
    assert any(before)
    assert outlines(checkpoint, photos) == before
    once = checkpoint.read_bytes()
    make_portable(checkpoint)
    assert checkpoint.read_bytes() == once

    with quiet_ultralytics(), no_foreign_output():
        from ultralytics.models import YOLO

        model = YOLO(str(checkpoint))
        assert (model.task, model.names) == ("segment", {0: "girl", 1: "man"})
        assert str(model.overrides["imgsz"]) == "256"
        assert model.ckpt["train_args"]["data"] == "data.yaml"

    checkpoint.write_bytes(b"PK no checkpoint")
    with pytest.raises(YoloError) as caught:
        make_portable(checkpoint)
    assert (caught.value.code, caught.value.where) == ("yolo.unreadable_checkpoint", str(checkpoint))


def outlines(checkpoint: Path, photos: list[NDArray[np.uint8]]) -> list[list[object]]:
    found = load_segmenter(checkpoint, people_classes={}, config=SegmenterConfig(confidence=0.1)).predict(photos)
    return [[(p.cls, p.conf, p.box_xyxy_px, [xy.tolist() for xy in p.polygons_xy_rel]) for p in ps] for ps in found]


def with_paths(checkpoint: Path, folder: Path) -> None:
    """Writes into a checkpoint what ultralytics leaves there."""
    import torch

    with quiet_ultralytics():
        content = torch.load(checkpoint, weights_only=False)
        run = str(folder / "runs" / "train")
        paths = {"data": str(folder / "data.yaml"), "model": str(folder / "a.pt"), "project": run, "save_dir": run}
        content["train_args"] |= paths
        content["git"] = {"root": str(REPOSITORY), "branch": "main"}
        content["model"].args |= paths
        content["model"].yaml["yaml_file"] = MODEL
        content["model"].pt_path = str(checkpoint)
        torch.save(content, checkpoint)


def check_export(best: Path, dataset: Path, folder: Path) -> None:
    pictures = dataset / "images" / "train"
    command = script("export_to_trt.py", "--src_path", best, "--dst_path", folder, "--pictures", pictures)
    done = run_program(command, 120)
    assert done.returncode == 0, done.stderr
    assert "TensorRT: " in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["best.onnx", "best.onnx.json"]
    assert json.loads((folder / "best.onnx.json").read_text())["agreement"]["photos"] > 5

    without = [*command, "--require", "trt", "--debug"]
    refused = run_program(without, 120)
    if "no engine was made" in done.stdout:
        assert refused.returncode == 1
        assert refused.stderr.strip().endswith("[export.no_engine]")


def test_an_export_that_disagrees_is_not_written(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cls.yolo import exporting

    checkpoint = tmp_path / "best.pt"
    checkpoint.write_bytes(KEPT.read_bytes())
    pictures = sorted((dataset / "images" / "train").iterdir())
    monkeypatch.setattr(exporting, "_MIN_MASK_IOU", 1.1)  # no two models agree that well
    with pytest.raises(ParityError) as caught:
        exporting.export_model(checkpoint, tmp_path / "out", pictures, is_engine_required=False)
    assert caught.value.code == "parity.outputs_differ"
    assert list((tmp_path / "out").iterdir()) == []


def test_datasets_that_cannot_be_trained_on(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(YoloError) as caught:
        train_model(YoloTraining(tmp_path / "data.yaml", MODEL, 1, 4, 64, tmp_path / "runs"))
    assert (caught.value.code, caught.value.where) == ("yolo.not_found", str(tmp_path / "data.yaml"))
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [girl]\n")
    with pytest.raises(YoloError) as caught:
        train_model(YoloTraining(tmp_path / "data.yaml", MODEL, 1, 4, 64, tmp_path / "runs"))
    assert caught.value.code == "yolo.no_pictures"
    assert "train and val" in caught.value.what
    with pytest.raises(YoloError) as caught:
        train_model(YoloTraining(dataset / "data.yaml", "yolov8n.yaml", 1, 4, 64, tmp_path / "runs"))
    assert (caught.value.code, caught.value.where) == ("yolo.no_masks", "yolov8n.yaml")
    (tmp_path / "broken.pt").write_bytes(b"PK no checkpoint")
    with pytest.raises(YoloError) as caught:
        train_model(YoloTraining(dataset / "data.yaml", str(tmp_path / "broken.pt"), 1, 4, 64, tmp_path / "runs"))
    assert (caught.value.code, caught.value.where) == ("yolo.training_failed", str(tmp_path / "broken.pt"))
    assert not (tmp_path / "runs").exists()
