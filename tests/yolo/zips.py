"""Annotation archives for tests, as CVAT writes them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = ("girl", "man")


def picture(seed: int, width_px: int = 60, height_px: int = 40, *, orientation: int = 1, kind: str = "JPEG") -> bytes:
    """A picture of large random blots, so that different seeds look different."""
    blots = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    Image.fromarray(blots).resize((width_px, height_px), Image.Resampling.BICUBIC).save(stream, kind, exif=exif)
    return stream.getvalue()


def annotation(width_px: int = 60, height_px: int = 40, *, name: str = "girl", crowd: int = 0) -> dict[str, Any]:
    """A person as a rectangle from a quarter to a half of the width, over three quarters of the height."""
    left, right, bottom = width_px / 4, width_px / 2, height_px * 0.75
    return {
        "class": name,
        "segmentation": [[left, 0, right, 0, right, bottom, left, bottom]],
        "iscrowd": crowd,
    }


def write_zip(
    path: Path,
    pictures: Mapping[str, bytes],
    annotations: Mapping[str, Sequence[dict[str, Any]]],
    *,
    sizes: Mapping[str, tuple[int, int]] | None = None,
    picsets: Mapping[str, str] | None = None,
    root: str = "",
    classes: Sequence[str] = CLASSES,
) -> Path:
    """An archive with images/ and annotations/instances_default.json; every picture is 60x40 unless said otherwise."""
    images, rows = [], []
    for number, name in enumerate(annotations, start=1):
        width_px, height_px = (sizes or {}).get(name, (60, 40))
        images.append({"id": number, "file_name": name, "width": width_px, "height": height_px})
        if picsets and name in picsets:
            images[-1]["picset"] = picsets[name]
        for one in annotations[name]:
            rest = {key: value for key, value in one.items() if key != "class"}
            rows.append(
                {"id": len(rows) + 1, "image_id": number, "category_id": classes.index(one["class"]) + 1, **rest}
            )
    content = {
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, start=1)],
        "images": images,
        "annotations": rows,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{root}annotations/instances_default.json", json.dumps(content))
        for name, data in pictures.items():
            archive.writestr(f"{root}images/{name}", data)
    return path
