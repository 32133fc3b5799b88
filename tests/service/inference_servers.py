"""Storages before either inference server: the embedded engine, and NVIDIA's Triton on the CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.model_storage.services import Service, running_storage
from tests.required_tools import missing
from tests.service.triton import NoTritonError, running_triton

KINDS = ("embedded", "triton")
MODEL = "hair_color"
_PATIENCE_S = 60.0


@contextmanager
def serving(kind: str, folder: Path, packages: Sequence[tuple[Path, str, str]]) -> Iterator[Service]:
    """A storage with published packages before an inference server; without Triton see `missing`.

    Args:
        kind: `embedded` or `triton`.
        folder: where the storage is made.
        packages: zip, model name and semantic version of each.
    """
    root = folder / "storage"

    def publish(running: Service) -> None:
        for package, model, version in packages:
            response = running.upload(package, model, version)
            assert response.status_code == 200, response.text

    if kind == "embedded":
        with running_storage(root) as running:
            publish(running)
            yield running
        return
    (root / "model_repository").mkdir(parents=True)
    try:
        triton = running_triton(root / "model_repository", folder / "triton.log")
        with triton as (url, grpc_url), running_storage(root, "--triton", url) as running:
            publish(running)
            yield running.with_grpc(grpc_url)
    except NoTritonError as error:
        missing("NVIDIA's Triton", str(error))


def until(condition: Callable[[], bool], running: Service) -> None:
    """Waits for what a server does after it has answered; fails with the state of every version it knows.

    Triton answers before it has let go of the old version, and calls itself not ready until it has.
    """
    give_up_s = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > give_up_s:
            known = "\n".join(f"  {entry}" for entry in running.get("/index/"))
            pytest.fail(f"not so after {_PATIENCE_S:.0f} s; the inference server says of its versions:\n{known}")
        time.sleep(0.1)
