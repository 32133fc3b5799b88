"""Loads from the configured collector or from a folder, and tells what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cls.bottle.forgotten import read_forgotten
from cls.bottle.layout import Bottle
from cls.collector.client import CollectorClient
from cls.errors import UsageError
from cls.loading.load import load_group
from cls.loading.load_picsets import load_picsets, read_guids
from cls.loading.summary import group_lines, picsets_lines
from cls.sources import Source
from cls.sources.folders import group_of_layout, open_photo_set
from cls.sources.from_collector import CollectorSource
from cls.sources.without_forgotten import SourceWithoutForgotten


def run_load_group(bottle: Bottle, group: str, *, folder: Path | None, workers: int) -> list[str]:
    """Loads a group, from a folder when one is given, and returns the lines to print.

    Raises:
        UsageError: an option's value cannot be used.
        CollectorError, FileError: see `load_group`.
    """
    if not group.strip():
        raise UsageError("--group expects the name of a group")
    with _source(bottle, group, folder, workers) as source:
        return group_lines(load_group(source, bottle, group, workers=workers))


def run_load_json(bottle: Bottle, json_path: Path, *, workers: int) -> list[str]:
    """Loads the picsets a file lists by GUID, and returns the lines to print.

    Raises:
        UsageError: an option's value cannot be used.
        CollectorError, FileError: see `load_picsets`.
    """
    guids = read_guids(json_path)
    with _source(bottle, None, None, workers) as source:
        return picsets_lines(load_picsets(source, bottle, guids, workers=workers))


@contextmanager
def _source(bottle: Bottle, group: str | None, folder: Path | None, workers: int) -> Iterator[Source]:
    if not 1 <= workers <= 128:
        raise UsageError("--workers expects 1 to 128")
    forgotten = read_forgotten(bottle)
    if folder is not None:
        yield SourceWithoutForgotten(open_photo_set(folder, group_of_layout(folder, group)), forgotten)
        return
    with CollectorClient.from_settings(bottle.settings, connections=workers) as client:
        client.login()
        yield SourceWithoutForgotten(CollectorSource(client), forgotten)
