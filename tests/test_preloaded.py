"""Programs that are forked behave as those that Python starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.preloaded import Program, run_program

STORY = """
import os, pathlib, sys
print(sys.argv, os.getcwd(), os.environ["STORY"], __name__)
sys.stderr.write("warned")
sys.exit({status})
"""


@pytest.mark.parametrize("status", ["0", "3", "None", "'it failed'"])
@pytest.mark.parametrize("is_file", [False, True])
def test_words_folder_environment_and_status(tmp_path: Path, status: str, is_file: bool) -> None:
    code = STORY.format(status=status)
    (tmp_path / "story.py").write_text(code)
    words = [str(tmp_path / "story.py"), "a", "b c"] if is_file else ["-c", code, "a", "b c"]
    environment = {**os.environ, "STORY": "told"}
    forked = run_program(words, cwd=tmp_path, env=environment)
    started = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals(number: signal.Signals) -> None:
    words = ["-c", "import time; print('here', flush=True); time.sleep(60)"]
    with Program(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "here\n"
        program.send_signal(number)
        _, errors = program.communicate(timeout=30)
    assert program.returncode == -number
    assert errors.endswith("KeyboardInterrupt\n") is (number is signal.SIGINT)


def test_an_error_nobody_expects_is_a_traceback() -> None:
    done = run_program(["-c", "1 / 0"])
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_it_writes_into_a_file_that_stays_open(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as log:
        assert Program(["-c", "import sys; sys.stderr.write('x')"], stderr=log).wait(30) == 0
        log.seek(0)
        assert log.read() == "x"
