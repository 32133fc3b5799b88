"""Predictions as tables (CSV, JSON lines, Parquet; written as streams) and as a contact sheet."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cls.errors import FileError
from cls.files import atomic_path
from cls.pages import render
from cls.pages.render import jpeg_url
from cls.runtimes.classifier import Classifier
from cls.wording import counted, score

TableFormat = Literal["csv", "jsonl", "parquet"]
TABLE_FORMATS: tuple[TableFormat, ...] = ("csv", "jsonl", "parquet")
_PROB_PREFIX = "p "
_HEAD = ("picture", "person", "class", "conf", "x1", "y1", "x2", "y2", "labels")
_FRAME_HEAD = ("picture", "frame", "time_s", *_HEAD[1:])

SHEET_NAME = "contact_sheet.html"
MAX_CARDS = 500
_MIN_BARS = 4


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


@dataclass(frozen=True)
class SheetPerson:
    """One card.

    Attributes:
        jpeg: the cut-out as the network saw it.
    """

    result: PersonResult
    jpeg: bytes


@dataclass
class SheetCounts:
    """The totals of a contact sheet.

    Attributes:
        none: people without a label.
        labels: label -> people.
    """

    photos: int = 0
    frames: int = 0
    people: int = 0
    none: int = 0
    labels: Counter[str] = field(default_factory=Counter)

    def add(self, result: PersonResult) -> None:
        """Counts a person."""
        self.people += 1
        self.none += not result.labels
        self.labels.update(result.labels)


class SheetText(NamedTuple):
    """What a contact sheet says beside its people.

    Attributes:
        table: name of the table with all of them.
        thresholds: which thresholds are used, in words.
        skipped: picture -> why it was skipped.
    """

    table: str
    thresholds: str
    skipped: Mapping[str, str]


def write_contact_sheet(
    path: Path,
    classifier: Classifier,
    shown: Sequence[SheetPerson],
    counts: SheetCounts,
    about: SheetText,
) -> None:
    """Writes the page, whole or not at all; it needs no other file and no network."""
    numbers = {label: number for number, label in enumerate(classifier.labels, 1)}
    people_of_picture = Counter((person.result.picture, person.result.frame) for person in shown)
    values = {
        "group": classifier.group,
        "model": classifier.name,
        "runtime": classifier.runtime.description,
        "thresholds": about.thresholds,
        "people": counts.people,
        "pictures": pictures_in_words(counts.photos, counts.frames),
        "labels": [{"name": label, "count": counts.labels[label]} for label in classifier.labels],
        "none_count": counts.none,
        "width_px": classifier.preprocessing.width_px,
        "height_px": classifier.preprocessing.height_px,
        "cards": [
            _card(
                person,
                classifier,
                numbers,
                is_shared=people_of_picture[person.result.picture, person.result.frame] > 1,
            )
            for person in shown
        ],
        "hidden_count": counts.people - len(shown),
        "table": about.table,
        "skipped": sorted(about.skipped.items()),
    }
    render.write_page(path, "prediction/contact_sheet.html", values)


@dataclass(frozen=True)
class _Bar:
    """A label's probability, in percent and as text, beside its threshold in percent."""

    name: str
    percent: float
    prob: str
    threshold: float
    is_chosen: bool


@dataclass(frozen=True)
class _Card:
    """What the page shows of a person."""

    picture: str
    name: str
    person: str
    person_class: str
    is_shared: bool
    numbers: str
    image: str
    chips: list[dict[str, str]]
    bars: list[_Bar]


def _card(person: SheetPerson, classifier: Classifier, numbers: Mapping[str, int], *, is_shared: bool) -> _Card:
    result = person.result
    thresholds = dict(zip(classifier.labels, classifier.thresholds, strict=True))
    # All that were chosen, also one with a low threshold that others are likelier than.
    shown = sorted(result.probs, key=lambda label: (label not in result.labels, -result.probs[label]))
    bars = sorted(shown[: max(_MIN_BARS, len(result.labels))], key=lambda label: -result.probs[label])
    moment = "" if result.time_s is None else f" at {result.time_s:.2f} s"
    return _Card(
        picture=result.picture + moment,
        name=result.picture.rpartition("/")[2] + moment,
        person=result.person,
        person_class=result.person_class,
        is_shared=is_shared,
        numbers=" ".join(str(numbers[label]) for label in result.labels) or "0",
        image=jpeg_url(person.jpeg),
        chips=[{"name": label} for label in result.labels],
        bars=[
            _Bar(
                name=label,
                percent=round(100 * result.probs[label], 1),
                prob=score(result.probs[label], 2),
                threshold=round(100 * thresholds[label], 1),
                is_chosen=label in result.labels,
            )
            for label in bars
        ],
    )


def pictures_in_words(photos: int, frames: int) -> str:
    """`24 photos`, `1 frame`, `3 photos and 20 frames`."""
    parts = [counted(number, word) for number, word in ((photos, "photo"), (frames, "frame")) if number]
    return " and ".join(parts) or counted(0, "photo")
