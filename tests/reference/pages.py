"""The pages, and how each is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cls.settings import REPOSITORY
from tests.reference import commands, configuration, error_codes, http, meta_json, python, run_files

FOLDER = REPOSITORY / "docs" / "reference"

PAGES: Mapping[Path, Callable[[], str]] = {
    FOLDER / "commands.md": commands.page,
    FOLDER / "configuration.md": configuration.page,
    FOLDER / "errors.md": error_codes.page,
    FOLDER / "http.md": http.page,
    FOLDER / "meta-json.md": meta_json.page,
    FOLDER / "python.md": python.page,
    FOLDER / "run-files.md": run_files.page,
}
