"""Cut-outs of a group's people as picture files, with a contact sheet, for annotators to look at."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.errors import BottleError, FileError
from cls.files import remove_parts, write_bytes_atomic
from cls.people.cutout import cut_out, on_flat_background, resize_cutout
from cls.people.person import Person
from cls.people.photos import read_photo
from cls.progress import progress
from cls.segmentation.gallery.journal import MaskJournal
from cls.segmentation.gallery.plan import NOT_SEGMENTED, GalleryConfig, Mask, plan_masks
from cls.segmentation.gallery.sheet import SheetEntry, write_sheets
from cls.wording import counted

_GREY_RGB = (128, 128, 128)
_JPEG_QUALITY = 88
_PNG_COMPRESSION = 4
_N_NAMES_SHOWN = 5
_PHOTOS_CLAIMED = 256


@dataclass
class GalleryReport:
    """What became of a gallery."""

    folder: Path
    pages: list[Path] = field(default_factory=list)
    made: int = 0
    kept: int = 0
    removed: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """The report as printed."""
        yield f"{counted(self.made + self.kept, 'cut-out')} in {self.folder}: {self.made} made, {self.kept} were there"
        if self.removed:
            yield f"  {self.removed} of an earlier run removed: their people are not chosen any more"
        for reason, count in self.left_out.most_common():
            yield f"  {counted(count, 'picture')} left out: {reason}"
        for name, reason in list(self.failed.items())[:_N_NAMES_SHOWN]:
            yield f"  {name} left out: {reason}"
        if len(self.failed) > _N_NAMES_SHOWN:
            yield f"  and {counted(len(self.failed) - _N_NAMES_SHOWN, 'more picture')} that cannot be read"
        for name in self.foreign:
            yield f"  {name} was not made here and stays as it is"
        yield f"look at them: {self.pages[0]}"


def build_gallery(bottle: Bottle, group: str, config: GalleryConfig) -> GalleryReport:
    """Makes the cut-outs that are missing, removes own ones that are out of date, and writes the contact sheet.

    Safe to kill and to repeat: finished files are kept, and no file that was not made here is changed or removed.

    Args:
        bottle: the data folder.
        group: a loaded group.
        config: what to show.

    Raises:
        BottleError: the group has not been loaded, or none of its pictures has been segmented.
        DatabaseError: the pictures database cannot be used.
        FileError: the folder cannot be written.
    """
    dataset = read_dataset(bottle.dataset_file(group), group)
    folder = bottle.masks(group)
    report = GalleryReport(folder)
    masks = plan_masks(bottle, dataset, config, report.left_out)
    if not masks and report.left_out[NOT_SEGMENTED] == len(dataset.rows):
        raise BottleError(
            f"no picture of group '{group}' has been segmented",
            where=bottle.pictures,
            hint="run `cls segment --model_path person_models/best.pt` first",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot be made: {error.strerror}", where=folder) from error
    remove_parts(folder)
    with MaskJournal(folder) as journal:
        shown = _make_missing(bottle, folder, journal, masks, config, report)
        _remove_outdated(folder, journal, {mask.file for mask in masks}, report)
        entries = [SheetEntry(mask.file, mask.row, mask.person, mask.status) for mask in shown]
        report.pages = write_sheets(bottle, folder, journal, dataset, entries)
    return report


def _make_missing(
    bottle: Bottle,
    folder: Path,
    journal: MaskJournal,
    masks: Sequence[Mask],
    config: GalleryConfig,
    report: GalleryReport,
) -> list[Mask]:
    """Makes what is not there yet; returns the cut-outs that are there afterwards."""
    missing: dict[str, list[Mask]] = {}
    there: dict[str, Mask] = {}
    for mask in masks:
        exists = (folder / mask.file).exists()
        if exists and not journal.is_ours(mask.file):
            report.foreign.append(mask.file)
        elif exists and journal.is_made(mask.file, mask.key):
            report.kept += 1
            there[mask.file] = mask
        else:
            missing.setdefault(mask.row.path, []).append(mask)

    def draw(name: str) -> list[bytes] | str:
        try:
            image_rgb = read_photo(bottle.picture(name))
        except FileError as error:
            return error.what  # one broken picture must not end the others: it is listed in the report
        return [_encode(image_rgb, mask.person, config) for mask in missing[name]]

    names = list(missing)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool, progress("photos cut out", len(names)) as ticker:
        for start in range(0, len(names), _PHOTOS_CLAIMED):
            part = names[start : start + _PHOTOS_CLAIMED]
            journal.claim(mask.file for name in part for mask in missing[name])
            for name, drawn in zip(part, pool.map(draw, part), strict=True):
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
        # What nobody sees is made black: it packs to nothing.
        seen = cv2.bitwise_and(resized.image_rgb, resized.image_rgb, mask=resized.mask)
        red, green, blue = cv2.split(seen)
        bgra = cv2.merge([blue, green, red, resized.mask])
        encoded = cv2.imencode(".png", bgra, [cv2.IMWRITE_PNG_COMPRESSION, _PNG_COMPRESSION])[1]
    return encoded.tobytes()


def _remove_outdated(folder: Path, journal: MaskJournal, wanted: set[str], report: GalleryReport) -> None:
    """Removes cut-outs of an earlier run that nobody asks for any more."""
    outdated = [name for name in journal.files if name not in wanted and Path(name).suffix in (".png", ".jpg")]
    for name in outdated:
        # The journal lies in a shared folder: a name in it that leads elsewhere is not followed.
        if name == Path(name).name and (folder / name).is_file():
            (folder / name).unlink()
            report.removed += 1
    if outdated:
        journal.forget(outdated)
