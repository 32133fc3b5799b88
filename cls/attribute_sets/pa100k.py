"""PA-100K in its published layout: `annotation.mat` and a folder of pictures.

Layout (X. Liu et al., HydraPlus-Net, ICCV 2017; as read by
github.com/dangweili/pedestrian-attribute-recognition-pytorch and github.com/valencebond/Rethinking_of_PAR):
`attributes` 26x1 cell; for train, val and test `<part>_images_name` Nx1 cell of file names and `<part>_label` Nx26 of
0 and 1. The set names no people. Its authors write that they dealt tracklets, not pictures, to the parts
(github.com/xh-liu/HydraPlus-Net).
"""

from __future__ import annotations

from pathlib import Path

from cls.attribute_sets.attribute_set import AttributeSet, SetPicture, first_file, listing_of, odd_values_of, value_of
from cls.attribute_sets.matlab import MatlabValue, read_matlab, variable
from cls.attribute_sets.pool import pool_name
from cls.dataset.split.assign import TRAIN, VALID
from cls.dataset.split.parts import TEST
from cls.errors import AttributeSetError

ANNOTATIONS = ("annotation.mat", "annotation/annotation.mat")
PICTURES = ("release_data/release_data", "release_data", "data", "images")
_PARTS = {"train": TRAIN, "val": VALID, "test": TEST}


def read_pa100k(root: Path) -> AttributeSet:
    """Reads PA-100K.

    Raises:
        AttributeSetError: the folder is not in the layout; says what was looked for, or file and field.
    """
    annotation, folder = first_file(root, ANNOTATIONS), first_file(root, PICTURES)
    if annotation is None or folder is None:
        wanted = ANNOTATIONS if annotation is None else tuple(f"{name}/" for name in PICTURES)
        raise AttributeSetError(
            f"is no PA-100K: none of {', '.join(wanted)} is there",
            code="wrong_layout",
            where=root,
            hint=f"give the folder that holds annotation.mat and the pictures; it holds {listing_of(root)}",
        )
    variables = read_matlab(annotation)
    labels = tuple(variable(variables, "attributes", annotation).texts())
    pictures: list[SetPicture] = []
    official: dict[str, str] = {}
    problems: list[str] = []
    for part, side in _PARTS.items():
        names = variable(variables, f"{part}_images_name", annotation).texts()
        rows = label_rows(variable(variables, f"{part}_label", annotation), len(names), len(labels))
        for number, (file_name, values) in enumerate(zip(names, rows, strict=True), 1):
            row = f"{annotation.name}: {part}_images_name row {number}"
            name = pool_name(file_name)
            if name is None or name in official:
                why = "is not a file name" if name is None else "stands there twice"
                problems.append(f"{row}: '{file_name}' {why}")
                continue
            official[name] = side
            labels_of_it = tuple(map(value_of, values))
            pictures.append(SetPicture(folder / file_name, name, labels_of_it, "", row, odd_values_of(values)))
    return AttributeSet("pa100k", labels, tuple(pictures), official, tuple(problems))


def label_rows(value: MatlabValue, n_rows: int, n_labels: int) -> list[list[float]]:
    """A matrix of labels as rows, checked against the numbers of pictures and attributes.

    Raises:
        AttributeSetError: it has another shape.
    """
    matrix = value.matrix()
    if matrix.shape != (n_rows, n_labels):
        raise AttributeSetError(
            f"has {matrix.shape[0]} rows of {matrix.shape[1]} values, expected {n_rows} pictures of {n_labels} labels",
            code="wrong_size",
            where=value.where,
            hint="the file is not whole, or not of this layout: get it anew",
        )
    rows: list[list[float]] = matrix.tolist()
    return rows
