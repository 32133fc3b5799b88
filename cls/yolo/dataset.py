"""A COCO data set (and YOLO datasets made earlier) -> one YOLO segmentation dataset whose split cannot leak."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from cls.errors import FileError, YoloError
from cls.files import read_json, safe_name, sha256_of_bytes, write_json_atomic
from cls.people.photos import decode_photo
from cls.progress import track
from cls.wording import counted
from cls.yolo.coco import AnnotatedPicture, parse_coco
from cls.yolo.config import DatasetConfig
from cls.yolo.merging import ANNOTATIONS, IMAGES
from cls.yolo.yolo_files import (
    DATA_FILE,
    PARTS,
    VAL,
    ExistingDataset,
    LabelLine,
    PerceptualHashes,
    hash_fraction,
    key_of_picset,
    key_of_picture,
    subset_of_key,
    write_data_file,
    write_labels,
    write_once,
)

_log = logging.getLogger("cls.yolo")

SPLIT_FILE = "split.json"


def joined_outline(polygons: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """One closed line through all parts: each is joined by a bridge of no width between the nearest points.

    Filling the line fills exactly the parts.

    Args:
        polygons: outlines, each (points, 2), at least one.

    Returns:
        float64 (points, 2).
    """
    parts = sorted((part for part in polygons if len(part) >= 3), key=len, reverse=True)
    line = parts[0]
    for part in parts[1:]:
        distances = ((line[:, None] - part[None]) ** 2).sum(axis=2)
        here, there = np.unravel_index(int(distances.argmin()), distances.shape)
        detour = np.concatenate([np.roll(part, -int(there), axis=0), part[there : there + 1]])
        line = np.concatenate([line[: here + 1], detour, line[here:]])
    return line


@dataclass
class DatasetReport:
    """What a dataset holds.

    Attributes:
        pictures: pictures by part.
        people: outlines by part and class.
        duplicates: pictures that an existing dataset holds too; they stay in its part, with the new outlines.
        problems: pictures left out, with the reason.
    """

    pictures: Counter[str] = field(default_factory=Counter)
    people: dict[str, Counter[str]] = field(default_factory=lambda: {part: Counter() for part in PARTS})
    duplicates: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass
class SplitPicture:
    """A picture of split.json.

    Attributes:
        part: `train` or `val`.
        key: of its picset, or of its look.
        sha256: of its file.
        labels: class of each person outlined in it.
    """

    part: str
    key: str
    sha256: str = ""
    labels: list[str] = field(default_factory=list)


@dataclass
class PhotoSplit:
    """split.json: the share of validation asked for, and file name -> picture."""

    val_share: float
    pictures: dict[str, SplitPicture] = field(default_factory=dict)


_SPLIT = TypeAdapter(PhotoSplit)


@dataclass(frozen=True)
class _Entry:
    """A picture on its way into the dataset."""

    name: str
    content: bytes
    key: str
    labels: tuple[LabelLine, ...]
    part: str | None  # given by the dataset it comes from; None: to be decided


def create_dataset(
    source: Path, destination: Path, existing: Sequence[ExistingDataset], config: DatasetConfig
) -> DatasetReport:
    """Writes images/, labels/, split.json and, last, data.yaml.

    Every picture of one picset goes to one part, and so do near-copies of a picture where the picset is unknown. The
    part is drawn from the picset's name (or the picture's look), so adding pictures moves none; one picset is moved
    where the draw leaves a part empty. Pictures of existing datasets stay in their part; where a picset of them is met
    again, it follows.

    Args:
        source: folder with images/ and annotations/instances_default.json, as `parse_archives` writes it.
        destination: folder to write; one this command wrote before is brought up to date.
        existing: datasets to merge, their classes by name.
        config: share of validation, classes.

    Raises:
        YoloError: the source is not such a folder, the destination holds something else, or a part stays empty.
    """
    annotations = parse_coco(read_json(_annotations_of(source)), where=source / ANNOTATIONS)
    _check_destination(destination, existing)
    found = {*annotations.class_names, *(name for dataset in existing for name in dataset.class_names)}
    class_names = config.class_names or tuple(sorted(found))
    unknown = [name for name in class_names if name not in found]
    if unknown:
        raise YoloError(
            f"there are no classes {', '.join(unknown)}",
            code="unknown_classes",
            where=source,
            hint=f"there are {', '.join(sorted(found))}",
        )
    before = _read_split(destination / SPLIT_FILE)
    known = before if before is not None and before.val_share == config.val_share else PhotoSplit(config.val_share)
    writer = _Writer(destination, class_names, known)
    (destination / DATA_FILE).unlink(missing_ok=True)  # an unfinished dataset cannot be trained on
    if before is None:
        write_json_atomic(destination / SPLIT_FILE, asdict(known))
    writer.report.problems.extend(annotations.problems)
    for entry in _entries_of_existing(existing):
        writer.take(entry)
    if existing:
        writer.follow(source, annotations.pictures)
    for picture in track(annotations.pictures, "pictures written"):
        new = _entry_of_picture(source, picture, writer.report)
        if new is not None:
            writer.take(new)
    return writer.finish()


def _annotations_of(source: Path) -> Path:
    path = source / ANNOTATIONS
    if not path.is_file():
        raise YoloError(
            "there are no annotations", code="no_annotations", where=path, hint="make them with parse_archives.py"
        )
    return path


def _check_destination(destination: Path, existing: Sequence[ExistingDataset]) -> None:
    """Refuses a folder that holds something this command did not write, or that is to be merged into itself."""
    if any(dataset.folder.resolve() == destination.resolve() for dataset in existing):
        raise YoloError(
            "is also an existing dataset", code="same_folder", where=destination, hint="give a new folder as --dst-dir"
        )
    if destination.is_dir() and any(destination.iterdir()) and not (destination / SPLIT_FILE).is_file():
        raise YoloError(
            "is not empty and was not written by this command",
            code="folder_not_empty",
            where=destination,
            hint="give a new folder as --dst-dir",
        )


def _entries_of_existing(datasets: Sequence[ExistingDataset]) -> Iterator[_Entry]:
    for dataset in datasets:
        split = _read_split(dataset.folder / SPLIT_FILE)
        keys = {name: entry.key for name, entry in split.pictures.items()} if split else {}
        for part in PARTS:
            for path in dataset.pictures(part):
                content = path.read_bytes()
                key = keys.get(path.name) or key_of_picture("", decode_photo(content, where=path))
                yield _Entry(path.name, content, key, tuple(dataset.labels(path)), part)


def _read_split(path: Path) -> PhotoSplit | None:
    """What this command wrote of a dataset's split; None for other tools' datasets."""
    if not path.is_file():
        return None
    try:
        return _SPLIT.validate_python(read_json(path))
    except ValidationError:
        return None


def _entry_of_picture(source: Path, picture: AnnotatedPicture, report: DatasetReport) -> _Entry | None:
    """A picture of the COCO file, or None when its file cannot be used (it goes into the report)."""
    try:
        content = _read_picture(source, picture)
        image = decode_photo(content)
    except FileError as error:
        report.problems.append(f"{picture.file_name}: {error.what}")
        return None
    if image.shape[:2] != (picture.height_px, picture.width_px):
        is_px, said_px = f"{image.shape[1]}x{image.shape[0]}", f"{picture.width_px}x{picture.height_px}"
        report.problems.append(f"{picture.file_name}: is {is_px}, annotated as {said_px}")
        return None
    size_px = (picture.width_px, picture.height_px)
    labels = tuple(
        LabelLine(one.class_name, joined_outline([part / size_px for part in one.polygons_xy_px]))
        for one in picture.annotations
    )
    return _Entry(Path(picture.file_name).name, content, key_of_picture(picture.picset, image), labels, None)


def _read_picture(source: Path, picture: AnnotatedPicture) -> bytes:
    """The bytes of a picture of the COCO file."""
    path = source / IMAGES / picture.file_name
    if not path.resolve().is_relative_to((source / IMAGES).resolve()):
        raise FileError("leaves the folder of images", code="path_traversal")
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}", code="unreadable") from error


class _Writer:
    """Writes pictures and label files into parts, and collects split.json and the report."""

    def __init__(self, folder: Path, class_names: Sequence[str], known: PhotoSplit) -> None:
        self.report = DatasetReport()
        self._folder = folder
        self._class_names = class_names
        self._hashes = PerceptualHashes()
        self._parts_of_keys = {self._hashes.nearest(entry.key): entry.part for entry in known.pictures.values()}
        self._taken: dict[str, tuple[str, str]] = {}  # digest -> part, name
        self._digest_of_name: dict[str, str] = {}
        self._split = PhotoSplit(known.val_share)

    def follow(self, source: Path, pictures: Sequence[AnnotatedPicture]) -> None:
        """Puts each picset one picture of which is in an existing dataset into that picture's part."""
        for picture in pictures:
            if picture.picset:
                with suppress(FileError):  # told when the picture's turn comes
                    taken = self._taken.get(sha256_of_bytes(_read_picture(source, picture)))
                    if taken is not None:
                        self._parts_of_keys.setdefault(key_of_picset(picture.picset), taken[0])

    def take(self, entry: _Entry) -> None:
        """Writes a picture and its labels into its part."""
        digest = sha256_of_bytes(entry.content)
        key = self._hashes.nearest(entry.key)
        part = entry.part or self._parts_of_keys.get(key) or subset_of_key(key, val_share=self._split.val_share)
        if digest in self._taken:
            part, name = self._taken[digest]
            self.report.duplicates.append(name)
            self._count(part, self._split.pictures[name].labels, -1)
        else:
            name = self._new_name(entry.name, digest)
            self._taken[digest] = (part, name)
            self.report.pictures[part] += 1
            write_once(self._folder / "images" / part / name, entry.content)
        self._parts_of_keys.setdefault(key, part)
        labels = [label for label in entry.labels if label.class_name in self._class_names]
        write_labels(self._folder / "labels" / part / f"{Path(name).stem}.txt", labels, self._class_names)
        names = [label.class_name for label in labels]
        self._split.pictures[name] = SplitPicture(part, key, digest, names)
        self._count(part, names, 1)

    def _count(self, part: str, names: Sequence[str], step: int) -> None:
        for name in names:
            self.report.people[part][name] += step

    def _new_name(self, name: str, digest: str) -> str:
        """The picture's name, with a piece of its digest where another one has its stem (so its label file)."""
        path = Path(safe_name(name))
        if self._digest_of_name.setdefault(path.stem.lower(), digest) == digest:
            return path.name
        return f"{path.stem}_{digest[:8]}{path.suffix}"

    def _fill(self, part: str) -> None:
        """Moves the picset whose draw came nearest into a part that the draw left empty."""
        keys = sorted({entry.key for entry in self._split.pictures.values()}, key=hash_fraction)
        if len(keys) < 2:
            raise YoloError(
                f"{counted(len(self._split.pictures), 'picture')} of one picset cannot be shared out to"
                f" {' and '.join(PARTS)}",
                code="not_enough_picsets",
                where=self._folder,
                hint="annotate pictures of another picset",
            )
        moved = keys[0] if part == VAL else keys[-1]
        for name, entry in self._split.pictures.items():
            if entry.key == moved:
                for folder, file_name in (("images", name), ("labels", f"{Path(name).stem}.txt")):
                    target = self._folder / folder / part / file_name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    (self._folder / folder / entry.part / file_name).replace(target)
                self._count(entry.part, entry.labels, -1)
                self._count(part, entry.labels, 1)
                self.report.pictures[entry.part] -= 1
                self.report.pictures[part] += 1
                entry.part = part

    def finish(self) -> DatasetReport:
        """Removes what an earlier run left in another part, and writes split.json and data.yaml.

        Raises:
            YoloError: a part stays empty.
        """
        for part in PARTS:
            if not self.report.pictures[part]:
                self._fill(part)
        removed = 0
        for part in PARTS:
            kept = {name for name, entry in self._split.pictures.items() if entry.part == part}
            stems = {f"{Path(name).stem}.txt" for name in kept}
            for folder, names in (("images", kept), ("labels", stems)):
                for path in (self._folder / folder / part).iterdir():
                    if path.name not in names:
                        path.unlink()
                        removed += 1
        if removed:
            _log.info("%s of an earlier run removed from %s", counted(removed, "file"), self._folder)
        split = replace(self._split, pictures=dict(sorted(self._split.pictures.items())))
        write_json_atomic(self._folder / SPLIT_FILE, asdict(split), indent=1)
        write_data_file(self._folder, self._class_names)
        return self.report
