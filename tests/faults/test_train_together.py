"""Two processes on the CPU train one classifier."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cls.bottle.layout import Bottle
from cls.settings import REPOSITORY
from cls.training.runs.folder import run_folders
from cls.training.runs.listing import finished_run
from tests.bottles import GROUP, make_tiny_bottle

SCRIPT = REPOSITORY / "cls" / "classification" / "train.py"
DEADLINE_S = 500

pytestmark = pytest.mark.long


def start(
    bottle: Bottle, *words: str, environment: dict[str, str] | None = None, script: Path = SCRIPT
) -> subprocess.Popen[str]:
    options = ["--cfg", str(bottle.settings.file), "--cat", GROUP, "--arch", "mobilenetv3_small_050", "--size", "64x48"]
    options += ["--weights", "none", "--batch", "4", "--epochs", "2", "--ema", "0.9", *words]
    return subprocess.Popen(
        [sys.executable, str(script), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, **(environment or {})},
    )


def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    output, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, errors
    return output, errors


def people_of_predictions(bottle: Bottle, number: int) -> list[str]:
    folder = run_folders(bottle, GROUP)[number]
    return [line.split(",")[0] for line in (folder / "predictions.csv").read_text().splitlines()]


def test_two_processes_make_one_run(tmp_path: Path) -> None:
    bottle = make_tiny_bottle(tmp_path, photos=27)
    output, errors = finished(start(bottle, "--devices", "2"))
    assert "2 processes train together" in errors
    assert "Traceback" not in errors
    for once in ("run folder", "people for training", "24 people in", "epoch 1 of 2", "epoch 2 of 2", "s a step"):
        assert errors.count(once.replace("24", "27")) == 1, f"{once}: the first one alone speaks\n{errors}"
    assert output.count("run ") == 1, "the first one alone speaks"
    assert [folder.name for folder in run_folders(bottle, GROUP)] == ["v__0_train_mobilenetv3_small_050_4_0.001"]
    together = finished_run(bottle, "newest", GROUP).metrics
    finished(start(bottle))
    alone = finished_run(bottle, "newest", GROUP).metrics
    assert together.samples == alone.samples
    assert people_of_predictions(bottle, 0) == people_of_predictions(bottle, 1)
    for label in alone.labels:
        for key in ("positives", "base_rate"):
            values = [getattr(m.validation.labels[label], key) for m in (together, alone)]
            assert values[0] == values[1], "every validation person once"
    assert len(together.history) == 2


def test_a_loss_that_is_no_number_in_one_process_ends_both(tmp_path: Path) -> None:
    """The one process that has it saves its batch; the other does not wait for it for ever."""
    bottle = make_tiny_bottle(tmp_path)
    script = Path(__file__).with_name("train_with_bad_loss.py")
    environment = {"PYTHONPATH": str(REPOSITORY)}
    process = start(bottle, "--devices", "2", environment=environment, script=script)
    output, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1, errors
    assert output == ""
    assert "Traceback" not in errors
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, errors
    assert " nan in epoch 0, batch 1;" in lines[0]
    saved = [path.name for path in bottle.models(GROUP).glob("v__*/bad_batch/*.npz")]
    assert saved == ["train_epoch_0_batch_1_process_1.npz"], "the bad one, and not the other process's good one"
    assert saved[0] in lines[0]
    assert not list(bottle.models(GROUP).glob("v__*/metrics.json"))


def test_two_nodes_of_one_machine(tmp_path: Path) -> None:
    """Each node is started by hand, as docs/train.md says."""
    bottle = make_tiny_bottle(tmp_path)
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29731"}
    nodes = [start(bottle, "--nodes", "2", environment={**meet, "NODE_RANK": str(rank)}) for rank in (0, 1)]
    outputs = [finished(node) for node in nodes]
    assert outputs[0][0].startswith("run ")
    assert outputs[1][0] == ""
    assert len(run_folders(bottle, GROUP)) == 1


def test_when_the_first_is_killed_the_other_ends_and_the_run_goes_on(tmp_path: Path) -> None:
    bottle = make_tiny_bottle(tmp_path)
    process = start(bottle, "--devices", "2", "--epochs", "40")
    deadline_s = time.monotonic() + DEADLINE_S
    while not list(bottle.models(GROUP).glob("v__*/checkpoints/last.ckpt")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    helpers = [child for child in children if "train.py" in Path(f"/proc/{child}/cmdline").read_text()]
    assert len(helpers) == 1
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not Path(f"/proc/{helpers[0]}").exists() or "Z" in Path(f"/proc/{helpers[0]}/stat").read_text()
    # The settings say 40 epochs: the same command goes on; a look at its first lines is enough.
    again = start(bottle, "--devices", "2", "--epochs", "40")
    _, errors = finished(again)
    assert "resuming after epoch" in errors
    (metrics,) = bottle.models(GROUP).glob("v__0_*/metrics.json")
    assert [epoch["epoch"] for epoch in json.loads(metrics.read_text())["history"]] == list(range(40))
