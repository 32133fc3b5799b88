"""The training script, with a loss that is no number in the second process, second batch: `test_train_together.py`."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from cls.cli.command import main
from cls.cli.train import COMMAND
from cls.training.config import TrainConfig
from cls.training.loop import fit
from cls.training.loop.optimizer import MultiLabelLoss, loss_for


class BadLoss(nn.Module):
    """A loss that fails once."""

    def __init__(self, loss: MultiLabelLoss) -> None:
        super().__init__()
        self.loss = loss
        self.calls = 0

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        value: Tensor = self.loss(logits, labels)
        self.calls += torch.is_grad_enabled()
        is_second = os.environ.get("LOCAL_RANK") == "1"
        return value * float("nan") if is_second and self.calls == 2 else value


def bad_loss_for(config: TrainConfig, rates: list[float]) -> BadLoss:
    return BadLoss(loss_for(config, rates))


if __name__ == "__main__":
    fit.loss_for = bad_loss_for  # type: ignore[assignment]
    main(COMMAND)
