"""Cut-outs of a group's people as picture files, with a contact sheet, for annotators to look at."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from os.path import relpath
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from cls.bottle.dataset_file import GroupDataset, LabelledRow, read_dataset
from cls.bottle.layout import Bottle
from cls.errors import BottleError, FileError
from cls.files import remove_parts, safe_name, write_bytes_atomic, write_error
from cls.package.group_pages import link_group_pages
from cls.pages.render import write_page
from cls.people.photos import Person, read_photo
from cls.people.polygons import choose_people
from cls.people.preprocess import cut_out, on_flat_background, resize_cutout
from cls.pictures.database import PicturesDatabase, Status
from cls.progress import progress
from cls.records import JsonLines
from cls.segmentation.config import GalleryConfig
from cls.wording import percent

NOT_SEGMENTED = "not segmented yet"
# Version of the drawing; files of earlier ones are made again.
_DRAWING = 1

JOURNAL_NAME = ".made.jsonl"
CARDS_A_PAGE = 500
_GREY_RGB = (128, 128, 128)
_JPEG_QUALITY = 88
_PNG_COMPRESSION = 4
_PHOTOS_CLAIMED = 256


@dataclass(frozen=True)
class GalleryCutout:
    """A person's picture file in the gallery; `key` changes with everything that the file is made from."""

    file: str
    row: LabelledRow
    person: Person
    status: str
    key: str


def plan_cutouts(
    bottle: Bottle, dataset: GroupDataset, config: GalleryConfig, left_out: Counter[str]
) -> list[GalleryCutout]:
    """Every cut-out the group should have, in the dataset's order.

    Args:
        bottle: the data folder; its pictures database is read.
        dataset: the labelled pictures.
        config: which people to show, and how.
        left_out: why pictures give no cut-out, and how many; counted up here.
    """
    with PicturesDatabase.open_for_reading(bottle.database_url) as database:
        records = database.records(row.path for row in dataset.rows)
    stems = Counter(Path(row.path).stem.lower() for row in dataset.rows)
    masks: list[GalleryCutout] = []
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
                masks.append(GalleryCutout(f"{stem}_{index}.{config.format}", row, person, record.status, key))
    return masks


def _key_of(picture: Path, person: Person, config: GalleryConfig) -> str:
    """Changes with the picture file, the person's outline, and how it is drawn."""
    state = picture.stat()
    digest = hashlib.sha256(f"{_DRAWING} {config.size_px} {state.st_size} {state.st_mtime_ns}".encode())
    digest.update(repr(person.box_xyxy_px).encode())
    for polygon in person.polygons_xy_rel:
        digest.update(np.ascontiguousarray(polygon, np.float64).tobytes() + b"|")
    return digest.hexdigest()[:24]


class _GalleryEntry(BaseModel):
    """A line of the journal: a file, and the key of what it was made from; empty while it is being made."""

    file: str
    key: str = ""


class GalleryJournal:
    """The files of a folder that were made here, each with the key of what it was made from.

    A line is written before a file is made (the claim), and another after it. A claimed file that a killed run did not
    finish is made again; a file without a claim was not made here, and is never changed.
    """

    def __init__(self, folder: Path) -> None:
        self._lines = JsonLines(folder / JOURNAL_NAME, _GalleryEntry)
        # A line that a kill cut off is not read: its file has an earlier claim, or was not made.
        self._keys = {line.file: line.key for line in self._lines.read()}
        self.forget([])

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files made here."""
        return tuple(self._keys)

    def is_ours(self, name: str) -> bool:
        """Whether the file was made here, or was being made when a run was killed."""
        return name in self._keys

    def is_made(self, name: str, key: str) -> bool:
        """Whether the file was finished, from exactly this."""
        return bool(key) and self._keys.get(name) == key

    def claim(self, names: Iterable[str]) -> None:
        """Enters files before they are made, durably."""
        self._enter([_GalleryEntry(file=name) for name in names], is_durable=True)

    def finish(self, name: str, key: str) -> None:
        """Enters a finished file and its key."""
        self._enter([_GalleryEntry(file=name, key=key)])

    def forget(self, names: list[str]) -> None:
        """Drops files that were removed, and writes one line for each of the others."""
        for name in names:
            self._keys.pop(name, None)
        self._lines.replace(_GalleryEntry(file=name, key=key) for name, key in self._keys.items())

    def _enter(self, lines: list[_GalleryEntry], *, is_durable: bool = False) -> None:
        self._lines.append(*lines, is_durable=is_durable)
        self._keys.update((line.file, line.key) for line in lines)


def write_sheets(
    bottle: Bottle, folder: Path, journal: GalleryJournal, dataset: GroupDataset, entries: Sequence[GalleryCutout]
) -> list[Path]:
    """Writes index.html, and index_2.html and so on where there are many cut-outs; removes own pages left over.

    Pages refer to pictures by relative paths, so that a bottle can be copied anywhere.

    Returns:
        The pages, the first one first.
    """
    # The golden angle keeps the colours of neighbouring labels distinct.
    hues = {label: f"oklch(0.66 0.15 {(25 + number * 137.5) % 360:.0f})" for number, label in enumerate(dataset.labels)}
    parts = [entries[start : start + CARDS_A_PAGE] for start in range(0, len(entries), CARDS_A_PAGE)] or [[]]
    names = ["index.html" if number == 0 else f"index_{number + 1}.html" for number in range(len(parts))]
    counts = Counter(label for entry in entries for label in _labels_of(dataset, entry.row) or ("",))
    photos = quote(relpath(bottle.pictures, folder))
    for name, part in zip(names, parts, strict=True):
        values = {
            "group": dataset.group,
            "people": len(entries),
            "photo_count": len({entry.row.path for entry in entries}),
            "pages": names,
            "page": name,
            "labels": [{"name": label, "hue": hues[label], "count": counts[label]} for label in dataset.labels],
            "none_count": counts[""],
            "cards": [
                {
                    "file": quote(entry.file),
                    "photo": f"{photos}/{quote(entry.row.path)}",
                    "picture": entry.row.path,
                    "person": entry.person.id,
                    "cls": entry.person.cls,
                    "conf": percent(entry.person.conf, 0),
                    "status": entry.status,
                    "chips": [{"name": label, "hue": hues[label]} for label in _labels_of(dataset, entry.row)],
                    "numbers": " ".join(
                        str(dataset.labels.index(label) + 1) for label in _labels_of(dataset, entry.row)
                    )
                    or "0",
                }
                for entry in part
            ],
        }
        journal.claim([name])
        write_page(folder / name, "segmentation/mask_sheet.html", values)
        journal.finish(name, "page")
    left_over = [name for name in journal.files if name.endswith(".html") and name not in names]
    for name in left_over:
        if name == Path(name).name:
            (folder / name).unlink(missing_ok=True)
    if left_over:
        journal.forget(left_over)
    return [folder / name for name in names]


def _labels_of(dataset: GroupDataset, row: LabelledRow) -> tuple[str, ...]:
    return tuple(label for label, value in zip(dataset.labels, row.labels, strict=True) if value > 0)


@dataclass
class GalleryReport:
    """How many cut-outs were made, kept and removed, and which pictures and files were left out."""

    folder: Path
    pages: list[Path] = field(default_factory=list)
    made: int = 0
    kept: int = 0
    removed: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)


def build_gallery(bottle: Bottle, group: str, config: GalleryConfig) -> GalleryReport:
    """Makes the cut-outs that are missing, removes own ones that are out of date, and writes the contact sheet.

    Safe to kill and to repeat: finished files are kept, and no file that was not made here is changed or removed.

    Raises:
        BottleError: the group has not been loaded, or none of its pictures has been segmented.
        DatabaseError: the pictures database cannot be used.
        FileError: the folder cannot be written.
    """
    dataset = read_dataset(bottle.dataset_file(group), group)
    folder = bottle.masks(group)
    report = GalleryReport(folder)
    masks = plan_cutouts(bottle, dataset, config, report.left_out)
    if not masks and report.left_out[NOT_SEGMENTED] == len(dataset.rows):
        raise BottleError(
            f"no picture of group '{group}' has been segmented",
            code="not_segmented",
            where=bottle.pictures,
            hint="run `cls segment --model-path person_models/best.pt` first",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    remove_parts(folder)
    journal = GalleryJournal(folder)

    def draw(name: str, masks: Sequence[GalleryCutout]) -> list[bytes] | str:
        try:
            image_rgb = read_photo(bottle.picture(name))
        except FileError as error:
            return error.what  # one broken picture must not end the others: it is listed in the report
        return [_encode(image_rgb, mask.person, config) for mask in masks]

    shown = _make_missing(folder, journal, masks, draw, report)
    _remove_outdated(folder, journal, {mask.file for mask in masks}, report)
    report.pages = write_sheets(bottle, folder, journal, dataset, shown)
    link_group_pages(bottle, group)
    return report


def _make_missing(
    folder: Path,
    journal: GalleryJournal,
    masks: Sequence[GalleryCutout],
    draw: Callable[[str, Sequence[GalleryCutout]], list[bytes] | str],
    report: GalleryReport,
) -> list[GalleryCutout]:
    """Makes what is not there yet; returns the cut-outs that are there afterwards.

    Args:
        folder: of the gallery.
        journal: what is ours in it.
        masks: all that should be there.
        draw: picture and its masks -> the files' bytes, or why the picture cannot be read.
        report: counted up here.
    """
    missing: dict[str, list[GalleryCutout]] = {}
    there: dict[str, GalleryCutout] = {}
    for mask in masks:
        exists = (folder / mask.file).exists()
        if exists and not journal.is_ours(mask.file):
            report.foreign.append(mask.file)
        elif exists and journal.is_made(mask.file, mask.key):
            report.kept += 1
            there[mask.file] = mask
        else:
            missing.setdefault(mask.row.path, []).append(mask)

    names = list(missing)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool, progress("photos cut out", len(names)) as ticker:
        for start in range(0, len(names), _PHOTOS_CLAIMED):
            part = names[start : start + _PHOTOS_CLAIMED]
            journal.claim(mask.file for name in part for mask in missing[name])
            for name, drawn in zip(part, pool.map(lambda name: draw(name, missing[name]), part), strict=True):
                ticker.advance()
                if isinstance(drawn, str):
                    report.failed[name] = drawn
                    continue
                for mask, content in zip(missing[name], drawn, strict=True):
                    write_bytes_atomic(folder / mask.file, content)
                    journal.finish(mask.file, mask.key)
                    there[mask.file] = mask
                    report.made += 1
    return [mask for mask in masks if mask.file in there]


def _encode(image_rgb: NDArray[np.uint8], person: Person, config: GalleryConfig) -> bytes:
    """A person's cut-out as the bytes of a picture file."""
    cutout = cut_out(image_rgb, person)
    height_px, width_px = cutout.mask.shape
    scale = min(config.size_px / max(height_px, width_px), 1.0)
    resized = resize_cutout(cutout, max(round(height_px * scale), 1), max(round(width_px * scale), 1))
    if config.format == "jpg":
        flat_bgr = cv2.cvtColor(on_flat_background(resized, _GREY_RGB), cv2.COLOR_RGB2BGR)
        encoded = cv2.imencode(".jpg", flat_bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    else:
        # Transparent pixels are black, which compresses best.
        seen = cv2.bitwise_and(resized.image_rgb, resized.image_rgb, mask=resized.mask)
        red, green, blue = cv2.split(seen)
        bgra = cv2.merge([blue, green, red, resized.mask])
        encoded = cv2.imencode(".png", bgra, [cv2.IMWRITE_PNG_COMPRESSION, _PNG_COMPRESSION])[1]
    return encoded.tobytes()


def _remove_outdated(folder: Path, journal: GalleryJournal, wanted: set[str], report: GalleryReport) -> None:
    """Removes cut-outs of earlier runs that are not wanted any more."""
    outdated = [name for name in journal.files if name not in wanted and Path(name).suffix in (".png", ".jpg")]
    for name in outdated:
        # The journal lies in a shared folder: a name in it that leads elsewhere is not followed.
        if name == Path(name).name and (folder / name).is_file():
            (folder / name).unlink()
            report.removed += 1
    if outdated:
        journal.forget(outdated)
