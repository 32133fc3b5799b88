"""PETA as its authors published it: ten subsets, each a folder `archive` of pictures and a `Label.txt`.

Layout (Y. Deng et al., ACM Multimedia 2014, mmlab.ie.cuhk.edu.hk/projects/PETA.html; as read by several repositories):
a line of Label.txt is the person's number within the subset (in one subset the file name) and the attributes the person
has, separated by spaces. A picture's name begins with its person's number: `100_3_FRAME_26_RGB.bmp` shows person 100.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cls.attribute_sets.attribute_set import AttributeSet, SetPicture
from cls.attribute_sets.pool_names import pool_name
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
        raise AttributeSetError("has no picture with labels", where=archives[0], hint=problems[0] if problems else None)
    return AttributeSet("peta", EVALUATED, tuple(pictures), {}, tuple(problems))


def _read_labels(path: Path, problems: list[str]) -> dict[str, tuple[int, frozenset[str]]]:
    """Person's number (without zeros in front), or file name, -> line number and attributes."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise AttributeSetError(f"cannot be read: {error.strerror}", where=path) from error
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
