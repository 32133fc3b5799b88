from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.model_storage.packages import make_package
from tests.model_storage.services import Service
from tests.service.inference_servers import KINDS, MODEL, serving


@pytest.fixture(scope="package", params=KINDS)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A storage with one model in two versions, 0.0.1 of seed 1 and 0.0.2 of seed 2, before either server."""
    folder = tmp_path_factory.mktemp(request.param)
    packages = [(make_package(folder, n, name=f"{n}.zip"), MODEL, f"0.0.{n}") for n in (1, 2)]
    with serving(request.param, folder, packages) as running:
        yield running
