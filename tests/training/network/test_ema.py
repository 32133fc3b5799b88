from __future__ import annotations

import lightning
import pytest
import torch
from torch import nn

from cls.training.loop.epoch_checkpoints import MovingAverage


class Small(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False)
        self.register_buffer("steps", torch.tensor(0))


def test_the_average_by_hand() -> None:
    module, average = Small(), MovingAverage(0.5)
    average.setup(lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu"), module, "fit")
    expected = 0.0
    for step, value in enumerate([3.0, 5.0, -2.0, 7.0, 1.0, 0.5, 4.0]):
        module.layer.weight.data.fill_(value)
        module.steps.fill_(step)  # type: ignore[operator, union-attr]
        average._average_model.update_parameters(module)  # type: ignore[union-attr]
        decay = 0.0 if step == 0 else min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        assert float(average.averaged_state()["layer.weight"]) == pytest.approx(expected)
        assert int(average.averaged_state()["steps"]) == step, "counters are copied"
    assert set(average.averaged_state()) == set(module.state_dict())
