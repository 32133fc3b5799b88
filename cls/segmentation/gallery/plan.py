"""Which cut-outs a group's gallery should have: whom of each picture, under which name, from what."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cls.bottle.dataset_file import GroupDataset, LabelledRow
from cls.bottle.layout import Bottle
from cls.errors import UsageError
from cls.files import safe_name
from cls.people.choice import choose_people
from cls.people.person import Person
from cls.pictures.database import PicturesDatabase, Status

NOT_SEGMENTED = "not segmented yet"
_MIN_SIZE_PX = 32
# Raised when the same person would be drawn in another way: older files are then made again.
_DRAWING = 1


@dataclass(frozen=True)
class GalleryConfig:
    """What a gallery shows.

    Attributes:
        people: whom of each photo, see `cls.people.choice`.
        subject: people class; everyone when None.
        size_px: longest side of a cut-out, at most; smaller ones are not enlarged.
        format: `png` (transparent) or `jpg` (on grey).
    """

    people: str = "largest"
    subject: str | None = None
    size_px: int = 512
    format: str = "png"

    def __post_init__(self) -> None:
        if self.size_px < _MIN_SIZE_PX:
            raise UsageError(f"--size: expected at least {_MIN_SIZE_PX}, found {self.size_px}")


@dataclass(frozen=True)
class Mask:
    """One cut-out to be made.

    Attributes:
        file: name in the gallery's folder.
        row: the labelled picture.
        person: who is cut out.
        status: the picture's review status.
        key: digest of all that the file depends on.
    """

    file: str
    row: LabelledRow
    person: Person
    status: str
    key: str


def plan_masks(bottle: Bottle, dataset: GroupDataset, config: GalleryConfig, left_out: Counter[str]) -> list[Mask]:
    """Every cut-out the group should have, in the dataset's order.

    Args:
        bottle: the data folder; its pictures database is read.
        dataset: the labelled pictures.
        config: whom to show.
        left_out: why pictures give no cut-out, and how many; counted up here.

    Raises:
        DatabaseError: the pictures database cannot be used.
    """
    with PicturesDatabase.open_for_reading(bottle.database_url) as database:
        records = database.records(row.path for row in dataset.rows)
    stems = Counter(Path(row.path).stem.lower() for row in dataset.rows)
    masks: list[Mask] = []
    for row in dataset.rows:
        record = records.get(row.path)
        if record is not None and record.status == Status.REJECTED:
            left_out["rejected"] += 1
        elif record is None or record.people is None:
            left_out[NOT_SEGMENTED] += 1
        elif not bottle.picture(row.path).is_file():
            left_out["the picture is not in the pool"] += 1
        else:
            chosen = choose_people(record.people, config.people, subject=config.subject)
            if not chosen:
                left_out["nobody found" if not record.people else "nobody of those asked for"] += 1
            # Two pictures may differ in their extension alone; their cut-outs are named by the whole name.
            path = Path(row.path)
            stem = safe_name(path.stem if stems[path.stem.lower()] == 1 else path.name)
            for index, person in enumerate(chosen):
                key = _key_of(bottle.picture(row.path), person, config)
                masks.append(Mask(f"{stem}_{index}.{config.format}", row, person, record.status, key))
    return masks


def _key_of(picture: Path, person: Person, config: GalleryConfig) -> str:
    """Changes with the picture file, the person's outline, and how it is drawn."""
    state = picture.stat()
    digest = hashlib.sha256(f"{_DRAWING} {config.size_px} {state.st_size} {state.st_mtime_ns}".encode())
    digest.update(repr(person.box_xyxy_px).encode())
    for polygon in person.polygons_xy_rel:
        digest.update(np.ascontiguousarray(polygon, np.float64).tobytes() + b"|")
    return digest.hexdigest()[:24]
