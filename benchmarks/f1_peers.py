"""The peers of `time_to_f1.py`, each run in a process of its own, and how everybody is scored."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.dataset.samples import Sample, collect_samples
from cls.files import read_json, write_json_atomic
from cls.people.photos import read_photo
from cls.people.preprocess import Cutout, Preprocessing

GROUP = "top_color"
SQUARE_PX = 224  # of the peers' ready pictures
NOTHING = "none of them"
FILL_RGB = (124, 116, 104)
Probs = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """Weights put aside after an epoch, and what they are worth.

    Attributes:
        wall_s: since the process began.
        processor_s: that the process had used.
        epochs: done.
        f1: on people never seen.
    """

    wall_s: float
    processor_s: float
    epochs: int
    f1: float


@dataclass
class Curve:
    """What a contender reached, and when.

    Attributes:
        name: the contender.
        points: what it would have handed out, in time's order.
    """

    name: str
    points: list[Point] = field(default_factory=list)

    def at(self, processor_s: float) -> float | None:
        """F1 of what it would hand out after some processor seconds."""
        done = [point.f1 for point in self.points if point.processor_s <= processor_s]
        return done[-1] if done else None

    def first(self, aim: float) -> Point | None:
        """When it first had an F1."""
        return next((point for point in self.points if point.f1 >= aim), None)


def mean_f1(is_said: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Mean of the labels' F1 over those that occur."""
    hits, counts = (is_said & truth).sum(axis=0), is_said.sum(axis=0) + truth.sum(axis=0)
    occurs = truth.any(axis=0)
    return float(np.mean(2 * hits[occurs] / counts[occurs]))


@dataclass(frozen=True)
class TestSet:
    """Photos of people never seen: one row of truth a photo, and its main person, where one was found."""

    bottle: Bottle
    labels: tuple[str, ...]
    paths: tuple[str, ...]
    truth: NDArray[np.bool_]
    people: dict[str, Sample]


def open_test(bottle: Bottle, labels: tuple[str, ...]) -> TestSet:
    dataset = read_dataset(bottle.dataset_file(GROUP))
    samples, _ = collect_samples(bottle, dataset)
    # A label nobody of the test set has is missing from its dataset.
    columns = [dataset.labels.index(label) if label in dataset.labels else None for label in labels]
    truth = [[c is not None and row.labels[c] > 0.5 for c in columns] for row in dataset.rows]
    people = {sample.path: sample for sample in samples}
    return TestSet(bottle, labels, tuple(row.path for row in dataset.rows), np.array(truth), people)


def square(bottle: Bottle, sample: Sample | None, path: str, kind: str) -> NDArray[np.uint8]:
    """A photo or the box of its main person, in a square."""
    photo = read_photo(bottle.picture(path))
    if kind == "boxes" and sample is not None:
        left, top, right, bottom = sample.person.box_xyxy_px
        margin = 0.05 * max(right - left, bottom - top)
        rows = slice(max(round(top - margin), 0), round(bottom + margin))
        photo = photo[rows, max(round(left - margin), 0) : round(right + margin)]
    everything = np.full(photo.shape[:2], 255, np.uint8)
    return Preprocessing(SQUARE_PX, SQUARE_PX, fill_rgb=FILL_RGB, is_background_kept=True).fit(
        Cutout(photo, everything)
    )


def write_squares(work: Path, run: Any, test: TestSet, kind: str) -> Path:
    """`train/<label>/` and `val/<label>/` of squares, as `yolo classify train` wants them, and `unseen/`."""
    folder = work / kind
    shutil.rmtree(folder, ignore_errors=True)
    for side, part in (("train", "train"), ("val", "valid")):
        for label in (*run.labels, NOTHING):
            (folder / side / label).mkdir(parents=True)
        for sample in run.samples(part):
            label = next((n for n, v in zip(run.labels, sample.labels, strict=True) if v > 0.5), NOTHING)
            _write(folder / side / label / sample.path, square(run.bottle, sample, sample.path, kind))
    (folder / "unseen").mkdir()
    for path in test.paths:
        _write(folder / "unseen" / path, square(test.bottle, test.people.get(path), path, kind))
    return folder


def _write(file: Path, image_rgb: NDArray[np.uint8]) -> None:
    cv2.imwrite(str(file), image_rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])


def read_squares(files: Sequence[Path], size_px: int) -> list[NDArray[np.uint8]]:
    return [cv2.resize(read_photo(file), (size_px, size_px), interpolation=cv2.INTER_AREA) for file in files]  # type: ignore[misc]


def peer_yolo(folder: Path, out: Path, options: argparse.Namespace) -> None:
    """`yolo classify train`, its best weights put aside after every epoch."""
    from cls.machine import cores, keep_memory
    from cls.segmentation.networks import quiet_ultralytics

    keep_memory()
    with quiet_ultralytics():
        import torch
        from ultralytics.models import YOLO

        yolo = YOLO(options.model, task="classify")
        times: list[dict[str, Any]] = []

        def on_train_start(trainer: Any) -> None:  # noqa: ARG001
            torch.set_num_threads(cores())

        def on_model_save(trainer: Any) -> None:
            copy = out / f"epoch_{trainer.epoch + 1:03d}.pt"
            spent = {"wall_s": time.time() - options.started, "processor_s": time.process_time()}
            times.append({**spent, "epochs": trainer.epoch + 1, "file": copy.name})
            shutil.copyfile(trainer.best, copy)
            write_json_atomic(out / "times.json", times)

        yolo.add_callback("on_train_start", on_train_start)
        yolo.add_callback("on_model_save", on_model_save)
        yolo.train(
            data=str(folder), imgsz=options.size, epochs=options.epochs, device="cpu", amp=False, plots=False,
            project=str(out), name="run", exist_ok=True, verbose=False,
        )  # fmt: skip


def score_yolo(folder: Path, out: Path, size_px: int, test: TestSet, name: str) -> Curve:
    from cls.segmentation.networks import quiet_ultralytics

    curve = Curve(name)
    with quiet_ultralytics():
        import torch
        from PIL import Image
        from ultralytics.data.augment import classify_transforms
        from ultralytics.models import YOLO

        transform = classify_transforms(size_px)
        images = torch.stack([transform(Image.open(folder / "unseen" / path).convert("RGB")) for path in test.paths])
        last: tuple[bytes, float] = (b"", 0.0)
        for entry in read_json(out / "times.json"):
            content = (out / entry["file"]).read_bytes()
            if content != last[0]:
                network = YOLO(str(out / entry["file"]), task="classify").model.float().eval()
                with torch.inference_mode():
                    answers = [network(part) for part in images.split(32)]
                scores = torch.cat([a[0] if isinstance(a, tuple | list) else a for a in answers])
                names = [network.names[int(best)] for best in scores.argmax(dim=1)]
                said = np.array([[said == label for label in test.labels] for said in names])
                last = (content, mean_f1(said, test.truth))
            curve.points.append(Point(entry["wall_s"], entry["processor_s"], entry["epochs"], last[1]))
    return curve


def peer_probe(folder: Path, out: Path, size_px: int, started: float) -> None:
    """Features, a regression for each of several ridges, thresholds; keeps the best on the held-out part."""
    from benchmarks.linear_probe import STRENGTHS, FrozenFeatures, LogisticRegression, standardised
    from cls.metrics.multilabel import average_precision, choose_thresholds

    frozen = FrozenFeatures(size_px, size_px)
    names = sorted(path.name for path in (folder / "train").iterdir() if path.name != NOTHING)

    def side(name: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        files = sorted((folder / name).rglob("*.*"))
        parts = [frozen(read_squares(files[start : start + 32], size_px)) for start in range(0, len(files), 32)]
        labels = np.array([[file.parent.name == label for label in names] for file in files], np.float64)
        return np.concatenate(parts), labels

    (train, train_labels), (valid, valid_labels) = side("train"), side("val")
    train_scaled, valid_scaled = standardised(train, valid)
    found: list[tuple[float, LogisticRegression, Probs]] = []
    for strength in STRENGTHS:
        model = LogisticRegression(train_scaled, train_labels, strength).fit(200)
        probs = model.scores(valid_scaled)
        aps = [average_precision(p, flags > 0.5) for p, flags in zip(probs.T, valid_labels.T, strict=True)]
        found.append((float(np.mean([ap for ap in aps if ap is not None])), model, probs))
    _, model, probs = max(found, key=lambda entry: entry[0])
    thresholds = choose_thresholds(probs, valid_labels)
    spent = {"wall_s": time.time() - started, "processor_s": time.process_time()}
    test, _ = side("unseen")
    is_said = model.scores(standardised(train, test)[1]) >= thresholds
    files = sorted(file.name for file in (folder / "unseen").iterdir())
    said = {
        file: [n for n, flag in zip(names, row, strict=True) if flag] for file, row in zip(files, is_said, strict=True)
    }
    write_json_atomic(out / "said.json", {**spent, "said": said})


def score_probe(out: Path, test: TestSet, name: str) -> Curve:
    content = read_json(out / "said.json")
    said = np.array([[label in content["said"][path] for label in test.labels] for path in test.paths])
    return Curve(name, [Point(content["wall_s"], content["processor_s"], 0, mean_f1(said, test.truth))])


def run_peer(work: Path, name: str, arguments: Sequence[str]) -> Path:
    """Runs `time_to_f1.py` as a peer; gives the folder of what it left."""
    out = work / "runs" / name.replace(" ", "-")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    program = Path(__file__).with_name("time_to_f1.py")
    command = [sys.executable, str(program), "--work", str(work), "--started", str(time.time()), "--peer-out", str(out)]
    with (out / "log.txt").open("w") as log:
        status = subprocess.run([*command, *arguments], stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if status:
        raise SystemExit(f"{name} failed: {(out / 'log.txt').read_text()[-800:]}")
    return out
