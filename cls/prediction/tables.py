"""Predictions as tables: CSV, JSON lines and Parquet, written as streams."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cls.errors import FileError
from cls.files import atomic_path

TableFormat = Literal["csv", "jsonl", "parquet"]
TABLE_FORMATS: tuple[TableFormat, ...] = ("csv", "jsonl", "parquet")
_PROB_PREFIX = "p "
_HEAD = ("picture", "person", "class", "conf", "x1", "y1", "x2", "y2", "labels")
_FRAME_HEAD = ("picture", "frame", "time_s", *_HEAD[1:])


@dataclass(frozen=True)
class PersonResult:
    """One person in one photo.

    Attributes:
        picture: the photo's name, relative to what was asked for.
        person: the person's id in the pictures database. Where it does not know the photo, the place among the people
            found in it, `0` being the largest.
        person_class: e.g. `female`.
        person_conf: confidence that it is a person, 0 to 1.
        box_xyxy_px: left, top, right, bottom.
        probs: label -> probability, in output order.
        labels: the labels chosen; none is a decision too.
        frame: number of a video's frame, from 0; None in a photo.
        time_s: when in the video.
    """

    picture: str
    person: str
    person_class: str
    person_conf: float
    box_xyxy_px: tuple[float, float, float, float]
    probs: dict[str, float]
    labels: tuple[str, ...]
    frame: int | None = None
    time_s: float | None = None

    def rounded(self) -> PersonResult:
        """The same with as many decimals as tables have."""
        x1, y1, x2, y2 = (round(value, 2) for value in self.box_xyxy_px)
        probs = {label: round(prob, 6) for label, prob in self.probs.items()}
        return replace(self, person_conf=round(self.person_conf, 4), box_xyxy_px=(x1, y1, x2, y2), probs=probs)

    def to_json(self) -> str:
        """One JSON object; frame and time are there where the picture is a video's."""
        moment = {} if self.frame is None else {"frame": self.frame, "time_s": self.time_s}
        content = {
            "picture": self.picture,
            **moment,
            "person": self.person,
            "class": self.person_class,
            "conf": self.person_conf,
            "box_xyxy_px": self.box_xyxy_px,
            "probs": self.probs,
            "labels": self.labels,
        }
        return json.dumps(content, ensure_ascii=False)


class TableWriter:
    """Writes rows into every table that was asked for. Made by `writing_tables`."""

    def __init__(self, streams: dict[TableFormat, Any], labels: Sequence[str], *, has_frames: bool) -> None:
        self._jsonl = streams.get("jsonl")
        self._has_frames = has_frames
        self._labels = labels
        self._csv = csv.writer(streams["csv"], lineterminator="\n") if "csv" in streams else None
        if self._csv is not None:
            head = _FRAME_HEAD if has_frames else _HEAD
            self._csv.writerow([*head, *(_PROB_PREFIX + label for label in labels)])

    def write(self, result: PersonResult) -> None:
        """Adds a person."""
        row = result.rounded()
        if self._jsonl is not None:
            self._jsonl.write(row.to_json() + "\n")
        if self._csv is not None:
            moment = ["", ""] if row.frame is None else [row.frame, row.time_s]
            self._csv.writerow(
                [
                    row.picture,
                    *(moment if self._has_frames else []),
                    row.person,
                    row.person_class,
                    row.person_conf,
                    *row.box_xyxy_px,
                    ";".join(row.labels),
                    *(row.probs[label] for label in self._labels),
                ]
            )


@contextmanager
def writing_tables(
    paths: dict[TableFormat, Path], labels: Sequence[str], *, has_frames: bool = False
) -> Iterator[TableWriter]:
    """Writes tables as a stream, each whole or not at all; nothing of them is held in memory.

    CSV and Parquet have a column `p LABEL` for each label's probability. Chosen labels are joined by `;` in the CSV, as
    in tags.csv, and are a list in the others. Frame and time are there when videos were looked at.

    Raises:
        FileError: a table cannot be written.
    """
    with ExitStack() as stack:
        streams: dict[TableFormat, Any] = {}
        rows = dict(paths)
        target = rows.pop("parquet", None)
        if target is not None and "jsonl" not in rows:
            # Parquet is made from the JSON lines, a few at a time.
            rows["jsonl"] = target.with_name(f".{target.name}.jsonl")
            stack.callback(rows["jsonl"].unlink, missing_ok=True)
        parts = {name: stack.enter_context(atomic_path(path)) for name, path in rows.items()}
        for name, part in parts.items():
            streams[name] = stack.enter_context(part.open("w", encoding="utf-8", newline=""))
        yield TableWriter(streams, labels, has_frames=has_frames)
        for stream in streams.values():
            stream.flush()
        if target is not None:
            part = stack.enter_context(atomic_path(target))
            _write_parquet(parts["jsonl"], part, labels, has_frames=has_frames)


def check_replaceable(paths: Sequence[Path]) -> None:
    """Checks that files about to be written take the place of nothing, or of what CLS wrote.

    Raises:
        FileError: somebody else's file is there.
    """
    for path in paths:
        if path.is_dir() or (path.exists() and not _is_ours(path)):
            raise FileError(
                "is there and was not written by CLS, so it is not replaced",
                code="already_exists",
                where=path,
                hint="give another --out",
            )


def _is_ours(path: Path) -> bool:
    """Whether a file is a table or a contact sheet as CLS writes them; an empty one has nothing to lose."""
    with path.open("rb") as stream:
        start = stream.read(4096)
    if not start:
        return True
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return start.startswith((",".join(_HEAD).encode(), ",".join(_FRAME_HEAD).encode()))
    if suffix == ".jsonl":
        return start.startswith(b'{"picture": ') and b'"person": ' in start
    if suffix == ".html":
        return b": predictions</title>" in start
    import polars

    try:
        columns = list(polars.read_parquet_schema(path))
    except (polars.exceptions.PolarsError, OSError):
        return False
    return columns[: len(_HEAD)] == list(_HEAD) or columns[: len(_FRAME_HEAD)] == list(_FRAME_HEAD)


def _write_parquet(jsonl_path: Path, path: Path, labels: Sequence[str], *, has_frames: bool) -> None:
    import polars

    number, text = polars.Float64, polars.String
    schema: dict[str, polars.DataType | type[polars.DataType]] = {
        "picture": text,
        "frame": polars.Int64,
        "time_s": number,
        "person": text,
        "class": text,
        "conf": number,
        "box_xyxy_px": polars.List(number),
        "probs": polars.Struct(dict.fromkeys(labels, number)),
        "labels": polars.List(text),
    }
    rows = polars.scan_ndjson(jsonl_path, schema=schema)
    box, probs = polars.col("box_xyxy_px"), polars.col("probs")
    corners = [box.list.get(place).alias(name) for place, name in enumerate(("x1", "y1", "x2", "y2"))]
    columns = [probs.struct.field(label).alias(_PROB_PREFIX + label) for label in labels]
    head = _FRAME_HEAD if has_frames else _HEAD
    rows.with_columns(*corners, *columns).select(*head, *(_PROB_PREFIX + label for label in labels)).sink_parquet(path)
