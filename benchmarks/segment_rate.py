"""How fast are people found in photos, from the file to the outlines, and how well do the outlines fit?

The peer is ultralytics' own `predict()` on the same checkpoint, photos, size and confidence, with all cores too. Rounds
alternate, so that both see the same machine. Outlines of all three are compared with COCO annotations: for each
annotated person the best intersection over union of a mask found (0 for nobody). Where other processes compete for the
cores, OMP_WAIT_POLICY=PASSIVE keeps torch's threads from spinning, in both alike; segment_builder sets it itself.

    .venv/bin/python benchmarks/segment_rate.py MODEL.pt COCO_FOLDER [--photos 60] [--rounds 5]

COCO_FOLDER holds images/ and annotations/instances_default.json, as `cls sample make` writes them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cls.files import read_json
from cls.machine import cores
from cls.people.photos import read_photo
from cls.people.polygons import mask_of_polygons
from cls.segmentation.builder import ReadPhoto, read_ahead
from cls.segmentation.config import SegmenterConfig
from cls.segmentation.networks import quiet_ultralytics
from cls.segmentation.segmenter import PersonSegmenter, load_segmenter
from cls.yolo.coco import AnnotatedPicture, parse_coco
from cls.yolo.exporting import export_model

BATCH = 16
CONFIDENCE = 0.4
Outlines = list[list[NDArray[np.float64]]]


def of_segmenter(segmenter: PersonSegmenter, paths: Sequence[Path]) -> list[Outlines]:
    """Outlines of the people of each photo, as the segment builder finds them."""
    found: list[Outlines] = []
    photos = read_ahead(paths, threads=cores(), depth=2 * BATCH)
    batch: list[ReadPhoto] = []
    for photo in photos:
        if isinstance(photo, ReadPhoto):
            batch.append(photo)
        if len(batch) == BATCH or len(found) + len(batch) == len(paths):
            people = segmenter.predict([one.image_rgb for one in batch])
            found += [[list(person.polygons_xy_rel) for person in one] for one in people]
            batch = []
    return found


def of_peer(model: Path, image_size_px: int) -> Callable[[Sequence[Path]], list[Outlines]]:
    """Outlines as ultralytics' `predict()` gives them."""
    from ultralytics.models import YOLO

    yolo = YOLO(str(model))

    def predict(paths: Sequence[Path]) -> list[Outlines]:
        found: list[Outlines] = []
        names = [str(path) for path in paths]
        for start in range(0, len(names), BATCH):
            options = {"imgsz": image_size_px, "conf": CONFIDENCE, "batch": BATCH, "verbose": False}
            results = yolo.predict(names[start : start + BATCH], **options)  # type: ignore[arg-type]
            torch.set_num_threads(cores())  # it takes one less
            found += [[[line.astype(float)] for line in one.masks.xyn] if one.masks else [] for one in results]
        return found

    return predict


def mean_iou(found: Sequence[Outlines], pictures: Sequence[AnnotatedPicture]) -> float:
    """The mean, over annotated people, of the best mask found."""
    ious = []
    for people, picture in zip(found, pictures, strict=True):
        size = (picture.height_px, picture.width_px)
        masks = [mask_of_polygons(outlines, *size) > 0 for outlines in people]
        for shape in picture.annotations:
            parts = [part / (picture.width_px, picture.height_px) for part in shape.polygons_xy_px]
            truth = mask_of_polygons(parts, *size) > 0
            ious.append(max((np.count_nonzero(truth & m) / np.count_nonzero(truth | m) for m in masks), default=0.0))
    return float(np.mean(ious))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    annotations = parse_coco(read_json(options.folder / "annotations/instances_default.json"), where=options.folder)
    pictures = annotations.pictures[:: max(len(annotations.pictures) // options.photos, 1)][: options.photos]
    paths = [options.folder / "images" / picture.file_name for picture in pictures]
    image = read_photo(paths[0])
    with tempfile.TemporaryDirectory() as folder, quiet_ultralytics():
        checkpoint = load_segmenter(options.model, people_classes={}, config=SegmenterConfig(confidence=CONFIDENCE))
        onnx_path = export_model(options.model, Path(folder), [], is_engine_required=False).onnx
        onnx = load_segmenter(onnx_path, people_classes={}, config=SegmenterConfig(confidence=CONFIDENCE))
        size_px = checkpoint.image_size_px  # type: ignore[attr-defined]
        runs: dict[str, Callable[[Sequence[Path]], list[Outlines]]] = {
            "peer: ultralytics predict()": of_peer(options.model, size_px),
            "this project, .pt": lambda paths: of_segmenter(checkpoint, paths),
            "this project, .onnx": lambda paths: of_segmenter(onnx, paths),
        }
        found = {name: run(paths) for name, run in runs.items()}  # warms up too
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, run in runs.items():
                started_s = time.perf_counter()
                run(paths)
                rates[name].append(len(paths) / (time.perf_counter() - started_s))
    print(f"{len(paths)} photos of {image.shape[1]}x{image.shape[0]}, {size_px} px, {cores()} cores, median of rounds")
    peer = next(iter(rates))
    for name, values in rates.items():
        ratio = float(np.median(np.array(values) / np.array(rates[peer])))
        people = sum(map(len, found[name]))
        print(
            f"{name:30} {np.median(values):7.1f} photos/s   ratio {ratio:4.2f}   {people} people,"
            f" mean IoU with the annotations {mean_iou(found[name], pictures):.3f}"
        )


if __name__ == "__main__":
    main()
