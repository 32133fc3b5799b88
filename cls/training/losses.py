"""Losses over several labels at once; unknown labels (NaN) count for nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_LARGEST_POSITIVE_WEIGHT = 10.0


class MultiLabelLoss(nn.Module):
    """Binary cross-entropy of each label, averaged over the labels that are known.

    Args:
        positive_weights: what a positive of each label counts, a negative being 1; (labels,).
        smoothing: targets are moved this far from 0 and 1.
    """

    def __init__(self, positive_weights: Tensor, *, smoothing: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("positive_weights", positive_weights.float(), persistent=False)
        self._smoothing = smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean loss.

        Args:
            logits: float (batch, labels).
            labels: float (batch, labels): 1 present, 0 absent, NaN unknown.

        Returns:
            A scalar; 0 (with a gradient of 0) where nothing is known.
        """
        is_known = ~torch.isnan(labels)
        targets = torch.nan_to_num(labels).clamp(self._smoothing, 1 - self._smoothing)
        weights = self.get_buffer("positive_weights")
        losses = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="none")
        return (losses * is_known).sum() / is_known.sum().clamp(min=1)


def positive_weights(base_rates: Sequence[float], loss: str) -> Tensor:
    """What a positive of each label counts.

    `weighted` takes the square root of negatives per positive: the full ratio makes rare labels' few positives, and
    their label errors, drown everything else.

    Args:
        base_rates: share of positives of each label in the training part.
        loss: `bce` or `weighted`.

    Returns:
        float32 (labels,), from 1 to 10.
    """
    rates = torch.as_tensor(list(base_rates), dtype=torch.float32).clamp(1e-4, 1 - 1e-4)
    if loss == "bce":
        return torch.ones_like(rates)
    return ((1 - rates) / rates).sqrt().clamp(1.0, _LARGEST_POSITIVE_WEIGHT)
