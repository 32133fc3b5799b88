"""Annotation archives opened without trusting them, and COCO instance annotations read once into our own types."""

from __future__ import annotations

import json
import stat
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cls.errors import YoloError
from cls.files import ZIP_ERRORS
from cls.people.polygons import mask_of_polygons, polygons_of_mask
from cls.wording import counted

_MAX_PICTURE_BYTES = 256 << 20
_MAX_JSON_BYTES = 2 << 30
_HINT = "export them from the annotation tool as 'COCO 1.0' with images"

_PICSET_KEYS = ("picset", "picset_guid", "picsetGuid")


@dataclass(frozen=True)
class Archive:
    """An annotation archive whose listing is safe and whose annotations are read.

    Attributes:
        files: annotations by the folder in the zip their pictures are below (`''` is its root).
    """

    path: Path
    files: dict[str, AnnotationFile]
    members: frozenset[str]

    def member_of(self, root: str, file_name: str) -> str | None:
        """The zip's member of a picture: below images/, possibly in the subset folder CVAT makes, or beside it."""
        name = PurePosixPath(file_name.replace("\\", "/"))
        for folder in ("images", "images/default", "images/train", "images/val", ""):
            member = str(PurePosixPath(root) / folder / name)
            if member in self.members:
                return member
        return None

    def read(self, opened: zipfile.ZipFile, member: str) -> bytes:
        """The bytes of a picture.

        Raises:
            YoloError: the member is broken or larger than any picture.
        """
        try:
            if opened.getinfo(member).file_size > _MAX_PICTURE_BYTES:
                raise YoloError("is larger than any picture", code="picture_too_large", where=f"{self.path}!{member}")
            return opened.read(member)
        except (*ZIP_ERRORS, ValueError) as error:
            raise YoloError(
                f"cannot be unpacked: {error}",
                code="unpack_failed",
                where=f"{self.path}!{member}",
                hint="export the archive again",
            ) from error


def list_archives(folder: Path) -> list[Path]:
    """The zips of a folder and of the folders in it, sorted.

    Raises:
        YoloError: there is no folder, or no zip in it.
    """
    if not folder.is_dir():
        raise YoloError(
            "there is no such folder", code="not_found", where=folder, hint="give the folder of annotation archives"
        )
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".zip" and path.is_file())
    if not paths:
        raise YoloError("there are no annotation archives (*.zip)", code="no_archives", where=folder, hint=_HINT)
    return paths


def open_archives(paths: Iterable[Path]) -> list[Archive]:
    """Checks all archives and reads their annotations, before anything is unpacked.

    Raises:
        YoloError: an archive is broken, encrypted, has no annotations, or has a member that would leave its folder;
            names every such archive.
    """
    archives: list[Archive] = []
    errors: list[YoloError] = []
    for path in paths:
        try:
            archives.append(_open_archive(path))
        except YoloError as error:
            errors.append(error)
    if errors:
        cases = {error.code.partition(".")[2] for error in errors}
        raise YoloError(
            "; ".join(error.line() for error in errors),
            code=cases.pop() if len(cases) == 1 else "several_problems",
            hint="remove or replace them; nothing was unpacked",
        )
    return archives


def _open_archive(path: Path) -> Archive:
    try:
        with zipfile.ZipFile(path) as opened:
            infos = [info for info in opened.infolist() if not info.is_dir()]
            for info in infos:
                _check_member(path, info)
            places = {
                str(PurePosixPath(info.filename).parent.parent): info
                for info in sorted(infos, key=lambda info: info.filename)
                if _is_annotations(info.filename)
            }
            files = {
                "" if root == "." else root: parse_coco(
                    json.loads(opened.read(info)), where=f"{path.name}!{info.filename}"
                )
                for root, info in places.items()
            }
    except ZIP_ERRORS as error:
        raise YoloError(f"is not a zip that can be read: {error}", code="not_a_zip", where=path) from error
    except ValueError as error:
        raise YoloError(f"its annotations are not JSON: {error}", code="annotations_not_json", where=path) from error
    if not files:
        raise YoloError("has no annotations/instances_*.json", code="no_annotations", where=path)
    return Archive(path, files, frozenset(info.filename for info in infos))


def _is_annotations(name: str) -> bool:
    member = PurePosixPath(name)
    return member.parent.name == "annotations" and member.name.startswith("instances_") and member.suffix == ".json"


def _check_member(path: Path, info: zipfile.ZipInfo) -> None:
    """Refuses what a correct export never holds."""
    name = info.filename.replace("\\", "/")
    member = PurePosixPath(name)
    if member.is_absolute() or ".." in member.parts or (len(name) > 1 and name[1] == ":"):
        raise YoloError(
            f"holds a file that would leave its folder ('{info.filename}')", code="path_traversal", where=path
        )
    if stat.S_ISLNK(info.external_attr >> 16):
        raise YoloError(f"holds a link ('{info.filename}')", code="symbolic_link", where=path)
    if info.flag_bits & 1:
        raise YoloError("is encrypted", code="encrypted", where=path)
    if _is_annotations(name) and info.file_size > _MAX_JSON_BYTES:
        raise YoloError(f"holds annotations of {info.file_size} bytes", code="annotations_too_large", where=path)


def mask_of_runs(counts: str | Sequence[int], height_px: int, width_px: int) -> NDArray[np.uint8]:
    """A mask from its run lengths: background first, column by column.

    Args:
        counts: numbers, or COCO's compressed text of them.
        height_px: height of the mask.
        width_px: width of the mask.

    Returns:
        uint8 (height_px, width_px), 255 inside.
    """
    runs = np.array(_counts_of_text(counts) if isinstance(counts, str) else counts, np.int64)
    if (runs < 0).any() or runs.sum() != height_px * width_px:
        raise ValueError(f"the runs cover {int(runs.sum())} pixels, the picture has {height_px * width_px}")
    values = np.zeros(len(runs), np.uint8)
    values[1::2] = 255
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width_px, height_px).T)


def _counts_of_text(text: str) -> list[int]:
    """Five bits a character, sign in the last one; from the fourth number on, differences to the last but one."""
    counts: list[int] = []
    position = 0
    while position < len(text):
        value = shift = 0
        while True:
            if position >= len(text):
                raise ValueError("the compressed runs end in the middle of a number")
            bits = ord(text[position]) - 48
            if not 0 <= bits < 64:
                raise ValueError(f"the compressed runs hold the sign {text[position]!r}")
            position += 1
            value |= (bits & 0x1F) << shift
            shift += 5
            if not bits & 0x20:
                break
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts


@dataclass(frozen=True)
class Annotation:
    """An annotated object of a COCO file, usually a person.

    Attributes:
        polygons_xy_px: outlines of its parts, each float64 (points, 2), in pixels of the annotated picture.
        is_crowd: the annotation says it stands for several objects (CVAT writes it for painted masks).
    """

    class_name: str
    polygons_xy_px: tuple[NDArray[np.float64], ...]
    is_crowd: bool = False


@dataclass(frozen=True)
class AnnotatedPicture:
    """One picture of an annotation file.

    Attributes:
        file_name: as the file says it, perhaps with folders.
        width_px: width the annotator saw.
        height_px: height the annotator saw.
        picset: the set of pictures it belongs to; empty when the file does not say.
    """

    file_name: str
    width_px: int
    height_px: int
    picset: str = ""
    annotations: tuple[Annotation, ...] = ()


@dataclass(frozen=True)
class AnnotationFile:
    """The readable content of a COCO file.

    Attributes:
        class_names: all categories, in the file's order.
        pictures: pictures with what is annotated in each.
        problems: annotations that could not be read and were left out, one line each.
    """

    class_names: tuple[str, ...]
    pictures: tuple[AnnotatedPicture, ...]
    problems: tuple[str, ...] = ()


def parse_coco(content: Any, *, where: object) -> AnnotationFile:
    """Reads a COCO instances file's JSON.

    Raises:
        YoloError: it is not a COCO file. A single unreadable annotation is no error; it stands in `problems`.
    """
    try:
        classes = {int(row["id"]): str(row["name"]).strip() for row in content["categories"]}
        images = {
            int(row["id"]): AnnotatedPicture(
                str(row["file_name"]),
                int(row["width"]),
                int(row["height"]),
                next((str(row[key]) for key in _PICSET_KEYS if row.get(key)), ""),
            )
            for row in content["images"]
        }
        rows = list(content["annotations"])
    except (KeyError, TypeError, ValueError) as error:
        raise YoloError(
            f"is not a COCO annotation file: {error!r}",
            code="not_coco",
            where=where,
            hint="export from CVAT as 'COCO 1.0' with images",
        ) from error
    annotations: dict[int, list[Annotation]] = defaultdict(list)
    problems: list[str] = []
    for number, row in enumerate(rows):
        try:
            image_id = int(row["image_id"])
            picture = images[image_id]
            name = classes[int(row["category_id"])]
            polygons = _polygons_of(row.get("segmentation"), picture)
            annotations[image_id].append(Annotation(name, polygons, bool(row.get("iscrowd", 0))))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            place = row.get("id", number) if isinstance(row, dict) else number
            problems.append(f"{where}: annotation {place} is left out: {error!r}")
    pictures = tuple(replace(one, annotations=tuple(annotations[image_id])) for image_id, one in images.items())
    return AnnotationFile(tuple(dict.fromkeys(classes.values())), pictures, tuple(problems))


def _polygons_of(segmentation: Any, picture: AnnotatedPicture) -> tuple[NDArray[np.float64], ...]:
    """Outlines from a list of coordinate lists, or from run lengths; cut off at the picture's edge."""
    size_px = np.array([picture.width_px, picture.height_px], np.float64)
    if isinstance(segmentation, dict):
        height_px, width_px = (int(side) for side in segmentation["size"])
        if (width_px, height_px) != (picture.width_px, picture.height_px):
            raise ValueError(f"a mask of {width_px}x{height_px} in a picture of {picture.width_px}x{picture.height_px}")
        mask = mask_of_runs(segmentation["counts"], height_px, width_px)
        polygons = [polygon * size_px for polygon in polygons_of_mask(mask, tolerance_px=0.7, min_area_px=4)]
    else:
        polygons = []
        for part in segmentation or []:
            points = np.array(part, np.float64)
            if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
                raise ValueError(f"an outline of {counted(len(points), 'number')}")
            polygons.append(np.clip(points.reshape(-1, 2), 0.0, size_px))
    if not polygons:
        raise ValueError("no outline")
    return tuple(polygons)


def coco_of_pictures(pictures: Sequence[AnnotatedPicture], class_names: Iterable[str]) -> str:
    """The JSON text of a COCO instances file: polygons, boxes and areas in pixels, categories numbered from 1."""
    numbers = {name: number for number, name in enumerate(class_names, start=1)}
    images = []
    for image_id, picture in enumerate(pictures, start=1):
        image = {"id": image_id, "file_name": picture.file_name, "width": picture.width_px, "height": picture.height_px}
        images.append({**image, "picset": picture.picset} if picture.picset else image)
    outlined = [(number, one, found) for number, one in enumerate(pictures, start=1) for found in one.annotations]
    annotations = [
        {
            "id": number,
            "image_id": image_id,
            "category_id": numbers[found.class_name],
            "segmentation": [np.round(part, 2).reshape(-1).tolist() for part in found.polygons_xy_px],
            "bbox": _box_xywh_px(found),
            "area": _area_px(found, picture),
            "iscrowd": int(found.is_crowd),
        }
        for number, (image_id, picture, found) in enumerate(outlined, start=1)
    ]
    content = {
        "info": {"description": "people, outlined"},
        "categories": [{"id": number, "name": name, "supercategory": ""} for name, number in numbers.items()],
        "images": images,
        "annotations": annotations,
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"


def _box_xywh_px(annotation: Annotation) -> list[float]:
    points = np.concatenate(annotation.polygons_xy_px)
    box: list[float] = np.round(np.concatenate([points.min(axis=0), np.ptp(points, axis=0)]), 2).tolist()
    return box


def _area_px(annotation: Annotation, picture: AnnotatedPicture) -> float:
    size_px = (picture.width_px, picture.height_px)
    mask = mask_of_polygons([part / size_px for part in annotation.polygons_xy_px], picture.height_px, picture.width_px)
    return float(np.count_nonzero(mask))
