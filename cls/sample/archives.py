"""The set as annotation archives: zips of the shape CVAT exports in the format "COCO 1.0"."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

from cls.files import atomic_path, read_json

if TYPE_CHECKING:
    from pathlib import Path

PHOTOS_PER_ARCHIVE = 100
_NO_TIME = (1980, 1, 1, 0, 0, 0)


def write_archives(directory: Path, annotations_path: Path) -> int:
    """Write archives/part_NNN.zip, each with annotations/instances_default.json and its images; returns how many.

    Parts already there are kept: they appear whole or not at all, and never change.
    """
    document: dict[str, Any] = read_json(annotations_path)
    by_image: dict[int, list[dict[str, Any]]] = {}
    for entry in document["annotations"]:
        by_image.setdefault(entry["image_id"], []).append(entry)
    images: list[dict[str, Any]] = document["images"]
    written = 0
    for number, first in enumerate(range(0, len(images), PHOTOS_PER_ARCHIVE)):
        path = directory / "archives" / f"part_{number:03d}.zip"
        if path.exists():
            continue
        part = images[first : first + PHOTOS_PER_ARCHIVE]
        with atomic_path(path) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(
                zipfile.ZipInfo("annotations/instances_default.json", _NO_TIME),
                json.dumps(_part_of(document, part, by_image)),
            )
            for image in part:
                content = (directory / "images" / image["file_name"]).read_bytes()
                archive.writestr(zipfile.ZipInfo(f"images/{image['file_name']}", _NO_TIME), content)
        written += 1
    return written


def _part_of(
    document: dict[str, Any], images: list[dict[str, Any]], by_image: dict[int, list[dict[str, Any]]]
) -> dict[str, Any]:
    """The document of some images only, numbered from 1 as each export is."""
    renumbered = [{**image, "id": number} for number, image in enumerate(images, 1)]
    entries = [
        {**entry, "image_id": number}
        for number, image in enumerate(images, 1)
        for entry in by_image.get(image["id"], [])
    ]
    return {
        **document,
        "images": renumbered,
        "annotations": [{**entry, "id": number} for number, entry in enumerate(entries, 1)],
    }
