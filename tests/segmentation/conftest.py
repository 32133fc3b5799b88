from __future__ import annotations

from pathlib import Path

import pytest

from tests.segmentation.samples import exported_model, sample_photos


@pytest.fixture(scope="session")
def onnx_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's model as ONNX."""
    return exported_model(tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample set of 24 photos; look, do not touch."""
    return sample_photos(tmp_path_factory.mktemp("sample") / "set", 24)
