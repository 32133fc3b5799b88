"""kill -9 and Ctrl-C in the middle of a training, then the same command again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cls.bottle.layout import Bottle
from cls.settings import REPOSITORY
from cls.training.run import find_runs, newest_run
from cls.training.run_folder import run_folders
from tests.bottles import GROUP, make_tiny_bottle

SCRIPT = REPOSITORY / "cls" / "classification" / "train.py"
DEADLINE_S = 240


def start(bottle: Bottle, epochs: int) -> subprocess.Popen[str]:
    words = ["--cfg", str(bottle.settings.file), "--cat", GROUP, "--arch", "mnv3", "--size", "64x48"]
    words += ["--weights", "none", "--batch", "4", "--epochs", str(epochs)]
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY
    )


def wait_for(is_there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not is_there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def checkpoint(bottle: Bottle) -> Path | None:
    found = sorted(bottle.models(GROUP).glob("v__*/checkpoints/last.ckpt"))
    return found[0] if found else None


def test_killed_and_started_again(tmp_path: Path) -> None:
    undisturbed = make_tiny_bottle(tmp_path / "undisturbed")
    process = start(undisturbed, 6)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, errors

    bottle = make_tiny_bottle(tmp_path / "killed")
    process = start(bottle, 6)
    wait_for(lambda: checkpoint(bottle) is not None, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert find_runs(bottle, GROUP) == [], "a cut-off run is not a run"

    process = start(bottle, 6)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, errors
    assert "going on" in errors
    assert [folder.name for folder in run_folders(bottle, GROUP)] == ["v__0_train_mnv3_4_0.001"], "nothing doubled"
    assert not list(bottle.root.rglob("*.part"))

    run, expected = newest_run(bottle, GROUP), newest_run(undisturbed, GROUP)
    assert [epoch["epoch"] for epoch in run.metrics["history"]] == list(range(6)), "nothing lost"
    for key in ("train_loss", "valid_loss"):
        assert [epoch[key] for epoch in run.metrics["history"]] == pytest.approx(
            [epoch[key] for epoch in expected.metrics["history"]], rel=1e-3
        )
    for name in ("torchscripts/model.pt", "onnx/model.onnx", "report.html"):
        assert (run.folder / name).exists()


def test_interrupted_by_the_user(tmp_path: Path) -> None:
    bottle = make_tiny_bottle(tmp_path)
    process = start(bottle, 500)
    wait_for(lambda: checkpoint(bottle) is not None, process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "interrupted" in errors
    assert output == ""
    assert find_runs(bottle, GROUP) == []
    assert (bottle.models(GROUP) / "v__0_train_mnv3_4_0.001").is_dir()
