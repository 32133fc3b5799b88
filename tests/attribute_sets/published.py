"""Small files in the published layouts of the public sets, nested as MATLAB writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

from tests.bottles import draw_photo

PA100K_LABELS = ("Female", "Hat", "Backpack", "Trousers")
PETA_ATTRIBUTES = ("personalLess30", "upperBodyCasual", "hairLong", "personalMale", "upperBodyBlack", "hairBlack")
PETA_SELECTED = 4
RAP_ATTRIBUTES = ("Female", "AgeLess16", "hs-Hat", "up-Black", "ub-Shirt", "shoes-Boots")
RAP_SELECTED = (1, 3, 5)
_COLORS_RGB = ((200, 40, 45), (40, 70, 190), (235, 232, 225), (70, 150, 70))


def cell(values: Sequence[Any], *, is_row: bool = False) -> NDArray[np.object_]:
    """A MATLAB cell array, Nx1 unless it is to be a row."""
    array = np.empty((1, len(values)) if is_row else (len(values), 1), object)
    array.reshape(-1)[:] = [np.array(value) if isinstance(value, str) else value for value in values]
    return array


def two_columns(values: Sequence[str]) -> NDArray[np.object_]:
    """A cell array with a second column, as RAP has its attributes in two languages."""
    array = np.empty((len(values), 2), object)
    array[:, 0] = list(values)
    array[:, 1] = [f"{value} in another language" for value in values]
    return array


def labels_of_picture(number: int, width: int) -> list[int]:
    """Labels that every part has some of, and that can be seen: the first is the colour of the top."""
    return [int((number // (index + 1)) % 2 == 0) for index in range(width)]


def write_picture(path: Path, number: int, *, width_px: int = 32, height_px: int = 72) -> None:
    """A drawn person, small and cut out already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    photo = draw_photo(np.random.default_rng(number), _COLORS_RGB[number % 2])
    cropped = cv2.resize(photo.image_rgb[:, 24:96], (width_px, height_px), interpolation=cv2.INTER_AREA)
    if not cv2.imwrite(str(path), cv2.cvtColor(cropped, cv2.COLOR_RGB2BGR)):
        raise AssertionError(path)


def write_pa100k(root: Path, counts: tuple[int, int, int] = (16, 6, 8), **changes: Any) -> Path:
    """PA-100K: annotation.mat and release_data/release_data/. `changes` replace variables; None leaves one out."""
    variables: dict[str, Any] = {"attributes": cell(PA100K_LABELS)}
    number = 0
    for part, count in zip(("train", "val", "test"), counts, strict=True):
        names, rows = [], []
        for _ in range(count):
            number += 1
            names.append(f"{number:06d}.jpg")
            rows.append(labels_of_picture(number, len(PA100K_LABELS)))
            write_picture(root / "release_data" / "release_data" / names[-1], number)
        variables[f"{part}_images_name"] = cell(names)
        variables[f"{part}_label"] = np.array(rows, np.uint8).reshape(count, len(PA100K_LABELS))
    variables.update(changes)
    content = {key: value for key, value in variables.items() if value is not None}
    savemat(root / "annotation.mat", content, do_compression=True)  # version 7; the others are of version 5
    return root


def write_peta(root: Path, people: int = 12, pictures_each: int = 3, **changes: Any) -> Path:
    """PETA.mat and images/: every person on several pictures, and published parts that cut through people."""
    count = people * pictures_each
    rows = []
    for number in range(1, count + 1):
        person = (number - 1) // pictures_each + 1
        write_picture(root / "images" / f"{number:05d}.png", person)
        rows.append([number, person, 1 + person % 2, 100 + person, *labels_of_picture(person, len(PETA_ATTRIBUTES))])
    partitions = []
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(count) + 1
        train, valid = count // 2, count // 2 + count // 6
        partitions.append({
            "train": order[:train, None].astype(np.float64),
            "val": order[train:valid, None].astype(np.float64),
            "test": order[valid:, None].astype(np.float64),
        })  # fmt: skip
    content: dict[str, Any] = {
        "data": np.array(rows, np.uint16),
        "attribute": cell(PETA_ATTRIBUTES),
        "selected_attribute": np.arange(5, 5 + PETA_SELECTED, dtype=np.uint8)[None],
        "partion_attribute": cell(partitions),
    }
    content.update(changes)
    savemat(root / "PETA.mat", {"peta": {key: value for key, value in content.items() if value is not None}})
    return root


def rap_name(person: int, frame: int) -> str:
    """A file name as RAP's cameras give it."""
    return f"CAM{1 + person % 2:02d}-2014-02-15-20140215161032-20140215162620-tarid{person}-frame{frame}-line1.png"


def write_rapv2(root: Path, people: int = 12, pictures_each: int = 3, **changes: Any) -> Path:
    """RAP_annotation/RAP_annotation.mat and RAP_dataset/: the first half of the people has identities."""
    count = people * pictures_each
    names, rows, identities = [], [], []
    for index in range(count):
        person = index // pictures_each
        names.append(rap_name(person, index))
        rows.append(labels_of_picture(person, len(RAP_ATTRIBUTES)))
        identities.append(person + 1 if person < people // 2 else -1)
        write_picture(root / "RAP_dataset" / names[-1], person)
    rows[0][2] = 2  # uncertain
    partitions = []
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(count) + 1
        train, valid = count * 3 // 5, count * 4 // 5
        partitions.append({
            "train_index": order[None, :train].astype(np.float64),
            "val_index": order[None, train:valid].astype(np.float64),
            "test_index": order[None, valid:].astype(np.float64),
        })  # fmt: skip
    content: dict[str, Any] = {
        "name": cell(names),
        "data": np.array(rows, np.uint8),
        "attribute": two_columns(RAP_ATTRIBUTES),
        "selected_attribute": np.array([RAP_SELECTED], np.uint8),
        "partition_attribute": cell(partitions, is_row=True),
        "person_identity": np.array(identities, np.int16)[:, None],
    }
    content.update(changes)
    (root / "RAP_annotation").mkdir(parents=True, exist_ok=True)
    file = root / "RAP_annotation" / "RAP_annotation.mat"
    savemat(file, {"RAP_annotation": {key: value for key, value in content.items() if value is not None}})
    return root


def write_peta_archives(root: Path) -> Path:
    """`PETA dataset/<subset>/archive/`: two subsets, one of which names files instead of people."""
    first = root / "PETA dataset" / "3DPeS" / "archive"
    lines = []
    for person in (1, 2, 100):
        for frame in (4, 26):
            write_picture(first / f"{person}_3_FRAME_{frame}_RGB.bmp", person)
        words = "personalMale footwearSneakers" if person == 2 else "personalLess30 hairLong upperBodyBlack"
        lines.append(f"{person} {words}")
    (first / "Label.txt").write_text("\n".join(lines) + "\n")
    second = root / "PETA dataset" / "MIT" / "archive"
    for number in (1, 2):
        write_picture(second / f"{number:05d}.jpg", number)
    (second / "Label.txt").write_text("00001.jpg personalMale\r\n00002.jpg hairLong\r\n\r\n")
    return root
