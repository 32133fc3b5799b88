from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cls.settings import REPOSITORY
from tests.required_tools import MAY_BE_MISSING, VARIABLE, missing, need_module, need_program

NEEDS: list[tuple[Callable[[], object], str]] = [
    (lambda: missing("Triton", "no wheel"), "Triton is missing: no wheel"),
    (lambda: need_module("no_such_package"), "package no_such_package is missing: requirements.lock installs it"),
    (lambda: need_program("no-such-program", "openssh-client"), "no-such-program is missing: .*openssh-client"),
]


@pytest.mark.parametrize(("need", "words"), NEEDS)
def test_what_is_missing_skips_a_test_and_fails_it_where_tools_are_required(
    need: Callable[[], object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for allowed in ("", "0", None):
        monkeypatch.delenv(VARIABLE, raising=False)
        if allowed is not None:
            monkeypatch.setenv(VARIABLE, allowed)
        with pytest.raises(pytest.skip.Exception, match=words):
            need()
    monkeypatch.setenv(VARIABLE, "1")
    with pytest.raises(pytest.fail.Exception, match=words):
        need()


def test_a_program_that_a_server_cannot_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    monkeypatch.setenv(MAY_BE_MISSING, "other no-such-program")
    with pytest.raises(pytest.skip.Exception, match=MAY_BE_MISSING):
        need_program("no-such-program", "none")


def test_what_is_there_goes_on() -> None:
    need_module("pytest")
    need_program("sh", "dash")


_AROUND = re.compile(r"importorskip\(|skipif\((?:not )?(?:shutil\.)?(?:which\(|_HAS)|which\([^\n]*:\n +pytest\.skip\(")


@pytest.mark.parametrize(
    "code",
    [
        'onnx = pytest.importorskip("onnx")',
        '@pytest.mark.skipif(shutil.which("curl") is None, reason="")',
        '@pytest.mark.skipif(not shutil.which("curl"), reason="")',
        'if shutil.which("git") is None:\n    pytest.skip("git")',
        'if not which("git"):\n    pytest.skip("git")',
    ],
)
def test_ways_around_are_known(code: str) -> None:
    assert _AROUND.search(code)


def test_the_server_requires_them_and_no_test_goes_around_it() -> None:
    assert f"export {VARIABLE}=1\n" in (REPOSITORY / ".ci" / "run").read_text()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        if path != Path(__file__):
            assert not _AROUND.search(path.read_text(encoding="utf-8")), path
