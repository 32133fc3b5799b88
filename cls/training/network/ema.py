"""A moving average of the weights, which is validated and kept while the weights themselves are trained."""

from __future__ import annotations

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

_PREFIX = "module."


class MovingAverage(WeightAveraging):
    """An exponential moving average of weights and of batch norms' statistics, updated after every step.

    Validation sees the average. Full checkpoints hold both, the average under `state_dict` and the weights beside it,
    so that a resumed run goes on as if it had never stopped.

    The decay rises: at step n it is no more than (1 + n) / (10 + n) (TensorFlow's rule), else a short run would keep
    its first, untrained weights.

    Args:
        decay: what the average keeps of itself at a step, at most.
    """

    def __init__(self, decay: float) -> None:
        def average(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
            if not torch.is_floating_point(averaged[0]):
                for kept, value in zip(averaged, current, strict=True):
                    kept.copy_(value)  # counters
                return
            steps = int(count)
            average_at = get_ema_multi_avg_fn(min(decay, (1 + steps) / (10 + steps)))  # type: ignore[no-untyped-call]
            average_at(averaged, current, count)

        super().__init__(multi_avg_fn=average)

    def averaged_state(self) -> dict[str, Tensor]:
        """The average under the names that the module's own state_dict has."""
        if self._average_model is None:
            return {}
        state = self._average_model.state_dict()
        return {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
