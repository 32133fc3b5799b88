"""What takes long to make and is only looked at: made once a run of the tests, whichever process asks first."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from filelock import FileLock

_Made = TypeVar("_Made")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], _Made]) -> _Made:
    """What `make` returns for a new folder; other test processes wait for it and get the same.

    Args:
        factory: pytest's.
        name: of the folder; one a thing that is made.
        make: makes it in the folder, which nobody may change afterwards; what it returns can be pickled.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has a folder of its own below the run's
        root = root.parent
    folder, result = root / f"once_{name}", root / f"once_{name}.pickle"
    with FileLock(root / f"once_{name}.lock"):
        if not result.exists():
            folder.mkdir(exist_ok=True)  # left where making it failed
            result.write_bytes(pickle.dumps(make(folder)))
    made: _Made = pickle.loads(result.read_bytes())  # written above
    return made
