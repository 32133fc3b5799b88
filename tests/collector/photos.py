"""Small real photo files, and folders of them as the sources read them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image


def jpeg(number: int = 0, size: tuple[int, int] = (32, 24)) -> bytes:
    """A small JPEG; different numbers give different pictures."""
    image = Image.new("RGB", size)
    width, height = size
    image.putdata(
        [
            ((x * 7 + number * 31) % 256, (y * 11 + number) % 256, number % 256)
            for y in range(height)
            for x in range(width)
        ]
    )
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def write_photo(path: Path, number: int = 0) -> Path:
    """Writes one JPEG and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(number))
    return path


def tagged_set(
    folder: Path,
    rows: Sequence[Sequence[str]],
    groups: Mapping[str, Sequence[str]],
    columns: Sequence[str] = ("file", "tags", "picset"),
) -> Path:
    """A folder with images/, tags.csv and groups.json; every listed file is a small JPEG of its own."""
    for number, row in enumerate(rows):
        write_photo(folder / "images" / row[0], number)
    with (folder / "tags.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(row[: len(columns)] for row in rows)
    (folder / "groups.json").write_text(json.dumps(groups), encoding="utf-8")
    return folder


PICSET_A = "d9e3a1c2-0000-4000-8000-000000000001"
PICSET_B = "0b7c44f0-0000-4000-8000-000000000002"
GROUPS = {"hair_color": ["black hair", "blonde hair"], "accessories": ["bag", "scarf", "glasses"]}
ROWS = [
    ("a.jpeg", "black hair;bag", PICSET_A),
    ("b.jpeg", "black hair;bag;scarf", PICSET_A),
    ("c.jpeg", "blonde hair", PICSET_B),
    ("d.jpeg", "scarf", PICSET_B),
]


def small_set(folder: Path) -> Path:
    """Four photos in two picsets: one without hair colour, one without accessories, one with two accessories."""
    folder.mkdir(parents=True, exist_ok=True)
    return tagged_set(folder, ROWS, GROUPS)
