"""datasets/<group>.json: the labelled dataset of a group, with the four keys that existing tools read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cls.errors import BottleError, FileError
from cls.files import locked, read_json, safe_name, sha256_of_bytes, text_of_safe_name, write_json_atomic
from cls.wording import counted

if TYPE_CHECKING:
    from pydantic import JsonValue

# Who was on which side in earlier trainings; kept when the group is loaded again.
SPLITS_KEY = "splits"
_PATH_COLUMN = "path"
# Says of `data` that null means: unknown. Older tools wrote null for: not labelled so.
_UNKNOWN_KEY = "null_is_unknown"


@dataclass(frozen=True)
class LabelledRow:
    """One photo of a dataset.

    Attributes:
        path: file name in pictures/.
        labels: one value per label of the dataset: 1.0 present, 0.0 absent, NaN unknown.
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
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weights(self) -> list[float]:
        """All positive labels divided by the positives of each label, in order; 0.0 for a label without positives."""
        positives = [
            sum(row.labels[index] for row in self.rows if not math.isnan(row.labels[index]))
            for index in range(len(self.labels))
        ]
        total = sum(positives)
        return [total / count if count else 0.0 for count in positives]

    @property
    def sha256(self) -> str:
        """Digest of what is labelled: group, labels and rows. What else the file holds makes no difference to it."""
        rows = [[row.path, row.picset, [_plain(value) for value in row.labels]] for row in self.rows]
        return sha256_of_bytes(json.dumps([self.group, self.labels, rows]).encode())

    def __repr__(self) -> str:
        """Its size; the rows would fill pages."""
        return f"GroupDataset({self.group!r}, {counted(len(self.rows), 'photo')}, labels={self.labels!r})"

    def _repr_html_(self) -> str:
        """The dataset in a notebook: how many photos have each label."""
        counts = {label: sum(row.labels[index] == 1 for row in self.rows) for index, label in enumerate(self.labels)}
        rows = "".join(f"<tr><td>{escape(label)}</td><td>{count}</td></tr>" for label, count in counts.items())
        picsets = len({row.picset for row in self.rows if row.picset})
        title = f"group {self.group}: {counted(len(self.rows), 'photo')} in {counted(picsets, 'picset')}"
        return f"<p><b>{escape(title)}</b></p><table><tr><th>label</th><th>photos</th></tr>{rows}</table>"


def write_dataset(path: Path, dataset: GroupDataset) -> None:
    """Writes a dataset file, whole or not at all.

    `data` is a JSON string, column by column, as pandas' `DataFrame.to_json` writes it; picsets stand under a key of
    their own, `picsets`, by row number. An unknown label is null, as pandas has it, and `null_is_unknown` says so.
    """
    write_json_atomic(path, _content_of(dataset, path), indent=1)


def write_dataset_if_changed(path: Path, dataset: GroupDataset, *, ignoring: Sequence[str] = ()) -> bool:
    """Writes a dataset file unless it already holds the same; the memory of splits stays in it.

    Args:
        path: the file.
        dataset: what it shall hold.
        ignoring: keys of `extra` that make no difference, e.g. when it was loaded.

    Returns:
        Whether the file was written.

    Raises:
        BottleError: the dataset cannot be kept in this form.
    """
    content = _content_of(dataset, path)
    with locked(_lock_of(path)):
        if path.exists():
            try:
                known = read_json(path)
            except FileError:
                known = None  # An unreadable file holds nothing worth keeping: it is made again.
            if isinstance(known, dict):
                if SPLITS_KEY in known:
                    content = {**content, SPLITS_KEY: known[SPLITS_KEY]}
                if _without(known, ignoring) == _without(content, ignoring):
                    return False
        write_json_atomic(path, content, indent=1)
    return True


def change_splits(path: Path, change: Callable[[Any], Any]) -> None:
    """Changes the memory of splits in a dataset file; two trainings, or a training and a load, take turns.

    Args:
        path: the file.
        change: the memory as it is (None: there is none) -> as it shall be; the file is written where it differs.

    Raises:
        BottleError: there is no such file, or it is no dataset.
        FileError: it cannot be read or written.
    """
    with locked(_lock_of(path)):
        content = read_json(path)
        if not isinstance(content, dict):
            raise _not_a_dataset(path)
        known = content.get(SPLITS_KEY)
        changed = change(known)
        if changed != known:
            write_json_atomic(path, {**content, SPLITS_KEY: changed}, indent=1)


def rewrite_dataset(path: Path, change: Callable[[GroupDataset], GroupDataset]) -> None:
    """Changes a dataset file, `extra` and the memory of splits included; loads and trainings take turns with it.

    Raises:
        BottleError: there is no such file, or it is no dataset.
        FileError: it cannot be read or written.
    """
    with locked(_lock_of(path)):
        dataset = read_dataset(path)
        changed = change(dataset)
        if changed != dataset:
            write_dataset(path, changed)


def _lock_of(path: Path) -> Path:
    """The lock of a dataset file's writers; readers need none, as files appear whole."""
    return path.with_name(f".{path.name}.lock")


def _without(content: Mapping[str, JsonValue], keys: Sequence[str]) -> dict[str, JsonValue]:
    return {key: value for key, value in content.items() if key not in keys}


def _content_of(dataset: GroupDataset, path: Path) -> dict[str, JsonValue]:
    """The file's JSON value."""
    _check(dataset, path)
    paths = {str(n): row.path for n, row in enumerate(dataset.rows)}
    values = {
        label: {str(n): _plain(row.labels[index]) for n, row in enumerate(dataset.rows)}
        for index, label in enumerate(dataset.labels)
    }
    columns = {_PATH_COLUMN: paths, **values}
    has_unknown = any(math.isnan(value) for row in dataset.rows for value in row.labels)
    return {
        **dataset.extra,
        **({_UNKNOWN_KEY: True} if has_unknown else {}),
        "cat": [dataset.group],
        "num2label": {str(index): label for index, label in enumerate(dataset.labels)},
        "weights": [*dataset.weights],
        "data": json.dumps(columns, ensure_ascii=False, separators=(",", ":")),
        "picsets": {str(n): row.picset for n, row in enumerate(dataset.rows)},
    }


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _check(dataset: GroupDataset, path: Path) -> None:
    """Refuses labels that the columns could not distinguish."""
    if _PATH_COLUMN in dataset.labels:
        raise BottleError(
            f"a label of group '{dataset.group}' is named '{_PATH_COLUMN}', which is the column of file names",
            code="reserved_label",
            where=path,
            hint="rename the label in the collector",
        )
    if len(set(dataset.labels)) != len(dataset.labels):
        raise BottleError(f"group '{dataset.group}' has two labels of one name", code="duplicate_label", where=path)
    if len({row.path for row in dataset.rows}) != len(dataset.rows):
        raise BottleError(f"group '{dataset.group}' has two rows for one photo", code="duplicate_row", where=path)
    if any(len(row.labels) != len(dataset.labels) for row in dataset.rows):
        raise BottleError(
            f"a row of group '{dataset.group}' has not one value a label", code="wrong_label_count", where=path
        )


def loaded_groups(folder: Path) -> list[str]:
    """The groups that have a dataset in a datasets folder, sorted.

    Raises:
        BottleError: a file whose name does not tell its group is not a dataset.
        FileError: it is not JSON.
    """
    return sorted(_group_of(path) for path in folder.glob("*.json") if not path.name.startswith("."))


def _group_of(path: Path) -> str:
    group = text_of_safe_name(path.stem)
    # A long name is cut and ends in ~ and a digest, a sign no other name has: then only the file knows.
    return group if "~" not in path.stem and safe_name(group) == path.stem else read_dataset(path).group


def read_dataset(path: Path, group: str | None = None) -> GroupDataset:
    """Reads a dataset file, of this version or of older tools (the four keys alone).

    Raises:
        BottleError: there is no such file; the hint says how to make it.
        FileError: it is not JSON.
    """
    if not path.exists():
        name = group if group is not None else path.stem
        raise BottleError(
            f"group '{name}' has not been loaded",
            code="group_not_loaded",
            where=path,
            hint=f"run `cls load-group --group {json.dumps(name)}` first",
        )
    content = read_json(path)
    try:
        numbered = {int(number): str(label) for number, label in content["num2label"].items()}
        labels = tuple(numbered[number] for number in sorted(numbered))
        data = json.loads(content["data"]) if isinstance(content["data"], str) else content["data"]
        picsets = content.get("picsets", {})
        missing = math.nan if content.get(_UNKNOWN_KEY) is True else 0.0
        rows: dict[str, LabelledRow] = {}
        for number, photo in data["path"].items():
            values = _values([data[label][number] for label in labels], missing)
            row = LabelledRow(str(photo), values, str(picsets.get(number, "")))
            rows[row.path] = _united(rows[row.path], row) if row.path in rows else row
        name = content["cat"] if isinstance(content["cat"], str) else content["cat"][0]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise _not_a_dataset(path, f": {error!r}") from error
    known = {"cat", "num2label", "weights", "data", "picsets", _UNKNOWN_KEY}
    extra = {key: value for key, value in content.items() if key not in known}
    dataset = GroupDataset(str(name), labels, tuple(rows.values()), extra)
    _check(dataset, path)
    return dataset


def _not_a_dataset(path: Path, detail: str = "") -> BottleError:
    return BottleError(
        f"is not a dataset file{detail}",
        code="not_a_dataset",
        where=path,
        hint="load the group again with `cls load-group`",
    )


def _values(values: Sequence[float | str | None], missing: float) -> tuple[float, ...]:
    """The label values of one row; `missing` is what null means, as which pandas writes a missing value."""
    return tuple(missing if value is None else float(value or 0.0) for value in values)


def _united(first: LabelledRow, second: LabelledRow) -> LabelledRow:
    """One row of two for the same photo, as older tools wrote them: it has the labels of both."""
    # What is known in one row is known of the photo.
    labels = tuple(
        max((value for value in pair if not math.isnan(value)), default=math.nan)
        for pair in zip(first.labels, second.labels, strict=True)
    )
    return LabelledRow(first.path, labels, first.picset or second.picset)
