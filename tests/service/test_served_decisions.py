"""An exported package, unmodified, decides the same in process, over HTTP and over gRPC: before both servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cls.export.publish import export_run
from cls.people.photos import read_photo
from cls.prediction.opening import open_classifier
from cls.prediction.people_of_photos import whole_photo
from tests.bottles import make_tiny_bottle
from tests.export.runs import ExportedBottle, fabricate_run
from tests.model_storage.services import Service
from tests.service.inference_servers import KINDS, serving

ARCHIVES = {"plain": "model_onnx.zip", "half": "model_onnx_fp16.zip", "whole": "end_to_end.zip"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportedBottle:
    """A run exported as ONNX: in both precisions that need no calibration, and with everything inside."""
    bottle = make_tiny_bottle(tmp_path_factory.mktemp("exported") / "made")
    run = fabricate_run(bottle)
    export_run(bottle, run, ("onnx",), is_end_to_end=True)
    package = bottle.inference_model(run.group)
    whole = (package / "model_onnx.zip").read_bytes()
    exported = ExportedBottle(bottle, run, export_run(bottle, run, ("onnx", "onnx_fp16")))
    (package / ARCHIVES["whole"]).write_bytes(whole)
    return exported


@pytest.fixture(scope="module", params=KINDS)
def served(
    request: pytest.FixtureRequest, exported: ExportedBottle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    packages: list[tuple[Path, str, str]] = [
        (exported.package / archive, name, "1.0.0") for name, archive in ARCHIVES.items()
    ]
    with serving(request.param, tmp_path_factory.mktemp(request.param), packages) as running:
        yield running


@pytest.mark.parametrize("name", list(ARCHIVES))
def test_the_same_decisions_everywhere(exported: ExportedBottle, served: Service, name: str) -> None:
    local = open_classifier(str(exported.package / ARCHIVES[name]), exported.bottle)
    images = [read_photo(path) for path in sorted(exported.bottle.pictures.iterdir())[:20]]
    crops = np.stack([local.preprocessing.cut(image, whole_photo(image)) for image in images] * 4)
    expected = local.probabilities(crops)
    for url in (f"{served.infer_url}/v2/models/{name}", f"grpc://{served.infer_grpc_url}/{name}"):
        remote = open_classifier(url, exported.bottle)
        assert (remote.labels, remote.thresholds) == (local.labels, local.thresholds)
        assert remote.preprocessing == local.preprocessing
        assert remote.is_end_to_end is (name == "whole")
        for batch in (1, 7, 80):
            answered = remote.probabilities(crops, batch=batch)
            np.testing.assert_allclose(answered, expected, atol=1e-5)
            assert [remote.chosen(row) for row in answered] == [local.chosen(row) for row in expected]
