"""kill -9, Ctrl-C and a full disk in the middle of a training, then the same command again."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cls.bottle.layout import Bottle
from cls.settings import REPOSITORY
from cls.training.runs.folder import run_folders
from cls.training.runs.listing import finished_run
from cls.training.runs.run import FinishedRun, find_runs
from tests.bottles import GROUP, make_tiny_bottle
from tests.made_once import made_once
from tests.preloaded import Program

SCRIPT = REPOSITORY / "cls" / "classification" / "train.py"
DEADLINE_S = 500
EPOCHS = 5


def start(bottle: Bottle, epochs: int) -> Program:
    words = ["--cfg", str(bottle.settings.file), "--cat", GROUP, "--arch", "test_resnet", "--size", "64x48"]
    words += ["--weights", "none", "--batch", "4", "--ema", "0.9", "--epochs", str(epochs)]
    return Program([str(SCRIPT), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY)


def wait_for(is_there: Callable[[], bool], process: Program) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not is_there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def checkpoint(bottle: Bottle) -> Path | None:
    found = sorted(bottle.models(GROUP).glob("v__*/checkpoints/last.ckpt"))
    return found[0] if found else None


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    def train(folder: Path) -> FinishedRun:
        bottle = make_tiny_bottle(folder / "bottle")
        process = start(bottle, EPOCHS)
        _, errors = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, errors
        return finished_run(bottle, "newest", GROUP)

    return made_once(tmp_path_factory, "undisturbed_training", train)


def assert_goes_on_to_the_same_end(bottle: Bottle, expected: FinishedRun) -> None:
    assert find_runs(bottle, GROUP) == [], "a cut-off run is not a run"
    process = start(bottle, EPOCHS)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, errors
    assert "resuming v__0_train_test_resnet_4_0.001" in errors
    assert [folder.name for folder in run_folders(bottle, GROUP)] == ["v__0_train_test_resnet_4_0.001"], (
        "nothing doubled"
    )
    assert not list(bottle.root.rglob("*.part"))
    run = finished_run(bottle, "newest", GROUP)
    assert [epoch.epoch for epoch in run.metrics.history] == list(range(EPOCHS)), "nothing lost"
    for key in ("train_loss", "valid_loss"):
        assert [getattr(epoch, key) for epoch in run.metrics.history] == [
            getattr(epoch, key) for epoch in expected.metrics.history
        ]
    for name in ("last.ckpt", "best.ckpt"):
        states = [torch.load(r.folder / "checkpoints" / name)["state_dict"] for r in (run, expected)]
        assert all(torch.equal(value, states[1][key]) for key, value in states[0].items()), name
    for name in ("torchscripts/model.pt", "onnx/model.onnx", "report.html"):
        assert (run.folder / name).exists()


def test_killed_and_started_again(tmp_path: Path, undisturbed: FinishedRun) -> None:
    bottle = make_tiny_bottle(tmp_path)
    process = start(bottle, EPOCHS)
    wait_for(lambda: checkpoint(bottle) is not None, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert_goes_on_to_the_same_end(bottle, undisturbed)


def test_killed_while_a_checkpoint_is_written(tmp_path: Path, undisturbed: FinishedRun) -> None:
    bottle = make_tiny_bottle(tmp_path)
    process = start(bottle, EPOCHS)
    wait_for(lambda: checkpoint(bottle) is not None, process)
    folder = bottle.models(GROUP) / "v__0_train_test_resnet_4_0.001" / "checkpoints"
    deadline_s = time.monotonic() + DEADLINE_S
    while not list(folder.glob(".last.ckpt.*.part")):  # without a pause: it is there for milliseconds
        assert process.poll() is None
        assert time.monotonic() < deadline_s
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list(folder.glob(".last.ckpt.*.part")), "it was being written"
    assert_goes_on_to_the_same_end(bottle, undisturbed)


def test_a_full_disk_while_a_checkpoint_is_written(tmp_path: Path, undisturbed: FinishedRun) -> None:
    """A limit on the size of files, set on the running process, stands for the full disk."""
    bottle = make_tiny_bottle(tmp_path)
    process = start(bottle, EPOCHS)
    wait_for(lambda: checkpoint(bottle) is not None, process)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1, errors
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in errors
    assert ".ckpt: " in lines[0]
    assert os.strerror(errno.EFBIG) in lines[0]
    assert_goes_on_to_the_same_end(bottle, undisturbed)


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
    assert (bottle.models(GROUP) / "v__0_train_test_resnet_4_0.001").is_dir()
