"""The mutation tester: what it changes, and what it says of a change that tests notice and one that they do not."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cls.settings import REPOSITORY

_TOOL = REPOSITORY / "benchmarks" / "mutants"
_CHANGES = [
    ("x = 99.9\n", "x = 89.91000000000001\n"),
    ("x = 8\n", "x = 9\n"),
    ("def f(x=8): ...\n", "def f(x=7): ...\n"),
    ("x = a >= b\n", "x = a > b\n"),
    ("x = a + 1\n", "x = a - 1\n"),
    ("x = any(a)\n", "x = all(a)\n"),
    ("x = abs(a)\n", "x = (a)\n"),
    ("x = np.clip(a, 0, 1)\n", "x = (a)\n"),
    ("x = a.clip(0, 1)\n", "x = a\n"),
    ("f(height, width)\n", "f(width, height)\n"),
    ("x = (height, width)\n", "x = (width, height)\n"),
    ("f(h=height, w=width)\n", "f(h=width, w=height)\n"),
    ("c.ClearField(a)\n", "pass\n"),
    ("a += b\n", "pass\n"),
    ('x = "KIND_CPU"\n', 'x = "KIND_CPU_"\n'),
    ("if a: b()\n", "if not a: b()\n"),
    ("x = not a\n", "x = a\n"),
]
_UNCHANGED = [
    "with suppress(OSError, ValueError): ...\n",
    "def f(a: int | None = None) -> int | str: ...\n",
    '_log.info("%d of 3", a)\n',
    '"""Words 1."""\n',
    "import a\n",
]


@pytest.fixture
def operators(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(_TOOL))
    module = importlib.import_module("operators")
    sys.modules.pop("operators")  # the name is too common to be left
    return module


def _texts(operators: object, source: str) -> set[str]:
    found = operators.mutants_of("m.py", source)  # type: ignore[attr-defined]
    changed = {mutant.apply(source) for place in found.values() for mutant in place}
    return {ast.unparse(ast.parse(text)) for text in changed if text}


@pytest.mark.parametrize(("source", "changed"), _CHANGES)
def test_small_changes_are_made(operators: object, source: str, changed: str) -> None:
    assert ast.unparse(ast.parse(changed)) in _texts(operators, source)


def test_what_has_no_order_is_not_swapped(operators: object) -> None:
    source = "try:\n    x = a in (b, c) and d not in [b, c] and isinstance(e, (B, C))\nexcept (A, B):\n    ...\n"
    texts = _texts(operators, source)
    assert not any(swapped in text for text in texts for swapped in ("(c, b)", "[c, b]", "(C, B)", "(B, A)"))


@pytest.mark.parametrize("source", _UNCHANGED)
def test_what_decides_nothing_is_left_alone(operators: object, source: str) -> None:
    assert _texts(operators, source) == set()


def test_a_room_is_run(tmp_path: Path) -> None:
    """A change at import and one in a function that a test notices, one that none notices, one that none reaches."""
    for name in ("__main__.py", "operators.py", "reached.py"):
        (tmp_path / "benchmarks" / "mutants").mkdir(parents=True, exist_ok=True)
        (tmp_path / "benchmarks" / "mutants" / name).write_bytes((_TOOL / name).read_bytes())
    (tmp_path / "cls").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "cls" / "__init__.py").touch()
    (tmp_path / "cls" / "sums.py").write_text(
        "LIMIT = 3\n\n\ndef is_big(x):\n    return x > LIMIT\n\n\ndef looked_at_by_nobody(x):\n    return x + x\n"
        "\n\ndef run_by_nobody(x):\n    return x * x\n"
    )
    (tmp_path / "tests" / "test_sums.py").write_text(
        "from cls.sums import is_big, looked_at_by_nobody\n\n\n"
        "def test_big():\n    assert [is_big(3), is_big(4)] == [False, True]\n\n\n"
        "def test_nothing():\n    looked_at_by_nobody(1)\n"
    )
    (tmp_path / "benchmarks" / "mutants" / "rooms.toml").write_text(
        '[sums]\nmodules = ["cls/sums.py"]\ntests = ["tests/test_sums.py"]\n'
    )
    named = '[[mutant]]\nmodule = "cls/sums.py"\nreason = "nobody"\ndiff = """\n- return x * x\n+ return x / x\n"""\n'
    (tmp_path / "benchmarks" / "mutants" / "equivalent.toml").write_text(named)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    run = [sys.executable, str(tmp_path / "benchmarks" / "mutants"), "sums"]
    output = subprocess.run(run, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    verdicts = {match[1]: line for line in output.splitlines() if (match := re.search(r"cls/sums.py:(\d+)", line))}
    assert "killed" in verdicts["1"]
    assert "test_big" in verdicts["1"]
    assert "killed" in verdicts["5"]
    assert "survived" in verdicts["9"]
    assert "not reached" in verdicts["13"]
    assert "named equivalent" in verdicts["13"]
    assert output.splitlines()[-2].startswith("| sums | 1 | 4 | 2 (0) | 1 | 50 |")
    again = subprocess.run(run, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert "once to see" in output
    assert "once to see" not in again
    assert (tmp_path / "cls" / "sums.py").read_text().startswith("LIMIT = 3\n")
