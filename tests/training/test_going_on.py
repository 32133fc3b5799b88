"""The checkpoint a training goes on with."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cls.errors import TrainingError
from cls.training.loop.epoch_checkpoints import LAST, resumable_checkpoint
from cls.training.runs.args import ARGS
from cls.training.runs.folder import FINISHED
from cls.training.runs.run import FinishedRun
from tests.bottles import make_tiny_bottle, train_tiny_run


def whole(path: Path) -> bytes:
    torch.save({"weights": torch.arange(20_000)}, path)
    return path.read_bytes()


def test_a_whole_one_is_taken_and_none_is_none(tmp_path: Path) -> None:
    assert resumable_checkpoint(tmp_path) is None
    whole(tmp_path / LAST)
    assert resumable_checkpoint(tmp_path) == tmp_path / LAST


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"no checkpoint",
        lambda content: content[: len(content) // 2],
        lambda content: content[:40_000] + bytes(4_000) + content[44_000:],
        lambda content: content[:20_000] + content[60_000:],
    ],
)
def test_a_damaged_one_is_refused(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = tmp_path / LAST
    path.write_bytes(spoil(whole(path)))
    with pytest.raises(TrainingError) as caught:
        resumable_checkpoint(tmp_path)
    assert caught.value.code == "training.checkpoint_damaged"
    assert "--no-resume" in str(caught.value.hint)


class Malicious:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.file),)


@pytest.fixture
def cut_off(tmp_path: Path) -> FinishedRun:
    """A run that was killed after its fit."""
    run = train_tiny_run(make_tiny_bottle(tmp_path / "bottle"), arch="test_efficientnet", ema=0.9)
    (run.folder / FINISHED).unlink()
    return run


def test_code_in_a_checkpoint_is_not_run(cut_off: FinishedRun, tmp_path: Path) -> None:
    made = tmp_path / "made_by_code"
    last = cut_off.folder / "checkpoints" / LAST
    content = torch.load(last, weights_only=True)
    torch.save({**content, "history": Malicious(made)}, last)
    with pytest.raises(TrainingError) as caught:
        train_tiny_run(cut_off.bottle, arch="test_efficientnet", ema=0.9)
    assert caught.value.code == "training.checkpoint_holds_code"
    assert "mkdir" in caught.value.what
    assert "--no-resume" in str(caught.value.hint)
    assert not made.exists()
    torch.load(last, weights_only=False)
    assert made.exists(), "it would have been run"


def test_time_and_waiting_are_those_of_all_parts(cut_off: FinishedRun) -> None:
    last = cut_off.folder / "checkpoints" / LAST
    content = torch.load(last, weights_only=True)
    clock = content["callbacks"]["_FitTimer"]
    assert 0 < clock["seconds"] <= cut_off.metrics.seconds + 0.01
    content["callbacks"]["_FitTimer"] = {"seconds": 1000.0, "waited_s": 30.0, "total_s": 120.0}
    torch.save(content, last)
    file = cut_off.folder / ARGS
    started = cut_off.args.started
    file.write_text(file.read_text().replace(started, "2026-01-02T03:04:05+00:00"))
    again = train_tiny_run(cut_off.bottle, arch="test_efficientnet", ema=0.9)
    assert again.folder == cut_off.folder
    assert again.metrics.seconds >= 1000
    assert again.metrics.waiting_share == pytest.approx(0.25)
    # The whole run is longer than its first part by what was done now, evaluation and reports included.
    first = cut_off.metrics.run_seconds
    assert cut_off.metrics.seconds < first < again.metrics.run_seconds < 1000
    assert again.args.started == "2026-01-02T03:04:05+00:00"
