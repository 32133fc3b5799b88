"""datasets/<group>.json: the labelled dataset of a group, with the four keys that existing tools read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cls.errors import BottleError
from cls.files import read_json, write_json_atomic


@dataclass(frozen=True)
class LabelledRow:
    """One photo of a dataset.

    Attributes:
        path: file name in pictures/.
        labels: one value per label of the dataset: 1.0 present, 0.0 absent.
        picset: GUID of the picset the photo belongs to; empty when unknown.
    """

    path: str
    labels: tuple[float, ...]
    picset: str = ""


@dataclass(frozen=True)
class GroupDataset:
    """The labelled photos of one group.

    Attributes:
        group: name as the annotators typed it.
        labels: label names in output order.
        rows: one row a photo, paths are unique.
        extra: further keys of the file, kept as they are.
    """

    group: str
    labels: tuple[str, ...]
    rows: tuple[LabelledRow, ...]
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def weights(self) -> list[float]:
        """All positive labels divided by the positives of each label, in order; 0.0 for a label without positives."""
        positives = [sum(row.labels[index] for row in self.rows) for index in range(len(self.labels))]
        total = sum(positives)
        return [total / count if count else 0.0 for count in positives]


def write_dataset(path: Path, dataset: GroupDataset) -> None:
    """Writes a dataset file, whole or not at all.

    `data` is a JSON string, column by column, as pandas' `DataFrame.to_json` writes it; picsets stand under a key of
    their own, `picsets`, by row number.
    """
    columns: dict[str, dict[str, Any]] = {"path": {str(n): row.path for n, row in enumerate(dataset.rows)}}
    for index, label in enumerate(dataset.labels):
        columns[label] = {str(n): float(row.labels[index]) for n, row in enumerate(dataset.rows)}
    content = {
        **dataset.extra,
        "cat": [dataset.group],
        "num2label": {str(index): label for index, label in enumerate(dataset.labels)},
        "weights": dataset.weights,
        "data": json.dumps(columns, ensure_ascii=False, separators=(",", ":")),
        "picsets": {str(n): row.picset for n, row in enumerate(dataset.rows)},
    }
    write_json_atomic(path, content, indent=1)


def read_dataset(path: Path, group: str | None = None) -> GroupDataset:
    """Reads a dataset file, of this version or of older tools (the four keys alone).

    Args:
        path: the file.
        group: name for the error message when the file is missing.

    Raises:
        BottleError: there is no such file; the hint says how to make it.
        FileError: it is not JSON.
    """
    if not path.exists():
        name = group if group is not None else path.stem
        raise BottleError(
            f"group '{name}' has not been loaded",
            where=path,
            hint=f"run `cls load-group --group {json.dumps(name)}` first",
        )
    content = read_json(path)
    try:
        numbered = {int(number): str(label) for number, label in content["num2label"].items()}
        labels = tuple(numbered[number] for number in sorted(numbered))
        data = json.loads(content["data"]) if isinstance(content["data"], str) else content["data"]
        picsets = content.get("picsets", {})
        rows = tuple(
            LabelledRow(str(name), tuple(float(data[label][number]) for label in labels), str(picsets.get(number, "")))
            for number, name in data["path"].items()
        )
        name = content["cat"][0] if isinstance(content["cat"], Sequence) else content["cat"]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise BottleError(
            f"is not a dataset file: {error!r}", where=path, hint="load the group again with `cls load-group`"
        ) from error
    known = {"cat", "num2label", "weights", "data", "picsets"}
    return GroupDataset(str(name), labels, rows, {key: value for key, value in content.items() if key not in known})
