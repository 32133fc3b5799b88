"""Annotation archives (zips as CVAT exports them) opened without trusting them."""

from __future__ import annotations

import json
import stat
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cls.errors import YoloError
from cls.files import ZIP_ERRORS
from cls.yolo.coco import AnnotationFile, parse_coco

_MAX_PICTURE_BYTES = 256 << 20
_MAX_JSON_BYTES = 2 << 30
_HINT = "export them from the annotation tool as 'COCO 1.0' with images"


@dataclass(frozen=True)
class Archive:
    """An annotation archive whose listing is safe and whose annotations are read.

    Attributes:
        path: the zip.
        files: annotations by the folder in the zip their pictures are below (`''` is its root).
        members: names of all files in the zip.
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
    """Refuses what an honest export never holds."""
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
