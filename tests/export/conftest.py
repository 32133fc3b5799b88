from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.runs import ExportedBottle, export_tiny_bottle


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportedBottle:
    """A bottle with an exported run; look, do not touch."""
    return export_tiny_bottle(tmp_path_factory.mktemp("exported"))


@pytest.fixture
def copied(exported: ExportedBottle, tmp_path: Path) -> ExportedBottle:
    """The same, the test's own."""
    return exported.copy_to(tmp_path / "copy")
