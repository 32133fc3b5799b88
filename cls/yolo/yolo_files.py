"""The files of a YOLO segmentation dataset (data.yaml, one label file a picture), and each picture's part of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from cls.errors import FileError, YoloError
from cls.files import read_yaml, write_bytes_atomic, write_text_atomic
from cls.people.photos import PHOTO_SUFFIXES
from cls.wording import counted

DATA_FILE = "data.yaml"

TRAIN, VAL = "train", "val"
PARTS = (TRAIN, VAL)
_HASH = "look "
_NEARLY_EQUAL_BITS = 6


@dataclass(frozen=True)
class LabelLine:
    """A line of a YOLO label file: an object's class and outline.

    Attributes:
        outline_xy_rel: one closed line, float64 (points, 2), fractions of width and height.
    """

    class_name: str
    outline_xy_rel: NDArray[np.float64]


@dataclass(frozen=True)
class ExistingDataset:
    """A YOLO segmentation dataset made earlier, by this project or another tool.

    Attributes:
        folder: where its data.yaml is.
        class_names: by class number.
        folders: the folders of pictures of each part.
    """

    folder: Path
    class_names: tuple[str, ...]
    folders: Mapping[str, tuple[Path, ...]]

    def pictures(self, part: str) -> Iterator[Path]:
        """The picture files of a part, sorted."""
        for folder in self.folders.get(part, ()):
            yield from sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)

    def labels(self, picture: Path) -> list[LabelLine]:
        """The labels of a picture; none for a background.

        Raises:
            YoloError: the label file is not one; names the line.
        """
        path = label_file_of(picture)
        if not path.is_file():
            return []
        labels = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if line.strip():
                labels.append(self._label(line.split(), f"{path}:{number}"))
        return labels

    def _label(self, words: list[str], where: str) -> LabelLine:
        try:
            name = self.class_names[int(words[0])]
            points = np.array(words[1:], np.float64)
        except (ValueError, IndexError) as error:
            raise YoloError(f"is not a label: {error}", code="invalid_label", where=where) from error
        if len(points) == 4:
            raise YoloError(
                "is a box, not an outline", code="box_label", where=where, hint="give a segmentation dataset"
            )
        if len(points) < 6 or len(points) % 2:
            raise YoloError(f"is not an outline: {counted(len(points), 'number')}", code="invalid_outline", where=where)
        return LabelLine(name, np.clip(points.reshape(-1, 2), 0.0, 1.0))


def label_file_of(picture: Path) -> Path:
    """Where the labels of a picture are: `images` is `labels` in its path, as ultralytics has it."""
    parts = list(picture.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def write_once(path: Path, content: bytes) -> None:
    """Writes a picture unless the same bytes are there already."""
    if not (path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content):
        write_bytes_atomic(path, content)


def write_labels(path: Path, labels: Sequence[LabelLine], class_names: Sequence[str]) -> None:
    """Writes a label file: class number and outline, one object a line."""
    numbers = {name: number for number, name in enumerate(class_names)}
    lines = (
        " ".join([str(numbers[label.class_name]), *(f"{value:.6g}" for value in label.outline_xy_rel.reshape(-1))])
        for label in labels
    )
    write_text_atomic(path, "".join(f"{line}\n" for line in lines))


def write_data_file(folder: Path, class_names: Sequence[str]) -> Path:
    """Writes data.yaml. It names no path of its own, so the folder can be moved: parts lie beside the file."""
    content = {**{part: f"images/{part}" for part in PARTS}, "names": dict(enumerate(class_names))}
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    write_text_atomic(
        folder / DATA_FILE, f"# Written by create_yolo_dataset. Paths start at this file's folder.\n{text}"
    )
    return folder / DATA_FILE


def find_datasets(folder: Path) -> list[ExistingDataset]:
    """The datasets of a folder: it is one itself, or it holds some.

    Raises:
        YoloError: there is none, or a data.yaml cannot be read.
    """
    files = [folder / DATA_FILE] if (folder / DATA_FILE).is_file() else sorted(folder.glob(f"*/{DATA_FILE}"))
    if not files:
        raise YoloError(
            f"there is no {DATA_FILE} in it nor in its folders",
            code="no_data_file",
            where=folder,
            hint="give the folder of a YOLO dataset",
        )
    return [read_data_file(path) for path in files]


def read_data_file(path: Path) -> ExistingDataset:
    """Reads a data.yaml.

    Raises:
        YoloError: it is missing or is none.
    """
    try:
        content = read_yaml(path)
        names = content["names"]
        class_names = tuple(str(names[n]) for n in sorted(names)) if isinstance(names, dict) else tuple(map(str, names))
        base = _base_folder(path, content.get("path"))
        folders = {part: tuple(_folders(base, content.get(part))) for part in PARTS}
    except FileError as error:
        if error.code == "file.not_found":
            raise YoloError(
                "there is no such file", code="not_found", where=path, hint="make it with create_yolo_dataset.py"
            ) from None
        raise YoloError(error.what, code="invalid_data_file", where=error.where) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise YoloError(
            f"is not the data file of a YOLO dataset: {error!r}", code="invalid_data_file", where=path
        ) from error
    return ExistingDataset(path.parent, class_names, folders)


def _base_folder(path: Path, base: Any) -> Path:
    """The folder parts are relative to: the file's own unless `path` names one that is there."""
    if base:
        for folder in (path.parent / str(base), Path(str(base))):
            if folder.is_dir():
                return folder
    return path.parent


def _folders(base: Path, value: Any) -> Iterator[Path]:
    """The folders of a part given as one path or several; `../` of tools that count from others is understood."""
    for text in value if isinstance(value, list) else [value] if value else []:
        folder = base / str(text)
        if not folder.is_dir():
            rest = [piece for piece in PurePosixPath(str(text)).parts if piece != ".."]
            folder = base / Path(*rest)
        if folder.is_dir():
            yield folder


def key_of_picset(picset: str) -> str:
    """What decides about every picture of a picset."""
    return f"picset {picset}"


def key_of_picture(picset: str, image_rgb: NDArray[np.uint8]) -> str:
    """What decides about a picture: its picset, or its perceptual hash where the picset is unknown.

    It is a difference hash: 64 comparisons of neighbouring brightnesses on a 9x8 thumbnail. Copies of a picture
    that were scaled or compressed again, and neighbours in a burst, differ in a few of them; see `PerceptualHashes`.
    """
    if picset:
        return key_of_picset(picset)
    grey = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    bits = np.packbits(small[:, 1:] > small[:, :-1])
    return f"{_HASH}{bits.tobytes().hex()}"


class PerceptualHashes:
    """Hashes of the pictures so far; finds the one that a new hash is nearly equal to."""

    def __init__(self) -> None:
        self._hashes = np.empty(0, np.uint64)

    def nearest(self, key: str) -> str:
        """The key of the nearest earlier hash that differs in at most 6 of 64 bits; other keys as they are."""
        if not key.startswith(_HASH):
            return key
        look = np.uint64(int(key.removeprefix(_HASH), 16))
        distances = np.bitwise_count(self._hashes ^ look)
        if distances.size and distances.min() <= _NEARLY_EQUAL_BITS:
            return f"{_HASH}{int(self._hashes[distances.argmin()]):016x}"
        self._hashes = np.append(self._hashes, look)
        return key


def subset_of_key(key: str, *, val_share: float) -> str:
    """`train` or `val`: a number drawn from the key's digest, compared with the share.

    Args:
        key: from `key_of_picture`.
        val_share: fraction of all keys that is kept for validation, 0 to 1.
    """
    return VAL if hash_fraction(key) < val_share else TRAIN


def hash_fraction(key: str) -> float:
    """A number from 0 to 1 that depends on the key alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64
