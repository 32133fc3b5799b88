from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.runs import ExportedBottle, exported_once


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportedBottle:
    """A bottle with an exported run; look, do not touch."""
    return exported_once(tmp_path_factory)


@pytest.fixture
def copied(exported: ExportedBottle, tmp_path: Path) -> ExportedBottle:
    """The same, the test's own."""
    return exported.copy_to(tmp_path / "copy")
