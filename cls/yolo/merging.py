"""Many annotation archives -> one folder of pictures and one COCO file, every picture once."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from cls.errors import FileError, YoloError
from cls.files import safe_name, sha256_of_bytes, write_json_atomic, write_text_atomic
from cls.progress import progress
from cls.wording import counted
from cls.yolo.coco import AnnotatedPicture, Annotation, Archive, coco_of_pictures
from cls.yolo.yolo_files import write_once

_ORIENTATION_TAG = 0x0112
_TURNED = (5, 6, 7, 8)
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif", "MPO": ".jpg"}

ANNOTATIONS = Path("annotations/instances_default.json")
IMAGES = Path("images")


@dataclass(frozen=True)
class DisplayedPicture:
    """A picture whose stored pixels are the displayed ones.

    Attributes:
        content: the file's bytes; the original's unless it had to be turned.
        suffix: what a file of this format ends in.
        width_px: width as displayed.
        height_px: height as displayed.
        orientation: the EXIF orientation the original had, 1 to 8.
    """

    content: bytes
    suffix: str
    width_px: int
    height_px: int
    orientation: int = 1

    def points_as_displayed(
        self, points_xy_px: NDArray[np.float64], width_px: int, height_px: int
    ) -> NDArray[np.float64]:
        """Moves points annotated on a picture of the given size onto this one.

        Annotation tools show pictures upright or as stored; which of the two it was is seen from the size (a picture
        turned by 180 degrees or mirrored is taken as shown upright). A copy scaled evenly is understood too.

        Args:
            points_xy_px: (n, 2).
            width_px: width the annotation file gives.
            height_px: height the annotation file gives.

        Raises:
            FileError: the size fits neither way.
        """
        if _is_same_shape(width_px, height_px, self.width_px, self.height_px):
            return points_xy_px * (self.width_px / width_px, self.height_px / height_px)
        if self.orientation in _TURNED and _is_same_shape(width_px, height_px, self.height_px, self.width_px):
            stored = points_xy_px * (self.height_px / width_px, self.width_px / height_px)
            stored_x, stored_y = stored.T
            x = self.width_px - stored_y if self.orientation in (6, 7) else stored_y
            y = self.height_px - stored_x if self.orientation in (7, 8) else stored_x
            return np.stack([x, y], axis=1)
        raise FileError(
            f"the picture is {self.width_px}x{self.height_px}, its annotation was made on {width_px}x{height_px}",
            code="wrong_size",
        )


def _is_same_shape(width_px: int, height_px: int, other_width_px: int, other_height_px: int) -> bool:
    """Whether one size is an even scaling of the other, but for a pixel of rounding."""
    if min(width_px, height_px) < 1:
        return False
    scale = other_width_px / width_px
    return abs(height_px * scale - other_height_px) <= max(1.0, scale)


def as_displayed(content: bytes) -> DisplayedPicture:
    """Reads a picture completely and turns it upright where its EXIF orientation says so."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            suffix = _SUFFIXES.get(image.format or "")
            orientation = int(image.getexif().get(_ORIENTATION_TAG, 1))
            if suffix is not None and orientation not in range(2, 9):
                return DisplayedPicture(content, suffix, *image.size)
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FileError(f"is not a picture that can be decoded ({error})", code="undecodable") from error
    stream = io.BytesIO()
    upright.save(stream, "JPEG", quality=95, subsampling=0)
    is_known = orientation if orientation in range(1, 9) else 1
    return DisplayedPicture(stream.getvalue(), ".jpg", *upright.size, is_known)


@dataclass
class MergeReport:
    """What became of the archives' pictures.

    Attributes:
        empty: pictures without a single annotation: backgrounds.
        shapes: annotated objects, by class.
        crowds: objects marked as a crowd (painted masks); each was taken as one object.
        turned: pictures turned upright.
        duplicates: pictures found more than once, and the archive whose annotation counts.
        problems: pictures and annotations left out, with the reason.
    """

    archives: int = 0
    pictures: int = 0
    empty: int = 0
    shapes: Counter[str] = field(default_factory=Counter)
    crowds: int = 0
    turned: int = 0
    duplicates: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Taken:
    """A picture that is written, and the archive's picture its annotation comes from."""

    origin: str
    picture: AnnotatedPicture


def merge_archives(archives: Sequence[Archive], output: Path, *, is_empty_kept: bool = True) -> MergeReport:
    """Writes `images/`, `annotations/instances_default.json` and `report.json`; the annotations come last.

    A picture is known by its bytes: one that stands in several archives is written once, with the annotation of the
    last archive (by name) that has one. Different pictures of one name get a piece of their digest into it. Pictures
    are written as displayed, without EXIF orientation.

    Args:
        archives: checked archives, in the order that decides between annotations.
        output: the folder to write.
        is_empty_kept: keep pictures without annotations as backgrounds.

    Raises:
        YoloError: no picture is left.
        FileError: a file cannot be written.
    """
    merger = _Merger(output, MergeReport(archives=len(archives)))
    total = sum(len(file.pictures) for archive in archives for file in archive.files.values())
    class_names: set[str] = set()
    with progress("pictures unpacked", total) as ticker:
        for archive in archives:
            with zipfile.ZipFile(archive.path) as opened:
                for root, file in archive.files.items():
                    class_names.update(file.class_names)
                    merger.report.problems.extend(file.problems)
                    for picture in file.pictures:
                        if picture.annotations or is_empty_kept:
                            merger.take(archive, opened, root, picture)
                        ticker.advance()
    report = merger.finish()
    write_json_atomic(output / "report.json", {**vars(report), "shapes": dict(sorted(report.shapes.items()))})
    write_text_atomic(output / ANNOTATIONS, coco_of_pictures(merger.pictures(), sorted(class_names)))
    return report


class _Merger:
    """Writes pictures one after the other, each once and under a name of its own."""

    def __init__(self, output: Path, report: MergeReport) -> None:
        self.report = report
        self._output = output
        self._by_digest: dict[str, _Taken] = {}
        self._names: set[str] = set()

    def pictures(self) -> list[AnnotatedPicture]:
        """What was taken, by name."""
        return sorted((one.picture for one in self._by_digest.values()), key=lambda picture: picture.file_name)

    def take(self, archive: Archive, opened: zipfile.ZipFile, root: str, picture: AnnotatedPicture) -> None:
        """Writes one picture of an archive, or joins it to the same one of an earlier archive."""
        origin = f"{archive.path.name}!{picture.file_name}"
        member = archive.member_of(root, picture.file_name)
        if member is None:
            self.report.problems.append(f"{origin}: the archive does not hold this picture")
            return
        try:
            content = archive.read(opened, member)
            displayed = as_displayed(content)
            annotations = _annotations_as_displayed(picture, displayed)
        except (FileError, YoloError) as error:
            self.report.problems.append(f"{origin}: {error.what}")
            return
        digest = sha256_of_bytes(content)
        if digest in self._by_digest:
            self._join(digest, origin, replace(picture, annotations=annotations))
            return
        name = self._new_name(picture.file_name, displayed.suffix, digest)
        write_once(self._output / IMAGES / name, displayed.content)
        self.report.turned += displayed.content is not content
        whole = AnnotatedPicture(name, displayed.width_px, displayed.height_px, picture.picset, annotations)
        self._by_digest[digest] = _Taken(origin, whole)

    def _join(self, digest: str, origin: str, picture: AnnotatedPicture) -> None:
        """The same picture again: the later annotation counts, unless it is empty."""
        before = self._by_digest[digest]
        is_newer = bool(picture.annotations) or not before.picture.annotations
        counts = origin if is_newer else before.origin
        self.report.duplicates.append(f"{before.origin} and {origin}: the annotation of {counts}")
        if is_newer:
            picset = picture.picset or before.picture.picset
            self._by_digest[digest] = _Taken(
                origin, replace(before.picture, annotations=picture.annotations, picset=picset)
            )

    def _new_name(self, file_name: str, suffix: str, digest: str) -> str:
        """The last part of a name, made safe; with a piece of the digest where another picture has the name."""
        stem = safe_name(PurePosixPath(file_name.replace("\\", "/")).stem or "picture")
        old_suffix = PurePosixPath(file_name).suffix
        suffix = old_suffix if old_suffix.lower().replace(".jpeg", ".jpg") == suffix else suffix
        name = f"{stem}{suffix}"
        if name.lower() in self._names:
            name = f"{stem}_{digest[:8]}{suffix}"
        self._names.add(name.lower())
        return name

    def finish(self) -> MergeReport:
        """The report with its counts.

        Raises:
            YoloError: no picture was taken.
        """
        report, pictures = self.report, self.pictures()
        if not pictures:
            reason = f"; the first: {report.problems[0]}" if report.problems else ""
            raise YoloError(
                f"no picture of {counted(report.archives, 'archive')} can be used{reason}", code="no_usable_picture"
            )
        report.pictures = len(pictures)
        report.empty = sum(not picture.annotations for picture in pictures)
        report.shapes.update(one.class_name for picture in pictures for one in picture.annotations)
        report.crowds = sum(one.is_crowd for picture in pictures for one in picture.annotations)
        return report


def _annotations_as_displayed(picture: AnnotatedPicture, displayed: DisplayedPicture) -> tuple[Annotation, ...]:
    """The annotations of a picture in pixels of the displayed one."""
    return tuple(
        replace(
            one,
            polygons_xy_px=tuple(
                displayed.points_as_displayed(part, picture.width_px, picture.height_px) for part in one.polygons_xy_px
            ),
        )
        for one in picture.annotations
    )
