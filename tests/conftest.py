"""Fixtures shared by all rooms."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from cls import progress
from cls.bottle.layout import Bottle
from cls.settings import Settings
from tests.postgres_server import PostgresServer, running_postgres

if TYPE_CHECKING:
    from tests.exporting.runs import ExportedBottle

# Libraries that would look for the network say so at once instead of trying for a minute.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("YOLO_OFFLINE", "True")
os.environ.setdefault("YOLO_AUTOINSTALL", "False")
# OpenMP threads that wait sleep: spinning starves the other processes that tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# How long an example takes says more of what else the machine does than of the code. On the server one commit gives one
# result (`.ci/run`); new examples are looked for where somebody can look into what they find.
settings.register_profile(
    "cls", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="REPEATABLE_TESTS" in os.environ
)
settings.load_profile("cls")

_numbers = itertools.count()

# The files that take longest: several processes begin with them, so that none is left with one of them at the end.
SLOWEST_FIRST = (
    "tests/faults/test_write_back_faults.py", "tests/faults/test_train_kill.py",
    "tests/service/test_served_decisions.py", "tests/exporting/test_partial_exports.py",
    "tests/yolo/test_training.py", "tests/service/test_triton.py", "tests/forgetting/test_forget.py",
    "tests/training/test_train.py", "tests/training/test_start.py", "tests/faults/test_segment_faults.py",
    "tests/faults/test_upload_faults.py", "tests/faults/test_load_faults.py", "tests/faults/test_load_kill.py",
    "tests/training/network/test_smoke_test.py", "tests/training/test_compile.py",
    "tests/training/test_conversions.py", "tests/training/report/test_page.py",
    "tests/exporting/test_precision_steps.py", "tests/exporting/test_export.py",
    "tests/exporting/parity/test_compare_damaged.py", "tests/write_back/test_send.py",
    "tests/pages/test_accessibility.py", "tests/runtimes/test_served.py", "tests/service/test_postgres_pictures.py",
)  # fmt: skip


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[Any]) -> None:
    """Torch, Lightning and the like are imported once for all workers."""
    if sys.platform == "linux":
        from tests.preloaded import python_of_workers

        folder = tempfile.TemporaryDirectory(prefix="cls_workers_")
        config.add_cleanup(folder.cleanup)
        python = python_of_workers(len(specs), Path(folder.name))
        for spec in specs:
            spec.python = python


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the slowest files first; within a file, and of all others, the order stays."""
    ranks = {file: rank for rank, file in enumerate(SLOWEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.nodeid.split("::")[0], len(ranks)))


@pytest.fixture(autouse=True)
def logging_of_a_new_process() -> None:
    """Commands called in this process, by tests or by fixtures, set up logging: each test starts without that."""
    logger = logging.getLogger("cls")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate, progress._is_quiet = True, False


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL server, one for the whole run."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url(postgres_server: PostgresServer) -> str:
    """URL of the server's database `postgres`, written as users write it (psycopg2)."""
    return postgres_server.url()


@pytest.fixture
def fresh_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """URL of an empty database of its own, removed after the test."""
    import psycopg

    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgres_server.url().replace("+psycopg2", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres_server.url(name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty pictures database, once on each engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'pictures.sqlite'}"
    url: str = request.getfixturevalue("fresh_postgres_url")
    return url


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a bottle in the test's own folder."""
    return Settings(file=tmp_path / "configuration.yaml", data_path=tmp_path / "classification_data")


@pytest.fixture
def bottle(settings: Settings) -> Bottle:
    """An empty bottle in the test's own folder."""
    return Bottle(settings)


@pytest.fixture
def configuration(tmp_path: Path) -> Callable[..., Path]:
    """Writes a configuration file for --cfg with the given keys; the bottle is `classification_data` beside it."""

    def write(**keys: str) -> Path:
        path = tmp_path / "configuration.yaml"
        lines = {"data_path": "classification_data", **keys}
        path.write_text("".join(f"{key}: '{value}'\n" for key, value in lines.items()), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportedBottle:
    """A bottle with an exported run; look, do not touch."""
    from tests.exporting.runs import exported_once

    return exported_once(tmp_path_factory)


@pytest.fixture
def copied(exported: ExportedBottle, tmp_path: Path) -> ExportedBottle:
    """The same, the test's own."""
    return exported.copy_to(tmp_path / "copy")


@pytest.fixture
def shared_conversions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For tests of what follows a conversion to ONNX: torch converts the same network once in the whole run."""
    from tests.exporting.runs import conversions_shared

    with conversions_shared(tmp_path_factory):
        yield
