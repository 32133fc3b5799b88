"""PETA as it is handed round for measuring: `PETA.mat` and `images/00001.png` and on.

Layout (Y. Deng et al., ACM Multimedia 2014; as read by github.com/dangweili/pedestrian-attribute-recognition-pytorch,
github.com/valencebond/Rethinking_of_PAR and github.com/davidygp/Pedestrian-Attribute-Recognition): a structure `peta`
with `data`, a row a picture of 4 numbers (picture, person, subset, person within the subset) and 105 labels;
`attribute` 105x1 cell; `selected_attribute`, the 35 columns of `data` (from 1) that are evaluated; `partion_attribute`
(so spelt) 5x1 cell of structures `train`, `val`, `test`. Picture n is `images/%05d.png`.
Where there is no PETA.mat, the original folders are read: `read_peta_archives`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cls.attribute_sets.attribute_set import AttributeSet, SetPicture, first_file, listing_of, odd_values_of, value_of
from cls.attribute_sets.loading import partition_of, sides_of_partition
from cls.attribute_sets.matlab import MatlabValue, read_matlab, variable
from cls.attribute_sets.pool import pool_name
from cls.errors import AttributeSetError

LABELS = "Label.txt"
_SUFFIXES = frozenset({".bmp", ".jpg", ".jpeg", ".png"})
_NUMBER = re.compile(r"\d+")
# The 35 attributes that the papers evaluate, in the order of PETA.mat.
EVALUATED = (
    "personalLess30", "personalLess45", "personalLess60", "personalLarger60", "carryingBackpack", "carryingOther",
    "lowerBodyCasual", "upperBodyCasual", "lowerBodyFormal", "upperBodyFormal", "accessoryHat", "upperBodyJacket",
    "lowerBodyJeans", "footwearLeatherShoes", "upperBodyLogo", "hairLong", "personalMale", "carryingMessengerBag",
    "accessoryMuffler", "accessoryNothing", "carryingNothing", "upperBodyPlaid", "carryingPlasticBags",
    "footwearSandals", "footwearShoes", "lowerBodyShorts", "upperBodyShortSleeve", "lowerBodyShortSkirt",
    "footwearSneaker", "upperBodyThinStripes", "accessorySunglasses", "lowerBodyTrousers", "upperBodyTshirt",
    "upperBodyOther", "upperBodyVNeck",
)  # fmt: skip
# Label.txt and PETA.mat do not spell every attribute alike.
_SPELLINGS = {"footwearSneakers": "footwearSneaker"}


def archives_of(root: Path) -> list[Path]:
    """The `archive` folders with labels below a folder, or below its `PETA dataset`, by name."""
    found = {path.parent for top in (root, root / "PETA dataset") for path in top.glob(f"*/archive/{LABELS}")}
    return sorted(found)


def read_peta_archives(archives: Sequence[Path]) -> AttributeSet:
    """Reads the subsets. There are no published parts in this layout.

    Args:
        archives: of `archives_of`.

    Raises:
        AttributeSetError: a file cannot be read, or no picture has labels.
    """
    pictures: list[SetPicture] = []
    problems: list[str] = []
    for archive in archives:
        subset = archive.parent.name
        by_key = _read_labels(archive / LABELS, problems)
        for file in sorted(path for path in archive.iterdir() if path.suffix.lower() in _SUFFIXES):
            number, name = _NUMBER.match(file.name), pool_name(file.name, subset)
            key = file.name if file.name in by_key else str(int(number[0])) if number else ""
            if key not in by_key or name is None:
                problems.append(f"{subset}/archive/{file.name}: {LABELS} has no line for it")
                continue
            line, attributes = by_key[key]
            labels = tuple(float(attribute in attributes) for attribute in EVALUATED)
            identity = f"{subset} {int(number[0]) if number else file.stem}"
            pictures.append(SetPicture(file, name, labels, identity, f"{subset}/archive/{LABELS}:{line}"))
    if not pictures:
        raise AttributeSetError(
            "has no picture with labels",
            code="no_labelled_pictures",
            where=archives[0],
            hint=problems[0] if problems else None,
        )
    return AttributeSet("peta", EVALUATED, tuple(pictures), {}, tuple(problems))


def _read_labels(path: Path, problems: list[str]) -> dict[str, tuple[int, frozenset[str]]]:
    """Person's number (without zeros in front), or file name, -> line number and attributes."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise AttributeSetError(f"cannot be read: {error.strerror}", code="unreadable", where=path) from error
    found: dict[str, tuple[int, frozenset[str]]] = {}
    for line, text in enumerate(lines, 1):
        words = text.split()
        if not words:
            continue
        where = f"{path.parent.parent.name}/archive/{path.name}:{line}"
        number = _NUMBER.match(words[0])
        if number is None:
            problems.append(f"{where}: '{words[0]}' is not the number of a person")
            continue
        attributes = frozenset(_SPELLINGS.get(word, word) for word in words[1:])
        if found.setdefault(words[0], (line, attributes))[1] != attributes:
            problems.append(f"{where}: '{words[0]}' has other attributes in line {found[words[0]][0]}")
        found.setdefault(str(int(number[0])), (line, attributes))
    return found


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
            code="wrong_layout",
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
            code="wrong_size",
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
            code="wrong_column",
            where=value.where,
            hint="the file is not of this layout: get it anew",
        )
    return [column - n_ids for column in columns]
