"""The layouts that are known, by the name that `--layout` takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cls.errors import AttributeSetError, UsageError

if TYPE_CHECKING:
    from cls.attribute_sets.attribute_set import AttributeSet

LAYOUTS = ("pa100k", "peta", "rapv2")


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
        from cls.attribute_sets.pa100k import read_pa100k

        if partition != 1:
            raise UsageError(f"--partition: PA-100K has one partition, found {partition}", code="out_of_range")
        return read_pa100k(root)
    if layout == "peta":
        from cls.attribute_sets.peta import read_peta

        return read_peta(root, partition)
    from cls.attribute_sets.rapv2 import read_rapv2

    return read_rapv2(root, partition)
