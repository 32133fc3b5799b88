"""One running storage for the tests of a module, and packages to put into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model_storage.packages import make_package
from tests.model_storage.services import Service, running_storage


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A storage with the embedded engine."""
    with running_storage(tmp_path_factory.mktemp("service") / "storage") as running:
        yield running


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Good packages of three different models, by seed."""
    folder = tmp_path_factory.mktemp("packages")
    return {seed: make_package(folder, seed, name=f"model_{seed}.zip") for seed in (1, 2, 3)}
