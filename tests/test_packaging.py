"""The project's own metadata."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from typing import Any

import cls
from cls.errors import MODULES_OF_EXTRAS, InstallError
from cls.settings import REPOSITORY
from tests.conftest import SLOWEST_FIRST


def test_both_versions_are_the_same() -> None:
    assert project()["project"]["version"] == cls.__version__


def project() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~; ]", text)[0].lower() for text in requirements}


def test_every_dependency_is_locked() -> None:
    lock = (REPOSITORY / "requirements.lock").read_text()
    locked = {match.lower() for match in re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*\])?==", lock, re.MULTILINE)}
    groups = project()["dependency-groups"]
    # Of the extras, the lock has what tests and demonstration need (`make lock`); the loggers are the user's choice.
    tools = [text for text in groups["dev"] if isinstance(text, str)]
    assert names([*project()["project"]["dependencies"], *groups["guide"], *tools]) <= locked


def test_what_is_written_out_in_full_agrees() -> None:
    extras, groups = project()["project"]["optional-dependencies"], project()["dependency-groups"]
    assert set(extras["predict"]) < set(extras["train"])
    assert extras["all"] == sorted({*extras["train"], *extras["yolo"]})
    packages = [text for text in groups["guide"] if not text.startswith("nvidia-")]
    assert packages == sorted([*extras["all"], *extras["weights"]])


def test_a_module_that_is_missing_is_told_with_its_extra() -> None:
    extras = project()["project"]["optional-dependencies"]
    before: set[str] = set()
    for extra, modules in MODULES_OF_EXTRAS.items():
        distributions = {name.lower() for module in modules for name in packages_distributions()[module]}
        assert names(extras[extra]) - before <= distributions
        before |= distributions
        for module in modules:
            error = InstallError.of(ModuleNotFoundError(name=f"{module}.inside"))
            assert error is not None
            assert (error.code, f"'cls[{extra}]'" in str(error.hint)) == ("install.extra_missing", True)
    assert InstallError.of(ModuleNotFoundError(name="no_such_module")) is None


def test_the_base_serves_and_looks_at_packages_without_the_extras() -> None:
    script = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in MODULES:
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Missing())
import cls.model_storage.service, cls.model_storage.client, cls.package.card, cls.package.verifying, cls.package.vectors
from cls.cli.main import main
sys.exit(main(['train', '--group', 'hat', '--debug']))
"""
    modules = {module for names in MODULES_OF_EXTRAS.values() for module in names}
    run = subprocess.run(
        [sys.executable, "-c", script.replace("MODULES", repr(modules))],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == 1
    assert "pip install 'cls[train]'" in run.stderr
    assert run.stderr.rstrip().endswith("[install.extra_missing]")


def test_the_lock_names_no_address() -> None:
    assert "://" not in (REPOSITORY / "requirements.lock").read_text()


def test_the_slowest_files_of_tests_are_there() -> None:
    assert [file for file in SLOWEST_FIRST if not (REPOSITORY / file).is_file()] == []
