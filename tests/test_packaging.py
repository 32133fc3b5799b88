"""The project's own metadata."""

from __future__ import annotations

import re
import tomllib

import cls
from cls.settings import REPOSITORY
from tests.conftest import SLOWEST_FIRST


def test_both_versions_are_the_same() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["version"] == cls.__version__


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lock = (REPOSITORY / "requirements.lock").read_text()
    locked = {match.lower() for match in re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*\])?==", lock, re.MULTILINE)}
    wanted = [*project["dependencies"]]
    # Of the extras, the lock has what tests and demonstration need (`make lock`); the loggers are the user's choice.
    for extra in ("dev", "weights"):
        wanted += project["optional-dependencies"][extra]
    names = {re.split(r"[\[<>=~ ]", text)[0].lower() for text in wanted}
    assert names <= locked


def test_the_lock_names_no_address() -> None:
    assert "://" not in (REPOSITORY / "requirements.lock").read_text()


def test_the_slowest_files_of_tests_are_there() -> None:
    assert [file for file in SLOWEST_FIRST if not (REPOSITORY / file).is_file()] == []
