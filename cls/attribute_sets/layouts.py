"""The published layouts of PA-100K, PETA and RAPv2, by the name that `--layout` takes.

PA-100K (X. Liu et al., HydraPlus-Net, ICCV 2017; as read by
github.com/dangweili/pedestrian-attribute-recognition-pytorch and github.com/valencebond/Rethinking_of_PAR):
`annotation.mat` and a folder of pictures. `attributes` 26x1 cell; for train, val and test `<part>_images_name` Nx1 cell
of file names and `<part>_label` Nx26 of 0 and 1. The set names no people. Its authors write that they dealt tracklets,
not pictures, to the parts (github.com/xh-liu/HydraPlus-Net).

PETA (Y. Deng et al., ACM Multimedia 2014; as read by the same two and by
github.com/davidygp/Pedestrian-Attribute-Recognition): `PETA.mat` and `images/00001.png` and on. A structure `peta` with
`data`, a row a picture of 4 numbers (picture, person, subset, person within the subset) and 105 labels; `attribute`
105x1 cell; `selected_attribute`, the 35 columns of `data` (from 1) that are evaluated; `partion_attribute` (so spelt)
5x1 cell of structures `train`, `val`, `test`. Picture n is `images/%05d.png`. Where there is no PETA.mat, the original
folders are read: `read_peta_archives`.

RAPv2 (D. Li et al., IEEE TIP 2019; as read by github.com/dangweili/RAP and github.com/valencebond/Rethinking_of_PAR):
`RAP_annotation/RAP_annotation.mat` and `RAP_dataset/`. A structure `RAP_annotation` with `name` Nx1 cell, `data` Nx152
(0, 1; 2: uncertain), `attribute` 152x1 or 152x2 cell, `selected_attribute` the 54 evaluated columns (from 1),
`partition_attribute` 1x5 cell of structures `train_index`, `val_index`, `test_index`, and `person_identity` (-1: not
annotated).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cls.attribute_sets import LAYOUTS
from cls.attribute_sets.attribute_set import AttributeSet, SetPicture, first_file, listing_of, odd_values_of, value_of
from cls.attribute_sets.loading import partition_of, pool_name, subsets_of_partition
from cls.attribute_sets.matlab import MatlabValue, read_matlab, variable
from cls.dataset.split.assign import TRAIN, VALID
from cls.dataset.split.file import TEST
from cls.errors import AttributeSetError, UsageError

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

_PETA_ANNOTATIONS = ("PETA.mat",)
_PETA_PICTURES = ("images",)
_PETA_FIELDS = {"train": "train", "valid": "val", "test": "test"}
_PARTITION_FIELDS = ("partion_attribute", "partition_attribute")
_PERSON_COLUMN = 1
_RAPV2_ANNOTATIONS = ("RAP_annotation/RAP_annotation.mat", "RAP_annotation.mat")
_RAPV2_PICTURES = ("RAP_dataset",)
_FIELDS = {"train": "train_index", "valid": "val_index", "test": "test_index"}

# CAM01-2014-02-15-20140215161032-20140215162620-tarid0-frame218-line1.png: camera, day, sequence, target, frame.
_TRACKLET = re.compile(r"^(CAM\d+-\d{4}-\d{2}-\d{2}-\d+-\d+-tarid\d+)-", re.IGNORECASE)
ANNOTATIONS = ("annotation.mat", "annotation/annotation.mat")
PICTURES = ("release_data/release_data", "release_data", "data", "images")
_PARTS = {"train": TRAIN, "val": VALID, "test": TEST}


def archives_of(root: Path) -> list[Path]:
    """The `archive` folders with labels below a folder, or below its `PETA dataset`, by name."""
    found = {path.parent for top in (root, root / "PETA dataset") for path in top.glob(f"*/archive/{LABELS}")}
    return sorted(found)


def read_peta_archives(archives: Sequence[Path]) -> AttributeSet:
    """Reads the subsets. There are no published parts in this layout."""
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


def read_peta(root: Path, partition: int = 1) -> AttributeSet:
    """Reads PETA, from PETA.mat where there is one, else from the original folders (which have no published parts).

    Args:
        root: the folder that holds PETA.mat and images/, or `PETA dataset/`.
        partition: which of the five published random partitions.
    """
    annotation, folder = first_file(root, _PETA_ANNOTATIONS), first_file(root, _PETA_PICTURES)
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
            hint="the file is not whole, or not of this layout: get it again",
        )
    selected = _selected(content.field("selected_attribute"), n_ids, len(attributes))
    subsets = subsets_of_partition(partition_of(_partitions(content), partition), _PETA_FIELDS, len(matrix))
    pictures: list[SetPicture] = []
    for number, values in enumerate(matrix.tolist(), 1):
        name = f"{number:05d}.png"
        identity = f"person {values[_PERSON_COLUMN]:.0f}" if n_ids > _PERSON_COLUMN else ""
        raw = [values[n_ids + column] for column in selected]
        labels, row = tuple(map(value_of, raw)), f"{annotation.name}: data row {number}"
        pictures.append(SetPicture(folder / name, name, labels, identity, row, odd_values_of(raw)))
    official = {picture.name: subsets[index] for index, picture in enumerate(pictures) if index in subsets}
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
            hint="the file is not of this layout: get it again",
        )
    return [column - n_ids for column in columns]


def read_rapv2(root: Path, partition: int = 1) -> AttributeSet:
    """Reads RAPv2.

    About half of its pictures name the person; of the others, one tracklet (camera, day, sequence and target in the
    file name) counts as one person.

    Args:
        root: the folder that holds RAP_annotation/ and RAP_dataset/.
        partition: which of the five published random partitions.
    """
    annotation, folder = first_file(root, _RAPV2_ANNOTATIONS), first_file(root, _RAPV2_PICTURES)
    if annotation is None or folder is None:
        wanted = _RAPV2_ANNOTATIONS if annotation is None else tuple(f"{name}/" for name in _RAPV2_PICTURES)
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
    subsets = subsets_of_partition(chosen, _FIELDS, len(names))
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
        if number in subsets:
            official[name] = subsets[number]
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


def read_pa100k(root: Path) -> AttributeSet:
    """Reads PA-100K."""
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
    for part, subset in _PARTS.items():
        names = variable(variables, f"{part}_images_name", annotation).texts()
        rows = label_rows(variable(variables, f"{part}_label", annotation), len(names), len(labels))
        for number, (file_name, values) in enumerate(zip(names, rows, strict=True), 1):
            row = f"{annotation.name}: {part}_images_name row {number}"
            name = pool_name(file_name)
            if name is None or name in official:
                why = "is not a file name" if name is None else "stands there twice"
                problems.append(f"{row}: '{file_name}' {why}")
                continue
            official[name] = subset
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
            hint="the file is not whole, or not of this layout: get it again",
        )
    rows: list[list[float]] = matrix.tolist()
    return rows


def read_set(layout: str, root: Path, *, partition: int = 1) -> AttributeSet:
    """Reads a public attribute set.

    Args:
        layout: one of `LAYOUTS`.
        root: its folder.
        partition: which of the published random partitions, where there are several.

    Raises:
        UsageError: there is no such layout or partition.
        AttributeSetError: the folder is not in the layout; says what was looked for, or file and field.
    """
    if layout not in LAYOUTS:
        raise UsageError(
            f"--layout: expected one of {', '.join(LAYOUTS)}, found '{layout}'", code="unknown_option_value"
        )
    if not root.is_dir():
        raise AttributeSetError(
            "there is no such folder", code="not_found", where=root, hint="give the folder of the set"
        )
    if layout == "pa100k":
        if partition != 1:
            raise UsageError(f"--partition: PA-100K has one partition, found {partition}", code="out_of_range")
        return read_pa100k(root)
    if layout == "peta":
        return read_peta(root, partition)

    return read_rapv2(root, partition)
