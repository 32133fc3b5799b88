"""Processes that make batches give the training that a thread gives."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.bottles import make_tiny_bottle, train_tiny_run


def test_two_processes_give_the_losses_and_weights_of_a_thread(tmp_path: Path) -> None:
    bottle = make_tiny_bottle(tmp_path)
    by_thread, by_processes = (
        train_tiny_run(bottle, arch="test_efficientnet", epochs=2, workers=workers, backgrounds=0) for workers in (0, 2)
    )
    assert by_processes.args.config.workers == 2
    histories = [run.metrics.history for run in (by_thread, by_processes)]
    for key in ("train_loss", "valid_loss", "valid_map"):
        assert [getattr(epoch, key) for epoch in histories[0]] == [getattr(epoch, key) for epoch in histories[1]]
    states = [torch.load(run.folder / "checkpoints" / "last.ckpt")["state_dict"] for run in (by_thread, by_processes)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items()), "bit for bit"
