from __future__ import annotations

from pathlib import Path

import pytest

from tests.made_once import made_once
from tests.segmentation.samples import exported_model, sample_photos


@pytest.fixture(scope="session")
def onnx_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's model as ONNX."""
    return made_once(tmp_path_factory, "person_model", exported_model)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample set of 24 photos; look, do not touch."""
    return made_once(tmp_path_factory, "sample_of_24", lambda folder: sample_photos(folder / "set", 24))
