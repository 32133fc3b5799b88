"""PETA as it is handed round for measuring: `PETA.mat` and `images/00001.png` and on.

Layout (Y. Deng et al., ACM Multimedia 2014; as read by github.com/dangweili/pedestrian-attribute-recognition-pytorch,
github.com/valencebond/Rethinking_of_PAR and github.com/davidygp/Pedestrian-Attribute-Recognition): a structure `peta`
with `data`, a row a picture of 4 numbers (picture, person, subset, person within the subset) and 105 labels;
`attribute` 105x1 cell; `selected_attribute`, the 35 columns of `data` (from 1) that are evaluated; `partion_attribute`
(so spelt) 5x1 cell of structures `train`, `val`, `test`. Picture n is `images/%05d.png`.
Where there is no PETA.mat, the original folders are read: `cls.attribute_sets.peta_archives`.
"""

from __future__ import annotations

from pathlib import Path

from cls.attribute_sets.attribute_set import AttributeSet, SetPicture, first_file, listing_of, odd_values_of, value_of
from cls.attribute_sets.matlab import MatlabValue, read_matlab, variable
from cls.attribute_sets.partitions import partition_of, sides_of_partition
from cls.attribute_sets.peta_archives import archives_of, read_peta_archives
from cls.errors import AttributeSetError

ANNOTATIONS = ("PETA.mat",)
PICTURES = ("images",)
_FIELDS = {"train": "train", "valid": "val", "test": "test"}
_PARTITION_FIELDS = ("partion_attribute", "partition_attribute")
_PERSON_COLUMN = 1


def read_peta(root: Path, partition: int = 1) -> AttributeSet:
    """Reads PETA, from PETA.mat where there is one, else from the original folders (which have no published parts).

    Args:
        root: the folder that holds PETA.mat and images/, or `PETA dataset/`.
        partition: which of the five published random partitions.

    Raises:
        AttributeSetError: the folder is in neither layout; says what was looked for, or file and field.
    """
    annotation, folder = first_file(root, ANNOTATIONS), first_file(root, PICTURES)
    archives = archives_of(root)
    if annotation is None and archives:
        return read_peta_archives(archives)
    if annotation is None or folder is None:
        wanted = "no images/" if annotation else "neither PETA.mat nor 'PETA dataset/<subset>/archive/Label.txt'"
        raise AttributeSetError(
            f"is no PETA: {wanted} is there",
            where=root,
            hint=f"give the folder that holds PETA.mat and images/, or 'PETA dataset'; it holds {listing_of(root)}",
        )
    content = variable(read_matlab(annotation), "peta", annotation)
    attributes = content.field("attribute").texts()
    data = content.field("data")
    matrix = data.matrix()
    n_ids = matrix.shape[1] - len(attributes)
    if n_ids < 0:
        raise AttributeSetError(
            f"has {matrix.shape[1]} columns, expected numbers of picture and person and {len(attributes)} labels",
            where=data.where,
            hint="the file is not whole, or not of this layout: get it anew",
        )
    selected = _selected(content.field("selected_attribute"), n_ids, len(attributes))
    sides = sides_of_partition(partition_of(_partitions(content), partition), _FIELDS, len(matrix))
    pictures: list[SetPicture] = []
    for number, values in enumerate(matrix.tolist(), 1):
        name = f"{number:05d}.png"
        identity = f"person {values[_PERSON_COLUMN]:.0f}" if n_ids > _PERSON_COLUMN else ""
        raw = [values[n_ids + column] for column in selected]
        labels, row = tuple(map(value_of, raw)), f"{annotation.name}: data row {number}"
        pictures.append(SetPicture(folder / name, name, labels, identity, row, odd_values_of(raw)))
    official = {picture.name: sides[index] for index, picture in enumerate(pictures) if index in sides}
    return AttributeSet("peta", tuple(attributes[column] for column in selected), tuple(pictures), official)


def _partitions(content: MatlabValue) -> MatlabValue:
    for name in _PARTITION_FIELDS:
        if content.has_field(name):
            return content.field(name)
    return content.field(_PARTITION_FIELDS[0])


def _selected(value: MatlabValue, n_ids: int, n_attributes: int) -> list[int]:
    """The evaluated attributes, from 0: `selected_attribute` counts columns of `data`, where numbers come first."""
    columns = value.indices(n_ids + n_attributes)
    if any(column < n_ids for column in columns):
        raise AttributeSetError(
            f"selects column {min(columns) + 1} of data, which is a number of a picture or person",
            where=value.where,
            hint="the file is not of this layout: get it anew",
        )
    return [column - n_ids for column in columns]
