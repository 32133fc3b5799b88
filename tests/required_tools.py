"""What a test needs beside this code: where it is missing the test is skipped, or fails where everything must be there.

With the environment variable REQUIRE_TOOLS=1, as on the server (`.ci/run`), nothing that the lock file installs, the
README asks for or the tests fetch may be missing: a test skipped there proves nothing, and nobody would see it.
Programs that a server cannot install after all are named in MAY_BE_MISSING: their tests are skipped.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import NoReturn

import pytest

VARIABLE = "REQUIRE_TOOLS"
MAY_BE_MISSING = "MAY_BE_MISSING"


def missing(tool: str, what_next: str) -> NoReturn:
    """Skips the test, or fails it where tools are required.

    Args:
        tool: what is missing.
        what_next: why, or how to get it.
    """
    said = f"{tool} is missing: {what_next}"
    if os.environ.get(VARIABLE, "") not in ("", "0"):
        pytest.fail(f"{said} (with {VARIABLE} set, this is no reason to skip)", pytrace=False)
    pytest.skip(said)


def need_module(name: str) -> None:
    """A Python package that requirements.lock installs."""
    if importlib.util.find_spec(name) is None:
        missing(f"the Python package {name}", "requirements.lock installs it (`make environment`)")


def need_program(name: str, package: str) -> None:
    """A program that the README asks for.

    Args:
        name: of the program.
        package: Debian's package that has it.
    """
    if shutil.which(name) is None:
        if name in os.environ.get(MAY_BE_MISSING, "").split():
            pytest.skip(f"{name} is missing, and {MAY_BE_MISSING} names it")
        missing(f"the program {name}", f"install it (Debian: apt-get install {package})")
