"""Which code it was: told from a real git checkout, and without one."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

import cls
from cls.training.runs import args as module
from cls.training.runs.args import code_version, version_of_checkout
from tests.required_tools import need_program


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit."""
    need_program("git", "git")
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "code.py").write_text("a = 1\n")
    git(folder, "add", "code.py")
    git(folder, "commit", "-q", "-m", "one")
    return folder


def test_a_checkout_says_its_commit(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "--short=12", "HEAD")
    assert version_of_checkout(checkout) == f"{cls.__version__}+g{commit}"
    git(checkout, "tag", "v9.9.9")
    (checkout / "notes.txt").write_text("git does not know it")
    assert version_of_checkout(checkout) == f"{cls.__version__}+g{commit}"
    (checkout / "code.py").write_text("a = 2\n")
    assert version_of_checkout(checkout) == f"{cls.__version__}+g{commit}.dirty"


def test_another_repository_in_the_environment_is_not_asked(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = version_of_checkout(checkout)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere" / ".git"))
    assert version_of_checkout(checkout) == expected


def test_without_git_it_is_the_version_alone(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = checkout / "lib" / "site-packages"  # of an environment that lies inside somebody's repository
    installed.mkdir(parents=True)
    assert version_of_checkout(installed) == cls.__version__
    shutil.rmtree(checkout / ".git" / "objects")
    assert version_of_checkout(checkout) == cls.__version__
    monkeypatch.setenv("PATH", str(checkout))
    assert version_of_checkout(checkout) == cls.__version__


def test_a_git_that_hangs_is_not_waited_for(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 30\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:/usr/bin:/bin")
    monkeypatch.setattr(module, "_GIT_TIMEOUT_S", 0.2)
    started_s = time.monotonic()
    assert version_of_checkout(checkout) == cls.__version__
    assert time.monotonic() - started_s < 5


def test_this_code() -> None:
    assert re.fullmatch(re.escape(cls.__version__) + r"(\+g[0-9a-f]{12,}(\.dirty)?)?", code_version())
    assert code_version() is code_version()
    assert code_version() == version_of_checkout(Path(cls.__file__).parents[1]), "the folder that holds the package"
