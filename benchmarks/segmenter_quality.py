"""How well does a person segmenter find the people of annotated photos, and say what they are?

Every annotated person counts, small and half hidden ones too. A person is found when a mask has an intersection over
union of 0.5 or more with the annotation; masks and annotations are paired one to one, best pairs first, whatever their
class.

    .venv/bin/cls sample make D --photos 240 --seed 202
    .venv/bin/python benchmarks/segmenter_quality.py cls/sample/person_model/best.pt D [--confidences 0.25 0.4]

D holds images/ and annotations/instances_default.json, as `cls sample make` writes them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cls.files import read_json
from cls.people.photos import Person, read_photo
from cls.people.polygons import mask_of_polygons
from cls.segmentation.config import SegmenterConfig
from cls.segmentation.networks import quiet_ultralytics
from cls.segmentation.segmenter import PersonSegmenter, load_segmenter
from cls.yolo.coco import AnnotatedPicture, parse_coco

BATCH = 16
FOUND_IOU = 0.5


@dataclass
class Counts:
    """What is counted over all photos."""

    photos: int = 0
    people: int = 0
    found: int = 0
    right_class: int = 0
    largest_found: int = 0
    masks: int = 0
    on_nobody: int = 0
    found_iou: float = 0.0
    largest_iou: float = 0.0

    def add(self, other: Counts) -> None:
        """Adds another photo's counts."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def lines(self) -> list[str]:
        """The table, a line a measure."""
        return [
            f"people found (IoU of {FOUND_IOU} or more, whatever the class)  {self.found / self.people:.3f}",
            f"found, and the class is right                           {self.right_class / self.people:.3f}",
            f"class right, of those found                             {self.right_class / max(self.found, 1):.3f}",
            f"the largest person of each photo found                  {self.largest_found / self.photos:.3f}",
            f"mean IoU of the largest person (best mask, 0 for none)  {self.largest_iou / self.photos:.3f}",
            f"mean IoU of those found                                 {self.found_iou / max(self.found, 1):.3f}",
            f"masks on nobody                                         {self.on_nobody} of {self.masks}",
        ]


def counts_of(people: Sequence[Person], picture: AnnotatedPicture) -> Counts:
    """The counts of one photo with at least one annotated person."""
    size = (picture.height_px, picture.width_px)
    scale = (picture.width_px, picture.height_px)
    truths = [
        mask_of_polygons([part / scale for part in shape.polygons_xy_px], *size) > 0 for shape in picture.annotations
    ]
    masks = [mask_of_polygons(person.polygons_xy_rel, *size) > 0 for person in people]
    ious = np.array([[iou(truth, mask) for mask in masks] for truth in truths]).reshape(len(truths), len(masks))
    largest = int(np.argmax([truth.sum() for truth in truths]))
    counts = Counts(photos=1, people=len(truths), masks=len(masks))
    counts.largest_iou = float(ious[largest].max(initial=0.0))
    left = ious.copy()
    while left.size and left.max() >= FOUND_IOU:
        truth, mask = map(int, np.unravel_index(int(left.argmax()), left.shape))
        counts.found += 1
        counts.found_iou += float(left[truth, mask])
        counts.right_class += people[mask].cls == picture.annotations[truth].class_name
        counts.largest_found += truth == largest
        left[truth], left[:, mask] = -1, -1
    counts.on_nobody = int((ious.max(axis=0, initial=0.0) < FOUND_IOU).sum())
    return counts


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks."""
    return float(np.count_nonzero(first & second) / max(np.count_nonzero(first | second), 1))


def measure(segmenter: PersonSegmenter, folder: Path, pictures: Sequence[AnnotatedPicture]) -> Counts:
    """All photos' counts."""
    total = Counts()
    for start in range(0, len(pictures), BATCH):
        batch = pictures[start : start + BATCH]
        found = segmenter.predict([read_photo(folder / "images" / picture.file_name) for picture in batch])
        for people, picture in zip(found, batch, strict=True):
            total.add(counts_of(people, picture))
    return total


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--confidences", type=float, nargs="+", default=[0.25, 0.4])
    options = parser.parse_args()
    file = options.folder / "annotations/instances_default.json"
    pictures = [picture for picture in parse_coco(read_json(file), where=file).pictures if picture.annotations]
    with quiet_ultralytics():
        for confidence in options.confidences:
            segmenter = load_segmenter(options.model, people_classes={}, config=SegmenterConfig(confidence=confidence))
            counts = measure(segmenter, options.folder, pictures)
            print(f"confidence {confidence}: {counts.photos} photos, {counts.people} people")
            print("\n".join(f"  {line}" for line in counts.lines()))


if __name__ == "__main__":
    main()
