from __future__ import annotations

from pathlib import Path

import pytest

from tests.forgetting.bottles import FullBottle, make_full_bottle
from tests.made_once import made_once


@pytest.fixture(scope="package")
def full(tmp_path_factory: pytest.TempPathFactory) -> FullBottle:
    """A bottle after the whole guide; look, do not touch."""
    return made_once(tmp_path_factory, "full_bottle", make_full_bottle)


@pytest.fixture
def copied(full: FullBottle, tmp_path: Path) -> FullBottle:
    """The same, the test's own."""
    return full.copy_to(tmp_path / "copy")


@pytest.fixture(params=["sqlite", "postgresql"])
def copied_on_each(request: pytest.FixtureRequest, full: FullBottle, tmp_path: Path) -> FullBottle:
    """The same, its pictures database on each engine."""
    url = "" if request.param == "sqlite" else request.getfixturevalue("fresh_postgres_url")
    return full.copy_to(tmp_path / "copy", url)
