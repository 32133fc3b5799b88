"""Predictions as tables: CSV for spreadsheets, JSON lines for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cls.files import write_text_atomic

CSV_NAME = "predictions.csv"
JSONL_NAME = "predictions.jsonl"
_PROB_PREFIX = "p "


@dataclass(frozen=True)
class PersonResult:
    """One person in one photo.

    Attributes:
        picture: the photo's name, relative to what was asked for.
        person: the person's number in the photo, from 0.
        person_class: e.g. `female`.
        person_conf: confidence that it is a person, 0 to 1.
        box_xyxy_px: left, top, right, bottom.
        probs: label -> probability, in output order.
        labels: the labels chosen; none is a decision too.
    """

    picture: str
    person: int
    person_class: str
    person_conf: float
    box_xyxy_px: tuple[float, float, float, float]
    probs: dict[str, float]
    labels: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "picture": self.picture,
            "person": self.person,
            "class": self.person_class,
            "conf": round(self.person_conf, 4),
            "box_xyxy_px": [round(value, 2) for value in self.box_xyxy_px],
            "probs": {label: round(prob, 6) for label, prob in self.probs.items()},
            "labels": list(self.labels),
        }


def write_results(folder: Path, results: Sequence[PersonResult], labels: Sequence[str]) -> tuple[Path, Path]:
    """Writes predictions.csv and predictions.jsonl, each whole or not at all.

    The CSV has a column `p LABEL` for each label's probability; chosen labels are joined by `;` as in tags.csv.

    Returns:
        Both paths.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    head = ["picture", "person", "class", "conf", "x1", "y1", "x2", "y2", "labels"]
    writer.writerow([*head, *(_PROB_PREFIX + label for label in labels)])
    for result in results:
        values = result.to_dict()
        writer.writerow(
            [
                values["picture"],
                values["person"],
                values["class"],
                values["conf"],
                *values["box_xyxy_px"],
                ";".join(result.labels),
                *(values["probs"][label] for label in labels),
            ]
        )
    csv_path, jsonl_path = folder / CSV_NAME, folder / JSONL_NAME
    write_text_atomic(csv_path, text.getvalue())
    lines = (json.dumps(result.to_dict(), ensure_ascii=False) + "\n" for result in results)
    write_text_atomic(jsonl_path, "".join(lines))
    return csv_path, jsonl_path
