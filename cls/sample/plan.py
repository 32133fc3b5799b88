"""What a set will hold before anything is drawn: its parameters, picsets, file names, wrong labels, corrupt files.

Everything here is a pure function of the parameters and cheap at any index, so that workers and later runs agree.
"""

from __future__ import annotations

import csv
import hashlib
import io
import uuid
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel

from cls.files import write_json_atomic, write_text_atomic
from cls.sample.figure.wardrobe import GROUPS, MULTI_LABEL_GROUPS, draw_person, labels

if TYPE_CHECKING:
    from pathlib import Path

    from cls.sample.config import SampleConfig
    from cls.sample.figure.wardrobe import Person

TAGS_HEADER = ["file", "tags", "picset"]
TRUTH_HEADER = ["file", "tags", "picset", "person", "wrong", "corrupt"]
GENERATOR_VERSION = 1
PICSET_MIN, PICSET_MAX = 4, 12

# Category name -> its number in instances_default.json.
CATEGORIES = {"girl": 1, "man": 2}
CORRUPT_KINDS = ("truncated", "html", "empty")

# Streams of random numbers, so that one decision never moves another.
_LAYOUT, _GUID, _WRONG, _CORRUPT, PERSON, PLACE, PHOTO, WRONG_LABEL, CORRUPTION = range(9)


def main_person(config: SampleConfig, picset: int) -> Person:
    """The person a picset is about."""
    return draw_person(config.stream(PERSON, picset))


def true_tags(person: Person) -> list[str]:
    """A person's labels of all groups, in the groups' order."""
    return [label for given in labels(person).values() for label in given]


def given_tags(plan: Plan, index: int, truth: list[str]) -> tuple[list[str], str]:
    """The tags of a photo as annotated, and the group they are wrong in ("" when they are right).

    A wrong label of a one-label group becomes another of its labels (or none); of a multi-label group, one label is
    added or dropped.
    """
    if index not in plan.wrong:
        return truth, ""
    rng = plan.config.stream(WRONG_LABEL, index)
    group = list(GROUPS)[int(rng.integers(len(GROUPS)))]
    names = GROUPS[group]
    mine = [tag for tag in truth if tag in names]
    if group in MULTI_LABEL_GROUPS:
        flipped = names[int(rng.integers(len(names)))]
        wrong = [name for name in names if (name in mine) != (name == flipped)]
    else:
        others = [[name] for name in names if name not in mine] + ([[]] if mine else [])
        wrong = others[int(rng.integers(len(others)))]
    given = [tag for name in GROUPS for tag in (wrong if name == group else [t for t in truth if t in GROUPS[name]])]
    return given, group


def write_labels(directory: Path, plan: Plan) -> None:
    """Write the three files.

    tags.csv holds the tags annotators gave. truth.csv holds the true ones, with the person's id, the group whose given
    tags are wrong ("" when all are right) and how the file is corrupt ("" when it is whole).
    """
    given_rows, true_rows = [TAGS_HEADER], [TRUTH_HEADER]
    for picset, indices in enumerate(plan.picsets):
        truth, guid = true_tags(main_person(plan.config, picset)), plan.guid(picset)
        for index in indices:
            given, wrong_group = given_tags(plan, index, truth)
            name = plan.file_name(index)
            given_rows.append([name, ";".join(given), guid])
            true_rows.append(
                [name, ";".join(truth), guid, f"person-{picset:05d}", wrong_group, plan.corrupt_kind(index)]
            )
    write_json_atomic(directory / "groups.json", GROUPS)
    write_text_atomic(directory / "truth.csv", _csv(true_rows))
    write_text_atomic(directory / "tags.csv", _csv(given_rows))


def _csv(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


class Profile(BaseModel):
    """sample.json: what a set is made of, and whether it is finished."""

    generator_version: int
    photos: int
    seed: int
    width_px: int
    height_px: int
    wrong_labels: float
    corrupt: float
    finished: bool

    @classmethod
    def of(cls, config: SampleConfig, *, finished: bool) -> Profile:
        """That of a set with these parameters, made by this version of the generator."""
        names = ("photos", "seed", "width_px", "height_px", "wrong_labels", "corrupt")
        values = {name: getattr(config, name) for name in names}
        return cls(generator_version=GENERATOR_VERSION, **values, finished=finished)


class Annotation(BaseModel):
    """One person of instances_default.json, as COCO has it, in pixels.

    Attributes:
        id: counted from 1; 0 until it stands in a document.
        image_id: of its photo; likewise.
        category_id: of its category.
        segmentation: outlines `[x, y, x, y, …]`.
        area: pixels that show.
        bbox: left, top, width, height.
        iscrowd: always 0.
    """

    id: int = 0
    image_id: int = 0
    category_id: int
    segmentation: list[list[float]]
    area: int
    bbox: list[float]
    iscrowd: int = 0


class AnnotatedImage(BaseModel):
    """One photo of instances_default.json; `picset` is no field of COCO."""

    id: int
    width: int
    height: int
    file_name: str
    picset: str


class Category(BaseModel):
    """One category of instances_default.json."""

    id: int
    name: str
    supercategory: str = ""


class Info(BaseModel):
    """The head of instances_default.json."""

    description: str
    version: str


class Coco(BaseModel):
    """instances_default.json: COCO instance annotations."""

    info: Info
    licenses: list[str] = []
    categories: list[Category]
    images: list[AnnotatedImage]
    annotations: list[Annotation]


class Plan:
    """The layout of one set, from its parameters alone."""

    def __init__(self, config: SampleConfig) -> None:
        self.config = config

    @cached_property
    def picset_starts(self) -> list[int]:
        """First photo of each picset, and the number of photos at the end; picsets hold 4 to 12 photos each.

        Only a set of fewer than 4 photos has a smaller picset: there is nothing to fill it with.
        """
        rng, total = self.config.stream(_LAYOUT), self.config.photos
        starts = [0]
        while starts[-1] < total:
            starts += (starts[-1] + np.cumsum(rng.integers(PICSET_MIN, PICSET_MAX + 1, 64))).tolist()
        starts = [start for start in starts if start < total] + [total]
        if len(starts) > 2 and total - starts[-2] < PICSET_MIN:
            # The last picset came out too small: join it to the one before, or share the photos of both.
            starts.pop(-2)
            if total - starts[-2] > PICSET_MAX:
                starts.insert(-1, (starts[-2] + total) // 2)
        return starts

    @cached_property
    def picsets(self) -> list[range]:
        """The photo indices of each picset."""
        return [range(first, end) for first, end in pairwise(self.picset_starts)]

    @cached_property
    def _picset_of(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.repeat(np.arange(len(self.picsets)), np.diff(self.picset_starts))

    def picset_of(self, index: int) -> int:
        """The number of the picset a photo belongs to."""
        return int(self._picset_of[index])

    def guid(self, picset: int) -> str:
        """The GUID of a picset."""
        return str(
            uuid.UUID(
                bytes=hashlib.md5(f"{self.config.seed}/{_GUID}/{picset}".encode(), usedforsecurity=False).digest(),
                version=4,
            )
        )

    def file_name(self, index: int) -> str:
        """A photo's file name: it looks like a digest of the content and is one of what determines the content."""
        config = self.config
        key = f"{GENERATOR_VERSION}/{config.seed}/{config.width_px}x{config.height_px}/{index}"
        return hashlib.md5(key.encode(), usedforsecurity=False).hexdigest() + ".jpeg"

    def _chosen(self, stream: int, share: float) -> frozenset[int]:
        count = round(share * self.config.photos)
        return (
            frozenset(self.config.stream(stream).permutation(self.config.photos)[:count].tolist())
            if count
            else frozenset()
        )

    @cached_property
    def wrong(self) -> frozenset[int]:
        """Photos whose tags will be wrong in one group."""
        return self._chosen(_WRONG, self.config.wrong_labels)

    @cached_property
    def corrupt(self) -> frozenset[int]:
        """Photos whose file will be corrupt."""
        return self._chosen(_CORRUPT, self.config.corrupt)

    def corrupt_kind(self, index: int) -> str:
        """How a photo's file is corrupt; empty when it is not."""
        if index not in self.corrupt:
            return ""
        return CORRUPT_KINDS[int(self.config.stream(CORRUPTION, index).integers(len(CORRUPT_KINDS)))]
