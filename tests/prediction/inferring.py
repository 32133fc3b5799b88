"""`cls infer` as tests run it, and what it left."""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest

from cls.cli.command import Command, execute
from cls.cli.infer import COMMAND
from cls.errors import ClsError
from tests.exporting.runs import ExportedBottle


def infer(at: ExportedBottle, *arguments: object) -> int:
    """Runs the command on a bottle; its exit status."""
    return execute(COMMAND, [*(str(argument) for argument in arguments), "--cfg", str(at.cfg), "--quiet"])


def error_of(at: ExportedBottle, *arguments: object, command: Command = COMMAND) -> ClsError:
    """The expected error a command ends with, with its exit status: 2 for wrong options, else 1."""
    errors: list[ClsError] = []

    def run(options: argparse.Namespace) -> None:
        try:
            command.run(options)
        except ClsError as error:
            errors.append(error)
            raise

    words = [*(str(argument) for argument in arguments), "--cfg", str(at.cfg), "--quiet"]
    status = execute(replace(command, run=run), words)
    (error,) = errors
    assert status == (2 if error.code.startswith("usage.") else 1)
    return error


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


def write_video(at: ExportedBottle, path: Path, frames: int = 24, rate: float = 8.0) -> Path:
    """A video of the bottle's photos, one a frame."""
    first = cv2.imread(str(at.bottle.picture("0000.jpeg")))
    size = (first.shape[1] // 2 * 2, first.shape[0] // 2 * 2)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, size)
    assert writer.isOpened()
    for number in range(frames):
        image = cv2.imread(str(at.bottle.picture(f"{number % 24:04d}.jpeg")))
        writer.write(cv2.resize(image, size))
    writer.release()
    return path
