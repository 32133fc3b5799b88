"""RAPv2 in its published layout: `RAP_annotation/RAP_annotation.mat` and `RAP_dataset/`.

Layout (D. Li et al., IEEE TIP 2019; as read by the authors' github.com/dangweili/RAP and by
github.com/valencebond/Rethinking_of_PAR): a structure `RAP_annotation` with `name` Nx1 cell, `data` Nx152 (0, 1; 2:
uncertain), `attribute` 152x1 or 152x2 cell, `selected_attribute` the 54 evaluated columns (from 1),
`partition_attribute` 1x5 cell of structures `train_index`, `val_index`, `test_index`, and `person_identity` (-1: not
annotated).
"""

from __future__ import annotations

import re
from pathlib import Path

from cls.attribute_sets.attribute_set import AttributeSet, SetPicture, first_file, listing_of, odd_values_of, value_of
from cls.attribute_sets.loading import partition_of, sides_of_partition
from cls.attribute_sets.matlab import MatlabValue, read_matlab, variable
from cls.attribute_sets.pa100k import label_rows
from cls.attribute_sets.pool import pool_name
from cls.errors import AttributeSetError

ANNOTATIONS = ("RAP_annotation/RAP_annotation.mat", "RAP_annotation.mat")
PICTURES = ("RAP_dataset",)
_FIELDS = {"train": "train_index", "valid": "val_index", "test": "test_index"}
# CAM01-2014-02-15-20140215161032-20140215162620-tarid0-frame218-line1.png: camera, day, sequence, target, frame.
_TRACKLET = re.compile(r"^(CAM\d+-\d{4}-\d{2}-\d{2}-\d+-\d+-tarid\d+)-", re.IGNORECASE)


def read_rapv2(root: Path, partition: int = 1) -> AttributeSet:
    """Reads RAPv2.

    About half of its pictures name the person; of the others, one tracklet (camera, day, sequence and target in the
    file name) counts as one person.

    Args:
        root: the folder that holds RAP_annotation/ and RAP_dataset/.
        partition: which of the five published random partitions.

    Raises:
        AttributeSetError: the folder is not in the layout; says what was looked for, or file and field.
    """
    annotation, folder = first_file(root, ANNOTATIONS), first_file(root, PICTURES)
    if annotation is None or folder is None:
        wanted = ANNOTATIONS if annotation is None else tuple(f"{name}/" for name in PICTURES)
        raise AttributeSetError(
            f"is no RAPv2: none of {', '.join(wanted)} is there",
            code="wrong_layout",
            where=root,
            hint=f"give the folder that holds RAP_annotation/ and RAP_dataset/; it holds {listing_of(root)}",
        )
    content = variable(read_matlab(annotation), "RAP_annotation", annotation)
    names = content.field("name").texts()
    attributes = content.field("attribute").texts()
    selected = content.field("selected_attribute").indices(len(attributes))
    rows = label_rows(content.field("data"), len(names), len(attributes))
    identities = _identities(content, names)
    chosen = partition_of(content.field("partition_attribute"), partition)
    sides = sides_of_partition(chosen, _FIELDS, len(names))
    pictures: list[SetPicture] = []
    official: dict[str, str] = {}
    problems: list[str] = []
    seen: set[str] = set()
    for number, (file_name, values, identity) in enumerate(zip(names, rows, identities, strict=True)):
        row = f"{annotation.name}: name row {number + 1}"
        name = pool_name(file_name)
        if name is None or name in seen:
            why = "is not a file name" if name is None else "stands there twice"
            problems.append(f"{row}: '{file_name}' {why}")
            continue
        seen.add(name)
        raw = [values[column] for column in selected]
        labels = tuple(map(value_of, raw))
        pictures.append(SetPicture(folder / file_name, name, labels, identity, row, odd_values_of(raw)))
        if number in sides:
            official[name] = sides[number]
    return AttributeSet(
        "rapv2", tuple(attributes[column] for column in selected), tuple(pictures), official, tuple(problems)
    )


def _identities(content: MatlabValue, names: list[str]) -> list[str]:
    """Who each picture shows: the annotated person, else whom its tracklet shows elsewhere, else the tracklet."""
    numbers: list[float] = []
    if content.has_field("person_identity"):
        numbers = content.field("person_identity").matrix().reshape(-1).tolist()
    people = [f"person {number:.0f}" if number > 0 else "" for number in numbers[: len(names)]]
    people += [""] * (len(names) - len(people))
    tracklets = [match[1] if (match := _TRACKLET.match(name)) else "" for name in names]
    # One target of one camera is one person, also in the frames that nobody annotated.
    known = {tracklet: person for tracklet, person in zip(tracklets, people, strict=True) if tracklet and person}
    return [person or known.get(tracklet, tracklet) for tracklet, person in zip(tracklets, people, strict=True)]
