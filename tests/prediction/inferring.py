"""`cls infer` as tests run it, and what it left."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from cls.classification.inference import COMMAND
from cls.command import execute
from tests.export.runs import ExportedBottle


def infer(at: ExportedBottle, *arguments: object) -> int:
    """Runs the command on a bottle; its exit status."""
    return execute(COMMAND, [*(str(argument) for argument in arguments), "--cfg", str(at.cfg), "--quiet"])


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """The people in predictions.jsonl."""
    text = (folder / "predictions.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def rows_of(folder: Path) -> list[dict[str, str]]:
    """The people in predictions.csv."""
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def last_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The last line on stderr."""
    return capsys.readouterr().err.strip().splitlines()[-1]
