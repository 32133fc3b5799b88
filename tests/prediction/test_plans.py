"""A plan for another GPU is refused by whatever opens it, before TensorRT is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from cls.bottle.layout import Bottle
from cls.errors import PackageError, PredictionError
from cls.runtimes.open import open_classifier
from cls.settings import load_settings
from tests.package.test_plans import with_nvidia_smi
from tests.package.zips import plan_zip


def test_a_plan_for_another_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = tmp_path / "configuration.yaml"
    configuration.write_text("data_path: 'data'\n")
    bottle = Bottle(load_settings(configuration, environment={}))
    path = str(plan_zip(tmp_path))
    with_nvidia_smi(tmp_path, monkeypatch, "NVIDIA H100 80GB HBM3, 9.0\n")
    with pytest.raises(PackageError) as caught:
        open_classifier(path, bottle)
    assert caught.value.code == "package.incompatible_plan"
    assert all(gpu in caught.value.what for gpu in ("NVIDIA L4", "NVIDIA H100 80GB HBM3 (9.0)"))
    with_nvidia_smi(tmp_path, monkeypatch, "NVIDIA L4, 8.9\n")
    with pytest.raises(PredictionError) as caught:
        open_classifier(path, bottle)
    assert caught.value.code == "prediction.runtime_unavailable"
