"""Pictures of a set into the bottle's common pool, each checked, as one person who fills the picture."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cls.attribute_sets.attribute_set import SetPicture
from cls.bottle.layout import Bottle
from cls.errors import FileError
from cls.files import atomic_path, safe_name
from cls.people.photos import Person, decode_photo
from cls.pictures.segments import PictureRecord, Status

_SEPARATORS = ("/", "\\", "\0")


def pool_name(file_name: str, folder: str = "") -> str | None:
    """The name a picture gets in its set: its file name, with its folder before it where the set has several.

    Args:
        file_name: as the set's annotations give it.
        folder: e.g. the subset; empty for none.

    Returns:
        None when the annotations hold something that is no plain file name, such as a path that leads elsewhere.
    """
    if not file_name.strip() or file_name in (".", "..") or any(sign in file_name for sign in _SEPARATORS):
        return None
    return safe_name(f"{folder}-{file_name}" if folder else file_name)


# What stands in the pictures database where a segmentation model's name stands otherwise.
WHOLE_PICTURE = "whole-picture"
PEOPLE_CLASS = "person"
_CORNERS_XY_REL = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])


@dataclass(frozen=True)
class Placed:
    """What became of one picture.

    Attributes:
        picture: of the set.
        name: its name in the pool.
        record: its row for the pictures database; None where it has one, or cannot be used.
        problem: why it cannot be used.
        is_new: whether it was put into the pool now.
    """

    picture: SetPicture
    name: str
    record: PictureRecord | None = None
    problem: str | None = None
    is_new: bool = False


def name_in_pool(group: str, picture: SetPicture) -> str:
    """A picture's file name in the pool: sets number their pictures alike, so the group stands before it."""
    return f"{safe_name(group)}-{picture.name}"


def place(bottle: Bottle, group: str, picture: SetPicture, *, has_row: bool) -> Placed:
    """Puts a picture into the pool, as a hard link where the disk allows it, as a copy elsewhere.

    A picture that is there already, with a row in the database, is not read again: a load that was cut off goes on
    quickly. A file of the name that is another picture is left alone.

    Args:
        bottle: the data folder.
        group: the group it is loaded as.
        picture: of the set.
        has_row: whether the pictures database has a row of it.

    Raises:
        FileError: the pool cannot be written.
    """
    name = name_in_pool(group, picture)
    target = bottle.picture(name)
    try:
        size_bytes = picture.file.stat().st_size
    except OSError as error:
        why = (
            "there is no such picture" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        )
        return Placed(picture, name, problem=why)
    is_there = target.exists()
    if is_there and target.stat().st_size == size_bytes and has_row:
        return Placed(picture, name)
    try:
        content = picture.file.read_bytes()
        image_rgb = decode_photo(content, where=picture.file)
    except FileError as error:
        return Placed(picture, name, problem=error.what)
    except OSError as error:
        return Placed(picture, name, problem=f"cannot be read: {error.strerror}")
    if is_there and target.read_bytes() != content:
        return Placed(picture, name, problem="the bottle has another picture of this name: load under another --group")
    if not is_there:
        _link_or_copy(picture.file, target)
    record = None if has_row else whole_picture(name, image_rgb.shape[1], image_rgb.shape[0])
    return Placed(picture, name, record, is_new=not is_there)


def whole_picture(name: str, width_px: int, height_px: int) -> PictureRecord:
    """The row of a picture that is one person, cut out already: the outline is the picture's edge."""
    person = Person(PEOPLE_CLASS, 1.0, (0.0, 0.0, float(width_px), float(height_px)), (_CORNERS_XY_REL,))
    return PictureRecord(name, WHOLE_PICTURE, Status.APPROVED, (person,))


def _link_or_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        # Another disk, or one that knows no hard links: a copy costs space and is as good.
        with atomic_path(target) as part:
            shutil.copyfile(source, part)
