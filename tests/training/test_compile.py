"""`--compile`: the network that is compiled is the network that is trained."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cls.bottle.layout import Bottle
from cls.settings import REPOSITORY
from cls.training.runs.folder import run_folders
from cls.training.runs.listing import finished_run
from cls.training.runs.run import FinishedRun, find_runs
from tests.bottles import GROUP, make_tiny_bottle

SCRIPT = REPOSITORY / "cls" / "classification" / "train.py"
DEADLINE_S = 400
EPOCHS = 3


def start(bottle: Bottle, *words: str, **environment: str) -> subprocess.Popen[str]:
    """Trains timm's smallest residual network, in a process of its own."""
    options = ["--cfg", str(bottle.settings.file), "--cat", GROUP, "--arch", "test_resnet", "--size", "64x48"]
    options += ["--weights", "none", "--batch", "4", "--epochs", str(EPOCHS), *words]
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=os.environ | environment,
    )


def trained(bottle: Bottle, *words: str, **environment: str) -> FinishedRun:
    process = start(bottle, *words, **environment)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, errors
    assert "CUDA" not in errors, "no warning of a GPU nobody asked for"
    return finished_run(bottle, "newest", GROUP)


def state_of(run: FinishedRun) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run.folder / "checkpoints" / "last.ckpt")["state_dict"]
    return state


@pytest.mark.long
def test_a_compiled_network_is_the_same_network(tmp_path: Path) -> None:
    kernels = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "kernels")}
    plain = trained(make_tiny_bottle(tmp_path / "plain"))
    compiled = trained(make_tiny_bottle(tmp_path / "compiled"), "--compile", **kernels)
    assert list((tmp_path / "kernels").rglob("*.so")), "something was compiled"
    assert compiled.args.config.compile is True
    for key in ("train_loss", "valid_loss"):
        losses = [[getattr(epoch, key) for epoch in run.metrics.history] for run in (plain, compiled)]
        assert losses[1] == pytest.approx(losses[0], rel=0.02), "only dropout draws other numbers"
    assert list(state_of(compiled)) == list(state_of(plain)), "opened by whoever opens the other"

    bottle = make_tiny_bottle(tmp_path / "killed")
    process = start(bottle, "--compile", **kernels)
    deadline_s = time.monotonic() + DEADLINE_S
    while not list(bottle.models(GROUP).glob("v__*/checkpoints/last.ckpt")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert find_runs(bottle, GROUP) == [], "a cut-off run is not a run"
    gone_on = trained(bottle, "--compile", **kernels)
    assert [folder.name for folder in run_folders(bottle, GROUP)] == [gone_on.folder.name], "nothing doubled"
    assert gone_on.metrics.history[-1].train_loss == compiled.metrics.history[-1].train_loss
    assert all(torch.equal(value, state_of(compiled)[name]) for name, value in state_of(gone_on).items()), "bit for bit"


def test_without_a_compiler_it_is_one_line(tmp_path: Path) -> None:
    bottle = make_tiny_bottle(tmp_path)
    kernels = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "kernels"), "CXX": str(tmp_path / "no-compiler")}
    process = start(bottle, "--compile", **kernels)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert errors.count("\n") == 1, errors
    assert "--compile " in errors
    assert "a C++ compiler" in errors
